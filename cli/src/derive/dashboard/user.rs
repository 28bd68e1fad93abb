//! Row 1, user experience: do users suffer, and in which way?

use super::panel::{Panel, View};
use super::query::{Ask, Over};
use super::units;
use stepscope::catalog::Id;
use stepscope::catalog::alert::{AlertId, SERVICE, Severity};
use stepscope::catalog::signal::{Series, Window};

/// The quantiles that people know.
const QUANTILES: [(f64, &str); 3] = [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")];

/// The row, left to right.
pub fn panels(ask: Ask) -> Vec<Panel> {
    [glance(ask), shapes(ask)].into_iter().flatten().collect()
}

/// How many alerts of this severity fire; 0 where none does.
fn firing(severity: Severity) -> String {
    let severity = severity.text();
    format!(
        "count(ALERTS{{alertstate=\"firing\",severity=\"{severity}\",service=\"{SERVICE}\"}}) or vector(0)"
    )
}

fn glance(ask: Ask) -> Vec<Panel> {
    vec![
        Panel::new("Firing pages", View::Stat, units::PLAIN)
            .size(3, 4)
            .answers("Is it known, and is somebody woken?")
            .asks(firing(Severity::Critical), "critical")
            .step(1.0, Severity::Critical)
            .leads_to(&[AlertId::Watchdog]),
        Panel::new("Firing warnings", View::Stat, units::PLAIN)
            .size(3, 4)
            .answers("What should be read today?")
            .asks(firing(Severity::Warning), "warning")
            .step(1.0, Severity::Warning),
        Panel::new("SLO burn, 1 h", View::Stat, units::PLAIN)
            .size(6, 4)
            .answers("How many times faster than allowed is a month's budget of bad requests used up? At 1 it lasts exactly the month.")
            .asks(
                format!("max by (objective) ({})", ask.recorded(AlertId::SloFastBurn, 0)),
                "{{objective}}",
            )
            .shows(&[Id::SloEvents])
            .step(1.0, Severity::Warning)
            .limit(AlertId::SloFastBurn, 0)
            .leads_to(&[AlertId::SloSlowBurn]),
        Panel::new("Error share, 5 m", View::Stat, "percentunit")
            .size(4, 4)
            .answers("Which part of the ended requests failed by a fault of the server?")
            .asks(
                ask.share_of(AlertId::HighErrorRate, &[], Over::Fixed(Window::M5)),
                "server faults",
            )
            .shows(&[Id::Errors])
            .limit(AlertId::ElevatedErrorRate, 0)
            .limit(AlertId::HighErrorRate, 0),
        Panel::new("Generation throughput", View::Stat, units::TOKENS)
            .size(4, 4)
            .answers("How much is produced?")
            .asks(ask.rate(Series::all(Id::GeneratedTokens), &[], Over::Panel), "tokens"),
        Panel::new("Requests per second", View::Stat, units::REQUESTS)
            .size(4, 4)
            .answers("Has traffic gone?")
            .asks(ask.rate(Series::all(Id::Requests), &[], Over::Panel), "ended")
            .leads_to(&[AlertId::TrafficStopped]),
    ]
}

fn quantiles(ask: Ask, of: Id, mut panel: Panel) -> Panel {
    for (q, legend) in QUANTILES {
        panel = panel.asks(ask.quantile(q, of, &[], Over::Panel), legend)
    }
    panel.exemplars()
}

fn shapes(ask: Ask) -> Vec<Panel> {
    let ttft = Panel::new("Time to first token (TTFT)", View::Lines, units::of_family(Id::Ttft))
        .answers("How long does an answer take to begin? A stalled worker has no sample here: look at the age of its last step.")
        .shows(&[Id::Ttft])
        .limit(AlertId::ElevatedTtft, 0)
        .limit(AlertId::HighTtft, 0);
    let tbt = Panel::new("Time between tokens (TBT)", View::Lines, units::of_family(Id::Tbt))
        .answers("Do streams stutter?")
        .shows(&[Id::Tbt])
        .limit(AlertId::ElevatedTbt, 0)
        .limit(AlertId::HighTbt, 0);
    vec![
        quantiles(ask, Id::Ttft, ttft),
        quantiles(ask, Id::Tbt, tbt),
        Panel::new("Requests by outcome", View::Stacked, units::REQUESTS)
            .answers("How do requests end?")
            .asks(ask.rate(Series::all(Id::Requests), &["status"], Over::Panel), "{{status}}"),
        Panel::new("TTFT distribution", View::Heat, units::of_family(Id::Ttft))
            .size(12, 8)
            .answers("Two populations, or one with a slow tail?")
            .asks(ask.heat(Id::Ttft), "{{le}}")
            .exemplars(),
        Panel::new("Errors by type", View::Lines, units::REQUESTS)
            .size(6, 8)
            .answers("What do requests die of? The type input is the caller's own fault and never alerts.")
            .asks(ask.rate(Series::all(Id::Errors), &["error_type"], Over::Panel), "{{error_type}}"),
        Panel::new("Where TTFT goes (means)", View::Lines, units::of_family(Id::Ttft))
            .size(6, 8)
            .answers("Queue, or prefill? What lies between the two lines is mostly prefill.")
            .asks(ask.mean(Id::Ttft, Over::Panel), "TTFT")
            .asks(ask.mean(Id::Queue, Over::Panel), "of it: queue"),
    ]
}
