//! Row 8: how long after its stamp the host can read the end of a step.

use crate::args::Args;
use crate::engine::Engine;
use crate::numbers::{median, percentile};
use crate::report::Row;
use crate::steps::info;
use anyhow::{Result, anyhow};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stepscope::Time;
use stepscope::gpu::{Gpu, Lane, Resolution};

const P50_MAX_US: f64 = 3.0;
const P99_MAX_US: f64 = 20.0;
/// Bytes of one copy that keeps the link busy.
const COPY: usize = 64 << 20;

pub fn row(args: &Args, row: &mut Row) -> Result<()> {
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 2)?;
    let stream = engine.stream()?;
    let mut lane = gpu.lane(stream.raw())?;
    // The map is at its best once its rate is known.
    std::thread::sleep(args.sized(Duration::from_secs(5), Duration::from_millis(700)));
    let count = args.sized(2_000, 200);
    let idle = Seen::watch(&engine, &gpu, &mut lane, stream, count)?;
    idle.say(row, "link idle");
    let stop = AtomicBool::new(false);
    let (busy, rate) = std::thread::scope(|scope| {
        let copy =
            scope.spawn(|| keep_copying(&engine, if row.fake { 1 << 16 } else { COPY }, &stop));
        let busy = Seen::watch(&engine, &gpu, &mut lane, stream, count);
        stop.store(true, Ordering::Relaxed);
        (busy, copy.join().map_err(|_| anyhow!("the copying thread panicked")))
    });
    busy?.say(row, "link busy");
    row.reported("host to device copies meanwhile", rate??, "GB/s");
    Ok(())
}

struct Seen {
    delays_us: Vec<f64>,
    bounds_us: Vec<f64>,
    missing: u64,
}

impl Seen {
    /// Waits for the end of each step by looking at it all the time.
    fn watch(
        engine: &Engine,
        gpu: &Gpu,
        lane: &mut Lane,
        stream: crate::engine::Stream,
        count: usize,
    ) -> Result<Seen> {
        let mut seen = Seen { delays_us: vec![], bounds_us: vec![], missing: 0 };
        for _ in 0..count {
            let mut ticket = lane.begin(info());
            engine.launch(engine.spin, [1, 1], stream, [20_000])?;
            lane.end(&mut ticket);
            let asked = Instant::now();
            let found = loop {
                match gpu.resolve(&ticket) {
                    Resolution::Done(time) => break Some((Time::now(), time)),
                    Resolution::Pending if asked.elapsed() < Duration::from_secs(1) => {}
                    _ => break None,
                }
            };
            match found {
                Some((now, time)) => {
                    let delay = now.as_nanos() as i64 - time.end.as_nanos() as i64;
                    seen.delays_us.push(delay as f64 / 1e3);
                    seen.bounds_us.push(time.error_ns as f64 / 1e3)
                }
                None => seen.missing += 1,
            }
            drop(ticket);
            engine.synchronize(stream)?
        }
        Ok(seen)
    }

    fn say(mut self, row: &mut Row, when: &str) {
        let delays = &mut self.delays_us;
        row.exactly(&format!("ends that were not seen within 1 s, {when}"), self.missing, 0);
        row.at_most(
            &format!("seen after its stamp, {when}, p50"),
            median(delays),
            "us",
            P50_MAX_US,
        );
        let p99 = percentile(delays, 0.99);
        row.at_most(&format!("seen after its stamp, {when}, p99"), p99, "us", P99_MAX_US);
        let bound = median(&mut self.bounds_us);
        row.reported(&format!("these are known to within, {when}"), bound, "us")
    }
}

/// Copies pinned host memory to the device until told to stop; GB/s.
fn keep_copying(engine: &Engine, bytes: usize, stop: &AtomicBool) -> Result<f64> {
    engine.enter()?;
    let (stream, event) = (engine.stream()?, engine.event()?);
    let (from, to) = (engine.words(bytes / 8)?, engine.device_memory(bytes)?);
    let copy = || {
        let from = from.host.as_ptr().cast();
        // SAFETY: both have so many bytes and live as long as the process.
        unsafe { engine.driver.cuMemcpyHtoDAsync_v2(to, from, bytes, stream.0) }
    };
    let (begun, mut copies) = (Instant::now(), 0u64);
    while !stop.load(Ordering::Relaxed) {
        copy()?;
        engine.record(event, stream)?;
        // One copy is always queued behind the one that is waited for.
        copy()?;
        engine.wait(event)?;
        copies += 2
    }
    engine.synchronize(stream)?;
    Ok(copies as f64 * bytes as f64 / begun.elapsed().as_secs_f64() / 1e9)
}
