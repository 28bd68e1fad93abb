//! What the engine itself knows, exactly: the raw record every reported number can be checked against.
//!
//! It is written by the engine for its own purposes and never passes through the recorder. The file
//! form is documented in `docs/truth-format.md`.

use crate::device::Within;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use stepscope::{Config, Discard, ErrorType, Outcome, Phase, Preempt, Role, StepSource};

/// The whole record of one worker. Times are ns on the engine's clock.
///
/// It grows with the run: about 16 bytes a token and 100 a step.
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
    /// Steps of a real device whose end, as the recorder told it, is before the launch or after the
    /// host saw that they were done.
    pub strays: u64,
    /// A step is on a real device, and may end there at any moment.
    pub is_running_on: bool,
}

/// Identity and settings that a checker needs.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Label `model` of every series.
    pub model: String,
    /// Label `worker_id` of every series.
    pub worker_id: String,
    /// What the worker does.
    pub role: Role,
    /// The engine's name.
    pub engine: String,
    /// The engine's version.
    pub engine_version: String,
    /// Label `gpu_id`.
    pub gpu_id: String,
    /// Label `node`.
    pub node: String,
    /// A TTFT up to this is good.
    pub ttft_objective_ns: u64,
    /// A gap above this is slow.
    pub tbt_objective_ns: u64,
    /// Token slots of one KV block.
    pub kv_block_tokens: u32,
}

impl Run {
    /// What a scope with these settings says of itself, and how many token slots a KV block has.
    pub fn of(config: &Config, kv_block_tokens: u32) -> Run {
        let ns = |ms: u32| u64::from(ms) * 1_000_000;
        Run {
            model: config.model.clone(),
            worker_id: config.worker_id.clone(),
            role: config.role,
            engine: config.engine.clone(),
            engine_version: config.engine_version.clone(),
            gpu_id: config.gpu_id.clone(),
            node: config.node.clone(),
            ttft_objective_ns: ns(config.ttft_objective_ms),
            tbt_objective_ns: ns(config.tbt_objective_ms),
            kv_block_tokens,
        }
    }
}

/// One request's life.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestLog {
    /// The engine's number.
    pub id: u64,
    /// Its class: the endpoint.
    pub endpoint: &'static str,
    /// Its class: the priority.
    pub priority: &'static str,
    /// It was received.
    pub recv: u64,
    /// It stands in the scheduler's queue.
    pub enq: Option<u64>,
    /// It was admitted into the batch, the first and later times.
    pub sched: Vec<u64>,
    /// It was put back to waiting.
    pub evict: Vec<(u64, Preempt)>,
    /// (time of the step's end, accepted tokens)
    pub tok: Vec<(u64, u32)>,
    /// Its first chunk was handed to the transport.
    pub emit: Option<u64>,
    /// It ended.
    pub end: Option<(u64, Outcome)>,
    /// Prompt positions computed, the first time only.
    pub prompt_computed: u64,
    /// Prompt positions taken from the prefix cache at its first admission.
    pub prompt_cached: u64,
    /// Positions computed a second time.
    pub recomputed: u64,
    /// Tokens drafted.
    pub drafted: u64,
    /// Of these, accepted.
    pub draft_accepted: u64,
    /// Of these, behind the end of the answer.
    pub stop_surplus: u64,
}

/// One engine step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepLog {
    /// Host time directly before the launch.
    pub begin: u64,
    /// Duration on the device's clock.
    pub gpu_ns: Option<Within>,
    /// Idle time of the device before it; `None` for the first step of a stream.
    pub idle_before_ns: Option<Within>,
    /// Requests were in the scheduler's hands at every moment since the begin before.
    pub work: bool,
    /// The device's end.
    pub end: u64,
    /// Host time of output processing.
    pub processed: u64,
    /// What it computed.
    pub phase: Phase,
    /// Sequences in it.
    pub sequences: u32,
    /// Where its time comes from.
    pub source: StepSource,
    /// KV blocks held by sequences, as reported once with this step.
    pub kv_referenced: u32,
    /// KV blocks in all, as reported once with this step.
    pub kv_usable: u32,
}

/// The worker's state when it was last scraped.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct End {
    /// When that was.
    pub at: u64,
    /// Sequences in the batch.
    pub running: u64,
    /// Requests that arrived and neither run nor ended.
    pub waiting: u64,
    /// Requests waiting, by reason.
    pub queue: Vec<(&'static str, u64)>,
    /// Sequences of the last step; 0 if nothing is queued or running.
    pub batch: u64,
    /// KV blocks held by sequences, like all KV levels as of the last step's outputs.
    pub kv_referenced: u64,
    /// KV blocks held by nobody and reusable.
    pub kv_cached: u64,
    /// KV blocks in all.
    pub kv_usable: u64,
    /// Token slots filled in the referenced blocks.
    pub kv_slots_used: u64,
    /// Times the device died, each with a fatal XID.
    pub faults: u64,
}

