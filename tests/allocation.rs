//! What no verb does on an engine's thread: allocate, free, wait, make a system call.
#![allow(missing_docs)]
#![allow(unsafe_code)] // a counting allocator and calls into the kernel

#[path = "common/counting.rs"]
mod counting;

use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use stepscope::catalog::Id;
use stepscope::{
    Class, Clock, Config, Discard, ErrorType, Launch, ManualClock, Origin, Outcome, Pool, Preempt,
    Recorder, RecorderOptions, Request, Series, Settled, Shape, StepClock, StepSource, Stepscope,
    Ticket, Time, Wait,
};

/// A device whose stamps are there for every second step.
#[derive(Default)]
struct Device {
    steps: u64,
}

impl StepClock for Device {
    fn begin(&mut self, at: Time, _: Shape) -> Ticket {
        Ticket([at.as_nanos(), 0, 0, 0, 0, 0, 0])
    }

    fn end(&mut self, _: &mut Ticket, _: Launch) {}

    fn settle(&mut self, ticket: Ticket) -> Settled {
        self.steps += 1;
        if self.steps.is_multiple_of(2) {
            return Settled::Lost;
        }
        let end = Time::from_nanos(ticket.0[0] + 1_000);
        Settled::Done { end, gpu_ns: 900, idle_before_ns: Some(100) }
    }

    fn abandon(&mut self, _: Ticket) {}

    fn source(&self) -> StepSource {
        StepSource::Simulated
    }
}

/// More than the distinct gaps of one batch that travel in one publication.
const BATCH: usize = 100;

/// Every verb there is, in use and in misuse, on a batch of new requests.
fn every_verb(rec: &mut Recorder, series: Series, round: u64) {
    let at = |us: u64| Time::from_nanos(round * 1_000_000_000 + us * 1_000);
    let mut reqs: [Request; BATCH] = std::array::from_fn(|id| rec.arrive(series, id as u64, at(1)));
    let origin = rec.origin(&reqs[0], at(2));
    for (req, from) in reqs.iter_mut().zip([origin, Origin { clock: 0, ..origin }]) {
        let moved = rec.arrive_from(series, 0, from, at(3));
        rec.finish(std::mem::replace(req, moved), at(3), Outcome::Handover)
    }
    let mut streams = reqs.each_ref().map(Request::stream);
    for req in &mut reqs {
        rec.enqueue(req, at(4));
        rec.schedule(req, at(5), 16, 8);
        rec.prefill(req, 100)
    }
    for turn in 0..6 {
        let shape = Shape { prefills: 1, prefill_tokens: 8, decodes: BATCH as u32 };
        let mut open = rec.begin_step(at(10 + turn * 100_000), shape);
        rec.launched(&mut open, Launch::Stamp);
        let step = rec.end_step(open, at(20 + turn * 100_000));
        // Equal gaps on even turns; each a run of its own on odd ones.
        let accepted = |i: usize| if turn % 2 == 0 { 1 } else { 1 + i as u32 };
        rec.tokens(&step, reqs.iter_mut().enumerate().map(|(i, req)| (req, accepted(i))));
        rec.token(&step, &mut reqs[0], 300);
        streams.iter_mut().for_each(|stream| rec.emitted(stream, step.time()));
        let (first, others) = reqs.split_first_mut().unwrap();
        rec.preempt(first, step.time(), Preempt::Memory);
        rec.schedule(first, step.time(), 0, 0);
        let child = rec.fork(&mut others[0]);
        rec.first_from(&mut others[0], &child);
        rec.join(&mut others[0], child, step.time(), Some(Discard::Beam));
        let mut child = rec.fork(&mut others[1]);
        rec.join_in_place(&mut others[1], &mut child, step.time(), None);
        rec.discard(&others[2], Discard::StopSurplus, 2);
        rec.spec(&others[2], 4, 3);
        rec.queue(Wait::Capacity, series.priority(), 7);
        rec.kv(Pool::KV, 5, 6, 100, 70)
    }
    let open = rec.begin_step(at(900_000), Shape::default());
    rec.abandon(open);
    rec.refuse();
    rec.bystander().refuse();
    let outcomes = [Outcome::Stop, Outcome::Aborted, Outcome::Failed(ErrorType::Oom)];
    for (mut req, outcome) in reqs.into_iter().zip(outcomes.into_iter().cycle()) {
        rec.finish_in_place(&mut req, at(900_000), outcome);
        rec.finish(req, at(900_000), outcome)
    }
    let dropped = rec.arrive(series, 0, at(900_000));
    drop(dropped)
}

#[test]
fn every_verb_of_the_recorder_is_called_above() {
    let verbs = include_str!("../src/record/recorder.rs").lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("    pub fn ")?.split_once(['(', '<'])?;
        Some(name)
    });
    for verb in verbs {
        assert!(
            include_str!("allocation.rs").contains(&format!("rec.{verb}(")),
            "{verb} is missing"
        )
    }
}

fn scope(clock: Clock) -> Stepscope {
    Stepscope::start(Config { listen: None, clock, ..Config::default() }).unwrap()
}

