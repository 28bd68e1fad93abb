//! The GPU's clock: CLOCK_MONOTONIC seen through a rate error, jumps and a coarse resolution.
//!
//! Between two turns of a knob the GPU's time is a straight line over the host's. Each turn starts a new [`Line`]; a
//! change of rate starts where the old line was at that moment, a jump starts elsewhere. The lines are kept, so the
//! host time of an older GPU time stays known exactly.

use std::sync::RwLock;

use rustix::time::{ClockId, clock_gettime};

use crate::lock::{read, write};

/// Where the GPU's clock starts: its real counterpart counts from a moment decades ago too.
const START_NS: i128 = 1_790_000_000_000_000_000;

/// What an H200 has been seen to do.
const DEFAULT_STEP_NS: i64 = 32;

/// From `from_host` on, the GPU's time is `from_gpu + (host - from_host) * (1 + ppm / 1e6)`.
#[derive(Clone, Copy, Debug)]
struct Line {
    from_host: i128,
    from_gpu: i128,
    ppm: i64,
}

const MILLION: i128 = 1_000_000;

impl Line {
    fn gpu_at(&self, host: i128) -> i128 {
        let elapsed = host - self.from_host;
        self.from_gpu + elapsed + (elapsed * i128::from(self.ppm)).div_euclid(MILLION)
    }

    /// The first host nanosecond at which the GPU's clock, before rounding to a step, is at least `gpu`.
    fn host_at(&self, gpu: i128) -> i128 {
        let rate = MILLION + i128::from(self.ppm);
        let elapsed = ((gpu - self.from_gpu) * MILLION).div_euclid(rate);
        let mut host = self.from_host + elapsed - 2;
        while self.gpu_at(host) < gpu {
            host += 1;
        }
        host
    }
}

#[derive(Debug)]
struct State {
    /// Oldest first, all after [`START`].
    lines: Vec<Line>,
    ppm: i64,
    slew_ppm: i64,
    jump_ns: i64,
    step_ns: i64,
}

/// The GPU's clock. Any thread may read and turn it.
#[derive(Debug)]
pub struct Clock(RwLock<State>);

impl Clock {
    /// Runs at the host's rate.
    pub const fn new() -> Clock {
        Clock(RwLock::new(State {
            lines: Vec::new(),
            ppm: 0,
            slew_ppm: 0,
            jump_ns: 0,
            step_ns: DEFAULT_STEP_NS,
        }))
    }

    /// The GPU's time now, a multiple of the step.
    pub fn now_ns(&self) -> u64 {
        let state = read(&self.0);
        let gpu = state.line().gpu_at(host_now_ns());
        let step = i128::from(state.step_ns);
        (gpu.div_euclid(step) * step) as u64
    }

    /// CLOCK_MONOTONIC at the first moment when the clock showed `gpu_ns`.
    ///
    /// A jump backwards makes some GPU times happen twice: the later one counts.
    pub fn host_of(&self, gpu_ns: u64) -> i64 {
        let state = read(&self.0);
        let gpu = i128::from(gpu_ns);
        let line = state.lines.iter().rev().find(|line| line.from_gpu <= gpu);
        line.unwrap_or(&START).host_at(gpu) as i64
    }

    /// Rate error in parts per million; the clock goes on from where it is.
    pub fn set_ppm(&self, ppm: i64) {
        self.turn(|state| state.ppm = ppm);
    }

    /// A second rate error on top, for tests that let the rate drift away from a measured one.
    pub fn set_slew_ppm(&self, ppm: i64) {
        self.turn(|state| state.slew_ppm = ppm);
    }

    /// Sets the clock's offset: 0 takes an earlier jump back.
    pub fn set_jump(&self, jump_ns: i64) {
        self.turn(|state| state.jump_ns = jump_ns);
    }

    /// Resolution: readings are multiples of it.
    pub fn set_step(&self, step_ns: i64) {
        write(&self.0).step_ns = step_ns.max(1);
    }

    fn turn(&self, change: impl FnOnce(&mut State)) {
        let mut state = write(&self.0);
        let from_host = host_now_ns();
        let (from_gpu, before_ns) = (state.line().gpu_at(from_host), state.jump_ns);
        change(&mut state);
        let from_gpu = from_gpu + i128::from(state.jump_ns - before_ns);
        // The clock cannot stand still or run backwards.
        let ppm = (state.ppm + state.slew_ppm).clamp(-900_000, 900_000);
        state.lines.push(Line { from_host, from_gpu, ppm });
    }
}

/// The line of a clock that nobody has turned yet.
const START: Line = Line { from_host: 0, from_gpu: START_NS, ppm: 0 };

impl State {
    fn line(&self) -> Line {
        self.lines.last().copied().unwrap_or(START)
    }
}

/// CLOCK_MONOTONIC.
pub fn host_now_ns() -> i128 {
    let now = clock_gettime(ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}
