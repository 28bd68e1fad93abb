//! A world in which levels stand and counters rise evenly, and what alerts make of it.
//!
//! A second reading of the catalog's signals, by arithmetic instead of PromQL: it says which alerts
//! must fire in a derived test, and Prometheus says which ones do.

use super::promql::series_name;
use super::site::Site;
use std::collections::BTreeMap;
use stepscope::catalog::alert::{Alert, When};
use stepscope::catalog::alerts::ALERTS;
use stepscope::catalog::limits::Limits;
use stepscope::catalog::objective::{BAD_EVENTS, OBJECTIVES, Objective};
use stepscope::catalog::signal::{
    Cond, Fold, Limit, Pick, Series, Server, Signal, Term, Test, Window,
};
use stepscope::catalog::{self, By, Id, Row, labels};

/// Samples of one scenario: in operation 26 minutes, so that the longest hold ends after the longest
/// window of a process is full.
pub const SAMPLES: u32 = 104;

/// How one series behaves.
#[derive(Clone, Copy, Debug)]
pub enum Steady {
    /// It stands.
    Level(f64),
    /// It rises by so much per second.
    PerSecond(f64),
}

impl Steady {
    fn number(self) -> f64 {
        match self {
            Steady::Level(number) | Steady::PerSecond(number) => number,
        }
    }
}

/// One series: its family, its labels beyond identity, its behaviour.
#[derive(Clone, Debug)]
struct Entry {
    id: Id,
    name: String,
    labels: BTreeMap<&'static str, String>,
    steady: Steady,
}

/// One worker with one GPU.
#[derive(Clone, Debug, Default)]
pub struct World {
    entries: Vec<Entry>,
    /// How long a scrape takes, if that is told.
    pub scrape_s: Option<f64>,
}

/// Labels of the one worker.
pub const WORKER: [(&str, &str); 3] =
    [("model", "m70b"), ("worker_id", "w0"), ("instance", "h0:9464")];

/// Some value of each open label.
fn open(label: &str) -> &'static str {
    match label {
        "endpoint" => "chat",
        "priority" => labels::DEFAULT_PRIORITY,
        "pool" => labels::DEFAULT_POOL,
        "gpu_id" => "0",
        "node" => "n0",
        "metric" => catalog::row(Id::Requests).name,
        _ => "any",
    }
}

/// Labels of the series that stands for a choice: of each label a value that is meant.
fn labels_of(row: &Row, pick: Option<Pick>) -> BTreeMap<&'static str, String> {
    let mut all: BTreeMap<&str, String> = BTreeMap::new();
    if row.by != By::Worker {
        all.extend(row.by.names().iter().map(|label| (*label, open(label).to_string())))
    }
    for label in row.split {
        let meant = |value: &&&str| pick.is_none_or(|p| p.label != label.name || p.takes(value));
        let value = label.values.iter().find(meant).copied().unwrap_or_default();
        all.insert(label.name, value.to_string());
    }
    all
}

impl World {
    fn put(&mut self, id: Id, name: String, labels: BTreeMap<&'static str, String>, to: Steady) {
        match self.entries.iter_mut().find(|e| e.name == name && e.labels == labels) {
            Some(entry) => entry.steady = to,
            None => self.entries.push(Entry { id, name, labels, steady: to }),
        }
    }

    /// Lets one of the meant series behave so.
    pub fn set(&mut self, series: &Series, to: Steady) {
        let labels = labels_of(catalog::row(series.id), series.pick);
        self.put(series.id, series_name(series), labels, to)
    }

    /// Samples of a histogram per second, and how many of them lie just above a bound.
    pub fn set_slow(&mut self, limits: &Limits, histogram: Id, bound: f64, all: f64, slow: f64) {
        let row = catalog::row(histogram);
        let name = format!("{}_bucket", row.name);
        let mut labels = labels_of(row, None);
        // Of the bounds only limits, which rules ask for, and the next ones, where "just above" is.
        let known = [limits.warning(histogram), limits.critical(histogram)];
        let (mut below, mut shown) = (false, vec![]);
        for one in row.grid() {
            let limit = known.contains(&Some(one.value));
            if limit || below {
                shown.push(one)
            }
            below = limit;
        }
        for one in shown {
            let within = one.value as f64 / row.unit.scale() as f64 <= bound;
            labels.insert("le", one.le.into());
            let rate = if within { all - slow } else { all };
            self.put(histogram, name.clone(), labels.clone(), Steady::PerSecond(rate))
        }
        labels.insert("le", "+Inf".into());
        self.put(histogram, name, labels, Steady::PerSecond(all))
    }

