//! Is the worker alive, may it get new requests, and what is wrong, in words.
//!
//! Never: a loaded worker killed, an idle one called unhealthy, a frozen one called healthy. Probes
//! look at the pulse only (cells that recorders write), so a busy aggregator cannot freeze them;
//! the verdict looks at closed rows. Limits come from the catalog's rows.

use crate::aggregate::Aggregator;
use crate::catalog::{self, Id, labels};
use crate::record::Time;
use crate::record::cells::cell;
use crate::shared::{Shared, Stage};
use crate::snapshot::Snapshot;
use serde::Serialize;

/// Rows of the window that the verdict looks at: five minutes.
const WINDOW_ROWS: usize = 30;
/// No step for so long with requests in flight: restart is the only way out.
const LIVE_AGE_S: f64 = 300.0;
/// Least bad events of a window: below that a share says nothing.
const BAD_EVENTS_MIN: u64 = 5;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to do.
    Healthy,
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

/// What the worker is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// `mark_ready` has not been called.
    Starting,
    /// Nothing is in flight.
    Idle,
    /// Requests are in flight and steps go on.
    Busy,
    /// Requests are in flight and no step ends.
    Stalled,
    /// `mark_draining` was called.
    Draining,
    /// `mark_failed` was called.
    Failed,
}

/// One part of the verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What it looks at.
    pub name: &'static str,
    /// How bad it is.
    pub status: Status,
    /// The same in words, with the evidence.
    pub sentence: String,
    /// The number behind the sentence; `None` where the window has no sample.
    pub value: Option<f64>,
    /// Unit of `value`.
    pub unit: &'static str,
}

/// The whole verdict over the last five minutes.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The worst of the checks.
    pub overall: Status,
    /// May it get new requests? The same answer as `/readyz`.
    pub serving: bool,
    /// What it is doing.
    pub state: State,
    /// All of it in one sentence.
    pub sentence: String,
    /// Identity.
    pub model: String,
    /// Identity.
    pub worker_id: String,
    /// Length of the window.
    pub window_seconds: u32,
    /// The parts.
    pub checks: Vec<Check>,
}

/// Answer of a probe.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Yes or no.
    pub ok: bool,
    /// Why not; `ok` if so.
    pub reason: String,
}

impl Probe {
    fn of(problem: Option<String>) -> Probe {
        Probe { ok: problem.is_none(), reason: problem.unwrap_or_else(|| "ok".into()) }
    }
}

fn stall_limit_s() -> f64 {
    let row = catalog::row(Id::LastStepAge);
    let limit = row.healthy.and_then(|healthy| healthy.critical).unwrap_or(u64::MAX);
    limit as f64 / row.unit.scale() as f64
}

/// How long a worker has made no progress. One that starts may warm up for minutes.
fn stuck_seconds(shared: &Shared, now: Time) -> Option<f64> {
    (shared.stage() != Stage::Starting).then(|| shared.pulse.stuck_seconds(now))?
}

/// How long the GPU has not finished a step it was handed, whatever the engine's threads do.
fn device_stuck_seconds(shared: &Shared, now: Time) -> Option<f64> {
    (shared.stage() != Stage::Starting).then(|| shared.pulse.device_stuck_seconds(now))?
}

/// Must this process be restarted?
pub(crate) fn live(shared: &Shared) -> Probe {
    if shared.stage() == Stage::Failed {
        return Probe::of(Some("the engine said it failed".into()));
    }
    let now = shared.clock.now();
    let over = |age: &f64| *age > LIVE_AGE_S;
    if let Some(age) = device_stuck_seconds(shared, now).filter(over) {
        return Probe::of(Some(format!("the GPU has not finished a step for {age:.0} s")));
    }
    let stuck = stuck_seconds(shared, now).filter(over);
    Probe::of(stuck.map(|age| format!("requests are in flight and no step ended for {age:.0} s")))
}

fn stalled(shared: &Shared) -> Option<String> {
    let now = shared.clock.now();
    let over = |age: &f64| *age > stall_limit_s();
    if let Some(age) = device_stuck_seconds(shared, now).filter(over) {
        return Some(format!("stalled: the GPU has not finished a step for {age:.0} s"));
    }
    let age = stuck_seconds(shared, now).filter(over)?;
    Some(format!("stalled: requests are in flight and no step ended for {age:.0} s"))
}

/// May it get new requests?
pub(crate) fn ready(shared: &Shared) -> Probe {
    let problem = match shared.stage() {
        Stage::Starting => Some("starting: the engine has not said that it is ready".into()),
        Stage::Draining => Some("draining: it finishes what it has".into()),
        Stage::Failed => Some("the engine said it failed".into()),
        Stage::Ready => stalled(shared),
    };
    Probe::of(problem)
}

/// What is wrong, in words. Looks at the lag before it drains.
pub(crate) fn verdict(shared: &Shared) -> Verdict {
    let lag_s = shared.pulse.lag_ns(shared.clock.now()) as f64 * 1e-9;
    let snapshot = shared.snapshot();
    judge(shared, &shared.aggregator(), &snapshot, lag_s)
}

