//! Arbitrary verbs, in a mix that reaches every corner of a request's life.

use super::harness::{MS, SERIES_MAX, TBT_OBJECTIVE};
use super::log::HOUR;
use crate::record::step::{Launch, Shape};
use crate::record::words::{Discard, ErrorType, Outcome, Preempt, Role, Wait};
use proptest::prelude::*;

/// How a lane settles a step.
#[derive(Clone, Debug)]
pub(super) enum Stamped {
    /// The device's end lies so far before the host's, the step took so long, this was idle before.
    Done {
        ago: u64,
        gpu_ns: u64,
        idle: Option<u64>,
    },
    Lost,
}

/// Numbers of requests and streams are taken modulo how many there are.
#[derive(Clone, Debug)]
pub(super) enum Verb {
    /// 0 = a class of the other scope.
    Arrive(u16),
    /// The request it was before, and whether both processes share a clock.
    ArriveFrom(usize, bool),
    /// An empty slot takes part from here on.
    Empty,
    Enqueue(usize),
    Schedule(usize, [u32; 2]),
    /// Whatever comes next in an ordinary life, up to the schedule.
    Next(usize),
    Prefill(usize, u32),
    Token(usize, u32),
    Preempt(usize, Preempt),
    Finish(usize, Outcome),
    Fork(usize),
    FirstFrom(usize, usize),
    Join(usize, usize, Option<Discard>),
    Drop(usize),
    Emitted(usize),
    Discard(usize, Discard, u32),
    Spec(usize, u32, u32),
    Queue(Wait, u8, u32),
    /// Pool; blocks referenced, cached and usable; token slots.
    Kv(u8, [u32; 3], u32),
    Begin(Shape, Option<Launch>),
    Abandon,
    /// Ends the oldest step; its batch is all requests, with these accepted counts in turn.
    End(Stamped, Vec<u32>),
    Advance(u64),
    Back(u64),
    Drain,
}

fn accepted() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(1u32), 3 => 0u32..5, 1 => Just(255u32), 1 => 256u32..100_000]
}

fn positions() -> impl Strategy<Value = u32> {
    prop_oneof![20 => 0u32..40, 1 => Just(u32::MAX)]
}

/// Gaps within the objective, slow ones, none, and now and then longer than any sample may be.
fn span() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..TBT_OBJECTIVE, 4 => 0..3 * TBT_OBJECTIVE, 1 => Just(0), 1 => 0..2 * HOUR]
}

fn error_type() -> impl Strategy<Value = ErrorType> {
    use ErrorType::{Crash, Input, Internal, Oom, Overload, Timeout};
    prop::sample::select(vec![Oom, Timeout, Crash, Overload, Internal, Input])
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Stop),
        2 => Just(Outcome::Length),
        1 => Just(Outcome::Handover),
        2 => Just(Outcome::Aborted),
        2 => error_type().prop_map(Outcome::Failed),
        2 => error_type().prop_map(Outcome::Rejected),
    ]
}

fn discard() -> impl Strategy<Value = Discard> {
    prop::sample::select(vec![
        Discard::Draft,
        Discard::StopSurplus,
        Discard::Beam,
        Discard::Aborted,
    ])
}

fn preempt() -> impl Strategy<Value = Preempt> {
    prop::sample::select(vec![Preempt::Memory, Preempt::Priority, Preempt::Swap])
}

fn wait() -> impl Strategy<Value = Wait> {
    use Wait::{Capacity, Deferred, Grammar, KvFetch, Lora};
    prop::sample::select(vec![Capacity, Deferred, Grammar, KvFetch, Lora])
}

fn shape() -> impl Strategy<Value = Shape> {
    (0u32..3, 0u32..100, 0u32..3).prop_map(|(prefills, prefill_tokens, decodes)| Shape {
        prefills,
        prefill_tokens,
        decodes,
    })
}

fn stamped() -> impl Strategy<Value = Stamped> {
    let done = (0..30 * MS, span(), prop::option::of(span()))
        .prop_map(|(ago, gpu_ns, idle)| Stamped::Done { ago, gpu_ns, idle });
    prop_oneof![3 => done, 1 => Just(Stamped::Lost)]
}

