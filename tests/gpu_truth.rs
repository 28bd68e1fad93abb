//! A time never reaches another step: real stamp kernels, interpreted, against a work kernel that
//! writes down when it ran. `STEPSCOPE_TEST_PTX=FILE` runs everything with other stamp kernels.
#![allow(missing_docs, unsafe_code)] // The engine on the fake driver makes driver calls.

#[path = "common/fake_gpu.rs"]
#[allow(dead_code)]
mod fake_gpu;

use fake_gpu::{FakeGpu, Graph, Stream};
use std::collections::VecDeque;
use std::ffi::CString;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use stepscope::gpu::{
    Gpu, Lane, LaneCounts, Lost, Options, Point, Resolution, StepInfo, StepTicket, StepTime,
};

const MASK: u64 = (1 << 48) - 1;
const LANES: u64 = 2;

/// How a run goes.
#[derive(Clone, Copy)]
struct Plan {
    steps: usize,
    slots: u32,
    seed: u64,
    /// Launches fail, graphs are replayed unannounced, stamps arrive late, settles come late.
    faults: bool,
    /// How long a step is waited for without faults.
    patience_us: u64,
}

#[derive(Default)]
struct Tally {
    steps: u64,
    done: u64,
    wrong: u64,
    idle_wrong: u64,
    outside: u64,
    unbalanced: u64,
    /// By reason.
    lost: [u64; Lost::ALL.len()],
    late: u64,
    unclaimed: u64,
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn ptx(text: Option<String>) -> Option<CString> {
    let file = std::env::var_os("STEPSCOPE_TEST_PTX").map(|f| std::fs::read_to_string(f).unwrap());
    text.or(file).map(|text| CString::new(text).unwrap())
}

fn run(plan: Plan, text: Option<String>) -> Result<Tally, String> {
    let fake = FakeGpu::new();
    let options = Options {
        slots: plan.slots,
        library: Some(fake.path.clone()),
        ptx: ptx(text),
        ..Options::default()
    };
    let gpu =
        Gpu::attach(stepscope::gpu::RawStream::LEGACY, &options).map_err(|e| e.to_string())?;
    if plan.faults {
        fake.set("late_ns", 30_000)
    }
    let (mut all, ready) = (Tally::default(), Barrier::new(LANES as usize));
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                scope.spawn({
                    let (gpu, fake, ready) = (&gpu, &fake, &ready);
                    move || engine(gpu, fake, ready, lane, plan)
                })
            })
            .collect();
        for lane in lanes {
            let tally = lane.join().unwrap();
            all.steps += tally.steps;
            all.done += tally.done;
            all.wrong += tally.wrong;
            all.idle_wrong += tally.idle_wrong;
            all.outside += tally.outside;
            all.unbalanced += tally.unbalanced;
            all.lost.iter_mut().zip(tally.lost).for_each(|(all, lost)| *all += lost);
            all.late += tally.late;
            all.unclaimed += tally.unclaimed
        }
    });
    Ok(all)
}

/// A step in flight: its ticket, and which run of the work kernel it was.
type Flying = (StepTicket, usize);

/// Under faults one step in four is settled up to so many steps late, out of order: then another step
/// may have its slot.
const LATE_STEPS: u64 = 200;

/// The work with captured stamps around it.
fn captured(stream: &Stream, lane: &mut Lane, place: u64) -> Graph {
    stream.begin_capture(1);
    lane.capture(stream.raw(), Point::Begin).unwrap();
    assert!(stream.work(place, 3_000));
    lane.capture(stream.raw(), Point::MarkA).unwrap();
    lane.capture(stream.raw(), Point::End).unwrap();
    stream.end_capture().unwrap()
}

