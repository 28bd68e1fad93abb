//! `Request`: everything a verb needs to close a fact, 64 bytes of plain data owned by the engine.
//!
//! ```text
//!  0  stamp  u64  newest emission (0 = none) ^ tag << 48     hot: one compare, one store
//!                 tag = class (15 bits) | 0x8000 unless decoding
//!  8  count  u64  gaps << 32 | tokens                        hot: one add updates both
//! 16  head   u32  class u16 | scope u8 | state u8
//! 20  slow   u16  gaps above the TBT objective, saturating
//! 22  flags  u8   23 evictions u8, saturating
//! 24  recv   u64
//! 32  first  u64  sched[1] until the first token, then tok[1]
//! 40  mark   u64  enq until scheduled, then the last eviction
//! 48  id     u64  the engine's own number, for exemplars
//! 56  prompt u32  prompt positions obtained (computed, cached, transferred)
//! 60  redo   u32  positions still to be computed a second time
//! ```
//!
//! Why 64 bytes suffice: tok[1] may replace sched[1] because prefill is closed by then; the
//! eviction may replace enq because queue time is closed by then; the prompt's length need not be
//! kept because, once a first token came, a position that is no second computation is a generated
//! one. The stamp is a bijection for any 64-bit time, and two decoding sequences with equal stamps
//! have equal last time and class unless their last emissions lie exactly k x 2^48 ns (78 h) apart.

use std::sync::atomic::{AtomicU64, Ordering};

/// A request class (endpoint, priority), interned by [`Stepscope::series`](crate::Stepscope::series).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct Series {
    pub(crate) index: u16,
    pub(crate) scope: u8,
    pub(crate) priority: u8,
}

impl Series {
    /// The priority level of this class, for [`Recorder::queue`](crate::Recorder::queue).
    pub const fn priority(self) -> Priority {
        Priority(self.priority)
    }
}

/// A priority level of this worker, one of at most eight.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Priority(pub(crate) u8);

/// A KV pool of this worker, one of at most eight. [`Pool::KV`] is the attention cache.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Pool(pub(crate) u8);

impl Pool {
    /// The pool named `kv`: the attention KV cache, the one alerts look at.
    pub const KV: Pool = Pool(0);
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Free = 0,
    Arrived = 1,
    Queued = 2,
    Scheduled = 3,
    Decoding = 4,
    Evicted = 5,
    Resumed = 6,
    Ended = 7,
}

impl State {
    const ALL: [State; 8] = [
        State::Free,
        State::Arrived,
        State::Queued,
        State::Scheduled,
        State::Decoding,
        State::Evicted,
        State::Resumed,
        State::Ended,
    ];

    #[inline(always)]
    const fn of(byte: u8) -> State {
        State::ALL[(byte & 7) as usize]
    }

    #[inline(always)]
    pub(crate) const fn is_live(self) -> bool {
        !matches!(self, State::Free | State::Ended)
    }

    #[inline(always)]
    pub(crate) const fn is_running(self) -> bool {
        matches!(self, State::Scheduled | State::Decoding | State::Resumed)
    }
}

pub(crate) mod flag {
    pub(crate) const CHILD: u8 = 1;
    /// The request's TTFT is booked, by itself or by a sibling.
    pub(crate) const TTFT: u8 = 2;
    pub(crate) const TTFT_SLOW: u8 = 4;
    pub(crate) const FORKED: u8 = 8;
}

/// One request (or one more sequence of it), owned by the engine and handed to every verb.
///
/// Plain data: it may move between threads and recorders. It cannot be copied, and ending it
/// consumes it. One that is dropped alive is counted in `llm_invalid_total{reason="dropped"}`.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct Request {
    pub(crate) stamp: u64,
    pub(crate) count: u64,
    head: u32,
    pub(crate) slow: u16,
    pub(crate) flags: u8,
    pub(crate) evictions: u8,
    pub(crate) recv: u64,
    pub(crate) first: u64,
    pub(crate) mark: u64,
    pub(crate) id: u64,
    pub(crate) prompt: u32,
    pub(crate) redo: u32,
}
const _: () = {
    assert!(size_of::<Request>() == 64 && align_of::<Request>() == 8);
    assert!(std::mem::offset_of!(Request, count) == 8);
    assert!(std::mem::offset_of!(Request, head) == 16);
    assert!(std::mem::offset_of!(Request, id) == 48);
};

/// Set in the stamp unless the sequence is decoding.
const PARKED: u64 = 0x8000;

