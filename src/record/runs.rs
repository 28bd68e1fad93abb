//! The distinct gaps of the batch under way, found again by hash.
//!
//! Sequences of a batch that emitted together last time carry equal stamps. Equal stamps with equal
//! accepted counts share one event; a step of 256 sequences has as many distinct ones as there are
//! earlier steps its sequences last took part in, times classes, times accepted counts: a handful.

use super::outbox::SPARE;

/// Distinct (stamp, accepted) pairs one batch can find again.
const RUNS: usize = 64;

/// Known by `stamp`; what the stamp becomes; where it is counted. Valid while `same` (accepted
/// count, epoch) agrees, so the table never needs clearing.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) stamp: u64,
    pub(super) next: u64,
    pub(super) same: u64,
    pub(super) at: usize,
}

/// A stamp that no live request carries: parked, class 0x7fff (never handed out), 2^48 - 1 ns.
const NO_RUN: Run = Run { stamp: u64::MAX, next: u64::MAX, same: 0, at: SPARE };

/// The place whose run never matches and whose weight is never sent.
pub(super) const NOWHERE: usize = RUNS;

pub(super) struct Runs([Run; 2 * RUNS]);

impl Runs {
    pub(super) fn new() -> Runs {
        Runs([NO_RUN; 2 * RUNS])
    }

    /// Where a pair belongs. Fibonacci hashing: the upper six bits are well mixed.
    #[inline(always)]
    pub(super) fn place(stamp: u64, accepted: u32) -> usize {
        ((stamp ^ accepted as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58) as usize
    }

    #[inline(always)]
    pub(super) fn same(accepted: u32, epoch: u32) -> u64 {
        accepted as u64 | (epoch as u64) << 32
    }

    #[inline(always)]
    pub(super) fn get(&self, place: usize) -> &Run {
        // The mask shows the compiler that this cannot be out of bounds.
        &self.0[place & (2 * RUNS - 1)]
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self, place: usize) -> &mut Run {
        &mut self.0[place & (2 * RUNS - 1)]
    }
}
