//! One request as the engine holds it, from the tokenizer to its last token.

use crate::client::Ask;
use crate::kv::{BlockTable, PageKey};
use crate::profile::{BLOCK_TOKENS, Work};
use crate::trace::HASH_TOKENS;
use stepscope::Request;

/// Pages of one hash id of a trace.
const HASH_PAGES: u32 = HASH_TOKENS / BLOCK_TOKENS;
const _: () = assert!(HASH_TOKENS.is_multiple_of(BLOCK_TOKENS));

/// A request in the engine's hands. Positions count from 0; a token's position is computed in the
/// step after the one that sampled it.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) ask: Ask,
    /// What the recorder knows of it.
    pub(crate) request: Request,
    /// Tokens of the answer so far.
    pub(crate) generated: u32,
    /// Positions whose keys and values are in the KV cache.
    pub(crate) computed: u32,
    /// Positions that were in the KV cache at any time: below it, computing is recomputing.
    high_water: u32,
    pub(crate) table: BlockTable,
    /// Positions that the step under way computes; 0 = not in it.
    pub(crate) chunk: u32,
    /// The client is gone.
    pub(crate) is_left: bool,
}

impl Sequence {
    pub(crate) fn new(ask: Ask, request: Request) -> Sequence {
        Sequence {
            ask,
            request,
            generated: 0,
            computed: 0,
            high_water: 0,
            table: BlockTable::default(),
            chunk: 0,
            is_left: false,
        }
    }

    /// Positions whose token is known.
    pub(crate) fn known(&self) -> u32 {
        self.ask.prompt + self.generated
    }

    /// Positions to compute before a token can be sampled; at least 1 between two steps.
    pub(crate) fn remaining(&self) -> u32 {
        self.known() - self.computed
    }

    /// Is its next position the one of the token sampled last?
    pub(crate) fn is_decode(&self) -> bool {
        self.generated > 0 && self.remaining() == 1
    }

    /// What its page holds once it is full.
    pub(crate) fn page_key(&self, page: u32) -> PageKey {
        let hash = self.ask.hashes.get((page / HASH_PAGES) as usize);
        match hash {
            Some(hash) if (page + 1) * BLOCK_TOKENS <= self.ask.prompt => {
                PageKey::Shared { hash: *hash, page: page % HASH_PAGES }
            }
            _ => PageKey::Own { request: self.ask.id, page },
        }
    }

    /// It got its blocks, with `cached` positions in them.
    pub(crate) fn admitted(&mut self, cached: u32) {
        self.computed = cached;
        self.high_water = self.high_water.max(cached)
    }

    /// It lost its blocks.
    pub(crate) fn evicted(&mut self) {
        self.high_water = self.high_water.max(self.computed);
        self.computed = 0;
        self.chunk = 0
    }

    /// Of the chunk under way: positions computed before, and prompt positions computed first.
    pub(crate) fn again_and_fresh(&self) -> (u32, u32) {
        let again = self.high_water.saturating_sub(self.computed).min(self.chunk);
        let fresh = if self.generated == 0 { self.chunk - again } else { 0 };
        (again, fresh)
    }

    /// Its part in the step under way.
    pub(crate) fn work(&self) -> Work {
        Work { before: self.computed, new: self.chunk, is_decode: self.is_decode() }
    }
}
