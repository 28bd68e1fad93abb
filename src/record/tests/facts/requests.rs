//! Requests, their sequences and tokens.

use super::super::harness::{
    CLOCK, Exemplar, MS, Scope, TBT_OBJECTIVE, TTFT_OBJECTIVE, scheduled, step_at,
};
use super::{all, finish_all, scope, scope_of};
use crate::record::cells::cell;
use crate::record::event::Metric;
use crate::record::words::{Discard, Invalid, Outcome, Preempt, Role};
use crate::record::{OpenStep, Origin, Recorder, Request, Step, Stream, Time};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

/// Cells of the objectives, missed and met.
const TTFT_JUDGED: [usize; 2] = [cell::SLO + 2, cell::SLO + 3];
const TBT_JUDGED: [usize; 2] = [cell::SLO + 4, cell::SLO + 5];

fn sums<const N: usize>(scope: &Scope, cells: [usize; N]) -> [u64; N] {
    cells.map(|cell| scope.sum(cell))
}

#[test]
fn a_request_crosses_threads_and_accepted_never_reads_below_ended() {
    let requests = if cfg!(miri) { 200 } else { 300_000 };
    let mut scope = Scope::new(Role::Both);
    let series = scope.series(1);
    let (mut api, mut engine) = (scope.recorder(1 << 10), scope.recorder(1 << 10));
    let (send, receive) = mpsc::sync_channel::<Request>(64);
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(move || {
            for id in 0..requests {
                send.send(api.arrive(series, id, Time(1 + id))).unwrap()
            }
        });
        threads.spawn(|| {
            for req in receive {
                engine.finish(req, Time(requests), Outcome::Stop)
            }
            done.store(true, Ordering::Release)
        });
        while !done.load(Ordering::Acquire) {
            let in_flight = scope.in_flight();
            assert!(in_flight >= 0, "{in_flight} in flight");
            scope.drain()
        }
    });
    scope.drain();
    assert_eq!([scope.in_flight(), scope.waiting(), scope.running()], [0; 3]);
    assert_eq!(scope.ended(), requests);
    assert_eq!(scope.count(Metric::Duration) + scope.ring().dropped_samples, requests);
}

#[test]
fn a_batch_says_one_event_per_distinct_gap_class_and_count() {
    let (mut scope, mut rec) = scope();
    let classes = [scope.series(1), scope.series(2)];
    let mut reqs: Vec<Request> =
        (0..256).map(|id| scheduled(&mut rec, classes[id as usize % 2], id, 10)).collect();
    rec.tokens(&step_at(1_000), all(&mut reqs, 1));
    scope.drain();
    let before = scope.drained_events;
    let counts = (0..).map(|i| 1 + i / 2 % 2);
    rec.tokens(&step_at(3_000), reqs.iter_mut().zip(counts));
    scope.drain();
    assert_eq!(scope.drained_events - before, 4);
    assert_eq!(scope.total(Metric::Gap), (256, 256 * 2_000));
    assert_eq!(scope.sum(cell::GENERATED), 256 + 384);
    finish_all(&mut rec, reqs, 4_000)
}

#[test]
fn more_distinct_gaps_than_the_buffer_holds_stay_exact() {
    let (mut scope, mut rec) = scope();
    let series = scope.series(1);
    let mut reqs: Vec<Request> = (0..300).map(|id| scheduled(&mut rec, series, id, 10)).collect();
    for (req, ago) in reqs.iter_mut().zip((0..100).cycle()) {
        rec.token(&step_at(1_000 + ago), req, 1)
    }
    rec.tokens(&step_at(10_000), all(&mut reqs, 1));
    scope.drain();
    let gaps = &scope.samples[&(Metric::Gap, 1, 1)];
    assert_eq!(gaps.len(), 100);
    assert!(gaps.values().all(|weight| *weight == 3), "each gap three times: {gaps:?}");
    assert_eq!(scope.sum(cell::GENERATED), 600);
    finish_all(&mut rec, reqs, 11_000)
}

