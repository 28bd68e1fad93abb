//! The paged KV cache: fixed blocks, reference counts, and a prefix cache of what nobody holds.
//!
//! A block is always in one of four places:
//!
//! ```text
//!            grow, admit                    release
//!   free ───────────────▶ referenced ─────────────────▶ cached (it has a key)
//!    ▲  ▲                     │  ▲                        │  │
//!    │  └─────────────────────┘  └──── admit: a hit ──────┘  │
//!    │        release (no key)                               │
//!    └──────────────── evicted, least recently used ─────────┘
//!   withheld: not usable for now (the pool shrank)
//! ```
//!
//! so `referenced + cached + free = usable` at all times. A block gets its key when it is full; two
//! sequences with equal prompts hold the same block.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// Token slots of one KV block, as in vLLM.
pub(crate) const BLOCK_TOKENS: u32 = 16;

/// What a full block holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum PageKey {
    /// Part of a prompt that others may share: hash id of the trace, page in it.
    Shared { hash: u64, page: u32 },
    /// Known to one request only: after a preemption it finds its own blocks again.
    Own { request: u64, page: u32 },
}

/// A place in the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockId(u32);

/// The blocks of one sequence, in order of position, the last one partly filled.
#[derive(Debug, Default)]
pub(crate) struct BlockTable(Vec<BlockId>);

#[derive(Clone, Debug, Default)]
struct Block {
    references: u32,
    key: Option<PageKey>,
    /// Its place among the cached ones, if it is cached.
    released: u64,
}

/// All blocks of a worker.
#[derive(Debug)]
pub(crate) struct KvPool {
    block_tokens: u32,
    blocks: Vec<Block>,
    free: Vec<BlockId>,
    /// Unreferenced and reusable, the least recently released first.
    cached: BTreeMap<u64, BlockId>,
    by_key: HashMap<PageKey, BlockId>,
    withheld: Vec<BlockId>,
    /// How many may be usable; more are withheld as soon as they are unreferenced.
    usable_max: u32,
    referenced: u32,
    slots_used: u64,
    releases: u64,
}

impl KvPool {
    pub(crate) fn new(blocks: u32, block_tokens: u32) -> KvPool {
        KvPool {
            block_tokens,
            blocks: vec![Block::default(); blocks as usize],
            free: (0..blocks).rev().map(BlockId).collect(),
            cached: BTreeMap::new(),
            by_key: HashMap::new(),
            withheld: vec![],
            usable_max: blocks,
            referenced: 0,
            slots_used: 0,
            releases: 0,
        }
    }

    /// Blocks held by sequences.
    pub(crate) fn referenced(&self) -> u32 {
        self.referenced
    }

    /// Blocks held by nobody that a later prompt may hit.
    pub(crate) fn cached(&self) -> u32 {
        self.cached.len() as u32
    }

    /// Blocks in all, less the withheld ones.
    pub(crate) fn usable(&self) -> u32 {
        (self.blocks.len() - self.withheld.len()) as u32
    }

