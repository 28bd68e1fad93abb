//! Arbitrary verb sequences, misuse and full rings included: recorder and oracle must agree.
//!
//! Three recorders of two scopes share the requests. After each operation three rules hold: what was
//! accepted has ended, is in flight or was dropped (rule 3); no counter falls (rule 6); what was said
//! is stored or counted as lost (rule 15); and all levels are exact. At the end every sample, counter
//! and reason is the oracle's. `STEPSCOPE_CASES` sets the number of cases (1,000).

use super::harness::{Exemplar, FakeLane, MS, RingTotals, SERIES_MAX, Scope, step_at};
use super::log::HOUR;
use super::oracle::{Begun, By, Open, Oracle, StreamLog};
use super::verbs::{Life, Stamped, Verb, life, role, verb};
use crate::catalog::labels;
use crate::record::cells::{POOLS_MAX, PRIORITIES_MAX, cell};
use crate::record::event::Metric;
use crate::record::request::{Pool, Priority, State};
use crate::record::step::{OpenStep, Settled, StepSource};
use crate::record::words::{Preempt, Role};
use crate::record::{Origin, Recorder, Request, Stream, Time};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::collections::{BTreeSet, VecDeque};

type Checked = Result<(), TestCaseError>;

/// Which scope each recorder belongs to.
const SCOPE_OF: [usize; 3] = [0, 0, 1];
/// The recorder with a lane.
const WITH_LANE: usize = 0;
/// The recorder of the other scope.
const STRANGER: usize = 2;
/// Big enough for everything one case says.
const ROOMY: usize = 1 << 14;
const START: u64 = 1_000 * MS;

fn speaker(recorder: usize) -> By {
    By { recorder, scope: SCOPE_OF[recorder] }
}

/// A request and its number in the oracle.
struct Slot {
    req: Request,
    number: usize,
}

/// The recorders and the oracle, told the same.
struct World {
    // Above the scopes: a request that is dropped with them is still counted under a tag of theirs.
    slots: Vec<Slot>,
    streams: Vec<(Stream, StreamLog)>,
    steps: [VecDeque<(OpenStep, Begun)>; 3],
    recorders: [Recorder; 3],
    lane: FakeLane,
    scopes: [Scope; 2],
    oracle: Oracle,
    now: u64,
    drains: bool,
    /// Every counter as it was after the operation before.
    seen: Vec<u64>,
}

impl World {
    fn new(roles: [Role; 2], ring_events: usize, drains: bool) -> World {
        let mut scopes = roles.map(Scope::new);
        let mut recorders = SCOPE_OF.map(|scope| scopes[scope].recorder(ring_events));
        let lane = FakeLane::default();
        recorders[WITH_LANE].set_lane(lane.clone());
        World {
            slots: vec![],
            streams: vec![],
            steps: Default::default(),
            recorders,
            lane,
            scopes,
            oracle: Oracle::new(&SCOPE_OF, &roles),
            now: START,
            drains,
            seen: vec![],
        }
    }

    fn run(&mut self, ops: Vec<(usize, Verb)>) -> Checked {
        for (recorder, verb) in ops {
            self.tell(recorder, verb)?;
            self.check_rules()?
        }
        self.abandon_all();
        self.scopes.iter_mut().for_each(Scope::drain);
        self.check_cells()
    }

    /// Who speaks of these requests.
    ///
    /// A sequence that decodes is told to its own scope only: a foreign one whose stamp equals one of
    /// ours passes unnoticed in a batch, which has a test of its own.
    fn speaker_of(&self, recorder: usize, slots: &[usize]) -> By {
        let decodes = |slot: &usize| {
            self.oracle.sequences[self.slots[*slot].number].state() == State::Decoding
        };
        speaker(if slots.iter().any(decodes) { recorder % STRANGER } else { recorder })
    }

    fn add(&mut self, req: Request, number: usize) {
        self.slots.push(Slot { req, number })
    }

    fn arrive(&mut self, recorder: usize, index: u16) {
        let by = speaker(recorder);
        let (scope, class) = if index == 0 { (1 - by.scope, 1) } else { (by.scope, index) };
        let id = self.oracle.sequences.len() as u64;
        let series = self.scopes[scope].series(class);
        let req = self.recorders[by.recorder].arrive(series, id, Time(self.now));
        let number = self.oracle.arrive(by, (scope, class), id, self.now);
        self.streams.push((req.stream(), self.oracle.stream(number)));
        self.add(req, number)
    }