/// One line of the file.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Run(&'a Run),
    Request {
        id: u64,
        endpoint: &'static str,
        priority: &'static str,
        recv: u64,
        enq: Option<u64>,
        sched: &'a [u64],
        evict: Vec<(u64, &'static str)>,
        tok: &'a [(u64, u32)],
        emit: Option<u64>,
        end: Option<u64>,
        outcome: Option<&'static str>,
        error: Option<&'static str>,
        prompt_computed: u64,
        prompt_cached: u64,
        recomputed: u64,
        drafted: u64,
        draft_accepted: u64,
        stop_surplus: u64,
    },
    Step {
        begin: u64,
        gpu_ns: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        gpu_ns_max: Option<u64>,
        idle_before_ns: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        idle_before_ns_max: Option<u64>,
        work: &'static str,
        end: u64,
        processed: u64,
        phase: &'static str,
        sequences: u32,
        source: &'static str,
        kv_referenced: u32,
        kv_usable: u32,
    },
    End {
        at: u64,
        running: u64,
        waiting: u64,
        queue: BTreeMap<&'static str, u64>,
        batch: u64,
        kv_referenced: u64,
        kv_cached: u64,
        kv_usable: u64,
        kv_slots_used: u64,
        faults: u64,
    },
}

impl Truth {
    /// Writes the record, one JSON object a line, in the form of `docs/truth-format.md`.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = io::BufWriter::new(out);
        let steps = self.steps.iter().map(StepLog::line);
        let requests = self.requests.iter().map(RequestLog::line);
        let lines = [Line::Run(&self.run)].into_iter().chain(steps).chain(requests);
        for line in lines.chain([self.end.line()]) {
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n")?
        }
        out.flush()
    }
}

impl RequestLog {
    /// Tokens accepted so far.
    pub fn tokens(&self) -> u64 {
        self.tok.iter().map(|(_, k)| u64::from(*k)).sum()
    }

    /// Is it in the batch?
    pub fn is_running(&self) -> bool {
        self.end.is_none() && self.sched.len() > self.evict.len()
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

    fn line(&self) -> Line<'_> {
        let (outcome, error) = self.end.map_or((None, None), |(_, outcome)| {
            let (status, error) = RequestLog::outcome_texts(outcome);
            (Some(status), error)
        });
        Line::Request {
            id: self.id,
            endpoint: self.endpoint,
            priority: self.priority,
            recv: self.recv,
            enq: self.enq,
            sched: &self.sched,
            evict: self.evict.iter().map(|(at, why)| (*at, preempt_text(*why))).collect(),
            tok: &self.tok,
            emit: self.emit,
            end: self.end.map(|(at, _)| at),
            outcome,
            error,
            prompt_computed: self.prompt_computed,
            prompt_cached: self.prompt_cached,
            recomputed: self.recomputed,
            drafted: self.drafted,
            draft_accepted: self.draft_accepted,
            stop_surplus: self.stop_surplus,
        }
    }
}

impl StepLog {
    fn line(&self) -> Line<'_> {
        Line::Step {
            begin: self.begin,
            gpu_ns: self.gpu_ns.map(|ns| ns.low),
            gpu_ns_max: uncertain(self.gpu_ns),
            idle_before_ns: self.idle_before_ns.map(|ns| ns.low),
            idle_before_ns_max: uncertain(self.idle_before_ns),
            work: if self.work { "waiting" } else { "none" },
            end: self.end,
            processed: self.processed,
            phase: phase_text(self.phase),
            sequences: self.sequences,
            source: source_text(self.source),
            kv_referenced: self.kv_referenced,
            kv_usable: self.kv_usable,
        }
    }
}

impl End {
    fn line(&self) -> Line<'_> {
        Line::End {
            at: self.at,
            running: self.running,
            waiting: self.waiting,
            queue: self.queue.iter().copied().collect(),
            batch: self.batch,
            kv_referenced: self.kv_referenced,
            kv_cached: self.kv_cached,
            kv_usable: self.kv_usable,
            kv_slots_used: self.kv_slots_used,
            faults: self.faults,
        }
    }
}

/// The upper bound of what is not known exactly.
fn uncertain(ns: Option<Within>) -> Option<u64> {
    ns.filter(|ns| ns.low != ns.high).map(|ns| ns.high)
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
