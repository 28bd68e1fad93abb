//! The demo's way to a real GPU: cudarc as an engine would use it, found at run time.
//!
//! ```text
//!  a step of the simulated engine                on the worker's stream
//!  before      ─▶ note ──────────────────────────▶ outer begin ┐ the truth: what the
//!  begin_step  ─▶ begin stamp (stepscope's) ─────▶             │ stamps say must lie
//!  launch      ─▶ work, spins for the step's ns ─▶ inner begin,│ between inner and outer
//!  launched    ─▶ end stamp (stepscope's) ───────▶   inner end │
//!              ─▶ note ──────────────────────────▶ outer end   ┘
//! ```
//!
//! Decode steps are one replay of a graph that holds the work, a captured end stamp and the second
//! note; prefill and mixed steps are launched one by one.

mod preflight;
mod step;

pub use preflight::Cuda;
