//! The whole log of one sequence, and every definition computed by scanning it.
//!
//! It shares words with the recorder (metrics, states) and no code. The log only grows, so a fact is
//! computed once: when the entry that closes it is about to be written, from all that was written
//! before. A child's log begins with a copy of its parent's: history it may look back at, while
//! facts are closed by its own entries alone.

use crate::record::event::Metric;
use crate::record::request::State;
use crate::record::words::Role;

/// Longest interval that is recorded as it is: one hour.
pub(super) const HOUR: u64 = 3_600_000_000_000;

/// What happened to a sequence.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Arrived,
    /// It belonged to another scope until now.
    Adopted,
    /// A child begins; everything before is its parent's.
    Born,
    /// It has children from here on.
    Forked,
    Enqueued,
    /// sched\[1\], with the prompt positions that need no compute.
    Scheduled(u32),
    /// sched\[k\], with the positions that need no recompute.
    Resumed(u32),
    Computed(u32),
    Emitted(u32),
    Evicted,
    /// A child's first token was named as the request's.
    FirstFromChild,
    /// The child with this number is joined.
    Joined(usize),
    Ended,
    Dropped,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) at: u64,
    pub(super) what: What,
    pub(super) scope: usize,
    pub(super) class: u16,
}

/// What a closed fact says, before it is clamped.
pub(super) struct Fact {
    pub(super) metric: Metric,
    pub(super) variant: u8,
    pub(super) value: u64,
}

impl Fact {
    fn new(metric: Metric, value: u64) -> Fact {
        Fact { metric, variant: 0, value }
    }
}

/// Prompt positions obtained, and how the newest entry's split: computed a second time, and obtained
/// for the first.
#[derive(Default)]
pub(super) struct Positions {
    pub(super) prompt: u32,
    pub(super) again: u32,
    pub(super) fresh: u32,
}

/// One sequence. Everything it is follows from its log; a free slot has none.
#[derive(Clone, Default, Debug)]
pub(super) struct Sequence {
    pub(super) id: u64,
    pub(super) log: Vec<Entry>,
}

/// (time, accepted tokens) of each emission.
fn emissions_in(entries: &[Entry]) -> impl DoubleEndedIterator<Item = (u64, u32)> {
    entries.iter().filter_map(|entry| match entry.what {
        What::Emitted(accepted) => Some((entry.at, accepted)),
        _ => None,
    })
}

pub(super) fn is_running(state: State) -> bool {
    matches!(state, State::Scheduled | State::Decoding | State::Resumed)
}

fn state_after(log: &[Entry]) -> State {
    let told = log.iter().rev().find_map(|entry| match entry.what {
        What::Arrived => Some(State::Arrived),
        What::Enqueued => Some(State::Queued),
        What::Scheduled(_) => Some(State::Scheduled),
        What::Emitted(_) => Some(State::Decoding),
        What::Evicted => Some(State::Evicted),
        What::Resumed(_) => Some(State::Resumed),
        What::Ended | What::Dropped => Some(State::Ended),
        _ => None,
    });
    told.unwrap_or(State::Free)
}

impl Sequence {
    /// The parent's entries, and its own.
    fn split(&self) -> (&[Entry], &[Entry]) {
        let born = self.log.iter().rposition(|entry| matches!(entry.what, What::Born));
        self.log.split_at(born.unwrap_or(0))
    }

    fn has(&self, is: fn(&What) -> bool) -> bool {
        self.log.iter().any(|entry| is(&entry.what))
    }

    pub(super) fn is_child(&self) -> bool {
        self.has(|what| matches!(what, What::Born))
    }

    pub(super) fn is_forked(&self) -> bool {
        self.has(|what| matches!(what, What::Forked))
    }

    pub(super) fn was_scheduled(&self) -> bool {
        self.has(|what| matches!(what, What::Scheduled(_) | What::Emitted(_)))
    }

    pub(super) fn state(&self) -> State {
        state_after(&self.log)
    }

    /// Where it stands in a scope's hands: one state for each time it came there and did not end. A
    /// sequence that another scope adopted stays as it was, since nobody tells the first.
    pub(super) fn open_in(&self, scope: usize) -> impl Iterator<Item = State> {
        let born = self.split().0.len();
        let is_last_there = move |i: &usize| {
            let leaves = self.log.get(i + 1).is_none_or(|next| next.scope != scope);
            self.log[*i].scope == scope && leaves
        };
        let states =
            (born..self.log.len()).filter(is_last_there).map(|i| state_after(&self.log[..=i]));
        states.filter(|state| *state != State::Ended)
    }

    /// recv; 0 for a free slot.
    pub(super) fn recv(&self) -> u64 {
        self.log.first().map_or(0, |entry| entry.at)
    }

    /// Scope and class it belongs to now.
    pub(super) fn owner(&self) -> Option<(usize, u16)> {
        self.log.last().map(|entry| (entry.scope, entry.class))
    }

    /// The latest point a request keeps: the time of a later admission is not kept.
    pub(super) fn latest(&self) -> u64 {
        use What::{Arrived, Emitted, Enqueued, Evicted, Scheduled};
        let kept = self.log.iter().filter(|entry| {
            matches!(entry.what, Arrived | Enqueued | Scheduled(_) | Emitted(_) | Evicted)
        });
        kept.map(|entry| entry.at).max().unwrap_or(0)
    }

    fn last_time(&self, is: fn(&What) -> bool) -> u64 {
        self.log.iter().rev().find(|entry| is(&entry.what)).map_or(0, |entry| entry.at)
    }

    pub(super) fn enqueued(&self) -> u64 {
        self.last_time(|what| matches!(what, What::Enqueued))
    }

