//! Every fact of the engine, told twice: to the recorder by its verb, and to the journal as it is.
//!
//! The journal holds whole logs and its own counts; nothing in it comes back from the recorder, so
//! the two can be compared. [`Sabotage`] lies here, to the recorder only.

use crate::client::{Ask, ENDPOINTS, PRIORITIES};
use crate::device::{Device, End, Span};
use crate::journal::{Depths, Journal, OpenLog, REASONS};
use crate::kv::KvPool;
use crate::sabotage::{EveryNth, Sabotage, ToldClock};
use crate::sequence::{Sampled, Sequence};
use crate::truth::Run;
use stepscope::{
    Class, Discard, Launch, OpenStep, Outcome, Pool, Preempt, Priority, Recorder, Request, Series,
    Shape, StepSource, Stepscope, Stream, Time,
};

/// A step under way, as the recorder and as the journal know it.
#[derive(Debug)]
pub(crate) struct Open {
    step: OpenStep,
    log: OpenLog,
}

pub(crate) struct Telemetry {
    /// The scheduler's thread.
    engine: Recorder,
    /// The thread that writes to clients.
    transport: Recorder,
    series: [[Series; PRIORITIES.len()]; ENDPOINTS.len()],
    priorities: [Priority; PRIORITIES.len()],
    lost: EveryNth,
    pub(crate) journal: Journal,
}

impl Telemetry {
    pub(crate) fn new(
        scope: &Stepscope,
        run: Run,
        device: &mut dyn Device,
        sabotage: Option<Sabotage>,
    ) -> Telemetry {
        let class = |endpoint, priority| scope.series(Class::endpoint(endpoint).priority(priority));
        let mut series = ENDPOINTS.map(|endpoint| PRIORITIES.map(|name| class(endpoint, name)));
        let priorities = series[0].map(Series::priority);
        if sabotage == Some(Sabotage::Swap) {
            series.reverse()
        }
        let recorder = |name: &str| match sabotage {
            Some(Sabotage::Mute) => Recorder::disabled(),
            _ => scope.recorder(name),
        };
        let mut engine = recorder("engine");
        engine.set_lane(ToldClock::new(device.clock(), sabotage));
        Telemetry {
            engine,
            transport: recorder("transport"),
            series,
            priorities,
            lost: EveryNth::lost_emission(sabotage),
            journal: Journal::new(run),
        }
    }

    pub(crate) fn arrived(&mut self, ask: &Ask, at: u64) -> Request {
        self.journal.arrived(ask, at);
        let series = self.series[ask.class.endpoint][ask.class.priority];
        self.engine.arrive(series, ask.id, Time::from_nanos(at))
    }

    pub(crate) fn enqueued(&mut self, seq: &mut Sequence, at: u64) {
        self.journal.enqueued(seq.ask.id, at);
        self.engine.enqueue(&mut seq.request, Time::from_nanos(at))
    }

    pub(crate) fn scheduled(&mut self, seq: &mut Sequence, at: u64) {
        self.journal.scheduled(seq.ask.id, seq.computed, at);
        self.engine.schedule(&mut seq.request, Time::from_nanos(at), seq.computed, 0)
    }

    /// The chunk of a prompt, or of what has to be computed again, goes into the step.
    pub(crate) fn prefilling(&mut self, seq: &mut Sequence) {
        let (again, fresh) = seq.again_and_fresh();
        self.journal.prefilling(seq.ask.id, again, fresh);
        self.engine.prefill(&mut seq.request, seq.chunk)
    }

    pub(crate) fn evicted(&mut self, seq: &mut Sequence, at: u64) {
        self.journal.evicted(seq.ask.id, Preempt::Memory, at);
        self.engine.preempt(&mut seq.request, Time::from_nanos(at), Preempt::Memory)
    }

    pub(crate) fn step_begun(&mut self, shape: Shape, at: u64) -> Open {
        let step = self.engine.begin_step(Time::from_nanos(at), shape);
        Open { step, log: self.journal.step_begun(shape, at) }
    }

    pub(crate) fn launched(&mut self, open: &mut Open, how: Launch) {
        self.engine.launched(&mut open.step, how)
    }

    pub(crate) fn step_lost(&mut self, open: Open) {
        self.engine.abandon(open.step)
    }

    /// The outputs of a step are on the host: `sampled` per running sequence.
    pub(crate) fn step_ended(
        &mut self,
        open: Open,
        span: Span,
        at: u64,
        running: &mut [Sequence],
        sampled: &[Sampled],
    ) {
        let step = self.engine.end_step(open.step, Time::from_nanos(at));
        let (end, source) = match span.end {
            End::At(end) => (end, StepSource::Simulated),
            // A real engine knows it from nowhere else.
            End::AsTold { .. } => (step.time().as_nanos(), step.source()),
        };
        self.journal.step_ended(open.log, span, end, source, at);
        let lost = &mut self.lost;
        let told =
            running.iter_mut().zip(sampled).filter(|(_, s)| s.accepted == 0 || !lost.is_now());
        self.engine.tokens(&step, told.map(|(seq, s)| (&mut seq.request, s.accepted)));
        for (seq, s) in running.iter().zip(sampled) {
            self.journal.sampled(seq.ask.id, s, end);
            if s.drafted > 0 {
                self.engine.spec(&seq.request, s.drafted, s.draft_accepted)
            }
            if s.surplus > 0 {
                self.engine.discard(&seq.request, Discard::StopSurplus, s.surplus)
            }
        }
    }

    /// Once per step, when those that ended have given their blocks back: so the level is right
    /// when nothing follows.
    pub(crate) fn kv(&mut self, kv: &KvPool) {
        self.journal.kv(kv);
        let slots_used = kv.slots_used() as u32;
        self.engine.kv(Pool::KV, kv.referenced(), kv.cached(), kv.usable(), slots_used)
    }

    /// The first chunk with a token of the answer went to the client.
    pub(crate) fn emitted(&mut self, id: u64, mut stream: Stream, at: u64) {
        self.journal.emitted(id, at);
        self.transport.emitted(&mut stream, Time::from_nanos(at))
    }

    pub(crate) fn ended(&mut self, id: u64, request: Request, outcome: Outcome, at: u64) {
        self.journal.ended(id, outcome, at);
        self.engine.finish(request, Time::from_nanos(at), outcome)
    }

    /// How many wait. Only what changed is told.
    pub(crate) fn queued(&mut self, depths: Depths) {
        for (place, priority) in self.priorities.into_iter().enumerate() {
            for (reason, why) in REASONS.into_iter().enumerate() {
                let depth = depths[place][reason];
                if depth != self.journal.depths[place][reason] {
                    self.engine.queue(why, priority, depth)
                }
            }
        }
        self.journal.depths = depths
    }
}
