//! The official Rust client.

use super::{BOUNDS, MODEL, NAME, ROUND, SERIES, peer};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::{family::Family, histogram::Histogram};
use prometheus_client::registry::Registry;
use stepscope_benches::Subject;

/// The labels of a series.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    model: String,
    engine: String,
}

type Itl = Family<Labels, Histogram, fn() -> Histogram>;

fn labels(engine: usize) -> Labels {
    Labels { model: MODEL.into(), engine: engine.to_string() }
}

fn family(series: usize) -> Itl {
    let family = Itl::new_with_constructor(|| Histogram::new(BOUNDS));
    for engine in 0..series {
        family.get_or_create(&labels(engine)).observe(0.02)
    }
    family
}

pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    let (cached, looked_up, built) = (family(SERIES), family(SERIES), family(SERIES));
    let histogram = cached.get_or_create_owned(&labels(0));
    let known = labels(0);
    vec![
        peer("prometheus-client, cached handle", ROUND, move |gap| histogram.observe(gap)),
        peer("prometheus-client, label lookup", 10_000, move |gap| {
            looked_up.get_or_create(&known).observe(gap)
        }),
        peer("prometheus-client, labels built", 5_000, move |gap| {
            built.get_or_create(&labels(0)).observe(gap)
        }),
    ]
}

/// Encodes so many series as OpenMetrics: the text's size.
pub fn encoder(series: usize) -> impl FnMut() -> usize {
    let mut registry = Registry::default();
    registry.register(NAME, "Time between tokens", family(series));
    let mut page = String::new();
    move || {
        page.clear();
        text::encode(&mut page, &registry).map_or(0, |()| page.len())
    }
}
