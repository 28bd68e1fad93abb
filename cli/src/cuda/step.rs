//! One worker's stream: each step of the simulated engine is a kernel that spins for the step's time,
//! stamped by stepscope, with notes of our own around it.

#![allow(unsafe_code)] // Kernel launches, and a page of memory shared with the GPU.

use anyhow::{Context, Result, anyhow};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaGraph, CudaStream, DriverError, LaunchConfig,
    PinnedHostSlice, PushKernelArg,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stepscope::gpu::{Gpu, Lane, Options, Point, RawStream};
use stepscope::{Launch, Phase, Shape, StepClock, Stepscope, Time};
use stepscope_sim::device::{Device, End, Finish, LAUNCH_NS, Span, Within};

/// PTX 6.0 for sm_70, made from kernels/demo.cu; every driver since R410 compiles it.
const PTX: &str = include_str!("../../../kernels/demo.ptx");
const ONE_THREAD: LaunchConfig =
    LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
/// Between two looks at a step that is not done.
const LOOK_AGAIN_NS: u64 = 50_000;

/// Words of the page: what the kernels are told, and what they write.
const ORDER: usize = 0;
const OUTER_BEGIN: usize = 1;
const INNER_BEGIN: usize = 2;
const INNER_END: usize = 3;
const OUTER_END: usize = 4;
const WORDS: usize = 8;

/// The demo's kernels, loaded.
#[derive(Clone)]
pub struct Kernels {
    note: CudaFunction,
    work: CudaFunction,
}

impl Kernels {
    pub(super) fn load(context: &Arc<CudaContext>) -> Result<Kernels> {
        let module = context
            .load_module(cudarc::nvrtc::Ptx::from_src(PTX))
            .map_err(|error| anyhow!("the demo's kernels do not load: {error}"))?;
        let function =
            |name| module.load_function(name).map_err(|error| anyhow!("{name}: {error}"));
        Ok(Kernels { note: function("demo_note")?, work: function("demo_work")? })
    }
}

/// Memory that the host and the kernels share. Freed when dropped: the stream must be idle then.
struct Page {
    memory: PinnedHostSlice<u64>,
    address: u64,
}

impl Page {
    fn new(context: &Arc<CudaContext>) -> Result<Page, DriverError> {
        // SAFETY: set to zeros below, before anybody reads it.
        let mut memory = unsafe { context.alloc_pinned_with_flags::<u64>(WORDS, 0)? };
        memory.as_mut_slice()?.fill(0);
        // Memory of cuMemHostAlloc has one address on host and device.
        let address = memory.as_mut_ptr()?.expose_provenance() as u64;
        Ok(Page { memory, address })
    }

    fn at(&self, word: usize) -> u64 {
        self.address + 8 * word as u64
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        debug_assert!(word < self.memory.len());
        // SAFETY: inside the page, which lives as long as self; host and device access its words
        // whole, and the host does so through this only.
        unsafe {
            AtomicU64::from_ptr(std::ptr::with_exposed_provenance_mut(self.at(word) as usize))
        }
    }

    fn read(&self, word: usize) -> u64 {
        // Relaxed: a wait for the stream's event stands between the kernel's store and this load.
        self.word(word).load(Ordering::Relaxed)
    }
}

/// The step under way.
struct Flight {
    /// The host's clock before the first launch, and how well times were known then.
    launched_at: u64,
    error_ns: u64,
    expected_end: u64,
    /// When the host saw that it was done.
    seen_at: Option<u64>,
    in_graph: bool,
}

/// A stream of a real GPU as the simulated engine's device.
pub struct StepDevice {
    // In the order in which they have to go: stamps, what runs on the stream, the stream.
    lane: Option<Lane>,
    gpu: Gpu,
    graph: CudaGraph,
    done: CudaEvent,
    kernels: Kernels,
    page: Page,
    stream: Arc<CudaStream>,
    flight: Option<Flight>,
    /// Inner and outer end of the step before.
    last: Option<[u64; 2]>,
    failed: Option<String>,
}

