//! `Recorder`: the verbs an engine calls. One thread per recorder, by type.
//!
//! No verb returns a `Result`, panics, blocks, allocates or reads a clock. What cannot be is
//! counted in `llm_invalid_total{reason}` and clamped, never thrown at the engine. This file is the
//! public face; `lifecycle` and `batch` do the work.

use super::cells::{Cells, POOLS_MAX, PRIORITIES_MAX, cell};
use super::core::{Core, Settings};
use super::event::{Event, Metric};
use super::request::{Pool, Priority, Request, Series, State, Stream, flag};
use super::step::{Launch, OpenStep, Settled, Shape, Step, StepClock, StepSource};
use super::time::{Origin, Time};
use super::words::{Discard, Invalid, Outcome, Preempt, Wait};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Records what one engine thread does. `Send`, not `Sync`; made by
/// [`Stepscope::recorder`](crate::Stepscope::recorder).
///
/// Every verb takes its time as a parameter: read [`Time::now`] once per scheduling pass and once
/// per step end. A request may be handed from one recorder to another at any point of its life,
/// but `enqueue`, `schedule`, `preempt` and `finish` of one scheduler should go through one
/// recorder: it knows from them whether work was waiting between two steps.
///
/// ```
/// use stepscope::{Class, Config, Outcome, Shape, Stepscope, Time};
///
/// let scope = Stepscope::start(Config { listen: None, ..Config::default() })?;
/// let chat = scope.series(Class::endpoint("chat"));
/// let mut rec = scope.recorder("engine");
///
/// let mut req = rec.arrive(chat, 42, Time::now());
/// rec.enqueue(&mut req, Time::now());
/// rec.schedule(&mut req, Time::now(), 0, 0);
/// rec.prefill(&mut req, 512);
/// let open = rec.begin_step(Time::now(), Shape { prefills: 1, prefill_tokens: 512, decodes: 0 });
/// // ... the step runs ...
/// let step = rec.end_step(open, Time::now());
/// rec.tokens(&step, [(&mut req, 1)]);
/// rec.finish(req, Time::now(), Outcome::Stop);
/// # Ok::<(), stepscope::StartError>(())
/// ```
pub struct Recorder {
    core: Option<Box<Core>>,
    /// A `Cell` is `Send` and not `Sync`, and so is this handle.
    _one_thread: PhantomData<Cell<()>>,
}

impl Recorder {
    pub(crate) fn new(
        ring: rtrb::Producer<Event>,
        cells: Arc<Cells>,
        settings: Settings,
    ) -> Recorder {
        Recorder {
            core: Some(Box::new(Core::new(ring, cells, settings))),
            _one_thread: PhantomData,
        }
    }

    /// A recorder that records nothing: every verb is one branch, its requests are empty slots.
    pub const fn disabled() -> Recorder {
        Recorder { core: None, _one_thread: PhantomData }
    }

    /// Gives this recorder a device clock; `begin_step`, `launched` and `end_step` then stamp.
    pub fn set_lane(&mut self, lane: impl StepClock + 'static) {
        if let Some(core) = &mut self.core {
            core.lane = Some(Box::new(lane))
        }
    }

    /// `recv`: the request is in. It belongs to the caller from here on.
    ///
    /// `id` is the engine's own number; it names the request in exemplars.
    pub fn arrive(&mut self, series: Series, id: u64, at: Time) -> Request {
        match &mut self.core {
            Some(core) => core.arrive(series, id, at),
            None => Request::empty(),
        }
    }

    /// `recv` in another process: exact with the same clock, else `at - elapsed` (transit missing,
    /// counted as `foreign_clock`).
    pub fn arrive_from(&mut self, series: Series, id: u64, from: Origin, at: Time) -> Request {
        match &mut self.core {
            Some(core) => core.arrive_from(series, id, from, at),
            None => Request::empty(),
        }
    }

