//! Where everything lies that host and GPU share. The same numbers stand in `kernels/stepscope.cuh`.
//!
//! ```text
//! region, host memory, page aligned, registered with the driver
//!   0x0000  magic        ALIVE, or DETACHED, or 0 in a forked child
//!   0x0040  unclaimed    one word per lane, written by the GPU
//!   0x0400  scratch      one slot, for the self test
//!   0x0800  probe        stamp, timer step
//!   0x1000  rings        lanes x slots x 32 bytes
//!
//! slot, 32 bytes         word, 64 bits                        cell, 64 bytes of device memory
//!   0  Begin               63..48 lap   47..0 globaltimer       0  arm: lap, slot's offset; 0 = none
//!   8  MarkA                                                    8  unclaimed stamps
//!  16  MarkB                                                   16  where to publish that count
//!  24  End
//! ```
//!
//! A word is written by one 64-bit store, so it never mixes two steps; the lap in it says whose it is.

/// Words of a slot: one per [`Point`](super::Point).
pub(super) const WORDS: usize = 4;
pub(super) const SLOT_BYTES: u64 = WORDS as u64 * 8;
pub(super) const CELL_BYTES: u64 = 64;

pub(super) const MAGIC: u64 = 0x000;
pub(super) const UNCLAIMED: u64 = 0x040;
pub(super) const SCRATCH: u64 = 0x400;
pub(super) const PROBE: u64 = 0x800;
pub(super) const RINGS: u64 = 0x1000;

/// Value of the magic word while stamps may be launched.
pub(super) const ALIVE: u64 = 0x5354_4550_5343_4f50;
/// Value after `detach`. A forked child reads 0.
pub(super) const DETACHED: u64 = 0x4445_5441_4348_4544;

pub(super) const LANES_MAX: u16 = 64;
pub(super) const SLOTS_MIN: u32 = 64;
pub(super) const SLOTS_MAX: u32 = 1 << 20;

/// Laps count 1..=LAPS, so that a zero word is never valid.
const LAPS: u64 = 65_535;
const TIME_BITS: u32 = 48;
pub(super) const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

const _: () = assert!(UNCLAIMED + LANES_MAX as u64 * 8 <= SCRATCH);
const _: () = assert!(SCRATCH + SLOT_BYTES <= PROBE && PROBE + 16 <= RINGS);
const _: () = assert!(SLOTS_MAX as u64 * SLOT_BYTES <= TIME_MASK);

/// Lap of a step, where the time of a word is 0.
pub(super) const fn tag(seq: u64, slots: u64) -> u64 {
    ((seq / slots) % LAPS + 1) << TIME_BITS
}

/// Byte offset of a step's slot in its ring. `slots` is a power of two.
pub(super) const fn slot_offset(seq: u64, slots: u64) -> u64 {
    (seq & (slots - 1)) * SLOT_BYTES
}

/// The lap a word carries.
pub(super) const fn lap_of(word: u64) -> u64 {
    word & !TIME_MASK
}

/// `to - from` of two 48-bit times that are less than 39 h apart.
pub(super) const fn time_between(from: u64, to: u64) -> i64 {
    let shift = 64 - TIME_BITS;
    ((to.wrapping_sub(from) << shift) as i64) >> shift
}

/// Bytes of the whole region.
pub(super) const fn region_bytes(lanes: u16, slots: u32) -> usize {
    (RINGS + lanes as u64 * slots as u64 * SLOT_BYTES) as usize
}

/// Offset of a lane's ring in the region.
pub(super) const fn ring_offset(lane: u16, slots: u32) -> u64 {
    RINGS + lane as u64 * slots as u64 * SLOT_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lap_is_never_zero_and_changes_once_a_round() {
        assert_eq!(tag(1, 64), 1 << 48);
        assert_eq!(tag(63, 64), 1 << 48);
        assert_eq!(tag(64, 64), 2 << 48);
        assert_eq!(tag(64 * 65_534, 64), 65_535 << 48);
        assert_eq!(tag(64 * 65_535, 64), 1 << 48);
        assert_eq!(slot_offset(64, 64), 0);
        assert_eq!(slot_offset(127, 64), 63 * 32);
    }

    #[test]
    fn times_are_told_apart_across_the_wrap() {
        assert_eq!(time_between(TIME_MASK - 9, 10), 20);
        assert_eq!(time_between(10, TIME_MASK - 9), -20);
        assert_eq!(time_between(5 | 7 << 48, 9 | 3 << 48), 4);
    }

    #[test]
    fn the_kernels_header_says_the_same() {
        let header = include_str!("../../kernels/stepscope.cuh");
        for (offset, what) in [
            (UNCLAIMED, "unclaimed"),
            (SCRATCH, "scratch slot"),
            (PROBE, "probe words"),
            (RINGS, "ring of the lane"),
        ] {
            let place = format!("0x{offset:04x}");
            let said = header.lines().any(|line| line.contains(&place) && line.contains(what));
            assert!(said, "kernels/stepscope.cuh does not say {what} at {place}");
        }
        assert!(header.contains(&format!("0x{ALIVE:016X}")));
    }
}
