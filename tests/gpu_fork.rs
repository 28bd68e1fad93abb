//! A process that forks while steps are under way: the child's stamps are inert without one driver
//! call, the parent's go on. No test harness, as its threads would be forked along.
#![allow(missing_docs, unsafe_code)] // fork, and an engine on the fake driver.

#[path = "common/fake_gpu.rs"]
#[allow(dead_code)]
mod fake_gpu;

use fake_gpu::{FakeGpu, Stream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use stepscope::gpu::{
    CaptureError, Gpu, Lane, LaneError, Lost, Options, Point, RawStream, Resolution, StepInfo,
    StepTicket,
};

/// Start of the region, as the header of the kernels documents it.
const ALIVE: u64 = 0x5354_4550_5343_4F50;
/// Where the rings begin in the region.
const RINGS_AT: u64 = 0x1000;
/// The fake driver shows registered host memory to the device so much higher.
const DEVICE_VIEW: u64 = 1 << 52;
const PATIENCE: Duration = Duration::from_secs(20);

/// An engine with steps in every state.
struct Engine<'a> {
    fake: &'a FakeGpu,
    gpu: Gpu,
    stream: Stream<'a>,
    lane: Lane,
    finished: StepTicket,
    open: StepTicket,
}

fn engine(fake: &FakeGpu) -> Engine<'_> {
    let options = Options { library: Some(fake.path.clone()), nvml: false, ..Options::default() };
    let gpu = Gpu::attach(RawStream::LEGACY, &options).unwrap();
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    let mut finished = lane.begin(StepInfo::default());
    lane.end(&mut finished);
    stream.synchronize();
    assert!(matches!(gpu.resolve(&finished), Resolution::Done(_)));
    let open = lane.begin(StepInfo::default());
    Engine { fake, gpu, stream, lane, finished, open }
}

impl Engine<'_> {
    /// The magic word at the start of the region of stamps.
    fn magic(&self) -> u64 {
        let address = self.lane.device_handle().ring - RINGS_AT - DEVICE_VIEW;
        // SAFETY: lane 0's ring lies there behind the start of the region, which stays mapped as
        // long as the Gpu lives and is only ever touched by atomics.
        unsafe { AtomicU64::from_ptr(std::ptr::with_exposed_provenance_mut(address as usize)) }
            .load(Ordering::Relaxed)
    }

    /// Everything that can be asked of stamps, in the child. What was not as it should be.
    fn child(mut self) -> Vec<&'static str> {
        let mut wrong = vec![];
        let mut must = |right: bool, what| {
            if !right {
                wrong.push(what)
            }
        };
        must(self.magic() == 0, "the magic word is 0");
        let before = self.fake.calls("*");
        let forked = Resolution::Lost(Lost::Forked);
        must(self.gpu.resolve(&self.finished) == forked, "a finished step is lost to the fork");
        let begun = self.lane.begin(StepInfo::default());
        must(self.gpu.settle(begun) == forked, "a new step is lost to the fork");
        self.lane.end(&mut self.open);
        must(self.gpu.settle(self.open) == forked, "a step under way is lost to the fork");
        must(self.gpu.settle(self.finished) == forked, "settling says the same");
        let captured = self.lane.capture(self.stream.raw(), Point::End);
        must(captured == Err(CaptureError::Detached), "nothing is captured");
        let lane = self.gpu.lane(self.stream.raw()).err();
        must(lane == Some(LaneError::Detached), "no lane is opened");
        must(self.gpu.progress(0).completed == 0, "nothing is known to be finished");
        must(self.gpu.clock().rounds > 0, "the clock's state is readable");
        must(self.gpu.clone().detach(Duration::ZERO) == Ok(()), "detaching is nothing");
        drop((self.lane, self.gpu));
        must(self.fake.calls("*") == before, "no driver call was made");
        wrong
    }

    /// The same verbs in the parent: each step is timed.
    fn goes_on(mut self, steps: u64) {
        assert_eq!(self.magic(), ALIVE);
        self.lane.end(&mut self.open);
        self.stream.synchronize();
        assert!(matches!(self.gpu.settle(self.open), Resolution::Done(_)), "begun before the fork");
        assert!(matches!(self.gpu.settle(self.finished), Resolution::Done(_)));
        for step in 0..steps {
            let mut ticket = self.lane.begin(StepInfo::default());
            self.lane.end(&mut ticket);
            self.stream.synchronize();
            let said = self.gpu.settle(ticket);
            assert!(matches!(said, Resolution::Done(_)), "step {step} after the fork: {said:?}");
        }
        let counts = self.gpu.counts(0);
        assert_eq!((counts.done, counts.lost.iter().sum::<u64>()), (steps + 2, 0));
        assert_eq!(self.gpu.gone(), None);
    }
}

/// Waits for the child, but not for ever.
fn status_of(child: libc::pid_t) -> i32 {
    let (asked, mut status) = (Instant::now(), 0);
    loop {
        // SAFETY: our own child, and a place for its status.
        match unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } {
            0 if asked.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
            0 => {
                // SAFETY: our own child, not waited for yet, so the number is still its.
                unsafe { libc::kill(child, libc::SIGKILL) };
                panic!("the child hangs")
            }
            waited => {
                assert_eq!(waited, child);
                return status;
            }
        }
    }
}

fn main() {
    let fake = FakeGpu::new();
    let engine = engine(&fake);
    assert_eq!(engine.magic(), ALIVE);
    // SAFETY: the child goes on with this thread alone: it makes no driver call, takes no lock that
    // another thread may have held (the allocator's are reset by the C library), and leaves by _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        let wrong = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.child()));
        let code = match wrong {
            Ok(wrong) => {
                wrong.iter().for_each(|what| eprintln!("in the child it is not so that {what}"));
                wrong.len() as i32
            }
            Err(_) => 100,
        };
        // SAFETY: ends this process without the handlers of the parent's libraries.
        unsafe { libc::_exit(code) }
    }
    let status = status_of(child);
    assert!(libc::WIFEXITED(status), "the child ended by signal {}", libc::WTERMSIG(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "see what the child says above");
    engine.goes_on(1_000);
    println!("a forked child makes no driver call, its parent's next 1,000 steps are timed: ok")
}
