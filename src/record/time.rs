//! One clock: CLOCK_MONOTONIC nanoseconds, the same number in every process of one boot.
//!
//! `record/` never reads it: an engine reads it once per scheduling pass and once per step end and
//! hands the time to every verb. A simulated clock therefore needs no second API.

use std::hash::{Hash, Hasher};
use std::time::Duration;

/// A point on the host's monotonic clock, in nanoseconds. 0 means "never".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Time(pub(crate) u64);

impl Time {
    /// Reads CLOCK_MONOTONIC: one vDSO call, about 25 ns, no system call.
    ///
    /// Once per scheduling pass and once per step end is enough for every verb of the step.
    #[inline]
    pub fn now() -> Time {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Time(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
    }

    /// The point `ns` nanoseconds after the clock's origin (a simulated clock, a GPU end stamp).
    #[inline]
    pub const fn from_nanos(ns: u64) -> Time {
        Time(ns)
    }

    /// Nanoseconds since the clock's origin.
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Nanoseconds from `earlier` to `self`; 0 if `earlier` is the later one.
    #[inline]
    pub const fn nanos_since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Seconds from `earlier` to `self`; 0 if `earlier` is the later one.
    #[inline]
    pub fn seconds_since(self, earlier: Time) -> f64 {
        self.nanos_since(earlier) as f64 * 1e-9
    }

    /// The point `by` later.
    #[inline]
    pub fn after(self, by: Duration) -> Time {
        Time(self.0.saturating_add(by.as_nanos() as u64))
    }
}

/// The arrival of a request in another process, to be carried along with its KV blocks.
///
/// Exact in a process that shares the clock (same boot, same time namespace). Elsewhere only
/// `elapsed_ns` is usable and the transit time between the two processes is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Origin {
    /// `recv` on the first process's clock.
    pub recv_ns: u64,
    /// Time from `recv` to the hand-over.
    pub elapsed_ns: u64,
    /// Which clock `recv_ns` is on: hash of boot id and time namespace, 0 = unknown.
    pub clock: u32,
    /// Zero.
    pub reserved: u32,
}

/// The number of this machine's clock for [`Origin`]; 0 where the kernel does not tell.
pub(crate) fn clock_id() -> u32 {
    let Ok(boot) = std::fs::read_to_string("/proc/sys/kernel/random/boot_id") else { return 0 };
    let namespace = std::fs::read_link("/proc/self/ns/time").unwrap_or_default();
    // SipHash with fixed keys: two processes of one boot must agree.
    let mut hash = std::hash::DefaultHasher::new();
    (boot.trim(), namespace).hash(&mut hash);
    (hash.finish() as u32).max(1)
}
