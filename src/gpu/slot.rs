//! The protocol of a slot: how the host hands it to a step, and when its words may be believed.
//!
//! Assumptions
//! 1. One thread issues the steps of a lane, in the order of their numbers.
//! 2. The GPU stores each word once per step, whole, with the step's tag, at any time after the
//!    launch, in any order; words of older steps may arrive late.
//!
//! Guarantees
//! 1. A word that [`read`] and [`judge`] accept was written by the step that asks.
//! 2. A step whose slot was handed to a younger step is told so ([`Words::Overwritten`]).

use super::layout::{WORDS, lap_of};
use super::sync::{AtomicU64, Ordering, fence};

/// Hands a slot to step `seq`, before anything of the step is launched.
pub(super) fn issue(issued: &AtomicU64, slot: [&AtomicU64; WORDS], seq: u64) {
    // From here on the slot's older owner is dead for every reader that sees a cleared word.
    issued.store(seq, Ordering::Release);
    fence(Ordering::SeqCst);
    for word in slot {
        // No residue: what is there after this was stored for `seq`, or carries another lap.
        word.store(0, Ordering::Relaxed)
    }
}

/// What lay in a slot, and which step was the newest right after.
#[derive(Clone, Copy)]
pub(super) struct Read {
    /// Begin, MarkA, MarkB, End.
    words: [u64; WORDS],
    /// End of the step before, in its own slot.
    prev_end: u64,
    issued: u64,
}

pub(super) fn read(
    issued: &AtomicU64,
    slot: [&AtomicU64; WORDS],
    prev_end: Option<&AtomicU64>,
) -> Read {
    let words = slot.map(|word| word.load(Ordering::Relaxed));
    let prev_end = prev_end.map_or(0, |word| word.load(Ordering::Relaxed));
    // Whoever sees a word that was cleared or stored for a younger step also sees its number.
    fence(Ordering::Acquire);
    Read { words, prev_end, issued: issued.load(Ordering::Relaxed) }
}

/// What the words of a slot mean for one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Words {
    /// A younger step has the slot.
    Overwritten,
    /// A word of another lap lies there: an old stamp that arrived late. May still be replaced.
    Foreign,
    /// Begin or End is not there yet.
    Pending,
    /// Begin, End and what there is of marks; the End of the step before if it can be trusted.
    Ready { begin: u64, end: u64, marks: [Option<u64>; 2], prev_end: Option<u64> },
}

/// Judges for step `seq` with `tag`; `prev` is the step before it with its tag, if there is one.
pub(super) fn judge(
    read: &Read,
    seq: u64,
    tag: u64,
    prev: Option<(u64, u64)>,
    slots: u64,
) -> Words {
    let live = |seq: u64| read.issued.wrapping_sub(seq) < slots;
    if !live(seq) {
        return Words::Overwritten;
    }
    let [begin, mark_a, mark_b, end] = read.words;
    let ours = |word: u64| lap_of(word) == tag;
    if [begin, end].into_iter().any(|word| word != 0 && !ours(word)) {
        return Words::Foreign;
    }
    if begin == 0 || end == 0 {
        return Words::Pending;
    }
    let prev_end = prev
        .filter(|(seq, tag)| live(*seq) && lap_of(read.prev_end) == *tag)
        .map(|_| read.prev_end);
    let mark = |word: u64| ours(word).then_some(word);
    Words::Ready { begin, end, marks: [mark(mark_a), mark(mark_b)], prev_end }
}
