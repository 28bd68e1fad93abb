//! Batches that several benches measure, so that times and instruction counts speak of the same code.
//!
//! A case is a batch of decoding sequences that all emit in every step. What varies is how much of
//! the batch is alike, because that is what the cost of `tokens` follows.

use stepscope::{
    Class, Clock, Config, ManualClock, Recorder, RecorderOptions, Request, Shape, Step, Stepscope,
    Time,
};

/// Time between two steps of a case.
pub(crate) const STEP_NS: u64 = 10_000_000;
/// Holds the worst case (one event per token) of a whole measuring round.
pub const RING_EVENTS: usize = 16_384;

/// One kind of batch.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Name in tables and files.
    pub name: &'static str,
    /// Sequences in the batch.
    pub batch: usize,
    /// Of a million sequences so many have a gap of their own in each step.
    pub odd_ppm: u64,
    /// Request classes, mixed at random.
    pub classes: usize,
    /// Accepted tokens per emission, 1 to this, at random.
    pub accepted_max: u32,
}

/// A batch of the given size with nothing odd about it.
pub const fn equal(name: &'static str, batch: usize) -> Case {
    Case { name, batch, odd_ppm: 0, classes: 1, accepted_max: 1 }
}

/// A batch in which so many of a million gaps differ.
pub const fn odd(name: &'static str, batch: usize, odd_ppm: u64) -> Case {
    Case { odd_ppm, ..equal(name, batch) }
}

/// Every batch the project states a figure for.
pub const CASES: &[Case] = &[
    equal("equal_1", 1),
    equal("equal_8", 8),
    equal("equal_64", 64),
    equal("equal_256", 256),
    odd("1_percent_odd_64", 64, 10_000),
    odd("1_percent_odd_256", 256, 10_000),
    odd("10_percent_odd_8", 8, 100_000),
    odd("10_percent_odd_64", 64, 100_000),
    odd("10_percent_odd_256", 256, 100_000),
    odd("all_different_8", 8, 1_000_000),
    odd("all_different_64", 64, 1_000_000),
    odd("all_different_256", 256, 1_000_000),
    Case { classes: 6, ..equal("6_classes_256", 256) },
    Case { classes: 6, ..odd("6_classes_all_different_256", 256, 1_000_000) },
    Case { accepted_max: 4, ..equal("accepted_1_to_4_256", 256) },
    Case { classes: 6, accepted_max: 4, ..equal("6_classes_accepted_1_to_4_256", 256) },
];

/// A small generator with a fixed seed: every run measures the same batch.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A value per sequence, for so many steps.
fn per_step<T>(steps: usize, batch: usize, mut value: impl FnMut(usize) -> T) -> Vec<Vec<T>> {
    (0..steps).map(|_| (0..batch).map(&mut value).collect()).collect()
}

/// A scope nobody scrapes, on a clock that only `drain` moves.
pub fn quiet_scope() -> Stepscope {
    let clock = Clock::Manual(ManualClock::new(Time::from_nanos(1)));
    let config = Config { listen: None, clock, ..Config::default() };
    Stepscope::start(config).expect("the defaults start")
}

/// A recorder whose ring holds a whole round.
pub fn recorder(scope: &Stepscope) -> Recorder {
    scope.recorder_with(RecorderOptions::new("bench").ring_events(RING_EVENTS))
}

/// A case, ready to step.
pub struct Bench {
    scope: Stepscope,
    rec: Recorder,
    reqs: Vec<Request>,
    accepted: Vec<Vec<u32>>,
    shifts: Vec<Vec<u64>>,
    now: u64,
    steps: usize,
}

impl Bench {
    /// Every sequence has its first token and decodes.
    pub fn new(case: Case) -> Bench {
        let scope = quiet_scope();
        let classes: Vec<_> =
            (0..case.classes).map(|i| scope.series(Class::endpoint(format!("e{i}")))).collect();
        let mut rec = recorder(&scope);
        let mut rng = Rng(0x9E37_79B9_7F4A_7C15);
        let at = Time::from_nanos(1_000);
        let open = rec.begin_step(at, Shape::default());
        let step = rec.end_step(open, Time::from_nanos(2_000));
        let reqs = (0..case.batch)
            .map(|id| {
                let class = classes[rng.next() as usize % classes.len()];
                let mut req = rec.arrive(class, id as u64, at);
                rec.enqueue(&mut req, at);
                rec.schedule(&mut req, at, 0, 0);
                rec.token(&step, &mut req, 1);
                req
            })
            .collect();
        let max = u64::from(case.accepted_max);
        // What is alike takes no memory that would push the requests out of the cache.
        let accepted_steps = if case.accepted_max > 1 { 16 } else { 1 };
        let accepted = per_step(accepted_steps, case.batch, |_| 1 + (rng.next() % max) as u32);
        let shift_steps = if case.odd_ppm > 0 { 64 } else { 0 };
        let shifts = per_step(shift_steps, case.batch, |i| {
            let is_odd = rng.next() % 1_000_000 < case.odd_ppm;
            if is_odd { 1 + i as u64 * 977 } else { 0 }
        });
        Bench { shifts, accepted, scope, rec, reqs, now: 2_000_000, steps: 0 }
    }

    /// The next step comes; some sequences' last emission moves, which is what makes gaps odd.
    pub fn prepare(&mut self) -> Step {
        self.steps += 1;
        self.now += STEP_NS;
        let shifts = self.shifts.get(self.steps % 64).into_iter().flatten();
        for (req, shift) in self.reqs.iter_mut().zip(shifts) {
            if *shift != 0 {
                req.bench_shift(*shift)
            }
        }
        Step::bench_at(Time::from_nanos(self.now))
    }

    /// What is measured: one call of `tokens` for the whole batch.
    #[inline(never)]
    pub fn tokens(&mut self, step: &Step) {
        let accepted = &self.accepted[self.steps % self.accepted.len()];
        self.rec.tokens(step, self.reqs.iter_mut().zip(accepted.iter().copied()))
    }

    /// In place of `tokens`: leaves the batch as if it had emitted.
    pub fn skip(&mut self) {
        for req in &mut self.reqs {
            req.bench_reset(self.now)
        }
    }

    /// The same, one call a sequence.
    #[inline(never)]
    pub fn token_by_token(&mut self, step: &Step) {
        let accepted = &self.accepted[self.steps % self.accepted.len()];
        for (req, accepted) in self.reqs.iter_mut().zip(accepted) {
            self.rec.token(step, req, *accepted)
        }
    }

    /// Empties the ring, outside of what is measured.
    pub fn drain(&mut self) {
        self.scope.advance(Time::from_nanos(self.now))
    }

    /// Samples that were drained so far, or wait.
    pub fn samples(&self) -> u64 {
        self.scope.snapshot().sum(stepscope::catalog::Id::RingSamples, |_| true) as u64
    }

    /// Fails if the ring was ever full: then the case measured something else.
    pub fn check_nothing_lost(&self) {
        let lost = self.scope.snapshot().sum(stepscope::catalog::Id::RingDropped, |_| true);
        assert_eq!(lost, 0.0, "the ring was full: the bench measured the wrong thing")
    }
}
