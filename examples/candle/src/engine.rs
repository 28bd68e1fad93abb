//! The serving loop. Requests share steps, and each fact of their lives is told to stepscope where it
//! happens:
//!
//! ```text
//!  a pass of the loop             verbs
//!  take in what has come          arrive · enqueue · finish(Rejected)
//!  let go of who hung up          finish(Aborted)
//!  admit while there is room      schedule
//!  say how full it is             queue · kv
//!  step: plan                     prefill per chunk of a prompt
//!                                 begin_step   ─┐
//!        forward per sequence                   │ candle launches; on a CPU it computes
//!                                 launched      │ behind the last launch
//!        sample per sequence                    │ waits for the logits
//!                                 end_step     ─┘ tokens · finish(Stop | Length)
//! ```
//!
//! Candle's quantized llama computes one sequence at a time, so a step here is one forward pass per
//! sequence, one after the other. Where a real batch would be one launch, nothing else changes.

use crate::model::{Model, Sequence};
use crate::traffic::{Arrival, Urgency};
use anyhow::Result;
use candle_core::Tensor;
use std::collections::VecDeque;
use std::time::Duration;
use stepscope::{
    Class, ErrorType, Launch, OpenStep, Outcome, Pool, Priority, Recorder, Request, Series, Shape,
    Step, StepSource, Stepscope, Time, Wait,
};

/// Positions that one KV block holds.
///
/// Candle keeps each sequence's cache in tensors of its own. The blocks are this engine's account of
/// them: what it admits by, and what it tells stepscope.
pub const BLOCK_TOKENS: u32 = 16;

/// How much the engine takes on.
pub struct Limits {
    /// Sequences that run at a time.
    pub slots: usize,
    /// Prompt positions of one step.
    pub chunk: usize,
    /// KV blocks of all sequences together.
    pub kv_blocks: u32,
}

/// What became of one request.
pub struct Answer {
    /// Its place in the script.
    pub id: u64,
    /// What was asked.
    pub arrival: &'static Arrival,
    /// How it ended.
    pub outcome: Outcome,
    /// Tokens generated, the end token included.
    pub tokens: usize,
    /// What was generated.
    pub text: String,
}

/// The engine's own books, to be held against what stepscope says.
#[derive(Default)]
pub struct Served {
    /// In the order in which they ended.
    pub answers: Vec<Answer>,
    /// Prompt positions computed.
    pub prompt_tokens: u64,
    /// Steps timed by the GPU's stamps, and by the host's clock.
    pub steps: [u64; 2],
    /// From the start to the end of the last request.
    pub seconds: f64,
}

struct Waiting {
    request: Request,
    id: u64,
    arrival: &'static Arrival,
    prompt: Vec<u32>,
}

struct Running {
    request: Request,
    id: u64,
    arrival: &'static Arrival,
    sequence: Sequence,
    /// KV blocks at its longest; held back from its admission on, so that nobody is ever preempted.
    blocks_max: u32,
}

/// One engine thread.
pub struct Engine<'a> {
    model: &'a Model,
    scope: &'a Stepscope,
    recorder: Recorder,
    limits: Limits,
    priorities: [(Urgency, Priority); 2],
    coming: VecDeque<(u64, Series, &'static Arrival)>,
    waiting: Vec<Waiting>,
    running: Vec<Running>,
    started: Time,
    served: Served,
}

impl<'a> Engine<'a> {
    /// An engine that has not started.
    pub fn new(model: &'a Model, scope: &'a Stepscope, recorder: Recorder, limits: Limits) -> Self {
        Engine {
            model,
            scope,
            recorder,
            limits,
            // Interned before there is traffic, as the classes are: it takes a lock.
            priorities: Urgency::ALL.map(|urgency| (urgency, scope.priority(urgency.name()))),
            coming: VecDeque::new(),
            waiting: Vec::new(),
            running: Vec::new(),
            started: Time::now(),
            served: Served::default(),
        }
    }

    /// Serves the whole script, each request from the time on at which it is sent.
    pub fn serve(mut self, script: &'static [Arrival]) -> Result<Served> {
        for (id, arrival) in (1..).zip(script) {
            let class = Class::endpoint(arrival.endpoint).priority(arrival.urgency.name());
            self.coming.push_back((id, self.scope.series(class), arrival))
        }
        self.started = Time::now();
        let result = self.run();
        if result.is_err() {
            self.give_up()
        }
        self.served.seconds = Time::now().seconds_since(self.started);
        result.map(|()| self.served)
    }

