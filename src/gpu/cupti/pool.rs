//! The activity buffers and the callbacks through which CUPTI takes and returns them.
//!
//! Why this is process-wide: CUPTI has one subscriber per process and calls back without a word of
//! ours, so the callbacks can find their buffers only through a static. And CUPTI may call back and
//! write for as long as the process lives, so the buffers must never go away. [`Guard`] admits one
//! owner at a time; all other state of this module belongs to that owner.
//!
//! ```text
//!          request              complete              take                  give back
//!  FREE ────────────▶ LENT ────────────────▶ FULL ──────────▶ (read) ───────────────▶ FREE
//!        CUPTI's thread      CUPTI's thread        our thread          our thread
//! ```
//!
//! Assumptions: 1. CUPTI returns each buffer once, and does not touch it afterwards. 2. One owner.
//! Guarantees: 1. A buffer is written by CUPTI only while LENT, and read by us only while FULL.
//! 2. The callbacks never block, allocate or panic.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use super::binding::{CUcontext, RECORD_ALIGNMENT};

/// Buffers; when CUPTI holds all of them it drops records, which is counted.
pub(super) const BUFFERS: usize = 8;

/// Bytes of a buffer.
pub(super) const BUFFER_SIZE: usize = 1 << 20;

const FREE: u8 = 0;
const LENT: u8 = 1;
const FULL: u8 = 2;

struct Buffer {
    /// Leaked at the first start; null before.
    memory: AtomicPtr<u8>,
    state: AtomicU8,
    /// Bytes that CUPTI filled; meaningful while FULL.
    valid: AtomicUsize,
    /// Whose records these are; meaningful unless FREE.
    owner: AtomicU64,
    /// Which return this was, to read in CUPTI's order; meaningful while FULL.
    turn: AtomicU64,
}

struct Pool {
    /// Number of the owner, 0 for none.
    owner: AtomicU64,
    owners: AtomicU64,
    buffers: [CachePadded<Buffer>; BUFFERS],
    turns: AtomicU64,
    /// Requests that found no free buffer.
    exhausted: AtomicU64,
    /// Returns of memory that is not ours, or not lent.
    strange: AtomicU64,
}

/// The one that the callbacks find.
static POOL: Pool = Pool::new();

impl Pool {
    const fn new() -> Pool {
        Pool {
            owner: AtomicU64::new(0),
            owners: AtomicU64::new(0),
            buffers: [const {
                CachePadded::new(Buffer {
                    memory: AtomicPtr::new(null_mut()),
                    state: AtomicU8::new(FREE),
                    valid: AtomicUsize::new(0),
                    owner: AtomicU64::new(0),
                    turn: AtomicU64::new(0),
                })
            }; BUFFERS],
            turns: AtomicU64::new(0),
            exhausted: AtomicU64::new(0),
            strange: AtomicU64::new(0),
        }
    }

    /// A free buffer, or NULL if there is none or nobody reads.
    fn lend(&self) -> *mut u8 {
        let owner = self.owner.load(Ordering::Relaxed);
        if owner == 0 {
            return null_mut();
        }
        for buffer in &self.buffers {
            // Acquire: our reads of this buffer, before FREE was stored with Release, are over.
            let free =
                buffer.state.compare_exchange(FREE, LENT, Ordering::Acquire, Ordering::Relaxed);
            if free.is_ok() {
                buffer.owner.store(owner, Ordering::Relaxed);
                return buffer.memory.load(Ordering::Acquire);
            }
        }
        self.exhausted.fetch_add(1, Ordering::Relaxed);
        null_mut()
    }

    /// Takes a lent buffer back with `valid` bytes in it.
    fn accept(&self, memory: *mut u8, valid: usize) {
        let lent = self.buffers.iter().find(|buffer| {
            buffer.memory.load(Ordering::Relaxed) == memory
                && buffer.state.load(Ordering::Relaxed) == LENT
        });
        let Some(buffer) = lent.filter(|_| !memory.is_null()) else {
            self.strange.fetch_add(1, Ordering::Relaxed);
            return;
        };
        buffer.valid.store(valid, Ordering::Relaxed);
        buffer.turn.store(self.turns.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        // Release: whoever sees FULL sees CUPTI's records and the two stores above.
        buffer.state.store(FULL, Ordering::Release);
    }
}

/// The right to use the pool; the process has one, and gets it back when this is dropped.
///
/// It knows the owner's number: buffers that CUPTI filled for an earlier owner are not read, since
/// their ids name steps of another life.
pub(super) struct Guard {
    pool: &'static Pool,
    owner: u64,
}

/// What the callbacks met in this process, whoever owned the pool.
#[derive(Clone, Copy, Default)]
pub(super) struct PoolCounts {
    pub(super) exhausted: u64,
    pub(super) strange: u64,
}

impl Guard {
    /// The right, unless somebody has it. The first call allocates the buffers, for ever.
    pub(super) fn take() -> Option<Guard> {
        Guard::of(&POOL)
    }

