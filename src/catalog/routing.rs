//! Who hears of an alert, and which alerts keep silent because another one explains them.

use super::alert::{Alert, AlertId, Scope, Severity, Symptom};

/// A set of alerts: an empty list does not restrict.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// Only these.
    pub alerts: &'static [AlertId],
    /// Not these.
    pub but: &'static [AlertId],
    /// Only of these severities.
    pub severities: &'static [Severity],
    /// Only of these scopes.
    pub scopes: &'static [Scope],
    /// Only of these symptoms.
    pub symptoms: &'static [Symptom],
    /// Not of these symptoms.
    pub but_symptoms: &'static [Symptom],
}

/// Every alert.
const ANY: Pattern = Pattern {
    alerts: &[],
    but: &[],
    severities: &[],
    scopes: &[],
    symptoms: &[],
    but_symptoms: &[],
};

macro_rules! listed {
    ($list:expr, $one:expr) => {{
        let (mut i, mut found) = (0, false);
        while i < $list.len() {
            found |= $list[i] as u8 == $one as u8;
            i += 1;
        }
        found
    }};
}

impl Pattern {
    /// Is this alert in the set?
    pub const fn takes(&self, alert: &Alert) -> bool {
        (self.alerts.is_empty() || listed!(self.alerts, alert.id))
            && !listed!(self.but, alert.id)
            && (self.severities.is_empty() || listed!(self.severities, alert.severity))
            && (self.scopes.is_empty() || listed!(self.scopes, alert.scope))
            && (self.symptoms.is_empty() || listed!(self.symptoms, alert.symptom))
            && !listed!(self.but_symptoms, alert.symptom)
    }
}

/// One way to people, or to a log.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Name of the receiver: the seam at which a site puts its pager or chat.
    pub receiver: &'static str,
    /// What goes there; the first route that takes an alert has it.
    pub takes: Pattern,
    /// One message per value of these labels.
    pub group_by: &'static [&'static str],
    /// Before the first message of a group, in seconds.
    pub wait_s: u32,
    /// Between two messages of a group that changed, in seconds.
    pub interval_s: u32,
    /// Before an unchanged group is told again, in seconds.
    pub repeat_s: u32,
    /// Whether the end of an alert is told too.
    pub resolved: bool,
    /// What it is for.
    pub why: &'static str,
}

const MINUTE: u32 = 60;
const HOUR: u32 = 3_600;

/// The routes, first match first; the last takes what is left.
pub static ROUTES: [Route; 4] = [
    Route {
        receiver: "deadman",
        takes: Pattern { alerts: &[AlertId::Watchdog], ..ANY },
        group_by: &["model", "signal"],
        wait_s: 0,
        interval_s: MINUTE,
        repeat_s: MINUTE,
        resolved: false,
        why: "dead man's switch: the far side alarms when this stops",
    },
    Route {
        receiver: "page",
        takes: Pattern { severities: &[Severity::Critical], ..ANY },
        group_by: &["model"],
        wait_s: 10,
        interval_s: MINUTE,
        repeat_s: HOUR,
        resolved: true,
        why: "the only route that wakes a person: one page per model and incident",
    },
    Route {
        receiver: "chat",
        takes: Pattern { severities: &[Severity::Warning], ..ANY },
        group_by: &["model", "signal"],
        wait_s: 30,
        interval_s: 5 * MINUTE,
        repeat_s: 12 * HOUR,
        resolved: true,
        why: "read today",
    },
    Route {
        receiver: "log",
        takes: ANY,
        group_by: &["model", "signal"],
        wait_s: 30,
        interval_s: 5 * MINUTE,
        repeat_s: 12 * HOUR,
        resolved: true,
        why: "everything else is written down",
    },
];

/// The route of an alert.
pub const fn route(alert: &Alert) -> &'static Route {
    let mut i = 0;
    while i + 1 < ROUTES.len() {
        if ROUTES[i].takes.takes(alert) {
            return &ROUTES[i];
        }
        i += 1;
    }
    &ROUTES[ROUTES.len() - 1]
}

