//! The verbs of a request's life, from its arrival to its end.

use crate::recorder::{class, stepscope_recorder, verb};
use crate::scope::{stepscope_pool, stepscope_priority, stepscope_series};
use crate::wall::*;
use crate::words::*;
use std::mem::MaybeUninit;
use stepscope_rs::{ErrorType, Origin, Outcome, Preempt, Recorder, Request, Stream, Time};

/// One request, or one more sequence of it: plain data, the engine's, to be kept anywhere and moved
/// with memcpy, but never used as two copies. Zeroed = an empty slot, on which every verb is counted
/// and does nothing. End it with `stepscope_finish` or `stepscope_join`, or say that it was lost
/// with `stepscope_request_drop`: one that is simply forgotten stays in flight for ever.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_request {
    /// The library's; with room for what later versions keep.
    pub opaque: [u64; 12],
}

/// What the thread that writes to the client needs to report the first chunk. Plain data.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_stream {
    /// The library's; with room for what later versions keep.
    pub opaque: [u64; 4],
}

/// The arrival of a request in another process, to be carried along with its KV blocks.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_origin {
    /// Arrival on the first process's clock.
    pub recv_ns: u64,
    /// Time from the arrival to the hand-over.
    pub elapsed_ns: u64,
    /// Which clock `recv_ns` is on; 0 = unknown.
    pub clock: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<Request>() <= size_of::<stepscope_request>());
    assert!(align_of::<Request>() == align_of::<stepscope_request>());
    assert!(size_of::<Stream>() <= size_of::<stepscope_stream>());
    assert!(size_of::<stepscope_origin>() == 24);
};

const NO_REQUEST: stepscope_request = stepscope_request { opaque: [0; 12] };
const NO_STREAM: stepscope_stream = stepscope_stream { opaque: [0; 4] };

/// A value of Rust's as the first bytes of zeroed words.
fn into_words<T, W: Copy>(value: T) -> W {
    const { assert!(size_of::<T>() <= size_of::<W>() && align_of::<T>() <= align_of::<W>()) }
    let mut words = MaybeUninit::<W>::zeroed();
    // SAFETY: it fits; `W` is an array of plain numbers, for which any bytes are a value, and the
    // types kept here have no padding.
    unsafe {
        words.as_mut_ptr().cast::<T>().write(value);
        words.assume_init()
    }
}

/// The request in a slot. Any bytes are one: it is plain numbers, which verbs check.
///
/// # Safety
/// The pointer leads nowhere or to a slot that nobody else uses meanwhile.
#[inline(always)]
pub(crate) unsafe fn request<'a>(slot: *mut stepscope_request) -> Option<&'a mut Request> {
    // SAFETY: a request lies at the slot's start; the rest is the caller's promise.
    unsafe { look_mut(slot.cast::<Request>()) }
}

/// A verb on one request; without one it is as on an empty slot.
///
/// # Safety
/// As for `verb` and `request`.
#[inline(always)]
unsafe fn on(
    recorder: *const stepscope_recorder,
    slot: *mut stepscope_request,
    body: impl FnOnce(&mut Recorder, &mut Request),
) {
    // SAFETY: the caller's promise.
    unsafe {
        verb(recorder, (), |recorder| match request(slot) {
            Some(request) => body(recorder, request),
            None => recorder.refuse(),
        })
    }
}

fn at(ns: u64) -> Time {
    Time::from_nanos(ns)
}

/// The request is in. `id` is the engine's own number; it names the request in exemplars.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_arrive(
    recorder: *const stepscope_recorder,
    series: stepscope_series,
    id: u64,
    at_ns: u64,
) -> stepscope_request {
    // SAFETY: as the header asks.
    unsafe {
        verb(recorder, NO_REQUEST, |r| into_words(r.arrive(class(recorder, series), id, at(at_ns))))
    }
}

/// The request came to another process first, which handed over `origin`.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_arrive_from(
    recorder: *const stepscope_recorder,
    series: stepscope_series,
    id: u64,
    origin: *const stepscope_origin,
    at_ns: u64,
) -> stepscope_request {
    // SAFETY: as the header asks.
    unsafe {
        verb(recorder, NO_REQUEST, |r| match look(origin) {
            Some(o) => {
                let (recv_ns, elapsed_ns, clock) = (o.recv_ns, o.elapsed_ns, o.clock);
                let origin = Origin { recv_ns, elapsed_ns, clock, reserved: 0 };
                into_words(r.arrive_from(class(recorder, series), id, origin, at(at_ns)))
            }
            None => {
                r.refuse();
                into_words(r.arrive(class(recorder, series), id, at(at_ns)))
            }
        })
    }
}

