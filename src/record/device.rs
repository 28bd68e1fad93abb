//! What is known of one GPU besides the steps that recorders report: readings and stamps' books.
//!
//! Written by whoever watches the device (our NVML thread, the GPU's clock thread, or the engine by
//! the public [`Device`]), read at a scrape. Atomic cells: nobody waits for anybody.

use super::time::Time;
use crate::catalog::labels;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A cell that nobody has written: its series is absent, not 0. As an f64 it would be a NaN.
const UNTOLD: u64 = u64::MAX;

/// A level that is read off a device. The numbers are fixed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
#[repr(u8)]
pub enum Reading {
    /// Share of time in which some kernel ran, 0 to 1.
    Utilization = 0,
    /// Bytes in use by anybody.
    MemoryUsed = 1,
    /// Bytes in all.
    MemoryTotal = 2,
    /// Bytes the engine took at start for weights and KV blocks.
    MemoryPreallocated = 3,
    /// Degrees Celsius.
    Temperature = 4,
    /// Watts drawn.
    Power = 5,
    /// Watts it may draw, as enforced now.
    PowerLimit = 6,
    /// Hertz of the multiprocessors.
    ClockSm = 7,
    /// Hertz of the memory.
    ClockMemory = 8,
}

impl Reading {
    pub(crate) const COUNT: usize = 9;
}

/// A count that only grows. The numbers are fixed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
#[repr(u8)]
pub enum Tally {
    /// Device allocations that failed.
    AllocFailures = 0,
    /// Energy used, in millijoules.
    Energy = 1,
    /// Nanoseconds below its clocks because it is too hot.
    ThrottleThermal = 2,
    /// Nanoseconds below its clocks because the power supply asked for it.
    ThrottlePowerBrake = 3,
    /// Nanoseconds below its clocks because of the power limit.
    ThrottlePowerCap = 4,
    /// XID errors after which the device or the context is gone.
    XidFatal = 5,
    /// XID errors that an application caused.
    XidApp = 6,
    /// XID errors that are only worth a note.
    XidNotice = 7,
    /// Uncorrectable memory errors.
    EccUncorrected = 8,
    /// Packets sent again over PCIe.
    PcieReplays = 9,
}

impl Tally {
    pub(crate) const COUNT: usize = 10;
}

/// A GPU's readings, for an engine that knows them better than NVML, or has no NVML.
///
/// What is never told has no series. Any thread may call it; no call waits or allocates.
///
/// ```
/// use stepscope::{Config, Reading, Stepscope, Tally};
///
/// let scope = Stepscope::start(Config { listen: None, ..Config::default() })?;
/// let device = scope.device("0");
/// device.set(Reading::MemoryPreallocated, 71.5e9);
/// device.set(Reading::Temperature, 61.0);
/// device.add(Tally::AllocFailures, 1);
/// # Ok::<(), stepscope::StartError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Device(pub(crate) Arc<DeviceCells>);

impl Device {
    /// Sets a level, in the unit of the [`Reading`]. A value that is no finite number clears it.
    pub fn set(&self, reading: Reading, value: f64) {
        let bits = if value.is_finite() { value.to_bits() } else { UNTOLD };
        self.0.readings[reading as usize].store(bits, Ordering::Relaxed)
    }

    /// The level is not known any more: its series goes away. Missing beats wrong.
    pub fn clear(&self, reading: Reading) {
        self.0.readings[reading as usize].store(UNTOLD, Ordering::Relaxed)
    }

    /// Adds to a count, in the unit of the [`Tally`]. Adding 0 makes its series exist.
    pub fn add(&self, tally: Tally, by: u64) {
        self.0.tallies[tally as usize].add(by)
    }

    /// An XID error was seen; `/health` names its code.
    pub fn xid(&self, class: Tally, code: u64) {
        self.add(class, 1);
        self.0.last_xid.store(code, Ordering::Relaxed)
    }
}

/// A counter that does not exist before somebody adds to it.
#[derive(Debug)]
pub(crate) struct Told(AtomicU64);

impl Default for Told {
    fn default() -> Told {
        Told(AtomicU64::new(UNTOLD))
    }
}

impl Told {
    pub(crate) fn add(&self, by: u64) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |there| {
            let base = if there == UNTOLD { 0 } else { there };
            Some(base.saturating_add(by).min(UNTOLD - 1))
        });
    }

    pub(crate) fn get(&self) -> Option<u64> {
        told(self.0.load(Ordering::Relaxed))
    }
}

/// Everything told about one device.
#[derive(Debug)]
pub(crate) struct DeviceCells {
    readings: [AtomicU64; Reading::COUNT],
    tallies: [Told; Tally::COUNT],
    last_xid: AtomicU64,
    pub(crate) stamps: StampCells,
}

