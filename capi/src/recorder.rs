//! `stepscope_recorder`: one engine thread's recorder, and the guard that keeps others out.

use crate::lane::stepscope_lane;
use crate::scope::{self, stepscope_scope, stepscope_series};
use crate::wall::*;
use crate::words::*;
use std::ffi::c_char;
use stepscope_rs::catalog::labels;
use stepscope_rs::{Bystander, Class, Recorder, RecorderOptions, Series, Stepscope};

/// Records what one engine thread does.
pub struct stepscope_recorder {
    recorder: OneThread<Recorder>,
    /// For threads that may not touch the recorder.
    bystander: Bystander,
    /// What a zeroed class stands for.
    other: Series,
}

impl stepscope_recorder {
    fn new(scope: &Stepscope, options: RecorderOptions) -> stepscope_recorder {
        let recorder = scope.recorder_with(options);
        let bystander = recorder.bystander();
        let other = scope.series(Class::endpoint(labels::OTHER));
        stepscope_recorder { recorder: OneThread::new(recorder), bystander, other }
    }
}

/// Runs a verb: nothing without a recorder, and nothing but a count on a wrong thread.
///
/// # Safety
/// The pointer leads nowhere or to a handle that was not freed.
#[inline(always)]
pub(crate) unsafe fn verb<T>(
    recorder: *const stepscope_recorder,
    fallback: T,
    body: impl FnOnce(&mut Recorder) -> T,
) -> T
where
    T: Copy,
{
    wall(fallback, || {
        // SAFETY: the caller's promise.
        let Some(handle) = (unsafe { look(recorder) }) else { return fallback };
        handle.recorder.with(body).unwrap_or_else(|| {
            handle.bystander.refuse();
            fallback
        })
    })
}

/// The class that C means.
///
/// # Safety
/// As for `verb`.
pub(crate) unsafe fn class(
    recorder: *const stepscope_recorder,
    series: stepscope_series,
) -> Series {
    // SAFETY: the caller's promise.
    match unsafe { look(recorder) } {
        Some(handle) if series.opaque == 0 => handle.other,
        _ => series.get(),
    }
}

fn wrong_thread() -> Refusal {
    Refusal::new(STEPSCOPE_ERROR_THREAD, "another thread uses this handle; it must let go first")
}

/// Makes a recorder for one engine thread. `gpu_id` NULL = the scope's; `ring_events` 0 = the
/// scope's. On failure `*out` is NULL: every verb on it does nothing.
///
/// Thread: any. The recorder then belongs to the first thread that calls a verb with it: verbs of
/// other threads are refused and counted in `llm_invalid_total{reason="thread"}`, until that thread
/// calls `stepscope_recorder_let_go`. Ownership: free it with `stepscope_recorder_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_recorder_new(
    scope: *const stepscope_scope,
    name: *const c_char,
    gpu_id: *const c_char,
    ring_events: u32,
    out: *mut *mut stepscope_recorder,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        hand_out(out, || {
            let mut options = RecorderOptions::new(text(name).unwrap_or("recorder".into()));
            if let Some(gpu_id) = text(gpu_id) {
                options = options.gpu_id(gpu_id)
            }
            if ring_events > 0 {
                // The largest that a configuration may ask for.
                options = options.ring_events(ring_events.min(1 << 20) as usize)
            }
            scope::with(scope, |scope| Ok(stepscope_recorder::new(scope, options)))
        })
    })
}

/// Lets the next thread that calls a verb have the recorder.
///
/// Thread: the recorder's; another one gets `STEPSCOPE_ERROR_THREAD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_recorder_let_go(
    recorder: *const stepscope_recorder,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { need(recorder, "the recorder")?.recorder.let_go().ok_or_else(wrong_thread) })
}

/// Gives the recorder a lane, and takes it over: `*lane` becomes NULL. `stepscope_begin_step`,
/// `stepscope_step_launched` and `stepscope_end_step` then stamp. Capture stamps into graphs before.
///
/// Thread: the recorder's, whichever thread used the lane before; no call with it is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_recorder_set_lane(
    recorder: *const stepscope_recorder,
    lane: *mut *mut stepscope_lane,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let handle = need(recorder, "the recorder")?;
        // Before the lane is taken: it must stay the caller's if this is a wrong thread.
        handle.recorder.with(|_| ()).ok_or_else(wrong_thread)?;
        let lane = take_back(lane).ok_or_else(|| Refusal::null("the lane"))?.into_lane();
        handle.recorder.with(|recorder| recorder.set_lane(lane)).ok_or_else(wrong_thread)
    })
}

/// Frees a recorder; what it counted stays counted. `*recorder` becomes NULL. NULL, and a pointer
/// to NULL, are fine. Its requests may go on with another recorder.
///
/// Thread: any, when no other call with this recorder is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_recorder_free(recorder: *mut *mut stepscope_recorder) {
    // SAFETY: as the header asks.
    unsafe { free(recorder) }
}