    fn run(&mut self) -> Result<()> {
        loop {
            self.take_in()?;
            let now = Time::now(); // one clock read per pass ...
            self.let_go(now)?;
            self.admit(now);
            self.tell_levels();
            if !self.running.is_empty() {
                self.step(now)?;
            } else if let Some((_, _, next)) = self.coming.front() {
                let idle = self.started.after(next.at).nanos_since(now);
                std::thread::sleep(Duration::from_nanos(idle))
            } else {
                return Ok(());
            }
        }
    }

    /// A request arrives when its client sends it, also if a step keeps this thread busy just then.
    fn take_in(&mut self) -> Result<()> {
        while let Some((id, series, arrival)) = self.next_due() {
            let at = self.started.after(arrival.at);
            let mut request = self.recorder.arrive(series, id, at);
            let prompt = self.model.encode(arrival.question)?;
            let length = prompt.len() + arrival.answer_max;
            let fits =
                length <= self.model.context_length() && blocks(length) <= self.limits.kv_blocks;
            let now = Time::now(); // ... but tokenizing takes its own time
            if fits {
                self.recorder.enqueue(&mut request, now);
                self.waiting.push(Waiting { request, id, arrival, prompt })
            } else {
                let outcome = Outcome::Rejected(ErrorType::Input);
                self.recorder.finish(request, now, outcome);
                self.note(id, arrival, outcome, &[])?
            }
        }
        // Stable: who came first stays first among equals.
        self.waiting.sort_by_key(|waiting| waiting.arrival.urgency);
        Ok(())
    }

    fn next_due(&mut self) -> Option<(u64, Series, &'static Arrival)> {
        let passed = Duration::from_nanos(Time::now().nanos_since(self.started));
        self.coming.front().filter(|(_, _, arrival)| arrival.at <= passed)?;
        self.coming.pop_front()
    }

    /// Clients that went away: their sequences free their blocks at once.
    fn let_go(&mut self, now: Time) -> Result<()> {
        let gone = |running: &mut Running| {
            let seen = running.sequence.generated().len();
            running.arrival.hangs_up_after.is_some_and(|enough| seen >= enough)
        };
        for left in self.running.extract_if(.., gone).collect::<Vec<_>>() {
            self.end(left, now, Outcome::Aborted)?
        }
        Ok(())
    }

    /// From the queue into the running set, in order, as long as slots and blocks last.
    fn admit(&mut self, now: Time) {
        let mut free = self.limits.kv_blocks;
        free -= self.running.iter().map(|running| running.blocks_max).sum::<u32>();
        while let Some(first) = self.waiting.first()
            && self.running.len() < self.limits.slots
        {
            let blocks_max = blocks(first.prompt.len() + first.arrival.answer_max);
            if blocks_max > free {
                break;
            }
            free -= blocks_max;
            let Waiting { mut request, id, arrival, prompt } = self.waiting.remove(0);
            self.recorder.schedule(&mut request, now, 0, 0); // nothing from a prefix cache
            let sequence = self.model.sequence(prompt, id);
            self.running.push(Running { request, id, arrival, sequence, blocks_max })
        }
    }

    /// How many wait and how full the KV cache is: once per pass, so also when the last one has gone.
    fn tell_levels(&mut self) {
        for (urgency, priority) in self.priorities {
            let waiting = self.waiting.iter().filter(|w| w.arrival.urgency == urgency).count();
            self.recorder.queue(Wait::Capacity, priority, waiting as u32)
        }
        let held = self.running.iter().map(|running| running.sequence.positions());
        let (referenced, slots) =
            held.fold((0, 0), |(all, slots), n| (all + blocks(n), slots + n as u32));
        self.recorder.kv(Pool::KV, referenced, 0, self.limits.kv_blocks, slots)
    }

