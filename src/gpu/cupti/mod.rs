//! GPU time of whole graphs from CUPTI, for engines that want it beside the stamps; off by default.
//!
//! ```text
//!  engine's thread                     CUPTI                          thread stepscope-gpu
//!  ids.push(lane, seq)
//!  cuGraphLaunch ───────────────▶ external id, API record ─┐
//!  ids.pop()                      graph time, when done ───┤ 8 buffers ──▶ poll: flush, walk,
//!                                                          └ of 1 MiB      hand out GraphTimes
//! ```
//!
//! What it adds to the stamps: the time of each graph without a node of ours in it. What it does
//! not do: replace them. Buffers come late, and a process has one CUPTI subscriber: if another tool
//! is it, there are no graph times, for good, and the stamps go on ([`CuptiUnavailable`]).
//!
//! # Order
//! 1. Attach first: nothing of CUPTI is touched before a real driver has answered.
//! 2. [`Subscription::start`] before the engine captures or instantiates its first graph.
//! 3. [`ExternalIds::push`] and [`pop`](ExternalIds::pop) around each step's launches.
//! 4. [`Subscription::poll`] every 100 ms on a thread of ours.
//!
//! # Limits
//! Tracing graphs cannot be undone in a process once CUPTI has started, even after the drop (a
//! property of CUPTI). CUPTI is never finalized, its library never unloaded, and the 8 MiB of
//! buffers never freed, since CUPTI may write to them for as long as the process lives.

#![allow(unsafe_code)] // Calls into CUPTI and the callbacks that it makes; reasons at each block.

mod binding;
mod find;
mod ids;
mod library;
mod overlap;
mod pool;
mod sizes;
mod subscription;
mod unavailable;
mod walk;
#[cfg(test)]
mod walk_tests;

pub use find::CuptiFound;
pub use overlap::{SettledStep, by_overlap};
pub use subscription::{Cupti, CuptiOptions, ExternalIds, Stats, Subscription};
pub use unavailable::CuptiUnavailable;
pub use walk::GraphTime;
