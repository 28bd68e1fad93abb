//! The load of one GPU and more, in real time: what the process pays in all its threads. A paced engine loop
//! with the recorder on and disabled, in turns; the difference is the verbs, the aggregate thread is read by
//! itself. Writes `target/bench/load.json`.
//!
//! One GPU: 31,000 tokens and 160 requests a second in batches of 256. `cargo bench --bench load -- [SECONDS]`;
//! under `cargo test` moments.
#![allow(missing_docs)]

use serde::Serialize;
use std::time::{Duration, Instant};
use stepscope::catalog::Id;
use stepscope::{
    Class, Config, Outcome, Pool, Recorder, Request, Series, Shape, Stepscope, Time, Wait,
};
use stepscope_benches::{arguments, is_smoke, median, save};

const BATCH: usize = 256;
const TOKENS_PER_SECOND: f64 = 31_000.0;
const REQUESTS_PER_SECOND: f64 = 160.0;

#[derive(Serialize)]
struct Row {
    /// Times the load of one GPU.
    load: f64,
    tokens_per_second: f64,
    requests_per_second: f64,
    /// % of a core: the verbs on the engine's thread, the library's threads, both.
    verbs: f64,
    threads: f64,
    all: f64,
    /// Samples of distributions that no ring had room for.
    dropped: f64,
}

/// CPU time so far, in seconds: of this thread, and of the library's.
fn cpu_seconds() -> [f64; 2] {
    let of = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
    };
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let ours = tasks.filter(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.starts_with("stepscope-")
    });
    let own = of("/proc/thread-self".into()).unwrap_or(0.0);
    [own, ours.filter_map(|task| of(task.path())).sum()]
}

/// An engine of one batch that is always full; each step some requests end and as many come.
struct Engine {
    rec: Recorder,
    class: Series,
    reqs: Vec<Request>,
    next: usize,
    due: f64,
    id: u64,
}

impl Engine {
    fn new(mut rec: Recorder, class: Series) -> Engine {
        let now = Time::now();
        let reqs = (0..BATCH as u64).map(|id| admitted(&mut rec, class, id, now)).collect();
        Engine { rec, class, reqs, next: 0, due: 0.0, id: BATCH as u64 }
    }

    fn step(&mut self) {
        let now = Time::now();
        let shape = Shape { decodes: BATCH as u32, ..Shape::default() };
        let open = self.rec.begin_step(now, shape);
        let step = self.rec.end_step(open, Time::now());
        self.rec.tokens(&step, self.reqs.iter_mut().map(|req| (req, 1)));
        self.rec.kv(Pool::KV, 7_000, 500, 8_000, 110_000);
        self.rec.queue(Wait::Capacity, self.class.priority(), 0);
        self.due += REQUESTS_PER_SECOND * BATCH as f64 / TOKENS_PER_SECOND;
        while self.due >= 1.0 {
            self.due -= 1.0;
            self.id += 1;
            let new = admitted(&mut self.rec, self.class, self.id, now);
            let old = std::mem::replace(&mut self.reqs[self.next], new);
            self.rec.finish(old, Time::now(), Outcome::Stop);
            self.next = (self.next + 1) % BATCH
        }
    }

    fn end(mut self) {
        let now = Time::now();
        self.reqs.drain(..).for_each(|req| self.rec.finish(req, now, Outcome::Stop))
    }
}

fn admitted(rec: &mut Recorder, class: Series, id: u64, now: Time) -> Request {
    let mut req = rec.arrive(class, id, now);
    rec.enqueue(&mut req, now);
    rec.schedule(&mut req, now, 64, 0);
    rec.prefill(&mut req, 900);
    req
}

/// Shares of a core: [engine's thread, the library's threads], and samples dropped.
fn run(load: f64, seconds: f64, recording: bool) -> ([f64; 2], f64) {
    let scope = recording.then(|| {
        let listen = "127.0.0.1:0".parse().ok();
        Stepscope::start(Config { listen, ..Config::default() }).expect("a free port")
    });
    let (rec, class) = match &scope {
        Some(scope) => (scope.recorder("engine"), scope.series(Class::endpoint("chat"))),
        None => {
            let config = Config { listen: None, ..Config::default() };
            let other = Stepscope::start(config).expect("the defaults start");
            (Recorder::disabled(), other.series(Class::endpoint("chat")))
        }
    };
    let mut engine = Engine::new(rec, class);
    let pause = Duration::from_secs_f64(BATCH as f64 / (TOKENS_PER_SECOND * load));
    let (before, begin) = (cpu_seconds(), Instant::now());
    let mut next = begin;
    while begin.elapsed().as_secs_f64() < seconds {
        engine.step();
        next += pause;
        std::thread::sleep(next.saturating_duration_since(Instant::now()))
    }
    let (after, took) = (cpu_seconds(), begin.elapsed().as_secs_f64());
    engine.end();
    let dropped = scope.map_or(0.0, |scope| scope.snapshot().sum(Id::RingDropped, |_| true));
    ([0, 1].map(|n| (after[n] - before[n]) / took * 100.0), dropped)
}

fn row(load: f64, seconds: f64, pairs: usize) -> Row {
    let (mut verbs, mut threads, mut dropped) = (vec![], vec![], 0.0);
    for _ in 0..pairs {
        let ([without, _], _) = run(load, seconds, false);
        let ([with, library], lost) = run(load, seconds, true);
        verbs.push(with - without);
        threads.push(library);
        dropped += lost
    }
    let (verbs, threads) = (median(&mut verbs), median(&mut threads));
    Row {
        load,
        tokens_per_second: TOKENS_PER_SECOND * load,
        requests_per_second: REQUESTS_PER_SECOND * load,
        verbs,
        threads,
        all: verbs + threads,
        dropped,
    }
}

fn main() -> std::io::Result<()> {
    let smoke = is_smoke();
    let seconds =
        if smoke { 0.2 } else { arguments().first().and_then(|n| n.parse().ok()).unwrap_or(4.0) };
    let loads: &[f64] = if smoke { &[1.0] } else { &[1.0, 2.0, 4.0, 10.0] };
    let pairs = if smoke { 1 } else { 5 };
    let rows: Vec<Row> = loads.iter().map(|load| row(*load, seconds, pairs)).collect();
    println!(
        "{:>6} {:>12} {:>12} {:>9} {:>9} {:>9} {:>9}",
        "x GPU", "tokens/s", "requests/s", "verbs %", "threads %", "all %", "dropped"
    );
    for r in &rows {
        println!(
            "{:6.0} {:12.0} {:12.0} {:9.3} {:9.3} {:9.3} {:9.0}",
            r.load,
            r.tokens_per_second,
            r.requests_per_second,
            r.verbs,
            r.threads,
            r.all,
            r.dropped
        )
    }
    save("load", seconds, &rows)
}
