//! The seam of time: every `now()` of what aggregates and judges goes through here.
//!
//! `record/` takes times as parameters. What reads a clock by itself (drains, row closes, ages,
//! health) asks this one, so that simulated time, tests and a replay at full speed use the same
//! public API as an engine.

use crate::record::Time;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a [`Stepscope`](crate::Stepscope) takes its time from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// CLOCK_MONOTONIC; a thread of our own drains and closes rows.
    #[default]
    Monotonic,
    /// Time stands still until [`Stepscope::advance`](crate::Stepscope::advance) moves it; drains
    /// and row closes happen there, and there is no aggregate thread.
    Manual(ManualClock),
}

/// A clock that only its owner moves. Clones share one time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Time) -> ManualClock {
        ManualClock(Arc::new(AtomicU64::new(start.as_nanos())))
    }

    /// The time it stands at.
    pub fn now(&self) -> Time {
        Time::from_nanos(self.0.load(Ordering::Acquire))
    }

    /// Moves forward to `to`; a time that already passed changes nothing.
    pub(crate) fn advance(&self, to: Time) {
        // Release: who sees the new time sees what was recorded before it.
        self.0.fetch_max(to.as_nanos(), Ordering::Release);
    }
}

impl Clock {
    /// Now, on this clock.
    pub fn now(&self) -> Time {
        match self {
            Clock::Monotonic => Time::now(),
            Clock::Manual(clock) => clock.now(),
        }
    }
}
