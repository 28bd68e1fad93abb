//! The books of an engine: whole samples and counts by family and labels, ready to be compared.
//!
//! A book knows the catalog, which says what a number is called and where buckets end. It knows no
//! histogram, ring or counter of the library: samples are kept one by one and counted at the end.

use crate::exposition::{Key, Labels};
use std::collections::BTreeMap;
use stepscope::catalog::{self, Id, Label, Row};
use stepscope_sim::device::Within;

/// What two doubles may differ by, as a share, because one was divided and written in decimal.
pub const ROUNDING: f64 = 1e-12;

/// Samples of one series, every one of them, in the family's stored unit (ns, ppm, count).
#[derive(Clone, Default, Debug)]
pub struct Samples {
    values: Vec<Value>,
    /// The least and the most that they can be worth together.
    sum: [u128; 2],
}

/// Samples that lie between two numbers, mostly equal ones.
#[derive(Clone, Copy, Debug)]
struct Value {
    low: u64,
    high: u64,
    n: u64,
}

/// A number that the exposition has to tell.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Amount {
    /// So many `scale`-ths of the exported unit; written as a decimal, without loss.
    Whole {
        /// The number in the stored unit.
        units: i128,
        /// Stored units in one exported unit.
        scale: u64,
    },
    /// A quotient; written as the nearest double.
    Real(f64),
}

/// What the exposition has to say about one sample, and how far it may be off.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// What the engine knows.
    pub amount: Amount,
    /// How far the report may be off, in the exported unit; 0 unless the moment of the scrape is
    /// in the number.
    pub bound: f64,
    /// How far one lost sample may move it, in the exported unit.
    pub per_lost: f64,
}

/// Series of many families.
type Table<T> = BTreeMap<Id, BTreeMap<Labels, T>>;

/// Everything one worker's `/metrics` has to say.
#[derive(Default)]
pub struct Book {
    identity: Labels,
    samples: Table<Samples>,
    counts: Table<u64>,
    levels: Table<Expected>,
    /// Numbers that no row of the catalog stands for alone.
    derived: BTreeMap<Key, Expected>,
    /// Families that the engine cannot know.
    pub unknown: Vec<Id>,
}

impl Samples {
    /// One sample.
    pub fn add(&mut self, value: u64) {
        self.add_many(value, 1, value)
    }

    /// `n` samples of one value that are worth `sum` together.
    pub fn add_many(&mut self, value: u64, n: u64, sum: u64) {
        self.values.push(Value { low: value, high: value, n });
        self.sum = self.sum.map(|so_far| so_far + u128::from(sum))
    }

    /// One sample that lies between two numbers.
    pub fn add_within(&mut self, Within { low, high }: Within) {
        self.values.push(Value { low, high, n: 1 });
        self.sum = [self.sum[0] + u128::from(low), self.sum[1] + u128::from(high)]
    }

    /// All samples of both.
    pub fn merge(&mut self, other: &Samples) {
        self.values.extend_from_slice(&other.values);
        self.sum = [self.sum[0] + other.sum[0], self.sum[1] + other.sum[1]]
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.values.iter().map(|value| value.n).sum()
    }

    /// What they are worth together, at least and at most.
    pub fn sum(&self) -> [u128; 2] {
        self.sum
    }

    /// In ascending order, to ask for ranks.
    pub fn ranked(self) -> Ranked {
        let in_order = |of: fn(&Value) -> u64| {
            let mut values: Vec<_> = self.values.iter().map(|value| (of(value), value.n)).collect();
            values.sort_unstable();
            values
        };
        let values = [in_order(|value| value.low), in_order(|value| value.high)];
        Ranked { count: self.count(), values }
    }

    /// Samples per bucket, not cumulative, the one above every bound last: where `of` puts them.
    fn buckets(&self, row: &Row, of: fn(&Value) -> u64) -> Vec<u64> {
        let mut buckets = vec![0; row.grid().len() + 1];
        for value in &self.values {
            buckets[row.grid().partition_point(|bound| bound.value < of(value))] += value.n
        }
        buckets
    }
}

