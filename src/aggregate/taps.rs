//! What alerts look at, sampled as a row closes: the numbers a scrape at that moment would show.

use super::aggregator::Aggregator;
use super::totals::Totals;
use super::window::ROW_NS;
use crate::catalog::signal::{Part, Pick, Series};
use crate::catalog::{self, Kind, Row};
use crate::judge::{self, Sample};
use crate::record::Time;
use crate::snapshot::Value;

const _: () = assert!(judge::ROW_S as u64 * 1_000_000_000 == ROW_NS, "one length of a row");

impl Aggregator {
    /// One sample for the judge.
    pub(super) fn sample(&mut self, totals: &Totals, at: Time) -> Sample {
        let (series, histograms) = {
            let taps = self.judge.taps();
            (taps.series.clone(), taps.histograms.clone())
        };
        let families = &self.distributions;
        let buckets = histograms.iter().map(|id| families.family(*id).folded_counts()).collect();
        let series = series.iter().map(|series| self.tapped(series, totals, at)).collect();
        Sample { at, series, buckets }
    }

    /// By child: what is exported; `None` = nothing, or not meant.
    fn tapped(&mut self, series: &Series, totals: &Totals, at: Time) -> Vec<Option<f64>> {
        let row = catalog::row(series.id);
        let mut values = match row.kind {
            Kind::Histogram(_) => self.histogram_values(row, series.part),
            _ => {
                let values = self.values(row, totals, at).unwrap_or_default();
                values.into_iter().map(|value| value.as_ref().map(Value::as_f64)).collect()
            }
        };
        if let Some(pick) = series.pick {
            self.keep_picked(&mut values, row, &pick)
        }
        values
    }

    fn keep_picked(&mut self, values: &mut [Option<f64>], row: &'static Row, pick: &Pick) {
        for (child, value) in values.iter_mut().enumerate() {
            let labels = value.is_some().then(|| self.labels_of(row, child));
            let meant = labels.is_some_and(|l| l.get(pick.label).is_some_and(|v| pick.takes(v)));
            if !meant {
                *value = None
            }
        }
    }

    fn histogram_values(&self, row: &'static Row, part: Part) -> Vec<Option<f64>> {
        let value = |histogram: &super::histogram::Series| match part {
            Part::Count => histogram.count() as f64,
            Part::Sum | Part::Value => histogram.sum() as f64 / row.unit.scale() as f64,
        };
        self.shown_histograms(row).map(|shown| shown.map(value)).collect()
    }
}
