//! Alerts on how requests end: errors of the server, and no requests at all.

use super::Group;
use super::latency::BAD_EVENTS_MIN;
use crate::catalog::Id;
use crate::catalog::alert::{Alert, AlertId, Hold, Keep, Scope, Severity, Symptom, When};
use crate::catalog::recording::Recording;
use crate::catalog::signal::{Cond, Limit, Series, Server, Signal, Window};

const ENDED: Series = Series::all(Id::Requests);
/// The caller's own faults never alert.
const SERVER_FAULTS: Series = Series::all(Id::Errors).without("error_type", &["input"]);

/// Requests that ended per second: what a worker gets done.
pub(super) const ENDED_RATE: Signal = Signal::Rate { of: ENDED, window: Window::M5 };

const fn error_share(window: Window) -> Signal {
    Signal::Share { bad: SERVER_FAULTS, total: &[ENDED], window }
}

const ERRORS: Signal = Signal::Count { of: SERVER_FAULTS, window: Window::M5 };

const fn errors_above(limit: f64) -> [Cond; 3] {
    [
        Cond::above(error_share(Window::M5), Limit::Own(limit)),
        Cond::above(error_share(Window::M1), Limit::Own(limit)),
        Cond::at_least(ERRORS, BAD_EVENTS_MIN),
    ]
}

const RECORDINGS: &[Recording] = &[
    Recording::of(Scope::Model, ENDED_RATE),
    Recording::of(Scope::Worker, ENDED_RATE),
    Recording::of(Scope::Fleet, ENDED_RATE),
    Recording::of(Scope::Model, error_share(Window::M1)),
    Recording::of(Scope::Model, error_share(Window::M5)),
    Recording::of(Scope::Model, ERRORS),
    Recording::of(
        Scope::Model,
        Signal::Rate { of: Series::all(Id::GeneratedTokens), window: Window::M1 },
    ),
];

pub(super) const GROUP: Group =
    Group { name: "llm_requests", recordings: RECORDINGS, alerts: ALERTS };

const ALERTS: &[Alert] = &[
    Alert {
        id: AlertId::HighErrorRate,
        name: "LLMHighErrorRate",
        severity: Severity::Critical,
        symptom: Symptom::Errors,
        scope: Scope::Model,
        when: When::All(&errors_above(0.05)),
        hold: Hold::M2,
        keep: Keep::M10,
        summary: "{model}: {value} of requests fail (server faults only)",
        impact: "Users get errors instead of answers.",
        first_action: "Split errors by error_type and worker: one worker = drain it; all workers = roll back the last change.",
    },
    Alert {
        id: AlertId::ElevatedErrorRate,
        name: "LLMElevatedErrorRate",
        severity: Severity::Warning,
        symptom: Symptom::Errors,
        scope: Scope::Model,
        when: When::All(&errors_above(0.01)),
        hold: Hold::M5,
        keep: Keep::M5,
        summary: "{model}: {value} of requests fail (server faults only)",
        impact: "Error budget burns; not yet visible to most users.",
        first_action: "Split errors by error_type and worker.",
    },
    Alert {
        id: AlertId::TrafficStopped,
        name: "LLMTrafficStopped",
        severity: Severity::Info,
        symptom: Symptom::Traffic,
        scope: Scope::Model,
        when: When::All(&[
            Cond::zero(ENDED_RATE),
            Cond::above(
                Signal::Server(Server::Earlier {
                    of: ENDED,
                    window: Window::M5,
                    over: Window::H1,
                    ago: Window::M10,
                }),
                Limit::Own(0.1),
            ),
        ]),
        hold: Hold::M5,
        keep: Keep::No,
        summary: "{model}: no request ended in the last 5 minutes, though the hour before had traffic",
        impact: "Either nobody asks, or requests do not reach the engine.",
        first_action: "Check the router; then LLMEngineStalled and in-flight requests.",
    },
];
