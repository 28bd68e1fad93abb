//! What a run says: where it serves, and at the end whether `/metrics` told the truth.

use crate::agreement::{Agreement, lost_samples};
use crate::headline::{Fleet, Headline};
use crate::pace::Speed;
use crate::plan::Plan;
use crate::watch::Fired;
use crate::worker::{Life, Worker};
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;
use stepscope::catalog::Unit;
use stepscope_sim::scenario::Scenario;

/// Families that disagree, and numbers that are missing, as shown to people; JSON has all.
const SHOWN_MAX: usize = 10;

/// Writes for people, and for programs on request.
pub struct Report {
    people: Box<dyn Write>,
    is_json: bool,
}

/// All lives of all workers, compared.
struct Verdict {
    /// What a person looks at first, by life.
    headlines: Vec<Vec<Headline>>,
    /// Everything, headlines included.
    entries: Vec<Agreement>,
    missing: Vec<String>,
    lost: u64,
}

#[derive(Serialize)]
struct Json<'a> {
    url: String,
    urls: Vec<String>,
    trace: &'a str,
    profile: &'a str,
    scenario: &'a str,
    device: &'a str,
    device_detail: &'a str,
    seed: u64,
    speed: Speed,
    workers: usize,
    duration_s: f64,
    requests: usize,
    tokens: u64,
    ok: bool,
    compared: usize,
    lost_samples: u64,
    missing: &'a [String],
    /// In the order in which they fired.
    alerts: Vec<FiredJson>,
    /// By worker, at the end.
    health: Vec<stepscope::health::Verdict>,
    agreement: Vec<&'a Agreement>,
}

#[derive(Serialize)]
struct FiredJson {
    second: f64,
    worker: u16,
    alert: &'static str,
    severity: &'static str,
    first_action: &'static str,
}

impl FiredJson {
    fn of(fired: &Fired) -> FiredJson {
        FiredJson {
            second: fired.at.as_secs_f64().round(),
            worker: fired.worker,
            alert: fired.alert.name,
            severity: fired.alert.severity.text(),
            first_action: fired.alert.first_action,
        }
    }
}