#[test]
fn one_slow_gap_in_a_hundred_still_meets_the_objective() {
    let (scope, mut rec) = scope();
    let series = scope.series(1);
    let mut judged = |gaps: u64| {
        let before = sums(&scope, TBT_JUDGED);
        let mut req = scheduled(&mut rec, series, 1, 10);
        let mut now = 1_000;
        rec.token(&step_at(now), &mut req, 1);
        for i in 0..gaps {
            now += TBT_OBJECTIVE + (i == 0) as u64;
            rec.token(&step_at(now), &mut req, 1)
        }
        rec.finish(req, Time(now), Outcome::Stop);
        let after = sums(&scope, TBT_JUDGED);
        [after[0] - before[0], after[1] - before[1]]
    };
    assert_eq!(judged(100), [0, 1]);
    assert_eq!(judged(99), [1, 0]);
    assert_eq!(judged(0), [0, 0], "without a gap there is nothing to judge");
}

#[test]
fn gaps_of_a_joined_child_count_for_its_request_even_before_the_lead_speaks() {
    // The child has one gap, a slow one, and the lead one slow gap of its own: two in a hundred are
    // reached with 199 gaps of the lead, not with 198.
    for (gaps, judged) in [(199, [0, 1]), (198, [1, 0])] {
        let (scope, mut rec) = scope();
        let mut lead = scheduled(&mut rec, scope.series(1), 1, 10);
        let mut child = rec.fork(&mut lead);
        let mut now = 1_000;
        rec.token(&step_at(now), &mut child, 1);
        now += 2 * TBT_OBJECTIVE;
        rec.token(&step_at(now), &mut child, 1);
        rec.join(&mut lead, child, Time(now), None);
        for i in 0..=gaps {
            now += TBT_OBJECTIVE + (i == 1) as u64;
            rec.token(&step_at(now), &mut lead, 1)
        }
        rec.finish(lead, Time(now), Outcome::Stop);
        assert_eq!(sums(&scope, TBT_JUDGED), judged)
    }
}

#[test]
fn a_slow_gap_names_one_request_however_many_had_it() {
    let (mut scope, mut rec) = scope();
    let series = scope.series(1);
    let mut reqs: Vec<Request> =
        (0..64).map(|id| scheduled(&mut rec, series, 100 + id, 10)).collect();
    let first = 3_000 * MS;
    rec.tokens(&step_at(first), all(&mut reqs, 1));
    rec.tokens(&step_at(first + 90 * MS), all(&mut reqs, 1));
    scope.drain();
    let of_gaps = |e: &&Exemplar| e.metric == Metric::Gap as u8;
    let gaps: Vec<&Exemplar> = scope.exemplars.iter().filter(of_gaps).collect();
    assert_eq!(gaps, [&Exemplar { metric: Metric::Gap as u8, class: 1, id: 100, us: 90_000 }]);
    assert_eq!(scope.total(Metric::Gap), (64, 64 * 90 * MS));
    // A slow TTFT is a matter of one request.
    assert_eq!(scope.exemplars.len(), 1 + 64);
    finish_all(&mut rec, reqs, 4_000 * MS);
    assert_eq!(sums(&scope, [TTFT_JUDGED[0], TBT_JUDGED[0]]), [64, 64]);
}

#[test]
fn the_objective_itself_is_still_in_time_with_a_first_token_and_without() {
    let (scope, mut rec) = scope();
    let series = scope.series(1);
    for waited in [TTFT_OBJECTIVE, TTFT_OBJECTIVE + 1] {
        let mut req = rec.arrive(series, 1, Time(10));
        rec.token(&step_at(10 + waited), &mut req, 1);
        rec.finish(req, Time(10 + waited), Outcome::Stop)
    }
    assert_eq!(sums(&scope, TTFT_JUDGED), [1, 1]);
    for waited in [TTFT_OBJECTIVE, TTFT_OBJECTIVE + 1] {
        let req = rec.arrive(series, 1, Time(10));
        rec.finish(req, Time(10 + waited), Outcome::Aborted)
    }
    // Who leaves in time says nothing about the objective; who leaves late missed it.
    assert_eq!(sums(&scope, TTFT_JUDGED), [2, 1]);
    assert_eq!(scope.sum(cell::NO_FIRST), 2)
}

