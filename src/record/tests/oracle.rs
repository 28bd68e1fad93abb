//! The oracle: what each verb writes into the logs, what it counts, and what it calls misuse.

use super::expected::{Expected, place};
use super::harness::{CLOCK, DEVICE, Exemplar, TBT_OBJECTIVE, TTFT_OBJECTIVE};
use super::log::{Entry, HOUR, Sequence, What, is_running};
use crate::catalog::labels;
use crate::record::cells::{POOLS_MAX, PRIORITIES_MAX, cell};
use crate::record::event::Metric;
use crate::record::request::State;
use crate::record::step::{Settled, Shape, StepSource};
use crate::record::time::Origin;
use crate::record::words::{Discard, ErrorType, Invalid, Outcome, Preempt, Role, Wait};

/// Most tokens one emission is recorded with.
const ACCEPTED_MAX: u32 = 255;

/// Who speaks: a recorder and its scope, both by number.
#[derive(Clone, Copy, Debug)]
pub(super) struct By {
    pub(super) recorder: usize,
    pub(super) scope: usize,
}

/// What is in one recorder's hands, and the levels it was told.
#[derive(Default)]
pub(super) struct Hands {
    scope: usize,
    /// Sequences queued or running.
    load: i64,
    /// What `load` was when the last step began, and whatever it was since.
    loads: Vec<i64>,
    pub(super) batch: u64,
    pub(super) last_step: u64,
    /// By reason and priority.
    pub(super) queue: [[u64; PRIORITIES_MAX]; labels::WAIT.len()],
    /// By pool: referenced and cached blocks, usable ones and token slots.
    pub(super) kv: [[u64; 2]; POOLS_MAX],
}

/// A step under way.
pub(super) struct Begun {
    at: u64,
    shape: Shape,
    had_work: bool,
}

/// What the thread that writes to the client has.
pub(super) struct StreamLog {
    recv: u64,
    owner: Option<(usize, u16)>,
    done: bool,
}

/// Requests in flight, sequences waiting, sequences running.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Open {
    pub(super) in_flight: i64,
    pub(super) waiting: i64,
    pub(super) running: i64,
}

pub(super) struct Oracle {
    pub(super) sequences: Vec<Sequence>,
    pub(super) expected: Vec<Expected>,
    hands: Vec<Hands>,
}

impl Oracle {
    /// With one recorder for each of these scopes, which have these roles.
    pub(super) fn new(scope_of: &[usize], roles: &[Role]) -> Oracle {
        // Before its first step a recorder had nothing to do.
        let idle = |scope: &usize| Hands { scope: *scope, loads: vec![0], ..Hands::default() };
        Oracle {
            sequences: vec![],
            expected: roles.iter().map(|role| Expected::new(*role)).collect(),
            hands: scope_of.iter().map(idle).collect(),
        }
    }

    /// What a scope has open, from the logs.
    pub(super) fn open(&self, scope: usize) -> Open {
        let mut open = Open::default();
        for sequence in &self.sequences {
            for state in sequence.open_in(scope) {
                open.in_flight += !sequence.is_child() as i64;
                open.running += is_running(state) as i64;
                open.waiting += !is_running(state) as i64
            }
        }
        open
    }

    /// A level of a scope: the sum over its recorders.
    pub(super) fn level(&self, scope: usize, of: impl Fn(&Hands) -> u64) -> u64 {
        self.hands.iter().filter(|hands| hands.scope == scope).map(of).sum()
    }

    fn sequence(&self, number: usize) -> &Sequence {
        &self.sequences[number]
    }

    fn said_by(&mut self, by: By) -> &mut Expected {
        &mut self.expected[by.scope]
    }

    fn invalid(&mut self, by: By, why: Invalid) {
        self.said_by(by).invalid(why)
    }