fn recorder(scope: &Stepscope, ring_events: usize) -> (Recorder, Series) {
    let series = scope.series(Class::endpoint("chat"));
    let mut rec = scope.recorder_with(RecorderOptions::new("engine").ring_events(ring_events));
    rec.set_lane(Device::default());
    (rec, series)
}

#[test]
fn no_verb_allocates_or_frees_however_full_the_ring() {
    for ring_events in [1, 64, 8_192] {
        // A clock that stands still: nobody drains, so every ring is full in the end.
        let scope = scope(Clock::Manual(ManualClock::new(Time::from_nanos(1))));
        let (mut rec, series) = recorder(&scope, ring_events);
        let before = counting::calls();
        for round in 1..=20 {
            every_verb(&mut rec, series, round)
        }
        assert_eq!(counting::calls() - before, 0, "with a ring of {ring_events}");
        let lost = scope.snapshot().sum(Id::RingDropped, |_| true);
        assert!(lost > 0.0, "a ring of {ring_events} was not full")
    }
}

/// How often the calling thread gave up its processor to wait for something.
fn waits() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn no_verb_waits_however_often_somebody_reads() {
    const PASSES: u64 = 5;
    const ROUNDS: u64 = 500;
    let scope = scope(Clock::Monotonic);
    let (mut rec, series) = recorder(&scope, 8_192);
    let engine = std::thread::spawn(move || {
        // The first pass is not counted: it touches each page of the ring for the first time.
        let mut passes = (0..=PASSES).map(|pass| {
            let before = waits();
            for round in 1..=ROUNDS {
                every_verb(&mut rec, series, pass * ROUNDS + round)
            }
            waits() - before
        });
        passes.next();
        passes.min()
    });
    while !engine.is_finished() {
        scope.snapshot();
    }
    // The least of five: the kernel may move a page, but a verb that waits shows in every pass.
    assert_eq!(engine.join().unwrap(), Some(0));
}

unsafe extern "C" {
    /// prctl(2), from the C library that the standard library links.
    fn prctl(option: i32, ...) -> i32;
}

/// `sock_filter` of the kernel: one instruction of a system call filter.
#[repr(C)]
struct Instruction {
    code: u16,
    jump: [u8; 2],
    value: u32,
}

/// `sock_fprog` of the kernel.
#[repr(C)]
struct Filter {
    length: u16,
    program: *const Instruction,
}

/// From here on the kernel kills the process if the calling thread makes any system call at all.
/// False where it does not offer that.
fn forbid_system_calls() -> bool {
    const PR_SET_NO_NEW_PRIVS: i32 = 38;
    const PR_SET_SECCOMP: i32 = 22;
    const SECCOMP_MODE_FILTER: usize = 2;
    const RETURN: u16 = 0x06;
    const KILL_PROCESS: u32 = 0x8000_0000;
    let program = [Instruction { code: RETURN, jump: [0; 2], value: KILL_PROCESS }];
    let filter = Filter { length: 1, program: program.as_ptr() };
    // SAFETY: prctl reads four more arguments here and touches no memory of ours.
    let unprivileged = unsafe { prctl(PR_SET_NO_NEW_PRIVS, 1usize, 0usize, 0usize, 0usize) };
    // SAFETY: the kernel copies the filter and its one instruction, alive here, before it returns.
    unprivileged == 0
        && unsafe { prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &raw const filter) == 0 }
}

/// Set in the process whose engine thread may make no system call.
const INSIDE: &str = "STEPSCOPE_TEST_INSIDE";
const UNAVAILABLE: i32 = 77;

#[test]
fn no_verb_makes_a_system_call_however_often_somebody_reads() {
    if std::env::var_os(INSIDE).is_some() {
        std::process::exit(run_without_system_calls())
    }
    // In a process of its own, because nothing leads out of that state.
    let name = "no_verb_makes_a_system_call_however_often_somebody_reads";
    let mut inside = Command::new(std::env::current_exe().unwrap());
    let out = inside.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    if out.status.code() == Some(UNAVAILABLE) {
        let required = std::env::var("STEPSCOPE_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
        assert!(!required, "seccomp filters are missing and STEPSCOPE_REQUIRE_TOOLS=1");
        println!("skipped: seccomp filters are missing")
    } else {
        assert!(out.status.success(), "{}; SIGSYS (31) = a verb made a system call", out.status)
    }
}

/// Says the exit code.
fn run_without_system_calls() -> i32 {
    const RUNNING: u8 = 0;
    const DONE: u8 = 1;
    const NO_FILTER: u8 = 2;
    static STAGE: AtomicU8 = AtomicU8::new(RUNNING);
    let scope = scope(Clock::Monotonic);
    let (mut rec, series) = recorder(&scope, 8_192);
    std::thread::spawn(move || {
        if !forbid_system_calls() {
            return STAGE.store(NO_FILTER, Ordering::Release);
        }
        for round in 1..=500 {
            every_verb(&mut rec, series, round)
        }
        STAGE.store(DONE, Ordering::Release);
        // A thread cannot end without system calls; the process does it first.
        loop {
            std::hint::spin_loop()
        }
    });
    loop {
        scope.snapshot();
        match STAGE.load(Ordering::Acquire) {
            RUNNING => {}
            DONE => return 0,
            _ => return UNAVAILABLE,
        }
    }
}
