//! What a row of an alert says: when it fires, whom it wakes, what they read and do first.

use super::Id;
use super::signal::{Cond, Reader};

/// One alert: everything that is known about it, typed once.
#[derive(Clone, Copy, Debug)]
pub struct Alert {
    /// Which alert; inhibitions and readers refer to it by this.
    pub id: AlertId,
    /// Value of the label `alertname`.
    pub name: &'static str,
    /// Whom it wakes.
    pub severity: Severity,
    /// What is wrong, as a family: the key of inhibition.
    pub symptom: Symptom,
    /// What one firing alert is about.
    pub scope: Scope,
    /// When it fires.
    pub when: When,
    /// How long that must last before it fires.
    pub hold: Hold,
    /// How long it stays after that has ended.
    pub keep: Keep,
    /// One line with the evidence. `{model}`, `{worker}`, `{node}`, `{gpu}`, `{instance}` and
    /// `{objective}` stand for labels, `{value}` for the first condition's signal, `{limit}` for its
    /// limit, `{bound}` for the bucket bound it counts above, `{guard}` for the second's limit.
    pub summary: &'static str,
    /// What users and operators notice.
    pub impact: &'static str,
    /// What to do first: the one text, wherever it is printed.
    pub first_action: &'static str,
}

impl Alert {
    /// The conditions, the decisive one first.
    pub const fn conds(&self) -> &'static [Cond] {
        match self.when {
            When::All(conds) | When::Any(conds) => conds,
        }
    }

    /// Who can evaluate it.
    pub const fn reader(&self) -> Reader {
        let conds = self.conds();
        let mut i = 0;
        while i < conds.len() {
            if let Reader::PromOnly = conds[i].signal.reader() {
                return Reader::PromOnly;
            }
            i += 1;
        }
        Reader::Both
    }

    /// The family whose panel shows it.
    pub const fn family(&self) -> Option<Id> {
        self.conds()[0].signal.family()
    }

    /// How long after the end of a fault its conditions may still hold, in seconds; `None` = until
    /// the process restarts.
    pub const fn memory_s(&self) -> Option<u32> {
        let conds = self.conds();
        let (mut shortest, mut longest, mut latched, mut i) = (u32::MAX, 0, 0, 0);
        while i < conds.len() {
            match conds[i].signal.memory_s() {
                Some(s) => {
                    shortest = if s < shortest { s } else { shortest };
                    longest = if s > longest { s } else { longest };
                }
                None => latched += 1,
            }
            i += 1;
        }
        match self.when {
            // The first condition that forgets ends it.
            When::All(_) if latched < conds.len() => Some(shortest),
            When::Any(_) if latched == 0 => Some(longest),
            _ => None,
        }
    }
}

/// How conditions go together.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// All must hold.
    All(&'static [Cond]),
    /// One is enough; the others may have no value.
    Any(&'static [Cond]),
}

/// The label `service` of every alert.
pub const SERVICE: &str = "llm";
/// Seconds between two evaluations of the rules, outside tests.
pub const EVALUATION_S: u32 = 15;

/// Whom an alert wakes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Nobody: it proves that the chain works.
    None,
    /// Nobody: it is written down.
    Info,
    /// Somebody reads it today.
    Warning,
    /// Somebody is woken now.
    Critical,
}

impl Severity {
    /// Value of the label `severity`.
    pub const fn text(self) -> &'static str {
        match self {
            Severity::None => "none",
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// What one firing alert is about, and so by which labels its series are folded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All targets.
    Fleet,
    /// All workers of a model.
    Model,
    /// One process.
    Worker,
    /// One device.
    Gpu,
}

impl Scope {
    /// Value of the label `scope`, and the level in a recording's name.
    pub const fn text(self) -> &'static str {
        match self {
            Scope::Fleet => "fleet",
            Scope::Model => "model",
            Scope::Worker => "worker",
            Scope::Gpu => "gpu",
        }
    }

    /// The labels that tell one from the other.
    pub const fn labels(self) -> &'static [&'static str] {
        match self {
            Scope::Fleet => &[],
            Scope::Model => &["model"],
            Scope::Worker => &["model", "worker_id", "instance"],
            Scope::Gpu => &["model", "worker_id", "instance", "node", "gpu_id"],
        }
    }
}

/// How long a condition must last before the alert fires.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Hold {
    Now,
    S30,
    M1,
    M2,
    M5,
    M10,
    M15,
}

impl Hold {
    /// All of them, shortest first.
    pub const ALL: [Hold; 7] =
        [Hold::Now, Hold::S30, Hold::M1, Hold::M2, Hold::M5, Hold::M10, Hold::M15];

    /// Length in seconds.
    pub const fn seconds(self) -> u32 {
        match self {
            Hold::Now => 0,
            Hold::S30 => 30,
            Hold::M1 => 60,
            Hold::M2 => 120,
            Hold::M5 => 300,
            Hold::M10 => 600,
            Hold::M15 => 900,
        }
    }
}

/// How long an alert stays after its condition has ended, so that a gap does not resolve it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Keep {
    No,
    M3,
    M5,
    M10,
}

impl Keep {
    /// All of them, shortest first.
    pub const ALL: [Keep; 4] = [Keep::No, Keep::M3, Keep::M5, Keep::M10];

    /// Length in seconds.
    pub const fn seconds(self) -> u32 {
        match self {
            Keep::No => 0,
            Keep::M3 => 180,
            Keep::M5 => 300,
            Keep::M10 => 600,
        }
    }
}

