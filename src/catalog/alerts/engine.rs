//! Alerts on one worker's engine: KV cache, preemption, queue, progress, host.

use super::Group;
use super::requests::ENDED_RATE;
use crate::catalog::alert::{Alert, AlertId, Hold, Keep, Scope, Severity, Symptom, When};
use crate::catalog::recording::{Called, Recording};
use crate::catalog::signal::{Cond, Fold, Limit, Series, Server, Signal, Term, Window};
use crate::catalog::{Id, labels};

/// Levels are means of a minute: flicker of a block or a request cannot restart a hold.
const fn level(of: &'static [Term], fold: Fold) -> Signal {
    Signal::Level { of, fold, mean: Some(Window::M1) }
}

/// State pools of hybrid models are always full and never enter.
const KV: Signal = level(
    &[Term::Plus(Series::all(Id::KvUtilization).only("pool", &[labels::DEFAULT_POOL]))],
    Fold::Max,
);
const WAITING: Signal = level(&[Term::Plus(Series::all(Id::QueueDepth))], Fold::Sum);
const WAITING_FOR_CAPACITY: Signal =
    level(&[Term::Plus(Series::all(Id::QueueDepth).only("reason", &["capacity"]))], Fold::Sum);
const PREEMPTIONS: Signal = Signal::Rate { of: Series::all(Id::Preemptions), window: Window::M5 };
const PREEMPTIONS_PER_REQUEST: Signal = Signal::Ratio { top: &PREEMPTIONS, bottom: &ENDED_RATE };
/// What a new request will wait, in seconds: the queue at the pace at which requests end.
const QUEUE_DRAIN: Signal = Signal::Ratio { top: &WAITING, bottom: &ENDED_RATE };

/// Time the GPU idles although requests are there.
const HOST_GAPS: Series = Series::sum(Id::GpuGap).only("work", &["waiting"]);
const DECODE_TIME: Series = Series::sum(Id::StepGpu).only("phase", &["decode"]);
const DECODE_STEPS: Series = Series::count(Id::StepGpu).only("phase", &["decode"]);

const RECORDINGS: &[Recording] = &[
    Recording::of(Scope::Worker, KV),
    Recording::of(Scope::Worker, WAITING),
    Recording::of(Scope::Worker, WAITING_FOR_CAPACITY).called(Called::FamilyAnd("_capacity")),
    Recording::of(Scope::Worker, PREEMPTIONS),
    Recording::of(Scope::Worker, PREEMPTIONS_PER_REQUEST)
        .called(Called::Own("llm_preemption", "per_request5m")),
    Recording::of(Scope::Worker, QUEUE_DRAIN).called(Called::Own("llm_queue_drain", "seconds")),
];

pub(super) const GROUP: Group =
    Group { name: "llm_engine", recordings: RECORDINGS, alerts: ALERTS };

