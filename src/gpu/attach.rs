//! Attaching to the engine's context: every call in order, and undone in reverse where one fails.
//!
//! Never `cuInit`, never a context of our own, no flag set: what we find is what the engine made.
//! It may synchronise (module load, registration), so it belongs after the engine's own start-up and
//! not into the serving path.

use super::cupti::{Cupti, Subscription};
use super::driver::{Context, Driver, Failed, Function, Missing, Module, StreamHandle};
use super::fit::{Fit, Verdict};
use super::inner::{Inner, Kernels, Parts, RESOLUTION_SPINS, Tags};
use super::layout::{
    ALIVE, CELL_BYTES, SCRATCH, TIME_MASK, UNCLAIMED, lap_of, region_bytes, time_between,
};
use super::region::Region;
use super::words::{GpuUnavailable, Options, RawStream};
use crate::record::{DeviceCells, Time};
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The stamp kernels: PTX 6.0 for sm_70, which every driver since R410 can compile for its GPU.
const PTX: &str = concat!(include_str!("../../kernels/stamp.ptx"), "\0");

const ATTRIBUTE_MAJOR: i32 = 75;
const ATTRIBUTE_HOST_REGISTER: i32 = 99;
const MAJOR_MIN: i32 = 7;
/// CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP
const REGISTER_FLAGS: u32 = 3;
/// CU_STREAM_NON_BLOCKING
const NON_BLOCKING: u32 = 1;
/// CU_STREAM_CAPTURE_MODE_RELAXED
const RELAXED: i32 = 2;
const SELF_TEST_PATIENCE: Duration = Duration::from_secs(1);

impl From<Failed> for GpuUnavailable {
    fn from(failed: Failed) -> GpuUnavailable {
        GpuUnavailable::Call { name: failed.call, code: failed.code }
    }
}

/// What came of attaching: the shared part, the fit that the clock thread goes on with, and who
/// the device is.
pub(super) struct Attached {
    pub(super) inner: Arc<Inner>,
    pub(super) fit: Fit,
    pub(super) tags: Tags,
    pub(super) identity: Identity,
    /// CUPTI, if it was asked for and came.
    pub(super) subscription: Option<Subscription>,
}

/// What a device is called.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// Version of the driver as CUDA counts: 13000 is 13.0.
    pub driver_version: Option<i32>,
    /// Name of the device.
    pub name: Option<String>,
    /// Its PCI bus id, by which NVML knows it too.
    pub pci_bus_id: Option<String>,
    /// Compute capability, major.
    pub compute_major: i32,
}

pub(super) fn attach(
    stream: RawStream,
    options: &Options,
    cells: Arc<DeviceCells>,
) -> Result<Attached, GpuUnavailable> {
    options.check()?;
    let driver = Driver::load(options.library.as_deref()).map_err(|missing| match missing {
        Missing::Library(cause) => GpuUnavailable::LibraryMissing(cause),
        Missing::Symbol(name) => GpuUnavailable::SymbolMissing(name),
    })?;
    let driver = Arc::new(driver);
    let context = context_of(&driver, stream)?;
    let _pushed = if stream.is_named() { Some(Pushed::new(&driver, context)?) } else { None };
    let mut status = 0;
    // SAFETY: the stream is live by the promise of `RawStream::from_ptr`.
    unsafe { driver.cuStreamIsCapturing(stream.0, &mut status)? };
    if status != 0 {
        return Err(GpuUnavailable::Capturing);
    }
    let (device, compute_major) = check_device(&driver)?;
    // Without it our allocations would fail while another thread captures in global mode, and
    // break its capture.
    let _relaxed = Relaxed::new(&driver)?;
    let identity = Identity {
        driver_version: driver.version(),
        name: driver.name(device),
        pci_bus_id: driver.pci_bus_id(device),
        compute_major,
    };
    let parts = Builder::new(driver.clone(), options)?.build((context, device), options)?;
    let (mut inner, fit, tags) = first_light(parts, cells)?;
    let subscription = super::graphs::start(&mut inner, options);
    Ok(Attached { inner: Arc::new(inner), fit, tags, identity, subscription })
}

