//! What `/metrics` of an engine on this machine will contain, from what was found.

use super::finding::Finding;
use super::nvml::Nvml;
use super::stamps::Stamps;
use serde::Serialize;
use stepscope::StepSource;
use stepscope::catalog::{self, Id, labels};

/// What to expect.
#[derive(Serialize)]
pub struct Exporter {
    /// Label `source` of `llm_step_source_total` that most steps will have.
    pub step_source: &'static str,
    /// Families that will have series only because of what was found here.
    pub families: Vec<&'static str>,
    /// The same in words.
    pub findings: Vec<Finding>,
}

impl Exporter {
    /// Follows from stamps and NVML.
    pub fn of(stamps: &Stamps, nvml: &Nvml) -> Exporter {
        let name = |id: Id| catalog::row(id).name;
        let source = if stamps.work { StepSource::Gpu } else { StepSource::Host };
        let source = labels::STEP_SOURCE[source as usize];
        let mut families = vec![];
        let steps = if stamps.work {
            families
                .extend([Id::StepGpu, Id::GpuGap, Id::StampsLost, Id::ClockOffsetError].map(name));
            Finding::good(
                format!("steps: {} and {} on the GPU's clock", name(Id::StepGpu), name(Id::GpuGap)),
                format!(
                    "TTFT and TBT end with the GPU's own end of a step; {}{{source=\"{source}\"}} \
                         counts them",
                    name(Id::StepSource)
                ),
            )
        } else {
            families.push(name(Id::StepHost));
            Finding::absent(
                format!("steps: {} on the host's clock", name(Id::StepHost)),
                format!(
                    "no {} and {}; TTFT and TBT end when the engine looks at the outputs; \
                         {}{{source=\"{source}\"}} counts them",
                    name(Id::StepGpu),
                    name(Id::GpuGap),
                    name(Id::StepSource)
                ),
            )
        };
        let mut readings: Vec<&'static str> =
            nvml.devices.iter().flat_map(|device| device.offered.iter().copied()).collect();
        readings.sort_unstable();
        readings.dedup();
        let device = if readings.is_empty() {
            Finding::absent("no readings of the device", "unless the engine feeds them itself")
        } else {
            Finding::good(format!("{} families of device readings", readings.len()), "named above")
        };
        families.extend(readings);
        let requests = Finding::good(
            "requests, tokens, queues, KV blocks, health, the page",
            "they need no GPU and are always there",
        );
        Exporter { step_source: source, families, findings: vec![steps, device, requests] }
    }
}
