//! What the owner and the two threads tell each other.
//!
//! All loads and stores are relaxed: each word is all that is told, no other memory goes with it, and
//! whoever is parked is woken by `unpark`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(super) struct Signals {
    stop: AtomicBool,
    /// The owner went without waiting for the end.
    left: AtomicBool,
    origin: Instant,
    /// When the reading that runs now began, ns after `origin`, at least 1; 0 = none runs.
    busy_since: AtomicU64,
}

impl Signals {
    pub(super) fn new() -> Signals {
        Signals {
            stop: AtomicBool::new(false),
            left: AtomicBool::new(false),
            origin: Instant::now(),
            busy_since: AtomicU64::new(0),
        }
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed)
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed)
    }

    pub(super) fn left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// The reading of one device begins.
    pub(super) fn round_begins(&self) {
        self.busy_since.store(self.since_origin(), Ordering::Relaxed)
    }

    pub(super) fn round_ends(&self) {
        self.busy_since.store(0, Ordering::Relaxed)
    }

    /// The reading of one device has taken longer than `bound` already.
    pub(super) fn hangs(&self, bound: Duration) -> bool {
        let since = self.busy_since.load(Ordering::Relaxed);
        since != 0 && u128::from(self.since_origin().saturating_sub(since)) > bound.as_nanos()
    }

    fn since_origin(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}
