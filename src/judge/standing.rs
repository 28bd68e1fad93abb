//! How an alert stands: inactive, pending, firing, kept; it changes when a row closes, and only then.
//!
//! ```text
//!            conditions hold              for `hold`               conditions end
//!  Inactive ─────────────────▶ Pending ─────────────▶ Firing ─────────────────────▶ Kept
//!      ▲                          │                     ▲                            │
//!      └── conditions end ────────┘                     └──── conditions hold ───────┤
//!      └───────────────────────────────────────────────────── for `keep` ────────────┘
//! ```
//!
//! The same machine as Prometheus' `for` and `keep_firing_for`, on the grid of rows.

use super::evaluate::evaluate;
use super::past::{Past, Sample, Taps};
use crate::catalog::alert::Alert;
use crate::catalog::alerts::ALERTS;
use crate::catalog::limits::Limits;
use crate::catalog::signal::Reader;
use crate::record::Time;
use serde::Serialize;

/// Where an alert is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its conditions do not hold.
    Inactive,
    /// They hold, and not long enough yet.
    Pending,
    /// It fires.
    Firing,
    /// It still fires although its conditions have ended, so that a gap does not resolve it.
    Kept,
}

/// How one alert stands, as of the last closed row.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The catalog's row.
    pub alert: &'static Alert,
    /// Where it is.
    pub phase: Phase,
    /// Since when the conditions have been holding, or held last.
    pub since: Option<Time>,
    /// When it began to fire the last time.
    pub fired: Option<Time>,
    /// When its conditions ended while it fired.
    ended: Option<Time>,
    /// The decisive signal's value, in the unit of its limit; `None` = there is none.
    pub value: Option<f64>,
    /// A number of its conditions lies on its limit, as far as floats can tell: another reader of
    /// the same scrapes, which adds and divides in another order, may see it above.
    pub on_limit: bool,
}

impl Standing {
    fn new(alert: &'static Alert) -> Standing {
        let phase = Phase::Inactive;
        Standing {
            alert,
            phase,
            since: None,
            fired: None,
            ended: None,
            value: None,
            on_limit: false,
        }
    }

    /// Does it count? A kept alert does.
    pub fn fires(&self) -> bool {
        matches!(self.phase, Phase::Firing | Phase::Kept)
    }

    /// One row later.
    pub(super) fn step(&mut self, met: bool, value: Option<f64>, at: Time) {
        let lasted =
            |since: Time, seconds: u32| at.nanos_since(since) >= u64::from(seconds) * 1_000_000_000;
        self.value = value;
        self.phase = match (met, self.phase) {
            (true, Phase::Firing | Phase::Kept) => Phase::Firing,
            (true, _) => {
                let since = match self.phase {
                    Phase::Pending => self.since.unwrap_or(at),
                    _ => at,
                };
                self.since = Some(since);
                let fires = lasted(since, self.alert.hold.seconds());
                if fires { Phase::Firing } else { Phase::Pending }
            }
            (false, Phase::Firing) => self.kept(at, at),
            (false, Phase::Kept) => self.kept(self.ended.unwrap_or(at), at),
            (false, _) => Phase::Inactive,
        };
        if self.phase != Phase::Kept {
            self.ended = None
        }
        if self.phase == Phase::Firing && self.fired.is_none_or(|fired| Some(fired) < self.since) {
            self.fired = Some(at)
        }
    }

    fn kept(&mut self, ended: Time, at: Time) -> Phase {
        self.ended = Some(ended);
        let keep_ns = u64::from(self.alert.keep.seconds()) * 1_000_000_000;
        if at.nanos_since(ended) < keep_ns { Phase::Kept } else { Phase::Inactive }
    }
}

/// Every alert a process can evaluate, and what it looks back on.
pub(crate) struct Judge {
    past: Past,
    limits: Limits,
    standings: Vec<Standing>,
}

impl Judge {
    pub(crate) fn new(limits: Limits) -> Judge {
        let known = ALERTS.iter().filter(|alert| alert.reader() == Reader::Both);
        let standings = known.map(Standing::new).collect();
        Judge { past: Past::new(Taps::new()), limits, standings }
    }

    /// What a sample must hold.
    pub(crate) fn taps(&self) -> &Taps {
        self.past.taps()
    }

    /// The process began: what windows are counted from.
    pub(crate) fn begin(&mut self, sample: Sample) {
        self.past.push(sample)
    }

    /// A row has closed.
    pub(crate) fn close(&mut self, sample: Sample) {
        let at = sample.at;
        self.past.push(sample);
        for standing in &mut self.standings {
            let outcome = evaluate(standing.alert, &self.past, &self.limits);
            standing.on_limit = outcome.on_limit;
            standing.step(outcome.met, outcome.value, at)
        }
    }

    pub(crate) fn standings(&self) -> &[Standing] {
        &self.standings
    }
}
