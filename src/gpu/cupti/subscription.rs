//! A running CUPTI: starts it, marks launches with step ids, and polls graph times.

use std::ffi::c_void;
use std::path::PathBuf;
use std::ptr::null_mut;

use super::binding::*;
use super::library::Functions;
use super::pool::{self, Guard, PoolCounts};
use super::sizes::Sizes;
use super::unavailable::CuptiUnavailable;
use super::walk::{GraphTime, Keep, LAUNCHES, Next, Walker};

/// What CUPTI is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cupti {
    /// Nothing; CUPTI is not even loaded.
    #[default]
    Off,
    /// The GPU time of each launch of a graph.
    Graphs,
}

/// How to use CUPTI.
#[derive(Clone, Debug, Default)]
pub struct CuptiOptions {
    /// What to ask for.
    pub mode: Cupti,
    /// The file to load instead of searching for one.
    pub library: Option<PathBuf>,
}

/// Asks for buffers whose records are complete.
const FLUSH_COMPLETED: u32 = 0;
/// `CUPTI_ACTIVITY_FLAG_FLUSH_FORCED`.
const FLUSH_FORCED: u32 = 1;

/// `cuptiGetStreamId`.
type StreamId = unsafe extern "C" fn(CUcontext, CUstream, *mut u32) -> CUptiResult;

/// CUPTI's name for us.
struct Subscriber(CUpti_SubscriberHandle);

// SAFETY: the handle is an opaque token, given only to cuptiUnsubscribe, which CUPTI's header calls
// thread safe.
unsafe impl Send for Subscriber {}

/// A running CUPTI; the process has at most one. Dropping it stops the records and unsubscribes.
///
/// Belongs to the thread that polls; the engine's threads get [`ids`](Subscription::ids).
pub struct Subscription {
    functions: Functions,
    subscriber: Subscriber,
    walker: Walker,
    with_ids: bool,
    dropped: u64,
    flush_errors: u64,
    before: PoolCounts,
    /// Last, so that the buffers have an owner until CUPTI is silent.
    guard: Guard,
}

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Graph times that carry the id of their step.
    pub attributed: u64,
    /// Graph times that carry none.
    pub unattributed: u64,
    /// Records for which CUPTI had no time.
    pub invalid: u64,
    /// Launches that were forgotten, for want of room, before their time came.
    pub overwritten: u64,
    /// Records of kinds nobody asked for, and rests of buffers that could not be read.
    pub unknown: u64,
    /// Records that CUPTI says it dropped for want of a buffer.
    pub dropped: u64,
    /// Times CUPTI asked for a buffer while it held or we had all of them.
    pub exhausted: u64,
    /// Buffers that CUPTI returned without having got them from us.
    pub strange: u64,
    /// Flushes that failed.
    pub flush_errors: u64,
}

impl Subscription {
    /// Loads CUPTI, subscribes and asks for records.
    ///
    /// `clock` gives nanoseconds of `CLOCK_MONOTONIC`; CUPTI converts GPU times with it, on any
    /// thread, so it must not block. `driver_has_export_table`: whether a real driver is attached.
    /// `captured_before`: whether the engine captured a graph already.
    ///
    /// # Errors
    /// Why there will be no graph times. What was started is undone. A [refusal](CuptiUnavailable::Refused)
    /// will not go away while the process lives, and asking again may disturb the tool that has CUPTI:
    /// whoever calls this keeps it and asks no more.
    pub fn start(
        options: &CuptiOptions,
        clock: extern "C" fn() -> u64,
        driver_has_export_table: bool,
        captured_before: bool,
    ) -> Result<Subscription, CuptiUnavailable> {
        if options.mode == Cupti::Off {
            return Err(CuptiUnavailable::Off);
        }
        // Before any call: CUPTI 13.2 crashes without a driver, even when asked for its version.
        if !driver_has_export_table {
            return Err(CuptiUnavailable::NoDriver);
        }
        if captured_before {
            return Err(CuptiUnavailable::TooLate);
        }
        let guard = Guard::take().ok_or(CuptiUnavailable::InUse)?;
        let functions = Functions::load(options.library.as_deref())?;
        let version = functions.version()?;
        if Sizes::of(version).is_none() {
            return Err(CuptiUnavailable::Version(version));
        }
        let subscriber = subscribe(&functions)?;
        let with_ids = functions.cuptiActivityEnableDriverApi.is_some();
        let subscription = Subscription {
            functions,
            subscriber,
            walker: Walker::new(Keep::Graphs, with_ids),
            with_ids,
            dropped: 0,
            flush_errors: 0,
            before: guard.counts(),
            guard,
        };
        subscription.enable(clock)?; // On failure the drop undoes what was done.
        tracing::info!(version, ids = with_ids, "CUPTI times graphs");
        Ok(subscription)
    }

