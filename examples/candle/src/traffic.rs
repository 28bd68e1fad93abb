//! The requests: who asks what and when, and what ends the answer.

use std::time::Duration;

/// Who goes first when not all can run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Somebody waits in front of a screen.
    Interactive,
    /// Nobody looks before tomorrow.
    Batch,
}

impl Urgency {
    /// Both, the first to be served first.
    pub const ALL: [Urgency; 2] = [Urgency::Interactive, Urgency::Batch];

    /// As the label `priority` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Urgency::Interactive => "interactive",
            Urgency::Batch => "batch",
        }
    }
}

/// One request, as its client sends it.
pub struct Arrival {
    /// When it is sent, after the engine's start.
    pub at: Duration,
    /// Label `endpoint`.
    pub endpoint: &'static str,
    /// Label `priority`, and the place in the queue.
    pub urgency: Urgency,
    /// What is asked.
    pub question: &'static str,
    /// Tokens of the answer at most.
    pub answer_max: usize,
    /// The client goes away when it has seen so many.
    pub hangs_up_after: Option<usize>,
}

const fn ask(at_ms: u64, question: &'static str, answer_max: usize) -> Arrival {
    let (endpoint, urgency) = ("chat", Urgency::Interactive);
    let at = Duration::from_millis(at_ms);
    Arrival { at, endpoint, urgency, question, answer_max, hangs_up_after: None }
}

const fn job(at_ms: u64, question: &'static str, answer_max: usize) -> Arrival {
    Arrival { endpoint: "jobs", urgency: Urgency::Batch, ..ask(at_ms, question, answer_max) }
}

/// Ascending by time. One asks for more than the engine has room for, one hangs up.
pub const SCRIPT: &[Arrival] = &[
    ask(0, "What is the capital of France? Answer in one short sentence.", 40),
    job(0, ARTICLE, 60),
    ask(200, "Name three colours of the rainbow.", 40),
    ask(400, "Write a short story about a lighthouse keeper.", 64),
    job(600, "Write a complete history of the world.", 100_000),
    Arrival {
        hangs_up_after: Some(12),
        ..ask(2_000, "Explain in detail how a steam engine works.", 80)
    },
    ask(4_000, "What is 17 plus 25? Answer with the number only.", 24),
    job(4_500, "List three uses of salt.", 32),
    ask(9_000, "Give me one tip for a good night's sleep.", 48),
];

const ARTICLE: &str = "Summarize in one sentence: The lighthouse at the northern point was built of \
    granite that boats carried over from the mainland in four summers. Its lamp burned rape oil first, \
    then paraffin, and was turned by a clockwork that the keeper wound every four hours of the night. \
    After the railway came, tourists climbed its two hundred steps on Sundays. The last keeper left \
    when the lamp became electric, and today a volunteer comes once a month to clean the lens.";