/// One engine loop on its own stream: eager steps and graph replays, three in flight.
fn engine(gpu: &Gpu, fake: &FakeGpu, ready: &Barrier, lane_number: u64, plan: Plan) -> Tally {
    fake.enter();
    let mut random = Random(0x9e37_79b9 + lane_number + 1_000 * plan.seed);
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    let (place, truth) = (fake.memory(8), fake.memory(plan.steps * 3 * 16 + 64));
    fake.write(place, truth);
    let graph = captured(&stream, &mut lane, place);
    // Failures are planned for all lanes alike: none may hit another lane's set-up.
    ready.wait();
    let (mut flying, mut runs, mut settled) = (VecDeque::<Flying>::new(), 0, vec![]);
    let (mut abandoned, mut overdue) = (0, Vec::<(usize, Flying)>::new());
    for step in 0..plan.steps {
        if plan.faults && lane_number == 0 {
            if random.below(50) == 0 {
                fake.fail("cuLaunchKernel", random.below(3), 1 + random.below(3), 2)
            }
            if random.below(60) == 0 {
                fake.fail("cuGraphLaunch", random.below(3), 1, 2)
            }
        }
        if plan.faults && random.below(40) == 0 && stream.replay(&graph) {
            runs += 1
        }
        let info = StepInfo { requests: 1, tokens: 1, ..StepInfo::default() };
        let mut ticket = lane.begin(info);
        let eager = step % 7 == 3;
        let ran = if eager { stream.work(place, 3_000) } else { stream.replay(&graph) };
        if !ran {
            abandoned += 1;
            lane.abandon(ticket);
            continue;
        }
        if eager {
            lane.end(&mut ticket)
        } else {
            lane.end_in_graph(&mut ticket)
        }
        flying.push_back((ticket, runs));
        runs += 1;
        while flying.len() >= 3 {
            let (ticket, run) = flying.pop_front().unwrap();
            if plan.faults && random.below(4) == 0 {
                overdue.push((step + random.below(LATE_STEPS) as usize, (ticket, run)));
                continue;
            }
            let patience = if plan.faults { random.below(200) } else { plan.patience_us };
            settle(gpu, ticket, run, Duration::from_micros(patience), &mut settled)
        }
        for (_, (ticket, run)) in overdue.extract_if(.., |(due, _)| *due <= step) {
            settle(gpu, ticket, run, Duration::ZERO, &mut settled)
        }
    }
    stream.synchronize();
    for (ticket, run) in flying.into_iter().chain(overdue.into_iter().map(|(_, flying)| flying)) {
        settle(gpu, ticket, run, Duration::from_micros(plan.patience_us.max(1_000)), &mut settled)
    }
    let truth = fake.read(truth, runs * 2);
    let mut tally = judge(fake, &truth, &settled);
    balance(gpu.counts(lane.id()), plan, abandoned, &mut tally);
    tally
}

fn settle(
    gpu: &Gpu,
    ticket: StepTicket,
    run: usize,
    patience: Duration,
    settled: &mut Vec<(usize, StepTime)>,
) {
    let asked = Instant::now();
    while gpu.resolve(&ticket) == Resolution::Pending && asked.elapsed() < patience {
        std::thread::yield_now()
    }
    if let Resolution::Done(step) = gpu.settle(ticket) {
        settled.push((run, step))
    }
}

/// Every time that was told must contain its own run of the work kernel and touch no other.
fn judge(fake: &FakeGpu, truth: &[u64], settled: &[(usize, StepTime)]) -> Tally {
    let mut tally = Tally::default();
    // The stamps hold 48 bits; all of a run lies within one wrap of its first time, or the wrap is
    // where the difference is small.
    let after = |from: u64, to: u64| ((to.wrapping_sub(from) << 16) as i64) >> 16;
    for (run, step) in settled {
        let (begin, end) = (truth[run * 2], truth[run * 2 + 1]);
        let step_end = step.gpu_begin.wrapping_add(step.gpu_ns) & MASK;
        let before = *run == 0 || after(truth[run * 2 - 1], step.gpu_begin) >= 0;
        let next = truth.get(run * 2 + 2).is_none_or(|next| after(step_end, *next) >= 0);
        let around = after(step.gpu_begin, begin) >= 0 && after(end, step_end) >= 0;
        tally.wrong += u64::from(!(before && next && around));
        let full = begin.wrapping_add_signed(after(begin, step.gpu_begin));
        let host = fake.host_of(full);
        let miss = (step.begin.as_nanos() as i64 - host).unsigned_abs();
        tally.outside += u64::from(miss > step.error_ns);
        tally.done += 1
    }
    for pair in settled.windows(2) {
        let [(before, earlier), (run, later)] = pair else { continue };
        // The gap ends where the step begins and starts where the step before ended, exactly.
        if *run == before + 1 {
            let end = earlier.gpu_begin.wrapping_add(earlier.gpu_ns) & MASK;
            let gap = after(end, later.gpu_begin);
            // And the work on both sides of it was further apart still.
            let apart = after(truth[before * 2 + 1], truth[run * 2]);
            let right = later.idle_before_ns == u64::try_from(gap).ok() && gap <= apart;
            tally.idle_wrong += u64::from(!right);
        }
    }
    tally
}

