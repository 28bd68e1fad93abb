//! Row 13: CUPTI's graph times: what they cost, whether each finds its step, memory, a second subscriber.

use crate::args::Args;
use crate::child::{self, How};
use crate::cupti;
use crate::engine::{Engine, Graph, Stream};
use crate::numbers::{median, resident_mib};
use crate::report::Row;
use anyhow::{Context, Result, ensure};
use libloading::Library;
use serde::{Deserialize, Serialize};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stepscope::gpu::cupti::{CuptiUnavailable, Stats, Subscription};

const COST_MAX_US: f64 = 5.0;
const MEMORY_MAX_MIB: f64 = 64.0;
const NODES: usize = 64;
const PART_LIMIT: Duration = Duration::from_secs(300);
/// Steps of this program's two callers carry these lanes in their ids.
const DRIVER_LANE: u16 = 1;
const RUNTIME_LANE: u16 = 2;
/// CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED and CUPTI_ERROR_NOT_COMPATIBLE
const HELD: [u32; 2] = [39, 14];

/// What a part found out.
#[derive(Serialize, Deserialize, Default)]
struct Found {
    replay_us: f64,
    /// Why there is no CUPTI; the rest is then empty.
    unavailable: Option<String>,
    launched: u64,
    seen: u64,
    runtime_launched: Option<u64>,
    runtime_seen: u64,
    unattributed: u64,
    many: u64,
    many_records: u64,
    growth_mib: f64,
    dropped: u64,
}

/// Row 13.
pub fn row(args: &Args, row: &mut Row) -> Result<()> {
    if row.needs_a_card("CUPTI graph times", "CUPTI needs a real driver") {
        return Ok(());
    }
    let plain = in_part(args, "replays")?;
    let traced = in_part(args, "cupti-replays")?;
    if let Some(why) = traced.unavailable {
        row.skipped("CUPTI graph times", why);
        return Ok(());
    }
    row.reported("64 nodes, without CUPTI, per replay", plain.replay_us, "us");
    row.at_most("added by CUPTI per replay", traced.replay_us - plain.replay_us, "us", COST_MAX_US);
    row.exactly("replays by the driver API with their step's id", traced.seen, traced.launched);
    match traced.runtime_launched {
        Some(launched) => {
            let what = "replays by the runtime API with their step's id";
            row.exactly(what, traced.runtime_seen, launched)
        }
        None => row.skipped("replays by the runtime API", "no libcudart.so.13 or .12 was found"),
    }
    row.exactly("times without a step's id", traced.unattributed, 0);
    row.reported("launches of the long run", traced.many as f64, "");
    row.reported("its records", traced.many_records as f64, "");
    row.reported("records that CUPTI dropped", traced.dropped as f64, "");
    row.at_most("growth of memory in the long run", traced.growth_mib, "MiB", MEMORY_MAX_MIB);
    let held = child::run(args, "cupti-held", PART_LIMIT)?;
    match held.how {
        How::Code(0) if held.last.starts_with("no ") => {
            row.skipped("a second subscriber", held.last)
        }
        how => {
            let ok = how == How::Code(0) && held.last == "refused";
            row.holds(
                "a second subscriber is refused by name",
                ok,
                format!("{how:?} {}", held.last),
            )
        }
    }
    Ok(())
}

fn in_part(args: &Args, part: &str) -> Result<Found> {
    let ended = child::run(args, part, PART_LIMIT)?;
    ensure!(ended.how == How::Code(0), "part {part} ended with {:?}", ended.how);
    serde_json::from_str(&ended.last).with_context(|| format!("part {part} said {}", ended.last))
}

/// Part `replays`: the same replays in a process without CUPTI.
pub fn plain_part(args: &Args) -> Result<String> {
    let engine = Engine::start(args)?;
    let _gpu = engine.attach(args, 1)?;
    let stream = engine.stream()?;
    let graph = graph(&engine, stream, NODES)?;
    let replay_us = paced(&engine, stream, args, |_| Ok(engine.replay(graph, stream)?))?;
    Ok(serde_json::to_string(&Found { replay_us, ..Found::default() })?)
}

/// Part `cupti-replays`.
pub fn traced_part(args: &Args) -> Result<String> {
    let engine = Engine::start(args)?;
    let _gpu = engine.attach(args, 1)?;
    let tracing = match cupti::start(args, &engine.driver) {
        Ok(tracing) => tracing,
        Err(why) => {
            let unavailable = Some(why.to_string());
            return Ok(serde_json::to_string(&Found { unavailable, ..Found::default() })?);
        }
    };
    let (ids, stop) = (tracing.ids(), AtomicBool::new(false));
    let many_begin = AtomicBool::new(false);
    let (outcome, polled) = std::thread::scope(|scope| {
        let poll = scope.spawn(|| poll(tracing, &stop, &many_begin));
        let outcome = launch_all(args, &engine, ids, &many_begin);
        // The last records may need several polls.
        std::thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Release);
        (outcome, poll.join().map_err(|_| anyhow::anyhow!("the polling thread panicked")))
    });
    let (mut found, polled) = (outcome?, polled?);
    found.seen = polled.driver;
    found.runtime_seen = polled.runtime;
    found.unattributed = polled.unattributed;
    found.many_records = polled.many;
    found.dropped = polled.stats.dropped;
    Ok(serde_json::to_string(&found)?)
}

