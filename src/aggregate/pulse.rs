//! What probes may look at without waiting for the aggregator: is the engine alive, is it fed.
//!
//! A frozen or busy aggregator must not freeze a liveness probe, so these values lie beside it.

use crate::record::cells::Cells;
use crate::record::{Time, request};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

#[derive(Default)]
pub(crate) struct Pulse {
    cells: RwLock<Vec<Arc<Cells>>>,
    last_drain: AtomicU64,
    /// What recorders that are gone left waiting or running.
    retired_flow: AtomicU64,
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
        all.retain(|there| !Arc::ptr_eq(there, cells))
    }

    /// The aggregate thread (or the owner of a manual clock) drained.
    pub(crate) fn drained(&self, at: Time) {
        self.last_drain.store(at.as_nanos(), Ordering::Relaxed)
    }

    /// Time since that last happened, in ns.
    pub(crate) fn lag_ns(&self, now: Time) -> u64 {
        now.nanos_since(Time::from_nanos(self.last_drain.load(Ordering::Relaxed)))
    }

    /// Host time of the newest step of any recorder, if there was one.
    pub(crate) fn last_step(&self) -> Option<Time> {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let newest = cells.iter().map(|c| c.levels.last_step.load(Ordering::Relaxed)).max();
        newest.filter(|ns| *ns != 0).map(Time::from_nanos)
    }

    /// Is any sequence waiting or running? Flows are exact only summed, so this is a sum too.
    pub(crate) fn has_work(&self) -> bool {
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
