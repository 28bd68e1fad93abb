//! The words of the GPU part: what can be asked for, what can be answered, and what can go wrong.

use super::cupti::CuptiOptions;
use super::layout::{LANES_MAX, SLOTS_MAX, SLOTS_MIN};
use crate::catalog::labels;
use crate::record::Time;
use std::ffi::{CString, c_void};
use std::path::PathBuf;

/// A CUDA stream: a `CUstream` or a `cudaStream_t`, which is the same pointer.
///
/// ```
/// use stepscope::gpu::RawStream;
///
/// # let stream = std::ptr::null_mut();
/// // SAFETY: the stream is destroyed after the lane that is opened on it.
/// let stream = unsafe { RawStream::from_ptr(stream) };
/// assert_eq!(stream, RawStream::LEGACY);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawStream(pub(super) usize);

impl RawStream {
    /// The legacy default stream of the current context.
    pub const LEGACY: RawStream = RawStream(0);
    /// The default stream of the calling thread: what an engine built with per-thread default
    /// streams must pass, never a null pointer.
    pub const PER_THREAD: RawStream = RawStream(2);

    /// A stream by its pointer; null is the legacy default stream.
    ///
    /// # Safety
    /// It is a live CUDA stream of this process, and stays one while a lane is open on it.
    pub unsafe fn from_ptr(stream: *mut c_void) -> RawStream {
        // Only ever handed back to the driver.
        RawStream(stream.expose_provenance())
    }

    /// Not one of the three default streams.
    pub(super) const fn is_named(self) -> bool {
        self.0 > 2
    }
}

/// What [`Gpu::attach`](super::Gpu::attach) may be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Lanes that can be opened, one per stream and never recycled: 1 to 64.
    pub lanes: u16,
    /// Steps a lane remembers, a power of two from 64 to 1,048,576. 32 bytes of pinned host memory
    /// each. At 1,000 steps a second 16,384 leave 16 s to settle one.
    pub slots: u32,
    /// The driver's library; `None` = `libcuda.so.1`, the copy the engine has loaded if there is one.
    pub library: Option<PathBuf>,
    /// Label `gpu_id` of what the stamps tell; `None` = the one of the configuration.
    pub gpu_id: Option<String>,
    /// Read the device through NVML too: utilisation, memory, power, errors. Only
    /// [`Stepscope::gpu`](crate::Stepscope::gpu) does; it is found by its PCI bus id.
    pub nvml: bool,
    /// NVML's library; `None` = the driver's.
    pub nvml_library: Option<PathBuf>,
    /// Whether CUPTI times whole graphs too; off by default. Its start must come before the engine
    /// captures its first graph, and what came of it is [`Gpu::cupti`](super::Gpu::cupti).
    pub cupti: CuptiOptions,
    /// Other stamp kernels, for tests of the tests.
    #[doc(hidden)]
    pub ptx: Option<CString>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            lanes: 4,
            slots: 16_384,
            library: None,
            gpu_id: None,
            nvml: true,
            nvml_library: None,
            cupti: CuptiOptions::default(),
            ptx: None,
        }
    }
}

impl Options {
    pub(super) fn check(&self) -> Result<(), GpuUnavailable> {
        let refuse = |what: &str| Err(GpuUnavailable::BadOptions(what.into()));
        if !(1..=LANES_MAX).contains(&self.lanes) {
            return refuse("lanes: say 1 to 64");
        }
        if !self.slots.is_power_of_two() || !(SLOTS_MIN..=SLOTS_MAX).contains(&self.slots) {
            return refuse("slots: say a power of two from 64 to 1048576");
        }
        Ok(())
    }
}

