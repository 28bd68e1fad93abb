//! The simulated device: one stream that runs one step after the other, and the clock that tells a
//! recorder about it.
//!
//! [`Device`] is the engine's side: it knows how long a step takes. [`SimDevice`] is the recorder's
//! side, what stamps in memory are on a GPU: it learns of a step only what the device left on the
//! shared [`Timeline`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stepscope::{Launch, Settled, Shape, StepClock, StepSource, Ticket, Time};

/// From the launch to the first kernel: about what a CUDA graph launch takes.
const LAUNCH_NS: u64 = 10_000;

/// The last step on the stream. Written and read on the engine's thread, atomic only because a
/// `StepClock` is `Send`: relaxed order is enough.
#[derive(Debug, Default)]
struct Timeline {
    number: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
}

/// When the device worked on a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Idle since the step before; `None` for the first one on this stream.
    pub(crate) idle_before_ns: Option<u64>,
}

impl Span {
    pub(crate) fn ns(&self) -> u64 {
        self.end - self.start
    }
}

/// The engine's side of the device.
#[derive(Debug)]
pub(crate) struct Device {
    timeline: Arc<Timeline>,
    /// In this time (from, until) the device makes no progress.
    stall: Option<(u64, u64)>,
    last_end: Option<u64>,
}

impl Device {
    pub(crate) fn new(stall: Option<(u64, u64)>) -> Device {
        Device { timeline: Arc::default(), stall, last_end: None }
    }

    /// The clock that a recorder gets as its lane.
    pub(crate) fn clock(&self) -> SimDevice {
        SimDevice { timeline: self.timeline.clone(), begun: 0, last_end: None }
    }

    /// Runs a step that the host launches at `at`.
    pub(crate) fn run(&mut self, at: u64, ns: u64) -> Span {
        let start = at + LAUNCH_NS;
        let mut end = start + ns;
        if let Some((from, until)) = self.stall
            && start < until
            && end > from
        {
            end += until - start.max(from)
        }
        self.timeline.number.fetch_add(1, Ordering::Relaxed);
        self.timeline.start.store(start, Ordering::Relaxed);
        self.timeline.end.store(end, Ordering::Relaxed);
        let idle_before_ns = self.last_end.map(|last_end| start - last_end);
        self.last_end = Some(end);
        Span { start, end, idle_before_ns }
    }

    /// The device died: what comes is the first step of a new stream.
    pub(crate) fn reset(&mut self) {
        self.last_end = None
    }
}

/// The device as a recorder's lane; steps are counted as `source="simulated"`.
#[derive(Debug)]
pub(crate) struct SimDevice {
    timeline: Arc<Timeline>,
    begun: u64,
    last_end: Option<u64>,
}

impl StepClock for SimDevice {
    fn begin(&mut self, _at: Time, _shape: Shape) -> Ticket {
        self.begun += 1;
        Ticket([self.begun, 0, 0, 0, 0, 0, 0])
    }

    fn end(&mut self, _ticket: &mut Ticket, _how: Launch) {}

    fn settle(&mut self, ticket: Ticket) -> Settled {
        if self.timeline.number.load(Ordering::Relaxed) != ticket.0[0] {
            return Settled::Lost;
        }
        let start = self.timeline.start.load(Ordering::Relaxed);
        let end = self.timeline.end.load(Ordering::Relaxed);
        let idle_before_ns = self.last_end.map(|last_end| start - last_end);
        self.last_end = Some(end);
        Settled::Done { end: Time::from_nanos(end), gpu_ns: end - start, idle_before_ns }
    }

    fn abandon(&mut self, _ticket: Ticket) {
        self.last_end = None
    }

    fn source(&self) -> StepSource {
        StepSource::Simulated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { prefills: 0, prefill_tokens: 0, decodes: 1 };

    #[test]
    fn the_clock_tells_what_the_device_did() {
        let mut device = Device::new(None);
        let mut clock = device.clock();
        for (at, idle_before_ns) in [(1_000, None), (5_000_000, Some(4_998_000))] {
            let ticket = clock.begin(Time::from_nanos(at), SHAPE);
            let span = device.run(at, 1_000);
            assert_eq!(
                (span.start, span.ns(), span.idle_before_ns),
                (at + LAUNCH_NS, 1_000, idle_before_ns)
            );
            let end = Time::from_nanos(span.end);
            let settled = clock.settle(ticket);
            assert_eq!(settled, Settled::Done { end, gpu_ns: 1_000, idle_before_ns });
        }
    }

    #[test]
    fn a_step_that_meets_a_stall_ends_as_much_later_as_the_stall_lasts() {
        let span = |at| Device::new(Some((100_000, 900_000))).run(at, 50_000);
        assert_eq!(span(10_000).end, 70_000);
        assert_eq!(span(60_000).end, 120_000 + 800_000);
        assert_eq!(span(490_000).end, 550_000 + 400_000);
        assert_eq!(span(890_000).end, 950_000);
    }

    #[test]
    fn behind_an_abandoned_step_nothing_is_known_of_the_gap() {
        let mut device = Device::new(None);
        let mut clock = device.clock();
        let _ = device.run(0, 10);
        let ticket = clock.begin(Time::from_nanos(0), SHAPE);
        clock.settle(ticket);
        let ticket = clock.begin(Time::from_nanos(50_000), SHAPE);
        let _ = device.run(50_000, 10);
        clock.abandon(ticket);
        device.reset();
        let ticket = clock.begin(Time::from_nanos(90_000), SHAPE);
        assert_eq!(device.run(90_000, 10).idle_before_ns, None);
        let Settled::Done { idle_before_ns, .. } = clock.settle(ticket) else { panic!("lost") };
        assert_eq!(idle_before_ns, None);
    }
}
