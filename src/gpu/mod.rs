//! Steps on the GPU's own clock: a stamp kernel before and behind each step, read back from memory.
//!
//! ```text
//!  engine's thread                      GPU stream                       host memory
//!  lane.begin ─ launches ─▶ begin: word = lap|time, cell = step ──▶ ring of the lane
//!  the engine's kernels or graph         ...
//!  lane.end   ─ launches ─▶ end:   cell = 0, word = lap|time    ──▶ ring of the lane
//!  settle     ◀───────────────────────── a plain load ─────────────────────────┘
//!
//!  thread stepscope-gpu: probes the GPU's timer, keeps the map to the host's clock and its bound
//! ```
//!
//! A step's identity travels in the stream: the host picks the slot, `begin` carries it as an
//! argument and leaves it in a cell for stamps that were captured into a graph. So a failed launch,
//! an unannounced replay or a late store can cost a sample and can never falsify one.
//!
//! What it never does: create a context, synchronise, allocate on the engine's thread after attach.

#![allow(unsafe_code)] // Driver calls and the memory shared with the GPU; reasons at each block.

mod attach;
pub mod cupti;
mod driver;
mod fit;
#[cfg(test)]
mod fit_tests;
mod graphs;
mod handle;
mod inner;
mod lane;
mod layout;
mod map;
mod nvml;
mod region;
mod resolve;
mod slot;
mod sync;
mod thread;
mod ticket;
mod words;

pub use attach::Identity;
pub use driver::DRIVER_SYMBOLS;
pub use handle::Gpu;
pub use lane::Lane;
pub(crate) use nvml::NvmlThread;
pub use nvml::{
    NvmlDevice, NvmlFound, NvmlSurvey, NvmlUnavailable, nvml_survey, xid_class, xid_meaning,
};
pub use ticket::{StepInfo, StepTicket};
pub use words::{
    CaptureError, ClockState, DetachError, DeviceHandle, GpuUnavailable, LaneCounts, LaneError,
    Lost, Options, Point, Progress, RawStream, Resolution, StepTime,
};
