//! Is the worker alive, may it get new requests, and what is wrong, in words.
//!
//! Never: a loaded worker killed, an idle one called unhealthy, a frozen one called healthy.
//!
//! | asks | looks at | status code judges load? |
//! |---|---|---|
//! | `/livez` must it be restarted? | the pulse: cells that recorders and stamps write | no |
//! | `/readyz` may it get new requests? | the pulse | no |
//! | `/health` what is wrong? | how the catalog's alerts stand, and closed rows | only with `?strict=1` |
//!
//! Probes read a few atomics, so a busy aggregator cannot freeze them. The verdict is no computation
//! either: the alerts change when a row closes, so two readers in between agree.

mod probes;
#[cfg(test)]
mod tests;
mod text;
mod verdict;

pub use probes::Probe;
pub(crate) use probes::{live, ready};
pub(crate) use verdict::verdict;
pub use verdict::{
    Check, Checks, ErrorEvidence, GpuEvidence, Issue, KvEvidence, LatencyEvidence, QueueEvidence,
    State, Status, TelemetryEvidence, Verdict,
};

pub use crate::judge::{Phase, Standing};
