//! Row 1: does the driver have what is called, and how long does attaching take?

use crate::args::Args;
use crate::child::{self, How};
use crate::engine::{Engine, STAMPS, load};
use crate::report::Row;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use stepscope::gpu::DRIVER_SYMBOLS;

const COLD_MAX_MS: f64 = 500.0;
const WARM_MAX_MS: f64 = 100.0;

pub fn row(args: &Args, row: &mut Row) -> Result<()> {
    let engine = Engine::start(args)?;
    let (needed, has) = (DRIVER_SYMBOLS, |name: &&str| engine.driver.has(name));
    let missing: Vec<&str> = needed.iter().copied().filter(|name| !has(name)).collect();
    let there = needed.len() - missing.len();
    row.exactly("symbols that are there", there as u64, needed.len() as u64);
    if !missing.is_empty() {
        row.skipped("missing symbols", missing.join(" "))
    }
    // Without the driver's cache of compiled kernels, in a process that has compiled nothing.
    let variables = [("CUDA_CACHE_DISABLE", "1")];
    let cold = child::run_with(args, "cold", Duration::from_secs(60), &variables)?;
    ensure!(cold.how == How::Code(0), "the cold start ended with {:?}", cold.how);
    row.at_most("compiling the stamp kernels, cold", cold.last.parse()?, "ms", COLD_MAX_MS);
    let first = timed_attach(&engine, args)?;
    row.reported("attach, first in the process", first, "ms");
    let warm = timed_attach(&engine, args)?;
    row.at_most("attach, warm", warm, "ms", WARM_MAX_MS);
    row.holds("attach and detach work", true, "");
    Ok(())
}

/// Attaches and detaches; ms of the former.
fn timed_attach(engine: &Engine, args: &Args) -> Result<f64> {
    let begun = Instant::now();
    let gpu = engine.attach(args, 4)?;
    let took = begun.elapsed();
    gpu.detach(Duration::from_secs(1)).context("detaching")?;
    Ok(took.as_secs_f64() * 1e3)
}

/// Part `cold`: ms that the driver takes to compile the stamp kernels.
pub fn cold(args: &Args) -> Result<String> {
    let engine = Engine::start(args)?;
    let begun = Instant::now();
    load(&engine.driver, STAMPS)?;
    Ok((begun.elapsed().as_secs_f64() * 1e3).to_string())
}
