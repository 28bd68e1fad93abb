//! Steps, device time and levels.

use super::super::harness::{DEVICE, FakeLane, scheduled, step_at};
use super::{ONE_DECODE, scope};
use crate::record::event::Metric;
use crate::record::request::{Pool, Series};
use crate::record::step::{Launch, Settled, StepSource};
use crate::record::words::{Invalid, Outcome, Preempt, Wait};
use crate::record::{Recorder, Time};

#[test]
fn levels_are_right_at_every_stage_and_at_idle() {
    let (scope, mut rec) = scope();
    let levels = || {
        let batch = scope.level(|cells| &cells.levels.batch) as i64;
        [scope.in_flight(), scope.waiting(), scope.running(), batch]
    };
    let mut req = rec.arrive(scope.series(1), 1, Time(10));
    rec.enqueue(&mut req, Time(11));
    assert_eq!(levels(), [1, 1, 0, 0]);
    rec.schedule(&mut req, Time(12), 0, 0);
    assert_eq!(levels(), [1, 0, 1, 0]);
    let open = rec.begin_step(Time(12), ONE_DECODE);
    let step = rec.end_step(open, Time(20));
    rec.token(&step, &mut req, 1);
    assert_eq!(levels(), [1, 0, 1, 1]);
    rec.preempt(&mut req, Time(21), Preempt::Memory);
    assert_eq!(levels(), [1, 1, 0, 1]);
    rec.finish(req, Time(22), Outcome::Aborted);
    assert_eq!(levels(), [0; 4]);
}

#[test]
fn a_step_takes_the_devices_time_if_its_stamps_are_there_and_the_hosts_if_not() {
    let (mut scope, mut rec) = scope();
    let lane = FakeLane::default();
    rec.set_lane(lane.clone());
    let stamped = Settled::Done { end: Time(90), gpu_ns: 70, idle_before_ns: Some(5) };
    for settled in [stamped, Settled::Lost] {
        lane.settle_as(settled);
        let mut open = rec.begin_step(Time(10), ONE_DECODE);
        rec.launched(&mut open, Launch::InGraph);
        assert_eq!(lane.marks(), [Some(Launch::InGraph)]);
        let step = rec.end_step(open, Time(100));
        let (time, source) = match settled {
            Settled::Done { end, .. } => (end, StepSource::Gpu),
            Settled::Lost => (Time(100), StepSource::Host),
        };
        assert_eq!((step.time(), step.source(), step.begin()), (time, source, Time(10)))
    }
    scope.drain();
    assert_eq!(scope.total(Metric::StepGpu), (1, 70));
    assert_eq!(scope.total(Metric::StepHost), (1, 90));
    assert_eq!([scope.steps(StepSource::Gpu), scope.steps(StepSource::Host)], [1, 1]);
    assert_eq!(lane.marks(), [], "every ticket came back");
}

#[test]
fn idle_time_counts_as_waiting_only_if_work_was_there_all_the_time() {
    let (mut scope, mut rec) = scope();
    let lane = FakeLane::default();
    rec.set_lane(lane.clone());
    let mut gap = 0;
    let mut step = |rec: &mut Recorder| {
        gap += 1;
        let end = Time(100 * gap);
        lane.settle_as(Settled::Done { end, gpu_ns: 1, idle_before_ns: Some(gap) });
        let open = rec.begin_step(Time(100 * gap), ONE_DECODE);
        rec.end_step(open, Time(100 * gap));
    };
    let series = scope.series(1);
    let first = scheduled(&mut rec, series, 1, 10);
    step(&mut rec); // 1: nothing was there when the recorder was made
    step(&mut rec); // 2: waiting
    let second = scheduled(&mut rec, series, 2, 20);
    rec.finish(first, Time(150), Outcome::Stop);
    step(&mut rec); // 3: waiting, one came before the other left
    rec.finish(second, Time(250), Outcome::Stop);
    let third = scheduled(&mut rec, series, 3, 260);
    step(&mut rec); // 4: there is work now, but for a moment there was none
    step(&mut rec); // 5: waiting
    rec.finish(third, Time(500), Outcome::Stop);
    scope.drain();
    let [none, waiting] = [0, 1].map(|work| scope.values(Metric::GpuGap, work, DEVICE));
    assert_eq!((none, waiting), (vec![1, 4], vec![2, 3, 5]));
}

#[test]
fn an_adopted_sequence_is_work_here() {
    let (mut ours, mut rec) = scope();
    let (theirs, mut far) = scope();
    let lane = FakeLane::default();
    rec.set_lane(lane.clone());
    let mut stranger = scheduled(&mut far, theirs.series(1), 1, 10);
    rec.prefill(&mut stranger, 1);
    let mut mine = scheduled(&mut rec, ours.series(1), 2, 20);
    rec.token(&step_at(30), &mut mine, 1);
    let open = rec.begin_step(Time(40), ONE_DECODE);
    rec.end_step(open, Time(50));
    // The stranger's end takes nothing of ours away.
    rec.finish(stranger, Time(60), Outcome::Stop);
    lane.settle_as(Settled::Done { end: Time(80), gpu_ns: 1, idle_before_ns: Some(9) });
    let open = rec.begin_step(Time(70), ONE_DECODE);
    rec.end_step(open, Time(80));
    ours.drain();
    assert_eq!(ours.values(Metric::GpuGap, 1, DEVICE), [9]);
    rec.finish(mine, Time(90), Outcome::Stop)
}

#[test]
fn an_abandoned_step_leaves_no_sample() {
    let (mut scope, mut rec) = scope();
    let lane = FakeLane::default();
    rec.set_lane(lane.clone());
    let open = rec.begin_step(Time(10), ONE_DECODE);
    rec.abandon(open);
    scope.drain();
    assert_eq!(scope.drained_events, 0);
    assert_eq!(lane.marks(), []);
}

#[test]
fn a_pool_without_blocks_is_a_level_and_no_share() {
    let (mut scope, mut rec) = scope();
    rec.kv(Pool::KV, 3, 2, 0, 40);
    rec.kv(Pool::KV, 5, 1, 10, 70);
    scope.drain();
    assert_eq!(scope.invalid(Invalid::AbsurdCount), 1);
    assert_eq!(scope.values(Metric::KvUsage, 0, DEVICE), [5 << 32 | 10]);
    let words = [0, 1].map(|i| scope.level(|cells| &cells.levels.kv[0][i]));
    assert_eq!(words, [5 << 32 | 1, 10 << 32 | 70]);
}

#[test]
fn a_queue_is_a_level_by_reason_and_priority() {
    let (scope, mut rec) = scope();
    let urgent = Series { priority: 3, ..scope.series(1) }.priority();
    rec.queue(Wait::Grammar, urgent, 9);
    rec.queue(Wait::Grammar, urgent, 4);
    assert_eq!(scope.level(|cells| &cells.levels.queue[Wait::Grammar as usize][3]), 4);
    assert_eq!(scope.level(|cells| &cells.levels.queue_told), 1);
}
