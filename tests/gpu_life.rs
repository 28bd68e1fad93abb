//! Attaching, living and ending on the fake driver: every failure is a value, nothing breaks the
//! engine's captures, and the metrics say what the stamps saw.
#![allow(missing_docs, unsafe_code)] // The engine on the fake driver makes driver calls.

#[path = "common/fake_gpu.rs"]
#[allow(dead_code)]
mod fake_gpu;

use fake_gpu::{FakeGpu, wait};
use std::time::Duration;
use stepscope::catalog::Id;
use stepscope::gpu::{
    CaptureError, DetachError, Gpu, GpuUnavailable, Lane, LaneError, Lost, Options, Point,
    RawStream, Resolution, StepInfo, StepTicket,
};
use stepscope::{Config, Launch, Shape, Stepscope, Time};

fn options(fake: &FakeGpu) -> Options {
    Options { library: Some(fake.path.clone()), slots: 64, nvml: false, ..Options::default() }
}

fn attached(fake: &FakeGpu) -> Gpu {
    Gpu::attach(RawStream::LEGACY, &options(fake)).unwrap()
}

fn step(lane: &mut Lane) -> StepTicket {
    let mut ticket = lane.begin(StepInfo::default());
    lane.end(&mut ticket);
    ticket
}

/// Where the work kernel writes down up to 64 of its runs.
fn work_place(fake: &FakeGpu) -> u64 {
    let (place, truth) = (fake.memory(8), fake.memory(1_024));
    fake.write(place, truth);
    place
}

#[test]
fn every_call_that_fails_while_attaching_is_named_and_nothing_is_left() {
    let fake = FakeGpu::new();
    for call in [
        "cuCtxGetCurrent",
        "cuStreamIsCapturing",
        "cuCtxGetDevice",
        "cuDeviceGetAttribute",
        "cuThreadExchangeStreamCaptureMode",
        "cuModuleLoadData",
        "cuModuleGetFunction",
        "cuMemHostRegister_v2",
        "cuMemHostGetDevicePointer_v2",
        "cuMemAlloc_v2",
        "cuMemcpyHtoD_v2",
        "cuCtxGetStreamPriorityRange",
        "cuStreamCreateWithPriority",
        "cuLaunchKernel",
    ] {
        fake.fail(call, 0, 1, 2);
        let why = Gpu::attach(RawStream::LEGACY, &options(&fake)).unwrap_err();
        assert_eq!(why, GpuUnavailable::Call { name: call, code: 2 });
    }
    // The stream is the last thing that is made, so no later failure has one to give back.
    let freed = ["cuMemFree_v2", "cuMemHostUnregister", "cuModuleUnload"];
    assert!(freed.into_iter().all(|call| fake.calls(call) > 0), "made things are given back");
    let gpu = attached(&fake);
    assert_eq!(gpu.identity().name.as_deref(), Some("Fake GPU"));
    assert_eq!(gpu.identity().pci_bus_id.as_deref(), Some("00000000:65:00.0"));
}

#[test]
fn without_library_context_or_sane_options_attach_says_why() {
    let fake = FakeGpu::new();
    let with = |change: fn(&mut Options)| {
        let mut options = options(&fake);
        change(&mut options);
        Gpu::attach(RawStream::LEGACY, &options).unwrap_err()
    };
    assert!(matches!(with(|o| o.lanes = 0), GpuUnavailable::BadOptions(_)));
    assert!(matches!(with(|o| o.slots = 100), GpuUnavailable::BadOptions(_)));
    assert!(matches!(
        with(|o| o.library = Some("/nowhere.so".into())),
        GpuUnavailable::LibraryMissing(_)
    ));
    assert!(matches!(
        with(|o| o.library = Some("libc.so.6".into())),
        GpuUnavailable::SymbolMissing(_)
    ));
    fake.leave();
    let why = Gpu::attach(RawStream::LEGACY, &options(&fake)).unwrap_err();
    assert_eq!(why, GpuUnavailable::NoContext);
    assert!(why.to_string().contains("after its initialisation"), "{why}");
}

#[test]
fn another_threads_global_capture_survives_attach_and_our_thread() {
    let fake = FakeGpu::new();
    let stream = fake.stream();
    stream.begin_capture(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            fake.enter();
            // A default stream: making one beside a global capture would break it by itself.
            let gpu = Gpu::attach(RawStream::PER_THREAD, &options(&fake)).unwrap();
            // Longer than the first clock round of its thread.
            std::thread::sleep(Duration::from_millis(250));
            assert!(gpu.clock().rounds >= 1)
        });
    });
    assert!(stream.end_capture().is_ok(), "the capture is whole");
}

