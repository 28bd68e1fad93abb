//! An engine on unmodified cudarc: its context, its streams, its launches and its captured graphs,
//! and a stamp library that finds the engine's own copy of the driver by name.
#![allow(missing_docs, unsafe_code)] // Kernel launches, and streams by their pointers.

#[path = "common/fake_gpu.rs"]
#[allow(dead_code)]
mod fake_gpu;

use cudarc::driver::{
    CudaContext, CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, LaunchConfig,
    PushKernelArg, sys,
};
use cudarc::nvrtc::Ptx;
use fake_gpu::{FakeGpu, settled};
use std::sync::Arc;
use stepscope::gpu::{Gpu, Lane, Options, Point, RawStream, StepInfo, StepTime};

const STEPS: usize = 1_000;
const ONE_THREAD: LaunchConfig =
    LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };

/// cudarc tries `libcuda.so` before it tries the name that the driver has: where a real driver is
/// installed under both names, that one comes first, and there is nothing to do here.
fn cudarc_is_on_the_fake_driver() -> bool {
    // SAFETY: loads the library as any call of cudarc would.
    let found =
        unsafe { sys::is_culib_present() && sys::culib().get::<usize>(b"fakecuda_set\0").is_ok() };
    if !found {
        let required = std::env::var("STEPSCOPE_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
        assert!(!required, "another libcuda.so is in the way and STEPSCOPE_REQUIRE_TOOLS=1");
        println!("skipped: cudarc finds another libcuda.so first")
    }
    found
}

/// One engine stream with its work kernel, which writes down when it ran.
struct Engine {
    stream: Arc<CudaStream>,
    work: CudaFunction,
    place: CudaSlice<u64>,
    truth: CudaSlice<u64>,
}

impl Engine {
    fn new(context: &Arc<CudaContext>, stream: Arc<CudaStream>) -> Engine {
        let module = context.load_module(Ptx::from_src(fake_gpu::WORK)).unwrap();
        let work = module.load_function("work").unwrap();
        let truth = stream.alloc_zeros::<u64>(STEPS * 2).unwrap();
        let address = truth.device_ptr(&stream).0;
        let place = stream.clone_htod(&[address]).unwrap();
        Engine { stream, work, place, truth }
    }

    fn raw(&self) -> RawStream {
        // SAFETY: the stream outlives the lane: both live to the end of the test.
        unsafe { RawStream::from_ptr(self.stream.cu_stream().cast()) }
    }

    fn work(&self) {
        let ns = 3_000u64;
        let mut launch = self.stream.launch_builder(&self.work);
        launch.arg(&self.place).arg(&ns);
        // SAFETY: the kernel takes these parameters, and the memory holds a record per step.
        unsafe { launch.launch(ONE_THREAD) }.unwrap();
    }

    /// The work and the end stamp as one graph.
    fn capture(&self, lane: &mut Lane) -> CudaGraph {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).unwrap();
        self.work();
        lane.capture(self.raw(), Point::MarkA).unwrap();
        lane.capture(self.raw(), Point::End).unwrap();
        self.stream.end_capture(sys::CUgraphInstantiate_flags(0)).unwrap().unwrap()
    }
}

/// Each step holds its own run of the work kernel and nothing of its neighbours, on both clocks.
fn judge(fake: &FakeGpu, steps: &[StepTime], truth: &[u64]) {
    let mut before = 0;
    for (step, work) in steps.iter().zip(truth.chunks_exact(2)) {
        let begin = fake.full(step.gpu_begin);
        let end = begin + step.gpu_ns;
        assert!(before <= begin && begin <= work[0] && work[1] <= end, "{step:?}");
        before = end;
        for (gpu, host) in [(begin, step.begin), (end, step.end)] {
            let (first, last) = fake.shown(gpu, 0).unwrap();
            let host = host.as_nanos() as i64;
            let error = (host - first).unsigned_abs().max((host - last).unsigned_abs());
            assert!(error <= step.error_ns, "{error} ns, bound {} ns", step.error_ns)
        }
    }
}

#[test]
fn steps_of_an_engine_on_cudarc_are_timed_eager_and_by_graph() {
    let fake = FakeGpu::new();
    if !cudarc_is_on_the_fake_driver() {
        return;
    }
    let context = CudaContext::new(0).unwrap();
    // SAFETY: each buffer is used on one stream only. A capture could not hold cudarc's events of
    // launches before it.
    unsafe { context.disable_event_tracking() };
    let engine = Engine::new(&context, context.new_stream().unwrap());
    // No path: the driver's name finds the copy that the engine has loaded.
    let options = Options { nvml: false, ..Options::default() };
    let gpu = Gpu::attach(engine.raw(), &options).unwrap();
    assert_eq!(gpu.identity().name, context.name().ok());
    let mut lane = gpu.lane(engine.raw()).unwrap();
    let graph = engine.capture(&mut lane);
    let steps: Vec<StepTime> = (0..STEPS)
        .map(|step| {
            let mut ticket = lane.begin(StepInfo::default());
            if step % 2 == 0 {
                engine.work();
                lane.end(&mut ticket)
            } else {
                graph.launch().unwrap();
                lane.end_in_graph(&mut ticket)
            }
            let time = settled(&gpu, ticket);
            assert_eq!(time.mark_a.is_some(), step % 2 == 1);
            time
        })
        .collect();
    let truth = engine.stream.clone_dtoh(&engine.truth).unwrap();
    engine.stream.synchronize().unwrap();
    judge(&fake, &steps, &truth);
    let counts = gpu.counts(lane.id());
    assert_eq!((counts.begun, counts.done, counts.unclaimed), (STEPS as u64, STEPS as u64, 0));

    // The two default streams are streams like any other.
    for stream in [context.default_stream(), context.per_thread_stream()] {
        let engine = Engine::new(&context, stream);
        let mut lane = gpu.lane(engine.raw()).unwrap();
        let steps: Vec<StepTime> = (0..50)
            .map(|_| {
                let mut ticket = lane.begin(StepInfo::default());
                engine.work();
                lane.end(&mut ticket);
                settled(&gpu, ticket)
            })
            .collect();
        let truth = engine.stream.clone_dtoh(&engine.truth).unwrap();
        engine.stream.synchronize().unwrap();
        judge(&fake, &steps, &truth)
    }
    context.check_err().expect("cudarc met no error that it kept for later");
}
