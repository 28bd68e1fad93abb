//! One worker: requests arrive, are tokenized and queued, run in batches on the device, and end.
//!
//! ```text
//!  arrival ─▶ tokenized ─▶ waiting ─▶ scheduling pass ─▶ device ─▶ outputs ─▶ next pass
//!               │             ▲            │ evicted        │         ├─▶ first chunk to the client
//!               ▼             └────────────┘                ▼         └─▶ end
//!            rejected                                     crash
//! ```
//!
//! The engine keeps an agenda of what happens when, and no clock: [`Engine::advance_to`] does what
//! is due. So it runs in real time or as fast as it can, with the same result.

use crate::agenda::{Agenda, Entry};
use crate::arrivals::Arrivals;
use crate::client::{Ask, BATCH, Fate, PRIORITIES};
use crate::device::{Device, Finish, stalled};
use crate::journal::Depths;
use crate::kv::{BLOCK_TOKENS, KvPool};
use crate::profile::{Profile, StepModel};
use crate::readings::{EVERY_NS, Readings};
use crate::rng::Rng;
use crate::sabotage::Sabotage;
use crate::scenario::{CROWD_NS, Crowd, Injection, Scenario};
use crate::scheduler::Scheduler;
use crate::sequence::Sequence;
use crate::simulated::Simulated;
use crate::telemetry::{Open, Telemetry};
use crate::trace::{Trace, TraceRequest};
use crate::truth::{Run, Truth};
use std::sync::Arc;
use std::time::Duration;
use stepscope::{ErrorType, Outcome, Request, Shape, Stepscope, Stream, Time};

/// Tokenizing: a fixed part, and a megatoken a second (a fast tokenizer on one core).
const TOKENIZE_NS: f64 = 300_000.0;
const TOKENIZE_NS_PER_TOKEN: f64 = 1_000.0;
const TOKENIZE_JITTER: f64 = 0.2;
/// From the device's end to the outputs on the host, and from there (or from an arrival at an idle
/// engine) to the next launch: 150 to 400 µs of host time per step.
const OUTPUTS_NS: std::ops::Range<u64> = 60_000..160_000;
const PASS_NS: std::ops::Range<u64> = 90_000..240_000;
/// From the outputs to the client, and to the request's end.
const EMIT_NS: std::ops::Range<u64> = 100_000..300_000;
const FINISH_NS: std::ops::Range<u64> = 300_000..900_000;
/// How long the engine needs to come back after its device died: it loads the weights again.
const RESTART_NS: u64 = 5_000_000_000;
/// From the launch of a step that dies to the error on the host.
const CRASH_NS: u64 = 1_000_000;
/// Equal steps of a GPU differ by about this much.
const STEP_JITTER: f64 = 0.015;
/// Requests of a crowd differ by this much.
const CROWD_JITTER: f64 = 0.2;

/// With speculation: tokens drafted per decoding sequence and step.
const DRAFTS: u32 = 3;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Model and hardware.
    pub profile: Profile,
    /// What goes wrong.
    pub scenario: Scenario,
    /// When it goes wrong: from, until, since the start.
    pub inject: (Duration, Duration),
    /// Equal seeds give equal runs.
    pub seed: u64,
    /// Speculative decoding: three drafts per sequence and step.
    pub speculation: bool,
    /// This worker's number, from 0.
    pub worker: usize,
    /// How many workers are simulated. A trace that needs more of them (a profile knows how many)
    /// is shared by so many, and the others are not simulated.
    pub workers: usize,
    /// A lie to the recorder.
    pub sabotage: Option<Sabotage>,
}

/// How far a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Requests that arrived.
    pub arrived: u64,
    /// Requests that ended, in whatever way.
    pub ended: u64,
    /// Sequences admitted into the batch and not put back.
    pub running: u64,
    /// Requests that arrived and neither run nor ended.
    pub waiting: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Prompt positions obtained, computed or cached.
    pub prompt_tokens: u64,
    /// KV blocks held by sequences.
    pub kv_referenced: u64,
    /// KV blocks held by nobody and reusable.
    pub kv_cached: u64,
    /// KV blocks in all.
    pub kv_usable: u64,
    /// Steps that ended.
    pub steps: u64,
}

