//! From an engine's calls to closed facts: requests, steps, verbs, and what leaves the thread.
//!
//! Two channels leave an engine thread. *Samples of distributions* are 16-byte events in a
//! single-producer ring; they may be lost and are then counted. *Counters, levels and flows* are
//! single-writer atomic cells read at a scrape; they are never lost. So "accepted = ended + in
//! flight + dropped" holds under any loss, and no engine thread ever waits for a reader.

mod batch;
pub(crate) mod cells;
mod core;
mod device;
pub(crate) mod event;
mod lifecycle;
mod outbox;
mod recorder;
pub(crate) mod request;
mod runs;
mod step;
pub(crate) mod time;
pub(crate) mod words;

#[cfg(test)]
mod tests;

pub(crate) use self::core::{SAMPLE_NS_MAX, Settings};
pub(crate) use device::DeviceCells;
pub use device::{Device, Reading, Tally};
pub use recorder::{Bystander, Recorder};
pub use request::{Pool, Priority, Request, Series, Stream};
pub use step::{Launch, OpenStep, Phase, Settled, Shape, Step, StepClock, StepSource, Ticket};
pub use time::{Origin, Time};
pub use words::{Discard, ErrorType, Outcome, Preempt, Role, Wait};
