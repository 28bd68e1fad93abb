//! The two probes of an orchestrator. They look at the pulse only and never wait for the aggregator.

use crate::catalog::{self, Id};
use crate::record::Time;
use crate::shared::{Shared, Stage};

/// No step for so long with requests in flight: restart is the only way out.
const LIVE_AGE_S: f64 = 300.0;

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

/// A limit in seconds; a family without one is never over it.
fn seconds(id: Id, stored: Option<u64>) -> f64 {
    stored.map_or(f64::INFINITY, |stored| stored as f64 / catalog::row(id).unit.scale() as f64)
}

fn stall_limit_s(shared: &Shared) -> f64 {
    seconds(Id::LastStepAge, shared.config.limits.critical(Id::LastStepAge))
}

/// Has the aggregator not drained for so long that its numbers are old?
pub(super) fn is_frozen(shared: &Shared, now: Time) -> bool {
    lag_s(shared, now) > seconds(Id::AggregatorLag, shared.config.limits.warning(Id::AggregatorLag))
}

pub(super) fn lag_s(shared: &Shared, now: Time) -> f64 {
    shared.pulse().lag_ns(now) as f64 * 1e-9
}

/// How long a worker has made no progress. One that starts may warm up for minutes.
fn stuck_seconds(shared: &Shared, now: Time) -> Option<f64> {
    (shared.stage() != Stage::Starting).then(|| shared.pulse().stuck_seconds(now))?
}

/// How long the GPU has not finished a step it was handed, whatever the engine's threads do.
fn device_stuck_seconds(shared: &Shared, now: Time) -> Option<f64> {
    (shared.stage() != Stage::Starting).then(|| shared.pulse().device_stuck_seconds(now))?
}

/// No step for longer than this, and what that looks like; the GPU's own word first.
fn stuck_for(shared: &Shared, now: Time, limit_s: f64) -> Option<String> {
    let over = |age: &f64| *age > limit_s;
    if let Some(age) = device_stuck_seconds(shared, now).filter(over) {
        return Some(format!("the GPU has not finished a step for {age:.0} s"));
    }
    let age = stuck_seconds(shared, now).filter(over)?;
    Some(format!("requests are in flight and no step ended for {age:.0} s"))
}

/// Has the worker stopped making progress? While the numbers are frozen nobody can tell.
pub(super) fn is_stalled(shared: &Shared, now: Time) -> bool {
    !is_frozen(shared, now) && stuck_for(shared, now, stall_limit_s(shared)).is_some()
}

/// Must this process be restarted?
pub(crate) fn live(shared: &Shared) -> Probe {
    if shared.stage() == Stage::Failed {
        return Probe::of(Some("the engine said it failed".into()));
    }
    let now = shared.clock.now();
    if is_frozen(shared, now) {
        // A starved metrics thread is no proof against the engine.
        return Probe::of(None);
    }
    Probe::of(stuck_for(shared, now, LIVE_AGE_S))
}

/// May it get new requests?
pub(crate) fn ready(shared: &Shared) -> Probe {
    let now = shared.clock.now();
    let problem = match shared.stage() {
        Stage::Starting => Some("starting: the engine has not said that it is ready".into()),
        Stage::Draining => Some("draining: it finishes what it has".into()),
        Stage::Failed => Some("the engine said it failed".into()),
        Stage::Ready if is_frozen(shared, now) => {
            // It keeps its last answer: what it would be judged by is old.
            let reason = "not ready when the numbers were last fresh; they are frozen";
            (!shared.was_ready()).then(|| reason.into())
        }
        Stage::Ready => not_serving(shared, now),
    };
    if shared.stage() == Stage::Ready {
        shared.set_was_ready(problem.is_none())
    }
    Probe::of(problem)
}

fn not_serving(shared: &Shared, now: Time) -> Option<String> {
    if let Some(what) = shared.pulse().device_fault() {
        return Some(format!("a GPU is broken: {what}; it stays so until the process restarts"));
    }
    stuck_for(shared, now, stall_limit_s(shared)).map(|stuck| format!("stalled: {stuck}"))
}
