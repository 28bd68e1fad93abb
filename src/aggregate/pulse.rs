//! What probes may look at without waiting for the aggregator: is the engine alive, is it fed.
//!
//! A frozen or busy aggregator must not freeze a liveness probe, so these values lie beside it.

use crate::record::Time;
use crate::record::cells::Cells;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

#[derive(Default)]
pub(crate) struct Pulse {
    cells: RwLock<Vec<Arc<Cells>>>,
    last_drain: AtomicU64,
}

impl Pulse {
    pub(super) fn add(&self, cells: &Arc<Cells>) {
        self.cells.write().unwrap_or_else(PoisonError::into_inner).push(cells.clone())
    }

    pub(super) fn remove(&self, cells: &Arc<Cells>) {
        let mut all = self.cells.write().unwrap_or_else(PoisonError::into_inner);
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
}