/// Samples in order.
pub struct Ranked {
    /// (value, how many samples have it), by lower and by upper bounds.
    values: [Vec<(u64, u64)>; 2],
    count: u64,
}

impl Ranked {
    /// The smallest sample that at least a share `q` of all samples does not exceed, and how far
    /// it may move when up to `lost` samples are missing. `None` without samples. Where samples are
    /// known between bounds, the middle, and how far it is to either end.
    pub fn quantile(&self, q: f64, lost: u64) -> Option<(u64, u64)> {
        let rank = (q * self.count as f64).ceil().max(1.0) as u64;
        let [lows, highs] = &self.values;
        let exact = at(lows, rank)?.midpoint(at(highs, rank)?);
        let low = at(lows, rank.saturating_sub(lost).max(1))?;
        let high = at(highs, rank + lost)?;
        Some((exact, (high - exact).max(exact - low)))
    }
}

/// The sample of a rank, counted from 1; the last one for a rank beyond the end.
fn at(values: &[(u64, u64)], rank: u64) -> Option<u64> {
    let mut below = 0;
    for (value, n) in values {
        below += n;
        if below >= rank {
            return Some(*value);
        }
    }
    values.last().map(|(value, _)| *value)
}

impl Amount {
    /// In the exported unit, to show and to serialise.
    pub fn as_f64(self) -> f64 {
        match self {
            Amount::Whole { units, scale } => units as f64 / scale as f64,
            Amount::Real(x) => x,
        }
    }
}

impl Expected {
    /// Exactly so many stored units.
    pub fn whole(units: u128, scale: u64) -> Expected {
        let amount = Amount::Whole { units: units as i128, scale };
        Expected { amount, bound: 0.0, per_lost: 0.0 }
    }

    /// Exactly so many things.
    pub fn count(n: u64) -> Expected {
        Expected::whole(n.into(), 1)
    }

    /// Something between two numbers of stored units.
    pub fn between([low, high]: [u128; 2], scale: u64) -> Expected {
        if low == high {
            return Expected::whole(low, scale);
        }
        let middle = (low + high) as f64 / 2.0 / scale as f64;
        Expected::near(middle, (high - low) as f64 / 2.0 / scale as f64 + middle * ROUNDING)
    }

    /// The double nearest to a quotient.
    pub fn ratio(part: u64, all: u64) -> Expected {
        Expected::near(part as f64 / all as f64, 0.0)
    }

    /// A number known up to `bound`.
    pub fn near(x: f64, bound: f64) -> Expected {
        Expected { amount: Amount::Real(x), bound, per_lost: 0.0 }
    }

    fn per_lost(self, per_lost: f64) -> Expected {
        Expected { per_lost, ..self }
    }
}

impl Book {
    /// An empty book of the worker with these identity labels.
    pub fn new(model: &str, worker_id: &str) -> Book {
        let identity = [("model", model), ("worker_id", worker_id)];
        Book { identity: owned(identity), ..Book::default() }
    }

    /// The labels that every series of this worker carries.
    pub fn identity(&self) -> &Labels {
        &self.identity
    }

    /// The samples of one series; all values of the closed labels exist with it, as they do in an
    /// exposition.
    pub fn samples(&mut self, id: Id, open: &[&str], split: &[&str]) -> &mut Samples {
        series(&mut self.samples, &self.identity, id, open, split)
    }

    /// A counter or a level of whole things.
    pub fn count(&mut self, id: Id, open: &[&str], split: &[&str]) -> &mut u64 {
        series(&mut self.counts, &self.identity, id, open, split)
    }

    /// A level that is no whole number of things.
    pub fn set(&mut self, id: Id, open: &[&str], level: Expected) {
        let labels = labels_of(&self.identity, catalog::row(id), open, &[]);
        self.levels.entry(id).or_default().insert(labels, level);
    }

    /// A number that several samples of the exposition tell together.
    pub fn derive(&mut self, name: &str, label: Option<(&str, &str)>, expected: Expected) {
        let mut labels = self.identity.clone();
        labels.extend(label.map(|(name, value)| (name.into(), value.into())));
        self.derived.insert(Key::new(name, labels), expected);
    }

