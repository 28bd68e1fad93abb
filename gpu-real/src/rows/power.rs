//! Row 14: does NVML mean the same card, and does an idle attachment keep it awake?

use crate::args::Args;
use crate::engine::Engine;
use crate::numbers::median;
use crate::nvml::Nvml;
use crate::report::Row;
use anyhow::Result;
use std::time::{Duration, Instant};
use stepscope::gpu::NvmlDevice;
use stepscope::{Config, Stepscope};

const DIFFERENCE_MAX_W: f64 = 2.0;

/// Row 14.
pub fn row(args: &Args, row: &mut Row) -> Result<()> {
    if row.needs_a_card("NVML and power", "a fake card draws none") {
        return Ok(());
    }
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 1)?;
    let Some(pci_bus_id) = gpu.identity().pci_bus_id.clone() else {
        row.skipped("NVML and power", "the driver does not tell the PCI bus id");
        return Ok(());
    };
    let cuda = engine.driver.uuid(engine.device);
    let scope = Stepscope::start(Config { listen: None, ..Config::default() })?;
    let which = NvmlDevice::PciBusId(pci_bus_id.clone());
    match scope.watch_device("0", which, args.nvml.clone()) {
        Ok(found) if cuda.is_none() => {
            let note = format!("CUDA tells no UUID; NVML says {:?}", found.uuid);
            row.skipped("NVML's card is CUDA's", note)
        }
        Ok(found) => row.holds(
            "NVML's card is CUDA's, by UUID",
            found.uuid == cuda,
            format!("{:?} {cuda:?}", found.uuid),
        ),
        Err(why) => row.skipped("NVML's card is CUDA's", why),
    }
    // NVML's own readings once a second would be part of what is compared.
    drop(scope);
    gpu.detach(Duration::from_secs(1))?;
    let nvml = match Nvml::open(args.nvml.as_deref(), &pci_bus_id) {
        Ok(nvml) => nvml,
        Err(why) => {
            row.skipped("power at idle", why);
            return Ok(());
        }
    };
    row.holds("the id finds a card", nvml.uuid()?.starts_with("GPU-"), nvml.uuid()?);
    compare_power(args, row, &engine, &nvml)
}

/// Power with an idle attachment and without one, taking turns; the context is there all the time.
fn compare_power(args: &Args, row: &mut Row, engine: &Engine, nvml: &Nvml) -> Result<()> {
    // An idle attachment probes every 30 s: two such pauses in each turn.
    let length = args.sized(Duration::from_secs(70), Duration::from_secs(2));
    let settle = args.sized(Duration::from_secs(15), Duration::from_millis(200));
    let (mut with, mut without) = (vec![], vec![]);
    for _ in 0..2 {
        std::thread::sleep(settle);
        without.extend(sampled(nvml, length)?);
        let gpu = engine.attach(args, 1)?;
        std::thread::sleep(settle);
        with.extend(sampled(nvml, length)?);
        gpu.detach(Duration::from_secs(1))?
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    row.reported("power at idle, not attached, mean", mean(&without), "W");
    row.reported("power at idle, attached, mean", mean(&with), "W");
    row.reported("power at idle, not attached, median", median(&mut without), "W");
    row.reported("power at idle, attached, median", median(&mut with), "W");
    let difference = mean(&with) - mean(&without);
    row.at_most("added by an idle attachment", difference, "W", DIFFERENCE_MAX_W);
    Ok(())
}

fn sampled(nvml: &Nvml, length: Duration) -> Result<Vec<f64>> {
    let (begun, mut values) = (Instant::now(), vec![]);
    while begun.elapsed() < length {
        values.push(nvml.power_w()?);
        std::thread::sleep(Duration::from_millis(500))
    }
    Ok(values)
}
