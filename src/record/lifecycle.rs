//! The verbs of a request's life besides its tokens, and the step verbs.

use super::cells::{bump, cell};
use super::core::{Core, SAMPLE_NS_MAX};
use super::event::Metric;
use super::request::{Request, Series, State, Stream, flag};
use super::step::{OpenStep, Settled, Shape, StepSource};
use super::time::{Origin, Time};
use super::words::{Discard, ErrorType, Invalid, Outcome, Preempt, Role};
use std::sync::atomic::Ordering;

/// Share of a request's gaps that may be above the TBT objective: one in so many.
const SLOW_GAPS_ONE_IN: u64 = 100;

/// Objectives, as cell offsets from `cell::SLO` in pairs (bad, good).
const AVAILABILITY: usize = 0;
const TTFT: usize = 1;
const TBT: usize = 2;

impl Core {
    pub(super) fn arrive(&mut self, series: Series, id: u64, at: Time) -> Request {
        let ours = self.owns(series.scope, series.index);
        if !ours {
            self.invalid(Invalid::Foreign)
        }
        let class = if ours { series.index } else { 0 };
        self.out.cells.add(class, cell::ACCEPTED, 1);
        self.flow(1, 0);
        let mut req = Request::empty();
        req.recv = at.0.max(1);
        req.id = id;
        req.set_head(Request::pack(class, self.scope, State::Arrived));
        req
    }

    pub(super) fn arrive_from(
        &mut self,
        series: Series,
        id: u64,
        from: Origin,
        at: Time,
    ) -> Request {
        let mut recv = if from.clock == self.clock && from.clock != 0 {
            from.recv_ns
        } else {
            self.invalid(Invalid::ForeignClock);
            at.0.saturating_sub(from.elapsed_ns)
        };
        if recv > at.0 {
            self.invalid(Invalid::TimeBackwards);
            recv = at.0
        } else if at.0 - recv > SAMPLE_NS_MAX {
            self.invalid(Invalid::AbsurdGap);
            recv = at.0 - SAMPLE_NS_MAX
        }
        self.arrive(series, id, Time(recv))
    }

    pub(super) fn enqueue(&mut self, req: &mut Request, at: u64) {
        if req.state() != State::Arrived {
            return self.invalid(Invalid::Order);
        }
        let at = self.not_before(at, req);
        if !req.has(flag::CHILD) {
            self.sample(Metric::Admission, 0, req.class(), self.span(at, req.recv))
        }
        req.mark = at;
        self.add_load(1);
        req.set_state(State::Queued)
    }

    pub(super) fn schedule(&mut self, req: &mut Request, at: u64, cached: u32, transferred: u32) {
        match req.state() {
            State::Arrived => {
                self.invalid(Invalid::NoEnqueue);
                self.enqueue(req, at);
                self.admit(req, at, cached, transferred)
            }
            State::Queued => self.admit(req, at, cached, transferred),
            State::Evicted => {
                let at = self.not_before(at, req);
                self.sample(Metric::Requeue, 0, req.class(), self.span(at, req.mark));
                // The position of the newest token is not in the cache yet: its own, or the one of
                // its parent that a child was forked behind.
                let is_ahead = (req.last() != 0) as u32;
                let computed = req.prompt.saturating_add(req.tokens()).saturating_sub(is_ahead);
                let held = cached.saturating_add(transferred);
                req.redo = computed.saturating_sub(held);
                if is_ahead == 0 {
                    self.obtain(req, held.saturating_sub(computed), cached)
                }
                req.set_state(State::Resumed);
                self.flow(-1, 1)
            }
            _ => self.invalid(Invalid::Order),
        }
    }

