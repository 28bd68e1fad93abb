//! What is wrong, in words: the alerts of this process as they stand, by what they are about.

use super::probes;
use crate::aggregate::Vitals;
use crate::catalog::alert::{Alert, AlertId, Check as Topic, Severity};
use crate::catalog::alerts::alert;
use crate::catalog::limits::Limits;
use crate::catalog::quantity::Quantity;
use crate::catalog::{Id, Unit};
use crate::judge::{self, Phase, Standing};
use crate::record::Time;
use crate::shared::{Shared, Stage};
use serde::Serialize;

/// What is said where a number has nothing to be computed from.
const NO_REQUESTS: &str = "no requests in the window";
const NO_TOKENS: &str = "no first token, or no gap between tokens, in the window";

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to do.
    Healthy,
    /// It cannot be told: the numbers are old. Counts as a warning.
    Unknown,
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
    /// Requests are in flight and no step ends, or the GPU does not finish its step.
    Stalled,
    /// `mark_draining` was called.
    Draining,
    /// `mark_failed` was called.
    Failed,
}

/// One alert that fires, or is about to.
#[derive(Clone, Debug, Serialize)]
pub struct Issue {
    /// Name of the alert, as in Prometheus.
    pub alert: &'static str,
    /// How bad it is.
    pub severity: &'static str,
    /// The number that decides; `None` where it is infinite or there is none any more.
    pub value: Option<f64>,
    /// What it is above.
    pub limit: Option<f64>,
    /// Unit of both.
    pub unit: &'static str,
    /// The same for those who write it out.
    #[serde(skip)]
    pub quantity: Quantity,
    /// How long the condition has lasted.
    pub since_seconds: f64,
    /// `pending`, `firing`, or `kept` for one whose condition has just ended.
    pub state: Phase,
    /// What to do first.
    pub advice: &'static str,
    /// Its place in the playbook.
    pub runbook: String,
}

/// One part of the verdict, with the evidence for it.
#[derive(Clone, Debug, Serialize)]
pub struct Check<E> {
    /// The worst of its firing alerts.
    pub status: Status,
    /// The same in words.
    pub sentence: String,
    /// Alerts that fire or are about to, the worst first.
    pub issues: Vec<Issue>,
    /// The numbers.
    #[serde(flatten)]
    pub evidence: E,
    /// Why a number is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

/// Numbers about the GPUs.
#[derive(Clone, Debug, Serialize)]
pub struct GpuEvidence {
    /// Of the device whose last step is oldest, in seconds.
    pub last_step_age_seconds: Option<f64>,
    /// Code of the last XID error.
    pub last_xid: Option<u64>,
}

/// Numbers about the KV cache.
#[derive(Clone, Debug, Serialize)]
pub struct KvEvidence {
    /// Share of blocks referenced, of the fullest GPU.
    pub max_utilization: Option<f64>,
}

/// Numbers about latency in the window.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyEvidence {
    /// Smallest bucket bound that covers 99 % of the times to first token, in seconds.
    pub ttft_p99: Option<f64>,
    /// The same of the gaps between tokens.
    pub tbt_p99: Option<f64>,
    /// Requests that got a first token.
    pub samples: u64,
}

/// Numbers about errors in the window.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorEvidence {
    /// Share of ended requests that failed by no fault of the caller.
    pub error_rate: Option<f64>,
    /// Ended requests.
    pub samples: u64,
}

/// Numbers about the queue.
#[derive(Clone, Debug, Serialize)]
pub struct QueueEvidence {
    /// Most requests that waited at the end of a row of the window, or now.
    pub max_depth: u64,
    /// How long those that wait now take at the pace at which requests end.
    pub drain_seconds: Option<f64>,
}

/// Numbers about the instrument itself.
#[derive(Clone, Debug, Serialize)]
pub struct TelemetryEvidence {
    /// Share of samples dropped in the window.
    pub dropped_share: Option<f64>,
    /// Since the aggregator drained.
    pub lag_seconds: f64,
}

