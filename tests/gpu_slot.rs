//! Which check of the slot protocol carries what: the library's own source with one check or both
//! switched off by its arguments, on a ring where stamps and settles come late. What the checks are
//! for can be counted, and it is not nothing.
#![allow(missing_docs, dead_code)]

#[path = "../src/gpu/layout.rs"]
mod layout;
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
}
#[path = "../src/gpu/slot.rs"]
mod slot;

use slot::Words;
use std::collections::BTreeMap;
use sync::{AtomicU64, Ordering};

/// Laps count to here, then the first one comes again.
const LAPS: u64 = 65_535;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Which checks are on.
#[derive(Clone, Copy, Debug)]
struct Checks {
    lap: bool,
    live: bool,
}

impl Checks {
    fn tag(self, seq: u64, slots: u64) -> u64 {
        if self.lap { layout::tag(seq, slots) } else { layout::tag(1, slots) }
    }

    /// Every step is within a ring without end.
    fn slots(self, slots: u64) -> u64 {
        if self.live { slots } else { u64::MAX }
    }
}

#[derive(Default, Debug, PartialEq, Eq)]
struct Tally {
    ready: u64,
    wrong: u64,
    /// The End of the step before was another step's.
    prev_wrong: u64,
    overwritten: u64,
    foreign: u64,
    pending: u64,
}

/// What happens at a moment: a word is stored, or a step is settled.
enum Event {
    Store { seq: u64, word: usize },
    Settle { seq: u64 },
}

struct Lane {
    slots: u64,
    checks: Checks,
    issued: AtomicU64,
    words: Vec<[AtomicU64; 4]>,
}

impl Lane {
    fn new(slots: u64, checks: Checks) -> Lane {
        let words = (0..slots).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect();
        Lane { slots, checks, issued: AtomicU64::new(0), words }
    }

    fn slot(&self, seq: u64) -> [&AtomicU64; 4] {
        self.words[(layout::slot_offset(seq, self.slots) / layout::SLOT_BYTES) as usize].each_ref()
    }

    fn issue(&self, seq: u64) {
        slot::issue(&self.issued, self.slot(seq), seq)
    }

    /// The GPU stores a time that tells whose it is.
    fn store(&self, seq: u64, word: usize) {
        let value = self.checks.tag(seq, self.slots) | (seq * 4 + word as u64) & layout::TIME_MASK;
        self.slot(seq)[word].store(value, Ordering::Relaxed)
    }

    fn ask(&self, seq: u64) -> Words {
        let prev = (seq > 1).then(|| (seq - 1, self.checks.tag(seq - 1, self.slots)));
        let prev_end = prev.map(|(seq, _)| self.slot(seq)[3]);
        let read = slot::read(&self.issued, self.slot(seq), prev_end);
        let tag = self.checks.tag(seq, self.slots);
        slot::judge(&read, seq, tag, prev, self.checks.slots(self.slots))
    }

    fn settle(&self, seq: u64, tally: &mut Tally) {
        let step = |word: u64| (word & layout::TIME_MASK) / 4;
        match self.ask(seq) {
            Words::Ready { begin, end, marks, prev_end } => {
                tally.ready += 1;
                let all = [Some(begin), Some(end), marks[0], marks[1]];
                // A mark that is not there reads as a word of no step where laps are not checked.
                let other = |word: &u64| *word & layout::TIME_MASK != 0 && step(*word) != seq;
                tally.wrong += u64::from(all.iter().flatten().any(other));
                tally.prev_wrong += u64::from(prev_end.is_some_and(|end| step(end) != seq - 1))
            }
            Words::Overwritten => tally.overwritten += 1,
            Words::Foreign => tally.foreign += 1,
            Words::Pending => tally.pending += 1,
        }
    }
}

const STEPS: u64 = 20_000;

