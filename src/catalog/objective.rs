//! Service level objectives: what is promised, and how much may go wrong.

use super::signal::{Limit, Series};
use super::{Id, labels};

/// One promise, judged per request at its end (`llm_slo_events_total`).
#[derive(Clone, Copy, Debug)]
pub struct Objective {
    /// Value of the label `objective`.
    pub name: &'static str,
    /// Bad events that are allowed, per million.
    pub budget_ppm: u32,
    /// What a good event stays within, where the promise is about a time.
    pub within: Option<Limit>,
    /// What a good event is; `{within}` stands for the limit.
    pub good: &'static str,
}

impl Objective {
    /// The share of bad events that is allowed.
    pub fn budget(&self) -> f64 {
        f64::from(self.budget_ppm) / 1e6
    }

    /// The share of good events that is promised.
    pub fn target(&self) -> f64 {
        f64::from(1_000_000 - self.budget_ppm) / 1e6
    }
}

/// Events in which an objective was missed: the first value of `good`.
pub const BAD_EVENTS: Series = Series::all(Id::SloEvents).only("good", labels::GOOD.split_at(1).0);

/// The objectives, in the order of the label's values.
pub static OBJECTIVES: [Objective; labels::OBJECTIVE.len()] = [
    Objective {
        name: labels::OBJECTIVE[0],
        budget_ppm: 1_000,
        within: None,
        good: "the request ended with stop or length; aborted ones and the caller's own faults do not count",
    },
    Objective {
        name: labels::OBJECTIVE[1],
        budget_ppm: 10_000,
        within: Some(Limit::Warning(Id::Ttft)),
        good: "the first token came within {within}",
    },
    Objective {
        name: labels::OBJECTIVE[2],
        budget_ppm: 10_000,
        within: Some(Limit::Warning(Id::Tbt)),
        good: "at most 1 % of the request's gaps were above {within}",
    },
];
