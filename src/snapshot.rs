//! Plain immutable values: what is known at one moment, for exporters, health and user code.

use crate::catalog::{Id, Row, grid::Grid};
use crate::record::Time;
use std::sync::Arc;
use std::time::Duration;

/// Everything the catalog exports, at one moment, in the catalog's order.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken, on the scope's clock.
    pub at: Time,
    /// When the scope started, on its clock.
    pub started: Time,
    /// Since when counters and histograms count: the scope's start, since the epoch.
    pub created: Duration,
    /// Families that have at least one series.
    pub families: Vec<Family>,
}

/// One metric family and its series.
#[derive(Clone, Debug)]
pub struct Family {
    /// The catalog's row.
    pub row: &'static Row,
    /// Its series, each with distinct labels.
    pub series: Vec<Sampled>,
}

/// One series: labels and value.
#[derive(Clone, Debug)]
pub struct Sampled {
    /// Identity labels first, then the family's own.
    pub labels: Arc<Labels>,
    /// Its value.
    pub value: Value,
}

/// The labels of a series, sanitised and cut to the limit when they were registered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Labels {
    pairs: Vec<(&'static str, Arc<str>)>,
    text: String,
}

/// The value of a series.
#[derive(Clone, Debug)]
pub enum Value {
    /// A counter or a level that is a whole number of things.
    Int(u64),
    /// A level in the family's exported unit.
    Float(f64),
    /// A distribution.
    Histogram(Histogram),
}

/// A distribution: exact counts at the catalog's bounds and an exact sum.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// Samples per bucket, not cumulative; the last one is above every finite bound.
    pub counts: Vec<u64>,
    /// Sum of all samples in the stored unit (ns, ppm, count).
    pub sum: u128,
    /// Samples per native bucket of schema 3, by index; empty unless native histograms are on.
    pub native: Vec<(i32, u64)>,
    /// The newest slow sample of each bucket, where there is one.
    pub exemplars: Vec<Exemplar>,
}

/// A slow sample and the request it came from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Exemplar {
    /// Place in [`Histogram::counts`].
    pub bucket: usize,
    /// The number the engine gave to `arrive`.
    pub id: u64,
    /// The sample in the exported unit.
    pub value: f64,
    /// When it was seen, since the epoch; `None` on a simulated clock.
    pub seen: Option<Duration>,
}

impl Labels {
    pub(crate) fn new(pairs: Vec<(&'static str, Arc<str>)>) -> Labels {
        let mut text = String::new();
        for (name, value) in &pairs {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(name);
            text.push_str("=\"");
            escape_into(&mut text, value);
            text.push('"');
        }
        Labels { pairs, text }
    }

    /// Names and values.
    pub fn pairs(&self) -> &[(&'static str, Arc<str>)] {
        &self.pairs
    }

    /// The value of one label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| &**value)
    }

    /// As both text formats write them, without the braces.
    pub fn as_text(&self) -> &str {
        &self.text
    }
}

/// Escapes a label value as both text formats want it.
pub(crate) fn escape_into(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

impl Snapshot {
    /// One family, if it has series.
    pub fn family(&self, id: Id) -> Option<&Family> {
        self.families.iter().find(|family| family.row.id == id)
    }

    /// Sum over the series whose labels `select` accepts; 0 without any. For counters and levels.
    pub fn sum(&self, id: Id, select: impl Fn(&Labels) -> bool) -> f64 {
        let series = self.family(id).map_or(&[][..], |family| &family.series);
        series.iter().filter(|s| select(&s.labels)).map(|s| s.value.as_f64()).sum()
    }

    /// The series of a histogram family whose labels `select` accepts, in one; `None` without any.
    pub fn merged(&self, id: Id, select: impl Fn(&Labels) -> bool) -> Option<Histogram> {
        let selected = self.family(id)?.series.iter().filter(|s| select(&s.labels));
        let mut histograms = selected.filter_map(|s| s.value.histogram());
        let mut all = histograms.next()?.clone();
        for histogram in histograms {
            all.merge(histogram)
        }
        Some(all)
    }
}

impl Value {
    /// The number; of a histogram its count.
    pub fn as_f64(&self) -> f64 {
        match self {
            Value::Int(n) => *n as f64,
            Value::Float(x) => *x,
            Value::Histogram(h) => h.count() as f64,
        }
    }

    /// The distribution, if it is one.
    pub fn histogram(&self) -> Option<&Histogram> {
        if let Value::Histogram(h) = self { Some(h) } else { None }
    }
}

impl Histogram {
    /// Number of samples.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The smallest bound of `grid` that at least a share `q` of the samples does not exceed, in the
    /// stored unit; `None` without samples or if it lies above the last bound.
    pub fn quantile_bound(&self, grid: Grid, q: f64) -> Option<u64> {
        let (mut below, wanted) = (0, q * self.count() as f64);
        for (count, bound) in self.counts.iter().zip(grid) {
            below += count;
            if below > 0 && below as f64 >= wanted {
                return Some(bound.value);
            }
        }
        None
    }

    fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs
        }
        self.sum += other.sum;
        for &(index, n) in &other.native {
            match self.native.binary_search_by_key(&index, |(i, _)| *i) {
                Ok(at) => self.native[at].1 += n,
                Err(at) => self.native.insert(at, (index, n)),
            }
        }
        self.exemplars.extend_from_slice(&other.exemplars);
    }
}

/// The last ten minutes (and the last hour, for whoever asks) in rows of ten seconds.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Oldest first; the last one is the row that is still open.
    pub rows: Vec<HistoryRow>,
}

/// What happened in one row, and the levels at its end.
#[derive(Clone, Debug, Default)]
pub struct HistoryRow {
    /// Seconds from the row's end to now; 0 for the open one.
    pub age_seconds: f64,
    /// How long it lasted.
    pub seconds: f64,
    /// Distributions seen in this row, one per entry of [`LINES`].
    pub quantiles: Vec<Option<Quantiles>>,
    /// Tokens generated in this row.
    pub generated: u64,
    /// Requests that ended in this row, by status.
    pub ended: Vec<u64>,
    /// Sequences put back to waiting in this row.
    pub preempted: u64,
    /// Sequences running at its end.
    pub running: u64,
    /// Requests and sequences waiting at its end.
    pub waiting: u64,
    /// Sequences of the last step.
    pub batch: u64,
    /// Blocks of the attention pool at its end: referenced, cached, free; `None` if never told.
    pub kv: Option<[u64; 3]>,
}

/// p50, p90 and p99 in seconds, from an HDR histogram of two digits.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Quantiles {
    /// Half of the samples are not above this.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// Ninety-nine of a hundred.
    pub p99: f64,
    /// Samples in the row.
    pub count: u64,
}

/// The distributions whose quantiles are kept per row: a family, and a value of its first split
/// label if it has one.
pub const LINES: [(Id, Option<usize>); 9] = [
    (Id::Ttft, None),
    (Id::Tbt, None),
    (Id::Queue, None),
    (Id::StepGpu, Some(0)),
    (Id::StepGpu, Some(1)),
    (Id::StepGpu, Some(2)),
    (Id::StepHost, Some(0)),
    (Id::StepHost, Some(1)),
    (Id::StepHost, Some(2)),
];
