//! Every time on the host's clock lies within its stated bound of the truth: for a GPU clock that is
//! fast, slow, coarse, slewed, that wraps, and that jumps. `--nocapture` prints a table.
#![allow(missing_docs, unsafe_code)] // The engine on the fake driver makes driver calls.

#[path = "common/fake_gpu.rs"]
#[allow(dead_code)]
mod fake_gpu;

use fake_gpu::{FakeGpu, wait};
use std::time::{Duration, Instant};
use stepscope::Time;
use stepscope::gpu::{Gpu, Lost, Options, RawStream, Resolution, StepInfo, StepTicket, StepTime};

/// The stamps hold so many bits of the GPU's time.
const WRAP: u64 = 1 << 48;
/// Clock rounds come 0.1, 0.5 and 2 s after attaching, then every 2 s: between the last two.
const TURN_S: f64 = 2.6;
/// What a ppm of slew amounts to in two rounds and some delay, in ns.
const SLEW_NS_PER_PPM: u64 = 4_500;
/// A change of rate that the bound allows for.
const COVERED_PPM: u64 = 10;
/// A ticket is asked again, on a younger map, after so many further steps.
const HELD: usize = 300;
const STEPS_MAX: usize = 8_000;

/// What the GPU's clock does.
#[derive(Clone, Copy, Default)]
struct Plan {
    ppm: i64,
    step_ns: i64,
    /// The rate changes by so much at `TURN_S`.
    slew_ppm: i64,
    /// The 48 bits wrap at `TURN_S`.
    wraps: bool,
    /// The clock jumps by so much at `TURN_S`.
    jump_ns: i64,
    seconds: f64,
}

#[derive(Default)]
struct Tally {
    steps: usize,
    /// Times that were judged: begin and end of each step, at once and again later.
    times: u64,
    outside: u64,
    /// Outside, and asked between a slew's begin and the end of the next round, which measures it.
    unseen: u64,
    /// How far outside at most.
    excess_max: u64,
    /// The same as outside if the bound were a tenth.
    outside_a_tenth: u64,
    error_max: u64,
    bound_max: u64,
    /// What passes for a step may after a jump: see `Judge::excuse`.
    excused: u64,
    acausal: u64,
    jumped: u64,
    other: Vec<Lost>,
    /// Done after the map had followed the jump.
    recovered: u64,
    rounds: u64,
    jumps: u64,
    wrapped: bool,
}

/// A step that was asked once and waits to be asked again.
struct Held {
    ticket: StepTicket,
    launched: i64,
}

fn now() -> i64 {
    Time::now().as_nanos() as i64
}

fn run(plan: Plan) -> Tally {
    let fake = FakeGpu::new();
    fake.set("step_ns", plan.step_ns);
    fake.set("ppm", plan.ppm);
    let mut offset = 0;
    if plan.wraps {
        offset = (WRAP - fake.time() % WRAP) as i64 - (TURN_S * 1e9) as i64;
        fake.set("jump", offset)
    }
    let options = Options { library: Some(fake.path.clone()), nvml: false, ..Options::default() };
    let gpu = Gpu::attach(RawStream::LEGACY, &options).unwrap();
    let started = Instant::now();
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    let (place, truth) = (fake.memory(8), fake.memory(STEPS_MAX * 16 + 64));
    fake.write(place, truth);
    let mut judge = Judge { fake: &fake, plan, slew_is_unseen: false, tally: Tally::default() };
    let mut held: Vec<Held> = vec![];
    let (mut turned, wraps_at_first) = (false, fake.time() / WRAP);
    let mut rounds_at_turn = u64::MAX;
    while started.elapsed().as_secs_f64() < plan.seconds && judge.tally.steps < STEPS_MAX {
        if !turned && started.elapsed().as_secs_f64() > TURN_S {
            turned = true;
            rounds_at_turn = gpu.clock().rounds;
            fake.set("slew_ppm", plan.slew_ppm);
            fake.set("jump", offset + plan.jump_ns)
        }
        // Two: the first round behind the turn may have begun before it. And a map that outlived its
        // 2 s, as a busy machine spoilt a round, has drifted further than was measured.
        let clock = gpu.clock();
        judge.slew_is_unseen = plan.slew_ppm != 0
            && turned
            && (clock.rounds < rounds_at_turn + 2 || clock.age_ns > 2_200_000_000);
        let launched = now();
        let mut ticket = lane.begin(StepInfo::default());
        assert!(stream.work(place, 20_000));
        lane.end(&mut ticket);
        let said = wait(&gpu, &ticket);
        judge.hears(said, launched, now());
        judge.tally.steps += 1;
        if matches!(said, Resolution::Done(_)) && gpu.clock().epoch > 0 {
            judge.tally.recovered += 1
        }
        held.push(Held { ticket, launched });
        // Between a jump and the next round only who settles at once is protected: the others wait.
        let in_doubt = plan.jump_ns != 0 && turned && gpu.clock().epoch == 0;
        while held.len() > HELD && !in_doubt {
            let Held { ticket, launched } = held.remove(0);
            judge.hears(gpu.settle(ticket), launched, now())
        }
        std::thread::sleep(Duration::from_micros(800))
    }
    for Held { ticket, launched } in held {
        judge.hears(gpu.settle(ticket), launched, now())
    }
    let clock = gpu.clock();
    let Judge { mut tally, .. } = judge;
    (tally.rounds, tally.jumps) = (clock.rounds, clock.jumps);
    tally.wrapped = fake.time() / WRAP > wraps_at_first;
    // An interpreter that reads more slowly than the clock steps sees several steps as one.
    assert!(clock.resolution_ns > 0 && clock.resolution_ns.is_multiple_of(plan.step_ns as u64));
    tally
}

