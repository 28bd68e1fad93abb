//! The simulated device: one stream that runs one step after the other, and the clock that tells a
//! recorder about it.
//!
//! [`Simulated`] is the engine's side: it knows how long a step takes. [`SimDevice`] is the recorder's
//! side, what stamps in memory are on a GPU: it learns of a step only what the device left on the
//! shared [`Timeline`].

use crate::device::{Device, End, Finish, LAUNCH_NS, Span, Within};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stepscope::{Launch, Settled, Shape, StepClock, StepSource, Ticket, Time};

/// The last step on the stream. Written and read on the engine's thread, atomic only because a
/// `StepClock` is `Send`: relaxed order is enough.
#[derive(Debug, Default)]
struct Timeline {
    number: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
}

/// The engine's side of the device.
#[derive(Debug, Default)]
pub(crate) struct Simulated {
    timeline: Arc<Timeline>,
    last_end: Option<u64>,
    start: u64,
    end: u64,
}

impl Device for Simulated {
    fn clock(&mut self) -> Box<dyn StepClock> {
        Box::new(SimDevice { timeline: self.timeline.clone(), begun: 0, last_end: None })
    }

    fn before(&mut self) {}

    fn launch(&mut self, at: u64, ns: u64, _shape: Shape) -> Launch {
        (self.start, self.end) = (at + LAUNCH_NS, at + LAUNCH_NS + ns);
        self.timeline.number.fetch_add(1, Ordering::Relaxed);
        self.timeline.start.store(self.start, Ordering::Relaxed);
        self.timeline.end.store(self.end, Ordering::Relaxed);
        Launch::Stamp
    }

    fn launched(&mut self) -> u64 {
        self.end
    }

    fn finished(&mut self, _at: u64) -> Finish {
        let idle_before_ns = self.last_end.map(|last_end| Within::exactly(self.start - last_end));
        self.last_end = Some(self.end);
        Finish::Done(Span {
            end: End::At(self.end),
            gpu_ns: Within::exactly(self.end - self.start),
            idle_before_ns,
        })
    }

    fn runs_on(&self) -> bool {
        false
    }

    /// What comes is the first step of a new stream.
    fn reset(&mut self) {
        self.last_end = None
    }
}

/// The device as a recorder's lane; steps are counted as `source="simulated"`.
#[derive(Debug)]
struct SimDevice {
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

    fn run(device: &mut Simulated, at: u64, ns: u64) -> Span {
        device.before();
        device.launch(at, ns, SHAPE);
        let end = device.launched();
        match device.finished(end) {
            Finish::Done(span) => span,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_clock_tells_what_the_device_did() {
        let mut device = Simulated::default();
        let mut clock = device.clock();
        for (at, idle_before_ns) in [(1_000, None), (5_000_000, Some(4_998_000))] {
            let ticket = clock.begin(Time::from_nanos(at), SHAPE);
            let span = run(&mut device, at, 1_000);
            let end = at + LAUNCH_NS + 1_000;
            let idle = idle_before_ns.map(Within::exactly);
            let gpu_ns = Within::exactly(1_000);
            assert_eq!(span, Span { end: End::At(end), gpu_ns, idle_before_ns: idle });
            let end = Time::from_nanos(end);
            let settled = clock.settle(ticket);
            assert_eq!(settled, Settled::Done { end, gpu_ns: 1_000, idle_before_ns });
        }
    }

    #[test]
    fn behind_an_abandoned_step_nothing_is_known_of_the_gap() {
        let mut device = Simulated::default();
        let mut clock = device.clock();
        let ticket = clock.begin(Time::from_nanos(0), SHAPE);
        let _ = run(&mut device, 0, 10);
        clock.settle(ticket);
        let ticket = clock.begin(Time::from_nanos(50_000), SHAPE);
        device.launch(50_000, 10, SHAPE);
        clock.abandon(ticket);
        device.reset();
        let ticket = clock.begin(Time::from_nanos(90_000), SHAPE);
        assert_eq!(run(&mut device, 90_000, 10).idle_before_ns, None);
        let Settled::Done { idle_before_ns, .. } = clock.settle(ticket) else { panic!("lost") };
        assert_eq!(idle_before_ns, None);
    }
}