    fn of(pool: &'static Pool) -> Option<Guard> {
        let owner = pool.owners.fetch_add(1, Ordering::Relaxed) + 1;
        // Acquire: sees what the previous owner, which stored 0 with Release, did.
        pool.owner.compare_exchange(0, owner, Ordering::Acquire, Ordering::Relaxed).ok()?;
        for buffer in &pool.buffers {
            if buffer.memory.load(Ordering::Relaxed).is_null() {
                const WORDS: usize = BUFFER_SIZE / size_of::<u64>();
                const _: () = assert!(align_of::<u64>() >= RECORD_ALIGNMENT);
                let words = Box::leak(vec![0_u64; WORDS].into_boxed_slice());
                // Release: a callback that loads the pointer with Acquire sees zeroed memory.
                buffer.memory.store(words.as_mut_ptr().cast(), Ordering::Release);
            }
        }
        Some(Guard { pool, owner })
    }

    /// The owner's number, for [`owns`].
    pub(super) fn owner(&self) -> u64 {
        self.owner
    }

    pub(super) fn counts(&self) -> PoolCounts {
        PoolCounts {
            exhausted: self.pool.exhausted.load(Ordering::Relaxed),
            strange: self.pool.strange.load(Ordering::Relaxed),
        }
    }

    /// Calls `read` with the filled bytes of each full buffer in the order of their return.
    pub(super) fn each_full(&mut self, taken: &Taken, mut read: impl FnMut(&mut [u8])) {
        for index in &taken.order[..taken.count] {
            let buffer = &self.pool.buffers[*index];
            let valid = buffer.valid.load(Ordering::Relaxed).min(BUFFER_SIZE);
            let memory = buffer.memory.load(Ordering::Relaxed);
            // SAFETY: `take_full` saw FULL with Acquire, so the BUFFER_SIZE bytes at `memory`
            // (leaked, zeroed at first) hold all that CUPTI wrote before it returned them, and it
            // writes no more until they are FREE; `&mut self` and one Guard per process make this
            // slice the only one.
            read(unsafe { std::slice::from_raw_parts_mut(memory, valid) });
        }
    }

    /// The buffers that are full now, oldest first; those of earlier owners go back unread.
    pub(super) fn take_full(&mut self) -> Taken {
        let mut taken = Taken { order: [0; BUFFERS], count: 0 };
        for (index, buffer) in self.pool.buffers.iter().enumerate() {
            // Acquire: pairs with the Release of `completed`, behind which stand CUPTI's writes.
            if buffer.state.load(Ordering::Acquire) != FULL {
                continue;
            }
            if buffer.owner.load(Ordering::Relaxed) != self.owner {
                // Release: passes on what the Acquire above saw, so that the next writer comes after
                // the last one.
                buffer.state.store(FREE, Ordering::Release);
                continue;
            }
            taken.order[taken.count] = index;
            taken.count += 1;
        }
        taken.order[..taken.count]
            .sort_unstable_by_key(|index| self.pool.buffers[*index].turn.load(Ordering::Relaxed));
        taken
    }

    /// Lets CUPTI fill these buffers again.
    pub(super) fn give_back(&mut self, taken: Taken) {
        for index in &taken.order[..taken.count] {
            // Release: CUPTI's thread, which takes it with Acquire, comes after our last read.
            self.pool.buffers[*index].state.store(FREE, Ordering::Release);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let rest = self.take_full();
        self.give_back(rest);
        // Release: the next owner sees the pool as this one left it.
        self.pool.owner.store(0, Ordering::Release);
    }
}

/// Whether the owner of this number still has the pool. A hint: it may end at any time.
pub(super) fn owns(owner: u64) -> bool {
    POOL.owner.load(Ordering::Relaxed) == owner
}

/// Full buffers, by index.
pub(super) struct Taken {
    order: [usize; BUFFERS],
    count: usize,
}

/// CUPTI asks for an empty buffer; NULL makes it drop (and count) records.
pub(super) unsafe extern "C" fn requested(
    buffer: *mut *mut u8,
    size: *mut usize,
    records_max: *mut usize,
) {
    let found = POOL.lend();
    let given = if found.is_null() { 0 } else { BUFFER_SIZE };
    // SAFETY: CUPTI passes three valid places for its answer, as the callback's type documents.
    unsafe {
        buffer.write(found);
        size.write(given);
        records_max.write(0); // As many as fit.
    }
}

/// CUPTI returns a buffer with `valid` bytes of records.
pub(super) unsafe extern "C" fn completed(
    _context: CUcontext,
    _stream: u32,
    buffer: *mut u8,
    _size: usize,
    valid: usize,
) {
    POOL.accept(buffer, valid);
}

#[cfg(test)]
mod tests {
    use super::{BUFFER_SIZE, BUFFERS, Guard, Pool};
    use std::ptr::null_mut;