    /// What a hand-over says: the arrival and its clock. An empty slot has neither.
    pub(super) fn origin(&mut self, by: By, number: usize, now: u64) -> (u64, u32) {
        match self.sequence(number).recv() {
            0 => {
                self.invalid(by, Invalid::NotLive);
                (now, 0)
            }
            recv => (recv, CLOCK),
        }
    }

    /// The class of a live sequence of the speaker's scope.
    fn class(&self, number: usize) -> u16 {
        self.sequence(number).owner().map_or(0, |(_, class)| class)
    }

    fn add(&mut self, by: By, number: usize, cell: usize, n: u64) {
        let class = self.class(number);
        self.said_by(by).add(class, cell, n)
    }

    fn hold(&mut self, by: By, change: i64) {
        let hands = &mut self.hands[by.recorder];
        // What was enqueued through another recorder was never counted here.
        hands.load = (hands.load + change).max(0);
        hands.loads.push(hands.load);
        if hands.load == 0 {
            hands.batch = 0
        }
    }

    fn write(&mut self, by: By, number: usize, at: u64, what: What) {
        let class = self.class(number);
        self.write_as(by, number, class, at, what)
    }

    /// Says the facts that the entry closes, then writes it.
    fn write_as(&mut self, by: By, number: usize, class: u16, at: u64, what: What) {
        let expected = &mut self.expected[by.scope];
        let sequence = &mut self.sequences[number];
        for fact in sequence.closes(at, what, expected.role) {
            expected.interval(fact.metric, fact.variant, class, fact.value);
            let ns = fact.value.min(HOUR);
            let is_slow = match fact.metric {
                Metric::Gap => ns > TBT_OBJECTIVE,
                Metric::Ttft => ns > TTFT_OBJECTIVE,
                _ => false,
            };
            if is_slow {
                let (metric, us) = (fact.metric as u8, (ns / 1_000) as u32);
                expected.slow.insert(Exemplar { metric, class, id: sequence.id, us });
            }
            if fact.metric == Metric::Gap && ns == 0 {
                expected.invalid(Invalid::ZeroGap)
            }
        }
        sequence.log.push(Entry { at, what, scope: by.scope, class })
    }

    /// The time of a verb: never before what the sequence already saw.
    fn raised(&mut self, by: By, number: usize, at: u64) -> u64 {
        let latest = self.sequence(number).latest();
        if at < latest {
            self.invalid(by, Invalid::TimeBackwards)
        }
        at.max(latest)
    }

    /// Counts a verb on a sequence that is not live.
    fn is_live(&mut self, by: By, number: usize) -> bool {
        match self.sequence(number).state() {
            State::Free => self.invalid(by, Invalid::NotLive),
            State::Ended => self.invalid(by, Invalid::AlreadyEnded),
            _ => return true,
        }
        false
    }

    /// The same, and adopts a sequence of another scope: accepted here, under `other`.
    fn live(&mut self, by: By, number: usize) -> bool {
        let live = self.is_live(by, number);
        if live && self.is_foreign(by, number) {
            self.invalid(by, Invalid::Foreign);
            self.write_as(by, number, 0, 0, What::Adopted);
            if !self.sequence(number).is_child() {
                self.add(by, number, cell::ACCEPTED, 1)
            }
            if self.sequence(number).state() != State::Arrived {
                self.hold(by, 1)
            }
        }
        live
    }

    fn is_foreign(&self, by: By, number: usize) -> bool {
        self.sequence(number).owner().is_some_and(|(scope, _)| scope != by.scope)
    }

    fn new_sequence(&mut self, sequence: Sequence) -> usize {
        self.sequences.push(sequence);
        self.sequences.len() - 1
    }

    /// A slot that nothing ever arrived in.
    pub(super) fn free(&mut self) -> usize {
        self.new_sequence(Sequence::default())
    }

