//! The bound of the clock's error holds, for a clock that drifts, steps coarsely, wraps and jumps.

use super::fit::{Fit, Round, Verdict};
use super::layout::TIME_MASK;

/// A GPU clock with a known relation to the host's, and a machine with known delays.
struct World {
    ppm: i64,
    resolution: i64,
    shift: i64,
    random: u64,
}

impl World {
    fn gpu(&self, host: i64) -> u64 {
        let time = host + host / 1_000 * self.ppm / 1_000 + self.shift;
        (time / self.resolution * self.resolution) as u64
    }

    fn below(&mut self, n: i64) -> i64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.random >> 33) as i64) % n
    }

    /// A round of eight probes that begins at `host`; the legs take 2 to 40 us.
    fn round(&mut self, fit: &Fit, host: i64) -> Round {
        let mut round = Round::new(self.resolution);
        let mut at = host;
        for _ in 0..8 {
            let read = at + 2_000 + self.below(38_000);
            let after = read + 1_000 + self.below(9_000);
            round.add(at, fit.unwrap(self.gpu(read) & TIME_MASK), after);
            at = after
        }
        round
    }
}

const START: i64 = 5_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

fn outside(world: &mut World, seconds: i64) -> (u32, u32) {
    let mut fit = Fit::new();
    let (mut outside, mut mapped) = (0, 0);
    for second in (0..seconds).step_by(2) {
        let host = START + second * SECOND;
        let round = world.round(&fit, host);
        fit.round(round);
        for _ in 0..500 {
            let when = host + world.below(2 * SECOND);
            let said = fit.map().host(world.gpu(when) & TIME_MASK);
            mapped += 1;
            outside += u32::from((said.ns - when).abs() > said.error_ns)
        }
    }
    (outside, mapped)
}

#[test]
fn every_mapped_time_lies_within_its_bound() {
    for ppm in [-200, 0, 40, 200] {
        for resolution in [1, 32, 1_024] {
            for shift in [0, 1_790_000_000_000_000_000] {
                let mut world = World { ppm, resolution, shift, random: 7 };
                let (outside, mapped) = outside(&mut world, 100);
                assert_eq!((outside, mapped), (0, 25_000), "{ppm} ppm, {resolution} ns");
            }
        }
    }
}

/// On a busy machine the probes of a round lie milliseconds apart, and the clocks drift meanwhile.
#[test]
fn a_slow_round_is_kept_and_its_bound_holds() {
    for ppm in [-200, 200, 450] {
        let (mut fit, world) = (Fit::new(), World { ppm, resolution: 32, shift: 0, random: 7 });
        for second in [0, 2, 4] {
            let (mut round, mut at) = (Round::new(32), START + second * SECOND);
            for _ in 0..8 {
                round.add(at, fit.unwrap(world.gpu(at + 2_000) & TIME_MASK), at + 3_000);
                at += 15_000_000
            }
            assert_eq!(fit.round(round), Verdict::Kept, "{ppm} ppm");
            for when in (at - 120_000_000..at).step_by(1_000_000) {
                let said = fit.map().host(world.gpu(when) & TIME_MASK);
                assert!((said.ns - when).abs() <= said.error_ns, "{ppm} ppm, {when}");
            }
        }
    }
}

#[test]
fn the_wrap_of_the_48_bit_timer_is_not_seen() {
    let wrap = 1i64 << 48;
    let now = World { ppm: 0, resolution: 32, shift: 0, random: 1 }.gpu(START) as i64;
    let mut world =
        World { ppm: 0, resolution: 32, shift: wrap - now % wrap - 20 * SECOND, random: 7 };
    assert_eq!(outside(&mut world, 60).0, 0);
}

#[test]
fn a_round_that_contradicts_itself_or_is_far_too_wide_is_not_kept() {
    let mut world = World { ppm: 0, resolution: 32, shift: 0, random: 7 };
    let mut fit = Fit::new();
    let round = world.round(&fit, START);
    assert_eq!(fit.round(round), Verdict::Kept);
    let mut unsound = Round::new(32);
    unsound.add(START, world.gpu(START + 10), START + 20);
    unsound.add(START + 1_000, world.gpu(START + 90_000), START + 2_000);
    assert_eq!(fit.round(unsound), Verdict::Unsound);
    let wide = |world: &World, at: i64| {
        let mut wide = Round::new(32);
        wide.add(at, world.gpu(at + 400_000), at + 900_000);
        wide
    };
    for i in 1..=5 {
        assert_eq!(fit.round(wide(&world, START + i * SECOND)), Verdict::Wide);
    }
    assert_eq!(fit.round(wide(&world, START + 6 * SECOND)), Verdict::Kept, "it has become so");
}

#[test]
fn a_jump_starts_a_new_epoch_and_the_bound_holds_after_it() {
    for jump in [-SECOND, -3_000_000, 3_000_000, SECOND] {
        let mut world = World { ppm: 40, resolution: 32, shift: 0, random: 7 };
        let mut fit = Fit::new();
        for i in 0..4 {
            let round = world.round(&fit, START + i * 2 * SECOND);
            fit.round(round);
        }
        world.shift += jump;
        let round = world.round(&fit, START + 8 * SECOND);
        assert_eq!(fit.round(round), Verdict::Jumped, "{jump}");
        assert_eq!(fit.map().epoch, 1);
        let when = START + 9 * SECOND;
        let said = fit.map().host(world.gpu(when) & TIME_MASK);
        assert!((said.ns - when).abs() <= said.error_ns);
    }
}