/// The parts of a verdict.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // Each is what its evidence is about.
pub struct Checks {
    pub gpu_health: Check<GpuEvidence>,
    pub kv_cache_health: Check<KvEvidence>,
    pub latency_health: Check<LatencyEvidence>,
    pub error_health: Check<ErrorEvidence>,
    pub queue_health: Check<QueueEvidence>,
    pub telemetry_health: Check<TelemetryEvidence>,
}

impl Checks {
    /// (key, status, sentence, issues) of each, in the order in which they are shown.
    pub fn each(&self) -> [(&'static str, Status, &str, &[Issue]); 6] {
        fn of<E>(topic: Topic, check: &Check<E>) -> (&'static str, Status, &str, &[Issue]) {
            (topic.text(), check.status, &check.sentence, &check.issues)
        }
        [
            of(Topic::Gpu, &self.gpu_health),
            of(Topic::KvCache, &self.kv_cache_health),
            of(Topic::Latency, &self.latency_health),
            of(Topic::Error, &self.error_health),
            of(Topic::Queue, &self.queue_health),
            of(Topic::Telemetry, &self.telemetry_health),
        ]
    }
}

/// The whole verdict.
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
    /// When it was asked, in seconds since the epoch; `None` on a simulated clock.
    pub timestamp: Option<f64>,
    /// Identity.
    pub model: String,
    /// Identity.
    pub worker_id: String,
    /// Length of the window of the evidence.
    pub window_seconds: u32,
    /// The parts.
    pub checks: Checks,
    /// First actions of the alerts that fire, the worst first.
    pub advice: Vec<&'static str>,
}

/// What is wrong, from what was known at the last closed row.
pub(crate) fn verdict(shared: &Shared) -> Verdict {
    let now = shared.clock.now();
    let probe = probes::ready(shared);
    let (vitals, standings) = {
        let aggregator = shared.aggregator();
        (aggregator.vitals(now), aggregator.standings().to_vec())
    };
    let state = state(shared, &vitals, now);
    let (lag_s, limits) = (probes::lag_s(shared, now), &shared.config.limits);
    let issues = Issues { standings: &standings, limits, now, lag_s };
    let is_frozen = probes::is_frozen(shared, now);
    let checks = checks(&vitals, &issues, is_frozen);
    let worst = checks.each().iter().map(|(_, status, _, _)| *status).max();
    let mut overall = worst.unwrap_or(Status::Healthy);
    let should_serve = !matches!(state, State::Starting | State::Draining);
    if should_serve && !probe.ok {
        // An alert may need longer to be sure; that it cannot serve is certain.
        overall = Status::Critical
    } else if overall == Status::Unknown {
        overall = Status::Warning
    }
    let is_stuck = state == State::Stalled;
    let is_broken = shared.pulse().device_fault().is_some();
    let stalled = is_stuck.then_some(AlertId::EngineStalled);
    let certain: Vec<AlertId> =
        is_broken.then_some(AlertId::GpuFault).into_iter().chain(stalled).collect();
    Verdict {
        overall,
        serving: probe.ok,
        state,
        sentence: sentence(&probe, state, &vitals, &checks, issues.has_pending()),
        timestamp: shared.wall_clock(),
        model: shared.config.model.clone(),
        worker_id: shared.config.worker_id.clone(),
        window_seconds: Vitals::WINDOW_S,
        advice: issues.advice(&certain),
        checks,
    }
}

fn state(shared: &Shared, vitals: &Vitals, now: Time) -> State {
    match shared.stage() {
        Stage::Starting => State::Starting,
        Stage::Draining => State::Draining,
        Stage::Failed => State::Failed,
        Stage::Ready if probes::is_stalled(shared, now) => State::Stalled,
        Stage::Ready if vitals.in_flight > 0 => State::Busy,
        Stage::Ready => State::Idle,
    }
}

fn sentence(
    probe: &probes::Probe,
    state: State,
    vitals: &Vitals,
    checks: &Checks,
    has_pending: bool,
) -> String {
    if !probe.ok {
        return capitalised(&probe.reason);
    }
    let wrong: Vec<&str> = checks
        .each()
        .into_iter()
        .filter(|(_, status, _, _)| *status > Status::Healthy)
        .map(|(_, _, sentence, _)| sentence.trim_end_matches('.'))
        .collect();
    let calm = if has_pending { "nothing is wrong yet" } else { "nothing is wrong" };
    match (state, wrong.is_empty()) {
        (_, false) => format!("{}.", wrong.join("; ")),
        (State::Idle, true) => format!("Idle: no request is in flight, {calm}."),
        _ => {
            let Vitals { running, waiting, .. } = vitals;
            format!("Serving: {running} running, {waiting} waiting, {calm}.")
        }
    }
}

