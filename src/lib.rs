//! stepscope: observability compiled into an LLM serving engine.
//!
//! ```text
//!  engine threads: Recorder verbs ──▶ cells (exact) + one lock-free ring each (samples)
//!                                        │ drained by one thread
//!                                        ▼
//!                       aggregate: exact buckets, sums, windows
//!                                        │ built when asked
//!                                        ▼
//!                       snapshot ──▶ /metrics · page · JSON · probes · your code
//! ```
//!
//! An engine calls one verb per fact of a request's life and hands every verb its time; see
//! [`Recorder`] for the verbs and an example, [`Config`] for the settings, [`catalog`] for every
//! metric with its definition.
#![warn(missing_docs)]

pub mod catalog;
pub mod snapshot;

mod aggregate;
mod clock;
#[cfg(feature = "collector")]
mod collector;
mod config;
#[cfg(feature = "export")]
mod export;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod health;
mod judge;
mod record;
mod scope;
mod shared;

pub use aggregate::{Class, RecorderOptions};
pub use clock::{Clock, ManualClock};
#[cfg(feature = "collector")]
pub use collector::Collector;
pub use config::{Config, ConfigError, DEFAULT_LISTEN};
#[cfg(feature = "export")]
pub use export::Exposition;
pub use record::{
    Bystander, Device, Discard, ErrorType, Launch, OpenStep, Origin, Outcome, Phase, Pool, Preempt,
    Priority, Reading, Recorder, Request, Role, Series, Settled, Shape, Step, StepClock,
    StepSource, Stream, Tally, Ticket, Time, Wait,
};
pub use scope::Stepscope;
pub use shared::StartError;
pub use snapshot::Snapshot;

/// The README's code compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
