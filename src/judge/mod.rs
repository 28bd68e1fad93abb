//! The second reader of the alerts: what Prometheus would say of this worker, said by the worker.
//!
//! ```text
//!  row closes (10 s) ─▶ Sample: every series an alert looks at ─▶ Past: the last ten minutes
//!                                                                     │
//!            /health, demo ◀── Standing per alert ◀── hold and keep ◀─┘ conditions
//! ```
//!
//! A verdict is state, not computation: it changes when a row closes and whoever asks in between
//! gets the same answer. Every alert whose signals a process can know is evaluated, folded over this
//! process whatever its scope; the PromQL text of the same rows is derived elsewhere, and a test lets
//! both read one random stream.

mod evaluate;
mod past;
mod standing;
#[cfg(test)]
mod tests;

pub(crate) use evaluate::holds_now;
pub(crate) use past::{ROW_S, Sample};
pub(crate) use standing::Judge;
pub use standing::{Phase, Standing};