    /// Events of an objective per second.
    pub fn set_events(&mut self, objective: &Objective, good: f64, bad: f64) {
        let row = catalog::row(Id::SloEvents);
        for (value, rate) in labels::GOOD.iter().zip([bad, good]) {
            let mut labels = labels_of(row, None);
            labels.insert("objective", objective.name.into());
            labels.insert("good", value.to_string());
            self.put(Id::SloEvents, row.name.into(), labels, Steady::PerSecond(rate))
        }
    }

    /// Every series and its samples, as promtool takes them.
    pub fn input(&self, every_s: u32) -> Vec<(String, String)> {
        let written = self.entries.iter().map(|entry| {
            let mut labels: Vec<(&str, &str)> = WORKER.to_vec();
            labels.extend(entry.labels.iter().map(|(label, value)| (*label, value.as_str())));
            (series_text(&entry.name, &labels), values(entry.steady, every_s))
        });
        written.collect()
    }

    fn numbers(&self, series: &Series) -> impl Iterator<Item = f64> {
        let (name, pick) = (series_name(series), series.pick);
        self.entries
            .iter()
            .filter(move |entry| {
                let value = |pick: Pick| entry.labels.get(pick.label).map_or("", String::as_str);
                entry.name == name && pick.is_none_or(|pick| pick.takes(value(pick)))
            })
            .map(|entry| entry.steady.number())
    }

    /// The numbers of the meant series added up; `None` = there is none.
    pub fn sum(&self, series: &Series) -> Option<f64> {
        self.numbers(series).reduce(|a, b| a + b)
    }

    fn max(&self, series: &Series) -> Option<f64> {
        self.numbers(series).reduce(f64::max)
    }

    fn bucket(&self, histogram: Id, le: &str) -> Option<f64> {
        let of = |entry: &&Entry| {
            entry.id == histogram && entry.labels.get("le").is_some_and(|there| there == le)
        };
        self.entries.iter().filter(of).map(|entry| entry.steady.number()).reduce(|a, b| a + b)
    }

    fn bad(&self, objective: &Objective) -> Option<(f64, f64)> {
        let of = |series: Series| {
            let matching = self.entries.iter().filter(|entry| {
                entry.id == series.id
                    && entry.labels["objective"] == objective.name
                    && series.pick.is_none_or(|pick| pick.takes(&entry.labels[pick.label]))
            });
            matching.map(|entry| entry.steady.number()).reduce(|a, b| a + b)
        };
        Some((of(BAD_EVENTS)?, of(Series::all(Id::SloEvents))?))
    }
}

/// A series as promtool reads it.
pub fn series_text(name: &str, labels: &[(&str, &str)]) -> String {
    let labels: Vec<String> =
        labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    format!("{name}{{{}}}", labels.join(","))
}

/// Samples as promtool reads them.
pub fn values(steady: Steady, every_s: u32) -> String {
    match steady {
        Steady::Level(number) => format!("{}x{SAMPLES}", plain(number)),
        Steady::PerSecond(rate) => format!("0+{}x{SAMPLES}", plain(rate * f64::from(every_s))),
    }
}

/// Without what floats cannot say.
pub fn plain(number: f64) -> f64 {
    (number * 1e9).round() / 1e9
}

/// What a signal is worth in a world. Windows up to ten minutes are full.
pub struct Reading<'a> {
    /// The world.
    pub world: &'a World,
    /// Limits and times.
    pub site: &'a Site,
    /// Seconds of the scenario that count for windows longer than it.
    pub elapsed_s: f64,
}

