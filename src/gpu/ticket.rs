//! The ticket of a step: plain data that travels with the engine's step and comes back once.

use super::words::Lost;
use crate::record::{Phase, Shape, Ticket};

/// What rides in a ticket, so that a resolution needs no map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct StepInfo {
    /// Requests of the step.
    pub requests: u32,
    /// Positions it computes.
    pub tokens: u32,
    /// What it computes.
    pub phase: Phase,
    /// It ran as one graph with a captured end.
    pub graph: bool,
}
const _: () = assert!(size_of::<StepInfo>() == 12);

impl From<Shape> for StepInfo {
    fn from(shape: Shape) -> StepInfo {
        StepInfo {
            requests: shape.prefills.saturating_add(shape.decodes),
            tokens: shape.prefill_tokens.saturating_add(shape.decodes),
            phase: shape.phase(),
            graph: false,
        }
    }
}

impl Default for StepInfo {
    fn default() -> StepInfo {
        StepInfo { requests: 0, tokens: 0, phase: Phase::Decode, graph: false }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum State {
    /// Nothing runs under it; `lost` says why.
    Void = 0,
    Open = 1,
    Ended = 2,
}

/// One step on one lane. Not `Clone`: one step, one ticket.
#[must_use = "a ticket that is not settled is a lost sample"]
#[derive(Debug)]
#[repr(C)]
pub struct StepTicket {
    pub(super) seq: u64,
    /// The lane's step before that was launched; 0 = none.
    pub(super) prev: u64,
    pub(super) tag: u64,
    pub(super) host_begin: u64,
    pub(super) epoch: u32,
    /// Address of the region, in pages: whose ticket this is.
    pub(super) owner: u32,
    pub(super) lane: u16,
    pub(super) state: State,
    /// Number of a [`Lost`] where the state is void.
    pub(super) lost: u8,
    pub(super) info: StepInfo,
}
const _: () = assert!(size_of::<StepTicket>() == 56);

impl StepTicket {
    /// A ticket under which nothing runs.
    pub(super) fn void(why: Lost) -> StepTicket {
        StepTicket {
            seq: 0,
            prev: 0,
            tag: 0,
            host_begin: 0,
            epoch: 0,
            owner: 0,
            lane: 0,
            state: State::Void,
            lost: why as u8,
            info: StepInfo::default(),
        }
    }

    pub(super) fn make_void(&mut self, why: Lost) {
        self.state = State::Void;
        self.lost = why as u8
    }

    /// What was said of the step at its begin.
    pub fn info(&self) -> StepInfo {
        self.info
    }

    /// Number of the step on its lane, from 1 on; 0 if it was not begun.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The lane it ran on.
    pub fn lane(&self) -> u16 {
        self.lane
    }

    /// As the seven words that a recorder carries, and that C keeps.
    pub fn into_words(self) -> Ticket {
        let info = self.info;
        let small = u64::from(self.lane)
            | (self.state as u64) << 16
            | u64::from(self.lost) << 24
            | (info.phase as u64) << 32
            | u64::from(info.graph) << 40;
        Ticket([
            self.seq,
            self.prev,
            self.tag,
            self.host_begin,
            u64::from(self.epoch) | u64::from(self.owner) << 32,
            small,
            u64::from(info.requests) | u64::from(info.tokens) << 32,
        ])
    }

    /// Back from the words. Words that no ticket made are a void one.
    pub fn from_words(words: &Ticket) -> StepTicket {
        let [seq, prev, tag, host_begin, whose, small, amounts] = words.0;
        let state = match (small >> 16) as u8 {
            1 => State::Open,
            2 => State::Ended,
            _ => State::Void,
        };
        let phase = match (small >> 32) as u8 {
            0 => Phase::Prefill,
            1 => Phase::Decode,
            _ => Phase::Mixed,
        };
        StepTicket {
            seq,
            prev,
            tag,
            host_begin,
            epoch: whose as u32,
            owner: (whose >> 32) as u32,
            lane: small as u16,
            state,
            lost: (small >> 24) as u8,
            info: StepInfo {
                requests: amounts as u32,
                tokens: (amounts >> 32) as u32,
                phase,
                graph: small >> 40 & 1 == 1,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_survives_its_words() {
        for phase in [Phase::Prefill, Phase::Decode, Phase::Mixed] {
            let info = StepInfo { requests: 7, tokens: u32::MAX, phase, graph: true };
            let ticket = StepTicket {
                seq: u64::MAX,
                prev: 3,
                tag: 9 << 48,
                host_begin: 11,
                epoch: 13,
                owner: u32::MAX,
                lane: 63,
                state: State::Ended,
                lost: 11,
                info,
            };
            let said = format!("{ticket:?}");
            let back = StepTicket::from_words(&ticket.into_words());
            assert_eq!(format!("{back:?}"), said);
        }
        let none = StepTicket::from_words(&Ticket::default());
        assert_eq!(none.state, State::Void);
    }
}