impl Report {
    /// With `is_json` people read stderr, and stdout is left to one JSON object.
    pub fn new(is_json: bool) -> Report {
        let people: Box<dyn Write> =
            if is_json { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
        Report { people, is_json }
    }

    /// What runs and where to look, as soon as it serves.
    ///
    /// # Errors
    /// The output is closed.
    pub fn opening(&mut self, plan: &Plan, workers: &[Worker]) -> Result<()> {
        let out = &mut self.people;
        for worker in workers {
            let url = worker.url();
            if plan.is_fleet {
                let scenario = plan.scenarios[usize::from(worker.number())];
                writeln!(out, "{url}/  {scenario}: {}", scenario.what())?;
                continue;
            }
            writeln!(out, "{url}/         the page")?;
            writeln!(out, "{url}/metrics  for Prometheus")?;
            writeln!(out, "{url}/health   verdict, evidence, first advice")?
        }
        let (requests, profile) = (plan.trace.requests.len(), plan.profile);
        writeln!(out, "trace     {} ({requests} requests), seed {}", plan.trace.name, plan.seed)?;
        writeln!(out, "profile   {} ({})", profile.name(), profile.model())?;
        let [device, why] = plan.device.words();
        writeln!(out, "device    {device} ({why})")?;
        if plan.is_fleet {
            writeln!(out, "fleet     one worker per scenario, model = scenario")?
        } else {
            let scenario = plan.scenarios[0];
            writeln!(out, "scenario  {scenario}: {}", scenario.what())?
        }
        if plan.scenarios.iter().any(|scenario| *scenario != Scenario::Healthy) {
            let (from, until) = (plan.inject.from.as_secs_f64(), plan.inject.until.as_secs_f64());
            writeln!(out, "          from second {from} to second {until}")?
        }
        let duration = plan.duration.as_secs_f64();
        writeln!(out, "run       {duration} s at speed {}; Ctrl-C ends it early", plan.speed)?;
        Ok(out.flush()?)
    }

    /// The comparison. Says whether all numbers agree.
    ///
    /// # Errors
    /// The output is closed.
    pub fn closing(
        &mut self,
        plan: &Plan,
        workers: &[Worker],
        lives: &[Vec<Life>],
        fired: &[Fired],
        simulated: Duration,
    ) -> Result<bool> {
        let verdict = Verdict::of(lives);
        self.summary(plan, &verdict, simulated)?;
        self.on_call(plan, workers, fired)?;
        if self.is_json {
            let mut json = verdict.json(plan, workers, lives, simulated);
            json.alerts = fired.iter().map(FiredJson::of).collect();
            json.health = workers.iter().map(Worker::health).collect();
            let mut stdout = io::stdout().lock();
            writeln!(stdout, "{}", serde_json::to_string(&json)?)?;
            stdout.flush()?
        }
        Ok(verdict.is_ok())
    }

    /// What a person on call would have read: alerts in the order in which they fired, and how it
    /// stands now.
    fn on_call(&mut self, plan: &Plan, workers: &[Worker], fired: &[Fired]) -> io::Result<()> {
        let out = &mut self.people;
        match fired.is_empty() {
            true => writeln!(out, "\nNo alert would have fired.")?,
            false => writeln!(out, "\nAlerts that would have fired, with what to do first:")?,
        }
        for Fired { at, worker, alert } in fired {
            let on = match plan.is_fleet {
                true => format!(", {}", plan.scenarios[usize::from(*worker)]),
                false if plan.scenarios.len() > 1 => format!(", w{worker}"),
                false => String::new(),
            };
            let (second, severity) = (at.as_secs_f64().round(), alert.severity.text());
            writeln!(out, "  second {second}: {} ({severity}{on})", alert.name)?;
            writeln!(out, "    {}", alert.first_action)?
        }
        if let [worker] = workers {
            writeln!(
                out,
                "\nHealth now, as /health says it:\n{}",
                worker.health().text().trim_end()
            )?
        }
        out.flush()
    }

    fn summary(&mut self, plan: &Plan, verdict: &Verdict, simulated: Duration) -> io::Result<()> {
        let out = &mut self.people;
        let after = simulated.as_secs_f64();
        writeln!(out, "\nAfter {after:.1} s: what the engine knows, beside what /metrics says")?;
        if verdict.headlines.len() > 1 {
            let (from, until) = (plan.inject.from.as_secs_f64(), plan.inject.until.as_secs_f64());
            writeln!(
                out,
                "At second {from} the dying workers were scraped a last time and went down with \
                 their ports; at second {until} new ones took their place and the trace from its \
                 start."
            )?
        }
        for (i, rows) in verdict.headlines.iter().enumerate() {
            if verdict.headlines.len() > 1 {
                writeln!(out, "\nLife {}", i + 1)?
            }
            table(out, rows)?
        }
        if verdict.lost > 0 {
            writeln!(
                out,
                "\nRings were full and dropped {} samples, as /metrics says itself: bounds of \
                 distributions are wider by as many. Counters are exact.",
                verdict.lost
            )?
        }
        verdict.sentence(out)?;
        out.flush()
    }
}

impl Verdict {
    fn of(lives: &[Vec<Life>]) -> Verdict {
        let mut verdict = Verdict { headlines: vec![], entries: vec![], missing: vec![], lost: 0 };
        for (i, workers) in lives.iter().enumerate() {
            let tag = if lives.len() > 1 { format!("life {}: ", i + 1) } else { String::new() };
            let tagged = |entry: &Agreement| Agreement {
                metric: format!("{tag}{}", entry.metric),
                ..entry.clone()
            };
            let fleet = Fleet::new(workers.iter().map(|w| (&w.book, &w.exposition)).collect());
            let headlines = fleet.headlines();
            verdict.entries.extend(headlines.iter().map(|row| tagged(&row.agreement)));
            verdict.headlines.push(headlines);
            for worker in workers {
                verdict.entries.extend(worker.comparison.entries.iter().map(tagged));
                let missing = worker.comparison.missing.iter();
                verdict.missing.extend(missing.map(|metric| format!("{tag}{metric}")));
                verdict.lost += lost_samples(&worker.exposition)
            }
        }
        verdict
    }

    fn is_ok(&self) -> bool {
        self.missing.is_empty() && self.entries.iter().all(Agreement::holds)
    }

    fn sentence(&self, out: &mut dyn Write) -> io::Result<()> {
        let (all, missing) = (self.entries.len(), self.missing.len());
        if self.is_ok() {
            return writeln!(out, "\n{all} numbers compared, all agree.");
        }
        let differ = self.entries.iter().filter(|entry| !entry.holds()).count();
        writeln!(out, "\n{all} numbers compared, {differ} DISAGREE, {missing} are missing:")?;
        let families = self.disagreements();
        for wrong in families.iter().take(SHOWN_MAX) {
            let Agreement { metric, engine, reported, error, bound } = wrong[0];
            writeln!(out, "  {metric}: engine {engine}, reported {reported}")?;
            write!(out, "    error {}, bound {}", brief(*error), brief(*bound))?;
            match wrong.len() {
                1 => writeln!(out)?,
                n => writeln!(out, "; the worst of {n} numbers of {}", wrong[0].family())?,
            }
        }
        for metric in self.missing.iter().take(SHOWN_MAX) {
            writeln!(out, "  {metric}: missing")?
        }
        let hidden = families.len().saturating_sub(SHOWN_MAX) + missing.saturating_sub(SHOWN_MAX);
        if hidden > 0 {
            writeln!(out, "  and {hidden} more; --json lists every number that disagrees")?
        }
        Ok(())
    }

