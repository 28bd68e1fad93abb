//! Rows 5, 9 and 15: are the times those of the step, whatever an engine does?

use crate::args::Args;
use crate::engine::{Engine, Mode};
use crate::numbers::resident_mib;
use crate::report::Row;
use crate::steps::{STAMPS_OF_A_REPLAY, StepLoop, Tally, info};
use anyhow::{Result, anyhow};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use stepscope::gpu::{Gpu, LaneCounts, Lost, Resolution};

/// How long the work of a step takes: longer than any timer's resolution.
const WORK_NS: u64 = 3_000;
/// What a soak may grow by: buffers of the driver that are filled once, no leak.
const GROWTH_MAX_MIB: f64 = 4.0;

/// The books of a lane balance: nothing begun has vanished.
fn balanced(counts: &LaneCounts) -> bool {
    let lost: u64 = counts.lost.iter().sum();
    counts.begun == counts.done + lost + counts.late + counts.abandoned
}

/// Runs loops on so many lanes, each on a thread, until `goes_on(steps, since)` says no.
fn lanes(
    engine: &Engine,
    gpu: &Gpu,
    count: u16,
    goes_on: impl Fn(u64, Duration) -> bool + Sync,
) -> Result<(Tally, Vec<LaneCounts>)> {
    let (mut all, mut books) = (Tally::default(), vec![]);
    std::thread::scope(|scope| {
        let run = || -> Result<(Tally, LaneCounts)> {
            engine.enter()?;
            let mut steps = StepLoop::new(engine, gpu, WORK_NS)?;
            let begun = Instant::now();
            while goes_on(steps.tally.steps, begun.elapsed()) {
                steps.step()?
            }
            steps.finish()?;
            Ok((steps.tally, steps.counts()))
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(run)).collect();
        for thread in threads {
            let (tally, counts) =
                thread.join().map_err(|_| anyhow!("a lane's thread panicked"))??;
            all.add(&tally);
            books.push(counts)
        }
        Ok((all, books))
    })
}

fn say(row: &mut Row, tally: &Tally, books: &[LaneCounts]) {
    row.exactly("steps with a time", tally.done, tally.steps);
    row.exactly("times that are another step's", tally.wrong, 0);
    row.exactly("not there behind the own event's wait", tally.pending, 0);
    row.exactly("lost", tally.lost, 0);
    if let Some(why) = tally.first_lost {
        row.holds("first reason of a loss", false, why.label())
    }
    row.holds("the books of every lane balance", books.iter().all(balanced), "")
}

/// Row 5.
pub fn two_lanes(args: &Args, row: &mut Row) -> Result<()> {
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 2)?;
    let wanted = args.sized(10_000, 500);
    let (tally, books) = lanes(&engine, &gpu, 2, |steps, _| steps < wanted)?;
    row.exactly("steps", tally.steps, 2 * wanted);
    say(row, &tally, &books);
    row.exactly("stamps that found no step", books.iter().map(|book| book.unclaimed).sum(), 0);
    Ok(())
}

/// Row 9.
pub fn captures(args: &Args, row: &mut Row) -> Result<()> {
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 4)?;
    unannounced(args, row, &engine, &gpu)?;
    begin_in_capture(row, &engine, &gpu)?;
    attach_beside_capture(args, row, &engine)
}

/// Every tenth replay belongs to no step: counted exactly, and no step's time suffers.
fn unannounced(args: &Args, row: &mut Row, engine: &Engine, gpu: &Gpu) -> Result<()> {
    let mut steps = StepLoop::new(engine, gpu, WORK_NS)?;
    let (wanted, mut alone) = (args.sized(5_000, 300), 0);
    for step in 0..wanted {
        steps.step()?;
        if step % 10 == 9 {
            steps.replay_unannounced()?;
            alone += 1
        }
    }
    steps.finish()?;
    engine.synchronize(steps.stream)?;
    say(row, &steps.tally, &[steps.counts()]);
    let unclaimed = steps.counts().unclaimed;
    row.exactly("stamps of unannounced replays", unclaimed, alone * STAMPS_OF_A_REPLAY);
    Ok(())
}

