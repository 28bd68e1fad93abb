//! What recording costs a whole engine loop: the demo's simulated engine (real traffic, paged blocks, chunked
//! prefill, preemption, and its own record of everything) with the recorder on and disabled, in turns.
//! Writes `target/bench/engine.json`.
//!
//! The model costs nothing here, so the share is far above what a real engine sees: it is the recorder
//! against a scheduler in Rust. `cargo bench --bench engine -- [PAIRS]`; under `cargo test` one short pair.
#![allow(missing_docs)]

use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stepscope::{Clock, Config, ManualClock, Stepscope, Time};
use stepscope_benches::{arguments, is_smoke, median, save};
use stepscope_sim::truth::Run;
use stepscope_sim::{Engine, Options, Profile, Sabotage, Scenario, Trace};

#[derive(Serialize)]
struct Row {
    pairs: usize,
    tokens: u64,
    /// Tokens per second of wall time, medians.
    tokens_per_second_on: f64,
    tokens_per_second_off: f64,
    /// Time with recording over time without: median over the pairs, and an interval that holds the true
    /// median with 95 % (of the pairs' order statistics).
    ratio: f64,
    ratio_low: f64,
    ratio_high: f64,
    /// What that is for one token, in ns: verbs, drain and row closes together.
    ns_per_token: f64,
}

/// Simulates so many seconds: (wall seconds, tokens).
fn run(trace: &Arc<Trace>, seconds: u64, recording: bool) -> (f64, u64) {
    let start = Time::from_nanos(1_000_000_000);
    let clock = Clock::Manual(ManualClock::new(start));
    let config = Config { listen: None, clock, ..Config::default() };
    let scope = Stepscope::start(config.clone()).expect("the defaults start");
    let profile = Profile::named("8b").expect("a profile of the list");
    let truth = Run::of(&config, profile.kv_block_tokens());
    let options = Options {
        profile,
        scenario: Scenario::Healthy,
        inject: (Duration::ZERO, Duration::ZERO),
        seed: 7,
        speculation: false,
        worker: 0,
        workers: 1,
        sabotage: (!recording).then_some(Sabotage::Mute),
    };
    let mut engine = Engine::new(&scope, truth, trace.clone(), start, options);
    let until = start.after(Duration::from_secs(seconds));
    let begin = Instant::now();
    let mut drained = start;
    while let Some(next) = engine.next_at().filter(|next| *next <= until) {
        engine.advance_to(next);
        // As often as the aggregate thread would come by.
        if next >= drained.after(Duration::from_millis(100)) {
            scope.advance(next);
            drained = next
        }
    }
    scope.advance(until);
    (begin.elapsed().as_secs_f64(), engine.progress().generated_tokens)
}

fn main() -> std::io::Result<()> {
    let smoke = is_smoke();
    let pairs =
        if smoke { 1 } else { arguments().first().and_then(|n| n.parse().ok()).unwrap_or(25) };
    let seconds = if smoke { 5 } else { 300 };
    let trace = Arc::new(Trace::builtin_azure());
    let (mut on, mut off, mut tokens) = (vec![], vec![], 0);
    run(&trace, 5, true);
    for pair in 0..pairs {
        for recording in [pair % 2 == 0, pair % 2 == 1] {
            let (took, generated) = run(&trace, seconds, recording);
            assert!(tokens == 0 || tokens == generated, "both runs do the same");
            tokens = generated;
            if recording { on.push(took) } else { off.push(took) }
        }
    }
    let mut ratios: Vec<f64> = on.iter().zip(&off).map(|(on, off)| on / off).collect();
    let mut extra: Vec<f64> = on.iter().zip(&off).map(|(on, off)| on - off).collect();
    let ratio = median(&mut ratios);
    // Order statistics around the median: n/2 -+ 0.98 sqrt(n) hold it with 95 %.
    let reach = (0.98 * (pairs as f64).sqrt()).ceil() as usize;
    let row = Row {
        pairs,
        tokens,
        tokens_per_second_on: tokens as f64 / median(&mut on),
        tokens_per_second_off: tokens as f64 / median(&mut off),
        ratio,
        ratio_low: ratios[(pairs / 2).saturating_sub(reach)],
        ratio_high: ratios[(pairs / 2 + reach).min(pairs - 1)],
        ns_per_token: median(&mut extra) * 1e9 / tokens as f64,
    };
    println!("{} tokens a run, {} pairs of runs", row.tokens, row.pairs);
    println!("tokens/s with recording    {:12.0}", row.tokens_per_second_on);
    println!("tokens/s without           {:12.0}", row.tokens_per_second_off);
    println!(
        "ratio of times             {ratio:12.4} ({:.4} to {:.4})",
        row.ratio_low, row.ratio_high
    );
    println!("ns per token, all of it    {:12.1}", row.ns_per_token);
    save("engine", pairs as f64, &[row])
}
