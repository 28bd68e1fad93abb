//! The few numbers a person looks at first, over all workers, as a dashboard would query them.

use crate::agreement::{Agreement, lost_samples, total};
use crate::book::{Book, ROUNDING, Samples};
use crate::exposition::Exposition;
use stepscope::catalog::{self, Id, Row, Unit, labels};

/// Longest time a sample can carry; where a bucket without a finite bound ends.
const SAMPLE_NS_MAX: u64 = 3_600_000_000_000;

/// A row of the summary.
pub struct Headline {
    /// What people call it.
    pub label: String,
    /// What it is measured in.
    pub unit: Unit,
    /// The numbers.
    pub agreement: Agreement,
}

/// The books of all workers beside their expositions.
pub struct Fleet<'a> {
    workers: Vec<(&'a Book, &'a Exposition)>,
    lost: u64,
}

impl<'a> Fleet<'a> {
    /// All workers together.
    pub fn new(workers: Vec<(&'a Book, &'a Exposition)>) -> Fleet<'a> {
        let lost = workers.iter().map(|(_, exposition)| lost_samples(exposition)).sum();
        Fleet { workers, lost }
    }

    /// The table, from what users feel to what the machine does.
    pub fn headlines(&self) -> Vec<Headline> {
        let mut rows = vec![];
        for (label, id) in [
            ("TTFT", Id::Ttft),
            ("TBT", Id::Tbt),
            ("inter-token latency", Id::Itl),
            ("queue time", Id::Queue),
            ("step, GPU", Id::StepGpu),
            ("step, host", Id::StepHost),
            ("GPU gap", Id::GpuGap),
        ] {
            rows.extend(self.quantile(label, id, 0.5, "p50"));
            rows.extend(self.quantile(label, id, 0.99, "p99"));
            rows.extend(self.mean(label, id))
        }
        for source in labels::STEP_SOURCE {
            let part = Some(("source", *source));
            rows.extend(self.total(&format!("steps timed by: {source}"), Id::StepSource, part))
        }
        rows.extend(self.quantile("KV cache utilization", Id::KvStepUtilization, 1.0, "peak"));
        for status in labels::STATUS {
            let part = Some(("status", *status));
            rows.extend(self.total(&format!("requests, {status}"), Id::Requests, part))
        }
        rows.extend(self.total("requests in flight", Id::RequestsInFlight, None));
        for source in labels::PROMPT_SOURCE {
            let part = Some(("source", *source));
            rows.extend(self.total(&format!("prompt tokens, {source}"), Id::PromptTokens, part))
        }
        rows.extend(self.total("generated tokens", Id::GeneratedTokens, None));
        rows.extend(self.total("recomputed tokens", Id::RecomputedTokens, None));
        rows.extend(self.total("preemptions", Id::Preemptions, None));
        rows
    }

    /// The engine's exact quantile beside the one read off the buckets, which is right to within
    /// the bucket that holds it. `None` without samples.
    fn quantile(&self, label: &str, id: Id, q: f64, word: &str) -> Option<Headline> {
        let row = catalog::row(id);
        let (exact, moved) = self.samples(id).ranked().quantile(q, self.lost)?;
        let (reported, width) = bucket_quantile(row, &self.buckets(row), q)?;
        let scale = row.unit.scale() as f64;
        let engine = exact as f64 / scale;
        let reported = reported / scale;
        let agreement = Agreement {
            metric: format!("histogram_quantile({q}, {})", row.name),
            engine,
            reported,
            error: (engine - reported).abs(),
            bound: (width + moved) as f64 / scale,
        };
        Some(Headline { label: format!("{label} {word}"), unit: row.unit, agreement })
    }

    fn mean(&self, label: &str, id: Id) -> Option<Headline> {
        let row = catalog::row(id);
        let samples = self.samples(id);
        let n = samples.count();
        let sum: f64 = self.sum_of(&format!("{}_sum", row.name));
        let count = self.sum_of(&format!("{}_count", row.name));
        if n == 0 || count == 0.0 {
            return None;
        }
        let scale = row.unit.scale() as f64;
        let [least, most] = samples.sum().map(|sum| sum as f64 / scale / n as f64);
        let engine = (least + most) / 2.0;
        let reported = sum / count;
        // A lost sample takes its value and its weight along; sums of doubles round besides.
        let largest = samples.ranked().quantile(1.0, 0)?.0 as f64 / scale;
        let bound = self.lost as f64 * largest / count + (most - least) / 2.0 + engine * ROUNDING;
        let agreement = Agreement {
            metric: format!("{0}_sum / {0}_count", row.name),
            engine,
            reported,
            error: (engine - reported).abs(),
            bound,
        };
        Some(Headline { label: format!("{label} mean"), unit: row.unit, agreement })
    }

    /// A counter or level over all workers, or the part of it that carries a label; `None` for a
    /// part that is 0 on both sides.
    fn total(&self, label: &str, id: Id, part: Option<(&str, &str)>) -> Option<Headline> {
        let name = catalog::row(id).name;
        let with = part.as_slice();
        let engine: u64 = self.workers.iter().map(|(book, _)| book.total(id, with)).sum();
        let reported: i128 =
            self.workers.iter().map(|(_, exposition)| total(exposition, name, with)).sum();
        if part.is_some() && engine == 0 && reported == 0 {
            return None;
        }
        let selector = part.map(|(label, value)| format!("{{{label}={value:?}}}"));
        let agreement = Agreement {
            metric: format!("sum({name}{})", selector.unwrap_or_default()),
            engine: engine as f64,
            reported: reported as f64,
            error: reported.abs_diff(engine.into()) as f64,
            bound: 0.0,
        };
        Some(Headline { label: label.into(), unit: Unit::Count, agreement })
    }

    fn samples(&self, id: Id) -> Samples {
        let mut all = Samples::default();
        for (book, _) in &self.workers {
            all.merge(&book.merged(id))
        }
        all
    }

    /// Cumulative counts at the family's bounds, over all series of all workers.
    fn buckets(&self, row: &Row) -> Vec<u64> {
        let name = format!("{}_bucket", row.name);
        let bounds = row.grid().iter().map(|bound| bound.le).chain(["+Inf"]);
        let at = |le: &str| -> i128 {
            self.workers.iter().map(|(_, exposition)| total(exposition, &name, &[("le", le)])).sum()
        };
        bounds.map(|le| u64::try_from(at(le)).unwrap_or(0)).collect()
    }

    fn sum_of(&self, name: &str) -> f64 {
        let samples = self.workers.iter().flat_map(|(_, exposition)| exposition.iter());
        samples.filter(|(key, _)| key.name == name).filter_map(|(_, x)| x.parse::<f64>().ok()).sum()
    }
}

