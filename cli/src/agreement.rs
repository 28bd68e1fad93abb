//! The comparison: what the engine knows beside what `/metrics` says, number by number.
//!
//! A number of things and a sum of nanoseconds must agree to the last digit. Bounds other than 0
//! stand where a number holds the moment of the scrape, where a quantile is read off buckets, and
//! where `/metrics` itself owns up to lost samples.

use crate::book::{Amount, Book, Expected};
use crate::expect::{QUEUE_BY_PRIORITY, QUEUE_BY_REASON};
use crate::exposition::{Exposition, Key, Labels};
use serde::Serialize;
use std::collections::BTreeMap;
use stepscope::catalog::{self, Id};

/// One number, as the engine knows it and as it was reported.
#[derive(Clone, Debug, Serialize)]
pub struct Agreement {
    /// The sample, or the query over samples, in PromQL's words.
    pub metric: String,
    /// What the engine knows, in the exported unit.
    pub engine: f64,
    /// What `/metrics` says.
    pub reported: f64,
    /// The distance between the two.
    pub error: f64,
    /// How large that may be.
    pub bound: f64,
}

impl Agreement {
    /// Whether the two agree.
    pub fn holds(&self) -> bool {
        self.error <= self.bound
    }

    /// The family that the number belongs to; a query is a family of its own.
    pub fn family(&self) -> &str {
        let name = self.metric.split('{').next().unwrap_or_default();
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s));
        of_histogram.unwrap_or(name)
    }

    /// The error as a share of the larger of the two numbers.
    pub fn relative_error(&self) -> f64 {
        self.error / self.engine.abs().max(self.reported.abs())
    }
}

/// A worker's whole exposition, compared.
#[derive(Default)]
pub struct Comparison {
    /// Every number that both sides told.
    pub entries: Vec<Agreement>,
    /// Samples that are not there, or hold no number.
    pub missing: Vec<String>,
}

impl Comparison {
    /// Compares one worker.
    pub fn of(book: &Book, exposition: &Exposition) -> Comparison {
        let mut comparison = Comparison::default();
        let lost = lost_samples(exposition);
        let mut reported = with_queue_sums(exposition);
        for (key, expected) in book.expected() {
            match reported.remove(&key) {
                Some(text) => comparison.compare(&key.to_string(), expected, &text, lost),
                None => comparison.missing.push(key.to_string()),
            }
        }
        // What the engine does not know of may be there, at 0: classes that nobody used.
        for (key, text) in
            reported.iter().filter(|(key, _)| is_of_the_engine(&key.name, &book.unknown))
        {
            comparison.compare(&key.to_string(), Expected::near(0.0, 0.0), text, 0)
        }
        comparison.conservation(book, exposition);
        comparison
    }

    /// One more number, which only one of the two can be right about.
    pub fn also(&mut self, metric: &str, engine: u64, reported: u64) {
        self.compare(metric, Expected::count(engine), &reported.to_string(), 0)
    }

    fn compare(&mut self, metric: &str, expected: Expected, text: &str, lost: u64) {
        let bound = expected.bound + lost as f64 * expected.per_lost;
        match distance(expected.amount, text) {
            Some((reported, error)) => self.entries.push(Agreement {
                metric: metric.into(),
                engine: expected.amount.as_f64(),
                reported,
                error,
                bound,
            }),
            None => self.missing.push(format!("{metric} (it says {text:?})")),
        }
    }

    /// What must hold however much was lost: nothing vanishes between two counters.
    fn conservation(&mut self, book: &Book, exposition: &Exposition) {
        let total = |id: Id, with: &[(&str, &str)]| total(exposition, catalog::row(id).name, with);
        let mut check = |metric: &str, engine: u64, reported: i128| {
            let metric = Key::new(metric, book.identity().clone()).to_string();
            self.compare(&metric, Expected::count(engine), &reported.to_string(), 0)
        };
        check(
            "accepted = ended + in flight + dropped",
            book.total(Id::RequestsAccepted, &[]),
            total(Id::Requests, &[])
                + total(Id::RequestsInFlight, &[])
                + total(Id::Invalid, &[("reason", "dropped")]),
        );
        check(
            "errors = failed + rejected",
            book.total(Id::Errors, &[]),
            total(Id::Requests, &[("status", "failed")])
                + total(Id::Requests, &[("status", "rejected")]),
        );
        // One event feeds both inter-token latency and TBT, and one both TTFT and its residual.
        let samples = book.samples_in_all(|id| !matches!(id, Id::Itl | Id::TtftResidual));
        check(
            "samples = taken by rings + dropped by rings",
            samples,
            total(Id::RingSamples, &[]) + total(Id::RingDropped, &[]),
        );
    }
}

