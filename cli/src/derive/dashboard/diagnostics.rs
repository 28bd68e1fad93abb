//! Row 4, detailed diagnostics: which worker, and can the numbers be trusted?

use super::panel::{Panel, View};
use super::query::{Ask, Over};
use super::units;
use stepscope::catalog::alert::AlertId;
use stepscope::catalog::alerts;
use stepscope::catalog::signal::{Series, Window};
use stepscope::catalog::{Id, labels};

const WORKER: &str = "{{worker_id}}";

/// The row, left to right.
pub fn panels(ask: Ask) -> Vec<Panel> {
    [requests(ask), vec![workers(ask)], progress(ask), trust(ask)].into_iter().flatten().collect()
}

fn requests(ask: Ask) -> Vec<Panel> {
    let preemptions = Series::all(Id::Preemptions);
    vec![
        Panel::new("Preemption rate", View::Lines, units::EVENTS)
            .size(12, 8)
            .answers("Are sequences put back because blocks run out? The limits are for the sum over the reasons.")
            .asks(
                ask.rate(preemptions, &["worker_id", "reason"], Over::Panel),
                "{{worker_id}} - {{reason}}",
            )
            .shows(&[Id::Preemptions])
            .limit(AlertId::ElevatedPreemption, 0)
            .limit(AlertId::PreemptionStorm, 0),
        Panel::new(
            "Request duration distribution",
            View::Heat,
            units::of_family(Id::RequestDuration),
        )
        .size(12, 8)
        .answers("How long do whole requests take?")
        .asks(ask.heat(Id::RequestDuration), "{{le}}")
        .exemplars(),
    ]
}

fn workers(ask: Ask) -> Panel {
    let each: &[&str] = &["worker_id", "model"];
    let recent = Over::Fixed(Window::M5);
    let kv = Series::all(Id::KvUtilization).only("pool", &[labels::DEFAULT_POOL]);
    Panel::new("Per worker", View::Table, units::PLAIN)
        .size(24, 9)
        .answers("Which one is the odd one out?")
        .column(ask.quantile(0.99, Id::Ttft, each, recent), "p99 TTFT", units::of_family(Id::Ttft))
        .column(ask.quantile(0.99, Id::Tbt, each, recent), "p99 TBT", units::of_family(Id::Tbt))
        .column(ask.rate(Series::all(Id::GeneratedTokens), each, recent), "tokens", units::TOKENS)
        .column(ask.fold("max", kv, each), "KV cache", units::of_family(Id::KvUtilization))
        .column(
            ask.fold("sum", Series::all(Id::QueueDepth), each),
            "queue",
            units::of_family(Id::QueueDepth),
        )
}

fn progress(ask: Ask) -> Vec<Panel> {
    let loss = AlertId::InstrumentationLoss;
    let of_loss = units::of_quantity(alerts::alert(loss).conds()[0].signal.quantity());
    vec![
        Panel::new("Age of the last GPU step", View::Lines, units::of_family(Id::LastStepAge))
            .answers("Stalled, or idle? With requests in flight it must stay small.")
            .asks(ask.fold("max", Series::all(Id::LastStepAge), &["worker_id"]), WORKER)
            .shows(&[Id::LastStepAge])
            .limit(AlertId::EngineStalled, 0),
        Panel::new("Recomputed tokens", View::Lines, units::TOKENS)
            .answers("What do preemptions cost?")
            .asks(
                ask.rate(Series::all(Id::RecomputedTokens), &["worker_id"], Over::Panel),
                WORKER,
            ),
        Panel::new("Telemetry loss share", View::Lines, of_loss)
            .answers("Is the instrument sound? Lost samples make quantiles too low; counters stay exact.")
            .asks(ask.share_of(loss, &["worker_id"], Over::Panel), WORKER)
            .shows(&[Id::AggregatorLag])
            .limit(loss, 0)
            .leads_to(&[AlertId::TelemetryFrozen]),
    ]
}

fn trust(ask: Ask) -> Vec<Panel> {
    let up = ask.target("up");
    let of = |name: &str| format!("max by (instance) ({})", ask.target(name));
    vec![
        Panel::new("Targets up", View::Lines, units::PLAIN)
            .answers("Does every worker answer its scrape?")
            .asks(format!("sum({up})"), "up")
            .asks(format!("count({up})"), "known")
            .leads_to(&[
                AlertId::TargetsAbsent,
                AlertId::FleetDegraded,
                AlertId::WorkerDown,
                AlertId::MetricsAbsent,
            ]),
        Panel::new("Scrape duration", View::Lines, "s")
            .answers("Near its timeout a worker will look dead.")
            .asks(of("scrape_duration_seconds"), "{{instance}}")
            .limit(AlertId::ScrapeSlow, 0),
        Panel::new("Samples per scrape", View::Lines, "short")
            .answers("Do labels grow?")
            .asks(of("scrape_samples_scraped"), "{{instance}}")
            .leads_to(&[AlertId::LabelOverflow]),
    ]
}