    /// What disagrees, by family: the worst of a family first, and the worst family first. One
    /// wrong sample shows in many buckets, and all of them would hide the next family.
    fn disagreements(&self) -> Vec<Vec<&Agreement>> {
        let worst_first =
            |a: &&Agreement, b: &&Agreement| b.relative_error().total_cmp(&a.relative_error());
        let mut families = BTreeMap::<&str, Vec<&Agreement>>::new();
        for entry in self.entries.iter().filter(|entry| !entry.holds()) {
            families.entry(entry.family()).or_default().push(entry)
        }
        let mut families: Vec<_> = families.into_values().collect();
        for family in &mut families {
            family.sort_by(worst_first)
        }
        families.sort_by(|a, b| worst_first(&a[0], &b[0]));
        families
    }

    fn json<'a>(
        &'a self,
        plan: &'a Plan,
        workers: &[Worker],
        lives: &[Vec<Life>],
        simulated: Duration,
    ) -> Json<'a> {
        let urls: Vec<String> = workers.iter().map(Worker::url).collect();
        let requests = || lives.iter().flatten().flat_map(|life| &life.truth.requests);
        // Thousands of buckets that agree would hide the rest.
        let [device, device_detail] = plan.device.words();
        let is_shown = |entry: &&Agreement| !entry.metric.contains("_bucket{") || !entry.holds();
        Json {
            url: urls.first().cloned().unwrap_or_default(),
            urls,
            trace: &plan.trace.name,
            profile: plan.profile.name(),
            scenario: plan.scenario_name(),
            device,
            device_detail,
            seed: plan.seed,
            speed: plan.speed,
            workers: workers.len(),
            duration_s: simulated.as_secs_f64(),
            requests: requests().count(),
            tokens: requests().map(|request| request.tokens()).sum(),
            ok: self.is_ok(),
            compared: self.entries.len(),
            lost_samples: self.lost,
            missing: &self.missing,
            alerts: vec![],
            health: vec![],
            agreement: self.entries.iter().filter(is_shown).collect(),
        }
    }
}

fn table(out: &mut dyn Write, rows: &[Headline]) -> io::Result<()> {
    writeln!(out, "\n{:<28}{:>12}{:>12}{:>12}{:>12}", "", "engine", "reported", "error", "bound")?;
    for Headline { label, unit, agreement } in rows {
        let Agreement { engine, reported, error, bound, .. } = agreement;
        let [engine, reported, error, bound] =
            [engine, reported, error, bound].map(|x| show(*x, *unit));
        let mark = if agreement.holds() { "" } else { "  <-- disagrees" };
        writeln!(out, "{label:<28}{engine:>12}{reported:>12}{error:>12}{bound:>12}{mark}")?
    }
    Ok(())
}

/// Whole numbers as they are, others to four digits.
fn brief(x: f64) -> String {
    if x.fract() == 0.0 { format!("{x}") } else { format!("{x:.3e}") }
}

fn show(x: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds => seconds(x),
        Unit::Ratio => format!("{:.2} %", x * 100.0),
        _ => format!("{x}"),
    }
}

/// A time in the unit in which it is easiest to read.
pub fn seconds(x: f64) -> String {
    match x {
        0.0 => "0".into(),
        x if x < 1e-9 => "< 1 ns".into(),
        x if x < 1e-6 => format!("{:.0} ns", x * 1e9),
        x if x < 1e-3 => format!("{:.1} µs", x * 1e6),
        x if x < 1.0 => format!("{:.1} ms", x * 1e3),
        x => format!("{x:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_unit_that_reads_best() {
        for (x, text) in [
            (0.0, "0"),
            (1e-12, "< 1 ns"),
            (3e-9, "3 ns"),
            (12.34e-6, "12.3 µs"),
            (0.0456, "45.6 ms"),
            (61.0, "61.00 s"),
        ] {
            assert_eq!(seconds(x), text);
        }
    }
}