    fn arrive_from(&mut self, recorder: usize, slot: usize, shares_clock: bool) -> Checked {
        let by = speaker(recorder);
        let (rec, now) = (&mut self.recorders[by.recorder], self.now);
        let Slot { req, number } = &self.slots[slot];
        let (recv_ns, clock) = self.oracle.origin(by, *number, now);
        let elapsed_ns = now.saturating_sub(recv_ns);
        let mut from = rec.origin(req, Time(now));
        prop_assert_eq!(from, Origin { recv_ns, elapsed_ns, clock, reserved: 0 });
        if !shares_clock {
            from.clock += 1
        }
        let id = self.oracle.sequences.len() as u64;
        let series = self.scopes[by.scope].series(1);
        let req = rec.arrive_from(series, id, from, Time(now));
        let recv = self.oracle.recv(by, from, now);
        let number = self.oracle.arrive(by, (by.scope, 1), id, recv);
        self.add(req, number);
        Ok(())
    }

    fn tell(&mut self, recorder: usize, verb: Verb) -> Checked {
        match verb {
            Verb::Arrive(index) => self.arrive(recorder, index),
            Verb::Empty => {
                let number = self.oracle.free();
                self.streams.push((Request::empty().stream(), self.oracle.stream(number)));
                self.add(Request::empty(), number)
            }
            Verb::Advance(by) => self.now += by,
            Verb::Back(by) => self.now = self.now.saturating_sub(by).max(START),
            Verb::Drain if self.drains => self.scopes.iter_mut().for_each(Scope::drain),
            Verb::Drain => {}
            Verb::Emitted(i) if !self.streams.is_empty() => {
                let by = speaker(recorder);
                let i = i % self.streams.len();
                let (stream, log) = &mut self.streams[i];
                self.recorders[by.recorder].emitted(stream, Time(self.now));
                self.oracle.emitted(by, log, self.now)
            }
            Verb::Queue(why, priority, n) => {
                self.recorders[recorder].queue(why, Priority(priority), n);
                self.oracle.queue(speaker(recorder), why, priority, n)
            }
            Verb::Kv(pool, blocks, slots) => {
                let [referenced, cached, usable] = blocks;
                self.recorders[recorder].kv(Pool(pool), referenced, cached, usable, slots);
                self.oracle.kv(speaker(recorder), pool, blocks, slots)
            }
            Verb::Begin(shape, launch) => {
                let by = speaker(recorder);
                let rec = &mut self.recorders[recorder];
                let mut open = rec.begin_step(Time(self.now), shape);
                if let Some(launch) = launch {
                    rec.launched(&mut open, launch)
                }
                let begun = self.oracle.begin_step(by, self.now, shape);
                self.steps[recorder].push_back((open, begun))
            }
            Verb::Abandon => {
                if let Some((open, _)) = self.steps[recorder].pop_back() {
                    self.recorders[recorder].abandon(open)
                }
            }
            Verb::End(stamped, accepted) => self.end_step(recorder, stamped, &accepted)?,
            _ if self.slots.is_empty() => {}
            of_request => self.tell_of_request(recorder, of_request)?,
        }
        Ok(())
    }

