//! Graph times of CUPTI, from the engine's launch to the page: found by id, found by time, or counted.
#![cfg(feature = "gpu")]
#![allow(missing_docs, unsafe_code)]

#[allow(dead_code)] // Each test binary uses its own part.
#[path = "common/cupti_stub.rs"]
mod cupti_stub;
#[allow(dead_code)]
#[path = "common/fake_gpu.rs"]
mod fake_gpu;

use cupti_stub::Stub;
use fake_gpu::{FakeGpu, Stream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use stepscope::catalog::Id;
use stepscope::gpu::cupti::{Cupti, CuptiOptions, CuptiUnavailable};
use stepscope::gpu::{Gpu, Lane, Options, Point, Resolution, StepInfo, StepTime};
use stepscope::snapshot::Labels;
use stepscope::{Config, Phase, Stepscope};

/// CUPTI's number of the first stream that the stub is asked for; the others follow.
const STREAM: u32 = 42;

/// The fake driver behind a library that also has CUPTI's side door.
fn driver_with_door(gpu: &FakeGpu) -> PathBuf {
    let file = std::env::temp_dir().join(format!("stepscope-door-{}.so", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/driver_door.c");
    let built = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(&file)
        .arg(source)
        .arg("-Wl,--no-as-needed")
        .arg(&gpu.path)
        .status()
        .expect("a C compiler named cc");
    assert!(built.success());
    file
}

struct Engine<'a> {
    scope: Stepscope,
    gpu: Gpu,
    lane: Lane,
    stream: Stream<'a>,
    place: u64,
}

impl<'a> Engine<'a> {
    fn start(fake: &'a FakeGpu, driver: &Path, stub: &Stub) -> Engine<'a> {
        Engine::with(fake, driver, Options { cupti: options(stub), ..Options::default() })
    }

    fn with(fake: &'a FakeGpu, driver: &Path, options: Options) -> Engine<'a> {
        let scope = Stepscope::start(Config { listen: None, ..Config::default() }).unwrap();
        let stream = fake.stream();
        let options = Options { library: Some(driver.into()), nvml: false, ..options };
        let gpu = scope.gpu(stream.raw(), &options).unwrap();
        let lane = gpu.lane(stream.raw()).unwrap();
        let place = fake.memory(8 + 16 * 128);
        fake.write(place, place + 8);
        Engine { scope, gpu, lane, stream, place }
    }

    /// One finished step of a phase: its number in the lane is the count of calls.
    fn step(&mut self, phase: Phase) -> StepTime {
        self.long_step(phase, 1)
    }

    fn long_step(&mut self, phase: Phase, ms: u64) -> StepTime {
        let mut ticket = self.lane.begin(StepInfo { phase, ..StepInfo::default() });
        assert!(self.stream.work(self.place, ms * 1_000_000));
        self.lane.end(&mut ticket);
        self.stream.synchronize();
        match self.gpu.settle(ticket) {
            Resolution::Done(time) => time,
            other => panic!("{other:?}"),
        }
    }

    /// Graph times on the page: their number and sum in ns, by phase.
    fn graphs(&self) -> [Option<(u64, u128)>; 3] {
        let snapshot = self.scope.snapshot();
        ["prefill", "decode", "mixed"].map(|phase| {
            let of_phase = |labels: &Labels| labels.get("phase") == Some(phase);
            let times = snapshot.merged(Id::GpuGraph, of_phase)?;
            Some((times.count(), times.sum))
        })
    }

    /// (attributed, unattributed) once they are `expected`, or what they are after five seconds.
    fn counted(&self, expected: [u64; 2]) -> [u64; 2] {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let seen = ["attributed", "unattributed"].map(|result| self.records(result));
            if seen == expected || Instant::now() > deadline {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(20))
        }
    }

    fn records(&self, result: &str) -> u64 {
        let of_result = |labels: &Labels| labels.get("result") == Some(result);
        self.scope.snapshot().sum(Id::CuptiRecords, of_result) as u64
    }
}

fn options(stub: &Stub) -> CuptiOptions {
    CuptiOptions { mode: Cupti::Graphs, library: Some(stub.file.clone()) }
}

/// One test: what CUPTI is for a process is decided once, and a captured graph decides it too.
#[test]
fn a_graph_time_reaches_the_page_by_its_steps_phase() {
    let fake = FakeGpu::new();
    let driver = driver_with_door(&fake);
    times_with_ids_find_their_steps(&fake, &driver);
    lanes_that_take_turns_on_a_thread_get_no_times_of_each_other(&fake, &driver);
    a_step_that_is_not_remembered_gets_no_time(&fake, &driver);
    times_without_ids_find_the_step_they_overlap(&fake, &driver);
    a_refusal_is_final(&fake, &driver);
    without_a_side_door_or_after_a_capture_there_are_none(&fake, &driver);
    // Still mapped; only the name goes.
    let _ = std::fs::remove_file(driver);
}

fn times_with_ids_find_their_steps(fake: &FakeGpu, driver: &Path) {
    let mut stub = Stub::build(&[]);
    let mut engine = Engine::start(fake, driver, &stub);
    assert_eq!(engine.gpu.cupti(), Ok(()));
    assert_eq!(engine.graphs(), [None; 3], "nothing was timed yet");
    let [one, two, three] = [Phase::Prefill, Phase::Decode, Phase::Decode].map(|p| engine.step(p));
    assert_eq!(stub.pushed(), (0, 3), "lane 0, step 3, and popped");

    let forgotten = engine.lane.begin(StepInfo::default());
    drop(forgotten);
    engine.step(Phase::Mixed);
    assert_eq!(stub.knobs().depth, 0, "the next begin ends a forgotten step");
    let given_up = engine.lane.begin(StepInfo::default());
    assert_eq!(stub.pushed(), (1, 6));
    engine.lane.abandon(given_up);
    assert_eq!(stub.knobs().depth, 0);

    for (step, ns) in [(1, 700), (2, 300), (3, 200)] {
        stub.can(step, step.into(), STREAM, 1_000, 1_000 + ns)
    }
    // A step of a lane nobody opened, one that does not exist yet, and a launch without a time.
    stub.can(4, 7 << 48 | 1, STREAM, 5_000, 6_000);
    stub.can(5, 999, STREAM, 5_000, 6_000);
    stub.can(6, 2, STREAM, 0, 0);
    assert_eq!(engine.counted([3, 2]), [3, 2]);
    assert_eq!(engine.records("invalid"), 1);
    assert_eq!(engine.graphs(), [Some((1, 700)), Some((2, 500)), Some((0, 0))]);
    assert!(one.end <= two.begin && two.end <= three.begin, "stamps go on beside it");
}

/// CUPTI keeps the pushed ids by thread, so that the second begin marks the first lane's launches too.
fn lanes_that_take_turns_on_a_thread_get_no_times_of_each_other(fake: &FakeGpu, driver: &Path) {
    let mut stub = Stub::build(&[]);
    let mut engine = Engine::start(fake, driver, &stub);
    let other_stream = fake.stream();
    let mut other = engine.gpu.lane(other_stream.raw()).unwrap();
    let mut one = engine.lane.begin(StepInfo { phase: Phase::Prefill, ..StepInfo::default() });
    let mut two = other.begin(StepInfo { phase: Phase::Decode, ..StepInfo::default() });
    let marked = stub.knobs().last_id;
    assert_eq!(marked, 1 << 48 | 1, "the second lane's step");
    other.end(&mut two);
    engine.lane.end(&mut one);
    assert_eq!(stub.knobs().depth, 0);
    // Both graphs were launched while the second lane's step was marked.
    stub.can(1, marked, STREAM, 1_000, 2_000);
    stub.can(2, marked, STREAM + 1, 3_000, 3_400);
    assert_eq!(engine.counted([1, 1]), [1, 1]);
    assert_eq!(engine.graphs(), [Some((0, 0)), Some((1, 400)), Some((0, 0))]);
}

fn a_step_that_is_not_remembered_gets_no_time(fake: &FakeGpu, driver: &Path) {
    let mut stub = Stub::build(&[]);
    let options = Options { slots: 64, cupti: options(&stub), ..Options::default() };
    let mut engine = Engine::with(fake, driver, options);
    for _ in 0..70 {
        engine.step(Phase::Decode);
    }
    // Step 70 has the place of step 6, which would be of the same phase.
    stub.can(1, 6, STREAM, 1_000, 2_000);
    stub.can(2, 70, STREAM, 3_000, 3_400);
    assert_eq!(engine.counted([1, 1]), [1, 1]);
    assert_eq!(engine.graphs(), [Some((0, 0)), Some((1, 400)), Some((0, 0))]);
}

/// Another tool has CUPTI and keeps it; asking it again may disturb that tool.
fn a_refusal_is_final(fake: &FakeGpu, driver: &Path) {
    let mut stub = Stub::build(&[]);
    stub.knobs().subscribe_code = 39;
    let refused = Err(CuptiUnavailable::Refused(39));
    let engine = Engine::start(fake, driver, &stub);
    assert_eq!(engine.gpu.cupti(), refused);
    drop(engine);
    let calls = stub.knobs().calls;
    stub.knobs().subscribe_code = 0;
    let mut engine = Engine::start(fake, driver, &stub);
    assert_eq!(engine.gpu.cupti(), refused);
    engine.step(Phase::Decode);
    assert_eq!(stub.knobs().calls, calls);
    assert_eq!(engine.graphs(), [None; 3]);
}

fn times_without_ids_find_the_step_they_overlap(fake: &FakeGpu, driver: &Path) {
    let mut stub = Stub::build(&["-DNO_ENABLE_DRIVER_API"]);
    let mut engine = Engine::start(fake, driver, &stub);
    assert_eq!(engine.gpu.cupti(), Ok(()));
    // Long enough that the clock's error bound explains none of the overlap.
    let phases = [Phase::Prefill, Phase::Decode, Phase::Mixed];
    let steps = phases.map(|phase| engine.long_step(phase, 20));
    let [begin, end] = [steps[1].begin, steps[1].end].map(stepscope::Time::as_nanos);
    let inside = (begin + 5_000_000, end - 5_000_000);
    stub.can_time(1, STREAM, inside.0, inside.1);
    // Over two steps, on a stream without a lane, and long before any step.
    stub.can_time(2, STREAM, inside.0, steps[2].end.as_nanos());
    stub.can_time(3, STREAM + 1, inside.0, inside.1);
    stub.can_time(4, STREAM, 1_000, 2_000);
    assert_eq!(engine.counted([1, 3]), [1, 3]);
    let expected = Some((1, u128::from(inside.1 - inside.0)));
    assert_eq!(engine.graphs(), [Some((0, 0)), expected, Some((0, 0))]);
}

fn without_a_side_door_or_after_a_capture_there_are_none(fake: &FakeGpu, driver: &Path) {
    let mut stub = Stub::build(&[]);
    let mut engine = Engine::start(fake, &fake.path, &stub);
    assert_eq!(engine.gpu.cupti(), Err(CuptiUnavailable::NoDriver));
    engine.step(Phase::Decode);
    engine.stream.begin_capture(0);
    engine.lane.capture(engine.stream.raw(), Point::End).unwrap();
    engine.stream.end_capture().unwrap();
    drop(engine);

    let mut engine = Engine::start(fake, driver, &stub);
    assert_eq!(engine.gpu.cupti(), Err(CuptiUnavailable::TooLate));
    engine.step(Phase::Decode);
    assert_eq!(engine.graphs(), [None; 3]);
    assert!(engine.scope.snapshot().family(Id::CuptiRecords).is_none(), "absent, not 0");
    assert_eq!(stub.knobs().calls, 0);
}
