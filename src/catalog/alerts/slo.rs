//! Alerts on promises: how fast the month's budget of bad events is used up.

use super::Group;
use crate::catalog::alert::{Alert, AlertId, Hold, Keep, Scope, Severity, Symptom, When};
use crate::catalog::recording::{Called, Recording};
use crate::catalog::signal::{Cond, Limit, Server, Signal, Window};

/// Fewer bad events say nothing about a month.
const BAD_EVENTS_MIN: Limit = Limit::Guard(10.0);

const fn burn(window: Window) -> Signal {
    Signal::Server(Server::SloBurn { window })
}

/// Over the long window, and still so over the short one.
const fn burns(long: Window, short: Window, factor: f64) -> [Cond; 3] {
    [
        Cond::above(burn(long), Limit::Own(factor)),
        Cond::above(burn(short), Limit::Own(factor)),
        Cond::at_least(Signal::Server(Server::SloBadCount { window: long }), BAD_EVENTS_MIN),
    ]
}

const fn stored(server: Server) -> Recording {
    let word = match server {
        Server::SloBurn { .. } => "llm_slo_burn",
        _ => "llm_slo_bad",
    };
    Recording::of(Scope::Model, Signal::Server(server)).called(Called::Word(word))
}

const RECORDINGS: &[Recording] = &[
    stored(Server::SloBad { window: Window::M5 }),
    stored(Server::SloBurn { window: Window::M5 }),
    stored(Server::SloBad { window: Window::M30 }),
    stored(Server::SloBurn { window: Window::M30 }),
    stored(Server::SloBad { window: Window::H1 }),
    stored(Server::SloBurn { window: Window::H1 }),
    stored(Server::SloBad { window: Window::H6 }),
    stored(Server::SloBurn { window: Window::H6 }),
    stored(Server::SloBadCount { window: Window::H1 }),
    stored(Server::SloBadCount { window: Window::H6 }),
];

pub(super) const GROUP: Group = Group { name: "llm_slo", recordings: RECORDINGS, alerts: ALERTS };

const ALERTS: &[Alert] = &[
    Alert {
        id: AlertId::SloFastBurn,
        name: "LLMSLOFastBurn",
        severity: Severity::Critical,
        symptom: Symptom::Slo,
        scope: Scope::Model,
        // 14.4 uses 2 % of a budget of 30 days in one hour: 0.02 * 720 h.
        when: When::All(&burns(Window::H1, Window::M5, 14.4)),
        hold: Hold::M2,
        keep: Keep::M10,
        summary: "{model}: the budget of the {objective} objective is used up {value} times too fast",
        impact: "At this pace the monthly budget is gone in two days or less.",
        first_action: "Go to the symptom alert of the same model (TTFT, TBT or errors); the SLO alert only says how bad it is.",
    },
    Alert {
        id: AlertId::SloSlowBurn,
        name: "LLMSLOSlowBurn",
        severity: Severity::Warning,
        symptom: Symptom::Slo,
        scope: Scope::Model,
        when: When::All(&burns(Window::H6, Window::M30, 6.0)),
        hold: Hold::M15,
        keep: Keep::M5,
        summary: "{model}: the budget of the {objective} objective is used up {value} times too fast over 6 h",
        impact: "At this pace the monthly budget is gone in five days or less.",
        first_action: "Find what changed in the last six hours: traffic mix, release, a degraded worker.",
    },
];
