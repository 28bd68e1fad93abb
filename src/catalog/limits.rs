//! The limits in force: those of the rows, and what a site set instead.

use super::alert::{Alert, AlertId};
use super::alerts;
use super::grid::Bound;
use super::quantity::{self, Quantity};
use super::row;
use super::schema::{Row, Unit};
use super::signal::{Cond, Limit, Signal};
use super::{Id, Kind};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Limits by family and alert. `default()` has none but the catalog's own.
///
/// ```
/// use stepscope::catalog::{Id, limits::Limits};
/// let mut limits = Limits::default();
/// limits.set_critical(Id::Ttft, 8.0).unwrap();
/// let error = limits.set_critical(Id::Ttft, 7.0).unwrap_err().to_string();
/// assert!(error.contains("5.0") && error.contains("8.0"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Limits {
    warnings: BTreeMap<Id, u64>,
    criticals: BTreeMap<Id, u64>,
    own: BTreeMap<AlertId, f64>,
}

/// A limit that cannot be: why, and what could be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} = {value}: {advice}")]
pub struct LimitError {
    /// The family or alert.
    pub what: String,
    /// What it was set to.
    pub value: String,
    /// What it should be.
    pub advice: String,
}

impl Limits {
    /// What a family's row, or the site, calls a warning, in the stored unit.
    pub fn warning(&self, id: Id) -> Option<u64> {
        let own = row(id).healthy.and_then(|healthy| healthy.warning);
        self.warnings.get(&id).copied().or(own)
    }

    /// What a family's row, or the site, calls critical, in the stored unit.
    pub fn critical(&self, id: Id) -> Option<u64> {
        let own = row(id).healthy.and_then(|healthy| healthy.critical);
        self.criticals.get(&id).copied().or(own)
    }

    /// Sets what is a warning, in the exported unit.
    ///
    /// # Errors
    /// The row has no such limit; a histogram has no such bound (the error names its neighbours);
    /// the warning would not come before the critical.
    pub fn set_warning(&mut self, id: Id, value: f64) -> Result<(), LimitError> {
        let row = row(id);
        let stored = stored(row, "warning", self.warning(id).is_some(), value)?;
        if self.critical(id).is_some_and(|critical| stored >= critical) {
            return Err(error(row.name, "warning", value, "a warning comes before the critical"));
        }
        self.warnings.insert(id, stored);
        Ok(())
    }

    /// Sets what is critical, in the exported unit.
    ///
    /// # Errors
    /// As [`set_warning`](Limits::set_warning).
    pub fn set_critical(&mut self, id: Id, value: f64) -> Result<(), LimitError> {
        let row = row(id);
        let stored = stored(row, "critical", self.critical(id).is_some(), value)?;
        if self.warning(id).is_some_and(|warning| stored <= warning) {
            return Err(error(row.name, "critical", value, "a critical comes after the warning"));
        }
        self.criticals.insert(id, stored);
        Ok(())
    }

    /// Sets the limit that an alert has of its own.
    ///
    /// # Errors
    /// The alert has none: it follows a family's limit, or has nothing to set. Or the value is none.
    pub fn set_own(&mut self, id: AlertId, value: f64) -> Result<(), LimitError> {
        let alert = alerts::alert(id);
        let decisive = &alert.conds()[0];
        let advice = match decisive.test.limit() {
            Some(Limit::Own(_)) => match self.complaint(alert, value) {
                None => {
                    self.own.insert(id, value);
                    return Ok(());
                }
                Some(advice) => advice,
            },
            _ => match family_of(decisive) {
                Some(name) => format!("its limit is that of {name}: set that"),
                None => "it has no limit that could be set".into(),
            },
        };
        Err(error(alert.name, "limit", value, &advice))
    }

    /// What is wrong with a limit of an alert's own: it could never fire, or fire in the wrong order.
    fn complaint(&self, alert: &Alert, value: f64) -> Option<String> {
        let signal = alert.conds()[0].signal;
        if !value.is_finite() || value <= 0.0 {
            return Some("say a number above 0".into());
        }
        if signal.quantity() == Quantity::Share && value > 1.0 {
            return Some("it is a share: say 0.05 for 5 %".into());
        }
        let same =
            |other: &&Alert| other.symptom == alert.symptom && other.conds()[0].signal == signal;
        for other in alerts::ALERTS.iter().filter(same) {
            let limit = other.conds()[0].test.limit().map(|limit| self.value(other.id, limit));
            let is_wrong = match alert.severity.cmp(&other.severity) {
                Ordering::Less => limit.is_some_and(|limit| value >= limit),
                Ordering::Greater => limit.is_some_and(|limit| value <= limit),
                Ordering::Equal => false,
            };
            if is_wrong {
                return Some(format!("the milder one comes first: look at {}", other.name));
            }
        }
        None
    }