    /// `series` = the scope it was made for, and its class.
    pub(super) fn arrive(&mut self, by: By, series: (usize, u16), id: u64, at: u64) -> usize {
        let ours = series.0 == by.scope;
        if !ours {
            self.invalid(by, Invalid::Foreign)
        }
        let class = if ours { series.1 } else { 0 };
        let number = self.new_sequence(Sequence { id, log: vec![] });
        self.write_as(by, number, class, at.max(1), What::Arrived);
        self.add(by, number, cell::ACCEPTED, 1);
        number
    }

    /// Another process's request: when it really arrived, as far as its origin tells.
    pub(super) fn recv(&mut self, by: By, from: Origin, at: u64) -> u64 {
        let recv = if from.clock == CLOCK {
            from.recv_ns
        } else {
            self.invalid(by, Invalid::ForeignClock);
            at.saturating_sub(from.elapsed_ns)
        };
        if recv > at {
            self.invalid(by, Invalid::TimeBackwards)
        }
        let elapsed = self.said_by(by).clamp(at.saturating_sub(recv));
        at - elapsed
    }

    pub(super) fn enqueue(&mut self, by: By, number: usize, at: u64) {
        if self.live(by, number) {
            self.enqueue_live(by, number, at)
        }
    }

    fn enqueue_live(&mut self, by: By, number: usize, at: u64) {
        if self.sequence(number).state() != State::Arrived {
            return self.invalid(by, Invalid::Order);
        }
        let at = self.raised(by, number, at);
        self.write(by, number, at, What::Enqueued);
        self.hold(by, 1)
    }

    pub(super) fn schedule(&mut self, by: By, number: usize, at: u64, sources: [u32; 2]) {
        if !self.live(by, number) {
            return;
        }
        let [cached, transferred] = sources;
        let obtained = cached.saturating_add(transferred);
        if self.sequence(number).state() == State::Arrived {
            self.invalid(by, Invalid::NoEnqueue);
            self.enqueue_live(by, number, at)
        }
        match self.sequence(number).state() {
            State::Queued => {
                let at = self.raised(by, number, at);
                self.write(by, number, at, What::Scheduled(obtained));
                if !self.sequence(number).is_child() {
                    self.add(by, number, cell::PROMPT + 1, cached as u64);
                    self.add(by, number, cell::PROMPT + 2, transferred as u64)
                }
            }
            State::Evicted => {
                let at = self.raised(by, number, at);
                self.write(by, number, at, What::Resumed(obtained));
                let fresh = self.sequence(number).positions().fresh;
                if !self.sequence(number).is_child() {
                    self.add(by, number, cell::PROMPT + 1, fresh.min(cached) as u64);
                    self.add(by, number, cell::PROMPT + 2, fresh.saturating_sub(cached) as u64)
                }
            }
            _ => self.invalid(by, Invalid::Order),
        }
    }

    pub(super) fn prefill(&mut self, by: By, number: usize, n: u32) {
        if !self.live(by, number) {
            return;
        }
        if !is_running(self.sequence(number).state()) {
            self.invalid(by, Invalid::Order)
        }
        self.write(by, number, 0, What::Computed(n));
        let positions = self.sequence(number).positions();
        // The prompt of a request is computed once; a child that computes it does so again.
        let is_child = self.sequence(number).is_child();
        let cell = if is_child { cell::RECOMPUTED } else { cell::PROMPT };
        self.add(by, number, cell, positions.fresh as u64);
        self.add(by, number, cell::RECOMPUTED, positions.again as u64)
    }

    pub(super) fn token(&mut self, by: By, number: usize, at: u64, accepted: u32) {
        if accepted == 0 || !self.live(by, number) {
            return;
        }
        if accepted > ACCEPTED_MAX {
            self.invalid(by, Invalid::AbsurdCount)
        }
        let accepted = accepted.min(ACCEPTED_MAX);
        match self.sequence(number).state() {
            State::Arrived => {
                self.invalid(by, Invalid::NoSchedule);
                self.hold(by, 1)
            }
            State::Queued => self.invalid(by, Invalid::NoSchedule),
            State::Evicted => self.invalid(by, Invalid::WhileWaiting),
            _ => {}
        }
        let at = self.raised(by, number, at);
        self.write(by, number, at, What::Emitted(accepted));
        self.add(by, number, cell::GENERATED, accepted as u64)
    }

