//! An engine loop on one lane: graph and eager steps, three in flight, each compared with the truth that
//! its own work kernel wrote down.

use crate::engine::{Engine, Event, Graph, Stream, Words};
use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use stepscope::gpu::{
    Gpu, Lane, LaneCounts, Lost, Point, Resolution, StepInfo, StepTicket, StepTime,
};

/// Runs of the work kernel that are remembered; far more than are in flight.
const RING: u64 = 1_024;
const IN_FLIGHT: usize = 3;
/// Begin, mark A and end: what a replay that nobody announced leaves unclaimed.
pub const STAMPS_OF_A_REPLAY: u64 = 3;

/// The low 48 bits, which is what a stamp holds of the timer.
pub const TIME_MASK: u64 = (1 << 48) - 1;

/// `to - from` of two 48-bit times.
pub fn time_between(from: u64, to: u64) -> i64 {
    ((to.wrapping_sub(from) << 16) as i64) >> 16
}

pub fn info() -> StepInfo {
    StepInfo { requests: 1, tokens: 1, ..StepInfo::default() }
}

/// What came of the steps.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    pub steps: u64,
    pub done: u64,
    /// Times that are not the step's own.
    pub wrong: u64,
    /// Settled behind the own event's wait, and still not there.
    pub pending: u64,
    pub lost: u64,
    pub first_lost: Option<Lost>,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.done += other.done;
        self.wrong += other.wrong;
        self.pending += other.pending;
        self.lost += other.lost;
        self.first_lost = self.first_lost.or(other.first_lost)
    }
}

/// A step in flight: its ticket, which run of the work kernel it was, which the lane's step before it
/// was, and the engine's event behind it.
struct Flying {
    ticket: StepTicket,
    run: u64,
    step_before: Option<u64>,
    event: Event,
}

/// What a step says of itself and what is known of it, in 48-bit GPU times.
#[derive(Clone, Copy)]
struct Evidence {
    begin: u64,
    end: u64,
    idle_before: Option<u64>,
    /// From when until when its work ran.
    ran: (u64, u64),
    /// Until when the work before it on its stream ran, whosever it was.
    ran_before: Option<u64>,
    /// Until when the work of the lane's step before it ran.
    step_ran_before: Option<u64>,
    /// End stamp of an earlier step.
    earlier_end: Option<u64>,
}

impl Evidence {
    /// The stamps enclose the step's own work and none of its neighbours'. Two readings of the timer
    /// may differ by `slack` ns.
    fn is_consistent(&self, slack: i64) -> bool {
        let in_order = |from, to| time_between(from, to) >= -slack;
        let idle = match (self.idle_before, self.step_ran_before) {
            (Some(idle), Some(until)) => idle as i64 <= time_between(until, self.ran.0) + slack,
            _ => true,
        };
        in_order(self.begin, self.ran.0)
            && in_order(self.ran.1, self.end)
            && self.ran_before.is_none_or(|until| in_order(until, self.begin))
            && self.earlier_end.is_none_or(|end| in_order(end, self.ran.0))
            && idle
    }
}

pub struct StepLoop<'a> {
    engine: &'a Engine,
    gpu: &'a Gpu,
    pub lane: Lane,
    pub stream: Stream,
    graph: Graph,
    truth: Words,
    counter: u64,
    length_ns: u64,
    /// Two readings of the timer may differ by its resolution.
    slack_ns: i64,
    runs: u64,
    /// Run of the newest step.
    newest: Option<u64>,
    flying: VecDeque<Flying>,
    events: Vec<Event>,
    /// End stamp of the step that was settled last.
    last_end: Option<u64>,
    pub tally: Tally,
}