/// The context of the stream, or the current one for a default stream.
fn context_of(driver: &Driver, stream: RawStream) -> Result<Context, GpuUnavailable> {
    let mut context: Context = 0;
    // SAFETY: both write one pointer; the stream is live by the promise of `RawStream::from_ptr`.
    let asked = unsafe {
        if stream.is_named() {
            driver.cuStreamGetCtx(stream.0, &mut context)
        } else {
            driver.cuCtxGetCurrent(&mut context)
        }
    };
    match asked {
        // The driver was never initialised, so there is no context.
        Err(Failed { code: super::driver::code::NOT_INITIALIZED, .. }) => {
            Err(GpuUnavailable::NoContext)
        }
        Err(failed) => Err(failed.into()),
        Ok(()) if context == 0 => Err(GpuUnavailable::NoContext),
        Ok(()) => Ok(context),
    }
}

/// The device of the current context and its major compute capability, if it can be stamped.
fn check_device(driver: &Driver) -> Result<(i32, i32), GpuUnavailable> {
    let (mut device, mut major, mut register) = (0, 0, 0);
    // SAFETY: each writes one int; the context is current.
    unsafe {
        driver.cuCtxGetDevice(&mut device)?;
        driver.cuDeviceGetAttribute(&mut major, ATTRIBUTE_MAJOR, device)?;
        driver.cuDeviceGetAttribute(&mut register, ATTRIBUTE_HOST_REGISTER, device)?;
    }
    if major < MAJOR_MIN {
        return Err(GpuUnavailable::DeviceTooOld(major));
    }
    if register != 1 {
        return Err(GpuUnavailable::HostRegisterUnsupported);
    }
    Ok((device, major))
}

/// A context that is current as long as this lives.
pub(super) struct Pushed<'a>(&'a Driver);

impl<'a> Pushed<'a> {
    pub(super) fn new(driver: &'a Driver, context: Context) -> Result<Pushed<'a>, Failed> {
        // SAFETY: the context is the engine's, alive by its promise.
        unsafe { driver.cuCtxPushCurrent_v2(context)? };
        Ok(Pushed(driver))
    }
}

impl Drop for Pushed<'_> {
    fn drop(&mut self) {
        let mut popped = 0;
        // SAFETY: pops what `new` pushed on this thread.
        let _ = unsafe { self.0.cuCtxPopCurrent_v2(&mut popped) };
    }
}

/// The thread's capture mode is relaxed as long as this lives.
pub(super) struct Relaxed<'a> {
    driver: &'a Driver,
    before: i32,
}

impl<'a> Relaxed<'a> {
    pub(super) fn new(driver: &'a Driver) -> Result<Relaxed<'a>, Failed> {
        let mut mode = RELAXED;
        // SAFETY: swaps the calling thread's mode with the int given.
        unsafe { driver.cuThreadExchangeStreamCaptureMode(&mut mode)? };
        Ok(Relaxed { driver, before: mode })
    }
}

impl Drop for Relaxed<'_> {
    fn drop(&mut self) {
        // SAFETY: as above; puts back what was there.
        let _ = unsafe { self.driver.cuThreadExchangeStreamCaptureMode(&mut self.before) };
    }
}

/// The parts as far as they are made; what is made is unmade in reverse when it is dropped.
struct Builder {
    driver: Arc<Driver>,
    region: Option<Region>,
    module: Option<Module>,
    registered: bool,
    cells: Option<u64>,
    stream: Option<StreamHandle>,
}

impl Builder {
    fn new(driver: Arc<Driver>, options: &Options) -> Result<Builder, GpuUnavailable> {
        let bytes = region_bytes(options.lanes, options.slots);
        let region = Region::map(bytes)
            .map_err(|cause| GpuUnavailable::MapFailed { bytes, cause: cause.to_string() })?;
        Ok(Builder {
            driver,
            region: Some(region),
            module: None,
            registered: false,
            cells: None,
            stream: None,
        })
    }