/// Samples of distributions that `/metrics` says were lost.
pub fn lost_samples(exposition: &Exposition) -> u64 {
    u64::try_from(total(exposition, catalog::row(Id::RingDropped).name, &[])).unwrap_or(0)
}

/// The sum over the series of one name that carry these labels.
pub fn total(exposition: &Exposition, name: &str, with: &[(&str, &str)]) -> i128 {
    let first = Key::new(name, Labels::new());
    let named = exposition.range(first..).take_while(|(key, _)| key.name == name);
    let chosen = named.filter(|(key, _)| with.iter().all(|(label, value)| key.has(label, value)));
    chosen.filter_map(|(_, text)| stored_units(text, 1)).sum()
}

/// A family of the catalog whose numbers an engine can know. Aliases of other systems are copies.
fn is_of_the_engine(name: &str, unknown: &[Id]) -> bool {
    let mut unknown = unknown.iter().map(|id| catalog::row(*id).name);
    name.starts_with("llm_") && !unknown.any(|family| name.starts_with(family))
}

/// The exposition with the queue's depths summed as the engine knows them.
fn with_queue_sums(exposition: &Exposition) -> Exposition {
    let depth = catalog::row(Id::QueueDepth).name;
    let (queue, mut rest): (Exposition, Exposition) =
        exposition.clone().into_iter().partition(|(key, _)| key.name == depth);
    for (name, by) in [(QUEUE_BY_REASON, "reason"), (QUEUE_BY_PRIORITY, "priority")] {
        let mut sums = BTreeMap::<Labels, Option<i128>>::new();
        for (key, text) in &queue {
            let kept = ["model", "worker_id", by];
            let mut labels = key.labels.clone();
            labels.retain(|label, _| kept.contains(&label.as_str()));
            let sum = sums.entry(labels).or_insert(Some(0));
            *sum = sum.zip(stored_units(text, 1)).map(|(sum, n)| sum + n)
        }
        for (labels, sum) in sums {
            let text = sum.map_or("no whole number".into(), |n| n.to_string());
            rest.insert(Key::new(name, labels), text);
        }
    }
    rest
}

/// What the text says and how far that is from the amount, both in the exported unit; `None` if it
/// says no finite number of the amount's kind.
fn distance(amount: Amount, text: &str) -> Option<(f64, f64)> {
    match amount {
        Amount::Whole { units, scale } => {
            let reported = stored_units(text, scale)?;
            let error = units.abs_diff(reported) as f64 / scale as f64;
            Some((reported as f64 / scale as f64, error))
        }
        Amount::Real(engine) => {
            let reported: f64 = text.parse().ok()?;
            reported.is_finite().then(|| (reported, (engine - reported).abs()))
        }
    }
}

