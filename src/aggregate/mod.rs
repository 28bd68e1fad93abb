//! One owner of every histogram and window: drains the rings, closes rows, builds snapshots.
//!
//! ```text
//!  rings ──▶ distributions ──┐
//!                            ├──▶ frame (each row close) ──▶ windows
//!  cells ──▶ totals ─────────┤
//!                            └──▶ snapshot (when asked)
//! ```
//!
//! The aggregator sits behind one lock that no engine thread takes after its recorder exists. With
//! a monotonic clock a thread of its own drains it (`thread`); with a manual clock the owner does,
//! by moving time. A scrape drains first, so what was recorded before it is in it.

mod aggregator;
mod build;
mod device;
mod distributions;
mod histogram;
mod names;
mod pulse;
mod taps;
mod thread;
mod totals;
mod vitals;
mod window;

pub(crate) use aggregator::Aggregator;
pub use aggregator::RecorderOptions;
pub use names::Class;
pub(crate) use pulse::Pulse;
pub(crate) use thread::AggregateThread;
pub(crate) use vitals::Vitals;

#[cfg(test)]
mod tests;
