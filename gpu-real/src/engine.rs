//! A small engine on a card: context, streams, graphs, events, pinned memory, and its work kernels.
//!
//! What it makes is never given back: every row runs in a process of its own, which ends.

use crate::args::Args;
use crate::driver::{Driver, Refused};
use anyhow::{Context, Result, anyhow};
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::AtomicU64;
use stepscope::gpu::{Gpu, GpuUnavailable, Options, RawStream};

/// The engine's own kernels.
const WORK: &str = concat!(include_str!("../../kernels/gpu_real.ptx"), "\0");
/// The kernels that the library launches; here for probes of our own.
pub const STAMPS: &str = concat!(include_str!("../../kernels/stamp.ptx"), "\0");

/// CU_STREAM_NON_BLOCKING
const NON_BLOCKING: u32 = 1;
/// CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP
const MAPPED: u32 = 3;

/// How a capture treats careless calls of other threads.
#[derive(Clone, Copy)]
pub enum Mode {
    Global = 0,
    ThreadLocal = 1,
}

/// A card with its primary context, current on the creating thread.
pub struct Engine {
    pub driver: Driver,
    pub device: c_int,
    context: usize,
    pub spin: Kernel,
    pub small: Kernel,
    pub truth: Kernel,
    pub steps: Kernel,
    pub blocks: Kernel,
    pub fault: Kernel,
}

/// A kernel whose parameters are all 64 bit.
#[derive(Clone, Copy)]
pub struct Kernel(usize);

#[derive(Clone, Copy)]
pub struct Stream(pub usize);

#[derive(Clone, Copy)]
pub struct Graph(pub usize);

#[derive(Clone, Copy)]
pub struct Event(usize);

/// Pinned host memory that kernels write to as well.
#[derive(Clone, Copy)]
pub struct Words {
    pub host: &'static [AtomicU64],
    /// Where the device sees it.
    pub device: u64,
}

impl Engine {
    /// Initialises CUDA as an engine does, and loads the work kernels.
    ///
    /// # Errors
    /// The call that failed.
    pub fn start(args: &Args) -> Result<Engine> {
        let driver = Driver::load(args.driver.as_deref()).map_err(|why| anyhow!(why))?;
        let (mut device, mut context) = (0, 0);
        // SAFETY: each writes one value of the type of its signature.
        unsafe {
            driver.cuInit(0)?;
            driver.cuDeviceGet(&mut device, args.device.into())?;
            driver.cuDevicePrimaryCtxRetain(&mut context, device)?;
            driver.cuCtxSetCurrent(context)?;
        }
        let module = load(&driver, WORK).context("the work kernels")?;
        let kernel = |name| function(&driver, module, name);
        Ok(Engine {
            spin: kernel(c"gpu_real_spin")?,
            small: kernel(c"gpu_real_small")?,
            truth: kernel(c"gpu_real_truth")?,
            steps: kernel(c"gpu_real_steps")?,
            blocks: kernel(c"gpu_real_blocks")?,
            fault: kernel(c"gpu_real_fault")?,
            driver,
            device,
            context,
        })
    }

    /// Makes the context current on the calling thread.
    pub fn enter(&self) -> Result<(), Refused> {
        // SAFETY: the context is ours and alive.
        unsafe { self.driver.cuCtxSetCurrent(self.context) }
    }

    /// Attaches stepscope as an engine does. On the fake driver a few times: there a machine that
    /// is busy with other things stretches the self test beyond its patience.
    ///
    /// # Errors
    /// Why there are no stamps.
    pub fn attach(&self, args: &Args, lanes: u16) -> Result<Gpu, GpuUnavailable> {
        let (library, ptx) = (args.driver.clone(), args.stamps.as_deref().and_then(text_of));
        let options = Options { lanes, library, ptx, nvml: false, ..Options::default() };
        let tries = if self.driver.is_fake() { 10 } else { 1 };
        let mut attached = Gpu::attach(RawStream::LEGACY, &options);
        for _ in 1..tries {
            if !matches!(attached, Err(GpuUnavailable::SelfTest(_))) {
                break;
            }
            attached = Gpu::attach(RawStream::LEGACY, &options)
        }
        attached
    }

    /// Another module's kernel.
    pub fn other_kernel(&self, text: &str, name: &CStr) -> Result<Kernel> {
        let module = load(&self.driver, text)?;
        Ok(function(&self.driver, module, name)?)
    }

    pub fn stream(&self) -> Result<Stream, Refused> {
        let mut stream = 0;
        // SAFETY: writes one handle.
        unsafe { self.driver.cuStreamCreate(&mut stream, NON_BLOCKING)? };
        Ok(Stream(stream))
    }

    /// A stream that yields to all others.
    pub fn modest_stream(&self) -> Result<Stream, Refused> {
        let (mut stream, mut least, mut greatest) = (0, 0, 0);
        // SAFETY: each writes values of its signature's types.
        unsafe {
            self.driver.cuCtxGetStreamPriorityRange(&mut least, &mut greatest)?;
            self.driver.cuStreamCreateWithPriority(&mut stream, NON_BLOCKING, least)?;
        }
        Ok(Stream(stream))
    }

    /// Device memory, zeroed.
    pub fn device_memory(&self, bytes: usize) -> Result<u64, Refused> {
        let mut place = 0;
        // SAFETY: writes one address, then sets the bytes that it has just got. The wait is for the
        // legacy stream, in which they are set: the engine's streams are not ordered behind it.
        unsafe {
            self.driver.cuMemAlloc_v2(&mut place, bytes)?;
            self.driver.cuMemsetD8_v2(place, 0, bytes)?;
            self.driver.cuStreamSynchronize(0)?;
        }
        Ok(place)
    }

