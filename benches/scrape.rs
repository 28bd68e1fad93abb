//! One scrape: from what is recorded to the bytes of the page, ours beside what engines use today, and how
//! it grows with the number of series. Writes `target/bench/scrape.json`.
//!
//! A peer's page is one family of histograms with 20 buckets: 23 lines a series. Ours has several families
//! for each class of requests and the library's own; the unit is 23 lines of either. Our figure holds all of
//! a scrape: the drain, the snapshot, the text. Allocations are compared between an early and a late scrape.
//! `cargo bench --bench scrape -- [ROUNDS]`; under `cargo test` one small round runs.
#![allow(missing_docs, unsafe_code)] // A counting allocator.

#[path = "../tests/common/counting.rs"]
mod counting;

#[allow(dead_code, unused_imports)] // Each bench uses its own part.
#[path = "subjects/mod.rs"]
mod subjects;

use serde::Serialize;
use std::time::Instant;
use stepscope::{Class, Clock, Config, ManualClock, Outcome, Shape, Stepscope, Time};
use stepscope_benches::{arguments, is_smoke, median, save};
use subjects::Encoder;

/// Lines of a histogram series with 20 buckets: those, +Inf, sum, count.
const LINES: f64 = 23.0;

#[derive(Serialize)]
struct Row {
    name: String,
    /// Histogram series with 20 buckets, or as many lines of ours.
    series: f64,
    bytes: usize,
    /// A scrape: median of the rounds.
    ms: f64,
    us_per_series: f64,
    /// Calls of the allocator in one scrape, and how many more in the last one.
    allocations: u64,
    growth: i64,
}

struct Page {
    name: String,
    series: f64,
    encode: Encoder,
    bytes: usize,
    ms: Vec<f64>,
    allocations: Vec<u64>,
}

impl Page {
    fn new(name: &str, series: f64, encode: Encoder) -> Page {
        let name = name.to_string();
        Page { name, series, encode, bytes: 0, ms: vec![], allocations: vec![] }
    }

    fn round(&mut self) {
        let (calls, begin) = (counting::calls(), Instant::now());
        self.bytes = (self.encode)();
        self.ms.push(begin.elapsed().as_secs_f64() * 1e3);
        self.allocations.push(counting::calls() - calls)
    }

    fn row(mut self) -> Row {
        // The first scrapes make buffers.
        let early = self.allocations[self.allocations.len() / 2];
        let last = self.allocations.last().copied().unwrap_or(0);
        let ms = median(&mut self.ms);
        Row {
            name: self.name,
            series: self.series,
            bytes: self.bytes,
            ms,
            us_per_series: ms * 1e3 / self.series,
            allocations: last,
            growth: last as i64 - early as i64,
        }
    }
}

/// A scope of so many classes, each with a request behind it, and its page in text 0.0.4.
fn ours(classes: u16) -> Page {
    let clock = Clock::Manual(ManualClock::new(Time::from_nanos(1)));
    let config = Config { listen: None, clock, series_max: classes + 1, ..Config::default() };
    let scope = Stepscope::start(config).expect("the settings are fine");
    let mut rec = scope.recorder("bench");
    for id in 0..u64::from(classes) {
        let class = scope.series(Class::endpoint(format!("endpoint-{id}")));
        let at = |ms: u64| Time::from_nanos(1 + (id * 100 + ms) * 1_000_000);
        let mut req = rec.arrive(class, id, at(0));
        rec.enqueue(&mut req, at(1));
        rec.schedule(&mut req, at(2), 0, 0);
        for token in 0..3 {
            let shape = Shape { decodes: 1, ..Shape::default() };
            let open = rec.begin_step(at(10 + 20 * token), shape);
            let step = rec.end_step(open, at(20 + 20 * token));
            rec.token(&step, &mut req, 1)
        }
        rec.finish(req, at(90), Outcome::Stop);
        scope.advance(at(95))
    }
    let text = String::from_utf8(scope.exposition(None).body).expect("text");
    let lines = text.lines().filter(|line| !line.starts_with('#')).count();
    let encode = Box::new(move || scope.exposition(None).body.len());
    Page::new("stepscope", lines as f64 / LINES, encode)
}

fn main() -> std::io::Result<()> {
    let smoke = is_smoke();
    let rounds =
        if smoke { 2 } else { arguments().first().and_then(|n| n.parse().ok()).unwrap_or(30) };
    let sizes: &[usize] = if smoke { &[10] } else { &[100, 1_000, 10_000] };
    let mut pages: Vec<Page> = vec![];
    for (step, series) in sizes.iter().enumerate() {
        let of = |name: &str, encode: Encoder| Page::new(name, *series as f64, encode);
        // A class has about ten times as many lines as one histogram.
        pages.push(ours([8, 80, 800][step]));
        pages.push(of("prometheus-client", Box::new(subjects::prometheus_client(*series))));
        pages.push(of("prometheus (tikv)", Box::new(subjects::prometheus(*series))));
        // Its limit of series.
        if *series <= 1_999 {
            pages.push(of("OpenTelemetry", Box::new(subjects::opentelemetry(*series))))
        }
    }
    // One recorder for the process, so one size.
    let most = sizes.last().copied().unwrap_or(0).min(1_000);
    pages.push(Page::new("metrics", most as f64, Box::new(subjects::metrics(most))));
    for _ in 0..rounds {
        pages.iter_mut().for_each(Page::round)
    }
    let rows: Vec<Row> = pages.into_iter().map(Page::row).collect();
    println!(
        "{:<20} {:>9} {:>11} {:>9} {:>12} {:>12} {:>7}",
        "a scrape", "series", "bytes", "ms", "us a series", "allocations", "growth"
    );
    for row in &rows {
        println!(
            "{:<20} {:9.0} {:11} {:9.3} {:12.3} {:12} {:7}",
            row.name, row.series, row.bytes, row.ms, row.us_per_series, row.allocations, row.growth
        )
    }
    save("scrape", rounds as f64, &rows)
}
