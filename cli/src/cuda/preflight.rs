//! Finds a driver that cudarc can use, before cudarc is asked: it panics where something is missing.

#![allow(unsafe_code)] // cudarc marks the look at its own library as unsafe.

use super::step::{Kernels, StepDevice};
use crate::doctor::{Driver, advice};
use anyhow::{Context, Result, bail, ensure};
use cudarc::driver::{CudaContext, sys};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stepscope::Stepscope;
use stepscope::gpu::{Gpu, Options, RawStream};

/// What cudarc calls on our behalf; it looks each up at its first use.
const OF_CUDARC: [&str; 31] = [
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventQuery",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuInit",
    "cuLaunchKernel",
    "cuMemFreeHost",
    "cuMemHostAlloc",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamSynchronize",
];

/// A usable GPU: the first one, with a context of ours and the demo's kernels.
pub struct Cuda {
    context: Arc<CudaContext>,
    kernels: Kernels,
    library: Option<PathBuf>,
    /// Its product name.
    pub name: String,
}

impl Cuda {
    /// Opens the first device of `library`, or of the driver that the loader finds.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn open(library: Option<&Path>) -> Result<Cuda> {
        let driver = Driver::load(library).map_err(|cause| match library {
            Some(_) => anyhow::anyhow!(cause),
            None => anyhow::anyhow!("no NVIDIA driver"),
        })?;
        let missing: Vec<&str> = OF_CUDARC.into_iter().filter(|name| !driver.has(name)).collect();
        ensure!(missing.is_empty(), "the driver lacks {}", missing.join(", "));
        if let Err(refused) = driver.init() {
            let (what, todo) = advice(refused.code);
            bail!("{} failed with CUDA error {} ({what}): {todo}", refused.call, refused.code)
        }
        let devices = driver.devices().ok().filter(|devices| !devices.is_empty());
        let first = devices.context("the driver sees no device")?.swap_remove(0);
        let [major, minor] = first.compute_capability;
        ensure!(major >= 7, "compute capability {major}.{minor} is too old: 7.0 is needed");
        same_library(&driver)?;
        // Never closed: cudarc and the stamps hold its functions.
        std::mem::forget(driver);
        let context =
            CudaContext::new(0).map_err(|error| anyhow::anyhow!("no context: {error}"))?;
        // SAFETY: nothing of ours is shared between streams, so nothing needs cudarc's own events,
        // which must not be recorded into our captures.
        unsafe { context.disable_event_tracking() };
        let kernels = Kernels::load(&context)?;
        try_stamps(library)?;
        let name = first.name.unwrap_or_else(|| "a GPU without a name".into());
        Ok(Cuda { context, kernels, library: library.map(Path::to_path_buf), name })
    }

    /// A stream of this GPU for one worker, stamped for `scope`.
    ///
    /// # Errors
    /// What the driver or the stamps refuse.
    pub fn device(&self, scope: &Stepscope) -> Result<StepDevice> {
        StepDevice::new(&self.context, &self.kernels, self.library.as_deref(), scope)
    }
}

/// Before a run depends on them: what refuses now would refuse then.
fn try_stamps(library: Option<&Path>) -> Result<()> {
    let library = library.map(Path::to_path_buf);
    let options = Options { lanes: 1, slots: 64, library, nvml: false, ..Options::default() };
    let gpu = Gpu::attach(RawStream::LEGACY, &options).context("no stamps on this GPU")?;
    // What cannot be given back is 70 KiB.
    let _ = gpu.detach(Duration::from_millis(100));
    Ok(())
}

/// cudarc searches by names of its own; it must come to the very library that was looked at.
fn same_library(driver: &Driver) -> Result<()> {
    // SAFETY: both load libraries by names of the driver only; one is loaded already.
    let found = unsafe { sys::is_culib_present() };
    ensure!(found, "cudarc does not find the driver's library");
    // SAFETY: as above; it was found, so this does not panic. An address fits any name.
    let theirs =
        unsafe { sys::culib().get::<*const std::ffi::c_void>(b"cuInit\0").ok().map(|s| *s) };
    let is_same = theirs.is_some_and(|address| Some(address.addr()) == driver.address("cuInit"));
    ensure!(
        is_same,
        "cudarc finds another driver library first: take toolkits' stub folders out of \
         LD_LIBRARY_PATH, and name a library with --driver only where no driver is installed"
    );
    Ok(())
}
