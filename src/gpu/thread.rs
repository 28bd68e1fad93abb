//! The thread `stepscope-gpu`: keeps the clock's map true, watches that steps finish, polls CUPTI.
//!
//! It makes the context current once, sets its capture mode to relaxed once, and from then on only
//! launches probes on a stream of its own. Steps never pass through it.

use super::driver::{Code, Failed};
use super::fit::{Fit, Verdict};
use super::graphs::Graphs;
use super::inner::{Inner, PROBE_PATIENCE, RESOLUTION_SPINS, Tags};
use crate::record::Time;
use crossbeam_utils::sync::{Parker, Unparker};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it looks at the lanes.
const TICK: Duration = Duration::from_millis(100);
/// Clock rounds after attaching: the rate is unknown before the second one.
const FIRST_ROUNDS_MS: [u64; 3] = [100, 500, 2_000];
/// Clock rounds while steps run, and while none does.
const BUSY_NS: u64 = 2_000_000_000;
const IDLE_NS: u64 = 30_000_000_000;
/// Every so many rounds the timer's resolution is measured again: profilers may change it.
const RESOLUTION_ROUNDS: u64 = 16;
/// A launch may hang in a driver whose device hangs; an engine's shutdown must not.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// CU_STREAM_CAPTURE_MODE_RELAXED
const RELAXED: i32 = 2;

/// The thread, as long as somebody holds it.
#[derive(Debug)]
pub(super) struct Watch {
    handle: Mutex<Option<JoinHandle<()>>>,
    stop: Arc<AtomicBool>,
    unparker: Unparker,
    /// A forked child has no such thread to wait for.
    process: u32,
}

impl Watch {
    pub(super) fn start(
        inner: Arc<Inner>,
        fit: Fit,
        tags: Tags,
        graphs: Option<Graphs>,
    ) -> std::io::Result<Watch> {
        let parker = Parker::new();
        let unparker = parker.unparker().clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let handle = std::thread::Builder::new().name("stepscope-gpu".into()).spawn(move || {
            let mut watcher = Watcher::new(inner, fit, tags, graphs);
            if watcher.enter().is_ok() {
                while !stopped.load(Ordering::Acquire) && watcher.tick() {
                    parker.park_timeout(TICK)
                }
            }
            watcher.leave()
        })?;
        let handle = Mutex::new(Some(handle));
        Ok(Watch { handle, stop, unparker, process: std::process::id() })
    }

    /// Ends the thread; false = it hangs in the driver and is left behind.
    pub(super) fn stop(&self) -> bool {
        if self.is_forked() {
            return true;
        }
        self.stop.store(true, Ordering::Release);
        let mut place = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(handle) = place.take() else { return true };
        self.unparker.unpark();
        let asked = Instant::now();
        while !handle.is_finished() {
            if asked.elapsed() > STOP_PATIENCE {
                tracing::warn!("the GPU's clock thread hangs in the driver");
                // Whoever asks again waits again.
                *place = Some(handle);
                return false;
            }
            std::thread::sleep(Duration::from_millis(1))
        }
        // A panic there was reported by the panic hook; there is nothing left to undo here.
        let _ = handle.join();
        true
    }
}

impl Watch {
    fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.is_forked() {
            // Not even detached: the system may have given its memory to a thread of this process.
            let handle = self.handle.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(handle.take())
        } else {
            // What hangs is left behind.
            self.stop();
        }
    }
}

struct Watcher {
    inner: Arc<Inner>,
    fit: Fit,
    tags: Tags,
    resolution: i64,
    started: Time,
    rounds: u64,
    next_round: Time,
    /// Steps begun on all lanes when the last round was made.
    steps_at_round: u64,
    unclaimed: u64,
    /// By lane: the newest finished step, and since when it has been that.
    finished: Vec<(u64, Time)>,
    /// CUPTI, where it runs.
    graphs: Option<Graphs>,
}

impl Watcher {
    fn new(inner: Arc<Inner>, fit: Fit, tags: Tags, graphs: Option<Graphs>) -> Watcher {
        let now = Time::now();
        let resolution = fit.map().resolution;
        let finished = vec![(0, now); usize::from(inner.lanes_max)];
        Watcher {
            inner,
            fit,
            tags,
            resolution,
            started: now,
            rounds: 0,
            next_round: later(now, FIRST_ROUNDS_MS[0] * 1_000_000),
            steps_at_round: 0,
            unclaimed: 0,
            finished,
            graphs,
        }
    }

