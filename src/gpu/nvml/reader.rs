//! One device's levels and counts, read off NVML tick by tick into its cells.
//!
//! | a reading that | then |
//! |---|---|
//! | does not exist here (no symbol, NotSupported) | is never tried again, its series goes |
//! | fails | is skipped; after 3 in a row its series goes, until it works again |
//! | finds the device lost, or is one of 5 ticks in which nothing worked | ends the polling |

use super::library::{Handle, Nvml, Refused};
use crate::record::{Device, Reading, Tally};
use std::time::{Duration, Instant};

/// After so many failures in a row a level is old: its series goes.
const FAILURES_MAX: u32 = 3;

/// After so many ticks in a row in which nothing worked the device is given up.
const DEAD_TICKS_MAX: u32 = 5;

/// How often levels and counts are read, and how long one wait for events takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    pub(super) fast: Duration,
    pub(super) slow: Duration,
    pub(super) events: Duration,
}

impl Default for Cadence {
    /// 1 s shows a throttle or a full memory within a scrape; counts change slowly. 500 ms of
    /// waiting lets the thread end within the second that a stop waits for it.
    fn default() -> Cadence {
        let (fast, slow) = (Duration::from_secs(1), Duration::from_secs(10));
        Cadence { fast, slow, events: Duration::from_millis(500) }
    }
}

type ReadLevels = fn(&Nvml, Handle, &Device) -> Result<(), Refused>;
type ReadCount = fn(&Nvml, Handle) -> Result<u64, Refused>;

/// Levels that one call reads.
struct Levels {
    readings: &'static [Reading],
    read: ReadLevels,
    slow: bool,
    trial: Trial,
}

/// The calls for levels, and whether they are read at the slow pace.
const LEVELS: [(&[Reading], bool, ReadLevels); 7] = [
    (UTILIZATION, false, |n, h, d| n.utilization(h).map(|v| d.set(Reading::Utilization, v))),
    (&[Reading::MemoryUsed, Reading::MemoryTotal], false, |n, h, d| {
        let (used, total) = n.memory(h)?;
        d.set(Reading::MemoryUsed, used as f64);
        d.set(Reading::MemoryTotal, total as f64);
        Ok(())
    }),
    (&[Reading::Power], false, |n, h, d| n.power(h).map(|v| d.set(Reading::Power, v))),
    (&[Reading::Temperature], false, |n, h, d| {
        n.temperature(h).map(|v| d.set(Reading::Temperature, v))
    }),
    (&[Reading::ClockSm], false, |n, h, d| n.clock_sm(h).map(|v| d.set(Reading::ClockSm, v))),
    (&[Reading::ClockMemory], false, |n, h, d| {
        n.clock_memory(h).map(|v| d.set(Reading::ClockMemory, v))
    }),
    (&[Reading::PowerLimit], true, |n, h, d| {
        n.power_limit(h).map(|v| d.set(Reading::PowerLimit, v))
    }),
];

const UTILIZATION: &[Reading] = &[Reading::Utilization];

/// The calls for counts, all at the slow pace.
const COUNTS: [(Tally, ReadCount); 3] = [
    (Tally::Energy, Nvml::energy),
    (Tally::PcieReplays, Nvml::pcie_replays),
    (Tally::EccUncorrected, Nvml::ecc_uncorrected),
];

/// Clears every level that a reader may have set. What the engine told itself stays.
pub(super) fn clear_levels(device: &Device) {
    for (readings, ..) in LEVELS {
        readings.iter().for_each(|reading| device.clear(*reading))
    }
}

/// A count that runs since the driver was loaded, exported since process start.
struct Count {
    tally: Tally,
    read: ReadCount,
    trial: Trial,
    last: Option<u64>,
}

/// What became of one reading so far.
#[derive(Default)]
struct Trial {
    off: bool,
    failures: u32,
}