const ALERTS: &[Alert] = &[
    Alert {
        id: AlertId::KvCacheElevated,
        name: "LLMKVCacheElevated",
        severity: Severity::Warning,
        symptom: Symptom::Kv,
        scope: Scope::Worker,
        when: When::All(&[Cond::above(KV, Limit::Warning(Id::KvUtilization))]),
        hold: Hold::M10,
        keep: Keep::M3,
        summary: "{worker}: {value} of KV blocks are referenced",
        impact: "Headroom for the next long request is nearly gone.",
        first_action: "Look at blocks per running sequence: longer contexts or more sequences?",
    },
    Alert {
        id: AlertId::KvCachePressure,
        name: "LLMKVCachePressure",
        severity: Severity::Critical,
        symptom: Symptom::Kv,
        scope: Scope::Worker,
        // A full and happy engine is no reason to wake anybody: somebody must wait for blocks.
        when: When::All(&[
            Cond::above(KV, Limit::Critical(Id::KvUtilization)),
            Cond::above(WAITING_FOR_CAPACITY, Limit::Guard(0.0)),
        ]),
        hold: Hold::M5,
        keep: Keep::M5,
        summary: "{worker}: KV cache {value} full and requests wait for blocks",
        impact: "New requests queue behind KV blocks; preemptions and TTFT follow.",
        first_action: "Shift or shed new traffic from this worker at the router; leave the batch size alone.",
    },
    Alert {
        id: AlertId::ElevatedPreemption,
        name: "LLMElevatedPreemption",
        severity: Severity::Warning,
        symptom: Symptom::Preemption,
        scope: Scope::Worker,
        when: When::All(&[
            Cond::above(PREEMPTIONS, Limit::Own(0.1)),
            Cond::above(PREEMPTIONS_PER_REQUEST, Limit::Guard(0.05)),
        ]),
        hold: Hold::M10,
        keep: Keep::M3,
        summary: "{worker}: {value} preemptions per second",
        impact: "Some requests are computed twice.",
        first_action: "Check KV utilisation and the preemption reason label.",
    },
    Alert {
        id: AlertId::PreemptionStorm,
        name: "LLMPreemptionStorm",
        severity: Severity::Critical,
        symptom: Symptom::Preemption,
        scope: Scope::Worker,
        when: When::All(&[
            Cond::above(PREEMPTIONS, Limit::Own(1.0)),
            Cond::above(PREEMPTIONS_PER_REQUEST, Limit::Guard(0.1)),
        ]),
        hold: Hold::M2,
        keep: Keep::M5,
        summary: "{worker}: {value} preemptions per second, more than {guard} per ended request",
        impact: "Throughput is spent on recomputation; TTFT and TBT both spike.",
        first_action: "Cap admission (concurrent sequences or router weight) on this worker until recomputed tokens fall; do not set the batch size to 1.",
    },
    Alert {
        id: AlertId::QueueBuildup,
        name: "LLMQueueBuildup",
        severity: Severity::Warning,
        symptom: Symptom::Queue,
        scope: Scope::Worker,
        when: When::All(&[
            Cond::above(WAITING, Limit::Warning(Id::QueueDepth)),
            Cond::above(QUEUE_DRAIN, Limit::Guard(5.0)),
        ]),
        hold: Hold::M5,
        keep: Keep::M3,
        summary: "{worker}: {value} requests wait, over {guard} of work",
        impact: "New requests will see a TTFT above the queue's drain time.",
        first_action: "GPU busy? Then capacity. GPU idle with a queue? Then go to LLMEngineStalled or LLMHostBound.",
    },
    Alert {
        id: AlertId::QueueOverload,
        name: "LLMQueueOverload",
        severity: Severity::Critical,
        symptom: Symptom::Queue,
        scope: Scope::Worker,
        when: When::All(&[
            Cond::above(WAITING, Limit::Critical(Id::QueueDepth)),
            Cond::above(QUEUE_DRAIN, Limit::Guard(15.0)),
        ]),
        hold: Hold::M2,
        keep: Keep::M5,
        summary: "{worker}: {value} requests wait, over {guard} of work",
        impact: "Requests time out in the queue; retries make it worse.",
        first_action: "Turn on admission limits or rate limiting at the router now, then add workers.",
    },
    Alert {
        id: AlertId::EngineStalled,
        name: "LLMEngineStalled",
        severity: Severity::Critical,
        symptom: Symptom::Progress,
        scope: Scope::Worker,
        when: When::All(&[
            Cond::above(
                Signal::Age { of: Series::all(Id::LastStepAge) },
                Limit::Critical(Id::LastStepAge),
            ),
            Cond::above(
                Signal::Level {
                    of: &[Term::Plus(Series::all(Id::RequestsInFlight))],
                    fold: Fold::Max,
                    mean: None,
                },
                Limit::Guard(0.0),
            ),
        ]),
        hold: Hold::S30,
        keep: Keep::M10,
        summary: "{worker}: no step finished for {value} while requests are in flight",
        impact: "Every request on this worker hangs; classic liveness probes still say 200.",
        first_action: "Drain the worker at the router, save stacks of all ranks and the GPU state, then restart it.",
    },
    Alert {
        id: AlertId::HostBound,
        name: "LLMHostBound",
        severity: Severity::Warning,
        symptom: Symptom::Host,
        scope: Scope::Worker,
        when: When::All(&[Cond::above(
            Signal::Share {
                bad: HOST_GAPS,
                total: &[HOST_GAPS, Series::sum(Id::StepGpu)],
                window: Window::M5,
            },
            Limit::Own(0.3),
        )]),
        hold: Hold::M10,
        keep: Keep::M3,
        summary: "{worker}: the GPU idles {value} of the time it has work",
        impact: "Tokens per second are lost on the CPU side.",
        first_action: "Check host CPU steal, GIL or scheduler time and detokeniser load on this node.",
    },
    Alert {
        id: AlertId::WorkerOutlier,
        name: "LLMWorkerOutlier",
        severity: Severity::Warning,
        symptom: Symptom::Outlier,
        scope: Scope::Worker,
        when: When::All(&[
            Cond::above(
                Signal::Server(Server::Outlier {
                    sum: DECODE_TIME,
                    count: DECODE_STEPS,
                    window: Window::M5,
                }),
                Limit::Own(1.5),
            ),
            // Of two workers neither is the odd one out.
            Cond::at_least(
                Signal::Server(Server::Peers { of: DECODE_STEPS, window: Window::M5 }),
                Limit::Guard(3.0),
            ),
        ]),
        hold: Hold::M10,
        keep: Keep::M3,
        summary: "{worker}: decode steps take {value} times the median of {model}",
        impact: "The share of users routed here gets a slow stream.",
        first_action: "Compare clocks, temperature and batch size with its neighbours; lower its router weight.",
    },
];
