//! Counters and levels of all recorders at one moment, retired recorders included.

use super::names::Names;
use crate::catalog::{By, labels};
use crate::record::cells::{Cells, PRIORITIES_MAX, cell};
use crate::record::request;
use crate::record::words::Outcome;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) type ClassCells = [u64; cell::COUNT];

/// What survives a recorder: its counters and flows.
#[derive(Clone, Default)]
pub(super) struct Counts {
    /// By class.
    pub(super) classes: Vec<ClassCells>,
    pub(super) invalid: [u64; labels::INVALID.len()],
    pub(super) steps: [u64; labels::STEP_SOURCE.len()],
    /// Wrapping sums of deltas.
    waiting: u64,
    running: u64,
    pub(super) stored_events: u64,
    pub(super) stored: u64,
    pub(super) dropped: u64,
    /// By device: host time of the last step of a recorder that is gone, 0 = none.
    retired_step: Vec<u64>,
}

/// One KV pool of one GPU, in blocks and token slots.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(super) struct KvLevel {
    pub(super) referenced: u64,
    pub(super) cached: u64,
    pub(super) usable: u64,
    pub(super) slots_used: u64,
}

impl KvLevel {
    pub(super) fn free(&self) -> u64 {
        self.usable.saturating_sub(self.referenced + self.cached)
    }

    pub(super) fn add(&mut self, other: &KvLevel) {
        self.referenced += other.referenced;
        self.cached += other.cached;
        self.usable += other.usable;
        self.slots_used += other.slots_used
    }
}

/// Everything the cells say now.
pub(super) struct Totals {
    pub(super) counts: Counts,
    pub(super) waiting: u64,
    pub(super) running: u64,
    pub(super) batch: u64,
    /// reason x priority, if any recorder reports it
    pub(super) queue: Option<[[u64; PRIORITIES_MAX]; labels::WAIT.len()]>,
    /// By (gpu, pool), see `Names::gpu_pool`; `None` = never told.
    pub(super) kv: Vec<Option<KvLevel>>,
    /// By device: host time of the last step.
    pub(super) last_step: Vec<Option<u64>>,
    pub(super) in_flight: u64,
}

/// A recorder as its reader sees it.
pub(super) struct Source<'a> {
    pub(super) cells: &'a Arc<Cells>,
    pub(super) device: u16,
}

impl Counts {
    fn grow(&mut self, classes: usize) {
        if self.classes.len() < classes {
            self.classes.resize(classes, [0; cell::COUNT])
        }
    }

    /// Adds all of a recorder's counters but the accepted ones, which must be read last.
    fn add_all_but_accepted(&mut self, cells: &Cells) {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        for (class, row) in self.classes.iter_mut().enumerate() {
            // Ended first, in cell order: contract 3 of the cells.
            for (number, sum) in row.iter_mut().enumerate().take(cell::USED) {
                if number != cell::ACCEPTED {
                    *sum += cells.get(class, number)
                }
            }
        }
        for (reason, sum) in self.invalid.iter_mut().enumerate() {
            *sum += cells.invalid_count(reason)
        }
        for (sum, steps) in self.steps.iter_mut().zip(&cells.levels.steps) {
            *sum += load(steps)
        }
        self.waiting = self.waiting.wrapping_add(load(&cells.levels.waiting));
        self.running = self.running.wrapping_add(load(&cells.levels.running));
        self.stored_events += load(&cells.ring.stored);
        self.stored += load(&cells.ring.stored_samples);
        self.dropped += load(&cells.ring.dropped_samples)
    }

    fn add_accepted(&mut self, cells: &Cells) {
        for (class, row) in self.classes.iter_mut().enumerate() {
            row[cell::ACCEPTED] += cells.get(class, cell::ACCEPTED)
        }
    }

    /// The counters of a recorder that is gone join the base.
    pub(super) fn retire(&mut self, cells: &Cells, device: u16, classes: usize) {
        self.grow(classes);
        let device = usize::from(device);
        if self.retired_step.len() <= device {
            self.retired_step.resize(device + 1, 0)
        }
        let step = cells.levels.last_step.load(Ordering::Relaxed);
        self.retired_step[device] = self.retired_step[device].max(step);
        self.add_all_but_accepted(cells);
        self.add_accepted(cells)
    }

    /// One cell over all classes.
    pub(super) fn sum(&self, cell: usize) -> u64 {
        self.classes.iter().map(|row| row[cell]).sum()
    }

    /// All cells over all classes.
    pub(super) fn folded(&self) -> ClassCells {
        std::array::from_fn(|cell| self.sum(cell))
    }

    pub(super) fn ended(&self) -> u64 {
        (0..Outcome::CELLS).map(|i| self.sum(cell::ENDED + i)).sum()
    }