/// A step begun while its stream captures is refused, and the graph is as if it had not been asked.
fn begin_in_capture(row: &mut Row, engine: &Engine, gpu: &Gpu) -> Result<()> {
    let stream = engine.stream()?;
    let mut lane = gpu.lane(stream.raw())?;
    let word = engine.device_memory(8)?;
    let mut refused = None;
    let graph = engine.captured(stream, || {
        let mut ticket = lane.begin(info());
        engine.launch(engine.small, [1, 1], stream, [word])?;
        lane.end(&mut ticket);
        refused = Some(gpu.settle(ticket));
        Ok(())
    });
    let capturing = matches!(refused, Some(Resolution::Lost(Lost::Capturing)));
    row.holds("a step begun in a capture is refused by name", capturing, "");
    row.holds("its capture gives a graph", graph.is_ok(), note(&graph));
    engine.replay(graph?, stream)?;
    engine.synchronize(stream)?;
    row.exactly("what the graph's kernel wrote", engine.read(word, 1)?[0], 1);
    let mut ticket = lane.begin(info());
    lane.end(&mut ticket);
    engine.synchronize(stream)?;
    let done = matches!(gpu.settle(ticket), Resolution::Done(_));
    row.holds("the lane's next step has a time", done, "");
    Ok(())
}

/// Attaching while another thread captures in the strictest mode leaves that capture whole.
fn attach_beside_capture(args: &Args, row: &mut Row, engine: &Engine) -> Result<()> {
    let stream = engine.stream()?;
    let word = engine.device_memory(8)?;
    let ((begun, has_begun), (attached, has_attached)) = (channel(), channel());
    let (graph, gpu) = std::thread::scope(|scope| {
        let capture = scope.spawn(move || -> Result<_> {
            engine.enter()?;
            engine.begin_capture(stream, Mode::Global)?;
            begun.send(())?;
            has_attached.recv()?;
            engine.launch(engine.small, [1, 1], stream, [word])?;
            Ok(engine.end_capture(stream)?)
        });
        // An error here is the capturing thread's, which tells it itself.
        let _ = has_begun.recv();
        let gpu = engine.attach(args, 1);
        let _ = attached.send(());
        (capture.join().map_err(|_| anyhow!("the capturing thread panicked")), gpu)
    });
    let graph = graph?;
    row.holds("attach beside another thread's global capture", gpu.is_ok(), note(&gpu));
    row.holds("that capture stays valid", graph.is_ok(), note(&graph));
    engine.replay(graph?, stream)?;
    engine.synchronize(stream)?;
    row.exactly("what its graph's kernel wrote", engine.read(word, 1)?[0], 1);
    Ok(())
}

fn note<T, E: std::fmt::Display>(result: &Result<T, E>) -> String {
    result.as_ref().err().map_or_else(String::new, |error| format!("{error:#}"))
}

/// Row 15.
pub fn soak(args: &Args, row: &mut Row) -> Result<()> {
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 4)?;
    let length = args.sized(Duration::from_secs(300), Duration::from_secs(5));
    let (sizes, outcome) = std::thread::scope(|scope| {
        let (over, is_over) = channel::<()>();
        let watch = scope.spawn(move || {
            let (begun, mut sizes) = (Instant::now(), vec![]);
            // The first tenth fills every buffer that is filled once.
            while is_over.recv_timeout(length / 50).is_err() {
                if begun.elapsed() > length / 10 {
                    sizes.push(resident_mib())
                }
                if begun.elapsed() > 2 * length + Duration::from_secs(60) {
                    break;
                }
            }
            sizes
        });
        let outcome = lanes(&engine, &gpu, 4, |_, since| since < length);
        let _ = over.send(());
        (watch.join(), outcome)
    });
    let (tally, books) = outcome?;
    let sizes = sizes.map_err(|_| anyhow!("the watching thread panicked"))?;
    say(row, &tally, &books);
    row.exactly("stamps that found no step", books.iter().map(|book| book.unclaimed).sum(), 0);
    row.reported("steps", tally.steps as f64, "");
    row.reported("steps a second", tally.steps as f64 / length.as_secs_f64(), "");
    let growth = match (sizes.first(), sizes.iter().copied().reduce(f64::max)) {
        (Some(first), Some(most)) => most - first,
        _ => f64::NAN,
    };
    row.at_most("growth of memory after the first tenth", growth, "MiB", GROWTH_MAX_MIB);
    row.reported("memory", resident_mib(), "MiB");
    Ok(())
}
