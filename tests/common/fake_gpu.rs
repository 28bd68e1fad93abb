//! An engine on the fake CUDA driver: context, streams, graphs, and a work kernel that writes down
//! when it really ran.

use libloading::Library;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use stepscope::gpu::{Gpu, RawStream, Resolution, StepTicket, StepTime};

/// `work(place, ns)`: spins for `ns`, then writes its begin and end to `*place` and moves it on.
pub const WORK: &str = "
.version 6.0
.target sm_70
.address_size 64
.visible .entry work(.param .u64 p_place, .param .u64 p_ns)
{
  .reg .pred %p<2>;
  .reg .b64 %rd<8>;
  ld.param.u64 %rd1, [p_place];
  ld.param.u64 %rd2, [p_ns];
  mov.u64 %rd3, %globaltimer;
LOOP:
  mov.u64 %rd4, %globaltimer;
  sub.s64 %rd5, %rd4, %rd3;
  setp.lt.u64 %p1, %rd5, %rd2;
  @%p1 bra LOOP;
  ld.relaxed.gpu.global.u64 %rd6, [%rd1];
  st.relaxed.gpu.global.u64 [%rd6], %rd3;
  st.relaxed.gpu.global.u64 [%rd6+8], %rd4;
  add.s64 %rd6, %rd6, 16;
  st.relaxed.gpu.global.u64 [%rd1], %rd6;
  ret;
}
";

/// One private copy of the fake driver with a context that is current on the creating thread.
pub struct FakeGpu {
    library: Library,
    pub path: PathBuf,
    context: usize,
    work: usize,
}

macro_rules! call {
    ($gpu:expr, $name:literal($($arg:expr => $kind:ty),*)) => {{
        // SAFETY: the fake driver exports this name with this signature.
        unsafe {
            let function: libloading::Symbol<unsafe extern "C" fn($($kind),*) -> c_int> =
                $gpu.library.get(concat!($name, "\0").as_bytes()).expect($name);
            function($($arg),*)
        }
    }};
}

impl FakeGpu {
    pub fn new() -> FakeGpu {
        static COPIES: AtomicU32 = AtomicU32::new(0);
        let exe = std::env::current_exe().unwrap();
        let built = exe.parent().unwrap().join("libfake_cuda.so");
        let copy = COPIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("fake-cuda-{}-{copy}.so", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Each copy is a driver of its own, with its own state.
        std::fs::copy(&built, &path).unwrap_or_else(|e| panic!("{}: {e}", built.display()));
        // SAFETY: our own test driver.
        let library = unsafe { Library::new(&path) }.unwrap();
        let mut gpu = FakeGpu { library, path, context: 0, work: 0 };
        assert_eq!(call!(gpu, "cuInit"(0 => c_uint)), 0);
        let mut context = 0;
        let retained =
            call!(gpu, "cuDevicePrimaryCtxRetain"(&mut context => *mut usize, 0 => c_int));
        assert_eq!(retained, 0);
        gpu.context = context;
        gpu.enter();
        let module = gpu.load(WORK);
        gpu.work = gpu.function(module, "work");
        gpu
    }

    /// Loads kernels of the engine.
    pub fn load(&self, ptx: &str) -> usize {
        let text = CString::new(ptx).unwrap();
        let mut module = 0;
        let loaded = call!(self, "cuModuleLoadData"(
            &mut module => *mut usize, text.as_ptr() => *const c_char));
        assert_eq!(loaded, 0, "the kernels load");
        module
    }

    /// A kernel of a module.
    pub fn function(&self, module: usize, name: &str) -> usize {
        let name = CString::new(name).unwrap();
        let mut function = 0;
        let found = call!(self, "cuModuleGetFunction"(
            &mut function => *mut usize, module => usize, name.as_ptr() => *const c_char));
        assert_eq!(found, 0);
        function
    }

    /// Makes the context current on the calling thread.
    pub fn enter(&self) {
        assert_eq!(call!(self, "cuCtxSetCurrent"(self.context => usize)), 0)
    }

    /// Leaves the calling thread without a context.
    pub fn leave(&self) {
        assert_eq!(call!(self, "cuCtxSetCurrent"(0 => usize)), 0)
    }

    pub fn stream(&self) -> Stream<'_> {
        let mut stream = 0;
        assert_eq!(call!(self, "cuStreamCreate"(&mut stream => *mut usize, 1 => c_uint)), 0);
        Stream { gpu: self, stream }
    }

    /// Device memory, which on this driver is the host's too.
    pub fn memory(&self, bytes: usize) -> u64 {
        let mut place = 0;
        assert_eq!(call!(self, "cuMemAlloc_v2"(&mut place => *mut u64, bytes => usize)), 0);
        place
    }

    pub fn write(&self, place: u64, word: u64) {
        let copied = call!(self, "cuMemcpyHtoD_v2"(
            place => u64, std::ptr::from_ref(&word).cast() => *const c_void, 8 => usize));
        assert_eq!(copied, 0)
    }

    pub fn read(&self, place: u64, words: usize) -> Vec<u64> {
        let mut there = vec![0u64; words];
        let copied = call!(self, "cuMemcpyDtoH_v2"(
            there.as_mut_ptr().cast() => *mut c_void, place => u64, words * 8 => usize));
        assert_eq!(copied, 0);
        there
    }

    pub fn set(&self, knob: &str, value: i64) {
        let name = CString::new(knob).unwrap();
        assert_eq!(call!(self, "fakecuda_set"(name.as_ptr() => *const c_char, value => i64)), 0)
    }

