//! Continuous batching: who takes part in the next step, and with how many positions.
//!
//! As in vLLM's scheduler: every step may compute a bounded number of positions. Running sequences
//! that decode come first, then chunks of prompts that are under way, then the waiting queue, most
//! important priority first and first come first served within it. When blocks run out, the
//! youngest sequence of the least important priority loses its blocks and goes back to the head of
//! its queue; it is computed again later.

use crate::client::PRIORITIES;
use crate::kv::KvPool;
use crate::profile::Limits;
use crate::sequence::Sequence;
use std::collections::VecDeque;

/// What a scheduling pass did besides handing out chunks.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// Sequences that lost their blocks. The caller puts them back with [`Scheduler::put_back`].
    pub(crate) evicted: Vec<Sequence>,
    /// How many of the last running ones are new there.
    pub(crate) admitted: usize,
}

/// The waiting queues and the running batch.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    waiting: [VecDeque<Sequence>; PRIORITIES.len()],
    /// In order of admission.
    pub(crate) running: Vec<Sequence>,
    /// Tokens drafted per decoding sequence and step.
    drafts: u32,
}

impl Scheduler {
    pub(crate) fn new(drafts: u32) -> Scheduler {
        Scheduler { drafts, ..Scheduler::default() }
    }

    pub(crate) fn enqueue(&mut self, seq: Sequence) {
        self.waiting[seq.ask.class.priority].push_back(seq)
    }

    /// An evicted sequence comes before all that never ran.
    pub(crate) fn put_back(&mut self, seq: Sequence) {
        self.waiting[seq.ask.class.priority].push_front(seq)
    }

    /// How many wait, by priority.
    pub(crate) fn waiting(&self) -> [usize; PRIORITIES.len()] {
        self.waiting.each_ref().map(VecDeque::len)
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.running.is_empty() || self.waiting.iter().any(|queue| !queue.is_empty())
    }

    /// Takes a request out of its queue, if the one that is meant waits.
    pub(crate) fn remove_waiting(
        &mut self,
        is_meant: impl Fn(&Sequence) -> bool,
    ) -> Option<Sequence> {
        self.waiting.iter_mut().find_map(|queue| {
            let place = queue.iter().position(&is_meant)?;
            queue.remove(place)
        })
    }

    /// Takes out all that run.
    pub(crate) fn drain_running(&mut self) -> Vec<Sequence> {
        std::mem::take(&mut self.running)
    }

    /// Plans a step: afterwards `chunk` of every running sequence says what it computes.
    pub(crate) fn plan(&mut self, kv: &mut KvPool, limits: &Limits) -> Pass {
        let evicted = self.make_room(kv);
        let mut tokens = limits.step_tokens;
        for seq in self.running.iter_mut().filter(|seq| seq.is_decode()) {
            seq.chunk = (1 + self.drafts).min(tokens);
            tokens -= seq.chunk
        }
        let mut tokens = tokens.min(limits.prefill_tokens);
        for seq in self.running.iter_mut().filter(|seq| !seq.is_decode()) {
            seq.chunk = seq.remaining().min(tokens);
            tokens -= seq.chunk
        }
        // Who was just evicted must not take the blocks back.
        let admitted = if evicted.is_empty() { self.admit(kv, limits, tokens) } else { 0 };
        Pass { evicted, admitted }
    }

    /// Every decoding sequence gets blocks for its next positions, if need be from others.
    fn make_room(&mut self, kv: &mut KvPool) -> Vec<Sequence> {
        let mut evicted = vec![];
        let mut place = 0;
        while let Some(seq) = self.running.get_mut(place) {
            let positions = seq.computed + 1 + self.drafts;
            if !seq.is_decode() || kv.grow(&mut seq.table, positions) {
                place += 1;
                continue;
            }
            let victim = self.victim();
            let mut seq = self.running.remove(victim);
            kv.release(&mut seq.table, seq.computed);
            seq.evicted();
            evicted.push(seq);
            place -= usize::from(victim < place)
        }
        evicted
    }

    /// The youngest of the least important ones that run.
    fn victim(&self) -> usize {
        let places = 0..self.running.len();
        places.max_by_key(|place| self.running[*place].ask.class.priority).unwrap_or_default()
    }

    fn admit(&mut self, kv: &mut KvPool, limits: &Limits, mut tokens: u32) -> usize {
        let spare = (f64::from(kv.usable()) * limits.spare_share) as u32;
        let before = self.running.len();
        while tokens > 0 && self.running.len() < limits.sequences {
            let Some(queue) = self.waiting.iter_mut().find(|queue| !queue.is_empty()) else {
                break;
            };
            let Some(mut seq) = queue.pop_front() else { break };
            let mut table = std::mem::take(&mut seq.table);
            let cached = kv.admit(&mut table, seq.known(), spare, |page| seq.page_key(page));
            seq.table = table;
            let Some(cached) = cached else {
                // The head waits for capacity, and nobody overtakes it.
                queue.push_front(seq);
                break;
            };
            seq.admitted(cached);
            seq.chunk = seq.remaining().min(tokens);
            tokens -= seq.chunk;
            self.running.push(seq)
        }
        self.running.len() - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Ask, Class, Fate};
    use crate::kv::BLOCK_TOKENS;
    use proptest::prelude::*;
    use stepscope::Request;

