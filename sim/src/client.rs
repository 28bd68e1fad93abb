//! What clients ask for, and how it is going to end.

use crate::rng::Rng;
use crate::trace::TraceRequest;

/// Endpoints a request may come from.
pub(crate) const ENDPOINTS: [&str; 2] = ["chat", "completions"];
/// Priorities, the most important first.
pub(crate) const PRIORITIES: [&str; 2] = ["default", "batch"];
/// The place of `batch`.
pub(crate) const BATCH: usize = 1;

const CHAT_SHARE: f64 = 0.8;
const BATCH_SHARE: f64 = 0.2;
/// Of those that end by themselves: answers that end with a stop and not with the token limit.
const STOP_SHARE: f64 = 0.85;
/// Clients that leave while they read.
const LEAVE_SHARE: f64 = 0.012;
/// How long clients wait for the first token: a timeout, and the few that change their mind at once.
const TIMEOUT_NS: u64 = 30_000_000_000;
const IMPATIENT_SHARE: f64 = 0.004;
const IMPATIENT_NS: std::ops::Range<u64> = 20_000_000..400_000_000;
/// A request that fails does so within its first tokens.
const FAIL_TOKENS: std::ops::Range<u64> = 0..8;

/// Places in [`ENDPOINTS`] and [`PRIORITIES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Class {
    pub(crate) endpoint: usize,
    pub(crate) priority: usize,
}

/// How a request is going to end if nothing else happens to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// The model says stop with the last token of the answer.
    Stop,
    /// The answer is cut at its last token.
    Length,
    /// The client leaves once it has seen so many tokens.
    Leave { tokens: u32 },
    /// The engine fails once so many tokens are there, after the first prefill chunk at the latest.
    Fail { tokens: u32 },
}

/// A request as its client sent it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) class: Class,
    pub(crate) prompt: u32,
    pub(crate) output: u32,
    /// Hash ids of the prompt's blocks, if the trace knows them.
    pub(crate) hashes: Vec<u64>,
    /// How long the client waits in the queue and for the first token before it leaves.
    pub(crate) patience_ns: u64,
    pub(crate) fate: Fate,
}

impl Ask {
    /// Traces know times and lengths only; class, patience and fate are drawn.
    pub(crate) fn draw(id: u64, request: TraceRequest, rng: &mut Rng) -> Ask {
        let class = Class {
            endpoint: usize::from(!rng.chance(CHAT_SHARE)),
            priority: if rng.chance(BATCH_SHARE) { BATCH } else { 0 },
        };
        let is_impatient = rng.chance(IMPATIENT_SHARE);
        let patience_ns = if is_impatient { rng.within(IMPATIENT_NS) } else { TIMEOUT_NS };
        let TraceRequest { prompt, output, blocks: hashes, .. } = request;
        Ask { id, class, prompt, output, hashes, patience_ns, fate: Fate::draw(output, rng) }
    }
}

impl Fate {
    fn draw(output: u32, rng: &mut Rng) -> Fate {
        if rng.chance(LEAVE_SHARE) {
            Fate::Leave { tokens: rng.within(1..u64::from(output) + 1) as u32 }
        } else if rng.chance(STOP_SHARE) {
            Fate::Stop
        } else {
            Fate::Length
        }
    }

    /// It is going to fail.
    pub(crate) fn failure(rng: &mut Rng) -> Fate {
        Fate::Fail { tokens: rng.within(FAIL_TOKENS) as u32 }
    }
}
