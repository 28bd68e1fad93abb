//! One histogram series: exact bucket counts, an exact sum, and the open row's HDR.
//!
//! The HDR (2 digits, 32-bit counters, 13 KB, allocated at the first sample) holds only the row that
//! is open: at each row close it yields the page's quantiles, is folded into the native buckets if
//! those are wanted, and is cleared. So its 32-bit counters cannot overflow, and one record per
//! event serves both.

use crate::catalog::grid::Grid;
use crate::catalog::{Row, Unit};
use crate::record::SAMPLE_NS_MAX;
use crate::snapshot::{Exemplar, Histogram};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) type Hdr = hdrhistogram::Histogram<u32>;

/// Eight buckets per doubling: at most 9 % wide.
const NATIVE_SCHEMA: i32 = 3;

/// Finds the bucket of a value in two steps at most.
///
/// Values with the same highest bit and the three bits below it share a key; the table knows the
/// first bucket a key can reach, and bounds of the grids are farther apart than keys are wide.
pub(super) struct Lookup {
    bounds: Box<[u64]>,
    first: Box<[u8; Lookup::KEYS]>,
}

impl Lookup {
    const KEYS: usize = 64 * 8;

    pub(super) fn new(grid: Grid) -> Lookup {
        let bounds: Box<[u64]> = grid.iter().map(|bound| bound.value).chain([u64::MAX]).collect();
        let mut first = Box::new([0; Lookup::KEYS]);
        for (key, place) in first.iter_mut().enumerate() {
            let lowest = Lookup::lowest(key);
            *place = bounds.iter().position(|bound| lowest <= *bound).unwrap_or(0) as u8
        }
        Lookup { bounds, first }
    }

    #[inline]
    fn key(value: u64) -> usize {
        if value < 8 {
            return value as usize;
        }
        let high = 63 - value.leading_zeros();
        (high as usize) << 3 | (value >> (high - 3)) as usize & 7
    }

    /// The smallest value with this key; keys that no value has repeat a smaller one.
    fn lowest(key: usize) -> u64 {
        let (high, low) = (key >> 3, (key & 7) as u64);
        if high < 3 { low } else { (8 | low) << (high - 3) }
    }

    #[inline]
    pub(super) fn bucket(&self, value: u64) -> usize {
        let mut at = self.first[Lookup::key(value)] as usize;
        while value > self.bounds[at] {
            at += 1
        }
        at
    }

    pub(super) fn buckets(&self) -> usize {
        self.bounds.len()
    }
}

pub(super) struct Series {
    counts: Box<[u64]>,
    sum: u128,
    open: Option<Box<Hdr>>,
    native: BTreeMap<i32, u64>,
    exemplars: Vec<Exemplar>,
}

impl Series {
    pub(super) fn new(lookup: &Lookup) -> Series {
        Series {
            counts: vec![0; lookup.buckets()].into(),
            sum: 0,
            open: None,
            native: BTreeMap::new(),
            exemplars: vec![],
        }
    }

    /// `n` samples of one value, which together are worth `sum`.
    #[inline]
    pub(super) fn record(&mut self, row: &Row, lookup: &Lookup, value: u64, n: u64, sum: u128) {
        self.counts[lookup.bucket(value)] += n;
        self.sum += sum;
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Box::new(new_hdr(row.unit))),
        };
        open.saturating_record_n(value, n.min(u32::MAX as u64) as u32)
    }

    /// Keeps the newest exemplar of the value's bucket.
    pub(super) fn exemplar(
        &mut self,
        lookup: &Lookup,
        stored: u64,
        value: f64,
        id: u64,
        seen: Option<Duration>,
    ) {
        let bucket = lookup.bucket(stored);
        let exemplar = Exemplar { bucket, id, value, seen };
        match self.exemplars.iter_mut().find(|e| e.bucket == bucket) {
            Some(there) => *there = exemplar,
            None => self.exemplars.push(exemplar),
        }
    }

    pub(super) fn open(&self) -> Option<&Hdr> {
        self.open.as_deref()
    }

    /// The open row is over.
    pub(super) fn close_row(&mut self, row: &Row, keep_native: bool) {
        let Some(open) = &mut self.open else { return };
        if open.is_empty() {
            return;
        }
        if keep_native {
            fold_native(&mut self.native, row.unit, open)
        }
        open.reset()
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// In the stored unit.
    pub(super) fn sum(&self) -> u128 {
        self.sum
    }

    pub(super) fn counts(&self) -> &[u64] {
        &self.counts
    }

    pub(super) fn snapshot(&self, row: &Row, with_native: bool) -> Histogram {
        let mut native = BTreeMap::new();
        if with_native {
            native = self.native.clone();
            if let Some(open) = &self.open {
                fold_native(&mut native, row.unit, open)
            }
        }
        Histogram {
            counts: self.counts.to_vec(),
            sum: self.sum,
            native: native.into_iter().collect(),
            exemplars: self.exemplars.clone(),
        }
    }
}

/// Bounds within which two digits hold; values outside are counted at the edge.
pub(super) fn new_hdr(unit: Unit) -> Hdr {
    let (low, high) = match unit {
        Unit::Seconds => (1_000, SAMPLE_NS_MAX),
        Unit::Ratio => (1, Unit::Ratio.scale()),
        _ => (1, 1 << 21),
    };
    Hdr::new_with_bounds(low, high, 2).expect("constant bounds are in range")
}

/// Adds an HDR's counts to native buckets. The zero bucket is index `i32::MIN`.
fn fold_native(native: &mut BTreeMap<i32, u64>, unit: Unit, hdr: &Hdr) {
    for bin in hdr.iter_recorded() {
        let middle = hdr.median_equivalent(bin.value_iterated_to());
        let index = native_index(middle as f64 / unit.scale() as f64);
        *native.entry(index).or_default() += bin.count_at_value() as u64
    }
}

/// The native bucket of a value: (base^(i-1), base^i] with base = 2^(2^-schema).
fn native_index(value: f64) -> i32 {
    if value <= 0.0 {
        return i32::MIN;
    }
    (value.log2() * f64::from(1 << NATIVE_SCHEMA)).ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::grid;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_lookup_finds_what_a_search_finds(value in any::<u64>(), shift in 0u32..64) {
            for grid in [grid::REQUEST, grid::DURATION, grid::STEP, grid::TOKENS, grid::FEW, grid::SHARE, grid::SEQUENCES] {
                let lookup = Lookup::new(grid);
                let value = value >> shift;
                let wanted = grid.iter().position(|b| value <= b.value).unwrap_or(grid.len());
                prop_assert_eq!(lookup.bucket(value), wanted);
            }
        }
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let lookup = Lookup::new(grid::REQUEST);
        for (place, bound) in grid::REQUEST.iter().enumerate() {
            assert_eq!(lookup.bucket(bound.value), place);
            assert_eq!(lookup.bucket(bound.value + 1), place + 1);
        }
    }

    #[test]
    fn native_buckets_are_closed_above() {
        assert_eq!(native_index(1.0), 0);
        assert_eq!(native_index(2.0), 8);
        assert_eq!(native_index(1.0001), 1);
    }

    #[test]
    fn one_series_stays_within_16_kilobytes() {
        let hdr = new_hdr(Unit::Seconds);
        let bytes = hdr.distinct_values() * size_of::<u32>() + 40 * size_of::<u64>();
        assert!(bytes + size_of::<Series>() <= 16 << 10, "{bytes}");
    }
}
