//! The closed vocabularies an engine speaks in: outcomes, reasons, roles.
//!
//! Numbers are fixed and never reused; each is the index of its text in the catalog's label tables.

use crate::catalog::labels;

/// What a failed or rejected request died of (`llm_error_total{error_type}`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum ErrorType {
    /// Device or host memory ran out.
    Oom = 0,
    /// A deadline of the engine or of the client passed.
    Timeout = 1,
    /// A worker, a rank or the device died.
    Crash = 2,
    /// Turned away because the engine is full.
    Overload = 3,
    /// Any other fault of the server.
    Internal = 4,
    /// The caller's fault: malformed, too long, unknown model. Never alerts.
    Input = 5,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// The model said stop (end token, stop string, end of a tool call).
    Stop,
    /// The token limit was reached.
    Length,
    /// Role prefill only: the sequence lives on in another process.
    Handover,
    /// The client went away or cancelled.
    Aborted,
    /// The server failed it after accepting it.
    Failed(ErrorType),
    /// The server did not take it on.
    Rejected(ErrorType),
}

impl Outcome {
    /// Number of distinct (status, error type) pairs, the cells of one class.
    pub(crate) const CELLS: usize = 16;

    /// First cell of `Failed`; the error types follow.
    pub(crate) const FAILED_CELL: usize = 4;
    /// First cell of `Rejected`; the error types follow.
    pub(crate) const REJECTED_CELL: usize = 10;

    pub(crate) const fn cell(self) -> usize {
        match self {
            Outcome::Stop => 0,
            Outcome::Length => 1,
            Outcome::Handover => 2,
            Outcome::Aborted => 3,
            Outcome::Failed(e) => Outcome::FAILED_CELL + e as usize,
            Outcome::Rejected(e) => Outcome::REJECTED_CELL + e as usize,
        }
    }

    /// Index into the catalog's `status` values.
    pub(crate) const fn status(self) -> u8 {
        match self {
            Outcome::Stop => 0,
            Outcome::Length => 1,
            Outcome::Handover => 2,
            Outcome::Aborted => 3,
            Outcome::Failed(_) => 4,
            Outcome::Rejected(_) => 5,
        }
    }
}

/// Why a running sequence was put back to waiting (`llm_preemption_total{reason}`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Preempt {
    /// KV blocks ran out; the sequence is computed again later.
    Memory = 0,
    /// A more important request took its place.
    Priority = 1,
    /// Its KV blocks were swapped out.
    Swap = 2,
}

/// Why computed tokens are in no answer (`llm_discarded_tokens_total{reason}`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Discard {
    /// Drafted and not accepted. Never was in `llm_generated_tokens_total`.
    Draft = 0,
    /// Accepted by a step behind a stop. Never was in `llm_generated_tokens_total`.
    StopSurplus = 1,
    /// A beam or sample that lost. A part of `llm_generated_tokens_total`.
    Beam = 2,
    /// The request was aborted. A part of `llm_generated_tokens_total`; counted by `finish`.
    Aborted = 3,
}

/// Why a request that is not running waits (`llm_queue_depth{reason}`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Wait {
    /// No KV blocks or no place in the batch.
    Capacity = 0,
    /// Held back by the scheduler on purpose.
    Deferred = 1,
    /// Its grammar is being compiled.
    Grammar = 2,
    /// KV blocks are on their way from another worker or tier.
    KvFetch = 3,
    /// Its adapter is being loaded.
    Lora = 4,
}

/// What this worker does of a request's life.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Role {
    /// Prefill and decode.
    #[default]
    Both = 0,
    /// Prefill only: reports no user's TTFT, judges no objective.
    Prefill = 1,
    /// Decode only.
    Decode = 2,
}

/// What a verb was told that cannot be (`llm_invalid_total{reason}`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub(crate) enum Invalid {
    TimeBackwards = 0,
    ZeroGap = 1,
    AbsurdGap = 2,
    AbsurdCount = 3,
    NotLive = 4,
    AlreadyEnded = 5,
    NoEnqueue = 6,
    NoSchedule = 7,
    WhileWaiting = 8,
    Order = 9,
    Foreign = 10,
    ForeignClock = 11,
    Role = 12,
    Child = 13,
    /// Dropped without `finish`: counted by `Drop`, not by a recorder.
    Dropped = 14,
}

const _: () = {
    assert!(labels::ERROR_TYPE.len() == ErrorType::Input as usize + 1);
    assert!(labels::STATUS.len() == Outcome::Rejected(ErrorType::Oom).status() as usize + 1);
    assert!(labels::PREEMPT.len() == Preempt::Swap as usize + 1);
    assert!(labels::DISCARD.len() == Discard::Aborted as usize + 1);
    assert!(labels::WAIT.len() == Wait::Lora as usize + 1);
    assert!(labels::ROLE.len() == Role::Decode as usize + 1);
    // The last text, `thread`, belongs to the C skin.
    assert!(labels::INVALID.len() == Invalid::Dropped as usize + 2);
};
