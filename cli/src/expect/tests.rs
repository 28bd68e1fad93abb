//! Numbers worked out by hand, from five lives of requests.

use super::*;
use crate::book::Amount;
use crate::exposition::Key;
use stepscope::{ErrorType, Phase, Preempt, StepSource};
use stepscope_sim::device::Within;
use stepscope_sim::truth::End;

const MS: u64 = 1_000_000;

/// A request whose times are given in ms.
fn request(recv: u64, enq: Option<u64>, sched: &[u64], tok: &[(u64, u32)]) -> RequestLog {
    RequestLog {
        endpoint: "chat",
        priority: "high",
        recv: recv * MS,
        enq: enq.map(|t| t * MS),
        sched: sched.iter().map(|t| t * MS).collect(),
        tok: tok.iter().map(|(t, k)| (t * MS, *k)).collect(),
        emit: tok.first().map(|(t, _)| (t + 5) * MS),
        prompt_computed: 100,
        prompt_cached: 50,
        recomputed: 7,
        drafted: 9,
        draft_accepted: 5,
        stop_surplus: 1,
        ..RequestLog::default()
    }
}

fn step(begin: u64, end: u64, gpu_ns: Option<u64>) -> StepLog {
    StepLog {
        begin: begin * MS,
        gpu_ns: gpu_ns.map(Within::exactly),
        idle_before_ns: gpu_ns.map(|_| Within::exactly(3 * MS)),
        work: true,
        end: end * MS,
        processed: (end + 10) * MS,
        phase: Phase::Mixed,
        sequences: 3,
        source: if gpu_ns.is_some() { StepSource::Simulated } else { StepSource::Host },
        kv_referenced: 1,
        kv_usable: 3,
    }
}

/// Five lives whose numbers can be worked out by hand.
fn story() -> Truth {
    let evict = |at: u64, why| (at * MS, why);
    let mut evicted = request(10, Some(12), &[20, 300], &[(50, 1), (150, 3), (350, 1)]);
    evicted.evict = vec![evict(160, Preempt::Memory)];
    evicted.end = Some((360 * MS, Outcome::Stop));
    let mut twice = request(10, Some(15), &[20, 200], &[]);
    twice.evict = vec![evict(100, Preempt::Swap), evict(250, Preempt::Memory)];
    twice.end = Some((300 * MS, Outcome::Aborted));
    let mut late = request(11, Some(13), &[], &[]);
    late.end = Some((2_500 * MS, Outcome::Rejected(ErrorType::Overload)));
    let mut refused = request(12, None, &[], &[]);
    refused.end = Some((14 * MS, Outcome::Rejected(ErrorType::Input)));
    let in_flight = request(20, Some(22), &[30], &[(50, 1), (150, 2)]);
    Truth {
        run: Run {
            model: "m".into(),
            worker_id: "w0".into(),
            role: Role::Both,
            engine: "e".into(),
            engine_version: "1".into(),
            gpu_id: "0".into(),
            node: "n".into(),
            ttft_objective_ns: 2_000 * MS,
            tbt_objective_ns: 80 * MS,
            kv_block_tokens: 16,
        },
        requests: vec![evicted, twice, late, refused, in_flight],
        steps: vec![step(20, 50, None), step(120, 150, None), step(320, 350, Some(30 * MS))],
        strays: 0,
        is_running_on: false,
        end: End {
            at: 2_600 * MS,
            queue: vec![("capacity", 0)],
            batch: 1,
            kv_referenced: 30,
            kv_cached: 20,
            kv_usable: 90,
            kv_slots_used: 401,
            ..End::default()
        },
    }
}

fn book() -> Book {
    let at = |ms| Time::from_nanos(ms * MS);
    expect(&story(), Moment { ready: [at(1), at(1)], scraped: [at(2_600), at(2_600)] }, false)
}