// SAFETY: a graph of the driver must not be used by two threads at a time, and this owns its graph and
// hands out no reference to it. Everything else in it is Send by itself; cudarc makes the context
// current on the calling thread before each call.
unsafe impl Send for StepDevice {}

impl StepDevice {
    pub(super) fn new(
        context: &Arc<CudaContext>,
        kernels: &Kernels,
        library: Option<&Path>,
        scope: &Stepscope,
    ) -> Result<StepDevice> {
        let cuda = |error: DriverError| anyhow!("CUDA: {error}");
        let kernels = kernels.clone();
        let stream = context.new_stream().map_err(cuda)?;
        let done = context.new_event(None).map_err(cuda)?;
        let page = Page::new(context).map_err(cuda)?;
        // Once before any capture: a kernel's first launch may load it, which a capture forbids.
        note(&stream, &kernels, page.at(OUTER_BEGIN)).map_err(cuda)?;
        work(&stream, &kernels, &page).map_err(cuda)?;
        stream.synchronize().map_err(cuda)?;
        // SAFETY: the lane is dropped before the stream (order of the fields; the recorder that
        // gets it goes before this device, by the engine's order of fields).
        let raw = unsafe { RawStream::from_ptr(stream.cu_stream().cast()) };
        let options = Options {
            lanes: 1,
            library: library.map(Path::to_path_buf),
            // NVML tells of the installed driver's devices, not of a library that was named.
            nvml: library.is_none(),
            ..Options::default()
        };
        let gpu = scope.gpu(raw, &options).context("no stamps on this GPU")?;
        let mut lane = gpu.lane(raw)?;
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).map_err(cuda)?;
        work(&stream, &kernels, &page).map_err(cuda)?;
        lane.capture(raw, Point::End)?;
        note(&stream, &kernels, page.at(OUTER_END)).map_err(cuda)?;
        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).map_err(cuda)?;
        let graph = graph.context("the capture gave no graph")?;
        let (lane, flight, last, failed) = (Some(lane), None, None, None);
        Ok(StepDevice { lane, gpu, graph, done, kernels, page, stream, flight, last, failed })
    }

    /// Keeps the first failure for [`Device::finished`].
    fn book(&mut self, outcome: Result<(), DriverError>) {
        if let Err(error) = outcome {
            self.failed.get_or_insert(format!("CUDA: {error}"));
        }
    }

    /// What the kernels of the finished step wrote.
    fn read(&mut self, flight: &Flight, seen_at: u64) -> Span {
        let clock = self.gpu.clock();
        // Two multiprocessors may read the timer one step apart.
        let (slack, error) = (clock.resolution_ns, clock.error_ns.max(flight.error_ns));
        let [outer_begin, begin, end, outer_end] =
            [OUTER_BEGIN, INNER_BEGIN, INNER_END, OUTER_END].map(|word| self.page.read(word));
        let between =
            |low: u64, high: u64| Within { low: low.saturating_sub(slack), high: high + slack };
        let gpu_ns = between(end.saturating_sub(begin), outer_end.saturating_sub(outer_begin));
        let last = self.last.replace([end, outer_end]);
        let idle_before_ns = last.map(|[last_end, last_outer_end]| {
            between(outer_begin.saturating_sub(last_outer_end), begin.saturating_sub(last_end))
        });
        // Clocks run apart by less than one in a thousand.
        let not_before = flight.launched_at + gpu_ns.low - gpu_ns.low / 1_000;
        Span {
            // Twice: a newer round of the clock may know less than the one before.
            end: End::AsTold {
                not_before: not_before.saturating_sub(2 * error),
                not_after: seen_at + 2 * error,
            },
            gpu_ns,
            idle_before_ns,
        }
    }
}

impl Device for StepDevice {
    fn clock(&mut self) -> Box<dyn StepClock> {
        Box::new(self.lane.take().expect("asked for once, by the engine's contract"))
    }