/// What can happen.
#[derive(Debug)]
enum Event {
    Arrival(TraceRequest),
    Crowd,
    Tokenized(Box<Sequence>),
    PatienceEnds(u64),
    Pass,
    Outputs,
    FirstChunk(u64, Stream),
    End(u64, Box<Request>, Outcome),
    Inject,
    Lift,
    Crash,
    Restarted,
    Reading,
}

/// The step on the device.
#[derive(Debug)]
struct Flight {
    open: Open,
    outputs: Entry,
}

/// One simulated worker.
///
/// Drop it after the last scrape: requests still in flight are then counted as dropped.
pub struct Engine {
    profile: Profile,
    injection: Injection,
    seed: u64,
    start: u64,
    /// The time up to which everything is done.
    now: u64,
    rng: Rng,
    agenda: Agenda<Event>,
    arrivals: Arrivals,
    scheduler: Scheduler,
    kv: KvPool,
    steps: StepModel,
    flight: Option<Flight>,
    is_pass_planned: bool,
    is_down: bool,
    /// The next step dies on the device.
    is_doomed: bool,
    /// Requests at the tokenizer, by priority.
    tokenizing: [u32; PRIORITIES.len()],
    telemetry: Telemetry,
    /// Of a simulated device.
    readings: Option<Readings>,
    // Behind the recorder, whose lane is on the device's stream: it goes last.
    device: Box<dyn Device>,
    /// What the device failed with.
    fault: Option<String>,
}

impl Engine {
    /// A worker that starts at `start`. It registers its request classes and two recorders, `engine`
    /// and `transport`, and gives the first one a simulated device as its lane.
    ///
    /// `run` is copied into the truth; it should say what the scope's configuration says.
    pub fn new(
        scope: &Stepscope,
        run: Run,
        trace: Arc<Trace>,
        start: Time,
        options: Options,
    ) -> Engine {
        let readings = Readings::new(scope, &run.gpu_id, &options.profile);
        let device = Box::new(Simulated::default());
        let mut engine = Engine::on(device, scope, run, trace, start, options);
        engine.readings = Some(readings);
        engine.agenda.plan(engine.start + EVERY_NS, Event::Reading);
        engine
    }

    /// The same on another device. With a real one time must pass as it does: call
    /// [`advance_to`](Engine::advance_to) with times that are over.
    pub fn on(
        mut device: Box<dyn Device>,
        scope: &Stepscope,
        run: Run,
        trace: Arc<Trace>,
        start: Time,
        options: Options,
    ) -> Engine {
        let Options { profile, worker, .. } = options;
        let start = start.as_nanos();
        let injection = Injection::new(options.scenario, start, options.inject);
        let workers = options.workers.max(profile.workers_for(&trace));
        // Workers of one run must not share their fates.
        let seed = Rng::stream(options.seed, worker as u64).next();
        let mut engine = Engine {
            profile,
            injection,
            seed,
            start,
            now: start,
            rng: Rng::new(seed),
            agenda: Agenda::new(),
            arrivals: Arrivals::new(trace, worker, workers),
            scheduler: Scheduler::new(if options.speculation { DRAFTS } else { 0 }),
            kv: KvPool::new(profile.kv_blocks, BLOCK_TOKENS),
            steps: StepModel::new(profile),
            telemetry: Telemetry::new(scope, run, &mut *device, options.sabotage),
            device,
            fault: None,
            flight: None,
            is_pass_planned: false,
            is_down: false,
            is_doomed: false,
            tokenizing: [0; PRIORITIES.len()],
            readings: None,
        };
        engine.plan_arrival();
        if let Some((from, until)) = injection.window() {
            engine.agenda.plan(from, Event::Inject);
            engine.agenda.plan(until, Event::Lift);
        }
        engine
    }

    /// The next moment at which something happens; `None` if nothing ever will.
    pub fn next_at(&self) -> Option<Time> {
        self.agenda.next_at().map(Time::from_nanos)
    }