    pub(super) fn preempt(&mut self, by: By, number: usize, at: u64, why: Preempt) {
        if !self.live(by, number) {
            return;
        }
        if !is_running(self.sequence(number).state()) {
            return self.invalid(by, Invalid::Order);
        }
        let at = self.raised(by, number, at);
        self.write(by, number, at, What::Evicted);
        self.add(by, number, cell::PREEMPTED + why as usize, 1)
    }

    fn end(&mut self, by: By, number: usize, at: u64) -> u64 {
        let at = self.raised(by, number, at);
        if self.sequence(number).state() != State::Arrived {
            self.hold(by, -1)
        }
        self.write(by, number, at, What::Ended);
        at
    }

    pub(super) fn finish(&mut self, by: By, number: usize, at: u64, outcome: Outcome) {
        if !self.live(by, number) {
            return;
        }
        if self.sequence(number).is_child() {
            self.invalid(by, Invalid::Child);
            self.end(by, number, at);
            return;
        }
        let at = self.end(by, number, at);
        let class = self.class(number);
        self.say_request(by, number, class, at, outcome);
        if outcome == Outcome::Aborted {
            let tokens = self.sequence(number).tokens();
            self.add(by, number, cell::DISCARDED + Discard::Aborted as usize, tokens as u64)
        }
        self.add(by, number, cell::ENDED + outcome.cell(), 1);
        match outcome {
            Outcome::Stop | Outcome::Length => self.said_by(by).judge(class, "availability", true),
            Outcome::Aborted | Outcome::Handover => {}
            Outcome::Failed(ErrorType::Input) | Outcome::Rejected(ErrorType::Input) => {}
            Outcome::Failed(_) | Outcome::Rejected(_) => {
                self.said_by(by).judge(class, "availability", false)
            }
        }
        if self.said_by(by).role != Role::Prefill && outcome != Outcome::Handover {
            self.judge_latency(by, number, class, at, outcome)
        }
    }

    /// What is said once per request, at its end.
    fn say_request(&mut self, by: By, number: usize, class: u16, at: u64, outcome: Outcome) {
        let sequence = &self.sequences[number];
        let evictions: u64 = self.family(sequence).map(Sequence::evictions).sum();
        let tokens = sequence.tokens() as u64;
        let prompt = sequence.positions().prompt as u64;
        let expected = &mut self.expected[by.scope];
        expected.interval(Metric::Duration, outcome.status(), class, at - sequence.recv());
        if sequence.was_scheduled() {
            expected.sample(Metric::Preemptions, 0, class, evictions)
        }
        let Some(last) = sequence.emissions().last().copied() else { return };
        if !sequence.is_forked() {
            expected.interval(Metric::Emit, 0, class, at - last)
        }
        if !matches!(outcome, Outcome::Stop | Outcome::Length) {
            return;
        }
        let decode = sequence.decode().filter(|ns| *ns > 0 && tokens >= 2);
        if let Some(decode) = decode {
            let mean = expected.clamp(decode) / (tokens - 1);
            expected.sample(Metric::Tpot, 0, class, mean)
        }
        if prompt > 0 {
            expected.sample(Metric::PromptTokens, 0, class, prompt)
        }
        expected.sample(Metric::GeneratedTokens, 0, class, tokens)
    }

    /// A request's sequences: itself and the children that were joined.
    fn family<'a>(&'a self, lead: &'a Sequence) -> impl Iterator<Item = &'a Sequence> {
        std::iter::once(lead).chain(lead.children().map(|child| self.sequence(child)))
    }

