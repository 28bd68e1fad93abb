//! The clock thread lives exactly as long as there is something to watch.
#![allow(missing_docs, unsafe_code)] // The engine on the fake driver makes driver calls.

#[path = "common/fake_gpu.rs"]
#[allow(dead_code)]
mod fake_gpu;

mod common;

use common::process::{alone, wait_for_threads};
use common::wait_for;
use fake_gpu::FakeGpu;
use std::time::Duration;
use stepscope::gpu::{Gpu, Lost, Options, RawStream, Resolution, StepInfo};

const THREAD: &[&str] = &["stepscope-gpu"];

fn attached(fake: &FakeGpu) -> Gpu {
    let options = Options { library: Some(fake.path.clone()), nvml: false, ..Options::default() };
    Gpu::attach(RawStream::LEGACY, &options).unwrap()
}

#[test]
fn it_ends_with_the_last_handle_and_lane_and_no_driver_call_is_made() {
    let _alone = alone();
    let fake = FakeGpu::new();
    let gpu = attached(&fake);
    wait_for_threads(THREAD);
    let stream = fake.stream();
    let (lane, other) = (gpu.lane(stream.raw()).unwrap(), gpu.clone());
    drop((gpu, other));
    wait_for_threads(THREAD);
    // Behind the first rounds the next one is seconds away.
    std::thread::sleep(Duration::from_millis(700));
    let calls = fake.calls("*");
    drop(lane);
    wait_for_threads(&[]);
    assert_eq!(fake.calls("*"), calls, "what the device may still write to is left to it");
}

#[test]
fn it_ends_with_detach() {
    let _alone = alone();
    let fake = FakeGpu::new();
    let gpu = attached(&fake);
    let other = gpu.clone();
    wait_for_threads(THREAD);
    assert_eq!(gpu.detach(Duration::from_secs(5)), Ok(()));
    wait_for_threads(&[]);
    assert_eq!(other.detach(Duration::from_secs(5)), Ok(()), "twice is once");
}

#[test]
fn it_ends_when_the_context_is_gone() {
    let _alone = alone();
    let fake = FakeGpu::new();
    let gpu = attached(&fake);
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    wait_for_threads(THREAD);
    fake.reset();
    let ticket = lane.begin(StepInfo::default());
    assert_eq!(gpu.settle(ticket), Resolution::Lost(Lost::LaunchFailed));
    assert_eq!(gpu.gone(), Some(709));
    wait_for_threads(&[]);

    // Without a step its own next round meets the error.
    let fake = FakeGpu::new();
    let idle = attached(&fake);
    wait_for("its first round", Duration::from_secs(10), || {
        (idle.clock().rounds > 1).then_some(())
    });
    fake.reset();
    wait_for_threads(&[]);
    assert_eq!(idle.gone(), Some(709));
}