pub(super) fn verb() -> impl Strategy<Value = Verb> {
    let request = || 0usize..12;
    let launch = prop::option::of(prop::sample::select(vec![Launch::Stamp, Launch::InGraph]));
    let of_requests = prop_oneof![
        12 => (0..SERIES_MAX).prop_map(Verb::Arrive),
        2 => (request(), any::<bool>())
            .prop_map(|(of, shares_clock)| Verb::ArriveFrom(of, shares_clock)),
        1 => Just(Verb::Empty),
        8 => request().prop_map(Verb::Enqueue),
        12 => (request(), [positions(), positions()]).prop_map(|(i, n)| Verb::Schedule(i, n)),
        16 => request().prop_map(Verb::Next),
        8 => (request(), positions()).prop_map(|(i, n)| Verb::Prefill(i, n)),
        8 => (request(), accepted()).prop_map(|(i, k)| Verb::Token(i, k)),
        6 => (request(), preempt()).prop_map(|(i, why)| Verb::Preempt(i, why)),
        6 => (request(), outcome()).prop_map(|(i, outcome)| Verb::Finish(i, outcome)),
        4 => request().prop_map(Verb::Fork),
        2 => (request(), request()).prop_map(|(i, j)| Verb::FirstFrom(i, j)),
        4 => (request(), request(), prop::option::of(discard()))
            .prop_map(|(i, j, lost)| Verb::Join(i, j, lost)),
        1 => request().prop_map(Verb::Drop),
        3 => request().prop_map(Verb::Emitted),
        1 => (request(), discard(), 0u32..9).prop_map(|(i, why, n)| Verb::Discard(i, why, n)),
        1 => (request(), 0u32..9, 0u32..9).prop_map(|(i, n, k)| Verb::Spec(i, n, k)),
    ];
    let of_steps = prop_oneof![
        2 => (wait(), 0u8..8, 0u32..9).prop_map(|(why, priority, n)| Verb::Queue(why, priority, n)),
        2 => (0u8..8, [0u32..9, 0u32..9, 0u32..20], 0u32..99)
            .prop_map(|(pool, blocks, slots)| Verb::Kv(pool, blocks, slots)),
        12 => (shape(), launch).prop_map(|(shape, launch)| Verb::Begin(shape, launch)),
        1 => Just(Verb::Abandon),
        20 => (stamped(), prop::collection::vec(accepted(), 1..6))
            .prop_map(|(stamped, accepted)| Verb::End(stamped, accepted)),
        20 => span().prop_map(Verb::Advance),
        1 => (0..3_000 * MS).prop_map(Verb::Back),
        3 => Just(Verb::Drain),
    ];
    prop_oneof![3 => of_requests, 2 => of_steps]
}

pub(super) fn role() -> impl Strategy<Value = Role> {
    prop_oneof![4 => Just(Role::Both), 1 => Just(Role::Prefill), 1 => Just(Role::Decode)]
}

/// One emission of a request that is told as it should be.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    /// Time to it, from the one before.
    pub(super) after: u64,
    pub(super) accepted: u32,
    /// On the way the sequence was evicted and admitted again.
    pub(super) evicted: bool,
}

/// A request of one sequence that is told as it should be.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) admission: u64,
    pub(super) queue: u64,
    pub(super) turns: Vec<Turn>,
    pub(super) emit: u64,
    pub(super) outcome: Outcome,
}

pub(super) fn life() -> impl Strategy<Value = Life> {
    let short = || 0..200 * MS;
    let turn = (2..200 * MS, 1u32..5, any::<bool>()).prop_map(|(after, accepted, evicted)| Turn {
        after,
        accepted,
        evicted,
    });
    (short(), short(), prop::collection::vec(turn, 1..12), short(), outcome()).prop_map(
        |(admission, queue, turns, emit, outcome)| Life { admission, queue, turns, emit, outcome },
    )
}