/// What the calls of one tick came to.
#[derive(Default)]
struct Sum {
    worked: u32,
    failed: u32,
    lost: bool,
}

/// What to do with the level after a try.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Keep,
    Clear,
}

impl Trial {
    /// Takes note of a try.
    fn note<T>(&mut self, tried: &Result<T, Refused>, sum: &mut Sum) -> Then {
        match tried {
            Ok(_) => {
                self.failures = 0;
                sum.worked += 1;
                return Then::Keep;
            }
            Err(refused) if refused.is_for_good() => {
                tracing::debug!(call = refused.name, "not offered by this driver or GPU");
                self.off = true;
                return Then::Clear;
            }
            Err(refused) => sum.lost |= refused.is_lost(),
        }
        sum.failed += 1;
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX { Then::Clear } else { Then::Keep }
    }
}

/// Whether a device is still worth asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Alive,
    Ended,
}

/// Reads one device.
pub(super) struct Reader {
    handle: Handle,
    pub(super) device: Device,
    cadence: Cadence,
    levels: Vec<Levels>,
    counts: Vec<Count>,
    throttle: Throttle,
    slow_at: Option<Instant>,
    dead_ticks: u32,
}

impl Reader {
    /// `mig`: an instance, or a device that is cut into instances. There NVML has no utilisation;
    /// a driver that answers 0 instead of NotSupported must not be believed, so it is not asked.
    pub(super) fn new(handle: Handle, device: Device, mig: bool, cadence: Cadence) -> Reader {
        let levels = LEVELS.map(|(readings, slow, read)| {
            let trial = Trial { off: mig && readings == UTILIZATION, failures: 0 };
            Levels { readings, read, slow, trial }
        });
        let counts =
            COUNTS.map(|(tally, read)| Count { tally, read, trial: Trial::default(), last: None });
        Reader {
            handle,
            device,
            cadence,
            levels: levels.into(),
            counts: counts.into(),
            throttle: Throttle::default(),
            slow_at: None,
            dead_ticks: 0,
        }
    }

    /// Reads what is due at `now`.
    pub(super) fn tick(&mut self, nvml: &Nvml, now: Instant) -> Life {
        let slow =
            self.slow_at.is_none_or(|at| now.saturating_duration_since(at) >= self.cadence.slow);
        if slow {
            self.slow_at = Some(now)
        }
        let mut sum = Sum::default();
        self.read_levels(nvml, slow, &mut sum);
        self.throttle.read(nvml, self.handle, &self.device, now, self.cadence.fast, &mut sum);
        if slow {
            self.read_counts(nvml, &mut sum)
        }
        self.judge(&sum)
    }

    fn read_levels(&mut self, nvml: &Nvml, slow: bool, sum: &mut Sum) {
        for level in &mut self.levels {
            if level.trial.off || level.slow && !slow || sum.lost {
                continue;
            }
            let tried = (level.read)(nvml, self.handle, &self.device);
            if level.trial.note(&tried, sum) == Then::Clear {
                level.readings.iter().for_each(|reading| self.device.clear(*reading))
            }
        }
    }

    fn read_counts(&mut self, nvml: &Nvml, sum: &mut Sum) {
        for count in &mut self.counts {
            if count.trial.off || sum.lost {
                continue;
            }
            let tried = (count.read)(nvml, self.handle);
            count.trial.note(&tried, sum);
            if let Ok(now) = tried {
                // Backwards: the driver was loaded again (or 32 bits wrapped). What was lost in
                // between is not known, so it is not made up.
                let grown = count.last.map_or(0, |last| now.saturating_sub(last));
                self.device.add(count.tally, grown);
                count.last = Some(now)
            }
        }
    }

    /// Five ticks without any answer, or the driver's word for it, end the polling.
    fn judge(&mut self, sum: &Sum) -> Life {
        if sum.worked > 0 {
            self.dead_ticks = 0
        } else if sum.failed > 0 {
            self.dead_ticks += 1
        }
        if sum.lost || self.dead_ticks >= DEAD_TICKS_MAX {
            clear_levels(&self.device);
            return Life::Ended;
        }
        Life::Alive
    }
}

