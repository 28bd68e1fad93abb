//! `scale.md`: how many series and samples a fleet makes, counted from the catalog.

use super::GENERATED;
use super::site::Site;
use std::fmt::Write;
use stepscope::catalog::alert::Scope;
use stepscope::catalog::alerts;
use stepscope::catalog::objective::OBJECTIVES;
use stepscope::catalog::recording::{Recorded, Recording};
use stepscope::catalog::signal::{Server, Signal};
use stepscope::catalog::{By, Kind, ROWS, Row, Tier};

/// What multiplies the series of one worker.
#[derive(Clone, Copy)]
struct Shape {
    gpus: usize,
    endpoints: usize,
    priorities: usize,
    pools: usize,
}

/// One GPU, one endpoint, no priorities: the least there is.
const LEAST: Shape = Shape { gpus: 1, endpoints: 1, priorities: 1, pools: 1 };
/// One GPU as a service has it.
const ONE: Shape = Shape { endpoints: 3, priorities: 2, ..LEAST };
/// A node of eight.
const EIGHT: Shape = Shape { gpus: 8, ..ONE };

/// Families whose label values may be folded, each with a count of its own.
const FOLDABLE: usize = 6;
/// What Prometheus itself stores of each target: `up` and four about the scrape.
const PER_TARGET: usize = 5;
/// Bytes on disk of one sample: Prometheus' own documentation says one to two.
const BYTES_PER_SAMPLE: f64 = 1.5;
/// Memory of one active series: a rule of thumb, measure yours.
const KIB_PER_SERIES: usize = 4;
/// Active series that one Prometheus holds with room to spare.
const SERIES_PER_SERVER: usize = 2_000_000;

/// A number of workers.
struct Fleet {
    name: &'static str,
    workers: usize,
    models: usize,
    shape: Shape,
}

const FLEETS: [Fleet; 4] = [
    Fleet { name: "64 GPUs, 8 workers of 8", workers: 8, models: 1, shape: EIGHT },
    Fleet { name: "64 GPUs, 64 workers of 1", workers: 64, models: 4, shape: ONE },
    Fleet { name: "10,000 GPUs, 1,250 workers of 8", workers: 1_250, models: 20, shape: EIGHT },
    Fleet { name: "10,000 GPUs, 10,000 workers of 1", workers: 10_000, models: 200, shape: ONE },
];

impl Shape {
    fn open(self, by: By) -> usize {
        match by {
            By::Process | By::Worker => 1,
            By::Class => self.endpoints * self.priorities,
            By::Endpoint => self.endpoints,
            By::Priority => self.priorities,
            By::Device | By::Gpu => self.gpus,
            By::GpuPool => self.gpus * self.pools,
            By::Pool => self.pools,
            By::Metric => FOLDABLE,
        }
    }

    /// Series of a family that everything feeds.
    fn of(self, row: &Row) -> usize {
        let one = match row.kind {
            // Its buckets, the one without end, sum and count.
            Kind::Histogram(grid) => grid.len() + 3,
            _ => 1,
        };
        self.open(row.by) * row.split_len() * one
    }

    fn all(self) -> usize {
        ROWS.iter().map(|row| self.of(row)).sum()
    }
}

impl Fleet {
    fn exported(&self) -> usize {
        self.workers * (self.shape.all() + PER_TARGET)
    }

    /// Series that the rules store, at the levels that this asks for.
    fn recorded(&self, takes: impl Fn(Scope) -> bool) -> usize {
        let of = |recording: &Recording| {
            let things = match recording.scope {
                Scope::Fleet => 1,
                Scope::Model => self.models,
                Scope::Worker => self.workers,
                Scope::Gpu => self.workers * self.shape.gpus,
            };
            things * per_thing(recording)
        };
        alerts::recordings().filter(|r| takes(r.scope)).map(of).sum()
    }

    fn series(&self) -> usize {
        self.exported() + self.recorded(|_| true)
    }
}

/// Series of a recording per model, worker or GPU.
fn per_thing(recording: &Recording) -> usize {
    match recording.what {
        Recorded::Buckets { histogram, .. } => stepscope::catalog::row(histogram).grid().len() + 1,
        Recorded::Signal(Signal::Server(
            Server::SloBad { .. } | Server::SloBurn { .. } | Server::SloBadCount { .. },
        )) => OBJECTIVES.len(),
        Recorded::Signal(_) => 1,
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',')
        }
        text.push(digit)
    }
    text
}

