//! What a signal is worth, and whether an alert's conditions hold.
//!
//! Shares of whole events are compared as integers, so that the bound itself is silent however the
//! division rounds. Everything else is IEEE: x / 0 is infinite and above every limit, 0 / 0 is above
//! none.

use super::past::{Device, Past};
use crate::catalog::alert::{Alert, Scope, When};
use crate::catalog::limits::Limits;
use crate::catalog::signal::{Cond, Fold, Signal, Term, Test};

/// A value, and of which two whole numbers it is the quotient, if it is.
#[derive(Clone, Copy, Debug)]
struct Worth {
    value: f64,
    of: Option<[f64; 2]>,
}

impl Worth {
    fn plain(value: f64) -> Worth {
        Worth { value, of: None }
    }

    fn quotient(part: f64, whole: f64) -> Worth {
        let of = [part, whole];
        Worth { value: part / whole, of: of.iter().all(|n| n.fract() == 0.0).then_some(of) }
    }

    fn above(&self, limit: f64) -> bool {
        const MILLION: f64 = 1e6;
        let ppm = (limit * MILLION).round();
        match self.of {
            // Events are far below 2^53, so nothing is lost on the way to integers.
            Some([part, whole]) if whole >= 0.0 && (ppm / MILLION - limit).abs() < 1e-12 => {
                part as u128 * MILLION as u128 > whole as u128 * ppm as u128
            }
            _ => self.value > limit,
        }
    }
}

/// What became of an alert's conditions after a row.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Outcome {
    /// They hold.
    pub(super) met: bool,
    /// Value of the decisive signal.
    pub(super) value: Option<f64>,
    /// A number lies on its limit, as far as floats can tell.
    pub(super) on_limit: bool,
}

/// Evaluates an alert. What is about one GPU is asked of each, and the worst answers.
pub(super) fn evaluate(alert: &Alert, past: &Past, limits: &Limits) -> Outcome {
    if alert.scope != Scope::Gpu {
        return evaluate_on(alert, past, None, limits);
    }
    let answers: Vec<Outcome> =
        (0..past.devices()).map(|device| evaluate_on(alert, past, Some(device), limits)).collect();
    let rank = |a: &Outcome| (a.met, a.value.unwrap_or(f64::NEG_INFINITY));
    let worse = |a: &&Outcome, b: &&Outcome| {
        let ((a_met, a), (b_met, b)) = (rank(a), rank(b));
        a_met.cmp(&b_met).then(a.total_cmp(&b))
    };
    let worst = answers.iter().max_by(worse).copied().unwrap_or_default();
    Outcome { on_limit: answers.iter().any(|answer| answer.on_limit), ..worst }
}

fn evaluate_on(alert: &Alert, past: &Past, device: Device, limits: &Limits) -> Outcome {
    let worth = |cond: &Cond| worth(&cond.signal, past, device, limits);
    let holds = |cond: &Cond| holds(alert, cond, worth(cond), limits);
    let conds = alert.conds();
    let (met, decisive) = match alert.when {
        When::All(_) => (conds.iter().all(holds), conds.first()),
        // Of several that are enough, the one that is met tells.
        When::Any(_) => {
            let first_met = conds.iter().find(|cond| holds(cond));
            (first_met.is_some(), first_met.or(conds.first()))
        }
    };
    let value = decisive.and_then(worth).map(|worth| worth.value);
    let on_limit = conds.iter().any(|cond| {
        let limit = cond.test.limit().map_or(0.0, |limit| limits.value(alert.id, limit));
        let near = |worth: Worth| (worth.value - limit).abs() <= 1e-9 * limit.abs();
        limit != 0.0 && worth(cond).is_some_and(near)
    });
    Outcome { met, value: value.filter(|value| !value.is_nan()), on_limit }
}

/// Whether a condition on an age holds with this age, read now instead of at the last row's close.
pub(crate) fn holds_now(alert: &Alert, age_s: f64, limits: &Limits) -> bool {
    alert.conds().iter().all(|cond| holds(alert, cond, Some(Worth::plain(age_s)), limits))
}

fn holds(alert: &Alert, cond: &Cond, worth: Option<Worth>, limits: &Limits) -> bool {
    let Some(worth) = worth else { return false };
    match cond.test {
        Test::Above(limit) => worth.above(limits.value(alert.id, limit)),
        Test::AtLeast(limit) => worth.value >= limits.value(alert.id, limit),
        Test::Zero => worth.value == 0.0,
        Test::Present => true,
    }
}

fn worth(signal: &Signal, past: &Past, device: Device, limits: &Limits) -> Option<Worth> {
    match signal {
        Signal::Level { of, fold, mean } => {
            level(of, *fold, mean.map(|m| m.seconds()), past, device)
        }
        Signal::Age { of } => folded(&past.last(of, device), Fold::Max).map(Worth::plain),
        Signal::Since { of } => folded(&past.last(of, device), Fold::Sum).map(Worth::plain),
        Signal::Count { of, window } => past.growth(of, device, window.seconds()).map(Worth::plain),
        Signal::Rate { of, window } => {
            // The whole window also for a young process, as `rate()` divides.
            let seconds = window.seconds();
            past.growth(of, device, seconds).map(|grown| Worth::plain(grown / f64::from(seconds)))
        }
        Signal::Share { bad, total, window } => {
            let grown = |series| past.growth(series, device, window.seconds());
            let whole = total.iter().map(grown).sum::<Option<f64>>()?;
            Some(Worth::quotient(grown(bad)?, whole))
        }
        Signal::Slow { histogram, bound, window } => {
            let bound = limits.bound(*histogram, *bound)?.value;
            let (slow, all) = past.slow(*histogram, bound, window.seconds())?;
            Some(Worth::quotient(slow as f64, all as f64))
        }
        Signal::SlowCount { histogram, bound, window } => {
            let bound = limits.bound(*histogram, *bound)?.value;
            let (slow, _) = past.slow(*histogram, bound, window.seconds())?;
            Some(Worth::plain(slow as f64))
        }
        Signal::Ratio { top, bottom } => Some(Worth::quotient(
            worth(top, past, device, limits)?.value,
            worth(bottom, past, device, limits)?.value,
        )),
        Signal::Server(_) => None,
    }
}

/// A signed sum of levels, each folded on its own; without one of them there is no sum.
fn level(
    of: &[Term],
    fold: Fold,
    mean_s: Option<u32>,
    past: &Past,
    device: Device,
) -> Option<Worth> {
    let value = |term: &Term| {
        let series = term.series();
        let folded = match mean_s {
            Some(seconds) => folded(&past.means(&series, device, seconds), fold),
            None => folded(&past.last(&series, device), fold),
        };
        folded.map(|value| if let Term::Minus(_) = term { -value } else { value })
    };
    of.iter().map(value).sum::<Option<f64>>().map(Worth::plain)
}

fn folded(values: &[Option<f64>], fold: Fold) -> Option<f64> {
    let there = values.iter().flatten().copied();
    match fold {
        Fold::Max => there.reduce(f64::max),
        Fold::Sum => there.reduce(|sum, value| sum + value),
    }
}
