//! The figures of a fleet: what is computed from the catalog is what a worker exports.

use crate::Derived;
use crate::common::traffic::{DECODE, Device, Worker, ago, later, live_config};
use std::collections::BTreeMap;
use stepscope::catalog::ROWS;
use stepscope::{Class, Config, Outcome, Pool, Reading, Tally};

/// Lines of a scrape per family.
fn exported(text: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let family = |name: &str| ROWS.iter().find(|row| row.name == name);
        let row = family(name).or_else(|| family(part.unwrap_or_default()));
        *counts.entry(row.expect(name).name.to_string()).or_default() += 1
    }
    counts
}

/// First column of the table of families.
fn least(scale: &str) -> BTreeMap<String, usize> {
    let table = scale.split("| family | least |").nth(1).unwrap();
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").collect();
            (cells[0].to_string(), cells[1].replace(',', "").parse().unwrap())
        })
        .collect()
}

/// One GPU, one endpoint, no priority, one pool: what the table calls the least.
fn least_worker() -> Worker {
    let chat = Class::endpoint("chat");
    let mut worker = Worker::serving(Config { ..live_config() }, chat.clone(), chat);
    worker.rec.set_lane(Device { stamped: false });
    let from = ago(1_000);
    let mut req = worker.running(worker.chat, from);
    let mut stream = req.stream();
    for step in 1..=4 {
        let open = worker.rec.begin_step(later(from, step * 20), DECODE);
        let ended = worker.rec.end_step(open, later(from, step * 20 + 10));
        worker.rec.tokens(&ended, [(&mut req, 1)]);
        worker.rec.emitted(&mut stream, later(from, step * 20 + 11))
    }
    worker.rec.spec(&req, 4, 2);
    worker.rec.kv(Pool::KV, 10, 5, 50, 150);
    worker.rec.finish(req, later(from, 200), Outcome::Length);
    watch(&worker.scope.device("0"));
    worker
}

/// Everything that NVML knows of a device.
fn watch(device: &stepscope::Device) {
    for reading in [
        Reading::Utilization,
        Reading::MemoryUsed,
        Reading::MemoryTotal,
        Reading::MemoryPreallocated,
        Reading::Temperature,
        Reading::Power,
        Reading::PowerLimit,
        Reading::ClockSm,
        Reading::ClockMemory,
    ] {
        device.set(reading, 1.0)
    }
    for tally in [
        Tally::AllocFailures,
        Tally::Energy,
        Tally::ThrottleThermal,
        Tally::ThrottlePowerBrake,
        Tally::ThrottlePowerCap,
        Tally::XidFatal,
        Tally::XidApp,
        Tally::XidNotice,
        Tally::EccUncorrected,
        Tally::PcieReplays,
    ] {
        device.add(tally, 1)
    }
}

#[test]
fn the_figures_of_the_table_are_what_a_worker_exports() {
    let table = least(&Derived::with(&[]).read("scale.md"));
    assert_eq!(table.len(), ROWS.len() + 1, "every family, and all of them");
    let exported = exported(&least_worker().text());
    for (family, count) in &exported {
        assert_eq!(table[family], *count, "{family}")
    }
    // The clock map's three, the stamps' two and CUPTI's two need a GPU.
    let absent: Vec<&str> =
        ROWS.iter().map(|row| row.name).filter(|name| !exported.contains_key(*name)).collect();
    assert!(absent.len() <= 7, "not compared: {absent:?}");
    let sum: usize = table.iter().filter(|(name, _)| *name != "all").map(|(_, n)| n).sum();
    assert_eq!(table["all"], sum);
}

#[test]
fn series_rates_and_servers_of_a_fleet_follow_from_each_other() {
    let scale = Derived::with(&[]).read("scale.md");
    let number = |what: &str, column: usize| -> f64 {
        let start = format!("| {what} | ");
        let line = scale.lines().find_map(|line| line.strip_prefix(&start)).expect(what);
        let cell = line.trim_end_matches(" |").split(" | ").nth(column).unwrap();
        cell.split(' ').next().unwrap().replace(',', "").parse().unwrap()
    };
    for (column, workers) in [8.0, 64.0, 1_250.0, 10_000.0].into_iter().enumerate() {
        let of = |what| number(what, column);
        // Five series per target are Prometheus' own.
        assert_eq!(of("series of all workers"), workers * (of("series per worker") + 5.0));
        let all = of("series of all workers") + of("series stored by rules");
        assert_eq!(of("series in all"), all);
        assert_eq!(of("samples per second"), (all / 15.0).floor());
        assert_eq!(of("Prometheus servers"), (all / 2e6).ceil());
        assert!(of("of these by model and fleet") < of("series stored by rules"))
    }
}
