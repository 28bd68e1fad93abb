//! Rows 2, 3 and 4: the GPU's timer, and how well its times are known on the host's clock.

use crate::args::Args;
use crate::child::{self, How};
use crate::cupti;
use crate::engine::Engine;
use crate::numbers::{median, percentile};
use crate::probe::{Answer, Prober, Round};
use crate::report::Row;
use crate::steps::{StepLoop, time_between};
use anyhow::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stepscope::gpu::{Gpu, Resolution};

/// Finer than this is no timer, coarser is not known of any card.
const RESOLUTION_NS: std::ops::RangeInclusive<f64> = 1.0..=1_100.0;
/// Timer steps of so many ns and more share a bucket.
const BUCKETS: u64 = 8_192;
const HALF_MAX_US: f64 = 10.0;
const BOUND_MAX_US: f64 = 30.0;
/// Two clocks drift by less than this between two neighbouring measurements.
const DRIFT_MAX: f64 = 500e-6;

/// Row 2.
pub fn resolution(args: &Args, row: &mut Row) -> Result<()> {
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 1)?;
    let probed = gpu.clock().resolution_ns as f64;
    row.between("resolution, by the library's probe", probed, "ns", RESOLUTION_NS);
    let counts = histogram(&engine, args.sized(1_000_000_000, 100_000_000))?;
    let all: u64 = counts.iter().sum();
    row.holds("the timer moves", all > 0, format!("{all} steps seen"));
    let smallest = counts.iter().position(|count| *count > 0).unwrap_or(0) as f64;
    let usual = (0..counts.len()).max_by_key(|step| counts[*step]).unwrap_or(0) as f64;
    row.reported("smallest step in a long run of readings", smallest, "ns");
    row.reported("most frequent step", usual, "ns");
    // The probe sees a part of what the long run sees, so it cannot have seen less; a tenth of
    // tolerance, for timers whose step alternates between two values.
    let ratio = probed / smallest.max(1.0);
    row.between("probe / long run", ratio, "", 0.9..=1.1);
    if row.needs_a_card("resolution with CUPTI on", "CUPTI stays away from it") {
        return Ok(());
    }
    let traced = child::run(args, "cupti-resolution", Duration::from_secs(60))?;
    match (traced.how, traced.last.parse::<f64>()) {
        (How::Code(0), Ok(ns)) => row.between("resolution with CUPTI on", ns, "ns", RESOLUTION_NS),
        (How::Code(0), Err(_)) => row.skipped("resolution with CUPTI on", traced.last),
        (how, _) => row.holds("the part with CUPTI ends well", false, format!("{how:?}")),
    }
    Ok(())
}

/// Part `cupti-resolution`: the resolution in ns while CUPTI runs, or why CUPTI does not.
pub fn under_cupti(args: &Args) -> Result<String> {
    let engine = Engine::start(args)?;
    // Attached before CUPTI, as documented; measured again after it.
    let _first = engine.attach(args, 1)?;
    let _tracing = match cupti::start(args, &engine.driver) {
        Ok(tracing) => tracing,
        Err(why) => return Ok(why.to_string()),
    };
    let gpu = engine.attach(args, 1)?;
    Ok(gpu.clock().resolution_ns.to_string())
}

/// How often each step between two readings of the timer was seen.
fn histogram(engine: &Engine, length_ns: u64) -> Result<Vec<u64>> {
    let stream = engine.stream()?;
    let buckets = engine.device_memory(BUCKETS as usize * 8)?;
    engine.launch(engine.steps, [1, 1], stream, [buckets, BUCKETS - 1, length_ns])?;
    engine.synchronize(stream)?;
    Ok(engine.read(buckets, BUCKETS as usize)?)
}

/// What some rounds came to.
#[derive(Default)]
struct Rounds {
    halves_us: Vec<f64>,
    unsound: u64,
    gave_up: u64,
}

impl Rounds {
    fn run(prober: &mut Prober, count: u64, resolution: i64) -> Result<Rounds> {
        let mut rounds = Rounds::default();
        for _ in 0..count {
            match prober.round(resolution)? {
                Answer::Round(round) => rounds.halves_us.push(round.half as f64 / 1e3),
                Answer::Unsound => rounds.unsound += 1,
                Answer::GaveUp => rounds.gave_up += 1,
            }
            std::thread::sleep(Duration::from_millis(5))
        }
        Ok(rounds)
    }
}