    /// Does everything that is due at or before `now`, in order of time; every verb is called with
    /// the time at which its fact happened.
    pub fn advance_to(&mut self, now: Time) {
        let now = now.as_nanos();
        while let Some((at, event)) = self.agenda.pop_due(now) {
            self.happen(event, at);
            let depths = self.depths();
            self.telemetry.queued(depths)
        }
        self.now = self.now.max(now)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let journal = &self.telemetry.journal;
        Progress {
            arrived: journal.requests.len() as u64,
            ended: journal.ended,
            running: journal.running,
            waiting: journal.waiting(),
            generated_tokens: journal.generated_tokens,
            prompt_tokens: journal.prompt_tokens,
            kv_referenced: self.kv.referenced().into(),
            kv_cached: self.kv.cached().into(),
            kv_usable: self.kv.usable().into(),
            steps: journal.steps.len() as u64,
        }
    }

    /// What a real device failed with, the first time.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// A copy of all it knows; `end` is the state at the time of the last `advance_to`.
    pub fn truth(&self) -> Truth {
        let is_running_on = self.device.runs_on();
        Truth { is_running_on, ..self.telemetry.journal.truth(self.now) }
    }

    fn happen(&mut self, event: Event, at: u64) {
        match event {
            Event::Arrival(request) => {
                self.plan_arrival();
                if self.injection.has_traffic(at) {
                    let ask = self.ask(request);
                    self.arrive(ask, at)
                }
            }
            Event::Crowd => self.crowd(at),
            Event::Tokenized(seq) => self.tokenized(*seq, at),
            Event::PatienceEnds(id) => self.give_up(id, at),
            Event::Pass => {
                self.is_pass_planned = false;
                self.pass(at)
            }
            Event::Outputs => self.outputs(at),
            Event::FirstChunk(id, stream) => self.telemetry.emitted(id, stream, at),
            Event::End(id, request, outcome) => self.telemetry.ended(id, *request, outcome, at),
            Event::Inject => self.inject(at),
            Event::Lift => {
                self.is_doomed = false;
                // Who waited for what the scenario took away gets it now.
                self.plan_pass(at)
            }
            Event::Crash => self.crash(at),
            Event::Reading => {
                self.readings.iter_mut().for_each(Readings::read);
                self.agenda.plan(at + EVERY_NS, Event::Reading);
            }
            Event::Restarted => {
                self.is_down = false;
                self.plan_pass(at)
            }
        }
    }

    // ------------------------------------------------------------ arrival to queue

    fn plan_arrival(&mut self) {
        if let Some((since_ns, request)) = self.arrivals.next() {
            self.agenda.plan(self.start + since_ns, Event::Arrival(request));
        }
    }

    /// Those of the crowd's clients that have no request in flight send one: batch jobs, so that
    /// they evict each other and no earlier request.
    fn crowd(&mut self, at: u64) {
        let Some(Crowd { clients, prompt, output, .. }) = self.injection.crowd(at) else { return };
        let Progress { arrived, ended, .. } = self.progress();
        for _ in arrived - ended..clients {
            let [prompt, output] = [prompt, output]
                .map(|tokens| (f64::from(tokens) * self.rng.jitter(CROWD_JITTER)) as u32);
            let mut ask = self.ask(TraceRequest { at_ns: at, prompt, output, blocks: vec![] });
            ask.class.priority = BATCH;
            self.arrive(ask, at)
        }
        self.agenda.plan(at + CROWD_NS, Event::Crowd);
    }

    /// The next request. Its class and fate depend on the seed and its number, not on the load.
    fn ask(&self, request: TraceRequest) -> Ask {
        let id = self.telemetry.journal.requests.len() as u64;
        Ask::draw(id, request, &mut Rng::stream(self.seed, id))
    }

