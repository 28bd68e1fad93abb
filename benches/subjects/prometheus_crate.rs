//! TiKV's Rust client, with and without its local buffering.

use super::{BOUNDS, MODEL, NAME, ROUND, SERIES, peer};
use prometheus::{HistogramOpts, HistogramVec, Registry, TextEncoder};
use stepscope_benches::Subject;

fn family(series: usize) -> HistogramVec {
    let options = HistogramOpts::new(NAME, "Time between tokens").buckets(BOUNDS.to_vec());
    let family = HistogramVec::new(options, &["model", "engine"]).expect("good names");
    for engine in 0..series {
        family.with_label_values(&[MODEL, &engine.to_string()]).observe(0.02)
    }
    family
}

pub(super) fn subjects() -> Vec<Box<dyn Subject>> {
    let family = family(SERIES);
    let cached = family.with_label_values(&[MODEL, "0"]);
    let local = cached.local();
    let mut buffered = 0;
    vec![
        peer("prometheus (tikv), cached handle", ROUND, move |gap| cached.observe(gap)),
        peer("prometheus (tikv), label lookup", 10_000, move |gap| {
            family.with_label_values(&[MODEL, "0"]).observe(gap)
        }),
        peer("prometheus (tikv), local buffer of 64", ROUND, move |gap| {
            local.observe(gap);
            buffered += 1;
            if buffered % 64 == 0 {
                local.flush()
            }
        }),
    ]
}

/// The text of a registry: its size.
pub(super) fn encode(registry: &Registry, page: &mut String) -> usize {
    page.clear();
    TextEncoder::new().encode_utf8(&registry.gather(), page).map_or(0, |()| page.len())
}

/// Encodes so many series: the text's size.
pub fn encoder(series: usize) -> impl FnMut() -> usize {
    let registry = Registry::new();
    registry.register(Box::new(family(series))).expect("the first of its name");
    let mut page = String::new();
    move || encode(&registry, &mut page)
}
