//! What a stamp does on the engine's thread: how many driver calls each verb makes, that it waits for
//! nothing, and that it neither allocates nor frees.
#![allow(missing_docs, unsafe_code)] // A counting allocator, and an engine on the fake driver.

#[path = "common/fake_gpu.rs"]
#[allow(dead_code)]
mod fake_gpu;

#[path = "common/counting.rs"]
mod counting;

use fake_gpu::FakeGpu;
use stepscope::catalog::Id;
use stepscope::gpu::{
    Gpu, Lane, Lost, Options, Point, RawStream, Resolution, StepInfo, StepTicket,
};
use stepscope::{Config, Stepscope};

fn attached(fake: &FakeGpu) -> Gpu {
    let options = Options { library: Some(fake.path.clone()), nvml: false, ..Options::default() };
    Gpu::attach(RawStream::LEGACY, &options).unwrap()
}

fn begun(lane: &mut Lane) -> StepTicket {
    lane.begin(StepInfo::default())
}

fn ended(lane: &mut Lane) -> StepTicket {
    let mut ticket = begun(lane);
    lane.end(&mut ticket);
    ticket
}

/// Driver calls of the whole process while `work` runs, at a moment when the clock thread makes none.
fn driver_calls(fake: &FakeGpu, gpu: &Gpu, mut work: impl FnMut()) -> u64 {
    loop {
        let rounds = gpu.clock().rounds + gpu.clock().rejected;
        let before = fake.calls("*");
        work();
        let calls = fake.calls("*") - before;
        // A round may have begun and not ended: then there is another one a little later.
        std::thread::sleep(std::time::Duration::from_millis(2));
        let quiet = fake.calls("*") - before == calls;
        if quiet && gpu.clock().rounds + gpu.clock().rejected == rounds {
            return calls;
        }
    }
}

#[test]
fn each_verb_makes_the_driver_calls_that_it_says() {
    let fake = FakeGpu::new();
    let gpu = attached(&fake);
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    let mut calls = |work: &mut dyn FnMut(&mut Lane)| driver_calls(&fake, &gpu, || work(&mut lane));

    // Is the stream capturing, and the launch: twice.
    assert_eq!(calls(&mut |lane| drop(begun(lane))), 2);
    assert_eq!(calls(&mut |lane| drop(ended(lane))), 4);
    let in_graph = |lane: &mut Lane| {
        let mut ticket = begun(lane);
        lane.end_in_graph(&mut ticket)
    };
    assert_eq!(calls(&mut { in_graph }), 2, "a captured end costs none");
    let abandoned = |lane: &mut Lane| {
        let ticket = begun(lane);
        lane.abandon(ticket)
    };
    assert_eq!(calls(&mut { abandoned }), 2, "giving up costs none");
    assert_eq!(calls(&mut |lane| assert_ne!(lane.device_handle().ring, 0)), 0);
    let looked_at = |_: &mut Lane| {
        for _ in 0..1_000 {
            assert!(gpu.progress(0).issued > 0 && gpu.counts(0).begun > 0);
            assert!(gpu.clock().rounds > 0 && gpu.gone().is_none())
        }
    };
    assert_eq!(calls(&mut { looked_at }), 0);
}

/// Readers of the page never reach the driver, whatever it does.
#[test]
fn a_scrape_makes_no_driver_call() {
    let fake = FakeGpu::new();
    let scope = Stepscope::start(Config { listen: None, ..Config::default() }).unwrap();
    let options = Options { library: Some(fake.path.clone()), nvml: false, ..Options::default() };
    let gpu = scope.gpu(RawStream::LEGACY, &options).unwrap();
    let stream = fake.stream();
    drop(ended(&mut gpu.lane(stream.raw()).unwrap()));
    let is_told = || scope.snapshot().family(Id::ClockOffsetError).is_some();
    while !is_told() {
        std::thread::sleep(std::time::Duration::from_millis(10))
    }
    let calls = driver_calls(&fake, &gpu, || {
        assert!(is_told(), "the clock is on the page");
        assert!(!scope.alerts().is_empty())
    });
    assert_eq!(calls, 0)
}

#[test]
fn resolve_and_settle_make_no_driver_call_and_nothing_allocates() {
    let fake = FakeGpu::new();
    let gpu = attached(&fake);
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    stream.begin_capture(1);
    lane.capture(stream.raw(), Point::End).unwrap();
    let graph = stream.end_capture().unwrap();

    // The verbs that launch, in each way a step can go.
    let mut tickets = Vec::with_capacity(10_000);
    for step in 0..2_000 {
        let before = counting::calls();
        let mut ticket = begun(&mut lane);
        if step % 2 == 0 {
            lane.end(&mut ticket)
        }
        let allocations = counting::calls() - before;
        assert_eq!(allocations, 0, "begin and end");
        if step % 2 == 1 {
            assert!(stream.replay(&graph));
            let before = counting::calls();
            lane.end_in_graph(&mut ticket);
            assert_eq!(counting::calls(), before)
        }
        tickets.push(ticket)
    }
    fake.fail("cuLaunchKernel", 0, 1, 2);
    let before = counting::calls();
    let refused = begun(&mut lane);
    let open = begun(&mut lane);
    let given_up = begun(&mut lane);
    lane.abandon(given_up);
    assert_eq!(counting::calls(), before, "a launch that fails, and a step that is given up");
    tickets.push(refused);
    tickets.push(open);
    stream.synchronize();

    let mut done = 0;
    let calls = driver_calls(&fake, &gpu, || {
        let before = counting::calls();
        done = tickets.iter().filter(|t| matches!(gpu.resolve(t), Resolution::Done(_))).count();
        assert_eq!(counting::calls(), before, "resolve")
    });
    assert_eq!((calls, done), (0, 2_000));
    let mut lost = Vec::with_capacity(16);
    let calls = driver_calls(&fake, &gpu, || {
        let before = counting::calls();
        for ticket in tickets.drain(..) {
            if let Resolution::Lost(why) = gpu.settle(ticket) {
                lost.push(why)
            }
        }
        assert_eq!(counting::calls(), before, "settle")
    });
    assert_eq!((calls, lost), (0, vec![Lost::LaunchFailed, Lost::NotEnded]));
    assert_eq!(gpu.counts(0).done, 2_000);
}
