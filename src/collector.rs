//! Registers a Stepscope in an engine's own prometheus-client `Registry`.
//!
//! The registry's encoder writes what it can: classic histograms, counters, gauges and infos. It has
//! no exemplars for values it does not own; scrape our own endpoint for those.

use crate::catalog::{Kind, Row};
use crate::shared::Shared;
use crate::snapshot::{Family, Histogram, Labels, Sampled, Value};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::encoding::{EncodeLabelKey, EncodeLabelValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::Arc;

/// What [`Stepscope::collector`](crate::Stepscope::collector) makes; register it without a prefix.
pub struct Collector(pub(crate) Arc<Shared>);

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.scrape(|snapshot| {
            snapshot.families.iter().try_for_each(|family| encode(family, &mut encoder))
        })
    }
}

fn encode(family: &Family, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    // The encoder adds the suffix of a counter and of an info by itself.
    let (suffix, kind) = match family.row.kind {
        Kind::Counter => ("_total", MetricType::Counter),
        Kind::Gauge => ("", MetricType::Gauge),
        Kind::Info => ("_info", MetricType::Info),
        Kind::Histogram(_) => ("", MetricType::Histogram),
    };
    let name = family.row.name.strip_suffix(suffix).unwrap_or(family.row.name);
    // Names carry their unit already; given as a unit it would be appended once more.
    let mut metric = encoder.encode_descriptor(name, family.row.help, None, kind)?;
    for series in &family.series {
        encode_series(family.row, series, &mut metric)?
    }
    Ok(())
}

fn encode_series(row: &Row, series: &Sampled, metric: &mut MetricEncoder<'_>) -> fmt::Result {
    let labels = Pairs(&series.labels);
    if let Kind::Info = row.kind {
        return metric.encode_info(&labels);
    }
    let mut metric = metric.encode_family(&labels)?;
    match (&series.value, row.kind) {
        (Value::Histogram(histogram), _) => {
            let scale = row.unit.scale() as f64;
            let bounds = row.grid().iter().map(|bound| bound.value as f64 / scale);
            let buckets: Vec<(f64, u64)> =
                bounds.chain([f64::INFINITY]).zip(histogram.counts.iter().copied()).collect();
            let sum = sum(histogram, scale);
            metric.encode_histogram::<NoLabelSet>(sum, histogram.count(), &buckets, None)
        }
        (Value::Int(n), Kind::Counter) => metric.encode_counter::<NoLabelSet, u64, u64>(n, None),
        (value, Kind::Counter) => {
            metric.encode_counter::<NoLabelSet, f64, u64>(&value.as_f64(), None)
        }
        (value, _) => metric.encode_gauge(&value.as_f64()),
    }
}

fn sum(histogram: &Histogram, scale: f64) -> f64 {
    histogram.sum as f64 / scale
}

struct Pairs<'a>(&'a Labels);

impl EncodeLabelSet for Pairs<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in self.0.pairs() {
            let mut label = encoder.encode_label();
            let mut key = label.encode_label_key()?;
            EncodeLabelKey::encode(name, &mut key)?;
            let mut text = key.encode_label_value()?;
            EncodeLabelValue::encode(&&**value, &mut text)?;
            text.finish()?
        }
        Ok(())
    }
}