    fn judge_latency(&mut self, by: By, number: usize, class: u16, at: u64, outcome: Outcome) {
        let sequence = self.sequence(number);
        let waited = at - sequence.recv();
        let ttft = sequence.first_token().map(|first| {
            // A prefill worker saw it and judged nothing.
            let judged = self.expected[first.scope].role != Role::Prefill;
            if judged { first.at - sequence.recv() } else { 0 }
        });
        let gaps: Vec<u64> = self.family(sequence).flat_map(Sequence::gaps).collect();
        let slow = gaps.iter().filter(|gap| **gap > TBT_OBJECTIVE).count();
        let expected = self.said_by(by);
        match ttft {
            Some(ttft) => expected.judge(class, "ttft", ttft <= TTFT_OBJECTIVE),
            None => {
                let why = match outcome {
                    Outcome::Aborted => "aborted",
                    Outcome::Failed(_) => "failed",
                    Outcome::Rejected(_) => "rejected",
                    _ => "empty",
                };
                expected.add(class, cell::NO_FIRST + place(labels::NO_FIRST, why), 1);
                if waited > TTFT_OBJECTIVE {
                    expected.judge(class, "ttft", false)
                }
            }
        }
        if !gaps.is_empty() {
            expected.judge(class, "tbt", slow * 100 <= gaps.len())
        }
    }

    pub(super) fn fork(&mut self, by: By, number: usize) -> usize {
        if !self.live(by, number) {
            return self.free();
        }
        self.write(by, number, 0, What::Forked);
        let child = self.new_sequence(self.sequence(number).clone());
        self.write(by, child, 0, What::Born);
        if self.sequence(child).state() != State::Arrived {
            self.hold(by, 1)
        }
        child
    }

    pub(super) fn first_from(&mut self, by: By, lead: usize, child: usize) {
        if self.live(by, lead) && !self.sequence(lead).is_child() {
            self.name_first(by, lead, child)
        }
    }

    /// A child's first token is its request's, unless that one had an earlier one.
    fn name_first(&mut self, by: By, lead: usize, child: usize) {
        let sequence = self.sequence(child);
        if sequence.is_child()
            && let Some(first) = sequence.emissions().first()
        {
            // Another request's child may have spoken before this one arrived.
            let first = (*first).max(self.sequence(lead).recv());
            self.write(by, lead, first, What::FirstFromChild)
        }
    }

    pub(super) fn join(
        &mut self,
        by: By,
        lead: usize,
        child: usize,
        at: u64,
        lost: Option<Discard>,
    ) {
        // Each may be misuse of its own, whatever the other is.
        if !(self.live(by, lead) & self.live(by, child)) {
            return;
        }
        if self.sequence(lead).is_child() || !self.sequence(child).is_child() {
            return self.invalid(by, Invalid::Child);
        }
        self.end(by, child, at);
        if let Some(why) = lost {
            let tokens = self.sequence(child).tokens();
            self.add(by, child, cell::DISCARDED + why as usize, tokens as u64)
        }
        self.name_first(by, lead, child);
        self.write(by, lead, 0, What::Joined(child))
    }

    pub(super) fn dropped(&mut self, number: usize) {
        let sequence = &mut self.sequences[number];
        let Some((scope, class)) = sequence.owner() else { return };
        if sequence.state() != State::Ended {
            self.expected[scope].dropped += !sequence.is_child() as u64;
            sequence.log.push(Entry { at: 0, what: What::Dropped, scope, class })
        }
    }

    pub(super) fn stream(&self, number: usize) -> StreamLog {
        let sequence = self.sequence(number);
        StreamLog { recv: sequence.recv(), owner: sequence.owner(), done: false }
    }

    pub(super) fn emitted(&mut self, by: By, stream: &mut StreamLog, at: u64) {
        if std::mem::replace(&mut stream.done, true) {
            return;
        }
        let expected = self.said_by(by);
        if expected.role == Role::Prefill {
            return expected.invalid(Invalid::Role);
        }
        let Some((scope, class)) = stream.owner else {
            return expected.invalid(Invalid::NotLive);
        };
        if scope != by.scope {
            expected.invalid(Invalid::Foreign)
        }
        if at < stream.recv {
            expected.invalid(Invalid::TimeBackwards)
        }
        let class = if scope == by.scope { class } else { 0 };
        expected.interval(Metric::TtftUser, 0, class, at.saturating_sub(stream.recv))
    }