#[test]
fn distributions_are_what_the_definitions_say() {
    let book = book();
    // (family, samples, their sum in ms)
    for (id, count, sum) in [
        (Id::Ttft, 2, 40 + 30),
        (Id::TtftUser, 2, 45 + 35),
        (Id::TtftResidual, 2, 0),
        (Id::Tbt, 3, 100 + 200 + 100),
        (Id::Itl, 3 + 1 + 2, 100 + 200 + 100),
        (Id::Tpot, 1, 300 / 4),
        (Id::RequestDuration, 4, 350 + 290 + 2_489 + 2),
        (Id::Admission, 4, 2 + 5 + 2 + 2),
        (Id::Queue, 4, 8 + 5 + 2_487 + 8),
        (Id::Prefill, 2, 30 + 20),
        (Id::Decode, 1, 300),
        (Id::EmitDelay, 1, 10),
        (Id::Requeue, 3, 140 + 100 + 50),
        (Id::PreemptionStall, 3, 190 + 150 + 50),
        (Id::StepHost, 2, 40 + 40),
        (Id::StepGpu, 1, 30),
        (Id::GpuGap, 1, 3),
    ] {
        let samples = book.merged(id);
        let expected = (count, u128::from(MS * sum));
        assert_eq!((samples.count(), samples.sum()), (expected.0, [expected.1; 2]), "{id:?}");
    }
    // Each third is rounded up to a whole ppm.
    assert_eq!(book.merged(Id::KvStepUtilization).sum(), [3 * 333_334; 2]);
    assert_eq!(book.merged(Id::RequestPreemptions).sum(), [1 + 2; 2]);
    assert_eq!(book.merged(Id::RequestGeneratedTokens).sum(), [5; 2]);
    assert_eq!(book.merged(Id::RequestPromptTokens).sum(), [150; 2]);
}

#[test]
fn counters_and_levels_are_what_the_definitions_say() {
    let book = book();
    for (id, with, n) in [
        (Id::RequestsAccepted, ("endpoint", "chat"), 5),
        (Id::Requests, ("status", "rejected"), 2),
        (Id::Errors, ("error_type", "overload"), 1),
        (Id::NoFirstToken, ("reason", "aborted"), 1),
        (Id::NoFirstToken, ("reason", "rejected"), 2),
        (Id::GeneratedTokens, ("model", "m"), 5 + 3),
        (Id::PromptTokens, ("source", "cached"), 5 * 50),
        (Id::DiscardedTokens, ("reason", "draft"), 5 * 4),
        (Id::DiscardedTokens, ("reason", "aborted"), 0),
        (Id::DraftTokens, ("model", "m"), 5 * 9),
        (Id::Preemptions, ("reason", "memory"), 2),
        (Id::StepSource, ("source", "host"), 2),
        (Id::RequestsInFlight, ("model", "m"), 1),
        (Id::RequestsRunning, ("model", "m"), 1),
        (Id::KvBlocks, ("state", "free"), 40),
    ] {
        assert_eq!(book.total(id, &[with]), n, "{id:?} {with:?}");
    }
    let slo =
        |objective, good| book.total(Id::SloEvents, &[("objective", objective), ("good", good)]);
    // The caller's fault is nobody's; both gaps of one request are slow.
    assert_eq!([slo("availability", "true"), slo("availability", "false")], [1, 1]);
    assert_eq!([slo("ttft", "true"), slo("ttft", "false")], [1, 1]);
    assert_eq!([slo("tbt", "true"), slo("tbt", "false")], [0, 1]);
}

#[test]
fn quotients_and_ages_are_those_of_the_moment_of_the_scrape() {
    let expected = book().expected();
    let level = |name: &str| {
        let found = expected.iter().find(|(key, _)| key.name == name);
        found.map(|(_, expected)| expected.amount.as_f64())
    };
    assert_eq!(level("llm_kv_cache_utilization"), Some(30.0 / 90.0));
    assert_eq!(level("llm_kv_slot_usage_ratio"), Some(401.0 / 480.0));
    assert_eq!(level("llm_last_step_age_seconds"), Some(2.24));
    assert_eq!(level("llm_tokens_per_second"), Some(0.8));
}

#[test]
fn every_family_the_engine_can_know_is_expected() {
    let expected = book().expected();
    let is_there = |name: &str| {
        let of_family = |key: &Key| key.name.starts_with(name);
        expected.keys().any(of_family)
    };
    for row in catalog::ROWS.iter().filter(|row| row.presence == Presence::Always) {
        // A cut label would be the demo's own fault; depth stands under two sums.
        let elsewhere = [Id::LabelOverflow, Id::QueueDepth].contains(&row.id);
        let is_ours = !OF_THE_INSTRUMENT.contains(&row.id) && !elsewhere;
        assert_eq!(is_there(row.name), is_ours, "{}", row.name);
    }
    let depth = expected.iter().filter(|(key, _)| key.name == QUEUE_BY_REASON);
    assert_eq!(
        depth.map(|(_, e)| e.amount).collect::<Vec<_>>(),
        vec![Amount::Whole { units: 0, scale: 1 }; labels::WAIT.len()]
    );
}