    fn pool() -> &'static Pool {
        Box::leak(Box::new(Pool::new()))
    }

    fn lengths(guard: &mut Guard) -> Vec<usize> {
        let mut lengths = vec![];
        let taken = guard.take_full();
        guard.each_full(&taken, |bytes| lengths.push(bytes.len()));
        guard.give_back(taken);
        lengths
    }

    #[test]
    fn buffers_go_round_in_order_and_a_ninth_is_refused_and_counted() {
        let pool = pool();
        let mut guard = Guard::of(pool).unwrap();
        assert!(Guard::of(pool).is_none(), "one owner");
        let lent: Vec<*mut u8> = (0..BUFFERS).map(|_| pool.lend()).collect();
        assert!(lent.iter().all(|buffer| !buffer.is_null() && buffer.addr() % 8 == 0));
        assert!(pool.lend().is_null());
        assert_eq!(guard.counts().exhausted, 1);

        pool.accept(lent[5], 50);
        pool.accept(lent[2], 20);
        let taken = guard.take_full();
        pool.accept(lent[0], BUFFER_SIZE + 1);
        let mut lengths_now = vec![];
        guard.each_full(&taken, |bytes| lengths_now.push(bytes.len()));
        assert_eq!(lengths_now, [50, 20], "in the order of return; what came later waits");
        guard.give_back(taken);
        assert_eq!(lengths(&mut guard), [BUFFER_SIZE], "not more than a buffer holds");
        assert_eq!((0..9).filter(|_| !pool.lend().is_null()).count(), 3);
    }

    #[test]
    fn what_was_not_lent_is_not_taken() {
        let pool = pool();
        let mut guard = Guard::of(pool).unwrap();
        let lent = pool.lend();
        pool.accept(lent, 8);
        pool.accept(lent, 9);
        pool.accept(null_mut(), 0);
        pool.accept(lent.wrapping_add(8), 8);
        assert_eq!((guard.counts().strange, lengths(&mut guard)), (3, vec![8]));
    }

    #[test]
    fn records_of_an_earlier_owner_are_not_read() {
        let pool = pool();
        let mut guard = Guard::of(pool).unwrap();
        let (early, late) = (pool.lend(), pool.lend());
        pool.accept(early, 8);
        drop(guard);
        assert!(pool.lend().is_null(), "without an owner there is nothing to record");
        guard = Guard::of(pool).unwrap();
        pool.accept(late, 8);
        assert_eq!(lengths(&mut guard), [0; 0]);
        assert_eq!((0..9).filter(|_| !pool.lend().is_null()).count(), BUFFERS, "all came home");
    }

    #[test]
    fn a_reader_sees_all_that_another_thread_wrote_before_it_returned_the_buffer() {
        let pool = pool();
        let mut guard = Guard::of(pool).unwrap();
        let rounds = if cfg!(miri) { 50 } else { 20_000 };
        let writer = std::thread::spawn(move || {
            let mut round = 0_u64;
            while round < rounds {
                let buffer = pool.lend();
                if buffer.is_null() {
                    std::thread::yield_now();
                    continue;
                }
                // SAFETY: a lent buffer is this thread's, aligned for u64 and larger than 64 bytes.
                unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u64>(), 8).fill(round) };
                pool.accept(buffer, 64);
                round += 1;
            }
        });
        let mut seen = vec![0_u8; rounds as usize];
        let mut count = 0;
        while count < rounds {
            let taken = guard.take_full();
            guard.each_full(&taken, |bytes| {
                let round = u64::from_ne_bytes(*bytes.first_chunk().unwrap());
                assert!(bytes.chunks_exact(8).all(|word| word == round.to_ne_bytes()));
                seen[round as usize] += 1;
                count += 1;
            });
            guard.give_back(taken);
            std::thread::yield_now();
        }
        assert!(seen.iter().all(|times| *times == 1));
        writer.join().unwrap();
    }
}