#[test]
fn a_hand_over_keeps_the_arrival_and_the_prefill_worker_reports_no_ttft() {
    let (mut prefill, mut p) = scope_of(Role::Prefill);
    let (mut decode, mut d) = scope_of(Role::Decode);
    let mut req = p.arrive(prefill.series(1), 5, Time(1_000));
    p.enqueue(&mut req, Time(1_100));
    p.schedule(&mut req, Time(1_200), 0, 0);
    p.prefill(&mut req, 100);
    p.token(&step_at(5_000), &mut req, 1);
    let mut stream = req.stream();
    p.emitted(&mut stream, Time(5_050));
    let same_boot = p.origin(&req, Time(5_100));
    p.finish(req, Time(5_100), Outcome::Handover);
    // On another machine its clock means nothing: only the elapsed time counts.
    let elsewhere = Origin { clock: CLOCK + 1, recv_ns: 123, ..same_boot };
    for (from, at) in [(same_boot, 6_000), (elsewhere, 106_000)] {
        let mut req = d.arrive_from(decode.series(1), 5, from, Time(at));
        d.enqueue(&mut req, Time(at));
        d.schedule(&mut req, Time(at), 0, 100);
        d.token(&step_at(at + 1_000), &mut req, 1);
        d.finish(req, Time(at + 1_500), Outcome::Stop)
    }
    prefill.drain();
    decode.drain();
    assert_eq!(prefill.count(Metric::Ttft) + prefill.count(Metric::TtftUser), 0);
    assert_eq!(prefill.invalid(Invalid::Role), 1, "a prefill worker has no user's stream");
    assert_eq!(sums(&prefill, TTFT_JUDGED), [0, 0]);
    let transit_missing = 5_100 - 1_000;
    assert_eq!(decode.total(Metric::Ttft), (2, (7_000 - 1_000) + (transit_missing + 1_000)));
    assert_eq!(decode.invalid(Invalid::ForeignClock), 1);
    assert_eq!(sums(&decode, [cell::PROMPT, cell::PROMPT + 2]), [0, 200]);
}

#[test]
fn n_sequences_count_once_where_the_request_counts() {
    let (mut scope, mut rec) = scope();
    let mut lead = scheduled(&mut rec, scope.series(1), 1, 10);
    rec.prefill(&mut lead, 8);
    let mut children: Vec<Request> = (0..3).map(|_| rec.fork(&mut lead)).collect();
    for now in [100, 200] {
        let batch = std::iter::once(&mut lead).chain(&mut children).map(|req| (req, 1));
        rec.tokens(&step_at(now), batch)
    }
    for child in children {
        rec.join(&mut lead, child, Time(210), Some(Discard::Beam))
    }
    rec.finish(lead, Time(220), Outcome::Stop);
    scope.drain();
    for once in [Metric::Admission, Metric::Queue, Metric::Ttft, Metric::Tpot, Metric::Duration] {
        assert_eq!(scope.count(once), 1, "{once:?}")
    }
    for per_sequence in [Metric::Prefill, Metric::Decode, Metric::Gap] {
        assert_eq!(scope.count(per_sequence), 4, "{per_sequence:?}")
    }
    let beam = cell::DISCARDED + Discard::Beam as usize;
    assert_eq!(sums(&scope, [cell::GENERATED, beam, cell::PROMPT]), [8, 6, 8]);
    assert_eq!([scope.in_flight(), scope.running()], [0, 0]);
}

#[test]
fn a_childs_first_token_is_the_requests_as_soon_as_it_is_named() {
    let (mut scope, mut rec) = scope();
    let mut lead = scheduled(&mut rec, scope.series(1), 1, 10);
    let mut child = rec.fork(&mut lead);
    rec.token(&step_at(100), &mut child, 1);
    rec.first_from(&mut lead, &child);
    rec.token(&step_at(300), &mut lead, 1);
    rec.join(&mut lead, child, Time(400), None);
    rec.finish(lead, Time(400), Outcome::Stop);
    scope.drain();
    assert_eq!(scope.total(Metric::Ttft), (1, 90));
}

#[test]
fn recompute_is_neither_prompt_nor_cache_hit() {
    let (scope, mut rec) = scope();
    let mut req = rec.arrive(scope.series(1), 1, Time(10));
    rec.enqueue(&mut req, Time(20));
    rec.schedule(&mut req, Time(30), 16, 0);
    rec.prefill(&mut req, 64);
    rec.prefill(&mut req, 20);
    for i in 1..=5 {
        rec.token(&step_at(100 * i), &mut req, 1)
    }
    rec.preempt(&mut req, Time(510), Preempt::Memory);
    rec.schedule(&mut req, Time(600), 32, 0);
    // 100 prompt positions and 5 generated ones; the newest of them was in no step before.
    rec.prefill(&mut req, 105 - 32);
    let prompt = [cell::PROMPT, cell::PROMPT + 1];
    assert_eq!(sums(&scope, prompt), [84, 16]);
    assert_eq!(scope.sum(cell::RECOMPUTED), 104 - 32);
    rec.finish(req, Time(710), Outcome::Stop)
}

