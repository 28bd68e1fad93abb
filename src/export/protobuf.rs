//! Prometheus' protobuf format: the only one that carries native histograms.
//!
//! Messages are the subset of `io.prometheus.client` that we send, written out by hand so that no
//! build needs `protoc`. Field numbers: <https://github.com/prometheus/client_model>,
//! `io/prometheus/client/metrics.proto`. Every family is preceded by its length.

use super::family::Exposed;
use crate::catalog::Kind;
use crate::snapshot::{self, Histogram as Counts, Sampled, Value};
use prost::Message;
use std::time::Duration;

/// Resolution of native buckets: 2^3 per doubling.
const SCHEMA: i32 = 3;
/// Below this everything is zero; the library's default.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Gauge {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Counter {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    created_timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(double, optional, tag = "2")]
    value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_delta: Vec<i64>,
    #[prost(message, optional, tag = "15")]
    created_timestamp: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Gauge>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

/// All families, each preceded by its length.
pub(crate) fn write<'a>(
    families: impl Iterator<Item = Exposed<'a>>,
    created: Option<Duration>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 << 10);
    for family in families {
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge | Kind::Info => MetricType::Gauge,
            Kind::Histogram(_) => MetricType::Histogram,
        };
        let metric = family.series.iter().map(|series| metric(&family, series, created)).collect();
        let message = MetricFamily {
            name: Some(family.name.into()),
            help: Some(family.help.into()),
            r#type: Some(kind as i32),
            metric,
        };
        message.encode_length_delimited(&mut out).expect("a Vec grows")
    }
    out
}

fn metric(family: &Exposed<'_>, series: &Sampled, created: Option<Duration>) -> Metric {
    let pair = |(name, value): &(&str, std::sync::Arc<str>)| LabelPair {
        name: Some((*name).into()),
        value: Some((&**value).into()),
    };
    let mut metric =
        Metric { label: series.labels.pairs().iter().map(pair).collect(), ..Metric::default() };
    let created_timestamp = created.map(timestamp);
    match (&series.value, family.kind) {
        (Value::Histogram(counts), _) => {
            metric.histogram = Some(histogram(family, counts, created_timestamp))
        }
        (value, Kind::Counter) => {
            metric.counter = Some(Counter { value: Some(value.as_f64()), created_timestamp })
        }
        (value, _) => metric.gauge = Some(Gauge { value: Some(value.as_f64()) }),
    }
    metric
}

fn histogram(family: &Exposed<'_>, counts: &Counts, created: Option<Timestamp>) -> Histogram {
    let scale = family.unit.scale() as f64;
    let bounds = family.grid().iter().map(|b| b.value as f64 / scale).chain([f64::INFINITY]);
    let mut cumulative = 0;
    let bucket = counts
        .counts
        .iter()
        .zip(bounds)
        .enumerate()
        .map(|(place, (count, bound))| {
            cumulative += count;
            let exemplar = counts.exemplars.iter().find(|e| e.bucket == place).map(exemplar);
            Bucket { cumulative_count: Some(cumulative), upper_bound: Some(bound), exemplar }
        })
        .collect();
    let zero: u64 = counts.native.iter().filter(|(i, _)| *i == i32::MIN).map(|(_, n)| n).sum();
    let (positive_span, positive_delta) = spans(&counts.native);
    Histogram {
        sample_count: Some(counts.count()),
        sample_sum: Some(counts.sum as f64 / scale),
        bucket,
        schema: Some(SCHEMA),
        zero_threshold: Some(ZERO_THRESHOLD),
        zero_count: Some(zero),
        positive_span,
        positive_delta,
        created_timestamp: created,
    }
}

/// Runs of consecutive buckets, and each bucket's difference from the one before.
fn spans(native: &[(i32, u64)]) -> (Vec<BucketSpan>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<BucketSpan>::new(), vec![]);
    let (mut next, mut before) = (0, 0);
    for &(index, count) in native.iter().filter(|(index, _)| *index != i32::MIN) {
        match spans.last_mut() {
            Some(span) if index == next => span.length = span.length.map(|n| n + 1),
            // The first offset is absolute, later ones count from the end of the run before.
            _ => spans.push(BucketSpan { offset: Some(index - next), length: Some(1) }),
        }
        deltas.push(count as i64 - before);
        (next, before) = (index + 1, count as i64)
    }
    (spans, deltas)
}

fn exemplar(exemplar: &snapshot::Exemplar) -> Exemplar {
    Exemplar {
        label: vec![LabelPair {
            name: Some("request_id".into()),
            value: Some(exemplar.id.to_string()),
        }],
        value: Some(exemplar.value),
        timestamp: exemplar.seen.map(timestamp),
    }
}

fn timestamp(since_epoch: Duration) -> Timestamp {
    Timestamp { seconds: since_epoch.as_secs() as i64, nanos: since_epoch.subsec_nanos() as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_buckets_become_spans_and_deltas() {
        let (spans, deltas) = spans(&[(i32::MIN, 9), (-3, 2), (-2, 5), (4, 1)]);
        let spans: Vec<_> = spans.iter().map(|s| (s.offset(), s.length())).collect();
        assert_eq!(spans, [(-3, 2), (5, 1)]);
        assert_eq!(deltas, [2, 3, -4]);
    }
}
