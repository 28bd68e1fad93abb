//! OpenTelemetry's SDK with its Prometheus exporter.

use super::{BOUNDS, MODEL, NAME, SERIES, peer, prometheus_crate};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, MeterProvider};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::Registry;
use stepscope_benches::Subject;

fn labels(engine: usize) -> [KeyValue; 2] {
    [KeyValue::new("model", MODEL), KeyValue::new("engine", engine.to_string())]
}

fn instrument(series: usize) -> (SdkMeterProvider, Registry, Histogram<f64>) {
    let registry = Registry::new();
    let reader = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader.expect("a registry")).build();
    let meter = provider.meter("engine");
    let histogram = meter.f64_histogram(NAME).with_boundaries(BOUNDS.to_vec()).build();
    for engine in 0..series {
        histogram.record(0.02, &labels(engine))
    }
    (provider, registry, histogram)
}

pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    let (provider, _, histogram) = instrument(SERIES);
    vec![peer("OpenTelemetry, attributes built", 5_000, move |gap| {
        let _alive = &provider;
        let labels = [KeyValue::new("model", MODEL), KeyValue::new("engine", "0")];
        histogram.record(gap, &labels)
    })]
}

/// Encodes so many series (its limit is 2,000): the text's size.
pub fn encoder(series: usize) -> impl FnMut() -> usize {
    let (provider, registry, _) = instrument(series);
    let mut page = String::new();
    move || {
        let _alive = &provider;
        prometheus_crate::encode(&registry, &mut page)
    }
}