    /// What travels with the KV blocks when another process decodes on.
    pub fn origin(&self, req: &Request, at: Time) -> Origin {
        let mut clock = self.core.as_ref().map_or(0, |core| core.clock);
        let mut recv_ns = req.recv;
        if recv_ns == 0 {
            // An empty slot never arrived: it hands over an arrival of this moment, on no clock.
            (clock, recv_ns) = (0, at.0);
            if let Some(core) = &self.core {
                core.invalid(Invalid::NotLive)
            }
        }
        let elapsed_ns = at.0.saturating_sub(recv_ns);
        Origin { recv_ns, elapsed_ns, clock, reserved: 0 }
    }

    /// `enq`: the request stands in the scheduler's queue.
    pub fn enqueue(&mut self, req: &mut Request, at: Time) {
        let Some(core) = &mut self.core else { return };
        if core.live(req) {
            core.enqueue(req, at.0);
            core.out.flush()
        }
    }

    /// `sched[k]`: admitted into a batch. `cached` and `transferred` are the prompt positions that
    /// need no compute; after a preemption they count neither as prompt nor as cache hits again.
    pub fn schedule(&mut self, req: &mut Request, at: Time, cached: u32, transferred: u32) {
        let Some(core) = &mut self.core else { return };
        if core.live(req) {
            core.schedule(req, at.0, cached, transferred);
            core.out.flush()
        }
    }

    /// `n` positions of this sequence are computed in a step: a chunk of its prompt, or recompute.
    pub fn prefill(&mut self, req: &mut Request, n: u32) {
        let Some(core) = &mut self.core else { return };
        if core.live(req) {
            core.prefill(req, n)
        }
    }

    /// A step begins, directly before its first launch. Launches the begin stamp if there is a lane.
    pub fn begin_step(&mut self, at: Time, shape: Shape) -> OpenStep {
        match &mut self.core {
            Some(core) => core.begin_step(at, shape),
            None => OpenStep { begin: at, shape, work: false, ticket: None },
        }
    }

    /// Directly after the step's last launch. Does nothing without a lane.
    #[inline]
    pub fn launched(&mut self, open: &mut OpenStep, how: Launch) {
        if let Some(core) = &mut self.core
            && let Some(lane) = &mut core.lane
            && let Some(ticket) = &mut open.ticket
        {
            lane.end(ticket, how)
        }
    }

    /// The step did not run (a launch failed): it leaves no sample.
    pub fn abandon(&mut self, open: OpenStep) {
        if let Some(core) = &mut self.core
            && let Some(lane) = &mut core.lane
            && let Some(ticket) = open.ticket
        {
            lane.abandon(ticket)
        }
    }

    /// The step's outputs are on the host. Its time is the device's end if the stamps are there,
    /// else `at`; `llm_step_source_total` says how often which.
    pub fn end_step(&mut self, mut open: OpenStep, at: Time) -> Step {
        let mut settled = Settled::Lost;
        let mut source = StepSource::Host;
        if let Some(core) = &mut self.core {
            if let (Some(lane), Some(ticket)) = (&mut core.lane, open.ticket.take()) {
                settled = lane.settle(ticket);
                if let Settled::Done { .. } = settled {
                    source = lane.source()
                }
            }
            core.end_step(&open, at, settled, source)
        }
        let time = if let Settled::Done { end, .. } = settled { end } else { at };
        Step { time, begin: open.begin, shape: open.shape, source }
    }

    /// The device time of one graph, measured beside the stamps; `phase` is the index of its step's.
    #[allow(dead_code)] // Its caller belongs to the GPU part, which a build may leave out.
    pub(crate) fn graph_time(&mut self, phase: u8, ns: u64) {
        if let Some(core) = &mut self.core {
            core.graph_time(phase, ns);
            core.out.flush()
        }
    }

