//! What NVML tells of each device, matched by its PCI bus id.

use super::driver::Device;
use super::finding::Finding;
use serde::Serialize;
use std::path::Path;
use stepscope::catalog;
use stepscope::gpu::{NvmlDevice, NvmlSurvey, NvmlUnavailable, nvml_survey};

/// What was found.
#[derive(Default, Serialize)]
pub struct Nvml {
    /// Could it be opened?
    pub found: bool,
    /// One for each device of CUDA's that NVML knows.
    pub devices: Vec<Readings>,
    /// The same in words.
    pub findings: Vec<Finding>,
}

/// The readings of one device.
#[derive(Serialize)]
pub struct Readings {
    /// As CUDA writes it.
    pub pci_bus_id: String,
    /// Product name, as NVML says it.
    pub name: Option<String>,
    /// A MIG instance, or a device in MIG mode.
    pub mig: bool,
    /// Version of the driver.
    pub driver: Option<String>,
    /// Families that will have series.
    pub offered: Vec<&'static str>,
    /// Families that will have none.
    pub absent: Vec<&'static str>,
    /// Whether XID errors will be counted as they happen.
    pub xid_events: bool,
}

impl Nvml {
    /// Not asked, and why.
    pub fn not_asked(why: &str) -> Nvml {
        let means = "utilization, memory, power, temperature and XID errors are absent";
        Nvml {
            findings: vec![Finding::absent(format!("NVML not asked: {why}"), means)],
            ..Nvml::default()
        }
    }

    /// Asks for every device.
    pub fn look(devices: &[Device], library: Option<&Path>) -> Nvml {
        let mut nvml = Nvml::default();
        for device in devices {
            let Some(bus) = &device.pci_bus_id else {
                let means = "NVML is asked by that name only: no readings of this device";
                let found = format!("device {} tells no PCI bus id", device.ordinal);
                nvml.findings.push(Finding::broken(found, means, "update the driver"));
                continue;
            };
            match nvml_survey(library, &NvmlDevice::PciBusId(bus.clone())) {
                Ok(survey) => nvml.tell(device.ordinal, bus, &survey),
                Err(why) => {
                    let is_there = matches!(why, NvmlUnavailable::NoDevice { .. });
                    nvml.found |= is_there;
                    let found = if is_there { "NVML does not match" } else { "NVML unusable" };
                    let todo = "stamps work without it";
                    nvml.findings.push(Finding::broken(found, why.to_string(), todo));
                    if !is_there {
                        break;
                    }
                }
            }
        }
        nvml
    }

    fn tell(&mut self, ordinal: i32, bus: &str, survey: &NvmlSurvey) {
        self.found = true;
        let names = |ids: &[catalog::Id]| -> Vec<&'static str> {
            ids.iter().map(|id| catalog::row(*id).name).collect()
        };
        let (offered, absent) = (names(&survey.offered), names(&survey.absent));
        let xid_events = survey.offered.contains(&catalog::Id::GpuXid);
        let who = survey.found.name.as_deref().unwrap_or("a device without a name");
        let driver = survey.found.driver.as_deref().unwrap_or("unknown");
        self.findings.push(Finding::good(
            format!("device {ordinal} is NVML's {bus}: {who}, driver {driver}"),
            format!("{} kinds of readings offered: {}", offered.len(), offered.join(", ")),
        ));
        if !absent.is_empty() {
            let means = "these have no series; they are never 0";
            let found = format!("not offered here: {}", absent.join(", "));
            self.findings.push(Finding::absent(found, means))
        }
        for (id, why) in &survey.failed {
            let found = format!("{} failed: {why}", catalog::row(*id).name);
            let means = "its series come once it works";
            self.findings.push(Finding::broken(found, means, "see what `nvidia-smi -q` says of it"))
        }
        self.findings.push(if xid_events {
            Finding::good("XID errors can be waited for", "each is counted as it happens")
        } else {
            Finding::absent("no XID events here", "a faulty GPU shows in failed steps only")
        });
        self.devices.push(Readings {
            pci_bus_id: bus.into(),
            name: survey.found.name.clone(),
            mig: survey.found.mig,
            driver: survey.found.driver.clone(),
            offered,
            absent,
            xid_events,
        })
    }
}
