//! Remembers which step a launch belonged to until the launch's GPU time arrives.

/// Launches that are remembered at most. The oldest makes room: its time then counts as unattributed.
pub(super) const IDS_MAX: usize = 8_192;

const NONE: u16 = u16::MAX;
const _: () = assert!(IDS_MAX < NONE as usize && IDS_MAX.is_power_of_two());

/// One launch: CUPTI's correlation id and ours.
#[derive(Clone, Copy)]
struct Entry {
    external: u64,
    correlation: u32,
    /// Whether a record asked for it: only an entry nobody asked for is a loss.
    used: bool,
    /// Next entry of the same bucket, or of the free list.
    next: u16,
    older: u16,
    newer: u16,
}

/// A hash table of fixed size whose entries also hang in a list by age.
///
/// ```text
/// buckets[hash] ─▶ entry ─▶ entry          chained by `next`
/// oldest ─▶ entry ⇄ entry ⇄ entry ◀─ newest   linked by `newer` and `older`
/// free ─▶ entry ─▶ entry                   chained by `next`
/// ```
///
/// Insert, get and remove take the length of one chain; nothing is allocated after `new`.
/// 8,192 entries of 24 bytes and as many buckets of 2 bytes are 208 KiB.
pub(super) struct Ids {
    entries: Box<[Entry]>,
    buckets: Box<[u16]>,
    free: u16,
    oldest: u16,
    newest: u16,
    overwritten: u64,
}

impl Ids {
    pub(super) fn new() -> Ids {
        let entry = |index: usize| Entry {
            external: 0,
            correlation: 0,
            used: false,
            next: if index + 1 < IDS_MAX { index as u16 + 1 } else { NONE },
            older: NONE,
            newer: NONE,
        };
        Ids {
            entries: (0..IDS_MAX).map(entry).collect(),
            buckets: vec![NONE; IDS_MAX].into(),
            free: 0,
            oldest: NONE,
            newest: NONE,
            overwritten: 0,
        }
    }

    /// Entries that made room before a record asked for them.
    pub(super) fn overwritten(&self) -> u64 {
        self.overwritten
    }

    /// Remembers `external` for `correlation`; a known correlation gets the new value.
    pub(super) fn insert(&mut self, correlation: u32, external: u64) {
        self.remove(correlation);
        if self.free == NONE {
            let oldest = self.entries[usize::from(self.oldest)];
            self.overwritten += u64::from(!oldest.used);
            self.remove(oldest.correlation);
        }
        let (index, bucket) = (self.free, bucket(correlation));
        let (older, next) = (self.newest, self.buckets[bucket]);
        self.free = self.entries[usize::from(index)].next;
        self.entries[usize::from(index)] =
            Entry { external, correlation, used: false, next, older, newer: NONE };
        self.buckets[bucket] = index;
        self.newest = index;
        match older {
            NONE => self.oldest = index,
            older => self.entries[usize::from(older)].newer = index,
        }
    }

    /// The id of a launch, which stays remembered: a graph's kernels share one correlation.
    pub(super) fn get(&mut self, correlation: u32) -> Option<u64> {
        let mut index = self.buckets[bucket(correlation)];
        while index != NONE {
            let entry = &mut self.entries[usize::from(index)];
            if entry.correlation == correlation {
                entry.used = true;
                return Some(entry.external);
            }
            index = entry.next;
        }
        None
    }

    /// Forgets a launch.
    pub(super) fn remove(&mut self, correlation: u32) {
        let bucket = bucket(correlation);
        let (mut before, mut index) = (NONE, self.buckets[bucket]);
        while index != NONE && self.entries[usize::from(index)].correlation != correlation {
            (before, index) = (index, self.entries[usize::from(index)].next);
        }
        if index == NONE {
            return;
        }
        let entry = self.entries[usize::from(index)];
        match before {
            NONE => self.buckets[bucket] = entry.next,
            before => self.entries[usize::from(before)].next = entry.next,
        }
        match entry.older {
            NONE => self.oldest = entry.newer,
            older => self.entries[usize::from(older)].newer = entry.newer,
        }
        match entry.newer {
            NONE => self.newest = entry.older,
            newer => self.entries[usize::from(newer)].older = entry.older,
        }
        self.entries[usize::from(index)].next = self.free;
        self.free = index;
    }
}

/// Correlation ids rise by small steps, so Fibonacci hashing spreads them evenly.
fn bucket(correlation: u32) -> usize {
    (correlation.wrapping_mul(0x9E37_79B9) >> (32 - IDS_MAX.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::{IDS_MAX, Ids};
    use std::collections::{BTreeMap, HashMap};

    #[test]
    fn the_oldest_makes_room_and_is_counted_unless_it_was_used() {
        let mut ids = Ids::new();
        for n in 0..IDS_MAX as u32 {
            ids.insert(n * 7, u64::from(n));
        }
        assert_eq!(ids.get(0), Some(0));
        ids.insert(1_000_000, 1);
        assert_eq!((ids.overwritten(), ids.get(0)), (0, None), "a used one is no loss");
        ids.insert(1_000_001, 2);
        assert_eq!((ids.overwritten(), ids.get(7)), (1, None));
        assert_eq!(
            (ids.get(14), ids.get(1_000_000), ids.get(1_000_001)),
            (Some(2), Some(1), Some(2))
        );
    }

    #[test]
    fn a_forgotten_launch_leaves_its_place() {
        let mut ids = Ids::new();
        ids.insert(5, 55);
        for n in 0..3 * IDS_MAX as u32 {
            ids.insert(100 + n, 1);
            ids.remove(100 + n);
        }
        assert_eq!((ids.get(5), ids.overwritten()), (Some(55), 0));
    }

    #[test]
    fn it_behaves_like_a_map_with_a_queue_of_ages() {
        // Correlation to the round it was inserted in, and back.
        let (mut ids, mut map, mut ages) = (Ids::new(), HashMap::new(), BTreeMap::new());
        let mut state = 1_u64;
        let rounds = if cfg!(miri) { 15_000 } else { 200_000 };
        let mut pushed_out = 0;
        for round in 0..rounds {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let correlation = (state >> 40) as u32 % 20_000;
            let known = map.remove(&correlation);
            if let Some(age) = known {
                ages.remove(&age);
            }
            if state >> 62 < 3 {
                ids.insert(correlation, round);
                if ages.len() == IDS_MAX {
                    map.remove(&ages.pop_first().unwrap().1);
                    pushed_out += 1;
                }
                ages.insert(round, correlation);
                map.insert(correlation, round);
            } else {
                assert_eq!(ids.get(correlation), known);
                ids.remove(correlation);
            }
        }
        assert_eq!(ids.overwritten(), pushed_out);
        assert!(cfg!(miri) || pushed_out > 0);
    }
}