fn capitalised(reason: &str) -> String {
    let mut chars = reason.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

fn checks(vitals: &Vitals, issues: &Issues<'_>, is_frozen: bool) -> Checks {
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    let error_rate = share(vitals.failed, vitals.ended);
    let ended_per_s = vitals.ended as f64 / f64::from(Vitals::WINDOW_S);
    let drain = match vitals.waiting {
        0 => Some(0.0),
        waiting => Some(waiting as f64 / ended_per_s).filter(|seconds| seconds.is_finite()),
    };
    let dropped_share = share(vitals.dropped, vitals.stored + vitals.dropped);
    let mut telemetry = issues.check(
        Topic::Telemetry,
        TelemetryEvidence { dropped_share, lag_seconds: issues.lag_s },
        match dropped_share {
            Some(share) if share > 0.0 => format!("{} of samples were dropped.", percent(share)),
            _ => "No sample was dropped.".into(),
        },
        None,
    );
    if is_frozen {
        telemetry.status = Status::Unknown;
        telemetry.sentence =
            format!("The metrics thread has not run for {:.0} s: numbers are old.", issues.lag_s)
    }
    Checks {
        gpu_health: issues.check(
            Topic::Gpu,
            GpuEvidence {
                last_step_age_seconds: vitals.last_step_age_s,
                last_xid: vitals.last_xid,
            },
            match (vitals.last_step_age_s, vitals.steps) {
                (Some(age), 0) => format!("No step has ended since it was ready, {age:.0} s ago."),
                (Some(age), _) => format!("The last step ended {age:.1} s ago."),
                (None, _) => "No step has ended yet.".into(),
            },
            None,
        ),
        kv_cache_health: issues.check(
            Topic::KvCache,
            KvEvidence { max_utilization: vitals.kv_utilization },
            match vitals.kv_utilization {
                Some(share) => format!("{} of KV blocks are referenced.", percent(share)),
                None => "The engine reports no KV blocks.".into(),
            },
            vitals.kv_utilization.is_none().then_some("the engine reports no KV blocks"),
        ),
        latency_health: issues.check(
            Topic::Latency,
            LatencyEvidence {
                ttft_p99: vitals.ttft_p99_s,
                tbt_p99: vitals.tbt_p99_s,
                samples: vitals.first_tokens,
            },
            latency_sentence(vitals),
            (vitals.ttft_p99_s.is_none() || vitals.tbt_p99_s.is_none()).then_some(NO_TOKENS),
        ),
        error_health: issues.check(
            Topic::Error,
            ErrorEvidence { error_rate, samples: vitals.ended },
            match error_rate {
                Some(share) => {
                    format!("{} of {} ended requests failed.", percent(share), vitals.ended)
                }
                None => "No request ended in the window.".into(),
            },
            error_rate.is_none().then_some(NO_REQUESTS),
        ),
        queue_health: issues.check(
            Topic::Queue,
            QueueEvidence { max_depth: vitals.waiting_max, drain_seconds: drain },
            match vitals.waiting {
                1 => "1 request waits.".into(),
                n => format!("{n} requests wait."),
            },
            drain.is_none().then_some("requests wait and none ended in the window"),
        ),
        telemetry_health: telemetry,
    }
}

fn latency_sentence(vitals: &Vitals) -> String {
    let within = |name: &str, bound: Option<f64>| bound.map(|s| format!("{name} within {s} s"));
    let known = [within("TTFT", vitals.ttft_p99_s), within("TBT", vitals.tbt_p99_s)];
    let known: Vec<String> = known.into_iter().flatten().collect();
    if known.is_empty() {
        return "No token in the window.".into();
    }
    format!("99 % of {}.", known.join(", of "))
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 1e4).round() / 100.0)
}