    fn tell_of_request(&mut self, recorder: usize, verb: Verb) -> Checked {
        let now = self.now;
        let count = self.slots.len();
        let one = |i: usize| i % count;
        match verb {
            Verb::ArriveFrom(i, shares_clock) => {
                self.arrive_from(recorder, one(i), shares_clock)?
            }
            Verb::Enqueue(i) => {
                let (by, rec, slot, oracle) = self.of(recorder, one(i));
                rec.enqueue(&mut slot.req, Time(now));
                oracle.enqueue(by, slot.number, now)
            }
            Verb::Schedule(i, sources) => {
                let (by, rec, slot, oracle) = self.of(recorder, one(i));
                rec.schedule(&mut slot.req, Time(now), sources[0], sources[1]);
                oracle.schedule(by, slot.number, now, sources)
            }
            Verb::Next(i) => {
                let number = self.slots[one(i)].number;
                match self.oracle.sequences[number].state() {
                    State::Arrived => self.tell_of_request(recorder, Verb::Enqueue(i))?,
                    State::Queued | State::Evicted => {
                        self.tell_of_request(recorder, Verb::Schedule(i, [1, 0]))?
                    }
                    _ => {}
                }
            }
            Verb::Prefill(i, n) => {
                let (by, rec, slot, oracle) = self.of(recorder, one(i));
                rec.prefill(&mut slot.req, n);
                oracle.prefill(by, slot.number, n)
            }
            Verb::Token(i, accepted) => {
                let (by, rec, slot, oracle) = self.of(recorder % STRANGER, one(i));
                rec.token(&step_at(now), &mut slot.req, accepted);
                oracle.token(by, slot.number, now, accepted)
            }
            Verb::Preempt(i, why) => {
                let (by, rec, slot, oracle) = self.of(recorder, one(i));
                rec.preempt(&mut slot.req, Time(now), why);
                oracle.preempt(by, slot.number, now, why)
            }
            Verb::Finish(i, outcome) => {
                let (by, rec, slot, oracle) = self.of(recorder, one(i));
                rec.finish_in_place(&mut slot.req, Time(now), outcome);
                oracle.finish(by, slot.number, now, outcome)
            }
            Verb::Fork(i) => {
                let (by, rec, slot, oracle) = self.of(recorder, one(i));
                let child = rec.fork(&mut slot.req);
                let number = oracle.fork(by, slot.number);
                self.add(child, number)
            }
            Verb::FirstFrom(i, j) if one(i) != one(j) => {
                let by = self.speaker_of(recorder, &[one(i), one(j)]);
                let [lead, child] = self.slots.get_disjoint_mut([one(i), one(j)]).unwrap();
                self.recorders[by.recorder].first_from(&mut lead.req, &child.req);
                self.oracle.first_from(by, lead.number, child.number)
            }
            Verb::Join(i, j, lost) if one(i) != one(j) => {
                let by = self.speaker_of(recorder, &[one(i), one(j)]);
                let [lead, child] = self.slots.get_disjoint_mut([one(i), one(j)]).unwrap();
                let rec = &mut self.recorders[by.recorder];
                rec.join_in_place(&mut lead.req, &mut child.req, Time(now), lost);
                self.oracle.join(by, lead.number, child.number, now, lost)
            }
            Verb::Drop(i) => {
                let slot = self.slots.swap_remove(one(i));
                drop(slot.req);
                self.oracle.dropped(slot.number)
            }
            Verb::Discard(i, why, n) => {
                let (by, rec, slot, oracle) = self.of(recorder, one(i));
                rec.discard(&slot.req, why, n);
                oracle.discard(by, slot.number, why, n)
            }
            Verb::Spec(i, drafted, accepted) => {
                let (by, rec, slot, oracle) = self.of(recorder, one(i));
                rec.spec(&slot.req, drafted, accepted);
                oracle.spec(by, slot.number, drafted, accepted)
            }
            _ => {}
        }
        Ok(())
    }

    /// One request with whoever speaks of it.
    fn of(&mut self, recorder: usize, slot: usize) -> (By, &mut Recorder, &mut Slot, &mut Oracle) {
        let by = self.speaker_of(recorder, &[slot]);
        (by, &mut self.recorders[by.recorder], &mut self.slots[slot], &mut self.oracle)
    }

    fn end_step(&mut self, recorder: usize, stamped: Stamped, accepted: &[u32]) -> Checked {
        let Some((open, begun)) = self.steps[recorder].pop_front() else { return Ok(()) };
        let by = speaker(recorder);
        let settled = match stamped {
            Stamped::Done { ago, gpu_ns, idle } if recorder == WITH_LANE => {
                Settled::Done { end: Time(self.now - ago), gpu_ns, idle_before_ns: idle }
            }
            _ => Settled::Lost,
        };
        self.lane.settle_as(settled);
        let step = self.recorders[recorder].end_step(open, Time(self.now));
        let at = self.oracle.end_step(by, begun, self.now, settled);
        prop_assert_eq!(step.time(), Time(at));
        if recorder == STRANGER {
            // See `speaker_of`: nothing decodes there, so nothing is in its batches.
            return Ok(());
        }
        let batch = self.slots.iter_mut().map(|slot| &mut slot.req);
        self.recorders[recorder].tokens(&step, batch.zip(accepted.iter().copied().cycle()));
        for (slot, accepted) in self.slots.iter().zip(accepted.iter().cycle()) {
            self.oracle.token(by, slot.number, at, *accepted)
        }
        Ok(())
    }

