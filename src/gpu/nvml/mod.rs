//! What NVIDIA's management library (NVML) tells of a GPU: levels, counts and XID errors.
//!
//! ```text
//!  NvmlThread::start ─ finds and opens the library, on the caller's thread
//!  NvmlThread::watch ─ finds one device, on the caller's thread
//!        │
//!        ├─▶ stepscope-nvml: levels every 1 s, counts every 10 s ──┐
//!        └─▶ stepscope-xid:  waits for XID errors ─────────────────┴─▶ Device (atomic cells)
//! ```
//!
//! The library is found at run time; without it nothing else changes. NVML calls may block for long
//! when a driver dies, so no scrape and no engine thread makes one after `watch` has returned.
//!
//! Rules:
//! 1. A reading that the driver does not offer has no series; it is never a 0.
//! 2. A failed reading never leaves an old value with a new time.
//! 3. A device is named by its PCI bus id or UUID. CUDA's ordinals are another order.
//! 4. On a MIG instance only what NVML tells of the instance exists (its memory). What belongs to
//!    the whole board (power, temperature, energy) stays away: summed over instances it would
//!    count several times.

mod events;
mod found;
mod library;
mod polling;
mod reader;
mod signals;
mod survey;
#[cfg(test)]
mod tests;
mod unavailable;
mod xid;

pub use found::{NvmlDevice, NvmlFound};
pub use polling::NvmlThread;
pub use survey::{NvmlSurvey, nvml_survey};
pub use unavailable::NvmlUnavailable;
pub use xid::{xid_class, xid_meaning};