fn judge(shared: &Shared, aggregator: &Aggregator, snapshot: &Snapshot, lag_s: f64) -> Verdict {
    let probe = ready(shared);
    let in_flight = snapshot.sum(Id::RequestsInFlight, |_| true);
    let stuck = stuck_seconds(shared, snapshot.at).filter(|age| *age > stall_limit_s());
    let state = match shared.stage() {
        Stage::Starting => State::Starting,
        Stage::Draining => State::Draining,
        Stage::Failed => State::Failed,
        Stage::Ready if stuck.is_some() => State::Stalled,
        Stage::Ready if in_flight > 0.0 => State::Busy,
        Stage::Ready => State::Idle,
    };
    let checks = vec![
        progress(stuck),
        latency(aggregator, "ttft", Id::Ttft),
        latency(aggregator, "tbt", Id::Tbt),
        errors(aggregator),
        kv(snapshot),
        queue(snapshot),
        gpu(aggregator),
        telemetry(aggregator, lag_s),
    ];
    let worst = checks.iter().map(|check| check.status).max().unwrap_or(Status::Healthy);
    let overall = if state == State::Failed { Status::Critical } else { worst };
    let running = snapshot.sum(Id::RequestsRunning, |_| true);
    let waiting = snapshot.sum(Id::QueueDepth, |_| true);
    let sentence = if !probe.ok {
        capitalised(&probe.reason)
    } else {
        let wrong: Vec<&str> = checks
            .iter()
            .filter(|check| check.status > Status::Healthy)
            .map(|check| check.sentence.trim_end_matches('.'))
            .collect();
        match (state, wrong.is_empty()) {
            (_, false) => format!("{}.", wrong.join("; ")),
            (State::Idle, true) => "Idle: no request is in flight, nothing is wrong.".into(),
            _ => format!("Serving: {running} running, {waiting} waiting, nothing is wrong."),
        }
    };
    Verdict {
        overall,
        serving: probe.ok,
        state,
        sentence,
        model: shared.config.model.clone(),
        worker_id: shared.config.worker_id.clone(),
        window_seconds: WINDOW_ROWS as u32 * 10,
        checks,
    }
}

