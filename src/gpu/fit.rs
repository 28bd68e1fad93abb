//! From probe rounds to the map: what a round proves, which rounds are kept, when a clock jumped.
//!
//! A probe reads the GPU's timer between two host times: with a timer that advances in steps of r
//! the offset o = host - gpu obeys `t0 - g - r < o <= t1 - g`. The bounds of the probes of a round
//! are intersected, which is tighter than half the best round trip, and proved: the launch leg and
//! the return leg are bounded by different probes.

use super::layout::{TIME_MASK, time_between};
use super::map::{Map, RATE_UNKNOWN, rate_of};
use std::collections::VecDeque;

/// Rounds that are kept: at one every 2 s the last 16 s.
const KEPT: usize = 8;
/// A round this much wider than the median of the kept says more of the host than of the clocks.
const WIDE_FACTOR: i64 = 4;
const WIDE_NS: i64 = 20_000;
/// After so many wide rounds in a row the next one is taken: the machine has become like this.
const WIDE_IN_A_ROW_MAX: u32 = 5;
/// The clocks drift apart by at most one ns in so many: the 500 ppm of [`RATE_UNKNOWN`].
const DRIFT_ONE_IN: u64 = 2_000;
/// Beyond both bounds and this, the clock jumped.
const JUMP_NS: i64 = 1_000_000;

/// What the probes of one round prove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Round {
    /// 48-bit GPU time of the last probe.
    gpu: u64,
    /// Bounds of host - GPU, relative to `base`.
    low: i64,
    high: i64,
    resolution: i64,
}

impl Round {
    pub(super) fn new(resolution: i64) -> Round {
        Round { gpu: 0, low: i64::MIN, high: i64::MAX, resolution }
    }

    /// The GPU's timer said `gpu` (unwrapped) at some moment between the host times.
    ///
    /// What earlier probes proved was proved of an earlier moment: the clocks have drifted since, and
    /// on a busy machine the probes of a round lie milliseconds apart.
    pub(super) fn add(&mut self, before: i64, gpu: u64, after: i64) {
        let drift = (gpu.saturating_sub(self.gpu) / DRIFT_ONE_IN + 1) as i64;
        let (low, high) = (self.low.saturating_sub(drift), self.high.saturating_add(drift));
        self.low = low.max(before - gpu as i64 - self.resolution);
        self.high = high.min(after - gpu as i64);
        self.gpu = gpu
    }

    fn middle(&self) -> i64 {
        self.low + (self.high - self.low) / 2
    }

    fn half(&self) -> i64 {
        (self.high - self.low + 1) / 2
    }

    fn is_sound(&self) -> bool {
        self.low <= self.high
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Kept; the map follows it.
    Kept,
    /// Contradicts itself: a jump in its middle, or an unsound probe.
    Unsound,
    /// Much wider than the others: the host was busy.
    Wide,
    /// Kept, and everything before it is forgotten.
    Jumped,
}

/// Owned by the thread that probes.
#[derive(Debug)]
pub(super) struct Fit {
    rounds: VecDeque<Round>,
    residues: VecDeque<i64>,
    wide_in_a_row: u32,
    map: Map,
}

impl Fit {
    pub(super) fn new() -> Fit {
        Fit {
            rounds: VecDeque::with_capacity(KEPT),
            residues: VecDeque::with_capacity(KEPT),
            wide_in_a_row: 0,
            map: Map::default(),
        }
    }

    pub(super) fn map(&self) -> Map {
        self.map
    }

    /// A 48-bit time as a full one, as the rounds so far see it.
    pub(super) fn unwrap(&self, time: u64) -> u64 {
        if self.rounds.is_empty() { time & TIME_MASK } else { self.map.unwrap(time) }
    }

    /// Judges a round and, if it is kept, moves the map.
    pub(super) fn round(&mut self, round: Round) -> Verdict {
        if !round.is_sound() {
            return Verdict::Unsound;
        }
        let jumped = self.has_jumped(&round);
        if jumped {
            self.rounds.clear();
            self.residues.clear();
            self.map.epoch += 1
        } else if self.is_wide(&round) {
            self.wide_in_a_row += 1;
            return Verdict::Wide;
        }
        self.wide_in_a_row = 0;
        if !self.rounds.is_empty() {
            let (miss, bound) = self.miss(&round);
            push(&mut self.residues, (miss - bound).max(0))
        }
        push(&mut self.rounds, round);
        self.map = self.fitted();
        if jumped { Verdict::Jumped } else { Verdict::Kept }
    }

    /// How far the round lies from the prediction, and what both bounds allow.
    fn miss(&self, round: &Round) -> (i64, i64) {
        let predicted = self.map.host(round.gpu & TIME_MASK);
        let measured = (round.gpu as i64) + round.middle() + round.resolution / 2;
        ((measured - predicted.ns).abs(), predicted.error_ns + round.half())
    }

    fn has_jumped(&self, round: &Round) -> bool {
        if self.rounds.is_empty() {
            return false;
        }
        let (miss, bound) = self.miss(round);
        time_between(self.map.gpu, round.gpu) < 0 || miss > bound + JUMP_NS
    }

    fn is_wide(&self, round: &Round) -> bool {
        if self.rounds.is_empty() || self.wide_in_a_row >= WIDE_IN_A_ROW_MAX {
            return false;
        }
        let mut halves: Vec<i64> = self.rounds.iter().map(Round::half).collect();
        halves.sort_unstable();
        round.half() > (halves[halves.len() / 2] * WIDE_FACTOR).max(WIDE_NS)
    }

    /// The newest round is the anchor; the rate comes from the oldest that is kept.
    fn fitted(&self) -> Map {
        let (Some(new), Some(old)) = (self.rounds.back(), self.rounds.front()) else {
            return self.map;
        };
        let span = new.gpu.wrapping_sub(old.gpu) as i64;
        let width = (new.half() + old.half()).max(1);
        let rate_error = rate_of(width, span) as u64 + 1;
        let (rate, rate_error) = if span > 0 && rate_error < RATE_UNKNOWN {
            (rate_of(new.middle() - old.middle(), span), rate_error)
        } else {
            (0, RATE_UNKNOWN)
        };
        Map {
            epoch: self.map.epoch,
            gpu: new.gpu,
            offset: new.middle(),
            half: new.half(),
            rate,
            rate_error,
            resolution: new.resolution,
            residue: self.residues.iter().copied().max().unwrap_or(0),
        }
    }
}

fn push<T>(kept: &mut VecDeque<T>, new: T) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(new)
}