    fn abandon_all(&mut self) {
        for (steps, rec) in self.steps.iter_mut().zip(&mut self.recorders) {
            steps.drain(..).for_each(|(open, _)| rec.abandon(open))
        }
    }

    /// What holds at all times.
    fn check_rules(&mut self) -> Checked {
        let mut counters = vec![];
        for (i, scope) in self.scopes.iter().enumerate() {
            let expected = &self.oracle.expected[i];
            let open = Open {
                in_flight: scope.in_flight(),
                waiting: scope.waiting(),
                running: scope.running(),
            };
            prop_assert_eq!(open, self.oracle.open(i), "rule 3 and the flows");
            prop_assert_eq!(scope.dropped()[0], expected.dropped);
            let ring = scope.ring();
            let RingTotals { stored_events, stored_samples, dropped_events, dropped_samples } =
                ring;
            prop_assert_eq!(stored_events, scope.drained_events + scope.pending_events());
            prop_assert_eq!(stored_samples + dropped_samples, expected.said, "rule 15");
            let batch = self.oracle.level(i, |hands| hands.batch);
            prop_assert_eq!(scope.level(|cells| &cells.levels.batch), batch, "rule 7");
            for class in 0..SERIES_MAX {
                counters.extend((0..cell::USED).map(|cell| scope.cell(class, cell)))
            }
            counters.extend(scope.invalids());
            counters.extend([stored_samples, dropped_events, dropped_samples])
        }
        let fell = self.seen.iter().zip(&counters).position(|(before, now)| now < before);
        prop_assert_eq!(fell, None, "rule 6: no counter falls");
        self.seen = counters;
        Ok(())
    }

    /// Counters and levels are exact whatever the rings lost.
    fn check_cells(&self) -> Checked {
        for (i, scope) in self.scopes.iter().enumerate() {
            let expected = &self.oracle.expected[i];
            for (class, cell) in pairs(SERIES_MAX.into(), cell::USED) {
                let class = class as u16;
                let (is, want) = (scope.cell(class, cell), expected.cell(class, cell));
                prop_assert_eq!(is, want, "class {} cell {}", class, cell);
            }
            prop_assert_eq!(scope.invalids(), expected.invalid);
            let sources = [StepSource::Gpu, StepSource::Host, StepSource::Simulated];
            prop_assert_eq!(sources.map(|source| scope.steps(source)), expected.steps);
            let last_step = self.oracle.level(i, |hands| hands.last_step);
            prop_assert_eq!(scope.level(|cells| &cells.levels.last_step), last_step);
            for (why, priority) in pairs(labels::WAIT.len(), PRIORITIES_MAX) {
                let waits = self.oracle.level(i, |hands| hands.queue[why][priority]);
                prop_assert_eq!(scope.level(|cells| &cells.levels.queue[why][priority]), waits);
            }
            for (pool, word) in pairs(POOLS_MAX, 2) {
                let blocks = self.oracle.level(i, |hands| hands.kv[pool][word]);
                prop_assert_eq!(scope.level(|cells| &cells.levels.kv[pool][word]), blocks);
            }
        }
        prop_assert_eq!(self.lane.marks().len(), 0, "every ticket comes back once");
        Ok(())
    }

    /// Every gap, as rule 1 adds them up: from first to last emission, whatever lies between.
    fn check_rule_1(&self) -> Checked {
        let sequences = &self.oracle.sequences;
        let gaps = self.scopes[0].samples.iter().filter(|((metric, ..), _)| *metric == Metric::Gap);
        let inter_token: u64 = gaps
            .map(|((_, accepted, _), values)| *accepted as u64 * values.values().sum::<u64>())
            .sum();
        prop_assert_eq!(inter_token, sequences.iter().map(|s| s.tokens_after_gaps()).sum::<u64>());
        if sequences.iter().flat_map(|s| s.gaps()).all(|gap| gap <= HOUR) {
            let decode: u64 = sequences.iter().filter_map(|s| s.decode()).sum();
            prop_assert_eq!(self.scopes[0].total(Metric::Gap).1, decode);
        }
        Ok(())
    }
}