    /// All samples of a family in one.
    pub fn merged(&self, id: Id) -> Samples {
        let mut all = Samples::default();
        for samples in self.samples.get(&id).into_iter().flat_map(BTreeMap::values) {
            all.merge(samples)
        }
        all
    }

    /// The sum over the series of a family that carry these labels.
    pub fn total(&self, id: Id, with: &[(&str, &str)]) -> u64 {
        let carries = |labels: &Labels| {
            with.iter().all(|(name, value)| labels.get(*name).is_some_and(|there| there == value))
        };
        let series = self.counts.get(&id).into_iter().flatten();
        series.filter(|(labels, _)| carries(labels)).map(|(_, n)| n).sum()
    }

    /// Samples of all families that `keep` accepts.
    pub fn samples_in_all(&self, keep: impl Fn(Id) -> bool) -> u64 {
        let kept = self.samples.iter().filter(|(id, _)| keep(**id));
        kept.flat_map(|(_, series)| series.values()).map(Samples::count).sum()
    }

    /// Every sample that the exposition has to have, under the name it has there.
    pub fn expected(&self) -> BTreeMap<Key, Expected> {
        let mut all = self.derived.clone();
        for (id, series) in &self.samples {
            for (labels, samples) in series {
                expect_histogram(&mut all, catalog::row(*id), labels, samples)
            }
        }
        for (id, series) in &self.counts {
            for (labels, n) in series {
                all.insert(Key::new(catalog::row(*id).name, labels.clone()), Expected::count(*n));
            }
        }
        for (id, series) in &self.levels {
            for (labels, level) in series {
                all.insert(Key::new(catalog::row(*id).name, labels.clone()), *level);
            }
        }
        all
    }
}

fn expect_histogram(
    all: &mut BTreeMap<Key, Expected>,
    row: &Row,
    labels: &Labels,
    samples: &Samples,
) {
    // One lost event of the inter-token latency stands for as many samples as tokens were accepted.
    let weight = samples.values.iter().map(|value| value.n).max().unwrap_or(0);
    let largest = samples.values.iter().map(|value| (value.high + 1) * value.n).max().unwrap_or(0);
    let scale = row.unit.scale();
    let bounds = row.grid().iter().map(|bound| bound.le).chain(["+Inf"]);
    let (at_most, at_least) =
        (samples.buckets(row, |value| value.low), samples.buckets(row, |value| value.high));
    let mut below = [0; 2];
    for ((most, least), le) in at_most.into_iter().zip(at_least).zip(bounds) {
        below = [below[0] + u128::from(least), below[1] + u128::from(most)];
        let mut labels = labels.clone();
        labels.insert("le".into(), le.into());
        let key = Key::new(format!("{}_bucket", row.name), labels);
        all.insert(key, Expected::between(below, 1).per_lost(weight as f64));
    }
    let count = Expected::count(samples.count()).per_lost(weight as f64);
    let sum = Expected::between(samples.sum(), scale).per_lost(largest as f64 / scale as f64);
    all.insert(Key::new(format!("{}_count", row.name), labels.clone()), count);
    all.insert(Key::new(format!("{}_sum", row.name), labels.clone()), sum);
}

/// The entry of one series. Its first mention makes all its siblings exist: the exporter shows
/// every value of the closed labels, at 0 where nothing happened.
fn series<'a, T: Default>(
    table: &'a mut Table<T>,
    identity: &Labels,
    id: Id,
    open: &[&str],
    split: &[&str],
) -> &'a mut T {
    let row = catalog::row(id);
    let family = table.entry(id).or_default();
    let wanted = labels_of(identity, row, open, split);
    if !family.contains_key(&wanted) {
        for values in combinations(row.split) {
            family.entry(labels_of(identity, row, open, &values)).or_default();
        }
    }
    family.entry(wanted).or_default()
}