/// The books of the stamps on one device, over all its lanes.
#[derive(Debug)]
pub(crate) struct StampCells {
    /// By the index of `labels::STAMP_LOST`.
    pub(crate) lost: [Told; labels::STAMP_LOST.len()],
    pub(crate) unclaimed: Told,
    pub(crate) clock_jumps: Told,
    /// By the index of `labels::CUPTI_RECORD`.
    pub(crate) cupti: [Told; labels::CUPTI_RECORD.len()],
    clock_error_ns: AtomicU64,
    clock_resolution_ns: AtomicU64,
    /// End of the newest finished step, host ns; 0 = none yet.
    last_end: AtomicU64,
    /// Since when the oldest unfinished step has not moved, host ns; 0 = all move.
    stuck_since: AtomicU64,
}

impl Default for DeviceCells {
    fn default() -> DeviceCells {
        DeviceCells {
            readings: std::array::from_fn(|_| AtomicU64::new(UNTOLD)),
            tallies: Default::default(),
            last_xid: AtomicU64::new(UNTOLD),
            stamps: StampCells {
                lost: Default::default(),
                unclaimed: Told::default(),
                clock_jumps: Told::default(),
                cupti: Default::default(),
                clock_error_ns: AtomicU64::new(UNTOLD),
                clock_resolution_ns: AtomicU64::new(UNTOLD),
                last_end: AtomicU64::new(0),
                stuck_since: AtomicU64::new(0),
            },
        }
    }
}

impl DeviceCells {
    pub(crate) fn reading(&self, reading: Reading) -> Option<f64> {
        told(self.readings[reading as usize].load(Ordering::Relaxed)).map(f64::from_bits)
    }

    pub(crate) fn tally(&self, tally: Tally) -> Option<u64> {
        self.tallies[tally as usize].get()
    }

    /// Code of the last XID error.
    pub(crate) fn last_xid(&self) -> Option<u64> {
        told(self.last_xid.load(Ordering::Relaxed))
    }
}

#[allow(dead_code)] // The writers belong to the GPU part, which a build may leave out.
impl StampCells {
    /// The clock as it is now; `None` = it is not known any more.
    pub(crate) fn set_clock(&self, error_ns: Option<u64>, resolution_ns: Option<u64>) {
        self.clock_error_ns.store(error_ns.unwrap_or(UNTOLD), Ordering::Relaxed);
        self.clock_resolution_ns.store(resolution_ns.unwrap_or(UNTOLD), Ordering::Relaxed)
    }

    /// (error bound, resolution) in ns.
    pub(crate) fn clock(&self) -> (Option<u64>, Option<u64>) {
        let load = |cell: &AtomicU64| told(cell.load(Ordering::Relaxed));
        (load(&self.clock_error_ns), load(&self.clock_resolution_ns))
    }

    /// A step finished on the device at `at`.
    pub(crate) fn finished(&self, at: Time) {
        self.last_end.fetch_max(at.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn last_end(&self) -> Option<Time> {
        time(self.last_end.load(Ordering::Relaxed))
    }

    /// Since when a step that was handed to the device has not finished; `None` = none waits.
    pub(crate) fn set_stuck_since(&self, since: Option<Time>) {
        self.stuck_since.store(since.map_or(0, Time::as_nanos), Ordering::Relaxed)
    }

    pub(crate) fn stuck_since(&self) -> Option<Time> {
        time(self.stuck_since.load(Ordering::Relaxed))
    }
}

fn told(word: u64) -> Option<u64> {
    (word != UNTOLD).then_some(word)
}

fn time(ns: u64) -> Option<Time> {
    (ns != 0).then(|| Time::from_nanos(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_told_is_absent_and_what_was_cleared_is_again() {
        let device = Device(Arc::default());
        assert_eq!(device.0.reading(Reading::Power), None);
        device.set(Reading::Power, 0.0);
        assert_eq!(device.0.reading(Reading::Power), Some(0.0));
        for gone in [f64::NAN, f64::INFINITY] {
            device.set(Reading::Power, 412.5);
            device.set(Reading::Power, gone);
            assert_eq!(device.0.reading(Reading::Power), None);
        }
        device.set(Reading::Power, 1.0);
        device.clear(Reading::Power);
        assert_eq!(device.0.reading(Reading::Power), None);
    }

    #[test]
    fn a_count_exists_from_its_first_word_on_and_never_wraps() {
        let device = Device(Arc::default());
        assert_eq!(device.0.tally(Tally::XidFatal), None);
        device.add(Tally::XidFatal, 0);
        assert_eq!(device.0.tally(Tally::XidFatal), Some(0));
        device.xid(Tally::XidFatal, 79);
        assert_eq!((device.0.tally(Tally::XidFatal), device.0.last_xid()), (Some(1), Some(79)));
        device.add(Tally::XidFatal, u64::MAX);
        assert_eq!(device.0.tally(Tally::XidFatal), Some(u64::MAX - 1));
    }
}
