//! What must never be lost: single-writer atomic cells, one block per recorder, read at a scrape.
//!
//! Contract
//! 1. Only the recorder's thread stores; `bump` is a load and a store, no lock prefix (0.55 ns
//!    against 1.9 ns for a shared `fetch_add`).
//! 2. Ended cells are stored with Release.
//! 3. A reader loads all ended cells (Acquire) and then the accepted ones: a request is accepted
//!    before it ends, so accepted >= ended in every read, wherever the request moved.
//! 4. `llm_requests_total` and `llm_error_total` are sums over the same cell (status x error type):
//!    equal by construction, since two atomics cannot be stored in one step.

use super::words::{Invalid, Outcome};
use crate::catalog::labels;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};

/// Cells of one request class. Ranges of several cells are indexed by the word they count.
pub(crate) mod cell {
    use super::Outcome;
    use crate::catalog::labels;

    pub(crate) const ACCEPTED: usize = 0;
    pub(crate) const ENDED: usize = 1;
    pub(crate) const GENERATED: usize = ENDED + Outcome::CELLS;
    /// computed, cached, transferred
    pub(crate) const PROMPT: usize = GENERATED + 1;
    pub(crate) const RECOMPUTED: usize = PROMPT + labels::PROMPT_SOURCE.len();
    pub(crate) const DISCARDED: usize = RECOMPUTED + 1;
    pub(crate) const PREEMPTED: usize = DISCARDED + labels::DISCARD.len();
    /// aborted, failed, rejected, empty
    pub(crate) const NO_FIRST: usize = PREEMPTED + labels::PREEMPT.len();
    /// (availability, ttft, tbt) x (bad, good)
    pub(crate) const SLO: usize = NO_FIRST + labels::NO_FIRST.len();
    pub(crate) const DRAFTED: usize = SLO + labels::OBJECTIVE.len() * labels::GOOD.len();
    pub(crate) const DRAFT_ACCEPTED: usize = DRAFTED + 1;
    pub(crate) const USED: usize = DRAFT_ACCEPTED + 1;
    /// Six cache lines.
    pub(crate) const COUNT: usize = 48;
    const _: () = assert!(USED <= COUNT);
}

/// Most KV pools and most priority levels of one worker.
pub(crate) const POOLS_MAX: usize = 8;
pub(crate) const PRIORITIES_MAX: usize = 8;

/// The counters of one request class, alone on their cache lines.
#[repr(align(64))]
pub(crate) struct Row(pub(crate) [AtomicU64; cell::COUNT]);
const _: () = assert!(size_of::<Row>() == 384);

/// Everything a recorder publishes besides samples.
pub(crate) struct Cells {
    rows: Box<[Row]>,
    invalid: [AtomicU64; labels::INVALID.len()],
    /// Verbs refused on a wrong thread: the one cell that others than the recorder's thread add to.
    wrong_thread: AtomicU64,
    pub(crate) levels: CachePadded<Levels>,
    pub(crate) ring: CachePadded<RingCounts>,
}

/// Flows and levels of one recorder.
#[derive(Default)]
pub(crate) struct Levels {
    /// Wrapping deltas: exact only summed over all recorders, retired ones included.
    pub(crate) waiting: AtomicU64,
    pub(crate) running: AtomicU64,
    /// Sequences of the last step; 0 as soon as nothing is queued or running here.
    pub(crate) batch: AtomicU64,
    /// Host time of the last `end_step`, 0 = none yet.
    pub(crate) last_step: AtomicU64,
    /// Ended steps by where their time came from.
    pub(crate) steps: [AtomicU64; labels::STEP_SOURCE.len()],
    /// Waiting requests: reason x priority. `queue_told` says that the engine reports them at all.
    pub(crate) queue: [[AtomicU64; PRIORITIES_MAX]; labels::WAIT.len()],
    pub(crate) queue_told: AtomicU64,
    /// Per pool (referenced << 32 | cached) and (usable << 32 | slots used): a pair is never torn.
    pub(crate) kv: [[AtomicU64; 2]; POOLS_MAX],
    /// Bit per pool that was ever reported.
    pub(crate) kv_told: AtomicU64,
}

/// What happened to events at the ring's entrance. Stored + dropped = all that was said.
#[derive(Default)]
pub(crate) struct RingCounts {
    pub(crate) stored: AtomicU64,
    pub(crate) stored_samples: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) dropped_samples: AtomicU64,
}

/// Place of `thread` among the reasons of `labels::INVALID`.
const WRONG_THREAD: usize = labels::INVALID.len() - 1;

/// Adds to a cell that only this thread stores to.
#[inline(always)]
pub(crate) fn bump(cell: &AtomicU64, by: u64) {
    // Relaxed: the reader needs no other write to be visible with this one.
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl Cells {
    pub(crate) fn new(series_max: u16) -> Cells {
        Cells {
            rows: (0..series_max)
                .map(|_| Row(std::array::from_fn(|_| AtomicU64::new(0))))
                .collect(),
            invalid: Default::default(),
            wrong_thread: AtomicU64::new(0),
            levels: Default::default(),
            ring: Default::default(),
        }
    }

    #[inline(always)]
    pub(crate) fn add(&self, class: u16, cell: usize, by: u64) {
        // `get`, not indexing: nothing on an engine thread may be able to panic.
        if let Some(cell) = self.rows.get(class as usize).and_then(|row| row.0.get(cell)) {
            bump(cell, by)
        }
    }

    #[inline(always)]
    pub(crate) fn end(&self, class: u16, outcome: Outcome) {
        let row = self.rows.get(class as usize);
        if let Some(cell) = row.and_then(|row| row.0.get(cell::ENDED + outcome.cell())) {
            // Release: whoever sees this end also sees the acceptance before it (contract 2, 3).
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release)
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn invalid(&self, why: Invalid) {
        if let Some(cell) = self.invalid.get(why as usize) {
            bump(cell, 1)
        }
    }

    /// One class's cell, for readers. Acquire pairs with the Release of `end`.
    pub(crate) fn get(&self, class: usize, cell: usize) -> u64 {
        self.rows.get(class).and_then(|r| r.0.get(cell)).map_or(0, |c| c.load(Ordering::Acquire))
    }

    /// A verb was refused on a thread that is not the recorder's; any thread may say so.
    #[cold]
    pub(crate) fn refused_thread(&self) {
        self.wrong_thread.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn invalid_count(&self, reason: usize) -> u64 {
        let from_others = match reason {
            WRONG_THREAD => self.wrong_thread.load(Ordering::Relaxed),
            _ => 0,
        };
        self.invalid.get(reason).map_or(0, |c| c.load(Ordering::Relaxed)) + from_others
    }
}