    fn arrive(&mut self, mut ask: Ask, at: u64) {
        if self.injection.fails(ask.id, at) {
            ask.fate = Fate::failure(&mut self.rng)
        }
        let request = self.telemetry.arrived(&ask, at);
        self.tokenizing[ask.class.priority] += 1;
        let tokens_ns = f64::from(ask.prompt) * TOKENIZE_NS_PER_TOKEN;
        let ns = TOKENIZE_NS + tokens_ns * self.rng.jitter(TOKENIZE_JITTER);
        let seq = Box::new(Sequence::new(ask, request));
        self.agenda.plan(at + ns as u64, Event::Tokenized(seq));
    }

    fn tokenized(&mut self, mut seq: Sequence, at: u64) {
        let limits = &self.profile.limits;
        self.tokenizing[seq.ask.class.priority] -= 1;
        let tokens = u64::from(seq.ask.prompt) + u64::from(seq.ask.output);
        if tokens > u64::from(limits.context_tokens) {
            return self.reject(seq, ErrorType::Input, at);
        }
        if self.scheduler.waiting().iter().sum::<usize>() >= limits.queue {
            return self.reject(seq, ErrorType::Overload, at);
        }
        self.telemetry.enqueued(&mut seq, at);
        self.agenda.plan(at + seq.ask.patience_ns, Event::PatienceEnds(seq.ask.id));
        self.scheduler.enqueue(seq);
        self.plan_pass(at)
    }

    fn reject(&mut self, seq: Sequence, why: ErrorType, at: u64) {
        self.telemetry.ended(seq.ask.id, seq.request, Outcome::Rejected(why), at)
    }

    /// The client leaves unless it has seen a token.
    fn give_up(&mut self, id: u64, at: u64) {
        let is_meant = |seq: &Sequence| seq.ask.id == id && seq.generated == 0;
        if let Some(seq) = self.scheduler.remove_waiting(is_meant) {
            self.telemetry.ended(id, seq.request, Outcome::Aborted, at);
            // Who stood behind it may fit where it did not.
            self.plan_pass(at)
        } else if let Some(seq) = self.scheduler.running.iter_mut().find(|seq| is_meant(seq)) {
            // Its blocks are in use until the step is over.
            seq.is_left = true
        }
    }

    fn depths(&self) -> Depths {
        let waiting = self.scheduler.waiting();
        let is_deferred = |priority: usize| {
            self.is_down || waiting[..priority].iter().any(|more_important| *more_important > 0)
        };
        std::array::from_fn(|priority| {
            let [at_tokenizer, queued] = [self.tokenizing[priority], waiting[priority] as u32];
            // A request at the tokenizer waits too, and for nothing but its turn.
            let capacity = at_tokenizer + if is_deferred(priority) { 0 } else { queued };
            [capacity, at_tokenizer + queued - capacity]
        })
    }

    // ------------------------------------------------------------ steps

    /// The next scheduling pass, unless a step is under way: its outputs plan one.
    fn plan_pass(&mut self, at: u64) {
        if self.is_pass_planned
            || self.is_down
            || self.flight.is_some()
            || !self.scheduler.has_work()
        {
            return;
        }
        self.is_pass_planned = true;
        let ns = self.rng.within(PASS_NS) + self.injection.host_ns_more(at) as u64;
        self.agenda.plan(at + ns, Event::Pass);
    }

    fn pass(&mut self, at: u64) {
        let (total, usable) = (self.kv.total(), self.kv.usable());
        let usable_max = self.injection.usable_blocks(at, total, usable, self.kv.referenced());
        self.kv.set_usable_max(usable_max);
        let limits = self.injection.limits(at, self.profile.limits);
        let pass = self.scheduler.plan(&mut self.kv, &limits);
        let has_evicted = !pass.evicted.is_empty();
        for mut seq in pass.evicted {
            self.telemetry.evicted(&mut seq, at);
            self.scheduler.put_back(seq)
        }
        let running = &mut self.scheduler.running;
        let before = running.len() - pass.admitted;
        for seq in &mut running[before..] {
            self.telemetry.scheduled(seq, at)
        }
        for seq in running.iter_mut().filter(|seq| seq.chunk > 0 && !seq.is_decode()) {
            self.telemetry.prefilling(seq)
        }
        if running.iter().any(|seq| seq.chunk > 0) {
            self.launch(at)
        } else if has_evicted {
            // The last one running gave its blocks back, and nobody took them in this pass.
            self.plan_pass(at)
        }
    }

