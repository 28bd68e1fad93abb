//! What the page at `/` draws, as JSON at `/api/v1/overview`. Documented in `docs/http.md`.
//!
//! Titles, units, help texts and limits come from the catalog; the page only draws.

use crate::catalog::limits::Limits;
use crate::catalog::{self, Id, Unit, labels};
use crate::config::Config;
use crate::health::{Checks, Issue, State, Status, Verdict};
use crate::snapshot::{History, HistoryRow, LINES, Quantiles, Snapshot};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Overview {
    schema: u32,
    model: String,
    worker_id: String,
    engine: String,
    engine_version: String,
    role: &'static str,
    stepscope_version: &'static str,
    state: State,
    uptime_seconds: f64,
    health: Health,
    tiles: Vec<Tile>,
    row_seconds: u32,
    row_ages_seconds: Vec<f64>,
    charts: Vec<Chart>,
    losses: Vec<Loss>,
}

#[derive(Serialize)]
struct Health {
    overall: Status,
    sentence: String,
    checks: Vec<Check>,
    advice: Vec<&'static str>,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    sentence: String,
    issues: Vec<Issue>,
}

#[derive(Serialize)]
struct Tile {
    id: &'static str,
    title: &'static str,
    unit: &'static str,
    value: Option<f64>,
    help: &'static str,
}

#[derive(Serialize)]
struct Chart {
    id: &'static str,
    title: &'static str,
    unit: &'static str,
    help: &'static str,
    stacked: bool,
    lines: Vec<Line>,
    limits: Vec<DrawnLimit>,
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    values: Vec<Option<f64>>,
}

#[derive(Serialize)]
struct DrawnLimit {
    value: f64,
    severity: &'static str,
}

#[derive(Serialize)]
struct Loss {
    name: String,
    value: f64,
    help: &'static str,
}

pub(crate) fn overview(
    config: &Config,
    snapshot: &Snapshot,
    history: &History,
    verdict: Verdict,
) -> Overview {
    Overview {
        schema: 1,
        model: config.model.clone(),
        worker_id: config.worker_id.clone(),
        engine: config.engine.clone(),
        engine_version: config.engine_version.clone(),
        role: labels::ROLE[config.role as usize],
        stepscope_version: env!("CARGO_PKG_VERSION"),
        state: verdict.state,
        uptime_seconds: snapshot.at.seconds_since(snapshot.started),
        health: Health {
            overall: verdict.overall,
            sentence: verdict.sentence,
            checks: checks(&verdict.checks),
            advice: verdict.advice,
        },
        tiles: tiles(snapshot),
        row_seconds: 10,
        row_ages_seconds: history.rows.iter().map(|row| row.age_seconds).collect(),
        charts: charts(&history.rows, &config.limits),
        losses: losses(snapshot),
    }
}

fn checks(checks: &Checks) -> Vec<Check> {
    let check = |(key, status, sentence, issues): (&'static str, Status, &str, &[Issue])| Check {
        name: key.trim_end_matches("_health"),
        status,
        sentence: sentence.into(),
        issues: issues.to_vec(),
    };
    checks.each().into_iter().map(check).collect()
}

fn tiles(snapshot: &Snapshot) -> Vec<Tile> {
    let tile = |id: &'static str, title, unit, family: Id| {
        let value = snapshot.family(family).map(|_| snapshot.sum(family, |_| true));
        Tile { id, title, unit, value, help: catalog::row(family).help }
    };
    let mut tiles = vec![
        tile("tokens_per_second", "Generated tokens per second", "tokens/s", Id::TokensPerSecond),
        tile("running", "Running", "sequences", Id::RequestsRunning),
        tile("waiting", "Waiting", "requests", Id::QueueDepth),
        tile("in_flight", "In flight", "requests", Id::RequestsInFlight),
        tile("kv_utilization", "KV blocks referenced", "ratio", Id::KvUtilization),
        tile("requests", "Requests ended", "requests", Id::Requests),
        tile("generated", "Tokens generated", "tokens", Id::GeneratedTokens),
    ];
    let share = cached_share(snapshot);
    let help = catalog::row(Id::PromptTokens).help;
    tiles.push(Tile {
        id: "prefix_cache",
        title: "Prompt from cache",
        unit: "ratio",
        value: share,
        help,
    });
    // Of several devices or pools the fullest one is the news, and a sum of shares is none.
    let fullest = snapshot
        .family(Id::KvUtilization)
        .map(|family| family.series.iter().map(|s| s.value.as_f64()).fold(0.0, f64::max));
    tiles[4].value = fullest;
    tiles
}

fn cached_share(snapshot: &Snapshot) -> Option<f64> {
    let all = snapshot.sum(Id::PromptTokens, |_| true);
    let cached = snapshot.sum(Id::PromptTokens, |l| l.get("source") == Some("cached"));
    (all > 0.0).then(|| cached / all)
}