/// One step a moment on a ring of so many slots. The stamps of a step come up to `late` moments after
/// it, in any order; it is settled up to `settle` moments after it.
fn run(slots: u64, late: u64, settle: u64, checks: Checks) -> Tally {
    let lane = Lane::new(slots, checks);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    // By moment; what comes in the same moment comes in a drawn order.
    let mut events: BTreeMap<(u64, u64), Event> = BTreeMap::new();
    let mut tally = Tally::default();
    for seq in 1..=STEPS {
        lane.issue(seq);
        for word in 0..4 {
            let at = (seq + random.below(late + 1), random.below(u64::MAX));
            events.insert(at, Event::Store { seq, word });
        }
        let at = (seq + random.below(settle + 1), random.below(u64::MAX));
        events.insert(at, Event::Settle { seq });
        while let Some(next) = events.first_entry().filter(|next| next.key().0 <= seq) {
            match next.remove() {
                Event::Store { seq, word } => lane.store(seq, word),
                Event::Settle { seq } => lane.settle(seq, &mut tally),
            }
        }
    }
    println!("{slots:>3} slots, late {late:>2}, settled {settle:>2}, {checks:?}: {tally:?}");
    tally
}

const BOTH: Checks = Checks { lap: true, live: true };
const LAP_ONLY: Checks = Checks { lap: true, live: false };
const LIVE_ONLY: Checks = Checks { lap: false, live: true };
const NONE: Checks = Checks { lap: false, live: false };

/// Slots, lateness of stamps and of settles: from a ring that is large enough to one that is far too
/// small.
const RUNS: [(u64, u64, u64); 4] = [(64, 2, 8), (16, 20, 40), (8, 12, 24), (4, 30, 60)];

#[test]
fn with_both_checks_no_time_is_anothers_and_every_loss_is_named() {
    let mut ready = 0;
    for (slots, late, settle) in RUNS {
        let tally = run(slots, late, settle, BOTH);
        assert_eq!((tally.wrong, tally.prev_wrong), (0, 0));
        ready += tally.ready;
        // A settle at most so late that its slot is still its own is never told otherwise.
        assert_eq!(tally.overwritten > 0, settle >= slots, "{tally:?}");
    }
    assert!(ready > STEPS / 2, "{ready} times were told");
}

#[test]
fn the_lap_check_alone_keeps_times_apart_but_does_not_know_what_was_overwritten() {
    for (slots, late, settle) in RUNS {
        let tally = run(slots, late, settle, LAP_ONLY);
        assert_eq!((tally.wrong, tally.prev_wrong, tally.overwritten), (0, 0, 0));
        let both = run(slots, late, settle, BOTH);
        // Some of what was handed on is still there and right; the rest looks like anything else.
        assert!(tally.ready >= both.ready && tally.foreign >= both.foreign);
        assert_eq!(tally.foreign > both.foreign, both.overwritten > 0)
    }
}

#[test]
fn the_liveness_check_alone_takes_late_stamps_of_older_laps() {
    for (slots, late, settle) in RUNS {
        let tally = run(slots, late, settle, LIVE_ONLY);
        assert_eq!(tally.wrong > 0, late >= slots, "{tally:?}")
    }
}

#[test]
fn without_both_checks_most_times_of_a_small_ring_are_anothers() {
    let (slots, late, settle) = RUNS[3];
    let tally = run(slots, late, settle, NONE);
    assert!(tally.wrong * 10 > tally.ready * 9, "{tally:?}");
    assert!(tally.prev_wrong > 0);
}

/// Laps come again after 65,535 of them: then only the distance tells the steps apart.
#[test]
fn the_same_lap_65_535_laps_later_is_told_apart_by_liveness_alone() {
    let (slots, old) = (64, 5);
    let young = old + LAPS * slots;
    assert_eq!(layout::tag(old, slots), layout::tag(young, slots));
    for (checks, wrong) in [(BOTH, false), (LAP_ONLY, true)] {
        let lane = Lane::new(slots, checks);
        lane.issue(old);
        (0..4).for_each(|word| lane.store(old, word));
        assert!(matches!(lane.ask(old), Words::Ready { .. }));
        lane.issue(young);
        (0..4).for_each(|word| lane.store(young, word));
        let mut tally = Tally::default();
        lane.settle(old, &mut tally);
        assert_eq!((tally.wrong == 1, tally.overwritten == 1), (wrong, !wrong));
        lane.settle(young, &mut tally);
        assert_eq!(tally.ready, 1 + u64::from(wrong), "the young one is told")
    }
}