    /// Prompt positions that an eviction before the first token gave back and more: another request
    /// has cached them meanwhile. They are prompt positions for the first time.
    fn obtain(&mut self, req: &mut Request, fresh: u32, cached: u32) {
        req.prompt = req.prompt.saturating_add(fresh);
        if !req.has(flag::CHILD) {
            let from_cache = fresh.min(cached);
            self.out.cells.add(req.class(), cell::PROMPT + 1, from_cache as u64);
            self.out.cells.add(req.class(), cell::PROMPT + 2, (fresh - from_cache) as u64)
        }
    }

    /// sched[1].
    fn admit(&mut self, req: &mut Request, at: u64, cached: u32, transferred: u32) {
        let at = self.not_before(at, req);
        req.first = at;
        req.prompt = cached.saturating_add(transferred);
        if !req.has(flag::CHILD) {
            let class = req.class();
            self.sample(Metric::Queue, 0, class, self.span(at, req.mark));
            self.out.cells.add(class, cell::PROMPT + 1, cached as u64);
            self.out.cells.add(class, cell::PROMPT + 2, transferred as u64)
        }
        req.set_state(State::Scheduled);
        self.flow(-1, 1)
    }

    pub(super) fn prefill(&mut self, req: &mut Request, n: u32) {
        if !req.state().is_running() {
            self.invalid(Invalid::Order)
        }
        let again = req.redo.min(n);
        req.redo -= again;
        self.out.cells.add(req.class(), cell::RECOMPUTED, again as u64);
        if req.last() == 0 {
            let fresh = n - again;
            req.prompt = req.prompt.saturating_add(fresh);
            // The prompt of a request is computed once; a child that computes it does so again.
            let cell = if req.has(flag::CHILD) { cell::RECOMPUTED } else { cell::PROMPT };
            self.out.cells.add(req.class(), cell, fresh as u64)
        }
    }

    pub(super) fn preempt(&mut self, req: &mut Request, at: u64, why: Preempt) {
        if !req.state().is_running() {
            return self.invalid(Invalid::Order);
        }
        let at = self.not_before(at, req);
        if req.state() == State::Resumed {
            // Evicted again before a token: the stall before is closed here.
            self.sample(Metric::Stall, 0, req.class(), self.span(at, req.mark))
        }
        req.mark = at;
        req.evictions = req.evictions.saturating_add(1);
        req.set_state(State::Evicted);
        self.out.cells.add(req.class(), cell::PREEMPTED + why as usize, 1);
        self.flow(1, -1)
    }

    pub(super) fn begin_step(&mut self, at: Time, shape: Shape) -> OpenStep {
        let work = self.take_work();
        let ticket = self.lane.as_mut().map(|lane| lane.begin(at, shape));
        OpenStep { begin: at, shape, work, ticket }
    }

    pub(super) fn end_step(
        &mut self,
        open: &OpenStep,
        at: Time,
        settled: Settled,
        source: StepSource,
    ) {
        let phase = open.shape.phase() as u8;
        let sequences = open.shape.prefills as u64 + open.shape.decodes as u64;
        let levels = &self.out.cells.levels;
        levels.last_step.store(at.0, Ordering::Relaxed);
        levels.batch.store(if self.is_idle() { 0 } else { sequences }, Ordering::Relaxed);
        bump(&levels.steps[source as usize], 1);
        let device = self.device;
        match settled {
            Settled::Done { gpu_ns, idle_before_ns, .. } => {
                self.sample(Metric::StepGpu, phase, device, self.span(gpu_ns, 0));
                if let Some(ns) = idle_before_ns {
                    self.sample(Metric::GpuGap, open.work as u8, device, self.span(ns, 0))
                }
            }
            Settled::Lost => self.sample(Metric::StepHost, phase, 0, self.span(at.0, open.begin.0)),
        }
        self.sample(Metric::Batch, 0, 0, sequences);
        self.out.flush()
    }

    pub(super) fn graph_time(&mut self, phase: u8, ns: u64) {
        self.sample(Metric::GpuGraph, phase, self.device, self.span(ns, 0))
    }

