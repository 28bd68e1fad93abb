//! The `vllm:` families, for what scrapes them by name: endpoint pickers, autoscaling recipes,
//! public boards. Off by default.
//!
//! Meaning follows vLLM where it differs from ours: prompt tokens include cached ones, successful
//! requests are those that stopped, reached their length or were aborted, running sequences stand
//! for the batch. vLLM has one series per engine; ours are folded over all classes.

use super::family::Exposed;
use crate::catalog::{self, Id, Kind, Unit};
use crate::config::Config;
use crate::snapshot::{Labels, Sampled, Snapshot, Value};
use std::sync::Arc;

/// How an alias is made from the snapshot.
enum Of {
    /// The histogram family, all its series in one.
    Histogram(Id),
    /// The same over requests that vLLM calls finished.
    FinishedHistogram(Id),
    /// The sum over the series of a family whose label has one of these values.
    Sum(Id, &'static str, &'static [&'static str]),
    /// The sum over all series of a family.
    All(Id),
    /// Share of the attention pool's blocks that is referenced.
    KvUsage,
    /// `vllm:cache_config_info`
    CacheConfig,
    /// One series per finished reason.
    Finished,
}

struct Alias {
    name: &'static str,
    kind: Kind,
    of: Of,
}

const fn counter(name: &'static str, of: Of) -> Alias {
    Alias { name, kind: Kind::Counter, of }
}

const fn gauge(name: &'static str, of: Of) -> Alias {
    Alias { name, kind: Kind::Gauge, of }
}

const fn histogram(name: &'static str, id: Id, grid: catalog::grid::Grid) -> Alias {
    Alias { name, kind: Kind::Histogram(grid), of: Of::Histogram(id) }
}

/// What vLLM calls finished: our status, its reason.
const FINISHED: &[(&str, &str)] = &[("stop", "stop"), ("length", "length"), ("aborted", "abort")];

const ALIASES: &[Alias] = {
    use catalog::grid::{REQUEST, TOKENS};
    &[
        gauge("vllm:num_requests_running", Of::All(Id::RequestsRunning)),
        gauge("vllm:num_requests_waiting", Of::All(Id::QueueDepth)),
        gauge("vllm:kv_cache_usage_perc", Of::KvUsage),
        gauge("vllm:cache_config_info", Of::CacheConfig),
        histogram("vllm:time_to_first_token_seconds", Id::Ttft, REQUEST),
        histogram("vllm:inter_token_latency_seconds", Id::Tbt, REQUEST),
        histogram("vllm:request_time_per_output_token_seconds", Id::Tpot, REQUEST),
        histogram("vllm:request_queue_time_seconds", Id::Queue, REQUEST),
        histogram("vllm:request_prefill_time_seconds", Id::Prefill, REQUEST),
        histogram("vllm:request_decode_time_seconds", Id::Decode, REQUEST),
        Alias {
            name: "vllm:e2e_request_latency_seconds",
            kind: Kind::Histogram(catalog::grid::DURATION),
            of: Of::FinishedHistogram(Id::RequestDuration),
        },
        histogram("vllm:request_prompt_tokens", Id::RequestPromptTokens, TOKENS),
        histogram("vllm:request_generation_tokens", Id::RequestGeneratedTokens, TOKENS),
        counter("vllm:prompt_tokens_total", Of::All(Id::PromptTokens)),
        counter("vllm:generation_tokens_total", Of::All(Id::GeneratedTokens)),
        counter("vllm:prefix_cache_queries_total", Of::All(Id::PromptTokens)),
        counter("vllm:prefix_cache_hits_total", Of::Sum(Id::PromptTokens, "source", &["cached"])),
        counter("vllm:num_preemptions_total", Of::All(Id::Preemptions)),
        counter("vllm:request_success_total", Of::Finished),
    ]
};

/// An alias family with its own series.
pub(crate) struct Aliased {
    alias: &'static Alias,
    series: Vec<Sampled>,
}

impl Aliased {
    pub(crate) fn exposed(&self) -> Exposed<'_> {
        Exposed {
            name: self.alias.name,
            kind: self.alias.kind,
            unit: unit(&self.alias.of),
            help: "Alias of a stepscope family with vLLM's name and meaning.",
            series: &self.series,
        }
    }
}

fn unit(of: &Of) -> Unit {
    match of {
        Of::Histogram(id) | Of::FinishedHistogram(id) => catalog::row(*id).unit,
        _ => Unit::Count,
    }
}

/// Every alias that has data.
pub(crate) fn aliases(snapshot: &Snapshot, config: &Config) -> Vec<Aliased> {
    let identity: Vec<(&'static str, Arc<str>)> = {
        // Cleaned when the scope started; the info family always carries it.
        let info = snapshot.family(Id::WorkerInfo).and_then(|family| family.series.first());
        let model = info.and_then(|s| s.labels.get("model")).unwrap_or(&config.model);
        vec![("model_name", model.into()), ("engine", "0".into())]
    };
    ALIASES
        .iter()
        .filter_map(|alias| {
            let series = series(alias, snapshot, config, &identity);
            (!series.is_empty()).then_some(Aliased { alias, series })
        })
        .collect()
}

fn series(
    alias: &Alias,
    snapshot: &Snapshot,
    config: &Config,
    identity: &[(&'static str, Arc<str>)],
) -> Vec<Sampled> {
    let sampled = |more: &[(&'static str, String)], value: Value| {
        let mut pairs = identity.to_vec();
        pairs.extend(more.iter().map(|(name, value)| (*name, value.as_str().into())));
        Sampled { labels: Arc::new(Labels::new(pairs)), value }
    };
    let count = |x: f64| Value::Int(x as u64);
    let fed = |id: Id| snapshot.family(id).is_some();
    let in_pool = |l: &Labels| l.get("pool") == Some(catalog::labels::DEFAULT_POOL);
    let blocks = || snapshot.sum(Id::KvBlocks, in_pool);
    match &alias.of {
        Of::Histogram(id) => {
            let merged = snapshot.merged(*id, |_| true);
            merged.map(|h| sampled(&[], Value::Histogram(h))).into_iter().collect()
        }
        Of::FinishedHistogram(id) => {
            let finished =
                |l: &Labels| FINISHED.iter().any(|(status, _)| l.get("status") == Some(status));
            let merged = snapshot.merged(*id, finished);
            merged.map(|h| sampled(&[], Value::Histogram(h))).into_iter().collect()
        }
        Of::All(id) if fed(*id) => vec![sampled(&[], count(snapshot.sum(*id, |_| true)))],
        Of::Sum(id, label, values) if fed(*id) => {
            let select = |l: &Labels| l.get(label).is_some_and(|v| values.contains(&v));
            vec![sampled(&[], count(snapshot.sum(*id, select)))]
        }
        Of::KvUsage if blocks() > 0.0 => {
            let referenced = |l: &Labels| in_pool(l) && l.get("state") == Some("referenced");
            let share = snapshot.sum(Id::KvBlocks, referenced) / blocks();
            vec![sampled(&[], Value::Float(share))]
        }
        Of::CacheConfig if blocks() > 0.0 => {
            let Some(tokens) = config.kv_block_tokens else { return vec![] };
            let labels =
                [("block_size", tokens.to_string()), ("num_gpu_blocks", blocks().to_string())];
            vec![sampled(&labels, Value::Int(1))]
        }
        Of::Finished => FINISHED
            .iter()
            .map(|(status, reason)| {
                let n = snapshot.sum(Id::Requests, |l| l.get("status") == Some(status));
                sampled(&[("finished_reason", (*reason).into())], count(n))
            })
            .collect(),
        Of::All(_) | Of::Sum(..) | Of::KvUsage | Of::CacheConfig => vec![],
    }
}