    fn step(&mut self, now: Time) -> Result<()> {
        let (shape, plan) = self.plan();
        let mut open = self.recorder.begin_step(now, shape);
        let sampled = match self.compute(&plan, &mut open) {
            Ok(sampled) => sampled,
            Err(error) => {
                self.recorder.abandon(open); // it did not run, so it leaves no sample
                return Err(error);
            }
        };
        let done = Time::now(); // ... and one per step end
        let step = self.recorder.end_step(open, done);
        self.served.prompt_tokens += u64::from(shape.prefill_tokens);
        self.served.steps[usize::from(step.source() != StepSource::Gpu)] += 1;
        self.hand_out(&step, done, sampled)
    }

    /// What each sequence computes in this step: one token if it generates, else as much of its prompt
    /// as the step has room for.
    fn plan(&mut self) -> (Shape, Vec<usize>) {
        let mut shape = Shape::default();
        let mut room = self.limits.chunk;
        let mut plan = Vec::with_capacity(self.running.len());
        for running in &mut self.running {
            let mut n = 1;
            if !running.sequence.is_prefill() {
                shape.decodes += 1
            } else {
                n = running.sequence.pending().min(room);
                room -= n;
                shape.prefills += u32::from(n > 0);
                shape.prefill_tokens += n as u32;
                self.recorder.prefill(&mut running.request, n as u32)
            }
            plan.push(n)
        }
        (shape, plan)
    }

    /// The model's part of a step: everything is launched, the end is marked, the logits are awaited.
    fn compute(&mut self, plan: &[usize], open: &mut OpenStep) -> Result<Vec<Option<u32>>> {
        let planned = self.running.iter_mut().zip(plan);
        let launched = planned.map(|(running, &n)| match n {
            0 => Ok(None),
            n => running.sequence.forward(n),
        });
        let logits = launched.collect::<Result<Vec<Option<Tensor>>>>()?;
        self.recorder.launched(open, Launch::Stamp);
        let awaited = self.running.iter_mut().zip(logits);
        awaited
            .map(|(running, logits)| logits.map(|l| running.sequence.sample(&l)).transpose())
            .collect()
    }

    /// The step's tokens go to their sequences, and who is done ends.
    fn hand_out(&mut self, step: &Step, done: Time, sampled: Vec<Option<u32>>) -> Result<()> {
        let batch = self.running.iter_mut().zip(&sampled);
        // 0 for a chunk that ended before its prompt did.
        let batch =
            batch.map(|(running, token)| (&mut running.request, u32::from(token.is_some())));
        self.recorder.tokens(step, batch);

        let running = std::mem::take(&mut self.running);
        for (mut running, token) in running.into_iter().zip(sampled) {
            match token.and_then(|token| running.take(token, self.model)) {
                Some(outcome) => self.end(running, done, outcome)?,
                None => self.running.push(running),
            }
        }
        Ok(())
    }

    fn end(&mut self, ended: Running, now: Time, outcome: Outcome) -> Result<()> {
        self.recorder.finish(ended.request, now, outcome);
        self.note(ended.id, ended.arrival, outcome, ended.sequence.generated())
    }

    fn note(
        &mut self,
        id: u64,
        arrival: &'static Arrival,
        outcome: Outcome,
        generated: &[u32],
    ) -> Result<()> {
        let text = self.model.decode(generated)?;
        let tokens = generated.len();
        self.served.answers.push(Answer { id, arrival, outcome, tokens, text });
        Ok(())
    }

    /// The model failed: whoever is still here gets no answer.
    fn give_up(&mut self) {
        self.scope.mark_failed();
        let running = self.running.drain(..).map(|running| running.request);
        let waiting = self.waiting.drain(..).map(|waiting| waiting.request);
        let now = Time::now();
        for request in running.chain(waiting) {
            self.recorder.finish(request, now, Outcome::Failed(ErrorType::Internal))
        }
    }
}

impl Running {
    /// A token was sampled for it; says how the request ended, if it did.
    fn take(&mut self, token: u32, model: &Model) -> Option<Outcome> {
        self.sequence.push(token);
        if model.is_end(token) {
            Some(Outcome::Stop)
        } else if self.sequence.generated().len() >= self.arrival.answer_max {
            Some(Outcome::Length)
        } else {
            None
        }
    }
}

/// Blocks that hold so many positions.
fn blocks(positions: usize) -> u32 {
    positions.div_ceil(BLOCK_TOKENS as usize) as u32
}