    /// Books the request's time to first token, once.
    pub(super) fn ttft(&mut self, req: &mut Request, at: u64) {
        req.flags |= flag::TTFT;
        if self.role == Role::Prefill {
            return;
        }
        let class = req.class();
        let ns = self.span(at, req.recv);
        // Admission, queue and prefill add up to the TTFT unless a verb was left out.
        let missing = match req.state() {
            State::Arrived => ns,
            State::Queued => self.span(at, req.mark),
            _ => 0,
        };
        self.sample(Metric::Ttft, (missing > 0) as u8, class, ns);
        if missing > 0 {
            self.sample(Metric::TtftResidual, 0, class, missing)
        }
        if ns > self.ttft_ns {
            req.flags |= flag::TTFT_SLOW;
            self.exemplar(Metric::Ttft, req.id, class, ns)
        }
    }

    pub(super) fn emitted(&mut self, stream: &Stream, at: u64) {
        if self.role == Role::Prefill {
            return self.invalid(Invalid::Role);
        }
        if stream.recv == 0 {
            // An empty slot's: nothing ever arrives at 0.
            return self.invalid(Invalid::NotLive);
        }
        let ours = self.owns(stream.scope, stream.class);
        if !ours {
            self.invalid(Invalid::Foreign)
        }
        if at < stream.recv {
            self.invalid(Invalid::TimeBackwards)
        }
        let class = if ours { stream.class } else { 0 };
        self.sample(Metric::TtftUser, 0, class, self.span(at, stream.recv));
        self.out.flush()
    }

    pub(super) fn fork(&mut self, lead: &mut Request) -> Request {
        lead.flags |= flag::FORKED;
        let mut child = Request::empty();
        child.flags = flag::CHILD;
        child.recv = lead.recv;
        child.first = lead.first;
        child.mark = lead.mark;
        child.id = lead.id;
        child.prompt = lead.prompt;
        child.redo = lead.redo;
        child.set_head(Request::pack(lead.class(), lead.scope(), lead.state()));
        child.set_last(lead.last());
        if lead.last() != 0 {
            // Forked late (a beam): its first gap counts from the parent's last emission, and what
            // the parent generated so far is this child's prompt.
            child.first = lead.last();
            child.prompt = child.prompt.saturating_add(lead.tokens())
        }
        if lead.state() != State::Arrived {
            self.add_load(1)
        }
        self.flow_in(lead.state());
        child
    }

    /// Closes what is open of one sequence: queue, requeue, stall, decode, flows. Says the time.
    fn close(&mut self, req: &mut Request, at: u64) -> u64 {
        let at = self.not_before(at, req);
        let class = req.class();
        match req.state() {
            State::Queued if !req.has(flag::CHILD) => {
                self.sample(Metric::Queue, 0, class, self.span(at, req.mark))
            }
            State::Evicted => {
                self.sample(Metric::Requeue, 0, class, self.span(at, req.mark));
                self.sample(Metric::Stall, 0, class, self.span(at, req.mark))
            }
            State::Resumed => self.sample(Metric::Stall, 0, class, self.span(at, req.mark)),
            _ => {}
        }
        if req.last() != 0 {
            self.sample(Metric::Decode, 0, class, self.span(req.last(), req.first))
        }
        self.flow_out(req.state());
        if req.state() != State::Arrived {
            self.add_load(-1)
        }
        at
    }

    pub(super) fn join(
        &mut self,
        lead: &mut Request,
        child: &mut Request,
        at: u64,
        lost: Option<Discard>,
    ) {
        if !child.has(flag::CHILD) || lead.has(flag::CHILD) {
            return self.invalid(Invalid::Child);
        }
        self.close(child, at);
        if let Some(why) = lost {
            let cell = cell::DISCARDED + why as usize;
            self.out.cells.add(child.class(), cell, child.tokens() as u64)
        }
        let gaps = lead.gaps().saturating_add(child.gaps());
        lead.count = (gaps as u64) << 32 | lead.tokens() as u64;
        lead.slow = lead.slow.saturating_add(child.slow);
        lead.evictions = lead.evictions.saturating_add(child.evictions);
        if child.last() != 0 && !lead.has(flag::TTFT) {
            self.ttft(lead, child.first)
        }
        child.set_state(State::Ended)
    }

