//! What a monitor would read off the simulated device: a plain model, so that dashboards and alerts
//! about devices have something to look at. A real device is read by NVML instead.

use crate::profile::Profile;
use stepscope::{Device, Reading, Stepscope, Tally};

/// How often it is read.
pub(crate) const EVERY_NS: u64 = 1_000_000_000;
/// Memory of an H100 (data sheet), of which engines leave a tenth to others.
const MEMORY_BYTES: f64 = 80e9;
const PREALLOCATED: f64 = 0.9;
/// What comes on top while it works: activations, graphs.
const WORKING: f64 = 0.04;
/// H100 SXM (data sheet): 700 W; idle power, temperatures and clocks as commonly seen.
const POWER_LIMIT_W: f64 = 700.0;
const IDLE_W: f64 = 110.0;
const BUSY_W: f64 = 560.0;
const COOL_C: f64 = 34.0;
const WARM_C: f64 = 67.0;
const SM_HZ: f64 = 1.98e9;
const MEMORY_HZ: f64 = 2.619e9;
/// The code a device that fell off the bus leaves behind.
const XID_FELL_OFF: u64 = 79;

#[derive(Debug)]
pub(crate) struct Readings {
    device: Device,
    gpus: f64,
    /// Time the device worked since it was read last.
    busy_ns: u64,
}

impl Readings {
    pub(crate) fn new(scope: &Stepscope, gpu_id: &str, profile: &Profile) -> Readings {
        let device = scope.device(gpu_id);
        // Counted from 0: a rate cannot see a jump from absent to 1.
        for tally in [
            Tally::AllocFailures,
            Tally::Energy,
            Tally::ThrottleThermal,
            Tally::ThrottlePowerBrake,
            Tally::ThrottlePowerCap,
            Tally::XidFatal,
            Tally::XidApp,
            Tally::XidNotice,
            Tally::EccUncorrected,
        ] {
            device.add(tally, 0)
        }
        let readings = Readings { device, gpus: profile.gpus(), busy_ns: 0 };
        let memory = MEMORY_BYTES * readings.gpus;
        readings.device.set(Reading::MemoryTotal, memory);
        readings.device.set(Reading::MemoryPreallocated, memory * PREALLOCATED);
        readings.device.set(Reading::PowerLimit, POWER_LIMIT_W * readings.gpus);
        readings.device.set(Reading::ClockSm, SM_HZ);
        readings.device.set(Reading::ClockMemory, MEMORY_HZ);
        readings.tell(0.0);
        readings
    }

    /// The device worked for so long.
    pub(crate) fn worked(&mut self, ns: u64) {
        self.busy_ns += ns
    }

    /// Reads it off, once per [`EVERY_NS`].
    pub(crate) fn read(&mut self) {
        let busy = (std::mem::take(&mut self.busy_ns) as f64 / EVERY_NS as f64).min(1.0);
        self.tell(busy)
    }

    fn tell(&self, busy: f64) {
        let between = |idle: f64, full: f64| idle + (full - idle) * busy;
        let watts = between(IDLE_W, BUSY_W) * self.gpus;
        let memory = MEMORY_BYTES * self.gpus;
        self.device.set(Reading::Utilization, busy);
        self.device.set(Reading::MemoryUsed, memory * (PREALLOCATED + between(0.01, WORKING)));
        self.device.set(Reading::Temperature, between(COOL_C, WARM_C));
        self.device.set(Reading::Power, watts);
        self.device.add(Tally::Energy, (watts * 1e3) as u64 * EVERY_NS / 1_000_000_000)
    }

    /// The device died.
    pub(crate) fn died(&self) {
        self.device.xid(Tally::XidFatal, XID_FELL_OFF)
    }
}
