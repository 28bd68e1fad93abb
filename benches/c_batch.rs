//! What the C interface adds: the same batches through Rust and through C, interleaved, as ratios.
//! Writes `target/bench/c_batch.json`.
//!
//! Both record the same facts; what C adds is the panic wall, the look at every pointer, the thread's
//! claim on the recorder, a call that cannot be inlined, and requests that lie in the engine's own
//! structs. The drain between rounds is not measured. Ratios of medians; instruction counts of the
//! same pairs, which decide, are in `record_insn`.
//!
//! `cargo bench --bench c_batch -- [ROUNDS]`; under `cargo test` one short round runs.
#![allow(missing_docs)]

use serde::Serialize;
use std::time::Instant;
use stepscope_benches::{Bench, CBench, RING_EVENTS, arguments, equal, is_smoke, save};

const ROUND_TOKENS: usize = 6_000;

/// Medians in ns per token.
#[derive(Serialize)]
struct Row {
    name: String,
    rust: f64,
    c: f64,
    ratio: f64,
}

struct Pair {
    name: &'static str,
    batch: usize,
    /// One call a sequence instead of one a batch.
    singly: bool,
    rust: Bench,
    c: CBench,
    accepted: Vec<u32>,
    samples: [Vec<f64>; 2],
}

impl Pair {
    fn new(name: &'static str, batch: usize, singly: bool) -> Pair {
        Pair {
            name,
            batch,
            singly,
            rust: Bench::new(equal(name, batch)),
            c: CBench::new(batch, RING_EVENTS as u32),
            accepted: vec![1; batch],
            samples: [vec![], vec![]],
        }
    }

    fn steps(&self) -> usize {
        (ROUND_TOKENS / self.batch).clamp(16, 4_000)
    }

    /// A round of each; only the verb's own time counts.
    fn round(&mut self) {
        let tokens = (self.steps() * self.batch) as f64;
        let (mut rust, mut c) = (0, 0);
        for _ in 0..self.steps() {
            let step = self.rust.prepare();
            let begin = Instant::now();
            if self.singly {
                self.rust.token_by_token(&step)
            } else {
                self.rust.tokens(&step)
            }
            rust += begin.elapsed().as_nanos();
            self.c.prepare();
            let begin = Instant::now();
            if self.singly {
                self.c.token_by_token(&self.accepted)
            } else {
                self.c.tokens(&self.accepted)
            }
            c += begin.elapsed().as_nanos()
        }
        self.rust.drain();
        self.c.drain();
        for (samples, ns) in self.samples.iter_mut().zip([rust, c]) {
            samples.push(ns as f64 / tokens)
        }
    }

    fn row(&mut self) -> Row {
        self.rust.check_nothing_lost();
        let [rust, c] = [0, 1].map(|side: usize| {
            let samples = &mut self.samples[side];
            samples.sort_by(f64::total_cmp);
            samples[samples.len() / 2]
        });
        Row { name: self.name.into(), rust, c, ratio: c / rust }
    }
}

fn main() -> std::io::Result<()> {
    let args = arguments();
    let smoke = is_smoke();
    let rounds = if smoke { 1 } else { args.first().and_then(|n| n.parse().ok()).unwrap_or(200) };
    let mut pairs = [
        Pair::new("batch 256", 256, false),
        Pair::new("batch 64", 64, false),
        Pair::new("batch 8", 8, false),
        Pair::new("one by one", 64, true),
    ];
    for _ in 0..rounds {
        pairs.iter_mut().for_each(Pair::round)
    }
    let rows: Vec<Row> = pairs.iter_mut().map(Pair::row).collect();
    println!("{:<12} {:>8} {:>8} {:>8}", "ns per token", "Rust", "C", "ratio");
    for row in &rows {
        println!("{:<12} {:8.2} {:8.2} {:8.2}", row.name, row.rust, row.c, row.ratio)
    }
    save("c_batch", rounds as f64, &rows)
}
