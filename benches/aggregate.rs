//! What happens behind the ring: events drained into exact buckets, sums and HDR; end to end with a thread
//! that records as fast as it can; and what an idle engine pays. Writes `target/bench/aggregate.json`.
//!
//! `cargo bench --bench aggregate -- [ROUNDS]`; under `cargo test` one short round runs.
#![allow(missing_docs)]

use serde::Serialize;
use std::time::{Duration, Instant};
use stepscope::catalog::Id;
use stepscope::{Class, Config, RecorderOptions, Shape, Stepscope, Time};
use stepscope_benches::{Bench, CASES, arguments, is_smoke, median, save};

#[derive(Serialize)]
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
}

fn row(name: &str, value: f64, unit: &'static str) -> Row {
    Row { name: name.into(), value, unit }
}

/// Millions of events a second out of a full ring. In these cases an event is one sample.
fn drained(case: &str, rounds: usize) -> Row {
    let case = *CASES.iter().find(|known| known.name == case).expect("a case of the list");
    let mut bench = Bench::new(case);
    let mut millions = vec![];
    for _ in 0..rounds {
        bench.drain();
        let before = bench.samples();
        for _ in 0..60 {
            let step = bench.prepare();
            bench.tokens(&step)
        }
        let begin = Instant::now();
        bench.drain();
        let took = begin.elapsed().as_secs_f64();
        millions.push((bench.samples() - before) as f64 / took / 1e6)
    }
    bench.check_nothing_lost();
    row(&format!("drained, {}", case.name), median(&mut millions), "million events/s")
}

/// Two threads on two cores, one that records what closes one event a token and one that drains.
fn end_to_end(seconds: f64) -> Vec<Row> {
    let scope = Stepscope::start(Config { listen: None, ..Config::default() }).expect("defaults");
    let options = RecorderOptions::new("bench").ring_events(1 << 20);
    let mut rec = scope.recorder_with(options);
    let class = scope.series(Class::endpoint("chat"));
    let start = Time::now();
    let mut reqs: Vec<_> = (0..256)
        .map(|id| {
            let mut req = rec.arrive(class, id, start);
            rec.schedule(&mut req, start, 0, 0);
            req
        })
        .collect();
    let begin = Instant::now();
    let mut tokens = 0u64;
    while begin.elapsed().as_secs_f64() < seconds {
        let open = rec.begin_step(Time::now(), Shape { decodes: 256, ..Shape::default() });
        let step = rec.end_step(open, Time::now());
        for req in &mut reqs {
            rec.token(&step, req, 1)
        }
        tokens += 256
    }
    let took = begin.elapsed().as_secs_f64();
    let told = |id| scope.snapshot().sum(id, |_| true);
    assert_eq!(told(Id::GeneratedTokens), tokens as f64, "counters are never lost");
    let lost = told(Id::RingDropped);
    reqs.into_iter().for_each(|req| rec.finish(req, Time::now(), stepscope::Outcome::Stop));
    vec![
        row("end to end, offered", tokens as f64 / took / 1e6, "million events/s"),
        row("end to end, kept", (tokens as f64 - lost) / took / 1e6, "million events/s"),
        row("end to end, dropped and counted", lost / tokens as f64 * 100.0, "%"),
    ]
}

/// CPU time of this process so far, in all its threads, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let own = stat.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok());
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    let all: f64 = tasks.filter_map(|task| of(task.path())).sum();
    all.max(own.unwrap_or(0.0)) / 1e9
}

/// A ready scope with its HTTP server that nobody asks anything.
fn idle(seconds: u64) -> Row {
    let listen = "127.0.0.1:0".parse().ok();
    let scope = Stepscope::start(Config { listen, ..Config::default() }).expect("a free port");
    let _rec = scope.recorder("engine");
    scope.mark_ready();
    std::thread::sleep(Duration::from_millis(200));
    let before = cpu_seconds();
    std::thread::sleep(Duration::from_secs(seconds));
    row(
        "idle engine, all threads",
        (cpu_seconds() - before) / seconds as f64 * 100.0,
        "% of a core",
    )
}

fn main() -> std::io::Result<()> {
    let smoke = is_smoke();
    let rounds =
        if smoke { 1 } else { arguments().first().and_then(|n| n.parse().ok()).unwrap_or(200) };
    let mut rows =
        vec![drained("all_different_256", rounds), drained("6_classes_all_different_256", rounds)];
    rows.extend(end_to_end(if smoke { 0.1 } else { 5.0 }));
    rows.push(idle(if smoke { 1 } else { 20 }));
    for row in &rows {
        println!("{:<48} {:10.3} {}", row.name, row.value, row.unit)
    }
    save("aggregate", rounds as f64, &rows)
}