    fn enter(&self) -> Result<(), Failed> {
        let mut mode = RELAXED;
        // SAFETY: the context is the engine's, alive by its promise; both change this thread only.
        unsafe {
            self.inner.driver.cuCtxSetCurrent(self.inner.context)?;
            self.inner.driver.cuThreadExchangeStreamCaptureMode(&mut mode)
        }
    }

    /// One look at everything; false = there is nothing left to watch.
    fn tick(&mut self) -> bool {
        if let Some(code) = self.inner.gone() {
            tracing::warn!(code, "the GPU's context is gone: steps are timed by the host clock");
            return false;
        }
        if !self.inner.region.is_alive() {
            return false;
        }
        let now = Time::now();
        self.watch_lanes(now);
        self.count_unclaimed();
        self.take_graph_times();
        if now >= self.next_round {
            // An error is booked by the breaker, which the next tick reads.
            let _ = self.clock_round();
            self.rounds += 1;
            self.plan(Time::now())
        }
        let error = self.inner.map.read().error_at_host(now.as_nanos()).max(0) as u64;
        let resolution = self.resolution as u64;
        self.inner.device.stamps.set_clock(Some(error), Some(resolution));
        true
    }

    fn watch_lanes(&mut self, now: Time) {
        let mut stuck: Option<Time> = None;
        for (lane, (newest, since)) in self.finished.iter_mut().enumerate() {
            let lane = lane as u16;
            let progress = self.inner.progress(lane);
            if progress.completed != *newest {
                (*newest, *since) = (progress.completed, now);
                if let Some(end) = self.inner.end_word(lane, progress.completed) {
                    let at = self.inner.map.read().host(end).ns.max(0) as u64;
                    self.inner.device.stamps.finished(Time::from_nanos(at).min(now))
                }
            }
            if progress.is_waiting() {
                stuck = Some(stuck.map_or(*since, |there| there.min(*since)))
            } else {
                // A wait begins when there is something to wait for.
                *since = now
            }
        }
        self.inner.device.stamps.set_stuck_since(stuck)
    }

    fn count_unclaimed(&mut self) {
        let all: u64 = (0..self.inner.lanes_max).map(|lane| self.inner.unclaimed(lane)).sum();
        self.inner.device.stamps.unclaimed.add(all.saturating_sub(self.unclaimed));
        self.unclaimed = all
    }

    fn take_graph_times(&mut self) {
        if let Some(graphs) = &mut self.graphs {
            graphs.poll(&self.inner)
        }
    }

    fn clock_round(&mut self) -> Result<(), Code> {
        if self.rounds % RESOLUTION_ROUNDS == RESOLUTION_ROUNDS - 1
            && let Some(probe) =
                self.inner.probe(self.tags.next(), RESOLUTION_SPINS, PROBE_PATIENCE)?
            && let Some(resolution) = probe.resolution()
        {
            self.resolution = resolution
        }
        let round =
            self.inner.probe_round(&self.fit, &mut self.tags, self.resolution, PROBE_PATIENCE)?;
        match round.map(|round| self.fit.round(round)) {
            Some(Verdict::Kept) => {}
            Some(Verdict::Jumped) => {
                tracing::warn!("the GPU's clock jumped: steps under way lose their times");
                self.inner.jumps.fetch_add(1, Ordering::Relaxed);
                self.inner.device.stamps.clock_jumps.add(1)
            }
            Some(Verdict::Unsound | Verdict::Wide) | None => {
                self.inner.rejected.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        }
        self.inner.map.publish(self.fit.map());
        self.inner.rounds.fetch_add(1, Ordering::Relaxed);
        self.inner.last_round.store(Time::now().as_nanos(), Ordering::Relaxed);
        Ok(())
    }

    fn plan(&mut self, now: Time) {
        let steps: u64 =
            self.inner.lanes.iter().map(|book| book.issued.load(Ordering::Relaxed)).sum();
        let pause = if steps != self.steps_at_round { BUSY_NS } else { IDLE_NS };
        self.steps_at_round = steps;
        self.next_round = match FIRST_ROUNDS_MS.get(self.rounds as usize) {
            Some(ms) => later(self.started, ms * 1_000_000),
            None => later(now, pause),
        }
    }

    /// What is not watched any more is not known any more.
    fn leave(&mut self) {
        self.count_unclaimed();
        if let Some(graphs) = &mut self.graphs {
            graphs.finish(&self.inner)
        }
        self.inner.device.stamps.set_clock(None, None);
        self.inner.device.stamps.set_stuck_since(None)
    }
}

fn later(at: Time, ns: u64) -> Time {
    Time::from_nanos(at.as_nanos().saturating_add(ns))
}