/// begun = done + lost + late + abandoned, once all is settled.
fn balance(counts: LaneCounts, plan: Plan, abandoned: u64, tally: &mut Tally) {
    let lost: u64 = counts.lost.iter().sum();
    let booked = counts.done + lost + counts.late + counts.abandoned;
    let right = counts.begun == plan.steps as u64
        && counts.begun == booked
        && counts.abandoned == abandoned
        && counts.done == tally.done;
    tally.unbalanced += u64::from(!right);
    tally.steps = counts.begun;
    tally.lost = counts.lost;
    tally.late = counts.late;
    tally.unclaimed = counts.unclaimed
}

fn print(what: &str, t: &Tally) {
    println!(
        "{what:<28} {:>7} steps {:>7} done {:>5} wrong {:>5} outside {:>5} late {:>5} unclaimed",
        t.steps, t.done, t.wrong, t.outside, t.late, t.unclaimed
    );
    let lost = Lost::ALL.iter().zip(t.lost).filter(|(_, lost)| *lost > 0);
    lost.for_each(|(why, lost)| println!("{:<28} {lost:>7} lost, {}", "", why.label()))
}

#[test]
fn ten_thousand_steps_by_graph_and_eager_are_all_done_and_all_right() {
    let plan =
        Plan { steps: 5_000, slots: 16_384, seed: 1, faults: false, patience_us: 10_000_000 };
    let tally = run(plan, None).unwrap();
    print("graph and eager", &tally);
    assert_eq!((tally.done, tally.lost.iter().sum::<u64>(), tally.late), (10_000, 0, 0));
    assert_eq!((tally.wrong, tally.idle_wrong, tally.outside, tally.unbalanced), (0, 0, 0, 0));
    assert_eq!(tally.unclaimed, 0);
}

#[test]
fn under_faults_steps_are_lost_and_counted_and_never_wrong() {
    let mut done = 0;
    for seed in 1..=20 {
        let slots = if seed % 2 == 0 { 64 } else { 128 };
        let tally =
            run(Plan { steps: 400, slots, seed, faults: true, patience_us: 0 }, None).unwrap();
        print(&format!("faults, seed {seed}"), &tally);
        assert_eq!((tally.wrong, tally.outside, tally.unbalanced), (0, 0, 0), "seed {seed}");
        done += tally.done
    }
    assert!(done > 1_000, "{done} steps of 16,000 were timed");
}

/// The shipped kernels with one line changed: the checks above, or the self test, must notice.
#[test]
fn broken_stamp_kernels_are_noticed() {
    let shipped = include_str!("../kernels/stamp.ptx");
    let arm = behind(shipped, "[stepscope_begin_param_3];", "and.b64 {r}, {r}, -33;");
    let plan = Plan { steps: 300, slots: 1_024, seed: 3, faults: false, patience_us: 2_000 };
    let tally = run(plan, Some(arm)).unwrap();
    print("odd steps arm a neighbour", &tally);
    println!("{:<28} caught: {} wrong", "odd steps arm a neighbour", tally.wrong);
    assert!(tally.wrong > 0, "a stamp in another step's slot was not noticed");

    let mark = &shipped[shipped.find(".entry stepscope_mark").unwrap()..];
    let old = behind(mark, "%globaltimer;", "sub.s64 {r}, {r}, 1048576;");
    let old = shipped.replace(mark, &old);
    let refused = run(plan, Some(old)).err().expect("the self test refuses it");
    println!("{:<28} refused: {refused}", "marks are a millisecond old");
    assert!(refused.contains("out of order"), "{refused}");
}

/// The text with one more line behind the first one that ends in `needle`; `{r}` = the register
/// that line writes.
fn behind(text: &str, needle: &str, extra: &str) -> String {
    let end = text.find(needle).expect("the line is there") + needle.len();
    let line = &text[text[..end].rfind('\n').unwrap()..end];
    let register = line.split_whitespace().nth(1).unwrap().trim_end_matches(',');
    format!("{}\n\t{}{}", &text[..end], extra.replace("{r}", register), &text[end..])
}