/// The file.
pub fn text(site: &Site) -> String {
    let every = site.times.every_s();
    let mut text = format!("<!-- {GENERATED} -->\n\n# What a fleet costs to watch\n\n");
    text += &format!(
        "Counted from the catalog, with every family fed (an engine without stamps or NVML exports fewer), {} \
         endpoints, {} priorities, one KV pool, a scrape and an evaluation every {every} s. How to run it: \
         [scale](../docs/scale.md).\n\n## Fleets\n\n",
        ONE.endpoints, ONE.priorities
    );
    text += &fleets(every);
    text += &assumptions();
    text + &families()
}

/// A line of the table: what it says, and of a fleet scraped so often.
type Line = (&'static str, fn(&Fleet, usize) -> String);

fn fleets(every: u32) -> String {
    let lines: [Line; 10] = [
        ("models", |fleet, _| grouped(fleet.models)),
        ("series per worker", |fleet, _| grouped(fleet.shape.all())),
        ("series of all workers", |fleet, _| grouped(fleet.exported())),
        ("series stored by rules", |fleet, _| grouped(fleet.recorded(|_| true))),
        ("of these by model and fleet", |fleet, _| grouped(fleet.recorded(is_upper))),
        ("series in all", |fleet, _| grouped(fleet.series())),
        ("samples per second", |fleet, every| grouped(fleet.series() / every)),
        ("disk per day", |fleet, every| {
            let bytes = fleet.series() as f64 / every as f64 * 86_400.0 * BYTES_PER_SAMPLE;
            format!("{:.1} GB", bytes / 1e9)
        }),
        ("memory for active series", |fleet, _| {
            format!("{:.1} GiB", (fleet.series() * KIB_PER_SERIES) as f64 / (1 << 20) as f64)
        }),
        ("Prometheus servers", |fleet, _| grouped(fleet.series().div_ceil(SERIES_PER_SERVER))),
    ];
    let names: Vec<&str> = FLEETS.iter().map(|fleet| fleet.name).collect();
    let mut text = format!("| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for (what, of) in lines {
        let values: Vec<String> = FLEETS.iter().map(|fleet| of(fleet, every as usize)).collect();
        text += &format!("| {what} | {} |\n", values.join(" | "))
    }
    text
}

/// Levels that a server above the others needs.
fn is_upper(scope: Scope) -> bool {
    matches!(scope, Scope::Model | Scope::Fleet)
}

fn assumptions() -> String {
    const REQUESTS_PER_SECOND: usize = 10_000;
    const TOKENS_PER_ANSWER: usize = 200;
    const GPUS: usize = 64;
    let tokens = REQUESTS_PER_SECOND * TOKENS_PER_ANSWER;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\nAssumed: {BYTES_PER_SAMPLE} bytes per stored sample, {KIB_PER_SERIES} KiB of memory per active series, at \
         most {} active series per server. The series of a worker do not depend on its load: {} requests per second \
         with {} tokens each are {} tokens per second, {} per GPU on {} of them, and reach Prometheus as the same \
         series every time.\n",
        grouped(SERIES_PER_SERVER),
        grouped(REQUESTS_PER_SECOND),
        TOKENS_PER_ANSWER,
        grouped(tokens),
        grouped(tokens / GPUS),
        GPUS,
    );
    text
}

fn families() -> String {
    let mut text = "\n## Series per family\n\nOf one worker: the least there is (one GPU, one endpoint, one priority), one GPU and eight GPUs with the\nendpoints and priorities from above.\n\n| family | least | 1 GPU | 8 GPUs |\n|---|---|---|---|\n".to_string();
    let mut rows: Vec<&Row> = ROWS.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(EIGHT.of(row)));
    for row in rows {
        let [least, one, eight] = [LEAST, ONE, EIGHT].map(|shape| grouped(shape.of(row)));
        text += &format!("| {} | {least} | {one} | {eight} |\n", row.name)
    }
    let [least, one, eight] = [LEAST, ONE, EIGHT].map(|shape| grouped(shape.all()));
    text += &format!("| all | {least} | {one} | {eight} |\n");
    let own: usize = ROWS.iter().filter(|r| r.tier == Tier::Own).map(|r| EIGHT.of(r)).sum();
    text + &format!("\nOf the last column {} are about the instrument itself.\n", grouped(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_in_groups_of_three() {
        assert_eq!([7, 1_234, 1_234_567].map(grouped), ["7", "1,234", "1,234,567"]);
    }

    /// What was measured on the first exporter of this catalog: about 1,300 for one GPU.
    #[test]
    fn one_worker_stays_within_a_few_thousand_series() {
        assert!(LEAST.all() > 500 && ONE.all() < 4_000, "{} {}", LEAST.all(), ONE.all());
    }
}
