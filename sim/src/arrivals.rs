//! This worker's share of a trace: one of several workers behind a round-robin router.

use crate::trace::{Trace, TraceRequest};
use std::sync::Arc;

/// Requests of one worker, without end: when the trace is over it starts again.
#[derive(Debug)]
pub(crate) struct Arrivals {
    trace: Arc<Trace>,
    period_ns: u64,
    workers: usize,
    /// Number of the next request, counted over all workers and rounds of the trace.
    next: usize,
}

impl Arrivals {
    pub(crate) fn new(trace: Arc<Trace>, worker: usize, workers: usize) -> Arrivals {
        let workers = workers.max(1);
        let period_ns = trace.period_ns();
        Arrivals { trace, period_ns, workers, next: worker % workers }
    }

    /// The next request and its time since the start; `None` only for an empty trace.
    pub(crate) fn next(&mut self) -> Option<(u64, TraceRequest)> {
        let length = self.trace.requests.len();
        let round = self.next.checked_div(length)? as u64;
        let request = self.trace.requests.get(self.next % length)?.clone();
        self.next += self.workers;
        Some((round * self.period_ns + request.at_ns, request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(worker: usize) -> Vec<u64> {
        let request = |at_ns| TraceRequest { at_ns, prompt: 1, output: 1, blocks: vec![] };
        let requests = [0, 4_000_000, 10_000_000].map(request).to_vec();
        let trace = Arc::new(Trace { name: "t".into(), requests });
        let mut arrivals = Arrivals::new(trace, worker, 2);
        std::iter::from_fn(|| arrivals.next()).map(|(at, _)| at / 1_000_000).take(4).collect()
    }

    #[test]
    fn two_workers_take_turns_and_the_trace_starts_again_a_mean_gap_after_its_end() {
        assert_eq!(arrivals(0), [0, 10, 19, 30]);
        assert_eq!(arrivals(1), [4, 15, 25, 34]);
    }

    #[test]
    fn an_empty_trace_has_no_arrivals() {
        let trace = Arc::new(Trace { name: "t".into(), requests: vec![] });
        assert!(Arrivals::new(trace, 0, 1).next().is_none());
    }
}
