//! Row 3, KV cache and scheduling: is it capacity?

use super::panel::{Panel, View};
use super::query::{Ask, Over};
use super::units;
use stepscope::catalog::alert::AlertId;
use stepscope::catalog::signal::Series;
use stepscope::catalog::{Id, labels};

const WORKER: &str = "{{worker_id}}";

/// The row, left to right.
pub fn panels(ask: Ask) -> Vec<Panel> {
    [levels(ask), causes(ask), waits(ask)].into_iter().flatten().collect()
}

fn levels(ask: Ask) -> Vec<Panel> {
    // State pools of hybrid models are always full and belong to no limit.
    let kv = Series::all(Id::KvUtilization).only("pool", &[labels::DEFAULT_POOL]);
    vec![
        Panel::new("KV cache utilisation", View::Lines, units::of_family(Id::KvUtilization))
            .answers("Look here first when TTFT is high.")
            .asks(ask.now(kv), WORKER)
            .shows(&[Id::KvUtilization])
            .limit(AlertId::KvCacheElevated, 0)
            .limit(AlertId::KvCachePressure, 0)
            .whole(),
        Panel::new("Queue depth", View::Lines, units::of_family(Id::QueueDepth))
            .answers("Does one worker wait, or do all?")
            .asks(ask.fold("sum", Series::all(Id::QueueDepth), &["worker_id"]), WORKER)
            .shows(&[Id::QueueDepth])
            .limit(AlertId::QueueBuildup, 0)
            .limit(AlertId::QueueOverload, 0),
        Panel::new("Batch size", View::Lines, units::of_family(Id::BatchSize))
            .answers("How many sequences share a step? Fewer make each step shorter and the queue longer.")
            .asks(ask.now(Series::all(Id::BatchSize)), WORKER),
    ]
}

fn causes(ask: Ask) -> Vec<Panel> {
    vec![
        Panel::new("KV blocks by state", View::Stacked, units::of_family(Id::KvBlocks))
            .answers("A leak, or a cache? Referenced blocks that stay when requests go are a leak; cached ones are free.")
            .asks(ask.fold("sum", Series::all(Id::KvBlocks), &["state"]), "{{state}}"),
        Panel::new("Waiting by reason", View::Stacked, units::of_family(Id::QueueDepth))
            .answers("Is it capacity, or something else?")
            .asks(ask.fold("sum", Series::all(Id::QueueDepth), &["reason"]), "{{reason}}"),
        Panel::new("Queue drain time", View::Lines, "s")
            .answers("How long will a new request wait, at the pace at which requests end?")
            .asks(ask.recorded(AlertId::QueueBuildup, 1), WORKER)
            .limit(AlertId::QueueBuildup, 1)
            .limit(AlertId::QueueOverload, 1),
    ]
}

fn waits(ask: Ask) -> Vec<Panel> {
    let queue = |q| ask.quantile(q, Id::Queue, &[], Over::Panel);
    let prompts = Series::all(Id::PromptTokens);
    let cached = prompts.only("source", &["cached"]);
    vec![
        Panel::new("Queue time", View::Lines, units::of_family(Id::Queue))
            .answers("How long did requests wait before they were admitted?")
            .asks(queue(0.5), "p50")
            .asks(queue(0.99), "p99")
            .exemplars(),
        Panel::new("Prefix-cache share of prompt tokens", View::Lines, "percentunit")
            .answers(
                "How much of the prompts need not be computed? A fall makes every prefill longer.",
            )
            .asks(ask.share(cached, &[prompts], &[], Over::Panel), "cached")
            .whole(),
        Panel::new("Requests in flight", View::Lines, units::of_family(Id::RequestsInFlight))
            .answers("How much is each worker holding?")
            .asks(ask.fold("sum", Series::all(Id::RequestsInFlight), &["worker_id"]), WORKER),
    ]
}
