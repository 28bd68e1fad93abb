//! The two text formats: Prometheus 0.0.4 and OpenMetrics 1.0, from one snapshot.
//!
//! They differ in four things: OpenMetrics names a counter's family without `_total`, says units,
//! carries exemplars and `_created`, and ends with `# EOF`. Numbers are written exactly: a sum of
//! nanoseconds is an integer with its point moved nine places, not a rounded float.

use super::family::Exposed;
use crate::catalog::{Kind, Unit};
use crate::snapshot::{Exemplar, Histogram, Sampled, Value};
use std::fmt::Write;
use std::time::Duration;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dialect {
    Prometheus,
    OpenMetrics {
        /// Since when everything counts, for `_created`; `None` leaves it out.
        created: Option<Duration>,
    },
}

/// All families, in order. `room` is what the page will take, as far as the caller can know.
pub(crate) fn write<'a>(
    families: impl Iterator<Item = Exposed<'a>>,
    dialect: Dialect,
    room: usize,
) -> String {
    let mut writer = Writer {
        out: String::with_capacity(room),
        head: String::new(),
        tail: String::new(),
        dialect,
    };
    for family in families {
        writer.family(&family)
    }
    if dialect != Dialect::Prometheus {
        writer.out.push_str("# EOF\n")
    }
    writer.out
}

struct Writer {
    out: String,
    /// What all bucket lines of one series begin with.
    head: String,
    /// What follows the bound there: the labels' end and the count. Most buckets are empty and repeat it.
    tail: String,
    dialect: Dialect,
}

impl Writer {
    fn is_open_metrics(&self) -> bool {
        self.dialect != Dialect::Prometheus
    }

    fn created(&self) -> Option<Duration> {
        match self.dialect {
            Dialect::OpenMetrics { created } => created,
            Dialect::Prometheus => None,
        }
    }

    fn family(&mut self, family: &Exposed<'_>) {
        self.header(family);
        for series in family.series {
            match &series.value {
                Value::Histogram(histogram) => self.histogram(family, series, histogram),
                value => self.line(family, series, value),
            }
        }
    }

    fn header(&mut self, family: &Exposed<'_>) {
        let (name, kind) = match (family.kind, self.is_open_metrics()) {
            (Kind::Counter, true) => (strip(family.name, "_total"), "counter"),
            (Kind::Counter, false) => (family.name, "counter"),
            (Kind::Info, true) => (strip(family.name, "_info"), "info"),
            // The older format knows no infos: they are gauges that stay 1.
            (Kind::Info | Kind::Gauge, _) => (family.name, "gauge"),
            (Kind::Histogram(_), _) => (family.name, "histogram"),
        };
        let quote = self.is_open_metrics();
        self.text(&["# HELP ", name, " "]);
        escape_help(&mut self.out, family.help, quote);
        self.text(&["\n# TYPE ", name, " ", kind, "\n"]);
        let unit = family.unit.suffix();
        if quote && !unit.is_empty() && name.ends_with(unit) {
            self.text(&["# UNIT ", name, " ", unit, "\n"])
        }
    }

    fn line(&mut self, family: &Exposed<'_>, series: &Sampled, value: &Value) {
        self.text(&[family.name, "{", series.labels.as_text(), "} "]);
        match value {
            Value::Int(n) => self.int(*n),
            Value::Float(x) => float(&mut self.out, *x),
            Value::Histogram(_) => {}
        }
        self.out.push('\n');
        if let (Kind::Counter, Some(created)) = (family.kind, self.created()) {
            self.created_line(strip(family.name, "_total"), series, created)
        }
    }

    fn histogram(&mut self, family: &Exposed<'_>, series: &Sampled, histogram: &Histogram) {
        let labels = series.labels.as_text();
        self.head.clear();
        for part in [family.name, "_bucket{", labels, ",le=\""] {
            self.head.push_str(part)
        }
        let bounds = family.grid().iter().map(|bound| bound.le).chain(["+Inf"]);
        let mut cumulative = 0;
        for (bucket, (count, le)) in histogram.counts.iter().zip(bounds).enumerate() {
            if *count > 0 || bucket == 0 {
                cumulative += count;
                self.tail.clear();
                self.tail.push_str("\"} ");
                self.tail.push_str(itoa::Buffer::new().format(cumulative))
            }
            self.out.push_str(&self.head);
            self.out.push_str(le);
            self.out.push_str(&self.tail);
            if self.is_open_metrics()
                && let Some(exemplar) = histogram.exemplars.iter().find(|e| e.bucket == bucket)
            {
                self.exemplar(exemplar)
            }
            self.out.push('\n')
        }
        self.text(&[family.name, "_sum{", labels, "} "]);
        decimal(&mut self.out, histogram.sum, family.unit);
        self.text(&["\n", family.name, "_count{", labels, "} "]);
        self.int(cumulative);
        self.out.push('\n');
        if let Some(created) = self.created() {
            self.created_line(family.name, series, created)
        }
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        self.out.push_str(" # {request_id=\"");
        self.int(exemplar.id);
        self.out.push_str("\"} ");
        float(&mut self.out, exemplar.value);
        if let Some(seen) = exemplar.seen {
            self.out.push(' ');
            seconds(&mut self.out, seen)
        }
    }

    fn created_line(&mut self, family: &str, series: &Sampled, created: Duration) {
        self.text(&[family, "_created{", series.labels.as_text(), "} "]);
        seconds(&mut self.out, created);
        self.out.push('\n')
    }

    fn text(&mut self, parts: &[&str]) {
        for part in parts {
            self.out.push_str(part)
        }
    }

    fn int(&mut self, n: u64) {
        self.out.push_str(itoa::Buffer::new().format(n))
    }
}

fn strip<'a>(name: &'a str, suffix: &str) -> &'a str {
    name.strip_suffix(suffix).unwrap_or(name)
}

fn escape_help(out: &mut String, help: &str, quote: bool) {
    for c in help.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quote => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

fn float(out: &mut String, x: f64) {
    // Writing to a String cannot fail.
    let _ = match x {
        x if x == f64::INFINITY => write!(out, "+Inf"),
        x if x == f64::NEG_INFINITY => write!(out, "-Inf"),
        x => write!(out, "{x}"),
    };
}

fn seconds(out: &mut String, since_epoch: Duration) {
    decimal(out, since_epoch.as_nanos(), Unit::Seconds)
}

/// A stored integer in the exported unit, exactly.
fn decimal(out: &mut String, stored: u128, unit: Unit) {
    let scale = u128::from(unit.scale());
    out.push_str(itoa::Buffer::new().format(stored / scale));
    let fraction = stored % scale;
    if fraction == 0 {
        return;
    }
    let digits = scale.ilog10() as usize;
    let text = format!("{fraction:0digits$}");
    out.push('.');
    out.push_str(text.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(stored: u128, unit: Unit) -> String {
        let mut out = String::new();
        decimal(&mut out, stored, unit);
        out
    }

    #[test]
    fn sums_are_written_to_the_last_nanosecond() {
        assert_eq!(written(1, Unit::Seconds), "0.000000001");
        assert_eq!(written(2_000_000_000, Unit::Seconds), "2");
        assert_eq!(written(123_456_789_012_345_678_901, Unit::Seconds), "123456789012.345678901");
        assert_eq!(written(850_000, Unit::Ratio), "0.85");
        assert_eq!(written(7, Unit::Count), "7");
    }

    #[test]
    fn infinities_have_the_formats_own_spelling() {
        let mut out = String::new();
        float(&mut out, f64::INFINITY);
        float(&mut out, f64::NAN);
        assert_eq!(out, "+InfNaN");
    }
}
