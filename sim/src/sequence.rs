//! One request as the engine holds it, from the tokenizer to its last token.

use crate::client::{Ask, Fate};
use crate::kv::{BLOCK_TOKENS, BlockTable, KvPool, PageKey};
use crate::profile::Work;
use crate::rng::Rng;
use crate::trace::HASH_TOKENS;
use stepscope::{ErrorType, Outcome, Request};

/// How often the model agrees with a drafted token.
const DRAFT_ACCEPTED_SHARE: f64 = 0.7;

/// Pages of one hash id of a trace.
const HASH_PAGES: u32 = HASH_TOKENS / BLOCK_TOKENS;
const _: () = assert!(HASH_TOKENS.is_multiple_of(BLOCK_TOKENS));

/// What a sequence got from a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sampled {
    /// Tokens that belong to the answer; 0 = a chunk of prompt.
    pub(crate) accepted: u32,
    /// Tokens drafted, and how many of them the model agreed with.
    pub(crate) drafted: u32,
    pub(crate) draft_accepted: u32,
    /// Of these, behind the end of the answer.
    pub(crate) surplus: u32,
}

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

    /// The step ended: its positions are computed, and it may have a token or, with drafts, some.
    pub(crate) fn sample(&mut self, kv: &mut KvPool, rng: &mut Rng) -> Sampled {
        let mut sampled = Sampled::default();
        // Nobody wants the output of one that is over.
        if self.chunk == 0 || self.outcome().is_some() {
            return sampled;
        }
        let filled = self.computed;
        if self.is_decode() {
            sampled.drafted = self.chunk - 1;
            let agreed = (0..sampled.drafted).take_while(|_| rng.chance(DRAFT_ACCEPTED_SHARE));
            sampled.draft_accepted = agreed.count() as u32;
            let accepted = 1 + sampled.draft_accepted;
            sampled.accepted = accepted.min(self.ask.output - self.generated);
            sampled.surplus = accepted - sampled.accepted;
            self.computed += sampled.accepted
        } else {
            self.computed += self.chunk;
            sampled.accepted = u32::from(self.remaining() == 0)
        }
        self.generated += sampled.accepted;
        kv.fill(&self.table, filled, self.computed, |page| self.page_key(page));
        sampled
    }

    /// How it ends now, if it does.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self.ask.fate {
            _ if self.is_left => Some(Outcome::Aborted),
            Fate::Leave { tokens } if self.generated >= tokens => Some(Outcome::Aborted),
            Fate::Fail { tokens } if self.generated >= tokens => {
                Some(Outcome::Failed(ErrorType::Internal))
            }
            _ if self.generated < self.ask.output => None,
            Fate::Length => Some(Outcome::Length),
            _ => Some(Outcome::Stop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Class;

    fn sequence(prompt: u32, hashes: Vec<u64>) -> Sequence {
        let class = Class { endpoint: 0, priority: 0 };
        let ask =
            Ask { id: 3, class, prompt, output: 10, hashes, patience_ns: 0, fate: Fate::Stop };
        Sequence::new(ask, Request::empty())
    }

    #[test]
    fn only_full_pages_of_a_known_prompt_can_be_shared() {
        let seq = sequence(600, vec![7, 9]);
        assert_eq!(seq.page_key(31), PageKey::Shared { hash: 7, page: 31 });
        assert_eq!(seq.page_key(36), PageKey::Shared { hash: 9, page: 4 });
        // Positions 592 to 607: the answer begins at 600.
        assert_eq!(seq.page_key(37), PageKey::Own { request: 3, page: 37 });
        assert_eq!(sequence(600, vec![]).page_key(0), PageKey::Own { request: 3, page: 0 });
    }

    #[test]
    fn positions_are_computed_again_only_below_the_high_water_mark() {
        let mut seq = sequence(100, vec![]);
        let mut again_and_fresh = |cached, chunk| {
            seq.admitted(cached);
            seq.chunk = chunk;
            let told = seq.again_and_fresh();
            seq.computed += chunk;
            seq.evicted();
            told
        };
        assert_eq!(again_and_fresh(16, 24), (0, 24));
        // 40 positions were there: 8 of them have to be computed again, before 12 new ones.
        assert_eq!(again_and_fresh(32, 20), (8, 12));
        assert_eq!(again_and_fresh(0, 52), (52, 0));
    }

    #[test]
    fn a_token_that_was_generated_is_no_prompt_when_it_is_computed_again() {
        let mut seq = sequence(10, vec![]);
        (seq.generated, seq.computed) = (5, 14);
        seq.evicted();
        seq.admitted(0);
        seq.chunk = seq.remaining();
        assert_eq!((seq.chunk, seq.again_and_fresh()), (15, (14, 0)));
    }
}