impl Reading<'_> {
    fn seconds(&self, window: Window) -> f64 {
        f64::from(self.site.times.window_s(window)).min(self.elapsed_s)
    }

    fn slow(&self, histogram: Id, bound: Limit) -> Option<(f64, f64)> {
        let le = self.site.limits.bound(histogram, bound)?.le;
        let all = self.world.bucket(histogram, "+Inf")?;
        Some((all - self.world.bucket(histogram, le)?, all))
    }

    /// A signal without objectives.
    pub fn number(&self, signal: &Signal) -> Option<f64> {
        self.signal(signal, &OBJECTIVES[0])
    }

    fn signal(&self, signal: &Signal, objective: &Objective) -> Option<f64> {
        let world = self.world;
        match signal {
            Signal::Level { of, fold, .. } => of.iter().try_fold(0.0, |sum, term| {
                let number = match fold {
                    Fold::Max => world.max(&term.series())?,
                    Fold::Sum => world.sum(&term.series())?,
                };
                Some(if matches!(term, Term::Plus(_)) { sum + number } else { sum - number })
            }),
            Signal::Age { of } => world.max(of),
            Signal::Since { of } | Signal::Rate { of, .. } => world.sum(of),
            Signal::Count { of, window } => Some(world.sum(of)? * self.seconds(*window)),
            Signal::Share { bad, total, .. } => {
                let all = total.iter().try_fold(0.0, |sum, part| Some(sum + world.sum(part)?))?;
                Some(world.sum(bad)? / all)
            }
            Signal::Slow { histogram, bound, .. } => {
                self.slow(*histogram, *bound).map(|(slow, all)| slow / all)
            }
            Signal::SlowCount { histogram, bound, window } => {
                self.slow(*histogram, *bound).map(|(slow, _)| slow * self.seconds(*window))
            }
            Signal::Ratio { top, bottom } => {
                Some(self.signal(top, objective)? / self.signal(bottom, objective)?)
            }
            Signal::Server(server) => {
                let bad = || world.bad(objective);
                match server {
                    Server::SloBad { .. } => bad().map(|(bad, all)| bad / all),
                    Server::SloBurn { .. } => {
                        bad().map(|(bad, all)| bad / all / objective.budget())
                    }
                    Server::SloBadCount { window } => {
                        bad().map(|(bad, _)| bad * self.seconds(*window))
                    }
                    Server::ScrapeTime => world.scrape_s,
                    // Scenarios of their own: these worlds have one healthy target.
                    _ => None,
                }
            }
        }
    }

    fn holds(&self, alert: &Alert, cond: &Cond, objective: &Objective) -> bool {
        let limit = |limit| self.site.limits.value(alert.id, limit);
        self.signal(&cond.signal, objective).is_some_and(|value| match cond.test {
            Test::Above(to) => value > limit(to),
            Test::AtLeast(to) => value >= limit(to),
            Test::Zero => value == 0.0,
            Test::Present => true,
        })
    }

    /// How many of an alert fire: one, or one per objective.
    pub fn firing(&self, alert: &Alert) -> usize {
        let fires = |objective: &Objective| match alert.when {
            When::All(conds) => conds.iter().all(|cond| self.holds(alert, cond, objective)),
            When::Any(conds) => conds.iter().any(|cond| self.holds(alert, cond, objective)),
        };
        let per_objective = alert.family() == Some(Id::SloEvents);
        let objectives = if per_objective { &OBJECTIVES[..] } else { &OBJECTIVES[..1] };
        objectives.iter().filter(|objective| fires(objective)).count()
    }
}

/// The names of all alerts that must fire at the end of a scenario, and how many of each.
pub fn expected(world: &World, site: &Site) -> BTreeMap<&'static str, usize> {
    let length_s = f64::from(SAMPLES * site.times.every_s());
    let firing = ALERTS.iter().map(|alert| {
        // What it looks at must have lasted for its hold.
        let held_s =
            f64::from(site.times.hold_s(alert.hold) + super::rules_test::evaluated_s(site));
        let reading = Reading { world, site, elapsed_s: length_s - held_s };
        (alert.name, reading.firing(alert))
    });
    firing.filter(|(_, count)| *count > 0).collect()
}
