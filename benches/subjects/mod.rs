//! What engines record latencies with today, each as its users call it, and ours beside them.
//!
//! All have the same buckets, the same labels, a hundred series in the registry, and record the same gaps.

mod metrics_crate;
mod opentelemetry_crate;
mod ours;
mod prometheus_client_crate;
mod prometheus_crate;
mod raw;

pub use metrics_crate::encoder as metrics;
pub use opentelemetry_crate::encoder as opentelemetry;
pub use prometheus_client_crate::encoder as prometheus_client;
pub use prometheus_crate::encoder as prometheus;
use std::time::Instant;
use stepscope_benches::{Subject, measured_loop};

/// vLLM's inter-token bounds and 5 ms before them, in seconds.
pub const BOUNDS: [f64; 20] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0,
];
/// The family.
pub const NAME: &str = "itl_seconds";
/// Value of the label `model`.
pub const MODEL: &str = "meta-llama/Llama-3.1-8B-Instruct";
/// Series in each registry.
pub const SERIES: usize = 100;
/// Samples in a round of a fast recorder, and of one that is asked more.
const ROUND: usize = 60_000;

/// Gaps between tokens in seconds, from 4 to 107 ms.
fn gap(i: usize) -> f64 {
    0.004 * [1.0, 1.6, 2.56, 4.1, 6.55, 10.5, 16.8, 26.8][i & 7]
}

/// A recorder, as what it does to one sample and what it must do now and then, untimed.
struct Peer<F, R> {
    name: &'static str,
    round: usize,
    record: F,
    now_and_then: R,
}

impl<F: FnMut(f64), R: FnMut()> Subject for Peer<F, R> {
    fn name(&self) -> &str {
        self.name
    }

    fn round(&mut self) -> f64 {
        let record = &mut self.record;
        let begin = Instant::now();
        measured_loop(self.round, |i| record(gap(i)));
        let ns = begin.elapsed().as_nanos() as f64;
        (self.now_and_then)();
        ns / self.round as f64
    }

    fn count(&mut self, samples: usize) {
        let record = &mut self.record;
        measured_loop(samples, |i| record(gap(i)));
        (self.now_and_then)()
    }
}

fn peer(name: &'static str, round: usize, record: impl FnMut(f64) + 'static) -> Box<dyn Subject> {
    Box::new(Peer { name, round, record, now_and_then: || () })
}

/// Encodes a page, and says how long it is.
pub type Encoder = Box<dyn FnMut() -> usize>;

/// Everybody; the first is what the others are compared with.
pub fn all() -> Vec<Box<dyn Subject>> {
    let families = [
        ours::subjects(),
        prometheus_client_crate::subjects(),
        prometheus_crate::subjects(),
        metrics_crate::subjects(),
        opentelemetry_crate::subjects(),
        raw::subjects(),
    ];
    families.into_iter().flatten().collect()
}