/// While the source fires, targets with equal labels are not told.
#[derive(Clone, Copy, Debug)]
pub struct Inhibition {
    /// Why the source explains the target.
    pub why: &'static str,
    /// What explains.
    pub source: Pattern,
    /// What is explained.
    pub target: Pattern,
    /// Only targets of the source's own symptom.
    pub same_symptom: bool,
    /// Labels that must be equal; missing on both sides is equal.
    pub equal: &'static [&'static str],
}

impl Inhibition {
    /// Does the source silence the target, were their labels equal?
    pub const fn silences(&self, source: &Alert, target: &Alert) -> bool {
        self.source.takes(source)
            && self.target.takes(target)
            && (!self.same_symptom || source.symptom as u8 == target.symptom as u8)
    }
}

/// The label that all alerts share: equal on any two.
const EVERY: &[&str] = &["service"];
const PROCESS: &[&str] = &["instance", "worker_id"];

/// All inhibitions.
pub static INHIBITIONS: [Inhibition; 9] = [
    Inhibition {
        why: "the same symptom twice: a critical silences its warning",
        source: Pattern { severities: &[Severity::Critical], ..ANY },
        target: Pattern { severities: &[Severity::Warning, Severity::Info], ..ANY },
        same_symptom: true,
        equal: &["model", "worker_id", "gpu_id", "objective"],
    },
    Inhibition {
        why: "no target at all: everything else is an echo",
        source: Pattern { alerts: &[AlertId::TargetsAbsent], ..ANY },
        target: Pattern { but: &[AlertId::TargetsAbsent, AlertId::Watchdog], ..ANY },
        same_symptom: false,
        equal: EVERY,
    },
    Inhibition {
        why: "a large part of the fleet is gone: its workers are not listed one by one",
        source: Pattern { alerts: &[AlertId::FleetDegraded], ..ANY },
        target: Pattern { alerts: &[AlertId::WorkerDown], ..ANY },
        same_symptom: false,
        equal: EVERY,
    },
    Inhibition {
        why: "a dead target silences what its stale series still say",
        source: Pattern { alerts: &[AlertId::WorkerDown], ..ANY },
        target: Pattern {
            scopes: &[Scope::Worker, Scope::Gpu],
            but: &[AlertId::WorkerDown],
            ..ANY
        },
        same_symptom: false,
        equal: &["instance"],
    },
    Inhibition {
        why: "a stalled engine explains its queue, KV, host-gap, outlier and preemption alerts",
        source: Pattern { alerts: &[AlertId::EngineStalled], ..ANY },
        target: Pattern {
            symptoms: &[
                Symptom::Queue,
                Symptom::Kv,
                Symptom::Host,
                Symptom::Outlier,
                Symptom::Preemption,
            ],
            ..ANY
        },
        same_symptom: false,
        equal: PROCESS,
    },
    Inhibition {
        why: "a storm is a full KV cache seen later",
        source: Pattern { alerts: &[AlertId::PreemptionStorm], ..ANY },
        target: Pattern { symptoms: &[Symptom::Kv], ..ANY },
        same_symptom: false,
        equal: PROCESS,
    },
    Inhibition {
        why: "a full KV cache explains the queue behind it",
        source: Pattern { alerts: &[AlertId::KvCachePressure], ..ANY },
        target: Pattern { symptoms: &[Symptom::Queue], severities: &[Severity::Warning], ..ANY },
        same_symptom: false,
        equal: PROCESS,
    },
    Inhibition {
        why: "a faulty GPU explains slow clocks and failed allocations",
        source: Pattern { alerts: &[AlertId::GpuFault], ..ANY },
        target: Pattern {
            symptoms: &[Symptom::GpuClocks, Symptom::GpuMemory, Symptom::GpuAlloc],
            ..ANY
        },
        same_symptom: false,
        equal: &["instance", "gpu_id"],
    },
    Inhibition {
        why: "frozen telemetry: what this worker's rates say means nothing; pages still go out",
        source: Pattern { alerts: &[AlertId::TelemetryFrozen], ..ANY },
        target: Pattern {
            scopes: &[Scope::Worker],
            severities: &[Severity::Warning, Severity::Info],
            but_symptoms: &[Symptom::Telemetry],
            ..ANY
        },
        same_symptom: false,
        equal: PROCESS,
    },
];