    /// A limit of an alert, in the exported unit of what it is compared with.
    pub fn value(&self, alert: AlertId, limit: Limit) -> f64 {
        let exported = |id: Id, stored: Option<u64>| {
            // `proof` has seen that the row has it.
            stored.map_or(f64::INFINITY, |stored| stored as f64 / row(id).unit.scale() as f64)
        };
        match limit {
            Limit::Warning(id) => exported(id, self.warning(id)),
            Limit::Critical(id) => exported(id, self.critical(id)),
            Limit::Own(number) => self.own.get(&alert).copied().unwrap_or(number),
            Limit::Guard(number) => number,
        }
    }

    /// An alert's one line: limits as they are in force, labels and the value as the reader has them.
    /// `label` is asked by label name.
    pub fn summary(
        &self,
        alert: &Alert,
        label: impl Fn(&str) -> String,
        value: impl Fn(Quantity) -> String,
    ) -> String {
        let conds = alert.conds();
        let limit = |at: usize| {
            let cond: Option<&Cond> = conds.get(at);
            let words = |cond: &Cond| {
                let limit = self.value(alert.id, cond.test.limit()?);
                Some(cond.signal.quantity().words(limit))
            };
            cond.and_then(words).unwrap_or_default()
        };
        let bound = || match conds[0].signal {
            Signal::Slow { histogram, bound, .. } => {
                quantity::of_family(histogram).words(self.value(alert.id, bound))
            }
            _ => String::new(),
        };
        let mut text = String::with_capacity(alert.summary.len() * 2);
        let mut rest = alert.summary;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').unwrap_or((behind, ""));
            text.push_str(before);
            text.push_str(&match name {
                "value" => value(conds[0].signal.quantity()),
                "limit" => limit(0),
                "guard" => limit(1),
                "bound" => bound(),
                "worker" => label("worker_id"),
                "gpu" => label("gpu_id"),
                name => label(name),
            });
            rest = after
        }
        text + rest
    }

    /// The bucket bound of a histogram that a limit is.
    pub fn bound(&self, histogram: Id, limit: Limit) -> Option<&'static Bound> {
        let stored = match limit {
            Limit::Warning(id) => self.warning(id),
            Limit::Critical(id) => self.critical(id),
            Limit::Own(_) | Limit::Guard(_) => None,
        }?;
        row(histogram).grid().iter().find(|bound| bound.value == stored)
    }
}

/// The family whose row has the limit that a condition follows.
fn family_of(cond: &Cond) -> Option<&'static str> {
    let limit = match cond.signal {
        Signal::Slow { bound, .. } => Some(bound),
        _ => cond.test.limit(),
    };
    match limit {
        Some(Limit::Warning(id) | Limit::Critical(id)) => Some(row(id).name),
        _ => None,
    }
}

fn error(what: &str, which: &str, value: f64, advice: &str) -> LimitError {
    LimitError { what: format!("{what} {which}"), value: value.to_string(), advice: advice.into() }
}

/// The value in the stored unit, if the family can have it as a limit.
fn stored(row: &'static Row, which: &str, has: bool, value: f64) -> Result<u64, LimitError> {
    if !has {
        return Err(error(row.name, which, value, "no alert looks at such a limit of this family"));
    }
    if !value.is_finite() || value <= 0.0 {
        return Err(error(row.name, which, value, "say a number above 0"));
    }
    if row.unit == Unit::Ratio && value > 1.0 {
        return Err(error(row.name, which, value, "it is a share: say 0.95 for 95 %"));
    }
    let stored = (value * row.unit.scale() as f64).round() as u64;
    if let Kind::Histogram(grid) = row.kind {
        if grid.iter().any(|bound| bound.value == stored) {
            return Ok(stored);
        }
        let below = grid.iter().rev().find(|bound| bound.value < stored);
        let above = grid.iter().find(|bound| bound.value > stored);
        let advice = match (below, above) {
            (Some(below), Some(above)) => format!("take {} or {}", below.le, above.le),
            (Some(only), None) | (None, Some(only)) => format!("take {}", only.le),
            (None, None) => "it has no bounds".into(),
        };
        let advice = format!("a limit must be a bucket bound: {advice}");
        return Err(error(row.name, which, value, &advice));
    }
    Ok(stored)
}