fn labels_of(identity: &Labels, row: &Row, open: &[&str], split: &[&str]) -> Labels {
    debug_assert_eq!((open.len(), split.len()), (row.by.names().len(), row.split.len()));
    let open = row.by.names().iter().copied().zip(open.iter().copied());
    let split = row.split.iter().map(|label| label.name).zip(split.iter().copied());
    identity.clone().into_iter().chain(owned(open.chain(split))).collect()
}

/// Every combination of the values of the closed labels; one empty combination without any.
fn combinations(split: &[Label]) -> Vec<Vec<&'static str>> {
    split.iter().fold(vec![vec![]], |heads, label| {
        let longer = |head: &Vec<&'static str>| {
            label.values.iter().map(|value| [&head[..], &[*value]].concat()).collect::<Vec<_>>()
        };
        heads.iter().flat_map(longer).collect()
    })
}

fn owned<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mention_of_a_series_makes_its_siblings_exist() {
        let mut book = Book::new("m", "w0");
        *book.count(Id::SloEvents, &[], &["tbt", "true"]) += 3;
        let expected = book.expected();
        assert_eq!(expected.len(), 6);
        assert_eq!(book.total(Id::SloEvents, &[]), 3);
        assert_eq!(book.total(Id::SloEvents, &[("objective", "ttft")]), 0);
    }

    #[test]
    fn a_sample_on_a_bound_is_in_its_bucket_and_sums_are_whole() {
        let mut book = Book::new("m", "w0");
        for ns in [500_000, 500_001] {
            book.samples(Id::Ttft, &["chat", "high"], &[]).add(ns)
        }
        let expected = book.expected();
        let value = |name: &str, le: Option<&str>| {
            let found = expected
                .iter()
                .find(|(key, _)| key.name == name && le.is_none_or(|le| key.has("le", le)));
            found.map(|(_, expected)| expected.amount)
        };
        let whole = |units, scale| Some(Amount::Whole { units, scale });
        assert_eq!(value("llm_ttft_seconds_bucket", Some("0.0005")), whole(1, 1));
        assert_eq!(value("llm_ttft_seconds_bucket", Some("0.0008")), whole(2, 1));
        assert_eq!(value("llm_ttft_seconds_bucket", Some("+Inf")), whole(2, 1));
        assert_eq!(value("llm_ttft_seconds_count", None), whole(2, 1));
        assert_eq!(value("llm_ttft_seconds_sum", None), whole(1_000_001, 1_000_000_000));
    }

    #[test]
    fn a_sample_between_bounds_may_be_in_either_bucket_and_no_other() {
        let mut samples = Samples::default();
        samples.add(400_000);
        samples.add_within(Within { low: 490_000, high: 510_000 });
        let mut all = BTreeMap::new();
        expect_histogram(&mut all, catalog::row(Id::Ttft), &Labels::new(), &samples);
        let of = |le: &str| {
            let found = all.iter().find(|(key, _)| key.has("le", le));
            found.map(|(_, expected)| (expected.amount.as_f64(), expected.bound > 0.0)).unwrap()
        };
        assert_eq!(
            (of("0.0005"), of("0.0008"), of("+Inf")),
            ((1.5, true), (2.0, false), (2.0, false))
        );
        let sum = all[&Key::new("llm_ttft_seconds_sum", Labels::new())];
        assert!((sum.amount.as_f64() - 0.0009).abs() < 1e-12 && (sum.bound - 1e-5).abs() < 1e-12);
        assert_eq!(samples.ranked().quantile(1.0, 0), Some((500_000, 10_000)));
    }

    #[test]
    fn a_quantile_is_a_sample_and_losses_move_it_by_ranks() {
        let mut samples = Samples::default();
        for value in (1..=100).rev() {
            samples.add(value * 10)
        }
        let ranked = samples.ranked();
        assert_eq!(ranked.quantile(0.5, 0), Some((500, 0)));
        assert_eq!(ranked.quantile(0.99, 3), Some((990, 30)));
        assert_eq!(ranked.quantile(1.0, 0), Some((1000, 0)));
        assert_eq!(Samples::default().ranked().quantile(0.5, 0), None);
    }
}
