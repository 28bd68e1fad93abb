//! The way out of an engine thread: events of the verb under way, published into the ring at once.
//!
//! Loss rule: when the ring is full the newest events are dropped, the first that fit are kept, and
//! both events and the samples they stand for are counted. At all times
//! `stored events = drained + pending` and `samples said = stored samples + dropped samples`.
//! Nobody is woken: waking a thread is a system call. The reader comes by on its own timer.

use super::cells::{Cells, bump, cell};
use super::event::{Event, Metric};
use rtrb::Producer;
use rtrb::chunks::ChunkError;
use std::sync::Arc;

/// Events one publication can hold.
pub(super) const OUT_MAX: usize = 64;

pub(super) struct Outbox {
    /// The upper half is a spare that is never sent: weight that belongs to no event lands there,
    /// so that the hot loop needs no check.
    events: [Event; 2 * OUT_MAX],
    len: usize,
    /// Moves whenever places in `events` lose their meaning.
    pub(super) epoch: u32,
    ring: Producer<Event>,
    pub(super) cells: Arc<Cells>,
}

/// A place that is never sent.
pub(super) const SPARE: usize = OUT_MAX;

impl Outbox {
    pub(super) fn new(ring: Producer<Event>, cells: Arc<Cells>) -> Outbox {
        Outbox { events: [Event::default(); 2 * OUT_MAX], len: 0, epoch: 0, ring, cells }
    }

    /// Adds an event to the publication under way and says where it lies until the next flush.
    #[inline(always)]
    pub(super) fn append(&mut self, value: u64, key: u32, weight: u32) -> usize {
        if self.len >= OUT_MAX {
            self.flush()
        }
        let at = self.len & (OUT_MAX - 1);
        self.events[at] = Event::new(value, weight, key);
        self.len = at + 1;
        at
    }

    /// Adds `n` to the weight of the event at a place that `append` gave.
    #[inline(always)]
    pub(super) fn add_weight(&mut self, at: usize, n: u32) {
        self.events[at & (2 * OUT_MAX - 1)].add_weight(n)
    }

    /// Adds one to the event at `at` if it still lies there and says the same.
    pub(super) fn merge(&mut self, at: usize, value: u64, key: u32) -> bool {
        let there = &mut self.events[at & (OUT_MAX - 1)];
        let same = at < self.len && there.value() == value && there.id() == key;
        if same {
            there.add_weight(1)
        }
        same
    }

    /// Publishes one event that is complete by itself.
    #[inline(always)]
    pub(super) fn push(&mut self, event: Event) {
        match self.ring.push(event) {
            Ok(()) => self.stored(1, event.samples()),
            Err(_) => self.dropped(1, event.samples()),
        }
    }

    /// Publishes what the verb made: one store of the ring's tail however many events.
    ///
    /// Generated tokens are counted here, from the events, whether the ring keeps them or not.
    #[inline]
    pub(super) fn flush(&mut self) {
        let len = self.len.min(OUT_MAX);
        self.len = 0;
        self.epoch = self.epoch.wrapping_add(1);
        let events = &self.events[..len];
        let (mut samples, mut class, mut tokens) = (0, 0, 0);
        for event in events {
            samples += event.samples();
            if event.metric() == Metric::Gap as u8 {
                if event.class() != class {
                    self.cells.add(class, cell::GENERATED, tokens);
                    (class, tokens) = (event.class(), 0)
                }
                tokens += event.weight() as u64 * event.variant() as u64
            }
        }
        self.cells.add(class, cell::GENERATED, tokens);
        match len {
            0 => {}
            1 => self.push(self.events[0]),
            _ => match self.ring.write_chunk_uninit(len) {
                Ok(chunk) => {
                    chunk.fill_from_iter(events.iter().copied());
                    self.stored(len as u64, samples)
                }
                Err(ChunkError::TooFewSlots(room)) => self.flush_into(len, samples, room),
            },
        }
    }

    /// The ring has room for some: keep the first, count the rest.
    #[cold]
    #[inline(never)]
    fn flush_into(&mut self, len: usize, samples: u64, room: usize) {
        let events = &self.events[..len.min(OUT_MAX)];
        let mut kept = 0;
        if let Ok(chunk) = self.ring.write_chunk_uninit(room) {
            kept = chunk.fill_from_iter(events.iter().copied())
        }
        let kept_samples = events.iter().take(kept).map(Event::samples).sum();
        self.stored(kept as u64, kept_samples);
        self.dropped((len - kept) as u64, samples - kept_samples)
    }

    #[inline(always)]
    fn stored(&self, events: u64, samples: u64) {
        bump(&self.cells.ring.stored, events);
        bump(&self.cells.ring.stored_samples, samples)
    }

    #[cold]
    #[inline(never)]
    fn dropped(&self, events: u64, samples: u64) {
        bump(&self.cells.ring.dropped, events);
        bump(&self.cells.ring.dropped_samples, samples)
    }
}
