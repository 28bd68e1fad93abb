//! Rows 6 and 7: what stamps cost, on the engine's thread and on the GPU.

use crate::args::Args;
use crate::engine::{Engine, Graph, Stream};
use crate::numbers::{median, percentile};
use crate::report::Row;
use crate::steps::info;
use anyhow::{Result, ensure};
use std::time::Instant;
use stepscope::gpu::{Gpu, Lane, Point, Resolution};

const BEGIN_MAX_US: f64 = 5.0;
const END_MAX_US: f64 = 4.0;
const PAIR_MAX_US: f64 = 8.0;
const NODE_MAX_US: f64 = 1.5;
/// 0.1 % of a step of 10 ms.
const STEP_SHARE_MAX_US: f64 = 10.0;

const NODES: usize = 64;
const MARKS: usize = 16;

/// Row 6.
pub fn host(args: &Args, row: &mut Row) -> Result<()> {
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 1)?;
    let stream = engine.stream()?;
    let mut lane = gpu.lane(stream.raw())?;
    let count = args.sized(5_000, 300);
    let (mut begins, mut ends, mut checks) = (vec![], vec![], vec![]);
    let mut done = 0;
    // In batches, so that no launch waits for a full queue.
    for _ in 0..count / 50 {
        let mut tickets = vec![];
        for _ in 0..50 {
            let before = Instant::now();
            let mut ticket = lane.begin(info());
            let begun = Instant::now();
            lane.end(&mut ticket);
            let ended = Instant::now();
            begins.push((begun - before).as_secs_f64() * 1e6);
            ends.push((ended - begun).as_secs_f64() * 1e6);
            tickets.push(ticket);
            let (before, mut status) = (Instant::now(), 0);
            // SAFETY: the stream lives as long as the process; writes one int.
            unsafe { engine.driver.cuStreamIsCapturing(stream.0, &mut status)? };
            checks.push(before.elapsed().as_secs_f64() * 1e6)
        }
        engine.synchronize(stream)?;
        let settled = tickets.into_iter().map(|ticket| gpu.settle(ticket));
        done += settled.filter(|settled| matches!(settled, Resolution::Done(_))).count() as u64
    }
    row.exactly("steps with a time", done, begins.len() as u64);
    row.at_most("begin, median", median(&mut begins), "us", BEGIN_MAX_US);
    row.reported("begin, p99", percentile(&mut begins, 0.99), "us");
    row.at_most("end, median", median(&mut ends), "us", END_MAX_US);
    row.reported("end, p99", percentile(&mut ends, 0.99), "us");
    row.reported("the capture check alone, median", median(&mut checks), "us");
    row.reported("the capture check alone, p99", percentile(&mut checks, 0.99), "us");
    Ok(())
}

/// How the replays of a graph are stamped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stamped {
    Not,
    Pair,
    CapturedEnd,
    Marks,
}

/// Row 7.
pub fn device(args: &Args, row: &mut Row) -> Result<()> {
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 1)?;
    let mut bench = Bench::new(&engine, &gpu)?;
    let replays = args.sized(1_000, 50);
    let kinds = [Stamped::Not, Stamped::Pair, Stamped::CapturedEnd, Stamped::Marks];
    for kind in kinds {
        bench.replays_ns(kind, 50.min(replays))?;
    }
    // Taking turns, so that a change of clocks hits all alike.
    let mut times = [const { Vec::<f64>::new() }; 4];
    for _ in 0..args.sized(9, 3) {
        for (kind, times) in kinds.into_iter().zip(&mut times) {
            times.push(bench.replays_ns(kind, replays)? / replays as f64 / 1e3)
        }
    }
    let [none, pair, captured, marks] = times.each_mut().map(|times| median(times));
    row.exactly("stamped replays without a time", bench.missing, 0);
    row.reported("64 nodes, no stamp, per replay", none, "us");
    row.at_most("direct pair, added per replay", pair - none, "us", PAIR_MAX_US);
    let step_share = "begin and captured end, added per replay";
    row.at_most(step_share, captured - none, "us", STEP_SHARE_MAX_US);
    let node = (marks - captured) / MARKS as f64;
    row.at_most("a captured stamp, each of 16", node, "us", NODE_MAX_US);
    Ok(())
}

struct Bench<'a> {
    engine: &'a Engine,
    gpu: &'a Gpu,
    stream: Stream,
    lane: Lane,
    plain: Graph,
    ended: Graph,
    marked: Graph,
    missing: u64,
}

impl<'a> Bench<'a> {
    fn new(engine: &'a Engine, gpu: &'a Gpu) -> Result<Bench<'a>> {
        let stream = engine.stream()?;
        let mut lane = gpu.lane(stream.raw())?;
        let word = engine.device_memory(8)?;
        let mut graph = |points: &[Point]| {
            engine.captured(stream, || {
                for _ in 0..NODES {
                    engine.launch(engine.small, [1, 1], stream, [word])?
                }
                for point in points {
                    lane.capture(stream.raw(), *point)?
                }
                Ok(())
            })
        };
        let mut points = [[Point::MarkA, Point::MarkB]; MARKS / 2].concat();
        points.push(Point::End);
        let (plain, ended, marked) = (graph(&[])?, graph(&[Point::End])?, graph(&points)?);
        Ok(Bench { engine, gpu, stream, lane, plain, ended, marked, missing: 0 })
    }

    /// ns on the device for so many replays.
    fn replays_ns(&mut self, kind: Stamped, replays: usize) -> Result<f64> {
        let engine = self.engine;
        let (start, end) = (engine.event()?, engine.event()?);
        let mut tickets = Vec::with_capacity(replays);
        let graph = match kind {
            Stamped::Not | Stamped::Pair => self.plain,
            Stamped::CapturedEnd => self.ended,
            Stamped::Marks => self.marked,
        };
        engine.record(start, self.stream)?;
        for _ in 0..replays {
            if kind == Stamped::Not {
                engine.replay(graph, self.stream)?;
                continue;
            }
            let mut ticket = self.lane.begin(info());
            engine.replay(graph, self.stream)?;
            match kind {
                Stamped::Pair => self.lane.end(&mut ticket),
                _ => self.lane.end_in_graph(&mut ticket),
            }
            tickets.push(ticket)
        }
        engine.record(end, self.stream)?;
        engine.synchronize(self.stream)?;
        for ticket in tickets {
            let done = matches!(self.gpu.settle(ticket), Resolution::Done(_));
            self.missing += u64::from(!done)
        }
        let ns = engine.between(start, end)?;
        ensure!(ns > 0.0, "the events are {ns} ns apart");
        Ok(ns)
    }
}
