//! The engine.
use crate::profile::Profile;
use crate::scenario::Scenario;
use crate::trace::Trace;
use crate::truth::{Run, Truth};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use stepscope::{Stepscope, Time};

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Model and hardware.
    pub profile: Profile,
    /// What goes wrong.
    pub scenario: Scenario,
    /// When it goes wrong: from, until, since the start.
    pub inject: (Duration, Duration),
    /// Equal seeds give equal runs.
    pub seed: u64,
    /// Speculative decoding with three drafts a step.
    pub speculation: bool,
    /// This worker's number, from 0.
    pub worker: usize,
    /// How many workers share the trace.
    pub workers: usize,
    /// Lie to the recorder.
    pub sabotage: Option<Sabotage>,
}

/// A lie to the recorder.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sabotage {
    /// One percent of the samples never reaches the recorder.
    Drop,
    /// Some steps are told 1 ms late.
    Shift,
    /// Two labels are swapped.
    Swap,
}

/// A word that names no sabotage.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no sabotage is called {0:?}; say one of drop, shift, swap")]
pub struct UnknownSabotage(pub String);

impl FromStr for Sabotage {
    type Err = UnknownSabotage;
    fn from_str(name: &str) -> Result<Sabotage, UnknownSabotage> {
        match name {
            "drop" => Ok(Sabotage::Drop),
            "shift" => Ok(Sabotage::Shift),
            "swap" => Ok(Sabotage::Swap),
            _ => Err(UnknownSabotage(name.into())),
        }
    }
}

/// How far a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Requests that arrived.
    pub arrived: u64,
    /// Requests that ended, in whatever way.
    pub ended: u64,
    /// Sequences admitted into the batch and not put back.
    pub running: u64,
    /// Requests that arrived and neither run nor ended.
    pub waiting: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Prompt positions obtained, computed or cached.
    pub prompt_tokens: u64,
    /// KV blocks held by sequences.
    pub kv_referenced: u64,
    /// KV blocks held by nobody and reusable.
    pub kv_cached: u64,
    /// KV blocks in all.
    pub kv_usable: u64,
    /// Steps that ended.
    pub steps: u64,
}

/// One simulated worker.
pub struct Engine(());

impl Engine {
    /// A worker that starts at `start`.
    pub fn new(
        _scope: &Stepscope,
        _run: Run,
        _trace: Arc<Trace>,
        _start: Time,
        _options: Options,
    ) -> Engine {
        todo!()
    }
    /// The next moment at which something happens.
    pub fn next_at(&self) -> Option<Time> {
        todo!()
    }
    /// Does everything that is due.
    pub fn advance_to(&mut self, _now: Time) {
        todo!()
    }
    /// How far it is.
    pub fn progress(&self) -> Progress {
        todo!()
    }
    /// What it knows.
    pub fn truth(&self) -> Truth {
        todo!()
    }
}