/// Row 3.
pub fn width(args: &Args, row: &mut Row) -> Result<()> {
    let engine = Engine::start(args)?;
    let resolution = engine.attach(args, 1)?.clock().resolution_ns as i64;
    let mut prober = Prober::new(&engine)?;
    let count = args.sized(100, 20);
    let mut idle = Rounds::run(&mut prober, count, resolution)?;
    row.at_most("half width, idle, median", median(&mut idle.halves_us), "us", HALF_MAX_US);
    row.reported("half width, idle, p99", percentile(&mut idle.halves_us, 0.99), "us");
    row.exactly("unsound rounds, idle", idle.unsound, 0);
    row.at_most("rounds given up, idle", idle.gave_up as f64, "", 0.0);
    let stop = AtomicBool::new(false);
    let busy = std::thread::scope(|scope| {
        let load = scope.spawn(|| saturate(&engine, row.fake, &stop));
        let busy = Rounds::run(&mut prober, count, resolution);
        stop.store(true, Ordering::Relaxed);
        let loaded = load.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
        loaded.and(busy)
    });
    let mut busy = busy?;
    row.reported("half width, saturated, median", median(&mut busy.halves_us), "us");
    row.reported("half width, saturated, p99", percentile(&mut busy.halves_us, 0.99), "us");
    row.exactly("unsound rounds, saturated", busy.unsound, 0);
    row.reported("rounds given up, saturated", busy.gave_up as f64, "");
    Ok(())
}

/// Keeps every multiprocessor full of blocks of 100 us, with the next launch always queued.
fn saturate(engine: &Engine, fake: bool, stop: &AtomicBool) -> Result<()> {
    engine.enter()?;
    let (stream, event) = (engine.stream()?, engine.event()?);
    // The interpreter runs block after block: there a few stand for all.
    let shape = if fake { [4, 1] } else { [4_096, 1_024] };
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..4 {
            engine.launch(engine.spin, shape, stream, [100_000])?;
        }
        engine.record(event, stream)?;
        engine.launch(engine.spin, shape, stream, [100_000])?;
        engine.wait(event)?
    }
    Ok(engine.synchronize(stream)?)
}

/// Row 4.
pub fn prediction(args: &Args, row: &mut Row) -> Result<()> {
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 1)?;
    let resolution = gpu.clock().resolution_ns as i64;
    let mut steps = StepLoop::new(&engine, &gpu, 2_000)?;
    let mut prober = Prober::new(&engine)?;
    let length = args.sized(Duration::from_secs(120), Duration::from_secs(7));
    let begun = Instant::now();
    let (mut compared, mut outside, mut worst_us) = (0, 0, 0f64);
    let (mut aged_us, mut rounds) = (vec![], Vec::<Round>::new());
    while begun.elapsed() < length {
        std::thread::sleep(Duration::from_millis(100));
        let clock = gpu.clock();
        // Behind the first rounds, whose rate is not known yet.
        if begun.elapsed() > Duration::from_secs(5) && clock.age_ns > 1_800_000_000 {
            aged_us.push(clock.error_ns as f64 / 1e3)
        }
        let Some((gpu_ns, host_ns, error_ns)) = mapped(&gpu, &mut steps)? else { continue };
        let Answer::Round(round) = prober.round(resolution)? else { continue };
        let apart = time_between(gpu_ns, round.gpu);
        let miss = (round.host - host_ns - apart).abs();
        let allowed = error_ns + round.half + (apart.abs() as f64 * DRIFT_MAX) as i64;
        compared += 1;
        outside += u64::from(miss > allowed);
        worst_us = worst_us.max(miss as f64 / 1e3);
        rounds.push(round)
    }
    row.holds("rounds to compare with", compared > 10, compared);
    row.exactly("rounds outside the bound", outside, 0);
    row.reported("largest difference", worst_us, "us");
    let clock = gpu.clock();
    row.reported("rounds of the library, kept", clock.rounds as f64, "");
    row.reported("rounds of the library, rejected", clock.rejected as f64, "");
    row.exactly("jumps of the clock", clock.jumps, 0);
    row.at_most("bound at 2 s age, largest", percentile(&mut aged_us, 1.0), "us", BOUND_MAX_US);
    if let (Some(first), Some(last)) = (rounds.first(), rounds.last()) {
        let passed = time_between(first.gpu, last.gpu) as f64;
        let ppm = ((last.host - first.host) as f64 / passed - 1.0) * 1e6;
        row.reported("the host's clock against the GPU's", ppm, "ppm")
    }
    Ok(())
}

/// A step's begin on both clocks, by the library's map: GPU ns (48 bits), host ns, its bound.
fn mapped(gpu: &Gpu, steps: &mut StepLoop) -> Result<Option<(u64, i64, i64)>> {
    let ticket = steps.held()?;
    Ok(match gpu.settle(ticket) {
        Resolution::Done(time) => {
            Some((time.gpu_begin, time.begin.as_nanos() as i64, time.error_ns as i64))
        }
        _ => None,
    })
}
