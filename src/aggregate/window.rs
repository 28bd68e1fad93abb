//! Windows: one frame of cumulative values per closed row of 10 s, for an hour.
//!
//! A window of w is the difference of two closed frames; the open row is never used, so two readers
//! of one window always agree. Frames hold only what is asked of windows: counters over all
//! classes, bucket counts of the latencies that have limits, levels at the row's end.

use super::distributions::Distributions;
use super::totals::{ClassCells, Totals};
use crate::catalog::Id;
use crate::record::Time;
use crate::snapshot::Quantiles;
use std::collections::VecDeque;

/// Length of a row.
pub(crate) const ROW_NS: u64 = 10_000_000_000;
/// An hour, and one frame more: a difference needs both ends.
const FRAMES_MAX: usize = 361;

/// Latencies whose bucket counts windows keep: those that health judges.
const BUCKETS_OF: [Id; 3] = [Id::Ttft, Id::Tbt, Id::Queue];

/// Cumulative values and levels at one moment.
#[derive(Clone)]
pub(super) struct Frame {
    pub(super) at: Time,
    pub(super) cells: ClassCells,
    pub(super) stored: u64,
    pub(super) dropped: u64,
    /// Per entry of `BUCKETS_OF`.
    buckets: [Vec<u64>; BUCKETS_OF.len()],
    /// Of the row that ends here, per entry of `LINES`.
    pub(super) quantiles: Vec<Option<Quantiles>>,
    pub(super) running: u64,
    pub(super) waiting: u64,
    pub(super) batch: u64,
    /// Pool `kv`: referenced, cached, free.
    pub(super) kv: Option<[u64; 3]>,
}

impl Frame {
    pub(super) fn take(at: Time, totals: &Totals, distributions: &Distributions) -> Frame {
        Frame {
            at,
            cells: totals.counts.folded(),
            stored: totals.counts.stored,
            dropped: totals.counts.dropped,
            buckets: BUCKETS_OF.map(|id| distributions.family(id).folded_counts()),
            quantiles: distributions.quantiles(),
            running: totals.running,
            waiting: totals.waiting,
            batch: totals.batch,
            kv: totals.pool(0).map(|kv| [kv.referenced, kv.cached, kv.free()]),
        }
    }

    /// Counts at the bounds of a latency that windows keep.
    pub(super) fn buckets(&self, id: Id) -> &[u64] {
        BUCKETS_OF.iter().position(|kept| *kept == id).map_or(&[], |at| &self.buckets[at])
    }
}

pub(super) struct Windows {
    frames: VecDeque<Frame>,
    next_close: Time,
}

impl Windows {
    pub(super) fn new(first: Frame) -> Windows {
        let next_close = Time::from_nanos(first.at.as_nanos() + ROW_NS);
        Windows { frames: VecDeque::from([first]), next_close }
    }

    /// When the open row is over, if that is not after `now`.
    ///
    /// After a leap over more rows than are kept, the oldest of them are not worth closing.
    pub(super) fn next_due(&mut self, now: Time) -> Option<Time> {
        let missed = now.nanos_since(self.next_close) / ROW_NS;
        let skipped = missed.saturating_sub(FRAMES_MAX as u64);
        self.next_close = Time::from_nanos(self.next_close.as_nanos() + skipped * ROW_NS);
        (self.next_close <= now).then_some(self.next_close)
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.next_close = Time::from_nanos(frame.at.as_nanos() + ROW_NS);
        if self.frames.len() == FRAMES_MAX {
            self.frames.pop_front();
        }
        self.frames.push_back(frame)
    }

    /// Closed frames, oldest first; the first one is the start, with everything at 0.
    pub(super) fn frames(&self) -> &VecDeque<Frame> {
        &self.frames
    }

    /// Most that waited at the end of one of the last rows.
    pub(super) fn waiting_max(&self, rows: usize) -> u64 {
        self.frames.iter().rev().take(rows).map(|frame| frame.waiting).max().unwrap_or(0)
    }

    /// The ends of the window of the last `rows` closed rows: (before, last). A young process
    /// answers from its start.
    pub(super) fn ends(&self, rows: usize) -> (&Frame, &Frame) {
        let last = self.frames.len() - 1;
        (&self.frames[last.saturating_sub(rows)], &self.frames[last])
    }
}