    fn enable(&self, clock: extern "C" fn() -> u64) -> Result<(), CuptiUnavailable> {
        let cupti = &self.functions;
        // SAFETY: the clock takes nothing, so it is sound at any time; a function lives for ever.
        let code = unsafe { (cupti.cuptiActivityRegisterTimestampCallback)(Some(clock)) };
        check("cuptiActivityRegisterTimestampCallback", code)?;
        // SAFETY: both callbacks are of the header's types, live for ever, and are sound on any
        // thread at any time, also after this value is gone (see pool).
        let code = unsafe {
            (cupti.cuptiActivityRegisterCallbacks)(Some(pool::requested), Some(pool::completed))
        };
        check("cuptiActivityRegisterCallbacks", code)?;
        if let Some(enable_call) = cupti.cuptiActivityEnableDriverApi {
            self.enable_kind(KIND_EXTERNAL_CORRELATION)?;
            for cbid in LAUNCHES {
                // SAFETY: takes numbers only; the cbids are the header's.
                check("cuptiActivityEnableDriverApi", unsafe { enable_call(cbid, 1) })?;
            }
        }
        // Last, because this one cannot be undone.
        self.enable_kind(KIND_GRAPH_TRACE)
    }

    fn enable_kind(&self, kind: u32) -> Result<(), CuptiUnavailable> {
        // SAFETY: takes a number only; buffers can be asked for from now on, and the callbacks are
        // registered.
        check("cuptiActivityEnable", unsafe { (self.functions.cuptiActivityEnable)(kind) })
    }

    /// The engine's end: marks launches with ids of steps.
    pub fn ids(&self) -> ExternalIds {
        ExternalIds {
            push: self.functions.cuptiActivityPushExternalCorrelationId,
            pop: self.functions.cuptiActivityPopExternalCorrelationId,
            stream_id: self.functions.cuptiGetStreamId,
            owner: self.with_ids.then_some(self.guard.owner()),
        }
    }

    /// Whether times will carry ids. If not (CUPTI before 12.4), attribute them by
    /// [`by_overlap`](super::by_overlap).
    pub fn with_ids(&self) -> bool {
        self.with_ids
    }

    /// Takes the records that are complete and hands their graph times to `sink`.
    ///
    /// To be called every 100 ms. Blocks while CUPTI hands over its buffers, but does not wait for
    /// the GPU; allocates nothing of its own. A time may come up to three polls late, if its id's
    /// buffer is late.
    pub fn poll(&mut self, sink: &mut dyn FnMut(GraphTime)) {
        self.take(FLUSH_COMPLETED, sink)
    }

    /// The same for the last time: also takes the buffers that CUPTI is still filling. What has not
    /// ended on the GPU yet comes without a time and counts as invalid.
    pub fn finish(&mut self, sink: &mut dyn FnMut(GraphTime)) {
        self.take(FLUSH_FORCED, sink)
    }

    fn take(&mut self, flush: u32, sink: &mut dyn FnMut(GraphTime)) {
        // SAFETY: the callbacks are registered, which is all this needs; neither flag synchronises.
        let code = unsafe { (self.functions.cuptiActivityFlushAll)(flush) };
        self.flush_errors += u64::from(code != SUCCESS);
        let taken = self.guard.take_full();
        let (functions, walker) = (&self.functions, &mut self.walker);
        let next = |buffer: &mut [u8], last| next_record(functions, buffer, last);
        self.guard.each_full(&taken, |buffer| walker.learn(buffer, next));
        self.guard.each_full(&taken, |buffer| walker.times(buffer, next, sink));
        self.guard.give_back(taken);
        walker.settle(sink);
        self.dropped += self.take_dropped();
    }

    /// Records dropped since the last question. Buffers belong to no context, thus NULL and 0.
    fn take_dropped(&self) -> u64 {
        let mut dropped = 0;
        // SAFETY: CUPTI writes one size through the pointer, which is ours; NULL is allowed.
        let code = unsafe {
            (self.functions.cuptiActivityGetNumDroppedRecords)(null_mut(), 0, &mut dropped)
        };
        if code == SUCCESS { dropped as u64 } else { 0 }
    }

