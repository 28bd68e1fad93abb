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

    /// First and last nanosecond of CLOCK_MONOTONIC, from `from_host` on, at which the clock showed `gpu_ns`: the first
    /// such stretch, or `None` if there is none. A clock that jumped shows some times twice and some never.
    pub fn shown(&self, gpu_ns: u64, from_host: i64) -> Option<(i64, i64)> {
        let state = read(&self.0);
        state.shown(gpu_ns.into(), from_host.into())
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

    fn shown(&self, gpu: i128, from_host: i128) -> Option<(i64, i64)> {
        let next = gpu + i128::from(self.step_ns);
        let lines = [START].into_iter().chain(self.lines.iter().copied());
        // Each line lasts until the next one begins.
        let ends = self.lines.iter().map(|line| line.from_host).chain([i128::MAX]);
        lines.zip(ends).find_map(|(line, end)| {
            let begin = line.from_host.max(from_host);
            if begin >= end || line.gpu_at(begin) >= next {
                return None;
            }
            // The step may have begun before.
            let first = if line.gpu_at(begin) >= gpu { begin } else { line.host_at(gpu) };
            let last = line.host_at(next).min(end) - 1;
            (first < end).then_some((first as i64, last as i64))
        })
    }
}

/// CLOCK_MONOTONIC.
pub fn host_now_ns() -> i128 {
    let now = clock_gettime(ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::{Line, START_NS, State};

    /// A clock that is 200 ppm fast, jumps back at 10 us and forward at 20 us.
    fn jumping() -> State {
        let line =
            |from_host, from_gpu| Line { from_host, from_gpu: START_NS + from_gpu, ppm: 200 };
        State {
            lines: vec![line(0, 0), line(10_000, 7_003), line(20_000, 40_001)],
            ppm: 200,
            slew_ppm: 0,
            jump_ns: 0,
            step_ns: 32,
        }
    }

    #[test]
    fn when_a_time_was_shown_is_what_a_reader_of_every_nanosecond_would_have_noted() {
        let clock = jumping();
        let readings: Vec<i128> = (0..30_000)
            .map(|host| {
                let line = clock.lines.iter().rev().find(|line| line.from_host <= host).unwrap();
                line.gpu_at(host).div_euclid(32) * 32
            })
            .collect();
        let mut shown = 0;
        for from in [0, 5, 9_990, 10_000, 15_001] {
            for gpu in (START_NS / 32 * 32..START_NS + 45_000).step_by(32) {
                let noted = readings[from..].iter().position(|reading| *reading == gpu);
                let noted = noted.map(|behind| {
                    let first = from + behind;
                    let length =
                        readings[first..].iter().take_while(|reading| **reading == gpu).count();
                    (first as i64, (first + length - 1) as i64)
                });
                // The reader of the list left at 30 us.
                let told = clock.shown(gpu, from as i128).filter(|(_, last)| *last < 29_999);
                assert_eq!(told, noted.filter(|(_, last)| *last < 29_999), "{gpu} from {from}");
                shown += u32::from(told.is_some())
            }
        }
        assert!(shown > 2_000, "{shown}")
    }
}