/// What travels with the KV blocks when another process decodes on; zeroed without a request.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_request_origin(
    recorder: *const stepscope_recorder,
    request: *const stepscope_request,
    at_ns: u64,
) -> stepscope_origin {
    let none = stepscope_origin { recv_ns: 0, elapsed_ns: 0, clock: 0, reserved: 0 };
    // SAFETY: as the header asks.
    unsafe {
        verb(recorder, none, |r| match look(request.cast()) {
            Some(q) => into_words(r.origin(q, at(at_ns))),
            None => {
                r.refuse();
                none
            }
        })
    }
}

/// The request stands in the scheduler's queue.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_enqueue(
    recorder: *const stepscope_recorder,
    request: *mut stepscope_request,
    at_ns: u64,
) {
    // SAFETY: as the header asks.
    unsafe { on(recorder, request, |r, q| r.enqueue(q, at(at_ns))) }
}

/// Admitted into a batch. `cached` and `transferred` prompt positions need no compute.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_schedule(
    recorder: *const stepscope_recorder,
    request: *mut stepscope_request,
    at_ns: u64,
    cached: u32,
    transferred: u32,
) {
    // SAFETY: as the header asks.
    unsafe { on(recorder, request, |r, q| r.schedule(q, at(at_ns), cached, transferred)) }
}

/// `positions` of this sequence are computed in a step: a chunk of its prompt, or recompute.
/// Nothing takes it back: tell it once the step is sure to run, which may be behind its launch.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_prefill(
    recorder: *const stepscope_recorder,
    request: *mut stepscope_request,
    positions: u32,
) {
    // SAFETY: as the header asks.
    unsafe { on(recorder, request, |r, q| r.prefill(q, positions)) }
}

/// A running sequence is put back to waiting. An unknown reason is counted, and recorded as memory.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_preempt(
    recorder: *const stepscope_recorder,
    request: *mut stepscope_request,
    at_ns: u64,
    reason: stepscope_preempt_reason,
) {
    // SAFETY: as the header asks.
    unsafe {
        on(recorder, request, |r, q| {
            let known = known(r, preempt(reason), Preempt::Memory);
            r.preempt(q, at(at_ns), known)
        })
    }
}

/// What stands for an unknown number, which is counted.
fn known<T>(recorder: &mut Recorder, word: Option<T>, instead: T) -> T {
    word.unwrap_or_else(|| {
        recorder.refuse();
        instead
    })
}

/// One more sequence of the same request (n > 1, beams). Call it before the step's
/// `stepscope_tokens`; `stepscope_join` ends it.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_fork(
    recorder: *const stepscope_recorder,
    lead: *mut stepscope_request,
) -> stepscope_request {
    // SAFETY: as the header asks.
    unsafe {
        verb(recorder, NO_REQUEST, |r| match request(lead) {
            Some(lead) => into_words(r.fork(lead)),
            None => {
                r.refuse();
                NO_REQUEST
            }
        })
    }
}

/// `child` emitted before its lead did: its time is the request's TTFT.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_first_from(
    recorder: *const stepscope_recorder,
    lead: *mut stepscope_request,
    child: *const stepscope_request,
) {
    let same = std::ptr::eq(lead, child);
    // SAFETY: as the header asks; the two are not the same slot.
    unsafe {
        on(recorder, lead, |r, lead| match look(child.cast()).filter(|_| !same) {
            Some(child) => r.first_from(lead, child),
            None => r.refuse(),
        })
    }
}

/// A child ended; its gaps count for the request. `discard` says why its tokens are in no answer,
/// or `STEPSCOPE_DISCARD_NONE`. The slot is marked ended: a second call is counted.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_join(
    recorder: *const stepscope_recorder,
    lead: *mut stepscope_request,
    child: *mut stepscope_request,
    at_ns: u64,
    discard: stepscope_discard_reason,
) {
    let same = std::ptr::eq(lead, child);
    // SAFETY: as the header asks; the two are not the same slot.
    unsafe {
        on(recorder, lead, |r, lead| match request(child).filter(|_| !same) {
            Some(child) => r.join_in_place(lead, child, at(at_ns), crate::words::discard(discard)),
            None => r.refuse(),
        })
    }
}

