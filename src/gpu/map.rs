//! The map from the GPU's timer to the host's clock, with a bound of its error, which is proved
//! for rates that change by no more than [`RATE_CHANGE`] between two rounds.
//!
//! A map is an anchor (a GPU time, the host's offset to it and half the width of what is known of
//! that offset) and a rate with its own bound. Integers only: an engine thread maps times too.

use super::layout::{TIME_MASK, time_between};
use super::sync::{AtomicU64, Ordering, fence};

/// Fixed point of rates: 2^-40 is about 1e-12.
const RATE_BITS: u32 = 40;
/// What is assumed of two clocks whose rates were never compared: 500 ppm.
pub(super) const RATE_UNKNOWN: u64 = (500 << RATE_BITS) / 1_000_000;

/// How much a rate may change before the next round measures it: 10 ppm. A clock that is kept by NTP or
/// PTP is corrected by a ppm or so; one that was set wrong is slewed by up to 500 ppm, which no bound
/// worth having covers: its times may leave theirs until the next round or two.
pub(super) const RATE_CHANGE: u64 = (10 << RATE_BITS) / 1_000_000;

/// A GPU time on the host's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HostTime {
    pub(super) ns: i64,
    /// The true time is within this of `ns`.
    pub(super) error_ns: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Map {
    /// Grows with every jump of the GPU's clock.
    pub(super) epoch: u32,
    /// GPU time of the anchor, unwrapped.
    pub(super) gpu: u64,
    /// Host - GPU at the anchor: the middle of what is possible, and half its width.
    pub(super) offset: i64,
    pub(super) half: i64,
    /// Host ns that pass in a GPU ns, less one, in 2^-40.
    pub(super) rate: i64,
    pub(super) rate_error: u64,
    /// Smallest step of the GPU's timer.
    pub(super) resolution: i64,
    /// How far recent rounds lay outside of what was predicted: keeps the bound honest while the
    /// host's clock is slewed.
    pub(super) residue: i64,
}

impl Map {
    /// A 48-bit time as a full one: the one nearest to the anchor.
    pub(super) fn unwrap(&self, time: u64) -> u64 {
        self.gpu.wrapping_add_signed(time_between(self.gpu & TIME_MASK, time))
    }

    /// Where on the host's clock a 48-bit GPU time lies.
    pub(super) fn host(&self, time: u64) -> HostTime {
        let dt = time_between(self.gpu & TIME_MASK, time);
        let ns = (self.gpu as i64)
            .wrapping_add(dt)
            .wrapping_add(self.offset)
            .wrapping_add(scaled(dt, self.rate))
            .wrapping_add(self.resolution / 2);
        HostTime { ns, error_ns: self.error(dt) }
    }

    /// Bound of the error `dt` GPU ns away from the anchor.
    pub(super) fn error(&self, dt: i64) -> i64 {
        let rate_error = self.rate_error.saturating_add(RATE_CHANGE);
        let drift = scaled(dt.saturating_abs(), rate_error as i64);
        self.half + drift + self.resolution / 2 + self.residue + 1
    }

    /// Bound of the error at a host time.
    pub(super) fn error_at_host(&self, now: u64) -> i64 {
        let anchor = (self.gpu as i64).wrapping_add(self.offset);
        self.error((now as i64).wrapping_sub(anchor))
    }

    fn to_words(self) -> [u64; 8] {
        [
            self.epoch.into(),
            self.gpu,
            self.offset as u64,
            self.half as u64,
            self.rate as u64,
            self.rate_error,
            self.resolution as u64,
            self.residue as u64,
        ]
    }

    fn from_words(words: [u64; 8]) -> Map {
        let [epoch, gpu, offset, half, rate, rate_error, resolution, residue] = words;
        Map {
            epoch: epoch as u32,
            gpu,
            offset: offset as i64,
            half: half as i64,
            rate: rate as i64,
            rate_error,
            resolution: resolution as i64,
            residue: residue as i64,
        }
    }
}

/// `dt` times a rate, in full width.
fn scaled(dt: i64, rate: i64) -> i64 {
    ((i128::from(dt) * i128::from(rate)) >> RATE_BITS) as i64
}

/// A quotient of nanoseconds as a rate.
pub(super) fn rate_of(difference: i64, span: i64) -> i64 {
    ((i128::from(difference) << RATE_BITS) / i128::from(span.max(1))) as i64
}

/// The newest map: written by one thread, read by any without waiting.
///
/// Four copies take turns. A reader looks at the newest; only if three more were published while it
/// read could its copy have been touched, and then it reads again.
pub(super) struct Published {
    turn: AtomicU64,
    copies: [[AtomicU64; 8]; COPIES],
}

const COPIES: usize = 4;

impl Published {
    pub(super) fn new(map: Map) -> Published {
        let published = Published {
            turn: AtomicU64::new(0),
            copies: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
        };
        published.publish(map);
        published
    }

    pub(super) fn publish(&self, map: Map) {
        let turn = self.turn.load(Ordering::Relaxed) + 1;
        // A reader that sees one of the words below sees the turn before them too.
        fence(Ordering::Release);
        let copy = &self.copies[turn as usize % COPIES];
        for (cell, word) in copy.iter().zip(map.to_words()) {
            cell.store(word, Ordering::Relaxed)
        }
        // Whoever sees this turn sees its words.
        self.turn.store(turn, Ordering::Release)
    }

    pub(super) fn read(&self) -> Map {
        loop {
            let turn = self.turn.load(Ordering::Acquire);
            let copy = &self.copies[turn as usize % COPIES];
            let words = copy.each_ref().map(|cell| cell.load(Ordering::Relaxed));
            // Pairs with the Release fence of `publish`.
            fence(Ordering::Acquire);
            if self.turn.load(Ordering::Relaxed).wrapping_sub(turn) < COPIES as u64 - 1 {
                return Map::from_words(words);
            }
        }
    }
}