    fn before(&mut self) {
        if self.flight.is_some() {
            // Given up, and the page is needed again: what it wrote is the step before now.
            let outcome = self.stream.synchronize();
            self.book(outcome);
            self.last = Some([self.page.read(INNER_END), self.page.read(OUTER_END)])
        }
        self.flight = Some(Flight {
            launched_at: Time::now().as_nanos(),
            error_ns: self.gpu.clock().error_ns,
            expected_end: 0,
            seen_at: None,
            in_graph: false,
        });
        let outcome = note(&self.stream, &self.kernels, self.page.at(OUTER_BEGIN));
        self.book(outcome)
    }

    fn launch(&mut self, at: u64, ns: u64, shape: Shape) -> Launch {
        self.page.word(ORDER).store(ns, Ordering::Release);
        let in_graph = shape.phase() == Phase::Decode;
        let outcome = if in_graph {
            self.graph.launch()
        } else {
            work(&self.stream, &self.kernels, &self.page)
        };
        self.book(outcome);
        if let Some(flight) = &mut self.flight {
            flight.expected_end = at.max(flight.launched_at) + LAUNCH_NS + ns;
            flight.in_graph = in_graph
        }
        if in_graph { Launch::InGraph } else { Launch::Stamp }
    }

    fn launched(&mut self) -> u64 {
        let Some(Flight { expected_end, in_graph, .. }) = self.flight else { return 0 };
        if !in_graph {
            let outcome = note(&self.stream, &self.kernels, self.page.at(OUTER_END));
            self.book(outcome)
        }
        let outcome = self.done.record(&self.stream);
        self.book(outcome);
        expected_end
    }

    fn finished(&mut self, at: u64) -> Finish {
        if let Some(why) = &self.failed {
            return Finish::Failed(why.clone());
        }
        let Some(mut flight) = self.flight.take() else {
            return Finish::Failed("no step is under way".into());
        };
        let seen_at = match flight.seen_at {
            Some(seen_at) => seen_at,
            None => match self.done.try_is_complete() {
                Ok(true) => Time::now().as_nanos(),
                Ok(false) => {
                    self.flight = Some(flight);
                    return Finish::Later(Time::now().as_nanos() + LOOK_AGAIN_NS);
                }
                Err(error) => return Finish::Failed(format!("CUDA: {error}")),
            },
        };
        // The engine's own time may lag behind; its outputs must not come before the step's end.
        let outputs_at = seen_at + self.gpu.clock().error_ns;
        if at < outputs_at && flight.seen_at.is_none() {
            flight.seen_at = Some(seen_at);
            self.flight = Some(flight);
            return Finish::Later(outputs_at);
        }
        Finish::Done(self.read(&flight, seen_at))
    }

    fn runs_on(&self) -> bool {
        self.flight.is_some()
    }

    /// The kernel runs to its end; [`Device::before`] waits for it.
    fn reset(&mut self) {}
}

impl Drop for StepDevice {
    fn drop(&mut self) {
        // The kernels write to the page, which goes with this.
        let _ = self.stream.synchronize();
    }
}

fn note(stream: &Arc<CudaStream>, kernels: &Kernels, place: u64) -> Result<(), DriverError> {
    let mut launch = stream.launch_builder(&kernels.note);
    launch.arg(&place);
    // SAFETY: one 64-bit parameter, the address of a word of the page, which outlives the stream's
    // work (`drop` waits for it).
    unsafe { launch.launch(ONE_THREAD) }.map(drop)
}

fn work(stream: &Arc<CudaStream>, kernels: &Kernels, page: &Page) -> Result<(), DriverError> {
    let (order, place) = (page.at(ORDER), page.at(INNER_BEGIN));
    let mut launch = stream.launch_builder(&kernels.work);
    launch.arg(&order).arg(&place);
    // SAFETY: as above: one word that it reads, two that it writes.
    unsafe { launch.launch(ONE_THREAD) }.map(drop)
}