#[test]
fn a_step_begun_while_its_stream_captures_is_void_and_the_capture_lives() {
    let fake = FakeGpu::new();
    let gpu = attached(&fake);
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    assert_eq!(lane.capture(stream.raw(), Point::End), Err(CaptureError::NotCapturing));
    stream.begin_capture(0);
    let ticket = lane.begin(StepInfo::default());
    assert_eq!(gpu.settle(ticket), Resolution::Lost(Lost::Capturing));
    assert_eq!(lane.capture(stream.raw(), Point::End), Ok(()));
    assert!(stream.end_capture().is_ok());
    assert_eq!(gpu.counts(0).lost[Lost::Capturing as usize - 1], 1);
}

#[test]
fn settle_makes_no_driver_call_and_a_full_ring_says_overwritten_exactly() {
    let fake = FakeGpu::new();
    let gpu = attached(&fake);
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    let tickets: Vec<StepTicket> = (0..100).map(|_| step(&mut lane)).collect();
    stream.synchronize();
    // The clock thread launches probes; nothing else may.
    let calls = |name| fake.calls(name);
    let before = [calls("cuStreamIsCapturing"), calls("cuCtxGetCurrent"), calls("cuMemcpyDtoH_v2")];
    let (mut done, mut overwritten) = (0, 0);
    for ticket in tickets {
        match gpu.settle(ticket) {
            Resolution::Done(_) => done += 1,
            Resolution::Lost(Lost::Overwritten) => overwritten += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((done, overwritten), (64, 36));
    let after = [calls("cuStreamIsCapturing"), calls("cuCtxGetCurrent"), calls("cuMemcpyDtoH_v2")];
    assert_eq!(before, after);
}

#[test]
fn tickets_of_another_gpu_and_steps_without_an_end_are_told() {
    let fake = FakeGpu::new();
    let (one, two) = (attached(&fake), attached(&fake));
    let stream = fake.stream();
    let (mut a, mut b) = (one.lane(stream.raw()).unwrap(), two.lane(stream.raw()).unwrap());
    let mut ticket = a.begin(StepInfo::default());
    assert_eq!(one.resolve(&ticket), Resolution::Lost(Lost::NotEnded));
    b.end(&mut ticket);
    assert_eq!(one.resolve(&ticket), Resolution::Lost(Lost::WrongOwner));
    let ticket = step(&mut a);
    assert!(matches!(wait(&one, &ticket), Resolution::Done(_)));
    assert_eq!(two.settle(ticket), Resolution::Lost(Lost::WrongOwner));
    for _ in 1..4 {
        one.lane(stream.raw()).unwrap();
    }
    assert_eq!(one.lane(stream.raw()).unwrap_err(), LaneError::Exhausted);
}

#[test]
fn when_the_context_dies_old_steps_are_readable_and_new_ones_void() {
    let fake = FakeGpu::new();
    let gpu = attached(&fake);
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    let ticket = step(&mut lane);
    assert!(matches!(wait(&gpu, &ticket), Resolution::Done(_)));
    fake.reset();
    assert!(matches!(gpu.settle(ticket), Resolution::Done(_)));
    let ticket = lane.begin(StepInfo::default());
    assert_eq!(gpu.settle(ticket), Resolution::Lost(Lost::LaunchFailed));
    assert_eq!(gpu.gone(), Some(709));
    let calls = fake.calls("cuStreamIsCapturing");
    let ticket = lane.begin(StepInfo::default());
    assert_eq!(gpu.settle(ticket), Resolution::Lost(Lost::Unavailable));
    assert_eq!(fake.calls("cuStreamIsCapturing"), calls, "no call behind the breaker");
}

#[test]
fn one_thread_without_a_context_does_not_end_the_stamps_of_all() {
    let fake = FakeGpu::new();
    let gpu = attached(&fake);
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    fake.leave();
    let ticket = lane.begin(StepInfo::default());
    assert_eq!(gpu.settle(ticket), Resolution::Lost(Lost::LaunchFailed));
    fake.enter();
    let ticket = step(&mut lane);
    assert!(matches!(wait(&gpu, &ticket), Resolution::Done(_)));
}

#[test]
fn detach_gives_back_what_is_idle_and_keeps_what_may_still_be_used() {
    let fake = FakeGpu::new();
    let stream = fake.stream();
    let idle = attached(&fake);
    let mut lane = idle.lane(stream.raw()).unwrap();
    let ticket = step(&mut lane);
    assert!(matches!(wait(&idle, &ticket), Resolution::Done(_)));
    let handle = idle.clone();
    assert_eq!(idle.detach(Duration::from_secs(1)), Ok(()));
    assert_eq!(handle.settle(ticket), Resolution::Lost(Lost::Detached));
    let ticket = lane.begin(StepInfo::default());
    assert_eq!(handle.settle(ticket), Resolution::Lost(Lost::Detached));
    assert_eq!(handle.lane(stream.raw()).unwrap_err(), LaneError::Detached);

    let captured = attached(&fake);
    let mut lane = captured.lane(stream.raw()).unwrap();
    stream.begin_capture(1);
    lane.capture(stream.raw(), Point::End).unwrap();
    let graph = stream.end_capture().unwrap();
    let detach = || captured.clone().detach(Duration::from_millis(50));
    assert_eq!((detach(), detach()), (Err(DetachError::Retained), Err(DetachError::Retained)));
    assert!(stream.replay(&graph), "the graph still runs");
    stream.synchronize();

    let place = work_place(&fake);
    for next_begin_fails in [false, true] {
        let busy = attached(&fake);
        let mut lane = busy.lane(stream.raw()).unwrap();
        let mut ticket = lane.begin(StepInfo::default());
        assert!(stream.work(place, 400_000_000));
        lane.end(&mut ticket);
        if next_begin_fails {
            // The step behind it was given up; this one is still under way.
            fake.fail("cuLaunchKernel", 0, 1, 2);
            let failed = lane.begin(StepInfo::default());
            lane.abandon(failed);
        }
        let detach = |ms| busy.clone().detach(Duration::from_millis(ms));
        assert_eq!(detach(20), Err(DetachError::Busy));
        assert_eq!(detach(0), Err(DetachError::Busy), "asked again, it is still under way");
        stream.synchronize();
        assert_eq!(detach(1_000), Ok(()), "and now it is not");
        assert_eq!(detach(0), Ok(()), "twice is once");
    }
}

#[test]
fn the_metrics_say_what_the_stamps_saw() {
    let fake = FakeGpu::new();
    let scope = Stepscope::start(Config { listen: None, ..Config::default() }).unwrap();
    let stream = fake.stream();
    let gpu = scope.gpu(stream.raw(), &options(&fake)).unwrap();
    let mut recorder = scope.recorder("engine");
    recorder.set_lane(gpu.lane(stream.raw()).unwrap());
    let place = work_place(&fake);
    let shape = Shape { prefills: 0, prefill_tokens: 0, decodes: 4 };
    for _ in 0..10 {
        let mut open = recorder.begin_step(Time::now(), shape);
        assert!(stream.work(place, 2_000_000));
        recorder.launched(&mut open, Launch::Stamp);
        stream.synchronize();
        let step = recorder.end_step(open, Time::now());
        assert_eq!(step.source(), stepscope::StepSource::Gpu);
    }
    // One step that the engine looks at too soon falls back to the host's clock.
    let mut open = recorder.begin_step(Time::now(), shape);
    assert!(stream.work(place, 20_000_000));
    recorder.launched(&mut open, Launch::Stamp);
    let step = recorder.end_step(open, Time::now());
    assert_eq!(step.source(), stepscope::StepSource::Host);
    let snapshot = scope.snapshot();
    let count = |id: Id| {
        let family = snapshot.family(id).unwrap();
        family
            .series
            .iter()
            .map(|s| match &s.value {
                stepscope::snapshot::Value::Histogram(h) => h.counts.iter().sum::<u64>(),
                other => other.as_f64() as u64,
            })
            .sum::<u64>()
    };
    assert_eq!((count(Id::StepGpu), count(Id::StepHost)), (10, 1));
    assert_eq!(count(Id::GpuGap), 9, "nothing is known before the first step");
    assert_eq!(snapshot.sum(Id::StampsLost, |l| l.get("reason") == Some("late")), 1.0);
    assert_eq!(snapshot.sum(Id::StampsLost, |_| true), 1.0);
    assert!(snapshot.family(Id::ClockResolution).is_some());
    let age = snapshot.sum(Id::LastStepAge, |_| true);
    assert!((0.0..60.0).contains(&age), "{age}");
}

#[test]
fn a_step_that_hangs_on_the_device_shows_while_the_engine_waits() {
    let fake = FakeGpu::new();
    let gpu = attached(&fake);
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    let ticket = step(&mut lane);
    assert!(matches!(wait(&gpu, &ticket), Resolution::Done(_)));
    let place = work_place(&fake);
    let mut open = lane.begin(StepInfo::default());
    assert!(stream.work(place, 300_000_000));
    lane.end(&mut open);
    assert!(gpu.progress(0).is_waiting());
    stream.synchronize();
    assert!(!gpu.progress(0).is_waiting());
    lane.abandon(open);
    let counts = gpu.counts(0);
    assert_eq!((counts.begun, counts.abandoned), (2, 1));
}