    /// The next calls of `symbol`, after `skip`, answer `code`, `count` times.
    pub fn fail(&self, symbol: &str, skip: u64, count: u64, code: i32) {
        let name = CString::new(symbol).unwrap();
        // SAFETY: the side door's signature.
        unsafe {
            let fail: libloading::Symbol<unsafe extern "C" fn(*const c_char, u64, u64, c_int)> =
                self.library.get(b"fakecuda_fail\0").unwrap();
            fail(name.as_ptr(), skip, count, code)
        }
    }

    pub fn calls(&self, symbol: &str) -> u64 {
        let name = CString::new(symbol).unwrap();
        // SAFETY: the side door's signature.
        unsafe {
            let calls: libloading::Symbol<unsafe extern "C" fn(*const c_char) -> u64> =
                self.library.get(b"fakecuda_calls\0").unwrap();
            calls(name.as_ptr())
        }
    }

    /// Host time of a full GPU time, exactly.
    pub fn host_of(&self, gpu: u64) -> i64 {
        // SAFETY: the side door's signature.
        unsafe {
            let host: libloading::Symbol<unsafe extern "C" fn(u64) -> i64> =
                self.library.get(b"fakecuda_host_of\0").unwrap();
            host(gpu)
        }
    }

    /// The GPU's clock now.
    pub fn time(&self) -> u64 {
        // SAFETY: the side door's signature.
        unsafe {
            let time: libloading::Symbol<unsafe extern "C" fn() -> u64> =
                self.library.get(b"fakecuda_time\0").unwrap();
            time()
        }
    }

    /// The full GPU time of a stamp's 48 bits, which is less than 39 h away from now.
    pub fn full(&self, stamp: u64) -> u64 {
        let now = self.time();
        now.wrapping_add_signed((stamp.wrapping_sub(now) << 16).cast_signed() >> 16)
    }

    /// First and last host nanosecond, from `from_host` on, at which the GPU's clock showed a full
    /// GPU time.
    pub fn shown(&self, gpu: u64, from_host: i64) -> Option<(i64, i64)> {
        let (mut first, mut last) = (0, 0);
        let code = call!(self, "fakecuda_shown"(
            gpu => u64, from_host => i64, &mut first => *mut i64, &mut last => *mut i64));
        (code == 0).then_some((first, last))
    }

    /// The device is reset under everybody's feet.
    pub fn reset(&self) {
        assert_eq!(call!(self, "cuDevicePrimaryCtxReset_v2"(0 => c_int)), 0)
    }
}

impl Drop for FakeGpu {
    fn drop(&mut self) {
        // Still mapped; only the name goes.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A stream of the engine.
pub struct Stream<'a> {
    gpu: &'a FakeGpu,
    stream: usize,
}

/// A graph ready to be replayed.
pub struct Graph(usize);

impl Stream<'_> {
    pub fn raw(&self) -> RawStream {
        // SAFETY: the fake driver's streams live as long as the process.
        unsafe { RawStream::from_ptr(std::ptr::with_exposed_provenance_mut(self.stream)) }
    }

    /// Launches the work kernel; false = the driver refused.
    pub fn work(&self, place: u64, ns: u64) -> bool {
        self.launch(self.gpu.work, 1, 1, &[place, ns])
    }

    /// Launches a kernel with 64-bit parameters; false = the driver refused.
    pub fn launch(&self, function: usize, blocks: u32, threads: u32, words: &[u64]) -> bool {
        let mut words = words.to_vec();
        let mut places: Vec<*mut c_void> =
            words.iter_mut().map(|word| std::ptr::from_mut(word).cast()).collect();
        let code = call!(self.gpu, "cuLaunchKernel"(
            function => usize, blocks => c_uint, 1 => c_uint, 1 => c_uint, threads => c_uint,
            1 => c_uint, 1 => c_uint, 0 => c_uint, self.stream => usize,
            places.as_mut_ptr() => *mut *mut c_void,
            std::ptr::null_mut() => *mut *mut c_void));
        code == 0
    }

    /// Mode 0 = global, 1 = thread local, 2 = relaxed.
    pub fn begin_capture(&self, mode: i32) {
        let begun = call!(self.gpu, "cuStreamBeginCapture_v2"(self.stream => usize, mode => c_int));
        assert_eq!(begun, 0)
    }

    /// The graph, or the code with which the capture failed.
    pub fn end_capture(&self) -> Result<Graph, i32> {
        let (mut graph, mut exec) = (0, 0);
        let code =
            call!(self.gpu, "cuStreamEndCapture"(self.stream => usize, &mut graph => *mut usize));
        if code != 0 {
            return Err(code);
        }
        let made = call!(self.gpu, "cuGraphInstantiateWithFlags"(
            &mut exec => *mut usize, graph => usize, 0 => u64));
        assert_eq!(made, 0);
        Ok(Graph(exec))
    }

    pub fn replay(&self, graph: &Graph) -> bool {
        call!(self.gpu, "cuGraphLaunch"(graph.0 => usize, self.stream => usize)) == 0
    }

    pub fn synchronize(&self) {
        assert_eq!(call!(self.gpu, "cuStreamSynchronize"(self.stream => usize)), 0)
    }
}

/// What the stamps of a step say once they are there, or that they are not after five seconds.
pub fn wait(gpu: &Gpu, ticket: &StepTicket) -> Resolution {
    let asked = Instant::now();
    loop {
        let said = gpu.resolve(ticket);
        if said != Resolution::Pending || asked.elapsed() > Duration::from_secs(5) {
            return said;
        }
        std::thread::yield_now()
    }
}

/// The times of a step that must be done, counted.
pub fn settled(gpu: &Gpu, ticket: StepTicket) -> StepTime {
    wait(gpu, &ticket);
    match gpu.settle(ticket) {
        Resolution::Done(step) => step,
        other => panic!("{other:?}"),
    }
}
