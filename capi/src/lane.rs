//! `stepscope_lane`: the steps of one CUDA stream, for a recorder or for the engine itself.

use crate::gpu::{stepscope_gpu, stream};
use crate::ticket::stepscope_ticket;
use crate::wall::*;
use crate::words::*;
use std::ffi::c_void;
use stepscope_rs::gpu::{CaptureError, DeviceHandle, Lane, LaneError, Point};

/// The steps of one CUDA stream.
pub struct stepscope_lane {
    lane: OneThread<Lane>,
}

/// Complete in `stepscope.cuh`: 16 bytes that an engine's kernel takes by value.
pub struct stepscope_handle;

impl stepscope_lane {
    pub(crate) fn into_lane(self) -> Lane {
        self.lane.into_inner()
    }
}

/// # Safety
/// The pointer leads nowhere or to a handle that was not freed.
unsafe fn on<R>(
    lane: *const stepscope_lane,
    body: impl FnOnce(&mut Lane) -> R,
) -> Result<R, Refusal> {
    let wrong = || Refusal::new(STEPSCOPE_ERROR_THREAD, "another thread uses this lane");
    // SAFETY: the caller's promise.
    unsafe { need(lane, "the lane") }?.lane.with(body).ok_or_else(wrong)
}

/// Opens a lane for the steps of one stream; lanes are never recycled.
///
/// Thread: one on which the engine's context is current. The lane then belongs to the first thread
/// that uses it. Ownership: give it to a recorder with `stepscope_recorder_set_lane`, or free it
/// with `stepscope_lane_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_lane_open(
    gpu: *const stepscope_gpu,
    stream: *mut c_void,
    out: *mut *mut stepscope_lane,
) -> stepscope_status {
    let number = |why: &LaneError| match why {
        LaneError::Exhausted => STEPSCOPE_ERROR_RESOURCES,
        LaneError::Detached => STEPSCOPE_LOST_DETACHED,
        _ => STEPSCOPE_ERROR_DRIVER,
    };
    // SAFETY: as the header asks.
    status(|| unsafe {
        hand_out(out, || {
            let lane = need(gpu, "the GPU")?.gpu.lane(self::stream(stream));
            let lane = lane.map_err(|why| Refusal::new(number(&why), why))?;
            Ok(stepscope_lane { lane: OneThread::new(lane) })
        })
    })
}

/// Frees a lane that no recorder took over. `*lane` becomes NULL. NULL, and a pointer to NULL, are
/// fine.
///
/// Thread: any, when no other call with this lane is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_lane_free(lane: *mut *mut stepscope_lane) {
    // SAFETY: as the header asks.
    unsafe { free(lane) }
}

/// Lets the next thread that uses the lane have it: one that captured graphs may give it to one that steps.
///
/// Thread: the lane's; another one gets `STEPSCOPE_ERROR_THREAD`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_lane_let_go(lane: *const stepscope_lane) -> stepscope_status {
    let wrong = || Refusal::new(STEPSCOPE_ERROR_THREAD, "another thread uses this lane");
    // SAFETY: as the header asks.
    status(|| unsafe { need(lane, "the lane")?.lane.let_go().ok_or_else(wrong) })
}

/// While `capturing` captures a graph: adds a stamp as its next node. `point` is a number of
/// `stepscope.cuh`: 0 begin, 1 and 2 anything in between, 3 end. Replays then stamp the step that
/// was begun last on this lane.
///
/// Thread: the lane's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_lane_capture(
    lane: *const stepscope_lane,
    capturing: *mut c_void,
    point: u32,
) -> stepscope_status {
    let number = |why: &CaptureError| match why {
        CaptureError::Detached => STEPSCOPE_LOST_DETACHED,
        CaptureError::NotCapturing => STEPSCOPE_ERROR_INVALID,
        _ => STEPSCOPE_ERROR_DRIVER,
    };
    // SAFETY: as the header asks.
    status(|| unsafe {
        let point = match point {
            0 => Point::Begin,
            1 => Point::MarkA,
            2 => Point::MarkB,
            3 => Point::End,
            _ => return Err(Refusal::new(STEPSCOPE_ERROR_INVALID, "point: say 0 to 3")),
        };
        let captured = on(lane, |lane| lane.capture(self::stream(capturing), point))?;
        captured.map_err(|why| Refusal::new(number(&why), why))
    })
}

/// What an engine's kernel needs to stamp by itself; see `stepscope.cuh`, where `stepscope_handle`
/// is complete.
///
/// Thread: the lane's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_lane_device_handle(
    lane: *const stepscope_lane,
    out: *mut stepscope_handle,
) -> stepscope_status {
    // SAFETY: as the header asks: a `stepscope_handle` is two words, as `DeviceHandle` is.
    status(|| unsafe {
        let place = need_mut(out.cast::<DeviceHandle>(), "the place for the handle")?;
        *place = on(lane, |lane| lane.device_handle())?;
        Ok(())
    })
}

/// Number of the lane in its GPU, from 0 on, for `stepscope_gpu_progress`.
///
/// Thread: the lane's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_lane_id(
    lane: *const stepscope_lane,
    out: *mut u16,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        *need_mut(out, "the place for the number")? = on(lane, |lane| lane.id())?;
        Ok(())
    })
}

/// Launches a begin stamp by hand, for an engine that wants times without a recorder. Directly
/// before the first launch of the step.
///
/// Thread: the lane's, with the engine's context current.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_lane_begin(
    lane: *const stepscope_lane,
    shape: stepscope_shape,
    out: *mut stepscope_ticket,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let place = need_mut(out, "the place for the ticket")?;
        place.opaque = [0; 12];
        *place = stepscope_ticket::of(on(lane, |lane| lane.begin(shape.get().into()))?);
        Ok(())
    })
}

/// Marks the end, directly after the step's last launch and before the engine's own event.
///
/// Thread: the lane's, with the engine's context current.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_lane_end(
    lane: *const stepscope_lane,
    ticket: *mut stepscope_ticket,
    how: stepscope_launch,
) -> stepscope_status {
    let unknown = || Refusal::new(STEPSCOPE_ERROR_INVALID, "how: say 0 or 1");
    // SAFETY: as the header asks.
    status(|| unsafe {
        let place = need_mut(ticket, "the ticket")?;
        let in_graph = launch(how).ok_or_else(unknown)? == stepscope_rs::Launch::InGraph;
        on(lane, |lane| {
            let mut ticket = place.take();
            if in_graph {
                lane.end_in_graph(&mut ticket)
            } else {
                lane.end(&mut ticket)
            }
            *place = stepscope_ticket::of(ticket)
        })
    })
}

/// The step did not run; the ticket becomes empty.
///
/// Thread: the lane's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_lane_abandon(
    lane: *const stepscope_lane,
    ticket: *mut stepscope_ticket,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let place = need_mut(ticket, "the ticket")?;
        on(lane, |lane| lane.abandon(place.take()))
    })
}