fn charts(rows: &[HistoryRow], limits: &Limits) -> Vec<Chart> {
    let quantiles =
        |id, title, family, split| quantile_chart(id, title, family, split, rows, limits);
    let mut charts = vec![
        quantiles("ttft", "Time to first token", Id::Ttft, None),
        quantiles("tbt", "Time between tokens", Id::Tbt, None),
    ];
    // Step time from the device where it is known, from the host where it is not.
    let device = LINES.iter().position(|(id, _)| *id == Id::StepGpu).unwrap_or(0);
    let has_device = rows.iter().any(|row| (0..3).any(|i| row.quantiles[device + i].is_some()));
    let (family, source) = if has_device { (Id::StepGpu, "GPU") } else { (Id::StepHost, "host") };
    for (phase, name) in labels::PHASE.iter().enumerate() {
        let (id, title) = step_title(phase, source);
        debug_assert!(title.contains(name));
        charts.push(quantiles(id, title, family, Some(phase)))
    }
    charts.push(quantiles("queue_time", "Time in the queue", Id::Queue, None));
    charts.push(chart(
        "tokens",
        "Tokens per second",
        "tokens/s",
        Id::GeneratedTokens,
        false,
        vec![line("generated", rows, |row| per_second(row, row.generated))],
    ));
    let outcomes = labels::STATUS.iter().enumerate();
    let outcomes: Vec<Line> = outcomes
        .filter(|(status, _)| rows.iter().any(|row| row.ended[*status] > 0))
        .map(|(status, name)| line(name, rows, |row| per_second(row, row.ended[status])))
        .collect();
    charts.push(chart(
        "requests",
        "Requests ended, by outcome",
        "requests/s",
        Id::Requests,
        true,
        outcomes,
    ));
    charts.push(chart(
        "batch",
        "Running and waiting",
        "sequences",
        Id::RequestsRunning,
        false,
        vec![
            line("running", rows, |row| Some(row.running as f64)),
            line("waiting", rows, |row| Some(row.waiting as f64)),
        ],
    ));
    if rows.iter().any(|row| row.kv.is_some()) {
        let states = labels::KV_STATE.iter().enumerate();
        let states = states
            .map(|(state, name)| line(name, rows, |row| row.kv.map(|kv| kv[state] as f64)))
            .collect();
        charts.push(chart("kv", "KV blocks by state", "blocks", Id::KvBlocks, true, states))
    }
    if rows.iter().any(|row| row.preempted > 0) {
        let lines = vec![line("preempted", rows, |row| per_second(row, row.preempted))];
        charts.push(chart("preemptions", "Preemptions", "ops/s", Id::Preemptions, false, lines))
    }
    charts
}

fn step_title(phase: usize, source: &str) -> (&'static str, &'static str) {
    match (phase, source) {
        (0, "GPU") => ("step_prefill", "GPU time of prefill steps"),
        (1, "GPU") => ("step_decode", "GPU time of decode steps"),
        (_, "GPU") => ("step_mixed", "GPU time of mixed steps"),
        (0, _) => ("step_prefill", "Host time of prefill steps"),
        (1, _) => ("step_decode", "Host time of decode steps"),
        (_, _) => ("step_mixed", "Host time of mixed steps"),
    }
}

fn chart(
    id: &'static str,
    title: &'static str,
    unit: &'static str,
    family: Id,
    stacked: bool,
    lines: Vec<Line>,
) -> Chart {
    Chart { id, title, unit, help: catalog::row(family).help, stacked, lines, limits: vec![] }
}

fn line(
    name: &'static str,
    rows: &[HistoryRow],
    value: impl Fn(&HistoryRow) -> Option<f64>,
) -> Line {
    Line { name, values: rows.iter().map(value).collect() }
}

/// A rate over the row; an open row younger than a second would only show noise.
fn per_second(row: &HistoryRow, n: u64) -> Option<f64> {
    (row.seconds >= 1.0).then(|| n as f64 / row.seconds)
}

fn quantile_chart(
    id: &'static str,
    title: &'static str,
    family: Id,
    split: Option<usize>,
    rows: &[HistoryRow],
    limits: &Limits,
) -> Chart {
    let at = LINES.iter().position(|line| *line == (family, split)).unwrap_or(0);
    let quantile = |name, pick: fn(&Quantiles) -> f64| {
        line(name, rows, |row| row.quantiles[at].as_ref().map(pick))
    };
    let row = catalog::row(family);
    let scale = row.unit.scale() as f64;
    let limit = |severity, limit: Option<u64>| {
        limit.map(|limit| DrawnLimit { value: limit as f64 / scale, severity })
    };
    let limits =
        [limit("warning", limits.warning(family)), limit("critical", limits.critical(family))];
    Chart {
        id,
        title,
        unit: Unit::Seconds.suffix(),
        help: row.help,
        stacked: false,
        lines: vec![
            quantile("p50", |q| q.p50),
            quantile("p90", |q| q.p90),
            quantile("p99", |q| q.p99),
        ],
        limits: limits.into_iter().flatten().collect(),
    }
}

fn losses(snapshot: &Snapshot) -> Vec<Loss> {
    let loss = |name: &str, family: Id| Loss {
        name: name.into(),
        value: snapshot.sum(family, |_| true),
        help: catalog::row(family).help,
    };
    let mut losses = vec![
        loss("Samples dropped by full rings", Id::RingDropped),
        loss("Label values folded or cut", Id::LabelOverflow),
    ];
    for series in snapshot.family(Id::Invalid).iter().flat_map(|family| &family.series) {
        let reason = series.labels.get("reason").unwrap_or("");
        losses.push(Loss {
            name: format!("Invalid input: {}", reason.replace('_', " ")),
            value: series.value.as_f64(),
            help: catalog::row(Id::Invalid).help,
        })
    }
    losses
}