#[test]
fn what_others_cached_while_a_request_waited_again_is_prompt_for_the_first_time() {
    let (scope, mut rec) = scope();
    let mut req = rec.arrive(scope.series(1), 1, Time(10));
    rec.enqueue(&mut req, Time(20));
    rec.schedule(&mut req, Time(30), 0, 0);
    rec.prefill(&mut req, 16);
    rec.preempt(&mut req, Time(40), Preempt::Memory);
    // 16 of these 48 it had computed itself; the other 32 it never had.
    rec.schedule(&mut req, Time(50), 48, 0);
    rec.prefill(&mut req, 16);
    rec.token(&step_at(100), &mut req, 1);
    rec.preempt(&mut req, Time(110), Preempt::Memory);
    rec.schedule(&mut req, Time(120), 0, 0);
    rec.prefill(&mut req, 64 + 1);
    assert_eq!(sums(&scope, [cell::PROMPT, cell::PROMPT + 1]), [16 + 16, 32]);
    assert_eq!(scope.sum(cell::RECOMPUTED), 64);
    rec.finish(req, Time(130), Outcome::Stop)
}

#[test]
fn a_child_forked_late_recomputes_all_but_its_parents_newest_position() {
    let (scope, mut rec) = scope();
    let mut lead = scheduled(&mut rec, scope.series(1), 1, 10);
    rec.prefill(&mut lead, 100);
    for i in 1..=5 {
        rec.token(&step_at(100 * i), &mut lead, 1)
    }
    let mut child = rec.fork(&mut lead);
    rec.preempt(&mut child, Time(510), Preempt::Memory);
    rec.schedule(&mut child, Time(600), 0, 0);
    rec.prefill(&mut child, 105);
    assert_eq!(scope.sum(cell::RECOMPUTED), 104);
    rec.join(&mut lead, child, Time(700), None);
    rec.finish(lead, Time(700), Outcome::Stop)
}

#[test]
fn a_request_that_reports_no_prompt_has_no_prompt_sample() {
    let (mut scope, mut rec) = scope();
    for positions in [0, 7] {
        let mut req = scheduled(&mut rec, scope.series(1), 1, 10);
        rec.prefill(&mut req, positions);
        rec.token(&step_at(100), &mut req, 2);
        rec.finish(req, Time(100), Outcome::Length)
    }
    scope.drain();
    assert_eq!(scope.total(Metric::PromptTokens), (1, 7));
    assert_eq!(scope.total(Metric::GeneratedTokens), (2, 4));
}

#[test]
fn what_is_kept_in_few_bits_saturates() {
    let (mut scope, mut rec) = scope();
    let mut req = scheduled(&mut rec, scope.series(1), 1, 10);
    for _ in 0..300 {
        rec.preempt(&mut req, Time(20), Preempt::Swap);
        rec.schedule(&mut req, Time(20), 0, 0)
    }
    rec.finish(req, Time(30), Outcome::Stop);
    scope.drain();
    assert_eq!(scope.total(Metric::Preemptions), (1, 255));
    assert_eq!(scope.sum(cell::PREEMPTED + Preempt::Swap as usize), 300, "the counter is exact");
}

#[test]
fn what_an_engine_holds_may_move_to_another_thread() {
    const fn moves<T: Send>() {}
    moves::<Recorder>();
    moves::<Request>();
    moves::<Stream>();
    moves::<OpenStep>();
    moves::<Step>();
}

#[test]
fn a_recorder_is_never_shared_not_even_for_looking() {
    trait Shared<Marker> {
        fn is_not_sync() {}
    }
    impl<T: ?Sized> Shared<()> for T {}
    impl<T: ?Sized + Sync> Shared<[(); 1]> for T {}
    // If it were `Sync`, both would apply and the compiler could not tell which is meant.
    <Recorder as Shared<_>>::is_not_sync()
}
