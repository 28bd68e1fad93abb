//! `kubernetes/endpoint-picker.yml`: how a picker of endpoints reads an engine's load.

use crate::derive::site::Site;
use crate::derive::yaml;
use serde_json::json;
use stepscope::catalog::{self, Id, System};

const NOTE: &str = "\
A part of the endpoint picker's own configuration (EndpointPickerConfig of the Gateway API inference
extension and of llm-d), not an object of the cluster: merge it into yours. Earlier releases call the extractor
model-server-protocol-metrics. A picker in front of several kinds of engines tells them apart by the pod label
llm-d.ai/engine-type. Pickers take one series per name, and ours are split by priority, reason and
pool: therefore the folded aliases. Turn vllm_aliases on in the engine, and set kv_block_tokens for the size of
its cache. Most releases scrape the port of the pool: mount Stepscope::router() in the engine's own server.";

/// What the engines are called in the picker's configuration.
const ENGINE: &str = "stepscope";
/// What scrapes, and what reads the answer. Without names of their own: a picker that finds no source
/// of this name adds its default ones, which know other engines only.
const SOURCE: &str = "metrics-data-source";
const EXTRACTOR: &str = "core-metrics-extractor";
/// Block size and number of blocks, in the labels of a constant.
const CACHE_CONFIG: &str = "vllm:cache_config_info";

/// vLLM's name of what a family means too.
fn alias(id: Id) -> &'static str {
    let aliases = catalog::row(id).aliases;
    let same = aliases.iter().find(|alias| alias.system == System::Vllm && alias.same);
    same.map_or("", |alias| alias.name)
}

/// The file.
pub fn text(_: &Site) -> String {
    let engine = json!({
        "name": ENGINE,
        "queuedRequestsSpec": alias(Id::QueueDepth),
        "runningRequestsSpec": alias(Id::RequestsRunning),
        "kvUsageSpec": alias(Id::KvUtilization),
        "cacheInfoSpec": CACHE_CONFIG,
        "loraSpec": "",
    });
    let picker = json!({
        "plugins": [
            {"type": SOURCE, "parameters": {"scheme": "http", "path": "/metrics"}},
            {
                "type": EXTRACTOR,
                "parameters": {"defaultEngine": ENGINE, "engineConfigs": [engine]},
            },
        ],
        "dataLayer": {"sources": [{
            "pluginRef": SOURCE,
            "extractors": [{"pluginRef": EXTRACTOR}],
        }]},
    });
    yaml::document(NOTE, &picker)
}