    /// All blocks, withheld or not.
    pub(crate) fn total(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// Token slots filled in the referenced blocks.
    pub(crate) fn slots_used(&self) -> u64 {
        self.slots_used
    }

    fn pages(&self, tokens: u32) -> usize {
        tokens.div_ceil(self.block_tokens) as usize
    }

    /// Gives a new sequence its blocks for `tokens` positions, as many as possible from the prefix
    /// cache. Says how many positions need no compute: never all, since the last one must be
    /// computed to sample from. `None`, and nothing changed, unless `spare` blocks stay available.
    pub(crate) fn admit(
        &mut self,
        table: &mut BlockTable,
        tokens: u32,
        spare: u32,
        key: impl Fn(u32) -> PageKey,
    ) -> Option<u32> {
        debug_assert!(table.0.is_empty() && tokens > 0);
        let full_pages = (tokens - 1) / self.block_tokens;
        let hits: Vec<BlockId> =
            (0..full_pages).map_while(|page| self.by_key.get(&key(page)).copied()).collect();
        let held = hits.iter().filter(|id| self.block(**id).references > 0).count();
        let wanted = self.pages(tokens) - held;
        if wanted + spare as usize > self.available() {
            return None;
        }
        for id in &hits {
            self.reference(*id)
        }
        table.0 = hits;
        let cached = table.0.len() as u32 * self.block_tokens;
        let has_room = self.grow(table, tokens);
        debug_assert!(has_room, "hits were taken from what is available");
        Some(cached)
    }

    /// Makes room for `tokens` positions in all; false, and nothing changed, if blocks run out.
    pub(crate) fn grow(&mut self, table: &mut BlockTable, tokens: u32) -> bool {
        let missing = self.pages(tokens).saturating_sub(table.0.len());
        if missing > self.available() {
            return false;
        }
        table.0.extend((0..missing).map_while(|_| self.take()));
        true
    }

    /// Positions `from..to` of a sequence are filled; blocks that are full by now can be shared.
    pub(crate) fn fill(
        &mut self,
        table: &BlockTable,
        from: u32,
        to: u32,
        key: impl Fn(u32) -> PageKey,
    ) {
        self.slots_used += u64::from(to - from);
        for page in from / self.block_tokens..to / self.block_tokens {
            let id = table.0[page as usize];
            let key = key(page);
            // The first one to compute a shared page keeps the key.
            if let Entry::Vacant(entry) = self.by_key.entry(key) {
                entry.insert(id);
                self.block_mut(id).key = Some(key)
            }
        }
    }

    /// A sequence gives all its blocks back; `filled` positions of them were filled.
    pub(crate) fn release(&mut self, table: &mut BlockTable, filled: u32) {
        let table = std::mem::take(&mut table.0);
        // Last page first: what is evicted first should be the end of a prefix, not its begin.
        for (page, id) in table.into_iter().enumerate().rev() {
            let block = self.block_mut(id);
            block.references -= 1;
            if block.references > 0 {
                continue;
            }
            let has_key = block.key.is_some();
            self.referenced -= 1;
            let before = page as u32 * self.block_tokens;
            self.slots_used -= u64::from(filled.saturating_sub(before).min(self.block_tokens));
            if has_key {
                self.releases += 1;
                self.block_mut(id).released = self.releases;
                self.cached.insert(self.releases, id);
            } else {
                self.free.push(id)
            }
        }
        self.withhold()
    }

    /// How many blocks may be usable. More than that are withheld as soon as nobody holds them.
    pub(crate) fn set_usable_max(&mut self, blocks: u32) {
        self.usable_max = blocks;
        while self.usable() < self.usable_max
            && let Some(id) = self.withheld.pop()
        {
            self.free.push(id)
        }
        self.withhold()
    }

    /// The device lost its memory: nobody holds anything, and nothing is cached.
    pub(crate) fn forget(&mut self) {
        let usable_max = self.usable_max;
        *self = KvPool::new(self.total(), self.block_tokens);
        self.set_usable_max(usable_max)
    }

    fn withhold(&mut self) {
        while self.usable() > self.usable_max
            && let Some(id) = self.take_unreferenced()
        {
            self.withheld.push(id)
        }
    }

    fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id.0 as usize]
    }

    fn block_mut(&mut self, id: BlockId) -> &mut Block {
        &mut self.blocks[id.0 as usize]
    }

    /// Blocks that nobody holds.
    fn available(&self) -> usize {
        self.free.len() + self.cached.len()
    }

    fn reference(&mut self, id: BlockId) {
        let block = self.block_mut(id);
        block.references += 1;
        if block.references == 1 {
            let released = block.released;
            self.cached.remove(&released);
            self.referenced += 1;
            self.slots_used += u64::from(self.block_tokens)
        }
    }

    /// An empty block for a sequence.
    fn take(&mut self) -> Option<BlockId> {
        let id = self.take_unreferenced()?;
        self.block_mut(id).references = 1;
        self.referenced += 1;
        Some(id)
    }

    fn take_unreferenced(&mut self) -> Option<BlockId> {
        if let Some(id) = self.free.pop() {
            return Some(id);
        }
        let (_, id) = self.cached.pop_first()?;
        if let Some(key) = self.block_mut(id).key.take() {
            self.by_key.remove(&key);
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCKS: u32 = 40;
    const TOKENS: u32 = 4;

    fn shared(page: u32) -> PageKey {
        PageKey::Shared { hash: 7, page }
    }

    fn own(request: u64) -> impl Fn(u32) -> PageKey {
        move |page| PageKey::Own { request, page }
    }

    /// The pool as counted anew from its parts.
    fn check(pool: &KvPool, tables: &[(BlockTable, u32)]) {
        let mut references = vec![0; BLOCKS as usize];
        let mut filled = vec![0; BLOCKS as usize];
        for (table, tokens) in tables {
            for (page, id) in table.0.iter().enumerate() {
                references[id.0 as usize] += 1;
                let here = tokens.saturating_sub(page as u32 * TOKENS).min(TOKENS);
                filled[id.0 as usize] = here.max(filled[id.0 as usize])
            }
        }
        let told: Vec<_> = pool.blocks.iter().map(|block| block.references).collect();
        assert_eq!(told, references);
        assert_eq!(pool.referenced() as usize, references.iter().filter(|n| **n > 0).count());
        assert_eq!(pool.slots_used(), filled.iter().map(|n| u64::from(*n)).sum::<u64>());
        let parts = pool.referenced() + pool.cached() + pool.free.len() as u32;
        assert_eq!(parts, pool.usable());
        assert!(pool.usable() <= pool.usable_max.max(pool.referenced()));
        for id in pool.cached.values().chain(&pool.free).chain(&pool.withheld) {
            assert_eq!(pool.block(*id).references, 0)
        }
        for (key, id) in &pool.by_key {
            assert_eq!(pool.block(*id).key, Some(*key))
        }
    }

    proptest! {
        #[test]
        fn every_block_is_in_one_place_whatever_happens(
            steps in proptest::collection::vec((0u8..6, 0usize..8, 1u32..60, any::<bool>()), 1..200)
        ) {
            let mut pool = KvPool::new(BLOCKS, TOKENS);
            let mut tables: Vec<(BlockTable, u32)> = vec![];
            for (number, (what, which, tokens, is_shared)) in steps.into_iter().enumerate() {
                let key = |page| if is_shared { shared(page) } else { own(number as u64)(page) };
                match what {
                    0 | 1 => {
                        let mut table = BlockTable::default();
                        if let Some(cached) = pool.admit(&mut table, tokens, 1, key) {
                            prop_assert!(cached < tokens);
                            pool.fill(&table, cached, tokens, key);
                            tables.push((table, tokens))
                        }
                    }
                    2 if which < tables.len() => {
                        let (table, filled) = &mut tables[which];
                        if pool.grow(table, *filled + tokens) {
                            // Only the first `filled` positions can have been shared.
                            pool.fill(table, *filled, *filled + tokens, own(1 << 40 | number as u64));
                            *filled += tokens
                        }
                    }
                    3 if which < tables.len() => {
                        let (mut table, filled) = tables.swap_remove(which);
                        pool.release(&mut table, filled)
                    }
                    4 => pool.set_usable_max(tokens.min(BLOCKS)),
                    5 if tokens == 1 => {
                        tables.clear();
                        pool.forget()
                    }
                    _ => {}
                }
                check(&pool, &tables)
            }
        }
    }

    #[test]
    fn an_equal_prompt_is_a_hit_up_to_its_last_position() {
        let mut pool = KvPool::new(BLOCKS, TOKENS);
        let [mut first, mut second, mut third] = [(); 3].map(|_| BlockTable::default());
        assert_eq!(pool.admit(&mut first, 8, 0, shared), Some(0));
        pool.fill(&first, 0, 8, shared);
        // Both blocks are full and known, and still one position has to be computed.
        assert_eq!(pool.admit(&mut second, 8, 0, shared), Some(4));
        assert_eq!(pool.referenced(), 3);
        pool.release(&mut first, 8);
        pool.release(&mut second, 4);
        assert_eq!((pool.referenced(), pool.cached(), pool.slots_used()), (0, 2, 0));
        assert_eq!(pool.admit(&mut third, 9, 0, shared), Some(8));
    }

    #[test]
    fn the_least_recently_released_block_is_evicted_first_and_the_end_before_the_begin() {
        let mut pool = KvPool::new(4, TOKENS);
        for request in 0..2 {
            let mut table = BlockTable::default();
            pool.admit(&mut table, 8, 0, own(request)).unwrap();
            pool.fill(&table, 0, 8, own(request));
            pool.release(&mut table, 8)
        }
        pool.admit(&mut BlockTable::default(), 4, 0, own(2)).unwrap();
        let known: Vec<_> = (0..2)
            .flat_map(|request| (0..2).map(move |page| PageKey::Own { request, page }))
            .map(|key| pool.by_key.contains_key(&key))
            .collect();
        assert_eq!(known, [true, false, true, true]);
    }

    #[test]
    fn blocks_in_use_are_withheld_only_when_they_are_released() {
        let mut pool = KvPool::new(8, TOKENS);
        let mut table = BlockTable::default();
        pool.admit(&mut table, 20, 0, own(0)).unwrap();
        pool.set_usable_max(2);
        assert_eq!((pool.usable(), pool.referenced()), (5, 5));
        pool.release(&mut table, 0);
        assert_eq!(pool.usable(), 2);
        pool.set_usable_max(8);
        assert_eq!(pool.usable(), 8);
    }
}