/// Why steps are not stamped. A value to log: serving goes on with host clocks.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuUnavailable {
    /// No driver.
    #[error("no CUDA driver ({0}): steps are timed by the host clock")]
    LibraryMissing(String),
    /// A driver too old, or another library of that name.
    #[error("the CUDA driver has no {0}: it is older than R410 or not a driver; update it")]
    SymbolMissing(&'static str),
    /// An option out of range.
    #[error("bad option {0}")]
    BadOptions(String),
    /// The engine has not initialised CUDA on this thread.
    #[error(
        "no CUDA context: attach on a thread where the engine's context is current, after its initialisation"
    )]
    NoContext,
    /// The stream captures a graph.
    #[error("the stream is capturing a graph: attach before or after the capture")]
    Capturing,
    /// Older than Volta.
    #[error("compute capability {0}.x: stamps need 7.0 or newer")]
    DeviceTooOld(i32),
    /// Confidential computing, some virtual GPUs.
    #[error(
        "this device cannot register host memory (confidential computing or a virtual GPU): steps are timed by the host clock"
    )]
    HostRegisterUnsupported,
    /// The host has no memory for the region.
    #[error("cannot map {bytes} bytes for stamps ({cause}): use fewer lanes or slots")]
    MapFailed {
        /// Size of the region.
        bytes: usize,
        /// What the system said.
        cause: String,
    },
    /// A driver call failed.
    #[error("{name} failed with CUDA error {code}: {}", advice(*code))]
    Call {
        /// Which call.
        name: &'static str,
        /// Its `CUresult`.
        code: i32,
    },
    /// The device does not do what the stamps need.
    #[error("the self test failed: {0}; steps are timed by the host clock")]
    SelfTest(&'static str),
    /// The clock thread could not be started.
    #[error("cannot start a thread ({0}): the process is at its limit of threads or memory")]
    Thread(String),
}

/// What to do about a `CUresult`.
pub(super) fn advice(code: i32) -> &'static str {
    match code {
        2 => "the device is out of memory; leave some for the engine's neighbours",
        34 => "this is a toolkit's stub of the driver; put the real libcuda.so.1 first",
        100 => "no device is visible; look at CUDA_VISIBLE_DEVICES",
        201 => "no context is current on this thread",
        218 | 222 => "the driver is too old for the stamp kernels; update it",
        304 => "the system refuses; look at memory lock limits and permissions",
        700..=719 => "the context is broken; restart the process",
        801 => "not supported here",
        900 | 901 => "a graph capture is under way on another thread",
        _ => "see the CUDA driver API's list of CUresult",
    }
}

/// Why a lane cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// All lanes of [`Options::lanes`] are taken; they are never recycled.
    #[error("all lanes are taken: raise Options::lanes, or open one lane per stream only")]
    Exhausted,
    /// The stream belongs to another context, or the driver does not know it (its code).
    #[error(
        "the stream is not of the context that was attached (CUDA error {0}): attach a Gpu to its context"
    )]
    OtherContext(i32),
    /// After `detach`, or in a forked child.
    #[error("this Gpu is detached")]
    Detached,
}

/// Why a stamp was not captured into a graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The stream captures nothing.
    #[error(
        "the stream is not capturing: call it between cuStreamBeginCapture and cuStreamEndCapture"
    )]
    NotCapturing,
    /// The capture is broken already.
    #[error("the capture is invalidated already: an earlier call broke it")]
    Invalidated,
    /// The driver refused (its code).
    #[error(
        "the stamp could not be captured (CUDA error {0}): replay the graph with Launch::Stamp"
    )]
    Launch(i32),
    /// After `detach`, or in a forked child.
    #[error("this Gpu is detached")]
    Detached,
}

/// Why a Gpu was not taken apart. What could not be freed is leaked, which is safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetachError {
    /// Steps were still under way after the patience given, or the driver hangs.
    #[error("steps are still under way, or the driver hangs: the memory is leaked")]
    Busy,
    /// A captured graph or an engine kernel may still stamp.
    #[error("graphs or kernels of the engine may still stamp: the memory is kept on purpose")]
    Retained,
    /// A driver call failed.
    #[error("{name} failed with CUDA error {code}: the memory is leaked")]
    Call {
        /// Which call.
        name: &'static str,
        /// Its `CUresult`.
        code: i32,
    },
}

/// Which of a step's four words a stamp writes. The numbers are those of the kernels' header.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Point {
    /// First node of the step.
    Begin = 0,
    /// Anything in between.
    MarkA = 1,
    /// Anything in between.
    MarkB = 2,
    /// Last joined node of the step.
    End = 3,
}

/// What an engine kernel needs to stamp the step it runs in; see `kernels/stepscope.cuh`.
///
/// Plain data of 16 bytes, passed by value as a kernel argument. Both 0 = off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct DeviceHandle {
    /// Device address of the lane's ring.
    pub ring: u64,
    /// Device address of the lane's cell.
    pub cell: u64,
}
const _: () = assert!(size_of::<DeviceHandle>() == 16);