/// What Prometheus' `histogram_quantile` makes of cumulative buckets, and the width of the bucket it
/// is in, both in the stored unit. It interpolates, and never says more than the last finite bound.
fn bucket_quantile(row: &Row, cumulative: &[u64], q: f64) -> Option<(f64, u64)> {
    let count = *cumulative.last().filter(|count| **count > 0)?;
    let rank = q * count as f64;
    let at = cumulative.iter().position(|below| *below > 0 && *below as f64 >= rank)?;
    let bound = |at: usize| row.grid().get(at).map(|bound| bound.value);
    let (low, before) = match at.checked_sub(1) {
        Some(below) => (bound(below)?, cumulative[below]),
        None => (0, 0),
    };
    let Some(high) = bound(at) else {
        return Some((low as f64, SAMPLE_NS_MAX.saturating_sub(low)));
    };
    let share = (rank - before as f64) / (cumulative[at] - before) as f64;
    Some((low as f64 + (high - low) as f64 * share, high - low))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cumulative counts of one sample in each bucket of TTFT's grid up to `used`.
    fn stairs(used: u64) -> Vec<u64> {
        let buckets = catalog::row(Id::Ttft).grid().len() as u64 + 1;
        (1..=buckets).map(|n| n.min(used)).collect()
    }

    #[test]
    fn a_quantile_off_the_buckets_is_what_prometheus_interpolates() {
        let row = catalog::row(Id::Ttft);
        // Four samples: the median is the end of the second bucket, p99 within the fourth.
        assert_eq!(bucket_quantile(row, &stairs(4), 0.5), Some((800_000.0, 300_000)));
        let (p99, width) = bucket_quantile(row, &stairs(4), 0.99).unwrap();
        assert!((1_000_000.0..=1_500_000.0).contains(&p99) && width == 500_000, "{p99} {width}");
    }

    #[test]
    fn beyond_the_last_bound_it_says_the_last_bound() {
        let row = catalog::row(Id::Ttft);
        let mut all_beyond = vec![0; row.grid().len()];
        all_beyond.push(7);
        let top = 1_000_000_000_000;
        let said = bucket_quantile(row, &all_beyond, 0.5);
        assert_eq!(said, Some((top as f64, SAMPLE_NS_MAX - top)));
        assert_eq!(bucket_quantile(row, &stairs(0), 0.5), None);
    }
}