struct Judge<'a> {
    fake: &'a FakeGpu,
    plan: Plan,
    slew_is_unseen: bool,
    tally: Tally,
}

impl Judge<'_> {
    /// What was said at `asked` of a step that was launched at `launched`.
    fn hears(&mut self, said: Resolution, launched: i64, asked: i64) {
        match said {
            Resolution::Done(step) => self.judge(&step, launched, asked),
            Resolution::Lost(Lost::Acausal) => self.tally.acausal += 1,
            Resolution::Lost(Lost::ClockJump) => self.tally.jumped += 1,
            Resolution::Lost(why) => self.tally.other.push(why),
            Resolution::Pending => panic!("a step's stamps did not arrive within 5 s"),
        }
    }

    fn judge(&mut self, step: &StepTime, launched: i64, asked: i64) {
        let begin = self.fake.full(step.gpu_begin);
        let pairs = [(begin, step.begin), (begin + step.gpu_ns, step.end)];
        for (gpu, mapped) in pairs {
            // The stamp was read at some moment while the clock showed this.
            let shown = self.fake.shown(gpu, launched);
            let (first, last) = shown.expect("a stamp holds a time that the clock has shown");
            let mapped = mapped.as_nanos() as i64;
            let error = (mapped - first).unsigned_abs().max((mapped - last).unsigned_abs());
            if error > step.error_ns && self.excuse(first - launched, asked - last, step) {
                self.tally.excused += 1;
                continue;
            }
            let tally = &mut self.tally;
            tally.times += 1;
            let outside = u64::from(error > step.error_ns);
            if self.slew_is_unseen {
                tally.unseen += outside
            } else {
                tally.outside += outside
            }
            tally.excess_max = tally.excess_max.max(error.saturating_sub(step.error_ns));
            tally.outside_a_tenth += u64::from(error > step.error_ns / 10);
            tally.error_max = tally.error_max.max(error);
            tally.bound_max = tally.bound_max.max(step.error_ns)
        }
    }

    /// The documented limit: a jump that is smaller than the time from the end to the question, or
    /// (backwards) from the launch to the begin, cannot be told from a slow host before the next
    /// round. A machine that stood still for 3 ms gives such steps.
    fn excuse(&self, queued_ns: i64, waited_ns: i64, step: &StepTime) -> bool {
        let slack = self.plan.jump_ns.abs() - 2 * step.error_ns as i64;
        self.plan.jump_ns != 0 && queued_ns.max(waited_ns) > slack
    }
}