/// Why a step has no device time. The numbers are fixed; C sees them as status codes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
#[repr(u8)]
pub enum Lost {
    /// Never attached, or the context is gone.
    Unavailable = 1,
    /// `begin` while the stream captured a graph.
    Capturing = 2,
    /// The driver refused a stamp's launch.
    LaunchFailed = 3,
    /// The end was never marked.
    NotEnded = 4,
    /// Settled so late that a younger step has its slot.
    Overwritten = 5,
    /// An older step's stamp arrived late in this slot.
    Foreign = 6,
    /// The device's clock jumped in between.
    ClockJump = 7,
    /// Mapped to the host's clock it would end before it began, or lie in the future.
    Acausal = 8,
    /// A forked child has no GPU.
    Forked = 9,
    /// After `detach`.
    Detached = 10,
    /// The ticket is another Gpu's.
    WrongOwner = 11,
}

impl Lost {
    /// Every reason, in the order of the numbers.
    pub const ALL: [Lost; 11] = [
        Lost::Unavailable,
        Lost::Capturing,
        Lost::LaunchFailed,
        Lost::NotEnded,
        Lost::Overwritten,
        Lost::Foreign,
        Lost::ClockJump,
        Lost::Acausal,
        Lost::Forked,
        Lost::Detached,
        Lost::WrongOwner,
    ];

    /// The value of the label `reason`.
    pub const fn label(self) -> &'static str {
        labels::STAMP_LOST[self as usize - 1]
    }

    pub(super) const fn of(number: u8) -> Option<Lost> {
        match number {
            1..=11 => Some(Lost::ALL[number as usize - 1]),
            _ => None,
        }
    }
}

const _: () = {
    let mut i = 0;
    while i < Lost::ALL.len() {
        assert!(Lost::ALL[i] as usize == i + 1, "a reason's number is its place");
        i += 1;
    }
    // One more label: `late`, a step whose stamps were not there yet when it was settled.
    assert!(labels::STAMP_LOST.len() == Lost::ALL.len() + 1);
};

/// Index of the label for steps that were settled before their stamps were there.
pub(super) const LATE: usize = Lost::ALL.len();

/// When a step ran.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepTime {
    /// Begin stamp on the host's clock.
    pub begin: Time,
    /// End stamp on the host's clock.
    pub end: Time,
    /// Stamps in between, where the engine placed them.
    pub mark_a: Option<Time>,
    /// Stamps in between, where the engine placed them.
    pub mark_b: Option<Time>,
    /// Bound of the error of the four times above, in ns.
    pub error_ns: u64,
    /// Begin stamp as the GPU's timer said it, in ns modulo 2^48 (78 h): to be compared with other
    /// traces of the same GPU.
    pub gpu_begin: u64,
    /// End - begin on the GPU's own clock, in ns; wrong by at most the clock's resolution.
    pub gpu_ns: u64,
    /// Begin - end of the lane's step before, on the GPU's own clock; `None` where that step told
    /// nothing.
    pub idle_before_ns: Option<u64>,
}

/// What the stamps of a step say now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// All of it.
    Done(StepTime),
    /// Not there yet.
    Pending,
    /// Nothing, and why.
    Lost(Lost),
}

/// How far a lane is, for whoever watches it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Steps begun.
    pub issued: u64,
    /// Newest step whose end was launched.
    pub ended: u64,
    /// Newest step that finished on the device.
    pub completed: u64,
    /// Newest step that was given up.
    pub abandoned: u64,
}

impl Progress {
    /// A step was handed to the device and has not finished. A lane that never finished one says
    /// nothing: perhaps its graph holds no end stamp.
    pub fn is_waiting(&self) -> bool {
        self.completed > 0 && self.ended > self.completed.max(self.abandoned)
    }
}

/// The books of one lane: `begun = done + lost + late + abandoned + what was not settled yet`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LaneCounts {
    /// Calls of `begin`.
    pub begun: u64,
    /// Settled with a time.
    pub done: u64,
    /// Settled without one, by reason: index = number - 1.
    pub lost: [u64; 11],
    /// Settled while the stamps were not there yet.
    pub late: u64,
    /// Given up.
    pub abandoned: u64,
    /// Captured stamps that found no step armed.
    pub unclaimed: u64,
}

/// State of the mapping from the GPU's clock to the host's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockState {
    /// Bound of the error of a time mapped now, in ns.
    pub error_ns: u64,
    /// Smallest step of the GPU's timer, in ns.
    pub resolution_ns: u64,
    /// Grows with every jump; times of an older epoch cannot be mapped.
    pub epoch: u32,
    /// Probe rounds that were kept.
    pub rounds: u64,
    /// Probe rounds that were not: too wide, or contradicting themselves.
    pub rejected: u64,
    /// Jumps of the GPU's clock against the host's.
    pub jumps: u64,
    /// Age of the newest round, in ns.
    pub age_ns: u64,
}
