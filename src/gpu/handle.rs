//! `Gpu`: the handle of an attachment, from attach to detach.

use super::attach::{self, Attached, Identity, Pushed, Relaxed};
use super::cupti::CuptiUnavailable;
use super::graphs::Graphs;
use super::inner::Inner;
use super::lane::Lane;
use super::layout::DETACHED;
use super::resolve;
use super::thread::Watch;
use super::ticket::StepTicket;
use super::words::{
    ClockState, DetachError, GpuUnavailable, LaneCounts, LaneError, Lost, Options, Progress,
    RawStream, Resolution,
};
use crate::record::{Device, Recorder, Time};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// The stamps on one CUDA context. Clones share it; it may be used from any thread.
///
/// Attach after the engine's own initialisation and not while it serves: compiling the kernels and
/// registering memory may synchronise. Stop stepping, then `detach` or drop, then destroy the
/// context. Dropping the last handle and lane stops the clock thread, makes no driver call and
/// leaks what the GPU might still write to.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
    watch: Arc<Watch>,
    identity: Arc<Identity>,
}

impl Gpu {
    /// Attaches to the context of `stream`, or to the current one for a default stream. Tells
    /// nobody but its caller; [`Stepscope::gpu`](crate::Stepscope::gpu) also feeds the metrics.
    ///
    /// # Errors
    /// Why there are no stamps: a value to log. Nothing is left behind.
    pub fn attach(stream: RawStream, options: &Options) -> Result<Gpu, GpuUnavailable> {
        Gpu::attach_for(stream, options, &Device(Arc::default()), None)
    }

    pub(crate) fn attach_for(
        stream: RawStream,
        options: &Options,
        device: &Device,
        graph_times: Option<Recorder>,
    ) -> Result<Gpu, GpuUnavailable> {
        let Attached { inner, fit, tags, identity, subscription } =
            attach::attach(stream, options, device.0.clone())?;
        let graphs = subscription
            .map(|subscription| Graphs::new(subscription, graph_times, inner.map.read().epoch));
        let watch = Watch::start(inner.clone(), fit, tags, graphs)
            .map_err(|cause| GpuUnavailable::Thread(cause.to_string()))?;
        Ok(Gpu { inner, watch: Arc::new(watch), identity: Arc::new(identity) })
    }

    /// Opens a lane for the steps of one stream. Makes no CUDA allocation, so it may be called
    /// while another stream captures.
    ///
    /// # Errors
    /// No lane is left, the stream belongs to another context, or the Gpu is detached.
    pub fn lane(&self, stream: RawStream) -> Result<Lane, LaneError> {
        Lane::open(&self.inner, &self.watch, stream)
    }

    /// What the stamps of a step say now. No driver call, lock or allocation.
    pub fn resolve(&self, ticket: &StepTicket) -> Resolution {
        resolve::resolve(&self.inner, ticket)
    }

    /// The same for the last time, and counted.
    pub fn settle(&self, ticket: StepTicket) -> Resolution {
        resolve::settle(&self.inner, &ticket)
    }

    /// How far a lane is; readable while the engine's thread hangs.
    pub fn progress(&self, lane: u16) -> Progress {
        self.inner.progress(lane)
    }

    /// The books of a lane.
    pub fn counts(&self, lane: u16) -> LaneCounts {
        self.inner.counts(lane)
    }

    /// How well GPU times are known on the host's clock.
    pub fn clock(&self) -> ClockState {
        let inner = &self.inner;
        let load = |cell: &std::sync::atomic::AtomicU64| cell.load(Ordering::Relaxed);
        let (map, now) = (inner.map.read(), Time::now());
        ClockState {
            error_ns: map.error_at_host(now.as_nanos()).max(0) as u64,
            resolution_ns: map.resolution.max(0) as u64,
            epoch: map.epoch,
            rounds: load(&inner.rounds),
            rejected: load(&inner.rejected),
            jumps: load(&inner.jumps),
            age_ns: now.nanos_since(Time::from_nanos(load(&inner.last_round))),
        }
    }

    /// What the device and its driver are called.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether CUPTI gives graph times too; `llm_cupti_records_total` counts what comes.
    ///
    /// # Errors
    /// Why it does not, for good. Stamps go on without it.
    pub fn cupti(&self) -> Result<(), CuptiUnavailable> {
        self.inner.ids.as_ref().map(|_| ()).map_err(|why| *why)
    }

    /// The CUDA error that ended the stamps for good, if one did.
    pub fn gone(&self) -> Option<i32> {
        self.inner.gone()
    }

    /// Takes everything apart: stop stepping first. Other handles and lanes become inert. May be asked
    /// again, from any handle: then it goes on where it stopped.
    ///
    /// # Errors
    /// What could not be given back is kept, which is safe.
    pub fn detach(self, patience: Duration) -> Result<(), DetachError> {
        let inner = &*self.inner;
        // A forked child has nothing to take apart, and a lock may be held there for ever.
        if inner.stopped() == Some(Lost::Forked) {
            return Ok(());
        }
        let mut given_back = inner.given_back.lock().unwrap_or_else(PoisonError::into_inner);
        if *given_back {
            return Ok(());
        }
        inner.region.set_magic(DETACHED);
        if !self.watch.stop() {
            // It still launches probes: nothing may be given back.
            return Err(DetachError::Busy);
        }
        let asked = Instant::now();
        while !(0..inner.lanes_max).all(|lane| inner.is_idle(lane)) {
            if asked.elapsed() > patience {
                return Err(DetachError::Busy);
            }
            std::thread::sleep(Duration::from_millis(1))
        }
        if inner.retained.load(Ordering::Relaxed) {
            return Err(DetachError::Retained);
        }
        give_back(inner)
            .map_err(|failed| DetachError::Call { name: failed.call, code: failed.code })?;
        *given_back = true;
        Ok(())
    }
}

/// Gives back what `attach` made; the first call that fails leaves the rest as it is.
fn give_back(inner: &Inner) -> Result<(), super::driver::Failed> {
    let driver = &*inner.driver;
    let _relaxed = Relaxed::new(driver)?;
    let _pushed = Pushed::new(driver, inner.context)?;
    // SAFETY: every lane is idle, no graph or kernel holds our addresses, and the clock thread has
    // ended: nothing on the device uses these any more.
    unsafe {
        driver.cuMemHostUnregister(inner.region.address())?;
        inner.region.unregistered();
        driver.cuMemFree_v2(inner.cells)?;
        driver.cuModuleUnload(inner.module)?;
        driver.cuStreamDestroy_v2(inner.own_stream)
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("identity", &self.identity).finish_non_exhaustive()
    }
}
