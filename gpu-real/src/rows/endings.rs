//! Rows 10 and 11: a context that dies under a living Gpu, a process that just ends, a fork.

use crate::args::Args;
use crate::child::{self, How};
use crate::engine::Engine;
use crate::numbers::percentile;
use crate::report::Row;
use crate::steps::{StepLoop, info};
use anyhow::{Result, bail, ensure};
use std::time::Duration;
use stepscope::gpu::{Gpu, LaneError, Lost, RawStream, Resolution, StepTicket};

/// A process that has said that it ends may take so long.
const HANG_S: f64 = 2.0;
/// On the fake driver the machine's other work is what takes long.
const FAKE_HANG_S: f64 = 10.0;
/// What the part says whose clock thread met the dead context.
const NOTICED: &str = "noticed";
const KILL_AFTER: Duration = Duration::from_secs(30);

/// Row 10.
pub fn row(args: &Args, row: &mut Row) -> Result<()> {
    let count = args.sized(50, 3);
    let patience = if row.fake { FAKE_HANG_S } else { HANG_S };
    for (part, what) in [
        ("reset", "primary context reset"),
        ("sticky", "illegal address (sticky error)"),
        ("exit", "exit without detach"),
    ] {
        let (mut bad, mut signals, mut hung, mut noticed, mut ends) = (0, 0, 0, 0, vec![]);
        let mut first = None;
        for _ in 0..count {
            let ended = child::run(args, part, KILL_AFTER)?;
            match ended.how {
                How::Code(0) => {}
                How::Signal(_) => signals += 1,
                How::Killed => hung += 1,
                How::Code(_) => bad += 1,
            }
            noticed += u64::from(ended.last == NOTICED);
            match ended.since_mark {
                Some(took) => ends.push(took.as_secs_f64()),
                None => bad += 1,
            }
            if ended.how != How::Code(0) {
                first.get_or_insert(format!("{:?}", ended.how));
            }
        }
        hung += ends.iter().filter(|took| **took > patience).count() as u64;
        row.exactly(&format!("{what}: processes ended by a signal"), signals, 0);
        row.exactly(&format!("{what}: hung for more than {patience} s"), hung, 0);
        row.exactly(&format!("{what}: ended with an error"), bad, 0);
        let longest = percentile(&mut ends, 1.0);
        row.reported(&format!("{what}: longest end of {count}"), longest, "s");
        if part == "reset" {
            row.reported("of them, clock thread ended by the driver's word", noticed as f64, "")
        }
        if let Some(how) = first {
            row.holds(&format!("{what}: every end is a good one"), false, how)
        }
    }
    Ok(())
}

/// An engine with a lane that has stamped some steps, and one of them not settled yet.
fn living<'a>(engine: &'a Engine, gpu: &'a Gpu) -> Result<(StepLoop<'a>, StepTicket)> {
    let mut steps = StepLoop::new(engine, gpu, 2_000)?;
    for _ in 0..20 {
        steps.step()?
    }
    let held = steps.held()?;
    ensure!(steps.tally.done == 20, "{:?}", steps.tally);
    Ok((steps, held))
}

fn still_done(gpu: &Gpu, ticket: StepTicket) -> Result<()> {
    match gpu.settle(ticket) {
        Resolution::Done(_) => Ok(()),
        other => bail!("a step that had run has no time any more: {other:?}"),
    }
}

/// Part `reset`: the context goes while the clock thread still has rounds to make in it.
pub fn reset(args: &Args) -> Result<String> {
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 1)?;
    let (steps, held) = living(&engine, &gpu)?;
    child::mark();
    // SAFETY: everything of the context is unused by the engine from here on.
    unsafe { engine.driver.cuDevicePrimaryCtxReset_v2(engine.device)? };
    still_done(&gpu, held)?;
    // The clock thread's next rounds: 0.1 and 0.5 s after attaching.
    std::thread::sleep(Duration::from_millis(700));
    let noticed = if gpu.gone().is_some() { NOTICED } else { "" };
    drop(steps);
    drop(gpu);
    Ok(noticed.to_owned())
}

/// Part `sticky`: a kernel's fault breaks the context for every later call.
pub fn sticky(args: &Args) -> Result<String> {
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 1)?;
    let (mut steps, held) = living(&engine, &gpu)?;
    child::mark();
    engine.launch(engine.fault, [1, 1], steps.stream, [8])?;
    let code = engine.synchronize(steps.stream).err().map(|refused| refused.code);
    ensure!(code == Some(700), "the fault gave {code:?}");
    still_done(&gpu, held)?;
    let mut ticket = steps.lane.begin(info());
    steps.lane.end(&mut ticket);
    let settled = gpu.settle(ticket);
    let refused = [Lost::LaunchFailed, Lost::Unavailable].map(Resolution::Lost);
    ensure!(refused.contains(&settled), "a step on a broken context: {settled:?}");
    drop(steps);
    drop(gpu);
    Ok(String::new())
}

/// Part `exit`: the process ends with steps in flight and threads running.
pub fn exit(args: &Args) -> Result<String> {
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 1)?;
    let (mut steps, held) = living(&engine, &gpu)?;
    for _ in 0..3 {
        steps.step()?
    }
    child::mark();
    drop(held);
    std::process::exit(0)
}

/// Row 11.
pub fn fork(args: &Args, row: &mut Row) -> Result<()> {
    let engine = Engine::start(args)?;
    let gpu = engine.attach(args, 2)?;
    let (mut steps, held) = living(&engine, &gpu)?;
    // SAFETY: the child makes no call that allocates or locks, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = in_child(&gpu, &mut steps, &held);
        // SAFETY: ends the process at once; nothing of the parent's is run or flushed.
        unsafe { libc::_exit(code) }
    }
    ensure!(child > 0, "fork: {}", std::io::Error::last_os_error());
    let mut status = 0;
    // SAFETY: our child; writes one int.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    let code =
        if waited == child && libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 };
    let note = match code {
        0 => "",
        1 => "an old ticket was not lost as forked",
        2 => "a new step was not lost as forked",
        3 => "a new lane was not refused",
        _ => "the child did not end by itself",
    };
    row.holds("the child finds empty pages and no GPU", code == 0, note);
    still_done(&gpu, held)?;
    let before = steps.tally;
    let wanted = args.sized(1_000, 100);
    for _ in 0..wanted {
        steps.step()?
    }
    steps.finish()?;
    row.exactly("the parent's next steps with a time", steps.tally.done - before.done, wanted);
    row.exactly("of them wrong", steps.tally.wrong, 0);
    Ok(())
}

/// What the forked child sees: 0, or the number of what was not as it should be.
fn in_child(gpu: &Gpu, steps: &mut StepLoop, held: &StepTicket) -> i32 {
    let forked = Resolution::Lost(Lost::Forked);
    if gpu.resolve(held) != forked {
        return 1;
    }
    let ticket = steps.lane.begin(info());
    if gpu.settle(ticket) != forked {
        return 2;
    }
    match gpu.lane(RawStream::LEGACY) {
        Err(LaneError::Detached) => 0,
        _ => 3,
    }
}
