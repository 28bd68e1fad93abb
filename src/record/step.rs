//! One engine iteration: `OpenStep` is consumed by `end_step`, and only a `Step` can carry tokens.

use super::time::Time;

/// What a step computes, as the label `phase` says it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Prompt positions only.
    Prefill = 0,
    /// One (or a few speculated) positions per sequence.
    Decode = 1,
    /// Both in one batch.
    Mixed = 2,
}

/// The composition of a step, in sequences and prompt positions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Shape {
    /// Sequences that compute prompt (or recomputed) positions.
    pub prefills: u32,
    /// Positions those sequences compute.
    pub prefill_tokens: u32,
    /// Sequences that decode.
    pub decodes: u32,
}

impl Shape {
    /// Prefill, decode, or mixed if there is any of both. An empty shape is decode.
    pub const fn phase(&self) -> Phase {
        match (self.prefills > 0, self.decodes > 0) {
            (true, true) => Phase::Mixed,
            (true, false) => Phase::Prefill,
            (false, _) => Phase::Decode,
        }
    }
}

/// How the end of a step was marked on the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Launch {
    /// Launch an end stamp on the stream now.
    Stamp,
    /// The graph that was just launched holds a captured end stamp.
    InGraph,
}

/// Where a step's time comes from, as the label `source` says it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum StepSource {
    /// Stamps of the GPU's own clock.
    Gpu = 0,
    /// The host clock at output processing.
    Host = 1,
    /// A simulated device.
    Simulated = 2,
}

/// What a [`StepClock`] needs to find a step again; opaque to everyone else.
///
/// Deliberately neither `Clone` nor `Copy`: a step is settled once.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Ticket(pub [u64; 7]);

/// What a [`StepClock`] knows of a step when its outputs are processed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    /// The stamps are there.
    Done {
        /// End of the step, on the host's clock.
        end: Time,
        /// Duration of the step on the device's own clock, in ns.
        gpu_ns: u64,
        /// Time between the end of the step before on this stream and the begin of this one.
        idle_before_ns: Option<u64>,
    },
    /// No usable stamp: the step falls back to the host clock, and the clock has counted why.
    Lost,
}

/// A device clock that stamps steps: a lane of the GPU part, or a simulated device.
///
/// Called on the engine's thread. Contract:
/// 1. no call blocks, allocates or panics;
/// 2. every ticket made by `begin` comes back once, through `settle` or `abandon`;
/// 3. `settle` makes no device call: it reads what the stamps left in memory.
pub trait StepClock: Send {
    /// Launches the begin stamp, directly before the first launch of a step.
    fn begin(&mut self, at: Time, shape: Shape) -> Ticket;
    /// Launches the end stamp, or notes that the graph just launched holds one.
    fn end(&mut self, ticket: &mut Ticket, how: Launch);
    /// Reads the stamps.
    fn settle(&mut self, ticket: Ticket) -> Settled;
    /// The step did not run.
    fn abandon(&mut self, ticket: Ticket);
    /// What a step that settles as [`Settled::Done`] is counted as.
    fn source(&self) -> StepSource;
}

/// A step that was begun; [`Recorder::end_step`](crate::Recorder::end_step) consumes it.
#[must_use = "a step that is not ended records nothing"]
#[derive(Debug)]
pub struct OpenStep {
    pub(crate) begin: Time,
    pub(crate) shape: Shape,
    /// Requests were in the scheduler's hands all the time since the step before began.
    pub(crate) work: bool,
    pub(crate) ticket: Option<Ticket>,
}

impl OpenStep {
    /// As plain words, for callers that keep steps where no destructor runs: C.
    pub fn into_words(self) -> [u64; 10] {
        let mut words = [0; 10];
        let has_ticket = self.ticket.is_some();
        let flags = u64::from(self.work) << 32 | u64::from(has_ticket) << 33;
        words[..3].copy_from_slice(&shape_into_words(self.begin, self.shape, flags));
        words[3..].copy_from_slice(&self.ticket.unwrap_or_default().0);
        words
    }

    /// Back from the words. Any words are a step; a device clock refuses a ticket it never made.
    pub fn from_words(words: [u64; 10]) -> OpenStep {
        let [at, positions, rest, ticket @ ..] = words;
        let (begin, shape) = shape_from_words(at, positions, rest);
        let ticket = (rest >> 33 & 1 == 1).then_some(Ticket(ticket));
        OpenStep { begin, shape, work: rest >> 32 & 1 == 1, ticket }
    }
}

fn shape_into_words(begin: Time, shape: Shape, flags: u64) -> [u64; 3] {
    let positions = u64::from(shape.prefills) | u64::from(shape.prefill_tokens) << 32;
    [begin.0, positions, u64::from(shape.decodes) | flags]
}

fn shape_from_words(begin: u64, positions: u64, rest: u64) -> (Time, Shape) {
    let prefill_tokens = (positions >> 32) as u32;
    let shape = Shape { prefills: positions as u32, prefill_tokens, decodes: rest as u32 };
    (Time(begin), shape)
}

/// A step whose results are on the host: what [`Recorder::tokens`](crate::Recorder::tokens) takes.
#[derive(Debug)]
pub struct Step {
    pub(crate) time: Time,
    pub(crate) begin: Time,
    pub(crate) shape: Shape,
    pub(crate) source: StepSource,
}

impl Step {
    /// tok\[i\] of every token of this step: the device's end if it is known, else the host's.
    pub const fn time(&self) -> Time {
        self.time
    }

    /// The time given to `begin_step`.
    pub const fn begin(&self) -> Time {
        self.begin
    }

    /// The shape given to `begin_step`.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Where [`Step::time`] comes from.
    pub const fn source(&self) -> StepSource {
        self.source
    }

    /// As plain words, for callers that keep steps where no destructor runs: C.
    pub fn into_words(self) -> [u64; 4] {
        let flags = (self.source as u64) << 32;
        let [begin, positions, rest] = shape_into_words(self.begin, self.shape, flags);
        [begin, positions, rest, self.time.0]
    }

    /// Back from the words. Any words are a step.
    pub fn from_words([begin, positions, rest, time]: [u64; 4]) -> Step {
        let (begin, shape) = shape_from_words(begin, positions, rest);
        let source = match (rest >> 32) as u8 {
            0 => StepSource::Gpu,
            2 => StepSource::Simulated,
            _ => StepSource::Host,
        };
        Step { time: Time(time), begin, shape, source }
    }

    /// A step at a given time, without a recorder: for benches.
    #[doc(hidden)]
    #[inline(always)]
    pub const fn bench_at(time: Time) -> Step {
        let shape = Shape { prefills: 0, prefill_tokens: 0, decodes: 0 };
        Step { time, begin: time, shape, source: StepSource::Host }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_survives_its_words() {
        let shape = Shape { prefills: u32::MAX, prefill_tokens: 7, decodes: u32::MAX - 1 };
        for (work, ticket) in [(true, None), (false, Some([1, 2, 3, 4, 5, 6, u64::MAX]))] {
            let open = || OpenStep { begin: Time(9), shape, work, ticket: ticket.map(Ticket) };
            let back = OpenStep::from_words(open().into_words());
            assert_eq!(format!("{back:?}"), format!("{:?}", open()));
        }
        for source in [StepSource::Gpu, StepSource::Host, StepSource::Simulated] {
            let step = || Step { time: Time(u64::MAX), begin: Time(3), shape, source };
            let back = Step::from_words(step().into_words());
            assert_eq!(format!("{back:?}"), format!("{:?}", step()));
        }
    }
}