impl<'a> StepLoop<'a> {
    /// On a stream and a lane of its own; the work of a step takes `length_ns`.
    pub fn new(engine: &'a Engine, gpu: &'a Gpu, length_ns: u64) -> Result<StepLoop<'a>> {
        let stream = engine.stream()?;
        let lane = gpu.lane(stream.raw())?;
        let mut steps = StepLoop {
            engine,
            gpu,
            lane,
            stream,
            graph: Graph(0),
            truth: engine.words(2 * RING as usize)?,
            counter: engine.device_memory(8)?,
            length_ns,
            slack_ns: gpu.clock().resolution_ns as i64,
            runs: 0,
            newest: None,
            flying: VecDeque::new(),
            events: (0..IN_FLIGHT).map(|_| engine.event()).collect::<Result<_, _>>()?,
            last_end: None,
            tally: Tally::default(),
        };
        engine.begin_capture(stream, crate::engine::Mode::ThreadLocal)?;
        steps.lane.capture(stream.raw(), Point::Begin)?;
        steps.launch_work()?;
        steps.lane.capture(stream.raw(), Point::MarkA)?;
        steps.lane.capture(stream.raw(), Point::End)?;
        steps.graph = engine.end_capture(stream)?;
        Ok(steps)
    }

    fn launch_work(&self) -> Result<()> {
        let words = [self.truth.device, self.counter, RING - 1, self.length_ns];
        Ok(self.engine.launch(self.engine.truth, [1, 1], self.stream, words)?)
    }

    /// A replay that no step was begun for.
    pub fn replay_unannounced(&mut self) -> Result<()> {
        self.engine.replay(self.graph, self.stream)?;
        self.runs += 1;
        Ok(())
    }

    /// One step, every seventh launched eagerly; settles the oldest if three are in flight.
    pub fn step(&mut self) -> Result<()> {
        let event = match self.events.pop() {
            Some(event) => event,
            None => self.settle_oldest()?.context("an event is in flight or spare")?,
        };
        let mut ticket = self.lane.begin(info());
        if self.tally.steps % 7 == 3 {
            self.launch_work()?;
            self.lane.end(&mut ticket)
        } else {
            self.engine.replay(self.graph, self.stream)?;
            self.lane.end_in_graph(&mut ticket)
        }
        self.engine.record(event, self.stream)?;
        self.tally.steps += 1;
        let step_before = self.newest.replace(self.runs);
        self.flying.push_back(Flying { ticket, run: self.runs, step_before, event });
        self.runs += 1;
        Ok(())
    }

    /// One step that has run and is not settled.
    pub fn held(&mut self) -> Result<StepTicket> {
        self.finish()?;
        let mut ticket = self.lane.begin(info());
        self.engine.replay(self.graph, self.stream)?;
        self.lane.end_in_graph(&mut ticket);
        self.newest = Some(self.runs);
        self.runs += 1;
        self.engine.synchronize(self.stream)?;
        Ok(ticket)
    }

    /// Settles what is in flight.
    pub fn finish(&mut self) -> Result<()> {
        while let Some(event) = self.settle_oldest()? {
            self.events.push(event)
        }
        Ok(())
    }

    fn settle_oldest(&mut self) -> Result<Option<Event>> {
        let Some(flying) = self.flying.pop_front() else { return Ok(None) };
        let Flying { ticket, run, step_before, event } = flying;
        self.engine.wait(event)?;
        match self.gpu.settle(ticket) {
            Resolution::Done(time) => {
                self.tally.done += 1;
                let evidence = self.evidence(&time, run, step_before);
                self.tally.wrong += u64::from(!evidence.is_consistent(self.slack_ns));
                self.last_end = Some(evidence.end)
            }
            Resolution::Pending => self.tally.pending += 1,
            Resolution::Lost(why) => {
                self.tally.lost += 1;
                self.tally.first_lost.get_or_insert(why);
            }
        }
        Ok(Some(event))
    }

    /// When the work kernel ran, by its own word.
    fn ran(&self, run: u64) -> (u64, u64) {
        let word = |at: u64| self.truth.host[at as usize].load(Ordering::Acquire) & TIME_MASK;
        let at = 2 * (run % RING);
        (word(at), word(at + 1))
    }

    fn evidence(&self, time: &StepTime, run: u64, step_before: Option<u64>) -> Evidence {
        Evidence {
            begin: time.gpu_begin,
            end: (time.gpu_begin + time.gpu_ns) & TIME_MASK,
            idle_before: time.idle_before_ns,
            ran: self.ran(run),
            ran_before: run.checked_sub(1).map(|before| self.ran(before).1),
            step_ran_before: step_before.map(|before| self.ran(before).1),
            earlier_end: self.last_end,
        }
    }

    /// The lane's own books.
    pub fn counts(&self) -> LaneCounts {
        self.gpu.counts(self.lane.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_another_steps_is_found() {
        // Steps of 3 us of work, one every 5 us, stamped 200 ns outside of their work.
        let step = |begin: u64, at: u64| Evidence {
            begin: begin & TIME_MASK,
            end: (begin + 3_400) & TIME_MASK,
            idle_before: Some(1_600),
            ran: ((at + 200) & TIME_MASK, (at + 3_200) & TIME_MASK),
            ran_before: Some((at - 1_800) & TIME_MASK),
            step_ran_before: Some((at - 1_800) & TIME_MASK),
            earlier_end: Some((at - 1_600) & TIME_MASK),
        };
        for at in [1_000_000, TIME_MASK + 1, TIME_MASK - 1_000] {
            assert!(step(at, at).is_consistent(32));
            assert!(!step(at + 5_000, at).is_consistent(32), "the next step's");
            assert!(!step(at - 5_000, at).is_consistent(32), "the step's before");
            let idle = Evidence { idle_before: Some(6_600), ..step(at, at) };
            assert!(!idle.is_consistent(32), "idle for longer than between the works");
            let late = Evidence { earlier_end: Some((at + 400) & TIME_MASK), ..step(at, at) };
            assert!(!late.is_consistent(32), "the step before would end inside it");
        }
    }

    #[test]
    fn times_are_told_apart_across_the_wrap() {
        assert_eq!(time_between(TIME_MASK - 9, 10), 20);
        assert_eq!(time_between(10, TIME_MASK - 9), -20);
    }
}
