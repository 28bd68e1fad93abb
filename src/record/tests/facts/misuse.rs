//! What an engine should not do, and what then happens: it is counted and harms nothing.

use super::super::harness::{FakeLane, Scope, scheduled, step_at};
use super::{all, finish_all, scope};
use crate::record::cells::cell;
use crate::record::event::Metric;
use crate::record::request::{Pool, State};
use crate::record::step::{Launch, Shape, StepSource};
use crate::record::words::{Discard, Invalid, Outcome, Preempt, Role, Wait};
use crate::record::{Recorder, Request, Time};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn an_empty_slot_is_counted_and_changes_nothing() {
    let (mut scope, mut rec) = scope();
    // As C hands it over: all zero, the stamp too.
    let mut zeroed = Request::empty();
    zeroed.stamp = 0;
    for mut slot in [Request::empty(), zeroed] {
        rec.enqueue(&mut slot, Time(1));
        rec.tokens(&step_at(2), [(&mut slot, 1)]);
        rec.discard(&slot, Discard::StopSurplus, 3);
        rec.spec(&slot, 4, 2);
        rec.emitted(&mut slot.stream(), Time(3));
        rec.finish(slot, Time(4), Outcome::Stop)
    }
    scope.drain();
    assert_eq!(scope.invalid(Invalid::NotLive), 12);
    assert_eq!(scope.drained_events, 0);
    assert_eq!((0..cell::USED).map(|cell| scope.sum(cell)).sum::<u64>(), 0);
}

#[test]
fn what_comes_after_the_end_is_counted_and_changes_nothing() {
    let (mut scope, mut rec) = scope();
    let mut req = scheduled(&mut rec, scope.series(1), 1, 10);
    rec.finish_in_place(&mut req, Time(20), Outcome::Stop);
    scope.drain();
    let before = scope.drained_events;
    rec.finish_in_place(&mut req, Time(30), Outcome::Stop);
    rec.token(&step_at(30), &mut req, 1);
    rec.discard(&req, Discard::StopSurplus, 3);
    scope.drain();
    assert_eq!(scope.invalid(Invalid::AlreadyEnded), 3);
    assert_eq!(scope.drained_events, before);
    assert_eq!([scope.ended(), scope.sum(cell::GENERATED)], [1, 0]);
}

#[test]
fn a_dropped_request_leaves_no_gauge_behind() {
    let (scope, mut rec) = scope();
    let series = scope.series(1);
    let mut running = scheduled(&mut rec, series, 1, 10);
    let waiting = rec.arrive(series, 2, Time(10));
    let child = rec.fork(&mut running);
    drop((running, waiting, child));
    assert_eq!([scope.in_flight(), scope.waiting(), scope.running()], [0; 3]);
    assert_eq!(scope.dropped(), [2, 1, 2], "requests, waiting and running sequences");
}

#[test]
fn a_decoding_stranger_with_an_equal_stamp_is_noticed_at_its_next_other_verb() {
    let (ours, mut rec) = scope();
    let (theirs, mut far) = scope();
    let mut reqs =
        [scheduled(&mut rec, ours.series(1), 1, 10), scheduled(&mut far, theirs.series(1), 2, 10)];
    rec.token(&step_at(100), &mut reqs[0], 1);
    far.token(&step_at(100), &mut reqs[1], 1);
    rec.tokens(&step_at(200), all(&mut reqs, 1));
    assert_eq!(ours.invalid(Invalid::Foreign), 0);
    assert_eq!(ours.cell(1, cell::GENERATED), 3, "it went with the run");
    finish_all(&mut rec, reqs, 300);
    assert_eq!(ours.invalid(Invalid::Foreign), 1);
    assert_eq!([ours.in_flight(), theirs.in_flight()], [0, 1]);
}

#[test]
fn an_iterator_that_panics_poisons_nothing() {
    let (mut scope, mut rec) = scope();
    let series = scope.series(1);
    let mut reqs: Vec<Request> = (0..4).map(|id| scheduled(&mut rec, series, id, 10)).collect();
    rec.tokens(&step_at(100), all(&mut reqs, 1));
    let (gone, rest) = reqs.split_at_mut(2);
    let broken = gone.iter_mut().map(Some).chain([None]).map(|req| (req.expect("the third"), 1));
    let unwound = catch_unwind(AssertUnwindSafe(|| rec.tokens(&step_at(200), broken)));
    assert!(unwound.is_err());
    // The same last emission, another step: what the broken batch knew of it must be void.
    rec.tokens(&step_at(300), all(rest, 1));
    scope.drain();
    let gaps = &scope.samples[&(Metric::Gap, 1, 1)];
    assert_eq!(gaps.get(&200), Some(&2), "the rest is exact: {gaps:?}");
    finish_all(&mut rec, reqs, 400);
    assert!(scope.invalids().iter().all(|count| *count == 0));
}

#[test]
fn a_disabled_recorder_takes_every_verb() {
    let scope = Scope::new(Role::Both);
    let mut rec = Recorder::disabled();
    rec.set_lane(FakeLane::default());
    let mut req = rec.arrive(scope.series(1), 1, Time(1));
    let origin = rec.origin(&req, Time(1));
    let mut other = rec.arrive_from(scope.series(1), 2, origin, Time(1));
    rec.enqueue(&mut req, Time(1));
    rec.schedule(&mut req, Time(1), 0, 0);
    rec.prefill(&mut req, 1);
    let mut open = rec.begin_step(Time(1), Shape::default());
    rec.launched(&mut open, Launch::Stamp);
    let step = rec.end_step(open, Time(2));
    assert_eq!((step.time(), step.source()), (Time(2), StepSource::Host));
    let open = rec.begin_step(Time(2), Shape::default());
    rec.abandon(open);
    rec.tokens(&step, [(&mut req, 1)]);
    rec.token(&step, &mut other, 1);
    rec.emitted(&mut req.stream(), Time(2));
    rec.preempt(&mut req, Time(2), Preempt::Memory);
    let child = rec.fork(&mut req);
    rec.first_from(&mut req, &child);
    rec.join(&mut req, child, Time(2), None);
    rec.discard(&req, Discard::StopSurplus, 1);
    rec.spec(&req, 1, 1);
    rec.queue(Wait::Capacity, scope.series(1).priority(), 1);
    rec.kv(Pool::KV, 1, 1, 1, 1);
    rec.finish_in_place(&mut req, Time(3), Outcome::Stop);
    assert_eq!((req.state(), req.tokens()), (State::Ended, 0));
    rec.finish(other, Time(3), Outcome::Stop)
}

#[test]
fn a_recorder_outlives_its_reader_without_harm() {
    let mut scope = Scope::new(Role::Both);
    let series = scope.series(1);
    let mut rec = scope.recorder(4);
    drop(scope);
    for id in 0..100 {
        let req = scheduled(&mut rec, series, id, 1);
        rec.finish(req, Time(2), Outcome::Stop)
    }
}