/// What is wrong, as a family of alerts (label `signal`). A critical silences the warning of its
/// own symptom; runbook page and health check hang on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Symptom {
    Ttft,
    Tbt,
    Errors,
    Slo,
    Traffic,
    Kv,
    Preemption,
    Queue,
    Progress,
    Host,
    Outlier,
    GpuMemory,
    GpuAlloc,
    GpuFault,
    GpuClocks,
    Target,
    Telemetry,
    Watchdog,
}

impl Symptom {
    /// Value of the label `signal`.
    pub const fn text(self) -> &'static str {
        match self {
            Symptom::Ttft => "ttft",
            Symptom::Tbt => "tbt",
            Symptom::Errors => "errors",
            Symptom::Slo => "slo",
            Symptom::Traffic => "traffic",
            Symptom::Kv => "kv",
            Symptom::Preemption => "preemption",
            Symptom::Queue => "queue",
            Symptom::Progress => "progress",
            Symptom::Host => "host",
            Symptom::Outlier => "outlier",
            Symptom::GpuMemory => "gpu_memory",
            Symptom::GpuAlloc => "gpu_alloc",
            Symptom::GpuFault => "gpu_fault",
            Symptom::GpuClocks => "gpu_clocks",
            Symptom::Target => "target",
            Symptom::Telemetry => "telemetry",
            Symptom::Watchdog => "watchdog",
        }
    }

    /// The page of the playbook.
    pub const fn runbook(self) -> Runbook {
        match self {
            Symptom::Ttft => Runbook::Ttft,
            Symptom::Tbt => Runbook::Tbt,
            Symptom::Errors => Runbook::Errors,
            Symptom::Slo => Runbook::Slo,
            Symptom::Traffic => Runbook::Traffic,
            Symptom::Kv => Runbook::Kv,
            Symptom::Preemption => Runbook::Preemption,
            Symptom::Queue => Runbook::Queue,
            Symptom::Progress => Runbook::Stall,
            Symptom::Host => Runbook::Host,
            Symptom::Outlier => Runbook::Outlier,
            Symptom::GpuMemory | Symptom::GpuAlloc => Runbook::GpuMemory,
            Symptom::GpuFault => Runbook::GpuFault,
            Symptom::GpuClocks => Runbook::GpuClocks,
            Symptom::Target => Runbook::Targets,
            Symptom::Telemetry => Runbook::Telemetry,
            Symptom::Watchdog => Runbook::Watchdog,
        }
    }

    /// The check of `/health` that its alerts count for; `None` = no process can tell.
    pub const fn check(self) -> Option<Check> {
        match self {
            Symptom::Ttft | Symptom::Tbt => Some(Check::Latency),
            Symptom::Errors => Some(Check::Error),
            Symptom::Kv | Symptom::Preemption => Some(Check::KvCache),
            Symptom::Queue => Some(Check::Queue),
            Symptom::Progress
            | Symptom::Host
            | Symptom::GpuMemory
            | Symptom::GpuAlloc
            | Symptom::GpuFault
            | Symptom::GpuClocks => Some(Check::Gpu),
            Symptom::Telemetry => Some(Check::Telemetry),
            Symptom::Slo
            | Symptom::Traffic
            | Symptom::Outlier
            | Symptom::Target
            | Symptom::Watchdog => None,
        }
    }
}

/// Pages of the playbook: one per family of symptoms that are worked on the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Runbook {
    Ttft,
    Tbt,
    Errors,
    Slo,
    Traffic,
    Kv,
    Preemption,
    Queue,
    Stall,
    Host,
    Outlier,
    GpuMemory,
    GpuFault,
    GpuClocks,
    Targets,
    Telemetry,
    Watchdog,
}

impl Runbook {
    /// All pages, in the order in which one looks for a cause.
    pub const ALL: [Runbook; 17] = [
        Runbook::Stall,
        Runbook::Ttft,
        Runbook::Tbt,
        Runbook::Kv,
        Runbook::Preemption,
        Runbook::Queue,
        Runbook::Host,
        Runbook::Outlier,
        Runbook::Errors,
        Runbook::Slo,
        Runbook::Traffic,
        Runbook::GpuMemory,
        Runbook::GpuFault,
        Runbook::GpuClocks,
        Runbook::Targets,
        Runbook::Telemetry,
        Runbook::Watchdog,
    ];
}

/// Checks of `/health`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Check {
    Gpu,
    KvCache,
    Latency,
    Error,
    Queue,
    Telemetry,
}

impl Check {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Check; 6] =
        [Check::Gpu, Check::KvCache, Check::Latency, Check::Error, Check::Queue, Check::Telemetry];

    /// Its key in the answer.
    pub const fn text(self) -> &'static str {
        match self {
            Check::Gpu => "gpu_health",
            Check::KvCache => "kv_cache_health",
            Check::Latency => "latency_health",
            Check::Error => "error_health",
            Check::Queue => "queue_health",
            Check::Telemetry => "telemetry_health",
        }
    }
}

/// The alerts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum AlertId {
    HighTtft,
    ElevatedTtft,
    HighTbt,
    ElevatedTbt,
    HighErrorRate,
    ElevatedErrorRate,
    TrafficStopped,
    SloFastBurn,
    SloSlowBurn,
    KvCacheElevated,
    KvCachePressure,
    ElevatedPreemption,
    PreemptionStorm,
    QueueBuildup,
    QueueOverload,
    EngineStalled,
    HostBound,
    WorkerOutlier,
    GpuMemoryCritical,
    GpuAllocFailed,
    GpuFault,
    GpuThrottled,
    TargetsAbsent,
    FleetDegraded,
    WorkerDown,
    MetricsAbsent,
    TelemetryFrozen,
    InstrumentationLoss,
    ScrapeSlow,
    LabelOverflow,
    Watchdog,
}