    /// Makes everything that the kernels need.
    fn build(mut self, on: (Context, i32), options: &Options) -> Result<Parts, GpuUnavailable> {
        let driver = self.driver.clone();
        let driver = &*driver;
        // Taken by `finish` alone, at the end.
        let Some(region) = &self.region else { return Err(GpuUnavailable::NoContext) };
        let (address, bytes) = (region.address(), region.bytes());
        let text = CStr::from_bytes_with_nul(PTX.as_bytes()).unwrap_or(c"");
        let text = options.ptx.as_deref().unwrap_or(text);
        let (mut module, mut device_region, mut cells, mut stream) = (0, 0, 0, 0);
        let (mut least, mut greatest) = (0, 0);
        // SAFETY: the context is current and the mode relaxed; every place given is written to with
        // the type the driver's signature says; the region is mapped and lives in self.
        unsafe {
            driver.cuModuleLoadData(&mut module, text.as_ptr())?;
            self.module = Some(module);
            let kernels = Kernels {
                begin: function(driver, module, c"stepscope_begin")?,
                end: function(driver, module, c"stepscope_end")?,
                mark: function(driver, module, c"stepscope_mark")?,
                probe: function(driver, module, c"stepscope_probe")?,
            };
            driver.cuMemHostRegister_v2(address, bytes, REGISTER_FLAGS)?;
            self.registered = true;
            driver.cuMemHostGetDevicePointer_v2(&mut device_region, address, 0)?;
            let count = u64::from(options.lanes) + 1;
            driver.cuMemAlloc_v2(&mut cells, (count * CELL_BYTES) as usize)?;
            self.cells = Some(cells);
            let content = fresh_cells(options.lanes, device_region);
            driver.cuMemcpyHtoD_v2(cells, content.as_ptr().cast(), size_of_val(&content[..]))?;
            driver.cuCtxGetStreamPriorityRange(&mut least, &mut greatest)?;
            driver.cuStreamCreateWithPriority(&mut stream, NON_BLOCKING, least)?;
            self.stream = Some(stream);
            self.finish(device_region, kernels, on, options)
        }
    }

    /// All is made: nothing is undone any more.
    fn finish(
        mut self,
        device_region: u64,
        kernels: Kernels,
        (context, ordinal): (Context, i32),
        options: &Options,
    ) -> Result<Parts, GpuUnavailable> {
        let Some(region) = self.region.take() else { return Err(GpuUnavailable::NoContext) };
        region.registered();
        Ok(Parts {
            driver: self.driver.clone(),
            region,
            device_region,
            cells: self.cells.take().unwrap_or(0),
            lanes: options.lanes,
            slots: options.slots,
            kernels,
            module: self.module.take().unwrap_or(0),
            context,
            ordinal,
            own_stream: self.stream.take().unwrap_or(0),
            phases: if options.cupti.mode == Cupti::Off { 0 } else { options.slots as usize },
        })
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        let Some(region) = &self.region else { return };
        let driver = &*self.driver;
        // SAFETY: nothing was launched yet, so nothing uses what is given back here.
        unsafe {
            if let Some(stream) = self.stream {
                let _ = driver.cuStreamDestroy_v2(stream);
            }
            if let Some(cells) = self.cells {
                let _ = driver.cuMemFree_v2(cells);
            }
            if self.registered && driver.cuMemHostUnregister(region.address()).is_err() {
                // The driver still maps it: it must not be unmapped.
                region.registered()
            }
            if let Some(module) = self.module {
                let _ = driver.cuModuleUnload(module);
            }
        }
    }
}

fn function(driver: &Driver, module: Module, name: &CStr) -> Result<Function, Failed> {
    let mut function = 0;
    // SAFETY: writes one handle; the module was loaded above.
    unsafe { driver.cuModuleGetFunction(&mut function, module, name.as_ptr())? };
    Ok(function)
}