    /// What happened since the start.
    pub fn stats(&self) -> Stats {
        let (walked, pool) = (self.walker.counts(), self.guard.counts());
        Stats {
            attributed: walked.attributed,
            unattributed: walked.unattributed,
            invalid: walked.invalid,
            overwritten: walked.overwritten,
            unknown: walked.unknown,
            dropped: self.dropped,
            exhausted: pool.exhausted - self.before.exhausted,
            strange: pool.strange - self.before.strange,
            flush_errors: self.flush_errors,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let cupti = &self.functions;
        // The codes are of no use here: what fails to stop gets no buffers any more.
        // SAFETY: numbers and the handle that cuptiSubscribe gave, unsubscribed only here; these
        // are sound for kinds that were not enabled. Never cuptiFinalize: it may crash threads that
        // are inside CUDA.
        unsafe {
            (cupti.cuptiActivityDisable)(KIND_GRAPH_TRACE);
            if let Some(enable_call) = cupti.cuptiActivityEnableDriverApi {
                for cbid in LAUNCHES {
                    enable_call(cbid, 0);
                }
                (cupti.cuptiActivityDisable)(KIND_EXTERNAL_CORRELATION);
            }
            (cupti.cuptiUnsubscribe)(self.subscriber.0);
        }
    }
}

/// Marks what a thread launches with the id of its step. Copy it into each lane.
///
/// [`push`](ExternalIds::push) and [`pop`](ExternalIds::pop) come in pairs on one thread. Each is
/// one call into CUPTI and allocates nothing here. After the subscription is gone `push` does
/// nothing, and `pop` still takes back what was pushed before.
#[derive(Clone, Copy, Debug)]
pub struct ExternalIds {
    push: unsafe extern "C" fn(CUpti_ExternalCorrelationKind, u64) -> CUptiResult,
    pop: unsafe extern "C" fn(CUpti_ExternalCorrelationKind, *mut u64) -> CUptiResult,
    stream_id: Option<StreamId>,
    /// The pool's owner; none where CUPTI writes no ids.
    owner: Option<u64>,
}

impl ExternalIds {
    /// What this thread launches from now on belongs to this step. True if CUPTI took it, which is
    /// when a `pop` must follow.
    pub fn push(&self, lane: u16, seq: u64) -> bool {
        if !self.owner.is_some_and(pool::owns) {
            return false;
        }
        let id = external_id(lane, seq);
        // SAFETY: takes numbers only, on any thread; the library is never unloaded.
        unsafe { (self.push)(EXTERNAL_KIND_CUSTOM0, id) == SUCCESS }
    }

    /// CUPTI's number of a stream, as in [`GraphTime::stream`]; None if CUPTI does not say.
    ///
    /// # Safety
    /// `context` is a living `CUcontext` or NULL for the current one, `stream` a living stream of it.
    pub unsafe fn stream_id(&self, context: *mut c_void, stream: *mut c_void) -> Option<u32> {
        let mut id = 0;
        let call = self.stream_id?;
        // SAFETY: the handles are the caller's promise; CUPTI writes one u32, which is ours.
        let code = unsafe { call(context.cast(), stream.cast(), &mut id) };
        (code == SUCCESS).then_some(id)
    }

    /// Ends what `push` began. Without a push before it, CUPTI refuses and nothing changes.
    pub fn pop(&self) {
        if self.owner.is_some() {
            let mut last = 0;
            // SAFETY: CUPTI writes one u64, which is ours; the library is never unloaded.
            unsafe { (self.pop)(EXTERNAL_KIND_CUSTOM0, &mut last) };
        }
    }
}

/// `lane << 48 | seq`, as in [`GraphTime::external`].
fn external_id(lane: u16, seq: u64) -> u64 {
    u64::from(lane) << 48 | (seq & ((1 << 48) - 1))
}

fn subscribe(cupti: &Functions) -> Result<Subscriber, CuptiUnavailable> {
    /// Needed by CUPTI, never called: no callback is enabled.
    unsafe extern "C" fn ignore(
        _: *mut c_void,
        _: CUpti_CallbackDomain,
        _: CUpti_CallbackId,
        _: *const c_void,
    ) {
    }
    let mut handle = null_mut();
    // SAFETY: CUPTI writes the handle, which is ours; the callback lives for ever and uses nothing.
    match unsafe { (cupti.cuptiSubscribe)(&mut handle, Some(ignore), null_mut()) } {
        SUCCESS => Ok(Subscriber(handle)),
        code @ (ERROR_MULTIPLE_SUBSCRIBERS | ERROR_NOT_COMPATIBLE) => {
            Err(CuptiUnavailable::Refused(code))
        }
        code => Err(CuptiUnavailable::Call { name: "cuptiSubscribe", code }),
    }
}

fn check(name: &'static str, code: u32) -> Result<(), CuptiUnavailable> {
    if code == SUCCESS { Ok(()) } else { Err(CuptiUnavailable::Call { name, code }) }
}

/// The record behind the one at `last`, found by the library that wrote the buffer.
pub(super) fn next_record(cupti: &Functions, buffer: &mut [u8], last: Option<usize>) -> Next {
    if buffer.is_empty() || last.is_some_and(|last| last >= buffer.len()) {
        return Next::End;
    }
    let begin = buffer.as_mut_ptr();
    let mut record: *mut CUpti_Activity = match last {
        None => null_mut(),
        // SAFETY: `last` is inside the buffer.
        Some(last) => unsafe { begin.add(last) }.cast(),
    };
    // SAFETY: the buffer's length is what CUPTI itself called valid, and `record` is NULL or a
    // record that this very function found before (`each` passes its own answers back).
    let code = unsafe { (cupti.cuptiActivityGetNextRecord)(begin, buffer.len(), &mut record) };
    match (code, record.addr().checked_sub(begin.addr())) {
        (SUCCESS, Some(at)) if at < buffer.len() => Next::Record(at),
        (ERROR_MAX_LIMIT_REACHED, _) => Next::End,
        _ => Next::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::external_id;

    #[test]
    fn an_id_is_the_lane_above_48_bits_of_the_step() {
        assert_eq!(external_id(5, 7), 0x0005_0000_0000_0007);
        assert_eq!(external_id(u16::MAX, u64::MAX), u64::MAX);
    }
}