/// A decimal as a whole number of `scale`-ths, without passing through a double.
fn stored_units(text: &str, scale: u64) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = scale.ilog10() as usize;
    let (kept, beyond) = fraction.split_at(digits.min(fraction.len()));
    if fraction.is_empty() || beyond.bytes().any(|digit| digit != b'0') {
        return None;
    }
    let units: i128 = format!("{whole}{kept:0<digits$}").parse().ok()?;
    Some(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::parse;

    #[test]
    fn decimals_are_read_to_the_last_digit_and_nothing_else_is_read() {
        let ns = 1_000_000_000;
        for (text, scale, units) in [
            ("9007199254.740993001", ns, Some(9_007_199_254_740_993_001)),
            ("0.85", 1_000_000, Some(850_000)),
            ("2", ns, Some(2_000_000_000)),
            ("18446744073709551615", 1, Some(u64::MAX.into())),
            ("5.0", 1, Some(5)),
            ("-3", 1, Some(-3)),
            ("5.5", 1, None),
            ("0.0000000001", ns, None),
            ("1e3", 1, None),
            ("NaN", 1, None),
            ("+Inf", ns, None),
            ("1.", 1, None),
            ("", 1, None),
        ] {
            assert_eq!(stored_units(text, scale), units, "{text}");
        }
    }

    /// One prompt of 100 tokens, of which `/metrics` says `prompt` and `text` besides.
    fn compared(prompt: &str, text: &str) -> Comparison {
        let mut book = Book::new("m", "w0");
        book.unknown = crate::expect::OF_THE_INSTRUMENT.to_vec();
        *book.count(Id::PromptTokens, &[], &["computed"]) += 100;
        let mut all = String::from("# TYPE llm_prompt_tokens_total counter\n");
        for (source, n) in [("computed", prompt), ("cached", "0"), ("transferred", "0")] {
            let labels = format!("model=\"m\",worker_id=\"w0\",source=\"{source}\"");
            all.push_str(&format!("llm_prompt_tokens_total{{{labels}}} {n}\n"))
        }
        Comparison::of(&book, &parse(&(all + text)).unwrap())
    }

    #[test]
    fn equal_numbers_agree_and_one_too_few_does_not() {
        let good = compared("100", "");
        assert!(good.missing.is_empty() && good.entries.iter().all(Agreement::holds));
        let bad = compared("99", "");
        let wrong: Vec<_> = bad.entries.iter().filter(|entry| !entry.holds()).collect();
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].metric.contains("llm_prompt_tokens_total") && wrong[0].error == 1.0);
    }

    #[test]
    fn a_number_that_is_none_is_missing() {
        assert_eq!(compared("NaN", "").missing.len(), 1);
    }

    #[test]
    fn lost_samples_widen_bounds_by_as_many_and_no_more() {
        let mut book = Book::new("m", "w0");
        book.unknown = crate::expect::OF_THE_INSTRUMENT.to_vec();
        for n in 0..3 {
            book.samples(Id::RequestPreemptions, &[], &[]).add(n)
        }
        // A book tells itself, but for a few samples.
        let is_agreed = |short: u32, dropped: u32| {
            let less = |expected: Expected| expected.amount.as_f64() - f64::from(short);
            let mut told: Exposition =
                book.expected().into_iter().map(|(k, e)| (k, less(e).to_string())).collect();
            let rings = [("llm_ring_events_total", 3 - short), ("llm_ring_dropped_total", dropped)];
            told.extend(rings.map(|(name, n)| (Key::new(name, Labels::new()), n.to_string())));
            let comparison = Comparison::of(&book, &told);
            comparison.missing.is_empty() && comparison.entries.iter().all(Agreement::holds)
        };
        assert!(is_agreed(0, 0) && is_agreed(1, 1) && is_agreed(2, 2));
        assert!(!is_agreed(1, 0) && !is_agreed(2, 1) && !is_agreed(0, 1));
    }

    #[test]
    fn what_the_engine_does_not_know_of_must_be_zero() {
        for (text, is_wrong) in [
            ("# TYPE llm_gpu_xid_total counter\nllm_gpu_xid_total{class=\"app\"} 0\n", false),
            ("# TYPE llm_gpu_xid_total counter\nllm_gpu_xid_total{class=\"app\"} 2\n", true),
            ("# TYPE llm_tbt_seconds histogram\nllm_tbt_seconds_sum 0.5\n", true),
            ("# TYPE llm_scrape_seconds histogram\nllm_scrape_seconds_sum 2\n", false),
            ("# TYPE vllm:x counter\nvllm:x 2\n", false),
        ] {
            let entries = compared("100", text).entries;
            assert_eq!(entries.iter().any(|entry| !entry.holds()), is_wrong, "{text}");
        }
    }
}
