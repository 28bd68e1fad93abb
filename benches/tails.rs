//! The longest calls: percentiles of one verb and the recording thread's voluntary context switches, quiet,
//! under a scraper every 50 ms, beside a second recording thread, with few series and with many. A
//! voluntary switch while recording is a lock that put the engine to sleep. Writes `target/bench/tails.json`.
//!
//! Each call is bracketed by two clock reads, which are in every figure, the empty loop's too; the highest
//! percentiles are the scheduler's. `cargo bench --bench tails -- [SECONDS]`; under `cargo test` moments.
#![allow(missing_docs)]

use hdrhistogram::Histogram;
use serde::Serialize;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stepscope::{Class, Config, Recorder, Request, Shape, Stepscope, Time};
use stepscope_benches::{arguments, is_smoke, save};

#[derive(Serialize)]
struct Row {
    name: String,
    calls: u64,
    p50_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    p9999_ns: u64,
    voluntary_switches: u64,
    scrapes: u64,
}

/// What goes on beside the thread that is looked at.
#[derive(Clone, Copy)]
struct Beside {
    scraper: bool,
    recorder: bool,
    classes: u16,
}

fn voluntary_switches() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|n| n.trim().parse().ok()).expect("Linux says it")
}

/// A batch of 64 that decodes.
struct Engine {
    rec: Recorder,
    reqs: Vec<Request>,
}

impl Engine {
    fn new(scope: &Stepscope, name: &str, classes: u16) -> Engine {
        let mut rec = scope.recorder(name);
        let now = Time::now();
        let series: Vec<_> =
            (0..classes).map(|n| scope.series(Class::endpoint(format!("endpoint-{n}")))).collect();
        // Every class has a request behind it, so that its series are on the page.
        for (id, class) in series.iter().enumerate() {
            let mut req = rec.arrive(*class, id as u64, now);
            rec.enqueue(&mut req, now);
            rec.schedule(&mut req, now, 0, 0);
            let open = rec.begin_step(now, Shape::default());
            let step = rec.end_step(open, Time::now());
            rec.token(&step, &mut req, 1);
            rec.finish(req, Time::now(), stepscope::Outcome::Stop)
        }
        let reqs = (0..64)
            .map(|id| {
                let mut req = rec.arrive(series[0], id, now);
                rec.schedule(&mut req, now, 0, 0);
                req
            })
            .collect();
        Engine { rec, reqs }
    }

    /// One step's tokens: how long the verb took.
    fn step(&mut self) -> Duration {
        let now = Time::now();
        let open = self.rec.begin_step(now, Shape { decodes: 64, ..Shape::default() });
        let step = self.rec.end_step(open, now);
        let begin = Instant::now();
        self.rec.tokens(&step, self.reqs.iter_mut().map(|req| (req, 1)));
        begin.elapsed()
    }

    fn end(mut self) {
        let now = Time::now();
        self.reqs.drain(..).for_each(|req| self.rec.finish(req, now, stepscope::Outcome::Stop))
    }
}

fn measure(name: &str, seconds: f64, mut call: impl FnMut() -> Duration) -> Row {
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 2).expect("bounds");
    let (before, begin) = (voluntary_switches(), Instant::now());
    while begin.elapsed().as_secs_f64() < seconds {
        for _ in 0..64 {
            times.saturating_record(call().as_nanos() as u64)
        }
    }
    let voluntary_switches = voluntary_switches() - before;
    let at = |quantile| times.value_at_quantile(quantile);
    Row {
        name: name.into(),
        calls: times.len(),
        p50_ns: at(0.5),
        p99_ns: at(0.99),
        p999_ns: at(0.999),
        p9999_ns: at(0.9999),
        voluntary_switches,
        scrapes: 0,
    }
}

fn under(name: &str, beside: Beside, seconds: f64) -> Row {
    let series_max = beside.classes + 1;
    let config = Config { listen: None, series_max, ..Config::default() };
    let scope = Stepscope::start(config).expect("the settings are fine");
    let mut engine = Engine::new(&scope, "engine", beside.classes);
    let over = AtomicBool::new(false);
    let row = std::thread::scope(|threads| {
        let scraper = beside.scraper.then(|| {
            threads.spawn(|| {
                let mut scrapes = 0;
                while !over.load(Ordering::Relaxed) {
                    black_box(scope.exposition(None).body.len());
                    scrapes += 1;
                    std::thread::sleep(Duration::from_millis(50))
                }
                scrapes
            })
        });
        if beside.recorder {
            threads.spawn(|| {
                let mut other = Engine::new(&scope, "other", 1);
                while !over.load(Ordering::Relaxed) {
                    black_box(other.step());
                }
                other.end()
            });
        }
        let mut row = measure(name, seconds, || engine.step());
        over.store(true, Ordering::Relaxed);
        row.scrapes = scraper.map_or(0, |thread| thread.join().expect("it did not panic"));
        row
    });
    engine.end();
    row
}

fn main() -> std::io::Result<()> {
    let smoke = is_smoke();
    let seconds =
        if smoke { 0.05 } else { arguments().first().and_then(|n| n.parse().ok()).unwrap_or(5.0) };
    let quiet = Beside { scraper: false, recorder: false, classes: 8 };
    let many = if smoke { 16 } else { 800 };
    let empty = || {
        let begin = Instant::now();
        black_box(());
        begin.elapsed()
    };
    let rows = vec![
        measure("empty, between two clock reads", seconds, empty),
        under("tokens, batch of 64, quiet", quiet, seconds),
        under("a scraper every 50 ms", Beside { scraper: true, ..quiet }, seconds),
        under("a second recording thread", Beside { recorder: true, ..quiet }, seconds),
        under("both", Beside { scraper: true, recorder: true, ..quiet }, seconds),
        under(
            "both, 100 times the series",
            Beside { scraper: true, recorder: true, classes: many },
            seconds,
        ),
    ];
    println!(
        "{:<34} {:>9} {:>7} {:>7} {:>7} {:>8} {:>7} {:>7}",
        "ns a call", "calls", "p50", "p99", "p99.9", "p99.99", "sleeps", "scrapes"
    );
    for r in &rows {
        println!(
            "{:<34} {:9} {:7} {:7} {:7} {:8} {:7} {:7}",
            r.name,
            r.calls,
            r.p50_ns,
            r.p99_ns,
            r.p999_ns,
            r.p9999_ns,
            r.voluntary_switches,
            r.scrapes
        )
    }
    save("tails", seconds, &rows)
}
