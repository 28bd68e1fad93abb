//! Everything a scope must say, as the oracle adds it up.

use super::harness::{Exemplar, Samples};
use super::log::HOUR;
use crate::catalog::labels;
use crate::record::cells::cell;
use crate::record::event::Metric;
use crate::record::words::{Invalid, Role};
use std::collections::{BTreeMap, BTreeSet};

/// The number of a label's value.
pub(super) fn place(values: &[&str], wanted: &str) -> usize {
    values.iter().position(|value| *value == wanted).expect("a value of this label")
}

#[derive(Default)]
pub(super) struct Expected {
    pub(super) role: Role,
    pub(super) samples: Samples,
    /// Samples that were said, whether a ring kept them or not.
    pub(super) said: u64,
    cells: BTreeMap<(u16, usize), u64>,
    pub(super) invalid: [u64; labels::INVALID.len()],
    pub(super) steps: [u64; labels::STEP_SOURCE.len()],
    /// Slow samples and their requests.
    pub(super) slow: BTreeSet<Exemplar>,
    /// Requests dropped alive.
    pub(super) dropped: u64,
}

impl Expected {
    pub(super) fn new(role: Role) -> Expected {
        Expected { role, ..Expected::default() }
    }

    pub(super) fn cell(&self, class: u16, cell: usize) -> u64 {
        self.cells.get(&(class, cell)).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, class: u16, cell: usize, n: u64) {
        *self.cells.entry((class, cell)).or_default() += n
    }

    pub(super) fn invalid(&mut self, why: Invalid) {
        self.invalid[why as usize] += 1
    }

    pub(super) fn clamp(&mut self, ns: u64) -> u64 {
        if ns > HOUR {
            self.invalid(Invalid::AbsurdGap)
        }
        ns.min(HOUR)
    }

    pub(super) fn interval(&mut self, metric: Metric, variant: u8, class: u16, ns: u64) {
        let ns = self.clamp(ns);
        self.sample(metric, variant, class, ns)
    }

    pub(super) fn sample(&mut self, metric: Metric, variant: u8, class: u16, value: u64) {
        let values = self.samples.entry((metric, variant, class)).or_default();
        *values.entry(value).or_default() += 1;
        self.said += 1
    }

    pub(super) fn judge(&mut self, class: u16, objective: &str, good: bool) {
        self.add(class, cell::SLO + 2 * place(labels::OBJECTIVE, objective) + good as usize, 1)
    }
}
