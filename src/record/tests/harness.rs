//! The reader's side, as plain as can be: every sample by its exact value, no buckets. And a device
//! clock that settles as a test tells it.

use crate::catalog::labels;
use crate::record::cells::{Cells, cell};
use crate::record::event::{Event, Metric};
use crate::record::request::{self, Series};
use crate::record::step::{Launch, Settled, Shape, Step, StepClock, StepSource, Ticket};
use crate::record::words::{Invalid, Outcome, Role};
use crate::record::{Recorder, Request, Settings, Time};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) const MS: u64 = 1_000_000;
pub(super) const TTFT_OBJECTIVE: u64 = 2_000 * MS;
pub(super) const TBT_OBJECTIVE: u64 = 80 * MS;
pub(super) const SERIES_MAX: u16 = 4;
pub(super) const DEVICE: u16 = 3;
/// The clock of every scope here.
pub(super) const CLOCK: u32 = 7;

/// What feeds one histogram: metric, variant, class.
pub(super) type Key = (Metric, u8, u16);
/// How often each value was seen.
pub(super) type Values = BTreeMap<u64, u64>;
pub(super) type Samples = BTreeMap<Key, Values>;

/// A slow sample and its request. No sample itself: it repeats one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Exemplar {
    pub(super) metric: u8,
    pub(super) class: u16,
    pub(super) id: u64,
    pub(super) us: u32,
}

/// A scope's tag, for it alone while it is held: dropped requests are counted in one static by tag.
struct Tag(u8);

static TAKEN: Mutex<[bool; 256]> = Mutex::new([false; 256]);

fn taken() -> MutexGuard<'static, [bool; 256]> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tag {
    fn take() -> Tag {
        let mut taken = taken();
        // The front door's own tags count up from 1; other tests of this binary use a few of them.
        let free = (128..=255).find(|tag| !taken[*tag as usize]).expect("a free tag");
        taken[free as usize] = true;
        Tag(free)
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        taken()[self.0 as usize] = false
    }
}

struct Feed {
    ring: rtrb::Consumer<Event>,
    cells: Arc<Cells>,
}

/// What happened at the entrance of all rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct RingTotals {
    pub(super) stored_events: u64,
    pub(super) stored_samples: u64,
    pub(super) dropped_events: u64,
    pub(super) dropped_samples: u64,
}

/// One scope with its recorders' far ends.
pub(super) struct Scope {
    tag: Tag,
    role: Role,
    dropped_before: [u64; 3],
    feeds: Vec<Feed>,
    pub(super) samples: Samples,
    pub(super) exemplars: Vec<Exemplar>,
    pub(super) drained_events: u64,
    pub(super) drained_samples: u64,
}

impl Scope {
    pub(super) fn new(role: Role) -> Scope {
        let tag = Tag::take();
        let dropped_before = request::dropped(tag.0);
        Scope {
            tag,
            role,
            dropped_before,
            feeds: vec![],
            samples: BTreeMap::new(),
            exemplars: vec![],
            drained_events: 0,
            drained_samples: 0,
        }
    }

    pub(super) fn series(&self, index: u16) -> Series {
        Series { index, scope: self.tag.0, priority: 0 }
    }

    pub(super) fn recorder(&mut self, ring_events: usize) -> Recorder {
        let (producer, ring) = rtrb::RingBuffer::new(ring_events);
        let cells = Arc::new(Cells::new(SERIES_MAX));
        self.feeds.push(Feed { ring, cells: cells.clone() });
        let settings = Settings {
            scope: self.tag.0,
            device: DEVICE,
            series_max: SERIES_MAX,
            role: self.role,
            ttft_objective_ns: TTFT_OBJECTIVE,
            tbt_objective_ns: TBT_OBJECTIVE,
            clock: CLOCK,
        };
        Recorder::new(producer, cells, settings)
    }

    pub(super) fn drain(&mut self) {
        for feed in &mut self.feeds {
            while let Ok(event) = feed.ring.pop() {
                self.drained_events += 1;
                self.drained_samples += event.samples();
                let metric = Metric::of(event.metric()).expect("a known metric");
                if metric == Metric::Exemplar {
                    self.exemplars.push(Exemplar {
                        metric: event.variant(),
                        class: event.class(),
                        id: event.value(),
                        us: event.weight(),
                    })
                } else {
                    let values =
                        self.samples.entry((metric, event.variant(), event.class())).or_default();
                    *values.entry(event.value()).or_default() += event.weight() as u64
                }
            }
        }
    }

    pub(super) fn pending_events(&self) -> u64 {
        self.feeds.iter().map(|feed| feed.ring.slots() as u64).sum()
    }

    fn sum_of(&self, read: impl Fn(&Cells) -> u64) -> u64 {
        self.feeds.iter().fold(0, |sum, feed| sum.wrapping_add(read(&feed.cells)))
    }

    /// One class's cell, over all recorders.
    pub(super) fn cell(&self, class: u16, cell: usize) -> u64 {
        self.sum_of(|cells| cells.get(class.into(), cell))
    }

    /// One cell over all classes.
    pub(super) fn sum(&self, cell: usize) -> u64 {
        (0..SERIES_MAX).map(|class| self.cell(class, cell)).sum()
    }

    pub(super) fn ended(&self) -> u64 {
        (0..Outcome::CELLS).map(|outcome| self.sum(cell::ENDED + outcome)).sum()
    }