    const LIMITS: Limits = Limits {
        context_tokens: 1_000,
        step_tokens: 64,
        prefill_tokens: 48,
        sequences: 6,
        queue: 100,
        spare_share: 0.1,
    };

    fn sequence(id: u64, priority: usize, prompt: u32) -> Sequence {
        let class = Class { endpoint: 0, priority };
        let ask =
            Ask { id, class, prompt, output: 50, hashes: vec![], patience_ns: 0, fate: Fate::Stop };
        Sequence::new(ask, Request::empty())
    }

    /// The step ran: everybody who finished its known positions got a token.
    fn step(scheduler: &mut Scheduler, kv: &mut KvPool) {
        for seq in scheduler.running.iter_mut().filter(|seq| seq.chunk > 0) {
            let from = seq.computed;
            seq.computed += if seq.is_decode() { 1 } else { seq.chunk };
            kv.fill(&seq.table, from, seq.computed, |page| seq.page_key(page));
            seq.generated += u32::from(seq.computed == seq.known())
        }
        let ended = scheduler.running.extract_if(.., |seq| seq.generated >= seq.ask.output);
        for mut seq in ended {
            kv.release(&mut seq.table, seq.computed)
        }
    }

    fn ids<'a>(all: impl IntoIterator<Item = &'a Sequence>) -> Vec<u64> {
        all.into_iter().map(|seq| seq.ask.id).collect()
    }

    proptest! {
        #[test]
        fn no_step_exceeds_its_budgets_and_everybody_finishes(
            asks in proptest::collection::vec((0usize..2, 1u32..200), 1..30),
            drafts in 0u32..4,
        ) {
            let mut kv = KvPool::new(24, BLOCK_TOKENS);
            let mut scheduler = Scheduler::new(drafts);
            for (id, (priority, prompt)) in asks.into_iter().enumerate() {
                scheduler.enqueue(sequence(id as u64, priority, prompt))
            }
            let mut steps = 0;
            while scheduler.has_work() {
                let pass = scheduler.plan(&mut kv, &LIMITS);
                for seq in pass.evicted {
                    scheduler.put_back(seq)
                }
                let chunks = |decode| scheduler.running.iter().filter(move |s| s.is_decode() == decode);
                let prefill: u32 = chunks(false).map(|seq| seq.chunk).sum();
                let decode: u32 = chunks(true).map(|seq| seq.chunk).sum();
                prop_assert!(prefill <= LIMITS.prefill_tokens);
                prop_assert!(prefill + decode <= LIMITS.step_tokens);
                prop_assert!(prefill + decode > 0);
                prop_assert!(scheduler.running.len() <= LIMITS.sequences);
                step(&mut scheduler, &mut kv);
                steps += 1;
                prop_assert!(steps < 20_000, "somebody starves")
            }
            prop_assert_eq!((kv.referenced(), kv.slots_used()), (0, 0))
        }
    }

    #[test]
    fn decodes_come_first_and_a_prompt_is_computed_in_chunks_beside_them() {
        let mut kv = KvPool::new(100, BLOCK_TOKENS);
        let mut scheduler = Scheduler::new(0);
        scheduler.enqueue(sequence(0, 0, 16));
        scheduler.plan(&mut kv, &LIMITS);
        step(&mut scheduler, &mut kv);
        scheduler.enqueue(sequence(1, 0, 100));
        let chunks: Vec<Vec<u32>> = (0..4)
            .map(|_| {
                scheduler.plan(&mut kv, &LIMITS);
                let chunks = scheduler.running.iter().map(|seq| seq.chunk).collect();
                step(&mut scheduler, &mut kv);
                chunks
            })
            .collect();
        assert_eq!(chunks, [[1, 48], [1, 48], [1, 4], [1, 1]]);
    }

    #[test]
    fn the_important_come_first_and_then_the_earlier() {
        let mut kv = KvPool::new(100, BLOCK_TOKENS);
        let mut scheduler = Scheduler::new(0);
        for (id, priority) in [(0, 1), (1, 0), (2, 1), (3, 0)] {
            scheduler.enqueue(sequence(id, priority, 10))
        }
        assert_eq!(scheduler.plan(&mut kv, &LIMITS).admitted, 4);
        assert_eq!(ids(&scheduler.running), [1, 3, 0, 2]);
    }

    #[test]
    fn the_youngest_of_the_least_important_is_evicted_and_comes_back_first() {
        let mut kv = KvPool::new(4, BLOCK_TOKENS);
        let mut scheduler = Scheduler::new(0);
        let limits = Limits { spare_share: 0.0, ..LIMITS };
        for (id, priority) in [(0, 1), (1, 1), (2, 0), (3, 0)] {
            scheduler.enqueue(sequence(id, priority, 12))
        }
        scheduler.plan(&mut kv, &limits);
        let evicted = loop {
            step(&mut scheduler, &mut kv);
            let pass = scheduler.plan(&mut kv, &limits);
            assert_eq!(pass.admitted, 0);
            if !pass.evicted.is_empty() {
                break pass.evicted;
            }
        };
        // All four need a second block at once: two give theirs to the other two.
        assert_eq!(ids(&evicted), [1, 0]);
        assert_eq!(ids(&scheduler.running), [2, 3]);
        scheduler.enqueue(sequence(4, 1, 12));
        for seq in evicted {
            scheduler.put_back(seq)
        }
        assert_eq!(ids(&scheduler.waiting[1]), [0, 1, 4]);
    }
}
