//! Lies to the recorder, to prove that a checker finds them. They sit at the seam alone: the engine
//! and its own record stay right.

use std::str::FromStr;
use stepscope::{Launch, Settled, Shape, StepClock, StepSource, Ticket, Time};

/// A lie to the recorder.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sabotage {
    /// One in a hundred emissions never reaches the recorder.
    Drop,
    /// One step in ten is told to have ended 1 ms late.
    Shift,
    /// The two endpoints are swapped.
    Swap,
    /// Nothing reaches the recorder: it is disabled. What a run costs without recording.
    Mute,
}

/// A word that names no sabotage.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no sabotage is called {0:?}; say one of drop, shift, swap, mute")]
pub struct UnknownSabotage(pub String);

impl FromStr for Sabotage {
    type Err = UnknownSabotage;

    fn from_str(name: &str) -> Result<Sabotage, UnknownSabotage> {
        match name {
            "drop" => Ok(Sabotage::Drop),
            "shift" => Ok(Sabotage::Shift),
            "swap" => Ok(Sabotage::Swap),
            "mute" => Ok(Sabotage::Mute),
            _ => Err(UnknownSabotage(name.into())),
        }
    }
}

const DROP_ONE_IN: u64 = 100;
const SHIFT_ONE_IN: u64 = 10;
const SHIFT_NS: u64 = 1_000_000;

/// Every n-th time.
#[derive(Debug)]
pub(crate) struct EveryNth {
    n: Option<u64>,
    count: u64,
}

impl EveryNth {
    /// Which emissions get lost on the way to the recorder.
    pub(crate) fn lost_emission(sabotage: Option<Sabotage>) -> EveryNth {
        EveryNth { n: (sabotage == Some(Sabotage::Drop)).then_some(DROP_ONE_IN), count: 0 }
    }

    pub(crate) fn is_now(&mut self) -> bool {
        self.count += 1;
        self.n.is_some_and(|n| self.count.is_multiple_of(n))
    }
}

/// Any device clock; of some steps it may say that they ended later.
pub(crate) struct ToldClock {
    clock: Box<dyn StepClock>,
    late: EveryNth,
}

impl ToldClock {
    pub(crate) fn new(clock: Box<dyn StepClock>, sabotage: Option<Sabotage>) -> ToldClock {
        let n = (sabotage == Some(Sabotage::Shift)).then_some(SHIFT_ONE_IN);
        ToldClock { clock, late: EveryNth { n, count: 0 } }
    }
}

impl StepClock for ToldClock {
    fn begin(&mut self, at: Time, shape: Shape) -> Ticket {
        self.clock.begin(at, shape)
    }

    fn end(&mut self, ticket: &mut Ticket, how: Launch) {
        self.clock.end(ticket, how)
    }

    fn settle(&mut self, ticket: Ticket) -> Settled {
        match self.clock.settle(ticket) {
            Settled::Done { end, gpu_ns, idle_before_ns } if self.late.is_now() => Settled::Done {
                end: Time::from_nanos(end.as_nanos() + SHIFT_NS),
                gpu_ns: gpu_ns + SHIFT_NS,
                idle_before_ns,
            },
            settled => settled,
        }
    }

    fn abandon(&mut self, ticket: Ticket) {
        self.clock.abandon(ticket)
    }

    fn source(&self) -> StepSource {
        self.clock.source()
    }
}