    /// Requests that were dropped without an end, and their sequences that waited and that ran.
    pub(super) fn dropped(&self) -> [u64; 3] {
        let now = request::dropped(self.tag.0);
        std::array::from_fn(|i| now[i] - self.dropped_before[i])
    }

    /// Signed, so that a read in the wrong order shows.
    pub(super) fn in_flight(&self) -> i64 {
        // The order of contract 3 of the cells: what left first, what came last.
        let ended = self.ended();
        let [dropped, ..] = self.dropped();
        let accepted = self.sum(cell::ACCEPTED);
        accepted as i64 - ended as i64 - dropped as i64
    }

    pub(super) fn waiting(&self) -> i64 {
        self.level(|cells| &cells.levels.waiting) as i64 - self.dropped()[1] as i64
    }

    pub(super) fn running(&self) -> i64 {
        self.level(|cells| &cells.levels.running) as i64 - self.dropped()[2] as i64
    }

    /// A level or flow, summed over all recorders.
    pub(super) fn level(&self, of: impl Fn(&Cells) -> &AtomicU64) -> u64 {
        self.sum_of(|cells| of(cells).load(Ordering::Relaxed))
    }

    pub(super) fn invalid(&self, why: Invalid) -> u64 {
        self.invalids()[why as usize]
    }

    pub(super) fn invalids(&self) -> [u64; labels::INVALID.len()] {
        std::array::from_fn(|reason| self.sum_of(|cells| cells.invalid_count(reason)))
    }

    pub(super) fn steps(&self, source: StepSource) -> u64 {
        self.level(|cells| &cells.levels.steps[source as usize])
    }

    pub(super) fn ring(&self) -> RingTotals {
        RingTotals {
            stored_events: self.level(|cells| &cells.ring.stored),
            stored_samples: self.level(|cells| &cells.ring.stored_samples),
            dropped_events: self.level(|cells| &cells.ring.dropped),
            dropped_samples: self.level(|cells| &cells.ring.dropped_samples),
        }
    }

    /// Number and sum of a metric's samples, over variants and classes.
    pub(super) fn total(&self, metric: Metric) -> (u64, u64) {
        let values = self.samples.iter().filter(|((m, ..), _)| *m == metric).flat_map(|(_, v)| v);
        values.fold((0, 0), |(n, sum), (value, weight)| (n + weight, sum + value * weight))
    }

    /// Number of a metric's samples.
    pub(super) fn count(&self, metric: Metric) -> u64 {
        self.total(metric).0
    }

    /// All values of one histogram, smallest first, without their weights.
    pub(super) fn values(&self, metric: Metric, variant: u8, class: u16) -> Vec<u64> {
        let values = self.samples.get(&(metric, variant, class));
        values.map_or(vec![], |values| values.keys().copied().collect())
    }
}

/// A step that ended at `ns`, whoever ran it.
pub(super) const fn step_at(ns: u64) -> Step {
    let shape = Shape { prefills: 0, prefill_tokens: 0, decodes: 1 };
    Step { time: Time(ns), begin: Time(ns), shape, source: StepSource::Host }
}

/// The ordinary beginning of a request: arrived, enqueued and scheduled at `ns`.
pub(super) fn scheduled(rec: &mut Recorder, series: Series, id: u64, ns: u64) -> Request {
    let mut req = rec.arrive(series, id, Time(ns));
    rec.enqueue(&mut req, Time(ns));
    rec.schedule(&mut req, Time(ns), 0, 0);
    req
}

/// What a test tells its lane, and what the lane holds.
#[derive(Default)]
struct Stamps {
    settles: Option<Settled>,
    begun: u64,
    /// Tickets that have not come back, with how the end of their step was marked.
    out: BTreeMap<u64, Option<Launch>>,
}

/// A device clock without a device. Clones share one lane.
#[derive(Clone, Default)]
pub(super) struct FakeLane(Arc<Mutex<Stamps>>);

impl FakeLane {
    fn stamps(&self) -> MutexGuard<'_, Stamps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How steps settle from here on; [`Settled::Lost`] until told.
    pub(super) fn settle_as(&self, settled: Settled) {
        self.stamps().settles = Some(settled)
    }

    /// How the end of each step was marked whose ticket has not come back, oldest first.
    pub(super) fn marks(&self) -> Vec<Option<Launch>> {
        self.stamps().out.values().copied().collect()
    }
}

impl StepClock for FakeLane {
    fn begin(&mut self, _: Time, _: Shape) -> Ticket {
        let mut stamps = self.stamps();
        stamps.begun += 1;
        let ticket = stamps.begun;
        stamps.out.insert(ticket, None);
        Ticket([ticket, 0, 0, 0, 0, 0, 0])
    }

    fn end(&mut self, ticket: &mut Ticket, how: Launch) {
        self.stamps().out.insert(ticket.0[0], Some(how));
    }

    fn settle(&mut self, ticket: Ticket) -> Settled {
        let settled = self.stamps().settles.unwrap_or(Settled::Lost);
        self.abandon(ticket);
        settled
    }

    fn abandon(&mut self, ticket: Ticket) {
        let back = self.stamps().out.remove(&ticket.0[0]);
        assert!(back.is_some(), "a ticket comes back once");
    }

    fn source(&self) -> StepSource {
        StepSource::Gpu
    }
}