    fn scheduled(&self) -> u64 {
        self.last_time(|what| matches!(what, What::Scheduled(_)))
    }

    fn evicted(&self) -> u64 {
        self.last_time(|what| matches!(what, What::Evicted))
    }

    /// Times of its emissions; those of a child that was forked late begin with its parent's last.
    pub(super) fn emissions(&self) -> Vec<u64> {
        let (parents, own) = self.split();
        let before = emissions_in(parents).next_back();
        before.into_iter().chain(emissions_in(own)).map(|(at, _)| at).collect()
    }

    /// Tokens it generated itself.
    pub(super) fn tokens(&self) -> u32 {
        emissions_in(self.split().1).map(|(_, accepted)| accepted).sum()
    }

    pub(super) fn gaps(&self) -> Vec<u64> {
        self.emissions().windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Tokens of the emissions that follow another one.
    pub(super) fn tokens_after_gaps(&self) -> u64 {
        let newest_first = emissions_in(self.split().1).rev();
        newest_first.take(self.gaps().len()).map(|(_, accepted)| accepted as u64).sum()
    }

    pub(super) fn evictions(&self) -> u64 {
        let own = self.split().1.iter();
        own.filter(|entry| matches!(entry.what, What::Evicted)).count() as u64
    }

    pub(super) fn children(&self) -> impl Iterator<Item = usize> {
        self.log.iter().filter_map(|entry| match entry.what {
            What::Joined(child) => Some(child),
            _ => None,
        })
    }

    /// The entry that booked the request's first token.
    pub(super) fn first_token(&self) -> Option<&Entry> {
        self.log.iter().find(|entry| matches!(entry.what, What::Emitted(_) | What::FirstFromChild))
    }

    pub(super) fn positions(&self) -> Positions {
        let (mut positions, mut redo, mut generated) = (Positions::default(), 0, 0u32);
        for entry in &self.log {
            let prompt = positions.prompt;
            match entry.what {
                What::Scheduled(obtained) => positions.prompt = obtained,
                What::Resumed(obtained) => {
                    // The newest token's position is computed by the step after it.
                    let known = prompt.saturating_add(generated) - (generated > 0) as u32;
                    redo = known.saturating_sub(obtained);
                    // Before the first token the cache may hold more than was ever computed here.
                    let fresh = if generated > 0 { 0 } else { obtained.saturating_sub(known) };
                    positions = Positions { prompt: prompt.saturating_add(fresh), again: 0, fresh }
                }
                What::Computed(n) => {
                    let again = n.min(redo);
                    // Behind the first token, what is no second computation is a generated one.
                    let fresh = if generated > 0 { 0 } else { n - again };
                    redo -= again;
                    positions = Positions { prompt: prompt.saturating_add(fresh), again, fresh }
                }
                What::Emitted(accepted) => generated += accepted,
                _ => {}
            }
        }
        positions
    }

    /// The facts that this entry will close.
    pub(super) fn closes(&self, at: u64, what: What, role: Role) -> Vec<Fact> {
        let state = self.state();
        let is_request = !self.is_child();
        let stall = || Fact::new(Metric::Stall, at - self.evicted());
        let queue = || Fact::new(Metric::Queue, at - self.enqueued());
        let requeue = || Fact::new(Metric::Requeue, at - self.evicted());
        match (what, state) {
            (What::Enqueued, _) if is_request => {
                vec![Fact::new(Metric::Admission, at - self.recv())]
            }
            (What::Scheduled(_), _) if is_request => vec![queue()],
            (What::Resumed(_), _) => vec![requeue()],
            (What::Evicted, State::Resumed) => vec![stall()],
            (What::Emitted(accepted), _) => {
                let stalled = matches!(state, State::Evicted | State::Resumed).then(stall);
                let closed = self.closed_by_emission(at, accepted);
                stalled.into_iter().chain(closed).chain(self.ttft(at, role)).collect()
            }
            (What::FirstFromChild, _) => self.ttft(at, role),
            (What::Ended, _) => {
                let mut facts = match state {
                    State::Queued if is_request => vec![queue()],
                    State::Evicted => vec![requeue(), stall()],
                    State::Resumed => vec![stall()],
                    _ => vec![],
                };
                facts.extend(self.decode().map(|ns| Fact::new(Metric::Decode, ns)));
                facts
            }
            _ => vec![],
        }
    }

    fn closed_by_emission(&self, at: u64, accepted: u32) -> Option<Fact> {
        match self.emissions().last() {
            Some(last) => {
                Some(Fact { metric: Metric::Gap, variant: accepted as u8, value: at - last })
            }
            None if matches!(self.state(), State::Arrived | State::Queued) => None,
            None => Some(Fact::new(Metric::Prefill, at - self.scheduled())),
        }
    }

    /// tok\[N\] - tok\[1\], once something was emitted.
    pub(super) fn decode(&self) -> Option<u64> {
        let emissions = self.emissions();
        Some(emissions.last()? - emissions.first()?)
    }

    /// The request's first token, if this is it; a prefill worker never speaks of it.
    fn ttft(&self, at: u64, role: Role) -> Vec<Fact> {
        if self.is_child() || self.first_token().is_some() || role == Role::Prefill {
            return vec![];
        }
        let ttft = at - self.recv();
        // What admission, queue and prefill leave over.
        let missing = match self.state() {
            State::Arrived => ttft.min(HOUR),
            State::Queued => at.saturating_sub(self.enqueued()),
            _ => 0,
        };
        let is_left_over = missing > 0;
        let mut facts =
            vec![Fact { metric: Metric::Ttft, variant: is_left_over as u8, value: ttft }];
        facts.extend(is_left_over.then(|| Fact::new(Metric::TtftResidual, missing)));
        facts
    }
}