    /// The class that a verb which only looks at a sequence counts under.
    fn looked_at(&mut self, by: By, number: usize) -> Option<u16> {
        if !self.is_live(by, number) {
            return None;
        }
        if self.is_foreign(by, number) {
            self.invalid(by, Invalid::Foreign);
            return Some(0);
        }
        Some(self.class(number))
    }

    pub(super) fn discard(&mut self, by: By, number: usize, why: Discard, n: u32) {
        if let Some(class) = self.looked_at(by, number) {
            self.said_by(by).add(class, cell::DISCARDED + why as usize, n as u64)
        }
    }

    pub(super) fn spec(&mut self, by: By, number: usize, drafted: u32, accepted: u32) {
        let Some(class) = self.looked_at(by, number) else { return };
        let accepted = accepted.min(drafted);
        let expected = self.said_by(by);
        expected.add(class, cell::DRAFTED, drafted as u64);
        expected.add(class, cell::DRAFT_ACCEPTED, accepted as u64);
        let lost = (drafted - accepted) as u64;
        expected.add(class, cell::DISCARDED + Discard::Draft as usize, lost)
    }

    pub(super) fn queue(&mut self, by: By, why: Wait, priority: u8, n: u32) {
        self.hands[by.recorder].queue[why as usize][priority as usize] = n as u64
    }

    /// `blocks` = referenced, cached, usable.
    pub(super) fn kv(&mut self, by: By, pool: u8, blocks: [u32; 3], slots: u32) {
        let [told, cached, usable] = blocks;
        let referenced = told.min(usable);
        let pair = |high: u32, low: u32| (high as u64) << 32 | low as u64;
        let words = [pair(referenced, cached), pair(usable, slots)];
        self.hands[by.recorder].kv[pool as usize] = words;
        let expected = self.said_by(by);
        if usable == 0 || told > usable {
            expected.invalid(Invalid::AbsurdCount)
        }
        if usable > 0 {
            expected.sample(Metric::KvUsage, pool, DEVICE, pair(referenced, usable))
        }
    }

    pub(super) fn begin_step(&mut self, by: By, at: u64, shape: Shape) -> Begun {
        let hands = &mut self.hands[by.recorder];
        let had_work = hands.loads.iter().all(|load| *load > 0);
        hands.loads = vec![hands.load];
        Begun { at, shape, had_work }
    }

    /// Says the step's time.
    pub(super) fn end_step(&mut self, by: By, begun: Begun, at: u64, settled: Settled) -> u64 {
        let Shape { prefills, decodes, .. } = begun.shape;
        let phase = match (prefills, decodes) {
            (0, _) => "decode",
            (_, 0) => "prefill",
            _ => "mixed",
        };
        let phase = place(labels::PHASE, phase) as u8;
        let sequences = prefills as u64 + decodes as u64;
        let hands = &mut self.hands[by.recorder];
        hands.last_step = at;
        hands.batch = if hands.load > 0 { sequences } else { 0 };
        let expected = self.said_by(by);
        expected.sample(Metric::Batch, 0, 0, sequences);
        match settled {
            Settled::Done { end, gpu_ns, idle_before_ns } => {
                expected.steps[StepSource::Gpu as usize] += 1;
                expected.interval(Metric::StepGpu, phase, DEVICE, gpu_ns);
                if let Some(idle) = idle_before_ns {
                    expected.interval(Metric::GpuGap, begun.had_work as u8, DEVICE, idle)
                }
                end.0
            }
            Settled::Lost => {
                expected.steps[StepSource::Host as usize] += 1;
                let ns = at.saturating_sub(begun.at);
                expected.interval(Metric::StepHost, phase, 0, ns);
                at
            }
        }
    }
}