fn capitalised(reason: &str) -> String {
    let mut chars = reason.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

fn check(
    name: &'static str,
    status: Status,
    value: Option<f64>,
    unit: &'static str,
    sentence: String,
) -> Check {
    Check { name, status, sentence, value, unit }
}

fn progress(stuck: Option<f64>) -> Check {
    let (status, sentence) = match stuck {
        Some(age) => {
            (Status::Critical, format!("No step ended for {age:.0} s with requests in flight."))
        }
        None => (Status::Healthy, "Steps go on, or nothing is in flight.".into()),
    };
    check("progress", status, stuck, "seconds", sentence)
}

/// More than one in a hundred above a limit that is a bucket bound: a count, no interpolation.
fn latency(aggregator: &Aggregator, name: &'static str, id: Id) -> Check {
    let row = catalog::row(id);
    let title = name.to_ascii_uppercase();
    let p99 = aggregator.window_quantile(id, 0.99, WINDOW_ROWS);
    let limit = |limit: Option<u64>| {
        let (slow, all) = aggregator.window_slow(id, limit?, WINDOW_ROWS);
        (slow >= BAD_EVENTS_MIN && slow * 100 > all).then_some((slow, all, limit?))
    };
    let healthy = row.healthy;
    let over = |pick: fn(catalog::Healthy) -> Option<u64>| limit(healthy.and_then(pick));
    let (status, slow) = match (over(|h| h.critical), over(|h| h.warning)) {
        (Some(slow), _) => (Status::Critical, Some(slow)),
        (None, Some(slow)) => (Status::Warning, Some(slow)),
        (None, None) => (Status::Healthy, None),
    };
    let sentence = match (slow, p99) {
        (Some((slow, all, limit)), _) => {
            let share = slow as f64 / all as f64 * 100.0;
            let limit = limit as f64 / row.unit.scale() as f64;
            format!("{share:.1} % of {title} samples are above {limit} s.")
        }
        (None, Some(p99)) => format!("99 % of {title} samples are within {p99} s."),
        (None, None) => format!("No {title} sample in the last five minutes."),
    };
    check(name, status, p99, "seconds", sentence)
}

fn errors(aggregator: &Aggregator) -> Check {
    // Warning at 1 %, critical at 5 % of what ended; the caller's own faults never count.
    const WARNING: f64 = 0.01;
    const CRITICAL: f64 = 0.05;
    let ended = aggregator.window_increase(cell::ENDED..cell::GENERATED, WINDOW_ROWS);
    let failed = aggregator.window_server_faults(WINDOW_ROWS);
    let share = (ended > 0).then(|| failed as f64 / ended as f64);
    let status = match share {
        Some(share) if failed >= BAD_EVENTS_MIN && share > CRITICAL => Status::Critical,
        Some(share) if failed >= BAD_EVENTS_MIN && share > WARNING => Status::Warning,
        _ => Status::Healthy,
    };
    let sentence = match share {
        Some(share) => format!("{:.2} % of {ended} ended requests failed.", share * 100.0),
        None => "No request ended in the last five minutes.".into(),
    };
    check("errors", status, share, "ratio", sentence)
}

/// Full blocks are only a problem while somebody waits for them.
fn kv(snapshot: &Snapshot) -> Check {
    let usage = snapshot.family(Id::KvUtilization).map(|family| {
        let pool = family.series.iter();
        let kv = pool.filter(|s| s.labels.get("pool") == Some(labels::DEFAULT_POOL));
        kv.map(|s| s.value.as_f64()).fold(0.0, f64::max)
    });
    let waits = snapshot.sum(Id::QueueDepth, |l| l.get("reason") == Some(labels::WAIT[0])) > 0.0;
    let limit = |limit: Option<u64>| limit.map_or(f64::INFINITY, |ppm| ppm as f64 * 1e-6);
    let healthy = catalog::row(Id::KvUtilization).healthy;
    let status = match usage {
        Some(u) if u > limit(healthy.and_then(|h| h.critical)) && waits => Status::Critical,
        Some(u) if u > limit(healthy.and_then(|h| h.warning)) => Status::Warning,
        _ => Status::Healthy,
    };
    let sentence = match usage {
        Some(u) => format!("{:.0} % of KV blocks are referenced.", u * 100.0),
        None => "The engine reports no KV blocks.".into(),
    };
    check("kv_cache", status, usage, "ratio", sentence)
}

/// Faults since start stay: a device that had one is not trusted again by waiting.
fn gpu(aggregator: &Aggregator) -> Check {
    let faults = aggregator.device_faults();
    let status = if faults.count > 0 { Status::Critical } else { Status::Healthy };
    let sentence = match (faults.count, faults.last_xid) {
        (0, _) => "No fatal GPU error since start.".into(),
        (n, Some(code)) => format!("{n} fatal GPU errors since start, the last XID is {code}."),
        (n, None) => format!("{n} uncorrectable GPU memory errors since start."),
    };
    check("gpu", status, Some(faults.count as f64), "errors", sentence)
}

fn queue(snapshot: &Snapshot) -> Check {
    let waiting = snapshot.sum(Id::QueueDepth, |_| true);
    let healthy = catalog::row(Id::QueueDepth).healthy;
    let over = |limit: Option<u64>| limit.is_some_and(|limit| waiting > limit as f64);
    let status = if over(healthy.and_then(|h| h.critical)) {
        Status::Critical
    } else if over(healthy.and_then(|h| h.warning)) {
        Status::Warning
    } else {
        Status::Healthy
    };
    check("queue", status, Some(waiting), "requests", format!("{waiting} requests wait."))
}

fn telemetry(aggregator: &Aggregator, lag_s: f64) -> Check {
    let (stored, dropped) = aggregator.window_loss(WINDOW_ROWS);
    let share = (stored + dropped > 0).then(|| dropped as f64 / (stored + dropped) as f64);
    let frozen = catalog::row(Id::AggregatorLag)
        .healthy
        .and_then(|healthy| healthy.warning)
        .is_some_and(|limit| lag_s * 1e9 > limit as f64);
    if frozen {
        let sentence = format!("The aggregator has not drained for {lag_s:.0} s: numbers are old.");
        return check("telemetry", Status::Warning, Some(lag_s), "seconds", sentence);
    }
    let lossy = share.is_some_and(|share| share > 0.001);
    let status = if lossy { Status::Warning } else { Status::Healthy };
    let sentence = match share {
        Some(share) if share > 0.0 => format!("{:.2} % of samples were dropped.", share * 100.0),
        _ => "No sample was dropped.".into(),
    };
    check("telemetry", status, share, "ratio", sentence)
}

#[cfg(test)]
mod tests {
    use crate::{Clock, Config, ManualClock, Stepscope, Time};

    /// A tensor-parallel rank knows of no request: only its GPU tells that it hangs.
    #[test]
    fn a_hung_gpu_is_seen_without_any_request_and_without_the_engines_thread() {
        let second = |n: u64| Time::from_nanos(n * 1_000_000_000);
        let clock = Clock::Manual(ManualClock::new(second(1)));
        let config = Config { listen: None, clock, ..Config::default() };
        let scope = Stepscope::start(config).unwrap();
        let device = scope.device("0");
        scope.mark_ready();
        scope.advance(second(100));
        device.0.stamps.set_stuck_since(Some(second(95)));
        assert!(scope.ready().ok && scope.live().ok);
        scope.advance(second(130));
        let ready = scope.ready();
        assert!(!ready.ok && ready.reason.contains("GPU has not finished"), "{}", ready.reason);
        assert!(scope.live().ok);
        scope.advance(second(400));
        assert!(!scope.live().ok);
        device.0.stamps.set_stuck_since(None);
        assert!(scope.ready().ok && scope.live().ok);
    }
}
