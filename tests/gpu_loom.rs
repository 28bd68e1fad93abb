//! The slot protocol and the clock's publication, explored by loom over the library's own source.
#![allow(missing_docs, dead_code)]

#[path = "../src/gpu/layout.rs"]
mod layout;
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering, fence};
}
#[path = "../src/gpu/slot.rs"]
mod slot;

use loom::sync::Arc;
use slot::Words;
use sync::{AtomicU64, Ordering};

/// A ring of one slot, and the words that matter: Begin and End.
struct Ring {
    issued: AtomicU64,
    words: [AtomicU64; 4],
}

impl Ring {
    fn slot(&self) -> [&AtomicU64; 4] {
        self.words.each_ref()
    }

    /// The GPU stamps a step: times that tell whose they are.
    fn stamp(&self, tag: u64, step: u64) {
        self.words[0].store(tag | step, Ordering::Relaxed);
        self.words[3].store(tag | (step + 1), Ordering::Relaxed)
    }
}

/// Step 1 is settled while the host hands its slot to step 2, whose stamps arrive beside the late
/// ones of step 1. What is accepted for step 1 must be step 1's.
fn explore(tag_of: fn(u64) -> u64, slots: u64) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let ring = Arc::new(Ring {
            issued: AtomicU64::new(1),
            words: std::array::from_fn(|_| AtomicU64::new(0)),
        });
        let late = ring.clone();
        let gpu = loom::thread::spawn(move || late.stamp(tag_of(1), 10));
        let next = ring.clone();
        let host = loom::thread::spawn(move || {
            slot::issue(&next.issued, next.slot(), 2);
            next.stamp(tag_of(2), 20)
        });
        let read = slot::read(&ring.issued, ring.slot(), None);
        if let Words::Ready { begin, end, .. } = slot::judge(&read, 1, tag_of(1), None, slots) {
            assert_eq!((begin, end), (tag_of(1) | 10, tag_of(1) | 11), "another step's stamp");
        }
        gpu.join().unwrap();
        host.join().unwrap();
    });
}

#[test]
fn no_step_gets_the_stamp_of_another() {
    explore(|seq| layout::tag(seq, 1), 1)
}

#[test]
fn the_lap_alone_keeps_them_apart() {
    // Every step counts as live.
    explore(|seq| layout::tag(seq, 1), u64::MAX)
}

/// The model can fail: with equal laps a late stamp of a dead step is not told apart.
#[test]
#[should_panic(expected = "another step's stamp")]
fn without_laps_the_model_finds_the_fault() {
    explore(|_| layout::tag(1, 1), u64::MAX)
}
