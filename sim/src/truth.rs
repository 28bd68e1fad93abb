//! What the engine itself knows, exactly: the raw record every reported number can be checked against.
//!
//! It is written by the engine for its own purposes and never passes through the recorder. The file
//! form is documented in `docs/truth-format.md`.

use serde::Serialize;
use stepscope::{Discard, ErrorType, Outcome, Phase, Preempt, Role, StepSource};

/// The whole record of one worker. Times are ns on the engine's clock.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Who this is.
    pub run: Run,
    /// Every request that arrived, in order of arrival; also those still in flight.
    pub requests: Vec<RequestLog>,
    /// Every step that ended, in order.
    pub steps: Vec<StepLog>,
    /// The state now.
    pub end: End,
}

/// Identity and settings that a checker needs.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Run {
    pub model: String,
    pub worker_id: String,
    pub role: Role,
    pub engine: String,
    pub engine_version: String,
    pub gpu_id: String,
    pub node: String,
    pub ttft_objective_ns: u64,
    pub tbt_objective_ns: u64,
    pub kv_block_tokens: u32,
}

/// One request's life.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct RequestLog {
    pub id: u64,
    pub endpoint: &'static str,
    pub priority: &'static str,
    pub recv: u64,
    pub enq: Option<u64>,
    pub sched: Vec<u64>,
    pub evict: Vec<(u64, Preempt)>,
    /// (time of the step's end, accepted tokens)
    pub tok: Vec<(u64, u32)>,
    pub emit: Option<u64>,
    pub end: Option<(u64, Outcome)>,
    pub prompt_computed: u64,
    pub prompt_cached: u64,
    pub recomputed: u64,
    pub drafted: u64,
    pub draft_accepted: u64,
    pub stop_surplus: u64,
}

/// One engine step.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct StepLog {
    pub begin: u64,
    pub gpu_ns: Option<u64>,
    pub idle_before_ns: Option<u64>,
    /// Requests were in the scheduler's hands at every moment since the begin before.
    pub work: bool,
    pub end: u64,
    pub processed: u64,
    pub phase: Phase,
    pub sequences: u32,
    pub source: StepSource,
    pub kv_referenced: u32,
    pub kv_usable: u32,
}

/// The worker's state when it was last scraped.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct End {
    pub at: u64,
    pub running: u64,
    pub waiting: u64,
    /// Requests waiting, by reason.
    pub queue: Vec<(&'static str, u64)>,
    pub batch: u64,
    pub kv_referenced: u64,
    pub kv_cached: u64,
    pub kv_usable: u64,
    pub kv_slots_used: u64,
}

impl Truth {
    /// Writes the record in the form of `docs/truth-format.md`.
    ///
    /// # Errors
    /// Whatever `out` says.
    pub fn write(&self, _out: &mut dyn std::io::Write) -> std::io::Result<()> {
        todo!()
    }
}

impl RequestLog {
    /// Tokens accepted so far.
    pub fn tokens(&self) -> u64 {
        self.tok.iter().map(|(_, k)| u64::from(*k)).sum()
    }

    /// The text of the outcome and of its error type, as the labels say them.
    pub fn outcome_texts(outcome: Outcome) -> (&'static str, Option<&'static str>) {
        match outcome {
            Outcome::Stop => ("stop", None),
            Outcome::Length => ("length", None),
            Outcome::Handover => ("handover", None),
            Outcome::Aborted => ("aborted", None),
            Outcome::Failed(e) => ("failed", Some(error_text(e))),
            Outcome::Rejected(e) => ("rejected", Some(error_text(e))),
        }
    }
}

fn error_text(error: ErrorType) -> &'static str {
    stepscope::catalog::labels::ERROR_TYPE[error as usize]
}

/// The text of a preemption's reason.
pub fn preempt_text(why: Preempt) -> &'static str {
    stepscope::catalog::labels::PREEMPT[why as usize]
}

/// The text of a discard's reason.
pub fn discard_text(why: Discard) -> &'static str {
    stepscope::catalog::labels::DISCARD[why as usize]
}

/// The text of a phase.
pub fn phase_text(phase: Phase) -> &'static str {
    stepscope::catalog::labels::PHASE[phase as usize]
}

/// The text of a step's source.
pub fn source_text(source: StepSource) -> &'static str {
    stepscope::catalog::labels::STEP_SOURCE[source as usize]
}
