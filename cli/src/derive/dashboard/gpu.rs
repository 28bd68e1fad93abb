//! Row 2, GPU health: is the device the cause?

use super::panel::{Panel, View};
use super::query::{Ask, Over};
use super::units;
use stepscope::catalog::Id;
use stepscope::catalog::alert::{AlertId, Severity};
use stepscope::catalog::alerts;
use stepscope::catalog::signal::{Series, Signal};

const DEVICE: &str = "{{worker_id}} gpu {{gpu_id}}";

/// The row, left to right.
pub fn panels(ask: Ask) -> Vec<Panel> {
    [memory(ask), time(ask), body(ask)].into_iter().flatten().collect()
}

/// The part of the errors' family that is a fault of the device.
fn faults(ask: Ask) -> Panel {
    let mut panel = Panel::new("Faults since start", View::Stat, units::PLAIN)
        .answers("Is a device broken? Fatal XIDs and uncorrectable ECC errors stay until the process restarts.")
        .step(1.0, Severity::Critical)
        .leads_to(&[AlertId::GpuFault, AlertId::GpuAllocFailed]);
    let legends = ["fatal XID", "ECC"];
    for (cond, legend) in alerts::alert(AlertId::GpuFault).conds().iter().zip(legends) {
        if let Signal::Since { of } = cond.signal {
            panel = panel.asks(ask.fold("sum", of, &[]), legend)
        }
    }
    panel.asks(ask.fold("sum", Series::all(Id::GpuAllocFailures), &[]), "failed allocations")
}

fn memory(ask: Ask) -> Vec<Panel> {
    let used = ask.now(Series::all(Id::GpuMemoryUsed));
    let total = ask.now(Series::all(Id::GpuMemoryTotal));
    let bytes = units::of_family(Id::GpuMemoryTotal);
    vec![
        Panel::new("GPU utilisation (a kernel ran)", View::Lines, units::of_family(Id::GpuUtilization))
            .answers("Was anything running? It says nothing of how full the device was: no limit, on purpose.")
            .asks(ask.now(Series::all(Id::GpuUtilization)), DEVICE)
            .whole(),
        Panel::new("GPU memory used / total", View::Lines, "percentunit")
            .answers("How full is the device? Engines take nearly all at start: full is normal.")
            .asks(format!("{used} / {total}"), DEVICE)
            .whole(),
        Panel::new("GPU memory headroom used", View::Lines, "percentunit")
            .answers("Will the next allocation fail? The share in use of what the engine did not take at start.")
            .asks(ask.recorded(AlertId::GpuMemoryCritical, 0), DEVICE)
            .limit(AlertId::GpuMemoryCritical, 0)
            .whole(),
        Panel::new("GPU memory free", View::Gauge, bytes)
            .answers("How many bytes are left?")
            .asks(format!("{total} - {used}"), DEVICE),
    ]
}

fn time(ask: Ask) -> Vec<Panel> {
    let step = |q| ask.quantile(q, Id::StepGpu, &["phase"], Over::Panel);
    vec![
        Panel::new("GPU step time by phase", View::Lines, units::of_family(Id::StepGpu))
            .answers(
                "Is the GPU slow, or does it wait? Long decode steps: batch, context or clocks.",
            )
            .asks(step(0.5), "p50 {{phase}}")
            .asks(step(0.99), "p99 {{phase}}")
            .shows(&[Id::StepGpu])
            .leads_to(&[AlertId::WorkerOutlier]),
        Panel::new("GPU idle while work waits", View::Lines, "percentunit")
            .answers("Is the host the bottleneck?")
            .asks(ask.share_of(AlertId::HostBound, &["worker_id"], Over::Panel), "{{worker_id}}")
            .limit(AlertId::HostBound, 0)
            .whole(),
    ]
}

fn body(ask: Ask) -> Vec<Panel> {
    vec![
        Panel::new("Temperature", View::Lines, units::of_family(Id::GpuTemperature))
            .answers("Does heat hold the clocks down?")
            .asks(ask.now(Series::all(Id::GpuTemperature)), DEVICE)
            .leads_to(&[AlertId::GpuThrottled]),
        Panel::new("Power", View::Lines, units::of_family(Id::GpuPower))
            .answers("Does it draw what it may? Low power under load is a device that waits.")
            .asks(ask.now(Series::all(Id::GpuPower)), DEVICE),
        faults(ask),
    ]
}
