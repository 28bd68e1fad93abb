//! The thread `stepscope-agg`: drains on a timer that follows the load, closes rows.
//!
//! Engine threads wake nobody, so the timer must come by often enough: every 100 ms at rest, down to
//! 1 ms while a ring was more than a quarter full.

use super::aggregator::Aggregator;
use super::pulse::Pulse;
use crate::clock::Clock;
use crossbeam_utils::sync::{Parker, Unparker};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const REST: Duration = Duration::from_millis(100);
const BUSY: Duration = Duration::from_millis(1);

pub(crate) struct AggregateThread {
    handle: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    unparker: Unparker,
}

impl AggregateThread {
    pub(crate) fn start(
        aggregator: Arc<Mutex<Aggregator>>,
        pulse: Arc<Pulse>,
        clock: Clock,
    ) -> std::io::Result<AggregateThread> {
        let parker = Parker::new();
        let unparker = parker.unparker().clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let handle = std::thread::Builder::new().name("stepscope-agg".into()).spawn(move || {
            let mut wait = REST;
            while !stopped.load(Ordering::Acquire) {
                parker.park_timeout(wait);
                let fill = {
                    let mut aggregator = aggregator.lock().unwrap_or_else(PoisonError::into_inner);
                    let now = clock.now();
                    let fill = aggregator.drain(now);
                    aggregator.close_rows(now);
                    pulse.drained(clock.now());
                    fill
                };
                wait = next_wait(wait, fill)
            }
        })?;
        Ok(AggregateThread { handle: Some(handle), stop, unparker })
    }

    /// Ends the thread after one more drain.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.unparker.unpark();
        if let Some(handle) = self.handle.take() {
            // A panic there was reported by the panic hook; there is nothing left to undo here.
            let _ = handle.join();
        }
    }
}

/// A ring that was a quarter full would be half full after twice the wait: come sooner.
fn next_wait(wait: Duration, fill: f64) -> Duration {
    if fill > 0.25 {
        (wait / 4).max(BUSY)
    } else if fill < 0.05 {
        (wait * 2).min(REST)
    } else {
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_follows_the_load_both_ways() {
        let mut wait = REST;
        for _ in 0..4 {
            wait = next_wait(wait, 0.6)
        }
        assert_eq!(wait, BUSY);
        assert_eq!(next_wait(wait, 0.1), BUSY);
        for _ in 0..8 {
            wait = next_wait(wait, 0.0)
        }
        assert_eq!(wait, REST);
    }
}
