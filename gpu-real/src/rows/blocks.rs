//! Row 12: stamps that an engine's own kernel of many blocks makes with the device header.

use crate::args::Args;
use crate::engine::{Engine, Stream};
use crate::numbers::median;
use crate::report::Row;
use crate::steps::{TIME_MASK, info, time_between};
use anyhow::Result;
use stepscope::gpu::{DeviceHandle, Gpu, Lane, Resolution, StepTime};

const ADDED_MAX_US: f64 = 3.0;
/// Longer than a launch takes, or the GPU would wait for the host and hide what stamps cost.
const WORK_NS: u64 = 6_000;
/// Marks are known on the host's clock, rounded to ns.
const ROUNDING_NS: i64 = 2;

pub fn row(args: &Args, row: &mut Row) -> Result<()> {
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 1)?;
    let stream = engine.stream()?;
    let mut lane = gpu.lane(stream.raw())?;
    // The interpreter runs thread after thread: there a few stand for all.
    let small = args.quick || row.fake;
    let threads = if row.fake { 4 } else { 128 };
    let (steps, launches, turns) = if small { (10, 5, 3) } else { (200, 200, 9) };
    for blocks in [1, 32, 1_024] {
        let bench = Bench::new(&engine, &gpu, stream, &lane, [blocks, threads])?;
        let mut wrong = 0;
        for _ in 0..steps {
            wrong += u64::from(!bench.stamped_step_is_true(&mut lane)?)
        }
        row.exactly(&format!("{blocks} blocks: steps whose marks are wrong"), wrong, 0);
        let (mut with, mut without) = (vec![], vec![]);
        for _ in 0..turns {
            without.push(bench.launch_us(&mut lane, DeviceHandle::default(), launches)?);
            with.push(bench.launch_us(&mut lane, bench.handle, launches)?)
        }
        let added = median(&mut with) - median(&mut without);
        row.at_most(&format!("{blocks} blocks: added per kernel"), added, "us", ADDED_MAX_US);
    }
    Ok(())
}

struct Bench<'a> {
    engine: &'a Engine,
    gpu: &'a Gpu,
    stream: Stream,
    handle: DeviceHandle,
    shape: [u32; 2],
    truth: u64,
    done: u64,
}

impl<'a> Bench<'a> {
    fn new(
        engine: &'a Engine,
        gpu: &'a Gpu,
        stream: Stream,
        lane: &Lane,
        shape: [u32; 2],
    ) -> Result<Bench<'a>> {
        Ok(Bench {
            engine,
            gpu,
            stream,
            handle: lane.device_handle(),
            shape,
            truth: engine.device_memory(24 * shape[0] as usize)?,
            done: engine.device_memory(8)?,
        })
    }

    fn launch(&self, handle: DeviceHandle, truth: u64, work_ns: u64) -> Result<()> {
        let words = [handle.ring, handle.cell, truth, self.done, work_ns];
        Ok(self.engine.launch(self.engine.blocks, self.shape, self.stream, words)?)
    }

    /// One step with both marks, compared with what the blocks wrote down.
    fn stamped_step_is_true(&self, lane: &mut Lane) -> Result<bool> {
        let mut ticket = lane.begin(info());
        self.launch(self.handle, self.truth, WORK_NS)?;
        lane.end(&mut ticket);
        self.engine.synchronize(self.stream)?;
        let Resolution::Done(time) = self.gpu.settle(ticket) else { return Ok(false) };
        let truth = self.engine.read(self.truth, 3 * self.shape[0] as usize)?;
        Ok(self.marks_are_true(&time, &truth))
    }

    fn marks_are_true(&self, time: &StepTime, truth: &[u64]) -> bool {
        let (Some(first), Some(last)) = (time.mark_a, time.mark_b) else { return false };
        let slack = self.gpu.clock().resolution_ns as i64 + ROUNDING_NS;
        let in_order = |from: u64, to: u64| time_between(from, to) >= -slack;
        let since = |mark: stepscope::Time| mark.nanos_since(time.begin);
        let first = (time.gpu_begin + since(first)) & TIME_MASK;
        let last = (time.gpu_begin + since(last)) & TIME_MASK;
        let end = (time.gpu_begin + time.gpu_ns) & TIME_MASK;
        // Block 0 stamps between its first two readings; the last block after all last readings.
        in_order(truth[0] & TIME_MASK, first)
            && in_order(first, truth[1] & TIME_MASK)
            && truth.chunks(3).all(|block| in_order(block[2] & TIME_MASK, last))
            && in_order(last, end)
    }

    /// us per kernel of a row of launches in one step.
    fn launch_us(&self, lane: &mut Lane, handle: DeviceHandle, launches: usize) -> Result<f64> {
        let (start, end) = (self.engine.event()?, self.engine.event()?);
        let mut ticket = lane.begin(info());
        self.launch(handle, 0, WORK_NS)?;
        self.engine.record(start, self.stream)?;
        for _ in 0..launches {
            self.launch(handle, 0, WORK_NS)?
        }
        self.engine.record(end, self.stream)?;
        lane.end(&mut ticket);
        self.engine.synchronize(self.stream)?;
        self.gpu.settle(ticket);
        Ok(self.engine.between(start, end)? / launches as f64 / 1e3)
    }
}
