//! The scrape history of a run, as input of `promtool test rules`: what Prometheus would have seen,
//! every ten seconds, and which alerts it must make of it.

use super::promtool::{Expected, Test, Tests};
use super::rules;
use super::site::Site;
use super::times::span;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use stepscope::snapshot::{Histogram, Snapshot, Value};

/// Seconds between two samples: the length of a row.
pub const EVERY_S: u32 = 10;

/// Every series of every worker, sample by sample.
#[derive(Default)]
pub struct History {
    series: BTreeMap<String, Vec<Option<f64>>>,
    samples: usize,
}

/// Alerts in some state at one moment.
pub struct Expectation {
    /// What is asked; the answer's label `alertname` is compared.
    pub expr: String,
    /// When, in seconds since the first sample.
    pub at_s: u64,
    /// Their names.
    pub alerts: BTreeSet<&'static str>,
}

impl History {
    /// The next moment, [`EVERY_S`] after the one before: what each target shows then.
    pub fn take(&mut self, site: &Site, targets: &[(String, Snapshot)]) {
        for (instance, snapshot) in targets {
            let of_target = format!("job=\"{}\",instance=\"{instance}\"", site.job);
            self.put(format!("up{{{of_target}}}"), 1.0);
            for family in &snapshot.families {
                let name = family.row.name;
                for series in &family.series {
                    let labels = format!("{},{of_target}", series.labels.as_text());
                    let labels = labels.trim_start_matches(',');
                    match &series.value {
                        Value::Histogram(histogram) => {
                            let bounds = family.row.grid().iter().map(|bound| bound.le);
                            let scale = family.row.unit.scale() as f64;
                            self.histogram(name, labels, histogram, bounds, scale)
                        }
                        value => self.put(format!("{name}{{{labels}}}"), value.as_f64()),
                    }
                }
            }
        }
        self.samples += 1
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &str,
        histogram: &Histogram,
        bounds: impl Iterator<Item = &'static str>,
        scale: f64,
    ) {
        let mut below = 0;
        for (count, le) in histogram.counts.iter().zip(bounds.chain(["+Inf"])) {
            below += count;
            self.put(format!("{name}_bucket{{{labels},le=\"{le}\"}}"), below as f64)
        }
        self.put(format!("{name}_sum{{{labels}}}"), histogram.sum as f64 / scale);
        self.put(format!("{name}_count{{{labels}}}"), below as f64)
    }

    fn put(&mut self, series: String, value: f64) {
        let values = self.series.entry(series).or_default();
        values.resize(self.samples, None);
        values.push(Some(value))
    }

    /// Seconds from the first sample to the last.
    pub fn length_s(&self) -> u64 {
        self.samples.saturating_sub(1) as u64 * u64::from(EVERY_S)
    }

    /// The test file for rules in the file of this name beside it.
    pub fn tests(&self, rule_file: &str, expectations: &[Expectation]) -> String {
        let input = self.series.iter();
        let input = input.map(|(name, values)| (name.clone(), numbers(values, self.samples)));
        let expected = expectations.iter().map(|expectation| {
            let alerts = expectation.alerts.iter().map(|name| (*name, 1));
            let at = format!("{}s", expectation.at_s);
            Expected::alerts(expectation.expr.clone(), at, alerts)
        });
        let test = Test::new(None, span(EVERY_S), input, expected.collect());
        let note = "The scrape history of a run. Run: promtool test rules on this file";
        Tests::of(rule_file, span(EVERY_S), vec![test]).text(note)
    }

    /// Writes it to `path`, and the rules beside it.
    ///
    /// # Errors
    /// One of the two cannot be written.
    pub fn write(&self, site: &Site, path: &Path, expectations: &[Expectation]) -> Result<()> {
        let rules = path.with_extension("rules.yml");
        let name = rules.file_name().context("--history names no file")?.to_string_lossy();
        let text = self.tests(&name, expectations);
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
        std::fs::write(&rules, rules::text(site)).with_context(|| rules.display().to_string())
    }
}

/// `_` stands for a scrape without the series; runs of equal values are written short.
fn numbers(values: &[Option<f64>], samples: usize) -> String {
    let mut written: Vec<String> = vec![];
    let padded = values.iter().copied().chain(std::iter::repeat_n(None, samples - values.len()));
    let all: Vec<Option<f64>> = padded.collect();
    for run in all.chunk_by(|a, b| a == b) {
        let value = run[0].map_or_else(|| "_".into(), |value| format!("{value}"));
        match run.len() {
            1 => written.push(value),
            // `x3` means three more.
            n => written.push(format!("{value}x{}", n - 1)),
        }
    }
    written.join(" ")
}

/// Asks which of these alerts are in the given state (`alertstate="firing"`, or any), now or at some
/// time of the last seconds; 1 each, on however many workers and devices.
pub fn which(alerts: &BTreeSet<&'static str>, matcher: &str, over_s: Option<u64>) -> String {
    let names: Vec<&str> = alerts.iter().copied().collect();
    let matchers = [format!("alertname=~\"{}\"", names.join("|"))];
    let more = if matcher.is_empty() { String::new() } else { format!(",{matcher}") };
    let selected = format!("ALERTS{{{}{more}}}", matchers[0]);
    match over_s {
        Some(seconds) => format!("group by (alertname) (count_over_time({selected}[{seconds}s]))"),
        None => format!("group by (alertname) ({selected})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_short_and_gaps_stay() {
        let values = [Some(0.0), Some(0.0), Some(0.0), Some(1.5), None, Some(2.0)];
        assert_eq!(numbers(&values, 8), "0x2 1.5 _ 2 _x1")
    }
}
