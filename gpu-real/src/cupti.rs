//! Finds CUPTI and starts the library's tracing of graphs, for the rows that need it.

use crate::args::Args;
use crate::driver::Driver;
use std::path::PathBuf;
use stepscope::Time;
use stepscope::gpu::cupti::{Cupti, CuptiOptions, CuptiUnavailable, Subscription};

/// The host's clock, for CUPTI.
extern "C" fn host_clock() -> u64 {
    Time::now().as_nanos()
}

/// Starts the tracing, once in a process, after attaching and before the first graph.
///
/// # Errors
/// Why there is none.
pub fn start(args: &Args, driver: &Driver) -> Result<Subscription, CuptiUnavailable> {
    let options = CuptiOptions { mode: Cupti::Graphs, library: args.cupti.clone() };
    Subscription::start(&options, host_clock, driver.has("cuGetExportTable"), false)
}

/// Files under which CUPTI may be loaded, for a subscriber of our own.
pub fn candidates(args: &Args) -> Vec<PathBuf> {
    if let Some(file) = &args.cupti {
        return vec![file.clone()];
    }
    let names = ["libcupti.so.13", "libcupti.so.12"];
    let folders = ["", "/usr/local/cuda/extras/CUPTI/lib64", "/usr/local/cuda/lib64"];
    let places =
        folders.iter().flat_map(|folder| names.map(|name| PathBuf::from(folder).join(name)));
    places.collect()
}
