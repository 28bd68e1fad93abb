//! Alerts on one GPU: memory, faults, clocks.

use super::Group;
use crate::catalog::Id;
use crate::catalog::alert::{Alert, AlertId, Hold, Keep, Scope, Severity, Symptom, When};
use crate::catalog::recording::{Called, Recording};
use crate::catalog::signal::{Cond, Fold, Limit, Series, Signal, Term, Window};

const fn memory_beyond_pool(of: &'static [Term]) -> Signal {
    Signal::Level { of, fold: Fold::Max, mean: None }
}

const PREALLOCATED: Term = Term::Minus(Series::all(Id::GpuMemoryPreallocated));
/// What is used of the memory that the engine did not take at start. An engine that tells of no pool
/// has 0 there, and then this is used / total.
const HEADROOM_USED: Signal = Signal::Ratio {
    top: &memory_beyond_pool(&[Term::Plus(Series::all(Id::GpuMemoryUsed)), PREALLOCATED]),
    bottom: &memory_beyond_pool(&[Term::Plus(Series::all(Id::GpuMemoryTotal)), PREALLOCATED]),
};

const RECORDINGS: &[Recording] = &[Recording::of(Scope::Gpu, HEADROOM_USED)
    .called(Called::Own("llm_gpu_memory_headroom_used", "ratio"))];

pub(super) const GROUP: Group =
    Group { name: "llm_device", recordings: RECORDINGS, alerts: ALERTS };

const ALERTS: &[Alert] = &[
    Alert {
        id: AlertId::GpuMemoryCritical,
        name: "LLMGPUMemoryCritical",
        severity: Severity::Critical,
        symptom: Symptom::GpuMemory,
        scope: Scope::Gpu,
        when: When::All(&[Cond::above(HEADROOM_USED, Limit::Own(0.95))]),
        hold: Hold::M2,
        keep: Keep::M5,
        summary: "{node}/{gpu}: {value} of the memory outside the engine's own pool is used",
        impact: "The next allocation may fail and take the worker down.",
        first_action: "See who uses it: engine growth (leak, CUDA graphs) or another process on the GPU.",
    },
    Alert {
        id: AlertId::GpuAllocFailed,
        name: "LLMGPUAllocFailed",
        severity: Severity::Warning,
        symptom: Symptom::GpuAlloc,
        scope: Scope::Gpu,
        when: When::All(&[Cond::above(
            Signal::Count { of: Series::all(Id::GpuAllocFailures), window: Window::M10 },
            Limit::Guard(0.0),
        )]),
        hold: Hold::Now,
        keep: Keep::M3,
        summary: "{node}/{gpu}: {value} GPU allocations failed",
        impact: "Requests fail with oom, or the engine falls back to slower paths.",
        first_action: "Compare with requests that failed with error_type oom and the longest prompts of the last minutes.",
    },
    Alert {
        id: AlertId::GpuFault,
        name: "LLMGPUFault",
        severity: Severity::Critical,
        symptom: Symptom::GpuFault,
        scope: Scope::Gpu,
        // Levels of counters: the device stays broken when the count stops rising. Not their sum:
        // one of the two may be absent.
        when: When::Any(&[
            Cond::above(
                Signal::Since { of: Series::all(Id::GpuXid).only("class", &["fatal"]) },
                Limit::Guard(0.0),
            ),
            Cond::above(
                Signal::Since { of: Series::all(Id::GpuEccUncorrected) },
                Limit::Guard(0.0),
            ),
        ]),
        hold: Hold::Now,
        keep: Keep::No,
        summary: "{node}/{gpu}: fatal XID or uncorrectable ECC error",
        impact: "The GPU may hang, corrupt results or vanish from the bus.",
        first_action: "Drain the worker, cordon the node, read the kernel log for the XID number.",
    },
    Alert {
        id: AlertId::GpuThrottled,
        name: "LLMGPUThrottled",
        severity: Severity::Warning,
        symptom: Symptom::GpuClocks,
        scope: Scope::Gpu,
        // A power cap is policy and does not alert.
        when: When::All(&[Cond::above(
            Signal::Rate {
                of: Series::all(Id::GpuThrottle).only("reason", &["thermal", "power_brake"]),
                window: Window::M5,
            },
            Limit::Own(0.1),
        )]),
        hold: Hold::M10,
        keep: Keep::M3,
        summary: "{node}/{gpu}: clocks held down {value} of the time",
        impact: "Every token on this GPU is slower.",
        first_action: "Check temperature and airflow; lower the router weight of the worker.",
    },
];
