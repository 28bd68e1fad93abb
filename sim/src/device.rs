//! What an engine's steps run on: the seam between the engine and a simulated or a real device.
//!
//! ```text
//!  before ─▶ Recorder::begin_step ─▶ launch ─▶ Recorder::launched ─▶ launched ─▶ finished ...
//! ```
//!
//! A device also keeps books of its own on when each step ran, so that what the recorder reports can
//! be judged: exactly where the device is simulated, between two bounds where it is real.

use stepscope::{Launch, Shape, StepClock};

/// From the launch to the first kernel: about what a CUDA graph launch takes.
pub const LAUNCH_NS: u64 = 10_000;

/// A time in ns that is known to lie between two bounds, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Within {
    /// Not less.
    pub low: u64,
    /// Not more.
    pub high: u64,
}

impl Within {
    /// Known exactly.
    pub const fn exactly(ns: u64) -> Within {
        Within { low: ns, high: ns }
    }
}

/// When a step ended, on the host's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// At this time: the device is simulated.
    At(u64),
    /// As the recorder says, like in any engine; it is a fault if that is not between these two.
    AsTold {
        /// The host had launched it, and it had run as long as it says itself.
        not_before: u64,
        /// The host had seen that it was done.
        not_after: u64,
    },
}

/// When a device worked on a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Its end.
    pub end: End,
    /// How long it took.
    pub gpu_ns: Within,
    /// Idle since the step before; `None` for the first one on this stream.
    pub idle_before_ns: Option<Within>,
}

/// Whether a step is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finish {
    /// Yes.
    Done(Span),
    /// Look again at this time.
    Later(u64),
    /// The device failed, in words.
    Failed(String),
}

/// A device with one stream. At most one step is under way. All times are ns on the engine's clock.
pub trait Device: Send {
    /// The clock that the engine's recorder gets; called once, first.
    fn clock(&mut self) -> Box<dyn StepClock>;
    /// Directly before the recorder launches the begin stamp.
    fn before(&mut self);
    /// Launches a step that takes `ns`. Says how its end is stamped.
    fn launch(&mut self, at: u64, ns: u64, shape: Shape) -> Launch;
    /// Directly behind the end stamp. Says when the step will end, about.
    fn launched(&mut self) -> u64;
    /// Is the step done? Called at or after the time that `launched` or [`Finish::Later`] gave.
    fn finished(&mut self, at: u64) -> Finish;
    /// Is a step there, under way or given up, that goes on while the engine's time stands still?
    fn runs_on(&self) -> bool;
    /// The engine gave the step under way up, and everything on the device.
    fn reset(&mut self);
}

/// Device time of a step launched at `at` that takes `ns` of it on a device that makes no progress
/// from `stall.0` until `stall.1`.
pub(crate) fn stalled(at: u64, ns: u64, stall: Option<(u64, u64)>) -> u64 {
    let start = at + LAUNCH_NS;
    match stall {
        Some((from, until)) if start < until && start + ns > from => ns + until - start.max(from),
        _ => ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_meets_a_stall_ends_as_much_later_as_the_stall_lasts() {
        let end = |at| at + LAUNCH_NS + stalled(at, 50_000, Some((100_000, 900_000)));
        assert_eq!(end(10_000), 70_000);
        assert_eq!(end(60_000), 120_000 + 800_000);
        assert_eq!(end(490_000), 550_000 + 400_000);
        assert_eq!(end(890_000), 950_000);
        assert_eq!(stalled(0, 50_000, None), 50_000);
    }
}