/// One cell per lane and one for the self test: no step armed, nothing unclaimed.
fn fresh_cells(lanes: u16, device_region: u64) -> Vec<[u64; 8]> {
    (0..=u64::from(lanes))
        .map(|lane| [0, 0, device_region + UNCLAIMED + 8 * lane, 0, 0, 0, 0, 0])
        .collect()
}

/// Runs every kernel once on the scratch slot, measures the timer, and makes the first round. From
/// the first launch on a failure leaks what the GPU may still write to.
fn first_light(
    parts: Parts,
    cells: Arc<DeviceCells>,
) -> Result<(Inner, Fit, Tags), GpuUnavailable> {
    let mut fit = Fit::new();
    let inner = Inner::new(parts, &fit, cells);
    inner.region.set_magic(ALIVE);
    let mut tags = Tags::default();
    let lit = self_test(&inner).and_then(|()| clock_test(&inner, &mut fit, &mut tags));
    if let Err(why) = lit {
        // Region, cells, module and stream stay as they are.
        inner.region.set_magic(super::layout::DETACHED);
        return Err(why);
    }
    inner.map.publish(fit.map());
    Ok((inner, fit, tags))
}

/// begin, mark and end, in this order, on the scratch slot: also defeats lazy module loading, which
/// must not happen inside an engine's capture.
fn self_test(inner: &Inner) -> Result<(), GpuUnavailable> {
    let tag = 1 << 48;
    let word = inner.device_region + SCRATCH;
    let cell = inner.cells + CELL_BYTES * u64::from(inner.lanes_max);
    let (kernels, stream) = (inner.kernels, inner.own_stream);
    // SAFETY: our kernels on our words, cell and stream; the context is current.
    unsafe {
        inner.driver.launch(kernels.begin, stream, [word, tag, cell, tag])?;
        inner.driver.launch(kernels.mark, stream, [word, cell, 8, 0])?;
        inner.driver.launch(kernels.end, stream, [word + 24, tag, cell])?;
    }
    let slot = inner.region.slot(SCRATCH);
    let begun = Time::now();
    let words = loop {
        let words = slot.map(|word| word.load(Ordering::Acquire));
        if words[0] != 0 && words[1] != 0 && words[3] != 0 {
            break words;
        }
        if Time::now().nanos_since(begun) > SELF_TEST_PATIENCE.as_nanos() as u64 {
            return Err(GpuUnavailable::SelfTest("the stamps did not arrive within a second"));
        }
        std::thread::yield_now()
    };
    let [begin, mark, _, end] = words;
    if [begin, mark, end].iter().any(|word| lap_of(*word) != tag) {
        return Err(GpuUnavailable::SelfTest("a stamp carries another step's tag"));
    }
    let times = [begin, mark, end].map(|word| word & TIME_MASK);
    if time_between(times[0], times[1]) < 0 || time_between(times[1], times[2]) < 0 {
        return Err(GpuUnavailable::SelfTest("the stamps are out of order"));
    }
    Ok(())
}

fn clock_test(inner: &Inner, fit: &mut Fit, tags: &mut Tags) -> Result<(), GpuUnavailable> {
    let call = |code| GpuUnavailable::Call { name: "cuLaunchKernel", code };
    let silent = || GpuUnavailable::SelfTest("the clock probe did not answer");
    let probe = inner
        .probe(tags.next(), RESOLUTION_SPINS, SELF_TEST_PATIENCE)
        .map_err(call)?
        .ok_or_else(silent)?;
    let resolution =
        probe.resolution().ok_or(GpuUnavailable::SelfTest("the GPU's timer does not move"))?;
    // However long a probe takes, what it tells is true; only later rounds have to be quick. A busy
    // machine may spoil one round; three in a row are a device that cannot be timed.
    for _ in 0..3 {
        if let Some(round) =
            inner.probe_round(fit, tags, resolution, SELF_TEST_PATIENCE).map_err(call)?
            && fit.round(round) == Verdict::Kept
        {
            return Ok(());
        }
    }
    Err(GpuUnavailable::SelfTest("the clock probes contradict each other"))
}