fn pairs(firsts: usize, seconds: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..firsts).flat_map(move |first| (0..seconds).map(move |second| (first, second)))
}

fn kinds(exemplars: impl Iterator<Item = Exemplar>) -> BTreeSet<(u8, u16, u32)> {
    exemplars.map(|e| (e.metric, e.class, e.us)).collect()
}

/// A recorder and what it is told, many times.
fn ops() -> impl Strategy<Value = Vec<(usize, Verb)>> {
    let recorder = prop_oneof![6 => Just(WITH_LANE), 3 => Just(1usize), 2 => Just(STRANGER)];
    prop::collection::vec((recorder, verb()), 1..200)
}

fn config() -> ProptestConfig {
    let told = std::env::var("STEPSCOPE_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = told.unwrap_or(if cfg!(miri) { 2 } else { 1_000 });
    let beside_the_source = FileFailurePersistence::WithSource("proptest-regressions");
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(beside_the_source)),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_definition_agrees_with_a_full_log(ops in ops(), roles in [role(), role()]) {
        let mut world = World::new(roles, ROOMY, true);
        world.run(ops)?;
        world.check_rule_1()?;
        for (scope, expected) in world.scopes.iter().zip(&world.oracle.expected) {
            prop_assert_eq!(scope.ring().dropped_events, 0);
            prop_assert_eq!(&scope.samples, &expected.samples);
            // Equal slow gaps of a batch share one exemplar, so each kind is there and each is true.
            let named = scope.exemplars.iter().copied();
            prop_assert!(named.clone().all(|exemplar| expected.slow.contains(&exemplar)));
            prop_assert_eq!(kinds(named), kinds(expected.slow.iter().copied()));
        }
    }

    #[test]
    fn a_full_ring_loses_samples_and_counts_them_and_no_counter(
        ops in ops(),
        ring_events in 1usize..24,
    ) {
        let mut world = World::new([Role::Both; 2], ring_events, false);
        world.run(ops)?;
        for (scope, expected) in world.scopes.iter().zip(&world.oracle.expected) {
            let dropped = scope.ring().dropped_samples;
            prop_assert_eq!(scope.drained_samples + dropped, expected.said);
            for (key, values) in &scope.samples {
                for (value, weight) in values {
                    let said = expected.samples.get(key).and_then(|values| values.get(value));
                    prop_assert!(said >= Some(weight), "what is kept is true: {:?}", key);
                }
            }
            prop_assert!(scope.exemplars.iter().all(|kept| expected.slow.contains(kept)));
        }
    }

    /// Rule 2: to the nanosecond, whatever is evicted on the way.
    #[test]
    fn the_parts_of_a_request_add_up_to_its_duration(
        lives in prop::collection::vec(life(), 1..6),
    ) {
        let mut scope = Scope::new(Role::Both);
        let mut rec = scope.recorder(ROOMY);
        let mut now = START;
        let mut evictions = 0;
        for Life { admission, queue, turns, emit, outcome } in lives {
            let mut req = rec.arrive(scope.series(1), 1, Time(now));
            now += admission;
            rec.enqueue(&mut req, Time(now));
            now += queue;
            rec.schedule(&mut req, Time(now), 0, 0);
            for turn in turns {
                if turn.evicted {
                    evictions += 1;
                    rec.preempt(&mut req, Time(now), Preempt::Memory);
                    rec.schedule(&mut req, Time(now + 1), 0, 0)
                }
                now += turn.after;
                rec.tokens(&step_at(now), [(&mut req, turn.accepted)])
            }
            now += emit;
            rec.finish(req, Time(now), outcome)
        }
        scope.drain();
        let sum = |metric| scope.total(metric).1;
        let parts =
            [Metric::Admission, Metric::Queue, Metric::Prefill, Metric::Decode, Metric::Emit];
        prop_assert_eq!(parts.map(sum).iter().sum::<u64>(), sum(Metric::Duration));
        prop_assert_eq!(scope.count(Metric::TtftResidual), 0, "the TTFT has no other part");
        prop_assert_eq!(scope.total(Metric::Requeue), (evictions, evictions));
        prop_assert_eq!(scope.count(Metric::Stall), evictions);
        prop_assert_eq!(scope.invalids().iter().sum::<u64>(), 0);
    }
}