    /// Requests that ended with this status, over a class's cells.
    pub(super) fn by_status(row: &ClassCells, status: usize) -> u64 {
        let (failed, rejected) = (Outcome::FAILED_CELL, Outcome::REJECTED_CELL);
        let cells = match status {
            4 => failed..rejected,
            5 => rejected..Outcome::CELLS,
            one => one..one + 1,
        };
        cells.map(|cell| row[cell::ENDED + cell]).sum()
    }

    /// Requests that failed or were rejected with this error type.
    pub(super) fn by_error(row: &ClassCells, error: usize) -> u64 {
        row[cell::ENDED + Outcome::FAILED_CELL + error]
            + row[cell::ENDED + Outcome::REJECTED_CELL + error]
    }
}

impl Totals {
    /// Reads all cells: ended and the like first, then what was dropped, accepted last.
    pub(super) fn read<'a>(
        base: &Counts,
        sources: impl Iterator<Item = Source<'a>> + Clone,
        names: &Names,
        scope: u8,
        dropped_before: [u64; 3],
    ) -> Totals {
        let mut counts = base.clone();
        counts.grow(names.classes().len());
        for source in sources.clone() {
            counts.add_all_but_accepted(source.cells)
        }
        let now = request::dropped(scope);
        let dropped: [u64; 3] = std::array::from_fn(|i| now[i].wrapping_sub(dropped_before[i]));
        for source in sources.clone() {
            counts.add_accepted(source.cells)
        }
        let dropped_reason = labels::INVALID.len() - 2;
        counts.invalid[dropped_reason] += dropped[0];
        let accepted = counts.sum(cell::ACCEPTED);
        let mut totals = Totals {
            in_flight: accepted.saturating_sub(counts.ended() + dropped[0]),
            waiting: level(counts.waiting, dropped[1]),
            running: level(counts.running, dropped[2]),
            counts,
            batch: 0,
            queue: None,
            kv: vec![None; names.len(By::GpuPool)],
            last_step: vec![None; names.devices()],
        };
        for source in sources {
            totals.add_levels(&source, names)
        }
        if totals.last_step.iter().all(Option::is_none) {
            // Nobody who is there has stepped: what those did who are gone still tells of a stall.
            for (last, gone) in totals.last_step.iter_mut().zip(&totals.counts.retired_step) {
                *last = (*gone != 0).then_some(*gone)
            }
        }
        totals
    }

    fn add_levels(&mut self, source: &Source<'_>, names: &Names) {
        let levels = &source.cells.levels;
        self.batch += levels.batch.load(Ordering::Relaxed);
        if levels.queue_told.load(Ordering::Relaxed) != 0 {
            let queue = self.queue.get_or_insert_default();
            for (sums, cells) in queue.iter_mut().zip(&levels.queue) {
                for (sum, cell) in sums.iter_mut().zip(cells) {
                    *sum += cell.load(Ordering::Relaxed)
                }
            }
        }
        // Acquire pairs with the Release of the bit: the values behind it are there.
        let told = levels.kv_told.load(Ordering::Acquire);
        let gpu = names.gpu_of(source.device);
        for (pool, words) in levels.kv.iter().enumerate().filter(|(pool, _)| told >> pool & 1 == 1)
        {
            let [blocks, size] = words.each_ref().map(|word| word.load(Ordering::Relaxed));
            let level = KvLevel {
                referenced: blocks >> 32,
                cached: blocks & 0xffff_ffff,
                usable: size >> 32,
                slots_used: size & 0xffff_ffff,
            };
            // A pool's handle of another scope may name a pool that is none here.
            if pool < names.len(By::Pool)
                && let Some(place) = self.kv.get_mut(Names::gpu_pool(gpu, pool))
            {
                place.get_or_insert_default().add(&level)
            }
        }
        let step = levels.last_step.load(Ordering::Relaxed);
        if step != 0
            && let Some(last) = self.last_step.get_mut(source.device as usize)
        {
            *last = (*last).max(Some(step))
        }
    }

    /// The level of one pool over all GPUs.
    pub(super) fn pool(&self, pool: usize) -> Option<KvLevel> {
        let gpus = self.kv.len() / Names::gpu_pool(1, 0);
        let mut told = (0..gpus).filter_map(|gpu| self.kv[Names::gpu_pool(gpu, pool)]);
        let mut all = told.next()?;
        told.for_each(|level| all.add(&level));
        Some(all)
    }
}

/// A sum of wrapping deltas, less what was dropped; a torn read is 0, never huge.
fn level(flow: u64, dropped: u64) -> u64 {
    (flow.wrapping_sub(dropped) as i64).max(0) as u64
}