/// The request ended. The slot is marked ended: a second call is counted. An unknown outcome or
/// error type is counted, and recorded as failed, internal.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_finish(
    recorder: *const stepscope_recorder,
    request: *mut stepscope_request,
    at_ns: u64,
    outcome: stepscope_outcome,
    error: stepscope_error_type,
) {
    // SAFETY: as the header asks.
    unsafe {
        on(recorder, request, |r, q| {
            let word = crate::words::outcome(outcome, error);
            let outcome = known(r, word, Outcome::Failed(ErrorType::Internal));
            r.finish_in_place(q, at(at_ns), outcome)
        })
    }
}

/// The request is lost to the engine: no more verbs will come. It leaves in flight and is counted
/// in `llm_invalid_total{reason="dropped"}`; the slot becomes empty.
///
/// Thread: any, one at a time for a request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_request_drop(request: *mut stepscope_request) {
    // SAFETY: as the header asks.
    wall((), || unsafe {
        if let Some(request) = self::request(request) {
            drop(std::mem::take(request))
        }
    })
}

/// Tokens accepted for this sequence so far; 0 for NULL.
///
/// Thread: any that may look at the request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_request_tokens(request: *const stepscope_request) -> u32 {
    // SAFETY: as the header asks.
    wall(0, || unsafe { look(request.cast::<Request>()).map_or(0, Request::tokens) })
}

/// `tokens` were computed and are in no answer. Rejected drafts are counted by `stepscope_spec`,
/// aborted tokens by `stepscope_finish`. An unknown reason is counted and nothing else.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_discard(
    recorder: *const stepscope_recorder,
    request: *mut stepscope_request,
    reason: stepscope_discard_reason,
    tokens: u32,
) {
    // SAFETY: as the header asks.
    unsafe {
        on(recorder, request, |r, q| match discard(reason) {
            Some(reason) => r.discard(q, reason, tokens),
            None => r.refuse(),
        })
    }
}

/// A speculation step drafted and accepted so many tokens for this sequence.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_spec(
    recorder: *const stepscope_recorder,
    request: *mut stepscope_request,
    drafted: u32,
    accepted: u32,
) {
    // SAFETY: as the header asks.
    unsafe { on(recorder, request, |r, q| r.spec(q, drafted, accepted)) }
}

/// A handle for the thread that writes to the client; zeroed without a request.
///
/// Thread: any that may look at the request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_request_stream(
    request: *const stepscope_request,
) -> stepscope_stream {
    // SAFETY: as the header asks.
    wall(NO_STREAM, || unsafe {
        look(request.cast::<Request>()).map_or(NO_STREAM, |request| into_words(request.stream()))
    })
}

/// The first chunk with a generated token is handed to the transport. Later calls for the same
/// stream are one compare.
///
/// Thread: the recorder's; the transport thread has a recorder of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_emitted(
    recorder: *const stepscope_recorder,
    stream: *mut stepscope_stream,
    at_ns: u64,
) {
    // SAFETY: as the header asks; any bytes are a stream.
    unsafe {
        verb(recorder, (), |r| match look_mut(stream.cast::<Stream>()) {
            Some(stream) => r.emitted(stream, at(at_ns)),
            None => r.refuse(),
        })
    }
}

/// Level: how many requests of this priority wait for this reason. One recorder per level.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_queue(
    recorder: *const stepscope_recorder,
    reason: stepscope_wait_reason,
    priority: stepscope_priority,
    waiting: u32,
) {
    // SAFETY: as the header asks.
    unsafe {
        verb(recorder, (), |r| match wait(reason) {
            Some(reason) => r.queue(reason, priority.get(), waiting),
            None => r.refuse(),
        })
    }
}

/// Level, and one sample of the usage: call it once per step. `referenced` blocks are held by
/// sequences, `cached` ones are unreferenced but reusable, `usable` = total - reserved;
/// `slots_used` = token slots filled in the referenced blocks.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_kv(
    recorder: *const stepscope_recorder,
    pool: stepscope_pool,
    referenced: u32,
    cached: u32,
    usable: u32,
    slots_used: u32,
) {
    // SAFETY: as the header asks.
    unsafe { verb(recorder, (), |r| r.kv(pool.get(), referenced, cached, usable, slots_used)) }
}