    fn launch(&mut self, at: u64) {
        let batch = self.scheduler.running.iter().map(Sequence::work).filter(|work| work.new > 0);
        let shape = batch.clone().fold(Shape::default(), |shape, work| Shape {
            prefills: shape.prefills + u32::from(!work.is_decode),
            prefill_tokens: shape.prefill_tokens + if work.is_decode { 0 } else { work.new },
            decodes: shape.decodes + u32::from(work.is_decode),
        });
        let ns = self.steps.step_ns(batch).max(self.injection.step_ns_min(at, shape.prefills == 0));
        let ns = (ns * self.rng.jitter(STEP_JITTER)) as u64;
        let ns = stalled(at, ns, self.injection.stall());
        self.device.before();
        let mut open = self.telemetry.step_begun(shape, at);
        let how = self.device.launch(at, ns, shape);
        self.telemetry.launched(&mut open, how);
        let end = self.device.launched();
        let outputs = self.agenda.plan(end + self.rng.within(OUTPUTS_NS), Event::Outputs);
        self.flight = Some(Flight { open, outputs });
        if std::mem::take(&mut self.is_doomed) {
            self.agenda.plan(at + CRASH_NS, Event::Crash);
        }
    }

    fn outputs(&mut self, at: u64) {
        let Some(Flight { open, outputs }) = self.flight.take() else { return };
        let span = match self.device.finished(at) {
            Finish::Done(span) => span,
            Finish::Later(when) => {
                let outputs = self.agenda.plan(when.max(at + 1), Event::Outputs);
                return self.flight = Some(Flight { open, outputs });
            }
            Finish::Failed(why) => {
                self.fault.get_or_insert(why);
                self.flight = Some(Flight { open, outputs });
                return self.crash(at);
            }
        };
        if let Some(readings) = &mut self.readings {
            readings.worked(span.gpu_ns.low)
        }
        let running = &mut self.scheduler.running;
        let sampled: Vec<_> =
            running.iter_mut().map(|seq| seq.sample(&mut self.kv, &mut self.rng)).collect();
        self.telemetry.step_ended(open, span, at, running, &sampled);
        for (seq, sampled) in running.iter().zip(&sampled) {
            if sampled.accepted > 0 && seq.generated == sampled.accepted {
                let chunk = Event::FirstChunk(seq.ask.id, seq.request.stream());
                self.agenda.plan(at + self.rng.within(EMIT_NS), chunk);
            }
        }
        for mut seq in running.extract_if(.., |seq| seq.outcome().is_some()) {
            self.kv.release(&mut seq.table, seq.computed);
            let Some(outcome) = seq.outcome() else { continue };
            let end = Event::End(seq.ask.id, Box::new(seq.request), outcome);
            self.agenda.plan(at + self.rng.within(FINISH_NS), end);
        }
        self.telemetry.kv(&self.kv);
        self.plan_pass(at)
    }

    // ------------------------------------------------------------ scenarios

    fn inject(&mut self, at: u64) {
        self.crowd(at);
        if self.injection.kills_device(at) {
            self.crash(at)
        }
    }

    /// The device dies: the step under way, all that ran and the whole KV cache are lost. Of an idle
    /// device nobody notices it before the next step.
    fn crash(&mut self, at: u64) {
        let Some(flight) = self.flight.take() else {
            self.is_doomed = true;
            return;
        };
        self.agenda.cancel(flight.outputs);
        self.telemetry.step_lost(flight.open);
        if let Some(readings) = &self.readings {
            readings.died();
            self.telemetry.journal.faults += 1
        }
        self.device.reset();
        self.kv.forget();
        for seq in self.scheduler.drain_running() {
            let outcome = Outcome::Failed(ErrorType::Crash);
            self.telemetry.ended(seq.ask.id, seq.request, outcome, at)
        }
        self.is_down = true;
        self.agenda.plan(at + RESTART_NS, Event::Restarted);
    }
}