    /// What lies in device memory.
    pub fn read(&self, place: u64, words: usize) -> Result<Vec<u64>, Refused> {
        let mut there = vec![0u64; words];
        // SAFETY: the vector has so many bytes; the place is the caller's device memory.
        unsafe { self.driver.cuMemcpyDtoH_v2(there.as_mut_ptr().cast(), place, words * 8)? };
        Ok(there)
    }

    /// Pinned host memory, zeroed.
    pub fn words(&self, count: usize) -> Result<Words, Refused> {
        let (mut host, mut device) = (null_mut::<c_void>(), 0);
        // SAFETY: each writes one value of its signature's type.
        unsafe {
            self.driver.cuMemHostAlloc(&mut host, count * 8, MAPPED)?;
            self.driver.cuMemHostGetDevicePointer_v2(&mut device, host, 0)?;
        }
        // SAFETY: so many bytes have just been allocated, page aligned, and are never given back;
        // a zeroed word is a valid AtomicU64.
        let host = unsafe {
            host.write_bytes(0, count * 8);
            std::slice::from_raw_parts(host.cast::<AtomicU64>(), count)
        };
        Ok(Words { host, device })
    }

    /// Queues a kernel.
    pub fn launch<const N: usize>(
        &self,
        kernel: Kernel,
        [blocks, threads]: [u32; 2],
        stream: Stream,
        mut parameters: [u64; N],
    ) -> Result<(), Refused> {
        let mut places: [*mut c_void; N] = [null_mut(); N];
        for (place, parameter) in places.iter_mut().zip(&mut parameters) {
            *place = std::ptr::from_mut(parameter).cast()
        }
        let (places, none) = (places.as_mut_ptr(), null_mut());
        // SAFETY: our kernels take these parameters, which the driver copies before it returns;
        // the addresses among them are the caller's device memory, which is never given back.
        unsafe {
            self.driver
                .cuLaunchKernel(kernel.0, blocks, 1, 1, threads, 1, 1, 0, stream.0, places, none)
        }
    }

    pub fn synchronize(&self, stream: Stream) -> Result<(), Refused> {
        // SAFETY: the stream is never destroyed.
        unsafe { self.driver.cuStreamSynchronize(stream.0) }
    }

    pub fn begin_capture(&self, stream: Stream, mode: Mode) -> Result<(), Refused> {
        // SAFETY: as above.
        unsafe { self.driver.cuStreamBeginCapture_v2(stream.0, mode as c_int) }
    }

    /// The graph that was captured, ready to be replayed.
    pub fn end_capture(&self, stream: Stream) -> Result<Graph, Refused> {
        let (mut graph, mut exec) = (0, 0);
        // SAFETY: as above; each writes one handle.
        unsafe {
            self.driver.cuStreamEndCapture(stream.0, &mut graph)?;
            self.driver.cuGraphInstantiateWithFlags(&mut exec, graph, 0)?;
            self.driver.cuGraphDestroy(graph)?;
        }
        Ok(Graph(exec))
    }

    /// Captures what `record` launches on the stream.
    pub fn captured(&self, stream: Stream, record: impl FnOnce() -> Result<()>) -> Result<Graph> {
        self.begin_capture(stream, Mode::ThreadLocal)?;
        record()?;
        Ok(self.end_capture(stream)?)
    }

    pub fn replay(&self, graph: Graph, stream: Stream) -> Result<(), Refused> {
        // SAFETY: neither is ever destroyed.
        unsafe { self.driver.cuGraphLaunch(graph.0, stream.0) }
    }

    pub fn event(&self) -> Result<Event, Refused> {
        let mut event = 0;
        // SAFETY: writes one handle.
        unsafe { self.driver.cuEventCreate(&mut event, 0)? };
        Ok(Event(event))
    }

    pub fn record(&self, event: Event, stream: Stream) -> Result<(), Refused> {
        // SAFETY: neither is ever destroyed.
        unsafe { self.driver.cuEventRecord(event.0, stream.0) }
    }

    pub fn wait(&self, event: Event) -> Result<(), Refused> {
        // SAFETY: as above.
        unsafe { self.driver.cuEventSynchronize(event.0) }
    }

    /// Nanoseconds on the device between two events that are over.
    pub fn between(&self, start: Event, end: Event) -> Result<f64, Refused> {
        let mut milliseconds = 0f32;
        // SAFETY: as above; writes one float.
        unsafe { self.driver.cuEventElapsedTime(&mut milliseconds, start.0, end.0)? };
        Ok(f64::from(milliseconds) * 1e6)
    }
}

impl Stream {
    /// The stream as the library takes it.
    pub fn raw(self) -> RawStream {
        // SAFETY: streams of the engine live as long as the process.
        unsafe { RawStream::from_ptr(std::ptr::with_exposed_provenance_mut(self.0)) }
    }
}

fn text_of(file: &std::path::Path) -> Option<CString> {
    CString::new(std::fs::read(file).ok()?).ok()
}

/// Compiles a PTX text that ends with a NUL.
pub fn load(driver: &Driver, text: &str) -> Result<usize> {
    let text = CStr::from_bytes_until_nul(text.as_bytes())?;
    let mut module = 0;
    // SAFETY: the text is terminated; writes one handle.
    unsafe { driver.cuModuleLoadData(&mut module, text.as_ptr())? };
    Ok(module)
}

fn function(driver: &Driver, module: usize, name: &CStr) -> Result<Kernel, Refused> {
    let mut function = 0;
    // SAFETY: the module was loaded; writes one handle.
    unsafe { driver.cuModuleGetFunction(&mut function, module, name.as_ptr())? };
    Ok(Kernel(function))
}
