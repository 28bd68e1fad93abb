//! Prometheus' protobuf format: the only one that carries native histograms.
//!
//! Only written, never read, and a dozen messages: they are encoded field by field with prost's wire
//! primitives, without its derive (which would bring six crates into every engine's build). Field
//! numbers: <https://github.com/prometheus/client_model>, `io/prometheus/client/metrics.proto`.
//! Every family is preceded by its length.

use super::family::Exposed;
use crate::catalog::Kind;
use crate::snapshot::{Exemplar, Histogram, Sampled, Value};
use prost::encoding::{self, bytes, double, int32, int64, sint32, sint64, string, uint32, uint64};
use std::time::Duration;

/// Resolution of native buckets: 2^3 per doubling.
const SCHEMA: i32 = 3;
/// Below this everything is zero; Prometheus' own default.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// `MetricType`
const COUNTER: i32 = 0;
const GAUGE: i32 = 1;
const HISTOGRAM: i32 = 4;

/// All families, each preceded by its length.
pub(crate) fn write<'a>(
    families: impl Iterator<Item = Exposed<'a>>,
    created: Option<Duration>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 << 10);
    for family in families {
        let message = metric_family(&family, created);
        encoding::encode_varint(message.len() as u64, &mut out);
        out.extend_from_slice(&message)
    }
    out
}

/// A message inside another one is its bytes behind their length.
fn nest(tag: u32, message: Vec<u8>, out: &mut Vec<u8>) {
    bytes::encode(tag, &message, out)
}

/// `MetricFamily`
fn metric_family(family: &Exposed<'_>, created: Option<Duration>) -> Vec<u8> {
    let kind = match family.kind {
        Kind::Counter => COUNTER,
        Kind::Gauge | Kind::Info => GAUGE,
        Kind::Histogram(_) => HISTOGRAM,
    };
    let mut out = vec![];
    string::encode(1, &family.name.to_string(), &mut out);
    string::encode(2, &family.help.to_string(), &mut out);
    int32::encode(3, &kind, &mut out);
    for series in family.series {
        nest(4, metric(family, series, created), &mut out)
    }
    out
}

/// `Metric`
fn metric(family: &Exposed<'_>, series: &Sampled, created: Option<Duration>) -> Vec<u8> {
    let mut out = vec![];
    for (name, value) in series.labels.pairs() {
        nest(1, label_pair(name, value), &mut out)
    }
    match (&series.value, family.kind) {
        (Value::Histogram(counts), _) => nest(7, histogram(family, counts, created), &mut out),
        (value, Kind::Counter) => nest(3, number(value, 3, created), &mut out),
        (value, _) => nest(2, number(value, 3, None), &mut out),
    }
    out
}

/// `LabelPair`
fn label_pair(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![];
    string::encode(1, &name.to_string(), &mut out);
    string::encode(2, &value.to_string(), &mut out);
    out
}

/// `Counter` or `Gauge`
fn number(value: &Value, created_tag: u32, created: Option<Duration>) -> Vec<u8> {
    let mut out = vec![];
    double::encode(1, &value.as_f64(), &mut out);
    if let Some(created) = created {
        nest(created_tag, timestamp(created), &mut out)
    }
    out
}

/// `Histogram`: the classic buckets and the native ones, from the same observations.
fn histogram(family: &Exposed<'_>, counts: &Histogram, created: Option<Duration>) -> Vec<u8> {
    let scale = family.unit.scale() as f64;
    let mut out = vec![];
    uint64::encode(1, &counts.count(), &mut out);
    double::encode(2, &(counts.sum as f64 / scale), &mut out);
    let bounds = family.grid().iter().map(|b| b.value as f64 / scale).chain([f64::INFINITY]);
    let mut cumulative = 0;
    for (place, (count, bound)) in counts.counts.iter().zip(bounds).enumerate() {
        cumulative += count;
        let mut bucket = vec![];
        uint64::encode(1, &cumulative, &mut bucket);
        double::encode(2, &bound, &mut bucket);
        if let Some(e) = counts.exemplars.iter().find(|e| e.bucket == place) {
            nest(3, exemplar(e), &mut bucket)
        }
        nest(3, bucket, &mut out)
    }
    let zero: u64 = counts.native.iter().filter(|(i, _)| *i == i32::MIN).map(|(_, n)| n).sum();
    sint32::encode(5, &SCHEMA, &mut out);
    double::encode(6, &ZERO_THRESHOLD, &mut out);
    uint64::encode(7, &zero, &mut out);
    let (spans, deltas) = spans(&counts.native);
    for (offset, length) in spans {
        let mut span = vec![];
        sint32::encode(1, &offset, &mut span);
        uint32::encode(2, &length, &mut span);
        nest(12, span, &mut out)
    }
    sint64::encode_repeated(13, &deltas, &mut out);
    if let Some(created) = created {
        nest(15, timestamp(created), &mut out)
    }
    out
}

/// Runs of consecutive buckets, and each bucket's difference from the one before.
///
/// A span is (offset, length): the first offset is absolute, later ones count from the end of the
/// run before.
fn spans(native: &[(i32, u64)]) -> (Vec<(i32, u32)>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<(i32, u32)>::new(), vec![]);
    let (mut next, mut before) = (0, 0);
    for &(index, count) in native.iter().filter(|(index, _)| *index != i32::MIN) {
        match spans.last_mut() {
            Some((_, length)) if index == next => *length += 1,
            _ => spans.push((index - next, 1)),
        }
        deltas.push(count as i64 - before);
        (next, before) = (index + 1, count as i64)
    }
    (spans, deltas)
}

/// `Exemplar`
fn exemplar(exemplar: &Exemplar) -> Vec<u8> {
    let mut out = vec![];
    nest(1, label_pair("request_id", &exemplar.id.to_string()), &mut out);
    double::encode(2, &exemplar.value, &mut out);
    if let Some(seen) = exemplar.seen {
        nest(3, timestamp(seen), &mut out)
    }
    out
}

/// `google.protobuf.Timestamp`
fn timestamp(since_epoch: Duration) -> Vec<u8> {
    let mut out = vec![];
    int64::encode(1, &(since_epoch.as_secs() as i64), &mut out);
    int32::encode(2, &(since_epoch.subsec_nanos() as i32), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_buckets_become_spans_and_deltas() {
        let (spans, deltas) = spans(&[(i32::MIN, 9), (-3, 2), (-2, 5), (4, 1)]);
        assert_eq!(spans, [(-3, 2), (5, 1)]);
        assert_eq!(deltas, [2, 3, -4]);
    }
}
