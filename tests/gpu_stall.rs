//! A device that hangs, seen from outside: progress, /readyz and /livez tell it while the engine's
//! thread hangs in a call that waits for the device, and without one request in flight.
#![allow(missing_docs, unsafe_code)] // The engine on the fake driver makes driver calls.

#[path = "common/fake_gpu.rs"]
#[allow(dead_code)]
mod fake_gpu;

mod common;

use common::http::get;
use common::wait_for;
use fake_gpu::FakeGpu;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stepscope::gpu::{Gpu, Options, Progress, RawStream};
use stepscope::{Clock, Config, Launch, ManualClock, Shape, StepSource, Stepscope, Time};

const PATIENCE: Duration = Duration::from_secs(20);
const SHAPE: Shape = Shape { prefills: 0, prefill_tokens: 0, decodes: 4 };

/// `hold(word)`: runs until the word is not 0.
const HOLD: &str = "
.version 6.0
.target sm_70
.address_size 64
.visible .entry hold(.param .u64 p_word)
{
  .reg .pred %p<2>;
  .reg .b32 %r<2>;
  .reg .b64 %rd<3>;
  ld.param.u64 %rd1, [p_word];
  mov.u32 %r1, 100000;
LOOP:
  nanosleep.u32 %r1;
  ld.relaxed.gpu.global.u64 %rd2, [%rd1];
  setp.eq.s64 %p1, %rd2, 0;
  @%p1 bra LOOP;
  ret;
}
";

/// A worker whose kernels run until they are let go.
struct Worker {
    fake: FakeGpu,
    scope: Stepscope,
    gpu: Gpu,
    hold: usize,
    word: u64,
}

impl Worker {
    /// On a clock that the test moves, which starts at the real time that stamps have.
    fn start() -> Worker {
        let fake = FakeGpu::new();
        let clock = Clock::Manual(ManualClock::new(Time::now()));
        let listen = "127.0.0.1:0".parse().ok();
        let scope = Stepscope::start(Config { listen, clock, ..Config::default() }).unwrap();
        let options =
            Options { library: Some(fake.path.clone()), nvml: false, ..Options::default() };
        let gpu = scope.gpu(RawStream::LEGACY, &options).unwrap();
        let module = fake.load(HOLD);
        let (hold, word) = (fake.function(module, "hold"), fake.memory(8));
        scope.mark_ready();
        Worker { fake, scope, gpu, hold, word }
    }

    fn hold(&self) {
        self.fake.write(self.word, 0)
    }

    fn let_go(&self) {
        self.fake.write(self.word, 1)
    }
}

/// Lets the kernels go when a check fails too: else the engine's thread would hang for ever.
struct LetGo<'a>(&'a Worker);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.0.let_go()
    }
}

/// Codes of /readyz and /livez at a time so long from now, and what the first one that refuses says.
fn probes(scope: &Stepscope, seconds: u64) -> ([u16; 2], String) {
    scope.advance(Time::now().after(Duration::from_secs(seconds)));
    let addr = scope.local_addr().expect("a listener");
    let answers = ["/readyz", "/livez"].map(|path| get(addr, path, &[]));
    let refusal = answers.iter().find(|answer| answer.status != 200);
    let words = refusal.map(|answer| answer.text()).unwrap_or_default();
    (answers.map(|answer| answer.status), words)
}

#[test]
fn a_hung_device_fails_the_probes_while_the_engine_waits_for_it() {
    let worker = &Worker::start();
    worker.let_go();
    let finished = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let engine = scope.spawn(|| {
            worker.fake.enter();
            let stream = worker.fake.stream();
            let mut recorder = worker.scope.recorder("engine");
            recorder.set_lane(worker.gpu.lane(stream.raw()).unwrap());
            for step in 0..4 {
                if step == 3 {
                    // Idle time is no waiting time.
                    std::thread::sleep(Duration::from_secs(3));
                    worker.hold()
                }
                let mut open = recorder.begin_step(Time::now(), SHAPE);
                assert!(stream.launch(worker.hold, 1, 1, &[worker.word]));
                recorder.launched(&mut open, Launch::Stamp);
                stream.synchronize();
                assert_eq!(recorder.end_step(open, Time::now()).source(), StepSource::Gpu);
            }
            finished.store(true, Ordering::SeqCst)
        });
        let _let_go = LetGo(worker);
        let waiting = wait_for("the fourth step", PATIENCE, || {
            let progress = worker.gpu.progress(0);
            (progress.ended == 4).then_some(progress)
        });
        assert_eq!(waiting, Progress { issued: 4, ended: 4, completed: 3, abandoned: 0 });
        assert!(waiting.is_waiting());
        // The thread that watches the lanes looks ten times a second.
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(probes(&worker.scope, 28).0, [200, 200]);
        let (codes, words) = probes(&worker.scope, 35);
        assert_eq!(codes, [503, 200], "{words}");
        assert!(words.starts_with("stalled: the GPU has not finished a step for "), "{words}");
        assert_eq!(probes(&worker.scope, 280).0, [503, 200]);
        assert_eq!(probes(&worker.scope, 310).0, [503, 503]);
        assert!(!finished.load(Ordering::SeqCst), "the engine's thread hung all the time");
        assert!(worker.gpu.progress(0).is_waiting());

        worker.let_go();
        engine.join().unwrap();
        assert_eq!(worker.gpu.progress(0).completed, 4);
        assert!(!worker.gpu.progress(0).is_waiting());
        wait_for("the probes' recovery", PATIENCE, || {
            (probes(&worker.scope, 320).0 == [200, 200]).then_some(())
        })
    });
}

#[test]
fn a_device_that_has_nothing_to_do_is_not_stalled_for_hours() {
    let worker = Worker::start();
    worker.let_go();
    let stream = worker.fake.stream();
    let mut recorder = worker.scope.recorder("engine");
    recorder.set_lane(worker.gpu.lane(stream.raw()).unwrap());
    for _ in 0..3 {
        let mut open = recorder.begin_step(Time::now(), SHAPE);
        assert!(stream.launch(worker.hold, 1, 1, &[worker.word]));
        recorder.launched(&mut open, Launch::Stamp);
        stream.synchronize();
        recorder.end_step(open, Time::now());
    }
    // A step that was begun and given up is owed to nobody.
    let open = recorder.begin_step(Time::now(), SHAPE);
    recorder.abandon(open);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!worker.gpu.progress(0).is_waiting());
    assert_eq!(probes(&worker.scope, 3 * 3_600).0, [200, 200]);
}