/// The standings, as a reader of /health sees them.
struct Issues<'a> {
    standings: &'a [Standing],
    limits: &'a Limits,
    now: Time,
    lag_s: f64,
}

impl Issues<'_> {
    /// Alerts that fire or are about to, the worst first.
    fn shown(&self, topic: Option<Topic>) -> Vec<(Issue, &'static Alert)> {
        let mut shown: Vec<(Issue, &Alert)> = self
            .standings
            .iter()
            .filter(|standing| topic.is_none() || standing.alert.symptom.check() == topic)
            .filter_map(|standing| Some((self.issue(standing)?, standing.alert)))
            .collect();
        let rank = |issue: &Issue| issue.state != Phase::Pending;
        shown.sort_by_key(|(issue, alert)| std::cmp::Reverse((rank(issue), alert.severity)));
        shown
    }

    fn issue(&self, standing: &Standing) -> Option<Issue> {
        let alert = standing.alert;
        // A frozen aggregator closes no row: what says so is read now.
        let live = alert.family() == Some(Id::AggregatorLag);
        let (state, value, since_seconds) = if live {
            let fires = judge::holds_now(alert, self.lag_s, self.limits);
            (fires.then_some(Phase::Firing)?, Some(self.lag_s), self.lag_s)
        } else {
            let since = standing.since.map_or(0.0, |since| self.now.seconds_since(since));
            (standing.phase, standing.value, since)
        };
        if state == Phase::Inactive {
            return None;
        }
        let cond = &alert.conds()[0];
        let limit = cond.test.limit().map(|limit| self.limits.value(alert.id, limit));
        let quantity = cond.signal.quantity();
        let runbook = format!("#{}", alert.name.to_lowercase());
        Some(Issue {
            alert: alert.name,
            severity: alert.severity.text(),
            value: value.filter(|value| value.is_finite()),
            limit,
            unit: unit(quantity),
            quantity,
            since_seconds,
            state,
            advice: alert.first_action,
            runbook,
        })
    }

    fn check<E>(
        &self,
        topic: Topic,
        evidence: E,
        calm: String,
        note: Option<&'static str>,
    ) -> Check<E> {
        let shown = self.shown(Some(topic));
        let firing = shown.iter().filter(|(issue, _)| issue.state != Phase::Pending);
        let status = |alert: &Alert| match alert.severity {
            Severity::Critical => Status::Critical,
            Severity::Warning => Status::Warning,
            // Written down, and nothing to do.
            Severity::Info | Severity::None => Status::Healthy,
        };
        let status = firing.clone().map(|(_, alert)| status(alert)).max();
        let named = |issue: &Issue| match issue.state {
            Phase::Kept => format!("{} (ended)", issue.alert),
            _ => issue.alert.to_string(),
        };
        let names: Vec<String> = firing.map(|(issue, _)| named(issue)).collect();
        let sentence = match names.is_empty() {
            true => calm,
            false => format!("{}: {calm}", names.join(", ")),
        };
        let status = status.unwrap_or(Status::Healthy);
        let issues = shown.into_iter().map(|(issue, _)| issue).collect();
        Check { status, sentence, issues, evidence, note }
    }

    /// What to do first. `certain` are alerts that need longer to be sure of what is known already.
    fn advice(&self, certain: &[AlertId]) -> Vec<&'static str> {
        let mut advice: Vec<&str> = certain.iter().map(|id| alert(*id).first_action).collect();
        for (issue, alert) in self.shown(None) {
            let is_asked = issue.state != Phase::Pending && alert.severity >= Severity::Warning;
            if is_asked && !advice.contains(&issue.advice) {
                advice.push(issue.advice)
            }
        }
        advice
    }

    fn has_pending(&self) -> bool {
        self.standings.iter().any(|standing| standing.phase == Phase::Pending)
    }
}

/// Unit of a number, as a key says it.
fn unit(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Share => Unit::Ratio.suffix(),
        Quantity::Seconds => Unit::Seconds.suffix(),
        Quantity::Bytes => Unit::Bytes.suffix(),
        Quantity::PerSecond => "per_second",
        Quantity::Number => "count",
    }
}