/// The paced replays by both APIs, and then many as fast as they go.
fn launch_all(
    args: &Args,
    engine: &Engine,
    ids: stepscope::gpu::cupti::ExternalIds,
    many_begin: &AtomicBool,
) -> Result<Found> {
    let stream = engine.stream()?;
    let graph64 = graph(engine, stream, NODES)?;
    let mut found = Found::default();
    found.replay_us = paced(engine, stream, args, |step| {
        ids.push(DRIVER_LANE, step);
        let launched = engine.replay(graph64, stream);
        ids.pop();
        found.launched += 1;
        Ok(launched?)
    })?;
    if let Some(runtime) = Runtime::find() {
        let count = args.sized(1_000, 100);
        for step in 0..count {
            ids.push(RUNTIME_LANE, step);
            let launched = runtime.launch(graph64, stream);
            ids.pop();
            launched?;
            engine.synchronize(stream)?
        }
        found.runtime_launched = Some(count)
    }
    // What is still under way belongs to the replays above.
    std::thread::sleep(Duration::from_secs(2));
    many_begin.store(true, Ordering::Release);
    let one = graph(engine, stream, 1)?;
    found.many = args.sized(1_000_000, 20_000);
    let (before, mut most) = (resident_mib(), 0f64);
    for step in 0..found.many {
        engine.replay(one, stream)?;
        if step % 4_096 == 0 {
            most = most.max(resident_mib())
        }
    }
    engine.synchronize(stream)?;
    found.growth_mib = most.max(resident_mib()) - before;
    Ok(found)
}

#[derive(Default)]
struct Polled {
    driver: u64,
    runtime: u64,
    unattributed: u64,
    many: u64,
    stats: Stats,
}

fn poll(mut tracing: Subscription, stop: &AtomicBool, many_begin: &AtomicBool) -> Polled {
    let mut polled = Polled::default();
    loop {
        let last = stop.load(Ordering::Acquire);
        let many = many_begin.load(Ordering::Acquire);
        tracing.poll(&mut |time| match time.external.map(|id| (id >> 48) as u16) {
            Some(DRIVER_LANE) => polled.driver += 1,
            Some(RUNTIME_LANE) => polled.runtime += 1,
            _ if many => polled.many += 1,
            _ => polled.unattributed += 1,
        });
        if last {
            polled.stats = tracing.stats();
            return polled;
        }
        std::thread::sleep(Duration::from_millis(100))
    }
}

fn graph(engine: &Engine, stream: Stream, nodes: usize) -> Result<Graph> {
    let word = engine.device_memory(8)?;
    engine.captured(stream, || {
        for _ in 0..nodes {
            engine.launch(engine.small, [1, 1], stream, [word])?
        }
        Ok(())
    })
}

/// us per replay, in batches that end with a wait, as an engine's steps do.
fn paced(
    engine: &Engine,
    stream: Stream,
    args: &Args,
    mut replay: impl FnMut(u64) -> Result<()>,
) -> Result<f64> {
    const BATCH: u64 = 10;
    let (mut times, mut step) = (vec![], 0);
    for _ in 0..args.sized(500, 30) {
        let begun = Instant::now();
        for _ in 0..BATCH {
            replay(step)?;
            step += 1
        }
        engine.synchronize(stream)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6 / BATCH as f64)
    }
    Ok(median(&mut times))
}

/// The CUDA runtime, whose launches are another caller's in CUPTI's eyes.
struct Runtime {
    graph_launch: unsafe extern "C" fn(usize, usize) -> c_int,
}

impl Runtime {
    fn find() -> Option<Runtime> {
        let names = ["libcudart.so.13", "libcudart.so.12"];
        let folders = ["", "/usr/local/cuda/lib64/"];
        let files = folders.iter().flat_map(|folder| names.map(|name| format!("{folder}{name}")));
        // SAFETY: the runtime's own initialisers.
        let library = files.filter_map(|file| unsafe { Library::new(file) }.ok()).next()?;
        // SAFETY: the runtime's signature of this name; the library is never unloaded.
        let graph_launch = *unsafe { library.get(b"cudaGraphLaunch\0") }.ok()?;
        std::mem::forget(library);
        Some(Runtime { graph_launch })
    }

    fn launch(&self, graph: Graph, stream: Stream) -> Result<()> {
        // SAFETY: a cudaGraphExec_t is a CUgraphExec, a cudaStream_t a CUstream; both live on.
        let code = unsafe { (self.graph_launch)(graph.0, stream.0) };
        ensure!(code == 0, "cudaGraphLaunch failed with {code}");
        Ok(())
    }
}

type Subscribe = unsafe extern "C" fn(
    *mut usize,
    unsafe extern "C" fn(*mut c_void, u32, u32, *const c_void),
    *mut c_void,
) -> u32;

/// Never called: no callback is enabled.
unsafe extern "C" fn ignore(_: *mut c_void, _: u32, _: u32, _: *const c_void) {}

/// Part `cupti-held`: another subscriber is there first.
pub fn held_part(args: &Args) -> Result<String> {
    let engine = Engine::start(args)?;
    let _gpu = engine.attach(args, 1)?;
    // SAFETY: CUPTI's own initialisers.
    let open = |file: &std::path::PathBuf| unsafe { Library::new(file) }.ok();
    let Some(library) = cupti::candidates(args).iter().find_map(open) else {
        return Ok("no CUPTI where this program looks: name it with --cupti".to_owned());
    };
    let mut subscriber = 0;
    // SAFETY: CUPTI's signature of this name; the callback takes what CUPTI gives and does nothing.
    let code = unsafe {
        let subscribe: libloading::Symbol<Subscribe> = library.get(b"cuptiSubscribe\0")?;
        subscribe(&mut subscriber, ignore, std::ptr::null_mut())
    };
    std::mem::forget(library);
    ensure!(code == 0, "the first subscriber was refused with {code}");
    Ok(match cupti::start(args, &engine.driver) {
        Err(CuptiUnavailable::Refused(code)) if HELD.contains(&code) => "refused".to_owned(),
        Err(why) => why.to_string(),
        Ok(_) => "two subscribers were admitted".to_owned(),
    })
}
