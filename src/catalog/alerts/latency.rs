//! Alerts on what users wait for: first tokens and the gaps between tokens.
//!
//! "p99 above a limit" is a count: more than one sample in a hundred lies above the limit, which is a
//! bucket bound. That equals the quantile, without interpolation, and its value explains itself.

use super::Group;
use crate::catalog::Id;
use crate::catalog::alert::{Alert, AlertId, Hold, Keep, Scope, Severity, Symptom, When};
use crate::catalog::recording::Recording;
use crate::catalog::signal::{Cond, Limit, Signal, Window};

/// The p99: one in a hundred may be slower.
const SLOW_SHARE: Limit = Limit::Guard(0.01);
/// Fewer bad events say nothing. It counts bad ones, not traffic: a small service in which every
/// request is slow must be heard.
pub(super) const BAD_EVENTS_MIN: Limit = Limit::Guard(5.0);

const fn slow(histogram: Id, bound: Limit, window: Window) -> Signal {
    Signal::Slow { histogram, bound, window }
}

const fn slow_count(histogram: Id, bound: Limit) -> Signal {
    Signal::SlowCount { histogram, bound, window: Window::M5 }
}

/// Evidence over five minutes, and still so in the last one.
const fn p99_above(histogram: Id, bound: Limit) -> [Cond; 3] {
    [
        Cond::above(slow(histogram, bound, Window::M5), SLOW_SHARE),
        Cond::above(slow(histogram, bound, Window::M1), SLOW_SHARE),
        Cond::at_least(slow_count(histogram, bound), BAD_EVENTS_MIN),
    ]
}

const fn stored(histogram: Id) -> [Recording; 10] {
    let (warning, critical) = (Limit::Warning(histogram), Limit::Critical(histogram));
    [
        Recording::buckets(Scope::Model, histogram, Window::M1),
        Recording::buckets(Scope::Model, histogram, Window::M5),
        Recording::buckets(Scope::Worker, histogram, Window::M5),
        Recording::buckets(Scope::Fleet, histogram, Window::M5),
        Recording::of(Scope::Model, slow(histogram, warning, Window::M1)),
        Recording::of(Scope::Model, slow(histogram, warning, Window::M5)),
        Recording::of(Scope::Model, slow_count(histogram, warning)),
        Recording::of(Scope::Model, slow(histogram, critical, Window::M1)),
        Recording::of(Scope::Model, slow(histogram, critical, Window::M5)),
        Recording::of(Scope::Model, slow_count(histogram, critical)),
    ]
}

const RECORDINGS: [Recording; 20] = {
    let (ttft, tbt) = (stored(Id::Ttft), stored(Id::Tbt));
    let mut all = [ttft[0]; 20];
    let mut i = 0;
    while i < ttft.len() {
        all[i] = ttft[i];
        all[ttft.len() + i] = tbt[i];
        i += 1;
    }
    all
};

pub(super) const GROUP: Group =
    Group { name: "llm_latency", recordings: &RECORDINGS, alerts: ALERTS };

const ALERTS: &[Alert] = &[
    Alert {
        id: AlertId::HighTtft,
        name: "LLMHighTTFT",
        severity: Severity::Critical,
        symptom: Symptom::Ttft,
        scope: Scope::Model,
        when: When::All(&p99_above(Id::Ttft, Limit::Critical(Id::Ttft))),
        hold: Hold::M2,
        keep: Keep::M10,
        summary: "{model}: {value} of requests wait over {bound} for their first token (p99 TTFT > {bound})",
        impact: "Users stare at an empty answer; clients start to time out and retry.",
        first_action: "Open KV cache utilisation and waiting-by-reason of this model first; do not touch the batch size yet.",
    },
    Alert {
        id: AlertId::ElevatedTtft,
        name: "LLMElevatedTTFT",
        severity: Severity::Warning,
        symptom: Symptom::Ttft,
        scope: Scope::Model,
        when: When::All(&p99_above(Id::Ttft, Limit::Warning(Id::Ttft))),
        hold: Hold::M10,
        keep: Keep::M5,
        summary: "{model}: {value} of requests wait over {bound} for their first token (p99 TTFT > {bound})",
        impact: "First answers are sluggish; next step is LLMHighTTFT.",
        first_action: "Compare queue time with prefill time: the larger one is the cause.",
    },
    Alert {
        id: AlertId::HighTbt,
        name: "LLMHighTBT",
        severity: Severity::Critical,
        symptom: Symptom::Tbt,
        scope: Scope::Model,
        when: When::All(&p99_above(Id::Tbt, Limit::Critical(Id::Tbt))),
        hold: Hold::M2,
        keep: Keep::M10,
        summary: "{model}: {value} of token gaps exceed {bound} (p99 TBT > {bound})",
        impact: "Streams visibly stutter.",
        first_action: "Read GPU decode step p99: if it is also high the GPU is slow (batch, clocks); if not, look for prefills in the same step, preemptions and host gaps.",
    },
    Alert {
        id: AlertId::ElevatedTbt,
        name: "LLMElevatedTBT",
        severity: Severity::Warning,
        symptom: Symptom::Tbt,
        scope: Scope::Model,
        when: When::All(&p99_above(Id::Tbt, Limit::Warning(Id::Tbt))),
        hold: Hold::M10,
        keep: Keep::M5,
        summary: "{model}: {value} of token gaps exceed {bound} (p99 TBT > {bound})",
        impact: "Streams are slower than reading speed for the slowest percent.",
        first_action: "Check the batch size trend and mixed steps before anything else.",
    },
];