    /// tok\[i\] of every sequence of the batch, with the number of tokens the step accepted for it;
    /// 0 (a chunk of prompt, nothing sampled) is allowed and records nothing.
    ///
    /// Cost follows the number of *distinct* (last emission, class, accepted) triples, not the
    /// batch: about 0.6 ns a sequence at 256 equal ones.
    #[inline]
    pub fn tokens<'a>(
        &mut self,
        step: &Step,
        batch: impl IntoIterator<Item = (&'a mut Request, u32)>,
    ) {
        if let Some(core) = &mut self.core {
            core.tokens(step.time.0, batch.into_iter())
        }
    }

    /// The same for one sequence: a decode loop of batch 1. Batches use [`Recorder::tokens`].
    #[inline]
    pub fn token(&mut self, step: &Step, req: &mut Request, accepted: u32) {
        if let Some(core) = &mut self.core {
            core.token(step.time.0, req, accepted)
        }
    }

    /// `emit[1]`: the first chunk with a generated token is handed to the transport. Later calls
    /// for the same stream are one compare. `stream` may live on another thread than the request;
    /// that thread then has its own recorder.
    #[inline]
    pub fn emitted(&mut self, stream: &mut Stream, at: Time) {
        let Some(core) = &mut self.core else { return };
        if stream.done == 0 {
            stream.done = 1;
            core.emitted(stream, at.0)
        }
    }

    /// A running sequence is put back to waiting.
    pub fn preempt(&mut self, req: &mut Request, at: Time, why: Preempt) {
        let Some(core) = &mut self.core else { return };
        if core.live(req) {
            core.preempt(req, at.0, why);
            core.out.flush()
        }
    }

    /// One more sequence of the same request (n > 1, beams). Call it before the step's `tokens`:
    /// then every sequence has its own first token in that step. `join` ends it.
    #[must_use = "a child that is not joined is counted as dropped"]
    pub fn fork(&mut self, lead: &mut Request) -> Request {
        let Some(core) = &mut self.core else { return Request::empty() };
        if core.live(lead) { core.fork(lead) } else { Request::empty() }
    }

    /// `child` emitted before its lead did: its time is the request's TTFT.
    pub fn first_from(&mut self, lead: &mut Request, child: &Request) {
        let Some(core) = &mut self.core else { return };
        let open = core.live(lead) && !lead.has(flag::TTFT | flag::CHILD);
        if open && child.has(flag::CHILD) && child.last() != 0 {
            core.ttft(lead, child.first);
            core.out.flush()
        }
    }

    /// A child ended: its gaps and evictions count for the request. `lost` = its tokens are in no
    /// answer, and why.
    pub fn join(
        &mut self,
        lead: &mut Request,
        mut child: Request,
        at: Time,
        lost: Option<Discard>,
    ) {
        self.join_in_place(lead, &mut child, at, lost)
    }

    /// [`Recorder::join`] for callers that keep requests in slots: the slot is marked ended, and a
    /// second call is counted.
    pub fn join_in_place(
        &mut self,
        lead: &mut Request,
        child: &mut Request,
        at: Time,
        lost: Option<Discard>,
    ) {
        let Some(core) = &mut self.core else { return child.set_state(State::Ended) };
        // Both are looked at, whatever the first says: each may be misuse of its own.
        if core.live(lead) & core.live(child) {
            core.join(lead, child, at.0, lost);
            core.out.flush()
        }
    }

    /// The request ended. Consumes it.
    pub fn finish(&mut self, mut req: Request, at: Time, outcome: Outcome) {
        self.finish_in_place(&mut req, at, outcome)
    }

    /// [`Recorder::finish`] for callers that keep requests in slots: the slot is marked ended, and
    /// a second call is counted.
    pub fn finish_in_place(&mut self, req: &mut Request, at: Time, outcome: Outcome) {
        let Some(core) = &mut self.core else { return req.set_state(State::Ended) };
        if core.live(req) {
            core.finish(req, at.0, outcome);
            core.out.flush()
        }
    }