/// All at once: each waits for rounds most of the time.
fn run_all(plans: &[(&str, Plan)]) -> Vec<Tally> {
    std::thread::scope(|scope| {
        let runs: Vec<_> = plans.iter().map(|(_, plan)| scope.spawn(move || run(*plan))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    })
}

fn print(plans: &[(&str, Plan)], tallies: &[Tally]) {
    println!(
        "{:<24}{:>7}{:>8}{:>8}{:>14}{:>14}{:>9}{:>8}{:>7}{:>7}{:>9}{:>10}{:>9}",
        "run",
        "steps",
        "rounds",
        "times",
        "max |error|",
        "max bound",
        "outside",
        "unseen",
        "/10",
        "jumps",
        "acausal",
        "clockjump",
        "excused"
    );
    for ((what, _), t) in plans.iter().zip(tallies) {
        println!(
            "{what:<24}{:>7}{:>8}{:>8}{:>11} ns{:>11} ns{:>9}{:>8}{:>7}{:>7}{:>9}{:>10}{:>9}",
            t.steps,
            t.rounds,
            t.times,
            t.error_max,
            t.bound_max,
            t.outside,
            t.unseen,
            t.outside_a_tenth,
            t.jumps,
            t.acausal,
            t.jumped,
            t.excused
        )
    }
}

/// What must be so of every run: each step was timed or lost for a reason that the run gives.
fn check(what: &str, plan: Plan, t: &Tally) {
    // The bound covers a change of rate by 10 ppm. What is more may carry a time outside, by no more
    // than it moves the clock in two rounds.
    let beyond_ppm = plan.slew_ppm.unsigned_abs().saturating_sub(COVERED_PPM);
    let excess_max = beyond_ppm * SLEW_NS_PER_PPM;
    assert!(t.excess_max <= excess_max, "{what}: {} ns outside of the bound", t.excess_max);
    assert!(beyond_ppm != 0 || t.outside + t.unseen == 0, "{what}: {} times outside", t.outside);
    assert_eq!(t.other, [], "{what}");
    assert!(t.steps > 200 && t.rounds >= 2, "{what}: {} steps, {} rounds", t.steps, t.rounds);
    assert_eq!(t.wrapped, plan.wraps, "{what}");
    // Begin and end of each step, asked twice.
    let asked = t.times + 2 * (t.acausal + t.jumped) + t.excused;
    assert_eq!(asked, 4 * t.steps as u64, "{what}");
    // The check can fail: the errors are of the bound's size, not a tenth of it.
    assert!(t.outside_a_tenth > 0, "{what}: the bound could be a tenth");
}

#[test]
fn every_time_lies_within_its_bound_of_the_truth() {
    let base = Plan { step_ns: 32, seconds: 5.0, ..Plan::default() };
    let plans = [
        ("-200 ppm, 32 ns", Plan { ppm: -200, ..base }),
        ("0 ppm, 32 ns", base),
        ("+200 ppm, 32 ns", Plan { ppm: 200, ..base }),
        ("-200 ppm, 1024 ns", Plan { ppm: -200, step_ns: 1_024, ..base }),
        ("0 ppm, 1024 ns", Plan { step_ns: 1_024, ..base }),
        ("+200 ppm, 1024 ns", Plan { ppm: 200, step_ns: 1_024, ..base }),
        ("wrap of 48 bits", Plan { ppm: 40, wraps: true, ..base }),
    ];
    let tallies = run_all(&plans);
    print(&plans, &tallies);
    for ((what, plan), tally) in plans.iter().zip(&tallies) {
        check(what, *plan, tally);
        assert_eq!((tally.jumps, tally.acausal, tally.jumped), (0, 0, 0), "{what}")
    }
}

/// Nothing can know of a change of rate before it is measured; the bound allows for 10 ppm. The table shows how many times left the
/// bound before the second round behind the turn (unseen) and after it.
#[test]
fn a_slew_of_10_ppm_stays_within_the_bound_and_a_larger_one_leaves_it_by_two_rounds_at_most() {
    let base = Plan { ppm: 40, step_ns: 32, seconds: 8.5, ..Plan::default() };
    let plans = [
        ("slew +10 ppm", Plan { slew_ppm: 10, ..base }),
        ("slew -10 ppm", Plan { slew_ppm: -10, ..base }),
        ("slew -100 ppm", Plan { slew_ppm: -100, ..base }),
        ("slew +500 ppm", Plan { slew_ppm: 500, ..base }),
    ];
    let tallies = run_all(&plans);
    print(&plans, &tallies);
    for ((what, plan), tally) in plans.iter().zip(&tallies) {
        check(what, *plan, tally);
        assert_eq!((tally.jumps, tally.jumped), (0, 0), "{what}: a slew is no jump")
    }
    // The last one is so large that it shows on any machine: else this would test nothing.
    assert!(tallies[3].unseen + tallies[3].acausal > 0)
}

#[test]
fn after_a_jump_old_times_are_lost_and_new_ones_right() {
    let base = Plan { ppm: 40, step_ns: 32, seconds: 7.0, ..Plan::default() };
    let plans = [
        ("jump -1 s", Plan { jump_ns: -1_000_000_000, ..base }),
        ("jump -3 ms", Plan { jump_ns: -3_000_000, ..base }),
        ("jump +3 ms", Plan { jump_ns: 3_000_000, ..base }),
        ("jump +1 s", Plan { jump_ns: 1_000_000_000, ..base }),
    ];
    let tallies = run_all(&plans);
    print(&plans, &tallies);
    for ((what, plan), tally) in plans.iter().zip(&tallies) {
        check(what, *plan, tally);
        assert_eq!(tally.jumps, 1, "{what}: counted once");
        assert!(tally.acausal > 0, "{what}: steps before the next round");
        assert!(tally.jumped > HELD as u64, "{what}: steps that were asked behind it");
        assert!(tally.recovered > 100, "{what}: {} steps behind the jump", tally.recovered)
    }
}