    pub(super) fn finish(&mut self, req: &mut Request, at: u64, outcome: Outcome) {
        if req.has(flag::CHILD) {
            self.invalid(Invalid::Child);
            self.close(req, at);
            return req.set_state(State::Ended);
        }
        let class = req.class();
        let was_scheduled = req.first != 0;
        let at = self.close(req, at);
        let duration = self.span(at, req.recv);
        if req.last() != 0 {
            self.finish_tokens(req, at, outcome)
        }
        self.sample(Metric::Duration, outcome.status(), class, duration);
        if was_scheduled {
            self.sample(Metric::Preemptions, 0, class, req.evictions as u64)
        }
        self.judge_availability(class, outcome);
        if self.role != Role::Prefill && outcome != Outcome::Handover {
            self.judge_latency(req, outcome, duration)
        }
        if outcome == Outcome::Aborted {
            let cell = cell::DISCARDED + Discard::Aborted as usize;
            self.out.cells.add(class, cell, req.tokens() as u64)
        }
        self.out.cells.end(class, outcome);
        req.set_state(State::Ended)
    }

    /// What only a request that emitted has.
    fn finish_tokens(&mut self, req: &Request, at: u64, outcome: Outcome) {
        let class = req.class();
        let tokens = req.tokens() as u64;
        if matches!(outcome, Outcome::Stop | Outcome::Length) {
            if tokens >= 2 && req.last() > req.first {
                let decode = self.span(req.last(), req.first);
                self.sample(Metric::Tpot, 0, class, decode / (tokens - 1))
            }
            if req.prompt > 0 {
                // An engine that reports no prompt positions has no sample, never 0.
                self.sample(Metric::PromptTokens, 0, class, req.prompt as u64)
            }
            self.sample(Metric::GeneratedTokens, 0, class, tokens)
        }
        if !req.has(flag::FORKED) {
            self.sample(Metric::Emit, 0, class, self.span(at, req.last()))
        }
    }

    /// One event of an objective: a counter, decided once per request.
    fn book(&self, class: u16, objective: usize, good: bool) {
        self.out.cells.add(class, cell::SLO + objective * 2 + good as usize, 1)
    }

    fn judge_availability(&self, class: u16, outcome: Outcome) {
        match outcome {
            Outcome::Stop | Outcome::Length => self.book(class, AVAILABILITY, true),
            Outcome::Failed(e) | Outcome::Rejected(e) if e != ErrorType::Input => {
                self.book(class, AVAILABILITY, false)
            }
            _ => {}
        }
    }

    /// The TTFT and TBT objectives, and requests that never had a first token.
    fn judge_latency(&self, req: &Request, outcome: Outcome, duration: u64) {
        let class = req.class();
        if req.has(flag::TTFT) {
            self.book(class, TTFT, !req.has(flag::TTFT_SLOW))
        } else {
            let why = match outcome {
                Outcome::Aborted => 0,
                Outcome::Failed(_) => 1,
                Outcome::Rejected(_) => 2,
                _ => 3,
            };
            self.out.cells.add(class, cell::NO_FIRST + why, 1);
            if duration > self.ttft_ns {
                // It left before its first token and had waited too long: else the worst cases
                // would vanish from the objective.
                self.book(class, TTFT, false)
            }
        }
        let gaps = req.gaps() as u64;
        if gaps > 0 {
            self.book(class, TBT, req.slow as u64 * SLOW_GAPS_ONE_IN <= gaps)
        }
    }
}