    /// `n` tokens were computed and are in no answer (surplus behind a stop). Rejected drafts are
    /// counted by [`Recorder::spec`], aborted tokens by [`Recorder::finish`].
    pub fn discard(&mut self, req: &Request, why: Discard, n: u32) {
        let Some(core) = &self.core else { return };
        if let Some(row) = core.row(req) {
            core.out.cells.add(row, cell::DISCARDED + why as usize, n as u64)
        }
    }

    /// A speculation step drafted and accepted so many tokens for this sequence.
    pub fn spec(&mut self, req: &Request, drafted: u32, accepted: u32) {
        let Some(core) = &self.core else { return };
        let Some(row) = core.row(req) else { return };
        let cells = &core.out.cells;
        cells.add(row, cell::DRAFTED, drafted as u64);
        cells.add(row, cell::DRAFT_ACCEPTED, accepted.min(drafted) as u64);
        let lost = drafted.saturating_sub(accepted);
        cells.add(row, cell::DISCARDED + Discard::Draft as usize, lost as u64)
    }

    /// Level: how many requests of this priority wait for this reason. One recorder per level.
    ///
    /// An engine that never calls it gets reason `capacity` = everything that waits.
    #[inline]
    pub fn queue(&mut self, why: Wait, priority: Priority, n: u32) {
        let Some(core) = &self.core else { return };
        let levels = &core.out.cells.levels;
        let cell = &levels.queue[why as usize][priority.0 as usize & (PRIORITIES_MAX - 1)];
        cell.store(n as u64, Ordering::Relaxed);
        levels.queue_told.store(1, Ordering::Relaxed)
    }

    /// Level and, at each call, one sample of the usage: call it once per step.
    ///
    /// `referenced` blocks are held by sequences, `cached` ones are unreferenced but reusable,
    /// `usable` = total - reserved. `slots_used` = token slots filled in the referenced blocks.
    #[inline]
    pub fn kv(&mut self, pool: Pool, referenced: u32, cached: u32, usable: u32, slots_used: u32) {
        let Some(core) = &mut self.core else { return };
        let place = pool.0 as usize & (POOLS_MAX - 1);
        let levels = &core.out.cells.levels;
        let [blocks, size] = &levels.kv[place];
        if usable == 0 || referenced > usable {
            core.out.cells.invalid(Invalid::AbsurdCount)
        }
        // A share above 1 would be nonsense in every panel.
        let referenced = referenced.min(usable);
        blocks.store((referenced as u64) << 32 | cached as u64, Ordering::Relaxed);
        size.store((usable as u64) << 32 | slots_used as u64, Ordering::Relaxed);
        let told = levels.kv_told.load(Ordering::Relaxed);
        // Release: who sees the bit sees the first values too.
        levels.kv_told.store(told | 1 << place, Ordering::Release);
        if usable == 0 {
            return;
        }
        let value = (referenced as u64) << 32 | usable as u64;
        core.out.push(Event::new(value, 1, Event::key(Metric::KvUsage, place as u8, core.device)))
    }
}

/// For skins of other languages, whose compiler does not hold what Rust's types do.
impl Recorder {
    /// A verb was given what the types would not allow, such as a step at another point of its life
    /// or an unknown word: counted as `order`.
    pub fn refuse(&mut self) {
        if let Some(core) = &self.core {
            core.invalid(Invalid::Order)
        }
    }

    /// Lets any thread count that it was refused.
    pub fn bystander(&self) -> Bystander {
        Bystander(self.core.as_ref().map(|core| core.out.cells.clone()))
    }
}

/// Counts verbs that were refused because another thread than the recorder's called them.
pub struct Bystander(Option<Arc<Cells>>);

impl Bystander {
    /// One verb was refused: counted as `thread`.
    pub fn refuse(&self) {
        if let Some(cells) = &self.0 {
            cells.refused_thread()
        }
    }
}

impl std::fmt::Debug for Bystander {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bystander").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("enabled", &self.core.is_some()).finish_non_exhaustive()
    }
}

const _: () = assert!(size_of::<OpenStep>() <= 128, "C sees an opaque step of 128 bytes");
