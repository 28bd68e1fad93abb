//! The `metrics` facade with its Prometheus exporter. It defers: samples are binned by an upkeep that must
//! come by, and that is not timed here.

use super::{BOUNDS, MODEL, NAME, Peer, SERIES, peer};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;
use stepscope_benches::Subject;

/// The facade has one recorder for the process.
fn handle() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new().set_buckets(&BOUNDS).expect("there are buckets");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).expect("the first of this process");
        handle
    })
}

fn histogram(engine: usize) -> metrics::Histogram {
    metrics::histogram!(NAME, "model" => MODEL, "engine" => engine.to_string())
}

fn fill(series: usize) {
    for engine in 0..series {
        histogram(engine).record(0.02)
    }
    handle().run_upkeep()
}

pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    handle();
    fill(SERIES);
    let cached = histogram(0);
    let engine = "0".to_string();
    let now_and_then = || handle().run_upkeep();
    let record = move |gap| cached.record(gap);
    vec![
        Box::new(Peer { name: "metrics, cached handle", round: 10_000, record, now_and_then }),
        peer("metrics, macro", 4_000, move |gap| {
            metrics::histogram!(NAME, "model" => MODEL, "engine" => engine.clone()).record(gap)
        }),
    ]
}

/// Encodes so many series: the text's size. Series of the process stay.
pub fn encoder(series: usize) -> impl FnMut() -> usize {
    handle();
    fill(series);
    || handle().render().len()
}
