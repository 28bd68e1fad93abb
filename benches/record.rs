//! ns per verb and per token. Writes `target/bench/record.json`.
//!
//! Rounds of all cases are interleaved, so that drift of the machine hits all alike; the loop around
//! the measured call is measured too and subtracted. Figures are medians. They inform; what decides
//! are ratios of one run and the instruction counts of `record_insn`.
//!
//! `cargo bench --bench record -- [FILTER] [ROUNDS]`; under `cargo test` one short round runs.
#![allow(missing_docs)]

use serde::Serialize;
use std::hint::black_box;
use std::time::Instant;
use stepscope::{Class, Outcome, Pool, Preempt, Recorder, Shape, Step, Time, Wait};
use stepscope_benches::{Bench, CASES, Case, arguments, is_smoke, quiet_scope, recorder, save};

/// Tokens in one round of a case: enough for the clock, few enough for the ring.
const ROUND_TOKENS: usize = 6_000;

#[derive(Clone, Serialize)]
struct Row {
    name: String,
    /// ns per token or per call, loop subtracted where the name does not say otherwise.
    ns: f64,
    min: f64,
    p90: f64,
}

fn main() -> std::io::Result<()> {
    let args = arguments();
    let smoke = is_smoke();
    let filter = args.first().cloned().unwrap_or_default();
    let rounds = if smoke { 1 } else { args.get(1).and_then(|n| n.parse().ok()).unwrap_or(60) };
    let tokens = measure_tokens(&filter, rounds);
    let verbs = measure_verbs(&filter, if smoke { 1 } else { 200 });
    print("ns per token", &tokens);
    print("ns per call", &verbs);
    save("record", rounds as f64, &[tokens, verbs].concat())
}

fn print(title: &str, rows: &[Row]) {
    println!("{title:<36} {:>8} {:>8} {:>8}", "median", "min", "p90");
    for row in rows {
        println!("{:<36} {:8.2} {:8.2} {:8.2}", row.name, row.ns, row.min, row.p90)
    }
}

fn row(name: &str, mut samples: Vec<f64>) -> Row {
    samples.sort_by(f64::total_cmp);
    let n = samples.len();
    Row { name: name.into(), ns: samples[n / 2], min: samples[0], p90: samples[n * 9 / 10] }
}

fn measure_tokens(filter: &str, rounds: usize) -> Vec<Row> {
    let selected: Vec<Case> =
        CASES.iter().copied().filter(|case| case.name.contains(filter)).collect();
    let mut benches: Vec<(Case, Bench, Vec<f64>)> =
        selected.into_iter().map(|case| (case, Bench::new(case), vec![])).collect();
    for _ in 0..rounds {
        for (case, bench, samples) in &mut benches {
            bench.drain();
            let full = round(*case, bench, true);
            bench.drain();
            let loop_only = round(*case, bench, false);
            samples.push(full - loop_only)
        }
    }
    benches
        .into_iter()
        .map(|(case, bench, samples)| {
            bench.check_nothing_lost();
            row(case.name, samples)
        })
        .collect()
}

/// ns per token of one round, with the measured call or without it.
fn round(case: Case, bench: &mut Bench, with: bool) -> f64 {
    let steps = (ROUND_TOKENS / case.batch).clamp(16, 4_000);
    let begin = Instant::now();
    for _ in 0..steps {
        let step = bench.prepare();
        if with {
            bench.tokens(&step)
        } else {
            black_box(&mut *bench);
        }
    }
    let ns = begin.elapsed().as_nanos() as f64;
    if !with {
        bench.skip()
    }
    ns / (steps * case.batch) as f64
}

/// Calls in one round of a verb.
const CALLS: usize = 2_000;

fn measure_verbs(filter: &str, rounds: usize) -> Vec<Row> {
    let scope = quiet_scope();
    let class = scope.series(Class::endpoint("chat"));
    let mut rec = recorder(&scope);
    let mut disabled = Recorder::disabled();
    let mut now = 1_000u64;
    let mut rows = vec![];
    let mut req = rec.arrive(class, 1, Time::from_nanos(now));
    rec.enqueue(&mut req, Time::from_nanos(now));
    rec.schedule(&mut req, Time::from_nanos(now), 0, 0);
    let mut verb = |name: &str, calls: usize, call: &mut dyn FnMut(u64)| {
        if !name.contains(filter) {
            return;
        }
        let samples = (0..rounds).map(|_| {
            scope.advance(Time::from_nanos(now));
            let begin = Instant::now();
            for _ in 0..calls {
                now += 10_000_000;
                call(now)
            }
            begin.elapsed().as_nanos() as f64 / calls as f64
        });
        rows.push(row(name, samples.collect()))
    };
    let at = Time::from_nanos;
    verb("empty loop, included in all below", CALLS, &mut |now| {
        black_box(now);
    });
    verb("Time::now", CALLS, &mut |_| {
        black_box(Time::now());
    });
    verb("token, one sequence", CALLS, &mut |now| {
        rec.token(&Step::bench_at(at(now)), black_box(&mut req), 1)
    });
    verb("prefill", CALLS, &mut |_| rec.prefill(black_box(&mut req), 1));
    verb("queue", CALLS, &mut |now| rec.queue(Wait::Capacity, class.priority(), now as u32));
    verb("kv", CALLS, &mut |now| rec.kv(Pool::KV, now as u32 & 0xff, 1, 1_000, 5));
    verb("begin_step + end_step", CALLS, &mut |now| {
        let shape = Shape { prefills: 0, prefill_tokens: 0, decodes: 8 };
        let open = rec.begin_step(at(now), shape);
        black_box(rec.end_step(open, at(now + 900)));
    });
    verb("preempt + schedule", CALLS, &mut |now| {
        rec.preempt(&mut req, at(now), Preempt::Memory);
        rec.schedule(&mut req, at(now + 5), 0, 0)
    });
    // Fewer, because each life leaves a dozen events in the ring.
    verb("whole life, two tokens, six verbs", CALLS / 4, &mut |now| {
        let mut req = rec.arrive(class, 1, at(now));
        rec.enqueue(&mut req, at(now));
        rec.schedule(&mut req, at(now), 0, 0);
        rec.token(&Step::bench_at(at(now + 7)), &mut req, 1);
        rec.token(&Step::bench_at(at(now + 99)), &mut req, 1);
        rec.finish(req, at(now + 100), Outcome::Stop)
    });
    let mut idle = disabled.arrive(class, 1, at(1));
    verb("disabled token", CALLS, &mut |now| {
        black_box(&mut disabled).token(&Step::bench_at(at(now)), black_box(&mut idle), 1)
    });
    rec.finish(req, Time::from_nanos(u64::MAX >> 16), Outcome::Stop);
    rows
}