/// Time below the clocks, by reason: the reasons as they are at a tick hold for the time since the
/// last one.
///
/// Why not NVML's violation counters: whether they count in ns, us or 100 ns differs between
/// documents and drivers, they have no class for the power brake, and many boards have none. The
/// reasons are offered by all and mean the same everywhere; an error of a period per change is
/// small beside the "10 % for 10 minutes" that people are told of.
#[derive(Default)]
struct Throttle {
    trial: Trial,
    last: Option<Instant>,
}

/// The driver slowed it because it is hot, or the hardware did.
const THERMAL: u64 = 0x20 | 0x40;
/// The hardware slowed it, for a reason that only newer boards tell.
const HW_SLOWDOWN: u64 = 0x08;
/// The power supply (or the chassis) asked the hardware to slow down.
const POWER_BRAKE: u64 = 0x80;
/// The driver holds it at its power limit.
const POWER_CAP: u64 = 0x04;

const _: () = {
    use nvml_wrapper_sys::bindings as sys;
    assert!(
        THERMAL
            == (sys::nvmlClocksEventReasonSwThermalSlowdown
                | sys::nvmlClocksThrottleReasonHwThermalSlowdown) as u64
    );
    assert!(HW_SLOWDOWN == sys::nvmlClocksThrottleReasonHwSlowdown as u64);
    assert!(POWER_BRAKE == sys::nvmlClocksThrottleReasonHwPowerBrakeSlowdown as u64);
    assert!(POWER_CAP == sys::nvmlClocksEventReasonSwPowerCap as u64);
};

/// The classes that the bits stand for.
///
/// `HW_SLOWDOWN` is the older bit over both: heat, or the power supply (its brake, or too fast a
/// rise of power). Beside a thermal bit it is explained by heat; alone only the power side is left.
/// The same bit may show for a moment at a change of clocks: one period at most.
fn classes(bits: u64) -> [(Tally, bool); 3] {
    let thermal = bits & THERMAL != 0;
    let brake = bits & POWER_BRAKE != 0 || bits & HW_SLOWDOWN != 0 && !thermal;
    [
        (Tally::ThrottleThermal, thermal),
        (Tally::ThrottlePowerBrake, brake),
        (Tally::ThrottlePowerCap, bits & POWER_CAP != 0),
    ]
}

impl Throttle {
    fn read(
        &mut self,
        nvml: &Nvml,
        handle: Handle,
        device: &Device,
        now: Instant,
        period: Duration,
        sum: &mut Sum,
    ) {
        if self.trial.off || sum.lost {
            return;
        }
        let tried = nvml.clock_reasons(handle);
        self.trial.note(&tried, sum);
        let Ok(bits) = tried else { return };
        // A process that was stopped for hours did not see what the device did meanwhile.
        let since = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let ns = u64::try_from(since.min(2 * period).as_nanos()).unwrap_or(0);
        for (tally, held) in classes(bits) {
            device.add(tally, if held { ns } else { 0 })
        }
        self.last = Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_slowdown_is_the_brake_unless_heat_explains_it() {
        let held = |bits| classes(bits).map(|(_, held)| held);
        assert_eq!(held(0x01), [false; 3], "idle is no throttle");
        assert_eq!(held(0x04), [false, false, true]);
        assert_eq!(held(0x08), [false, true, false]);
        assert_eq!(held(0x08 | 0x20), [true, false, false]);
        assert_eq!(held(0x08 | 0x40), [true, false, false]);
        assert_eq!(held(0x08 | 0x40 | 0x80), [true, true, false]);
        assert_eq!(held(0x80 | 0x04), [false, true, true]);
        assert_eq!(held(0x02 | 0x10 | 0x100), [false; 3], "set clocks and sync boost are policy");
    }
}
