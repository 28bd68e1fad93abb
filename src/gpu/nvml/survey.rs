//! Which readings of a device NVML offers, asked once and on the caller's thread: for people who set
//! a machine up, not for serving.

use super::found::{NvmlDevice, NvmlFound};
use super::library::{Handle, Nvml, Refused};
use super::unavailable::NvmlUnavailable;
use crate::catalog::Id;
use std::path::Path;

/// What NVML says of one device.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NvmlSurvey {
    /// Who the device is.
    pub found: NvmlFound,
    /// Families that will have series.
    pub offered: Vec<Id>,
    /// Families that will have none, as driver or device do not offer the reading.
    pub absent: Vec<Id>,
    /// Families whose reading failed just now, and why; they may come later.
    pub failed: Vec<(Id, String)>,
}

type Ask = fn(&Nvml, Handle) -> Result<(), Refused>;

/// Every reading beside the family that it feeds.
const READINGS: [(Id, Ask); 11] = [
    (Id::GpuUtilization, |n, h| n.utilization(h).map(drop)),
    (Id::GpuMemoryUsed, |n, h| n.memory(h).map(drop)),
    (Id::GpuPower, |n, h| n.power(h).map(drop)),
    (Id::GpuPowerLimit, |n, h| n.power_limit(h).map(drop)),
    (Id::GpuTemperature, |n, h| n.temperature(h).map(drop)),
    (Id::GpuClock, |n, h| n.clock_sm(h).and_then(|_| n.clock_memory(h)).map(drop)),
    (Id::GpuThrottle, |n, h| n.clock_reasons(h).map(drop)),
    (Id::GpuEnergy, |n, h| n.energy(h).map(drop)),
    (Id::GpuPcieReplays, |n, h| n.pcie_replays(h).map(drop)),
    (Id::GpuEccUncorrected, |n, h| n.ecc_uncorrected(h).map(drop)),
    (Id::GpuXid, events),
];

/// Asks for every reading of a device once. Takes some 10 ms, seconds on a sleeping device.
///
/// # Errors
/// Why NVML cannot be read at all; see [`NvmlUnavailable`].
pub fn nvml_survey(
    library: Option<&Path>,
    which: &NvmlDevice,
) -> Result<NvmlSurvey, NvmlUnavailable> {
    let nvml = Nvml::open(library)?;
    let handle = nvml.device(which)?;
    let instance = nvml.board(handle);
    let board = instance.map_or(handle, |(board, _)| board);
    let mut found = nvml.found(handle, board);
    found.mig |= instance.is_some();
    let mut survey = NvmlSurvey { found, offered: vec![], absent: vec![], failed: vec![] };
    for (id, ask) in READINGS {
        // There a driver may answer 0 instead of refusing; the readers do not ask either.
        let is_untrue = survey.found.mig && id == Id::GpuUtilization;
        // Events belong to the board, levels to what was named.
        match ask(&nvml, if id == Id::GpuXid { board } else { handle }) {
            _ if is_untrue => survey.absent.push(id),
            Ok(()) => survey.offered.push(id),
            Err(refused) if refused.is_for_good() => survey.absent.push(id),
            Err(refused) => survey.failed.push((id, nvml.unavailable(refused).to_string())),
        }
    }
    Ok(survey)
}

/// Can XID errors be waited for?
fn events(nvml: &Nvml, handle: Handle) -> Result<(), Refused> {
    let set = nvml.event_set()?;
    let registered = nvml.register(handle, &set);
    nvml.free(set);
    registered
}