impl Request {
    /// An empty slot: every verb on it is counted and changes nothing.
    pub const fn empty() -> Request {
        Request {
            stamp: PARKED << 48,
            count: 0,
            head: 0,
            slow: 0,
            flags: 0,
            evictions: 0,
            recv: 0,
            first: 0,
            mark: 0,
            id: 0,
            prompt: 0,
            redo: 0,
        }
    }

    /// The engine's own number, as given to `arrive`.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Tokens accepted for this sequence so far.
    pub const fn tokens(&self) -> u32 {
        self.count as u32
    }

    /// Gaps between this sequence's emissions so far (those of joined children included).
    pub const fn gaps(&self) -> u32 {
        (self.count >> 32) as u32
    }

    /// A handle for the thread that writes to the client: it sees when the first chunk leaves.
    pub const fn stream(&self) -> Stream {
        Stream {
            recv: self.recv,
            class: self.class(),
            scope: self.scope(),
            done: false as u8,
            reserved: 0,
        }
    }

    pub(crate) const fn pack(class: u16, scope: u8, state: State) -> u32 {
        class as u32 | (scope as u32) << 16 | (state as u32) << 24
    }

    #[inline(always)]
    pub(crate) const fn state(&self) -> State {
        State::of((self.head >> 24) as u8)
    }

    #[inline(always)]
    pub(crate) const fn scope(&self) -> u8 {
        (self.head >> 16) as u8
    }

    #[inline(always)]
    pub(crate) const fn class(&self) -> u16 {
        self.head as u16
    }

    /// Scope and state: one compare tells a decoding request of ours.
    #[inline(always)]
    pub(crate) const fn scope_and_state(&self) -> u32 {
        self.head >> 16
    }

    #[inline(always)]
    fn tag(&self) -> u64 {
        let parked = if self.state() == State::Decoding { 0 } else { PARKED };
        (self.class() as u64 & 0x7fff | parked) << 48
    }

    /// tok[i] of the newest emission, 0 before the first.
    #[inline(always)]
    pub(crate) fn last(&self) -> u64 {
        self.stamp ^ self.tag()
    }

    #[inline(always)]
    pub(crate) fn set_last(&mut self, last: u64) {
        self.stamp = last ^ self.tag()
    }

    #[inline(always)]
    pub(crate) fn set_state(&mut self, state: State) {
        self.set_head(self.head & 0x00ff_ffff | (state as u32) << 24)
    }

    pub(crate) fn set_head(&mut self, head: u32) {
        let last = self.last();
        self.head = head;
        self.set_last(last)
    }

    #[inline(always)]
    pub(crate) const fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// No point of this request lies later than this.
    pub(crate) fn latest(&self) -> u64 {
        self.recv.max(self.first).max(self.mark).max(self.last())
    }

    /// Moves the newest emission back: benches make odd gaps with it.
    #[doc(hidden)]
    pub fn bench_shift(&mut self, by_ns: u64) {
        self.set_last(self.last().wrapping_sub(by_ns))
    }

    /// Sets the newest emission: benches undo `bench_shift` with it.
    #[doc(hidden)]
    pub fn bench_reset(&mut self, at_ns: u64) {
        self.set_last(at_ns)
    }
}

impl Default for Request {
    fn default() -> Self {
        Request::empty()
    }
}

/// Unfinished requests that were dropped: the one static of this layer.
///
/// `Request` is plain data and has no way to its recorder when it dies, so the counts are kept by
/// scope tag: whole requests, then sequences that were waiting, then sequences that were running.
static DROPPED: [[AtomicU64; 3]; 256] = [const { [const { AtomicU64::new(0) }; 3] }; 256];

/// What scope `tag` lost so far: (requests, waiting sequences, running sequences).
pub(crate) fn dropped(tag: u8) -> [u64; 3] {
    // Acquire: read before the accepted cells; a request is accepted before it is dropped.
    std::array::from_fn(|i| DROPPED[tag as usize][i].load(Ordering::Acquire))
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.state().is_live() {
            return;
        }
        let counts = &DROPPED[self.scope() as usize];
        // Many threads may drop requests of one scope, so these are shared adds.
        if !self.has(flag::CHILD) {
            counts[0].fetch_add(1, Ordering::Release);
        }
        counts[1 + self.state().is_running() as usize].fetch_add(1, Ordering::Release);
    }
}

/// What the thread that writes to the client needs to report the first chunk.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Stream {
    pub(crate) recv: u64,
    pub(crate) class: u16,
    pub(crate) scope: u8,
    pub(crate) done: u8,
    pub(crate) reserved: u32,
}
const _: () = assert!(size_of::<Stream>() == 16);
