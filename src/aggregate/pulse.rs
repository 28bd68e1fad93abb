//! What probes may look at without waiting for the aggregator: is the engine alive, is it fed.
//!
//! A frozen or busy aggregator must not freeze a liveness probe, so these values lie beside it.

use crate::record::cells::Cells;
use crate::record::{DeviceCells, Tally, Time, request};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

#[derive(Default)]
pub(crate) struct Pulse {
    cells: RwLock<Vec<Arc<Cells>>>,
    devices: RwLock<Vec<Arc<DeviceCells>>>,
    last_drain: AtomicU64,
    /// When the engine said it was ready; 0 = not yet.
    ready_at: AtomicU64,
    /// When nothing was waiting or running the last time somebody looked.
    last_idle: AtomicU64,
    /// What recorders that are gone left waiting or running.
    retired_flow: AtomicU64,
    /// The last step of a recorder that is gone.
    retired_step: AtomicU64,
    scope: AtomicU64,
    /// Sequences that the scope's tag had dropped before it was ours.
    dropped_before: AtomicU64,
}

impl Pulse {
    /// Whose dropped requests count.
    pub(super) fn belongs_to(&self, scope: u8, dropped_before: [u64; 3]) {
        let [_, waiting, running] = dropped_before;
        self.scope.store(scope.into(), Ordering::Relaxed);
        self.dropped_before.store(waiting + running, Ordering::Relaxed)
    }

    pub(super) fn add(&self, cells: &Arc<Cells>) {
        self.cells.write().unwrap_or_else(PoisonError::into_inner).push(cells.clone())
    }

    pub(super) fn remove(&self, cells: &Arc<Cells>) {
        let mut all = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        self.retired_flow.fetch_add(flow(cells), Ordering::Relaxed);
        let step = cells.levels.last_step.load(Ordering::Relaxed);
        self.retired_step.fetch_max(step, Ordering::Relaxed);
        all.retain(|there| !Arc::ptr_eq(there, cells))
    }

    pub(super) fn watch(&self, device: &Arc<DeviceCells>) {
        self.devices.write().unwrap_or_else(PoisonError::into_inner).push(device.clone())
    }

    /// How long the slowest device has not finished a step it was handed; `None` = none waits.
    ///
    /// Read from what the stamps left in memory, so it tells also while the engine's thread hangs
    /// in a call that waits for the device.
    pub(crate) fn device_stuck_seconds(&self, now: Time) -> Option<f64> {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        let since = devices.iter().filter_map(|device| device.stamps.stuck_since()).min()?;
        Some(now.seconds_since(since))
    }

    /// What broke a device for good: a fatal XID or an uncorrectable memory error since the start.
    pub(crate) fn device_fault(&self) -> Option<String> {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        devices.iter().find_map(|device| {
            let seen = |tally| device.tally(tally).unwrap_or(0) > 0;
            let xid = seen(Tally::XidFatal).then(|| match device.last_xid() {
                Some(code) => format!("a fatal XID error, the last one is {code}"),
                None => "a fatal XID error".into(),
            });
            let ecc =
                || seen(Tally::EccUncorrected).then(|| "an uncorrectable memory error".into());
            xid.or_else(ecc)
        })
    }

    /// The aggregate thread (or the owner of a manual clock) drained.
    pub(crate) fn drained(&self, at: Time) {
        self.last_drain.store(at.as_nanos(), Ordering::Relaxed);
        if !self.has_work() {
            self.last_idle.store(at.as_nanos(), Ordering::Relaxed)
        }
    }

    /// The engine can serve from `at` on; only the first call counts.
    pub(crate) fn ready(&self, at: Time) {
        let _ =
            self.ready_at.compare_exchange(0, at.as_nanos(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// When that was.
    pub(crate) fn ready_at(&self) -> Option<Time> {
        time(self.ready_at.load(Ordering::Relaxed))
    }

    /// Time since that last happened, in ns.
    pub(crate) fn lag_ns(&self, now: Time) -> u64 {
        now.nanos_since(Time::from_nanos(self.last_drain.load(Ordering::Relaxed)))
    }

    /// How long work has been there without a step that ended; `None` while nothing is in flight.
    ///
    /// Counted from the newest of: the last step, the last moment without work (an idle hour before
    /// a request is no stall), and the moment the engine said it was ready.
    pub(crate) fn stuck_seconds(&self, now: Time) -> Option<f64> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let step = cells.iter().map(|c| c.levels.last_step.load(Ordering::Relaxed)).max();
        drop(cells);
        let marks = [&self.ready_at, &self.last_idle, &self.retired_step]
            .map(|mark| mark.load(Ordering::Relaxed));
        let since = time(marks.into_iter().chain(step).max()?)?;
        self.has_work().then(|| now.seconds_since(since))
    }

    /// Is any sequence waiting or running? Flows are exact only summed, so this is a sum too.
    fn has_work(&self) -> bool {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let retired = self.retired_flow.load(Ordering::Relaxed);
        let flow = cells.iter().fold(retired, |sum, cells| sum.wrapping_add(flow(cells)));
        let [_, waiting, running] = request::dropped(self.scope.load(Ordering::Relaxed) as u8);
        let dropped = (waiting + running).wrapping_sub(self.dropped_before.load(Ordering::Relaxed));
        flow.wrapping_sub(dropped) as i64 > 0
    }
}

/// Waiting and running sequences that this recorder added, less those it took away.
fn flow(cells: &Cells) -> u64 {
    let levels = &cells.levels;
    levels.waiting.load(Ordering::Relaxed).wrapping_add(levels.running.load(Ordering::Relaxed))
}

fn time(ns: u64) -> Option<Time> {
    (ns != 0).then(|| Time::from_nanos(ns))
}
