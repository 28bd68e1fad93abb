//! `stepscope_gpu`: the stamps on one CUDA context.

use crate::config::complete;
use crate::scope::{self, stepscope_scope};
use crate::ticket::{put, stepscope_step_times, stepscope_ticket};
use crate::wall::*;
use crate::words::*;
use std::ffi::{c_char, c_void};
use std::time::Duration;
use stepscope_rs::gpu::cupti::Cupti;
use stepscope_rs::gpu::{DetachError, Gpu, GpuUnavailable, Options, RawStream, StepTicket};

/// The stamps on one CUDA context.
pub struct stepscope_gpu {
    pub(crate) gpu: Gpu,
}

/// How to attach to a GPU. Set `size` to `sizeof(stepscope_gpu_options)` and the rest to zero, then
/// what you want to change: 0 and NULL mean the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_gpu_options {
    /// `sizeof(stepscope_gpu_options)`.
    pub size: usize,
    /// The driver's library; default `libcuda.so.1`, the copy the engine has loaded.
    pub library: *const c_char,
    /// Label `gpu_id` of what the stamps tell; default the scope's.
    pub gpu_id: *const c_char,
    /// NVML's library; default the driver's.
    pub nvml_library: *const c_char,
    /// CUPTI's library; default it is searched for.
    pub cupti_library: *const c_char,
    /// Steps a lane remembers, a power of two from 64 to 1,048,576; default 16,384.
    pub slots: u32,
    /// Lanes that can be opened, 1 to 64; default 4.
    pub lanes: u16,
    /// 1 = do not read the device through NVML.
    pub without_nvml: u8,
    /// 1 = CUPTI times whole graphs too; attach before the first graph is captured.
    pub cupti_graphs: u8,
}
const _: () = assert!(size_of::<stepscope_gpu_options>() == 48);

/// How well GPU times are known on the host's clock.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_gpu_clock_state {
    /// Bound of the error of a time mapped now, in ns.
    pub error_ns: u64,
    /// Smallest step of the GPU's timer, in ns.
    pub resolution_ns: u64,
    /// Probe rounds that were kept.
    pub rounds: u64,
    /// Probe rounds that were not.
    pub rejected: u64,
    /// Jumps of the GPU's clock against the host's.
    pub jumps: u64,
    /// Age of the newest round, in ns.
    pub age_ns: u64,
    /// Grows with every jump; times of an older epoch cannot be mapped.
    pub epoch: u64,
}

/// How far a lane is, as numbers of its steps.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_gpu_lane_progress {
    /// Steps begun.
    pub issued: u64,
    /// Newest step whose end was launched.
    pub ended: u64,
    /// Newest step that finished on the device.
    pub completed: u64,
    /// Newest step that was given up.
    pub abandoned: u64,
}

/// # Safety
/// `given` is NULL or leads to `size` bytes, and its strings end.
unsafe fn options(given: *const stepscope_gpu_options) -> Result<Options, Refusal> {
    let mut options = Options::default();
    if given.is_null() {
        return Ok(options);
    }
    // SAFETY: the caller's promise.
    unsafe {
        let c = complete(given)?;
        options.library = path(c.library);
        options.gpu_id = text(c.gpu_id).map(Into::into);
        options.nvml = c.without_nvml == 0;
        options.nvml_library = path(c.nvml_library);
        options.cupti.library = path(c.cupti_library);
        options.cupti.mode = if c.cupti_graphs == 0 { Cupti::Off } else { Cupti::Graphs };
        options.lanes = if c.lanes == 0 { options.lanes } else { c.lanes };
        options.slots = if c.slots == 0 { options.slots } else { c.slots };
    }
    Ok(options)
}

/// A setting or a machine at its limits is not the same as a machine without a GPU.
fn unavailable(why: &GpuUnavailable) -> stepscope_status {
    match why {
        GpuUnavailable::BadOptions(_) => STEPSCOPE_ERROR_INVALID,
        GpuUnavailable::MapFailed { .. } | GpuUnavailable::Thread(_) => STEPSCOPE_ERROR_RESOURCES,
        GpuUnavailable::Call { .. } => STEPSCOPE_ERROR_DRIVER,
        _ => STEPSCOPE_ERROR_UNAVAILABLE,
    }
}

/// A `CUstream` or `cudaStream_t` as Rust names it.
///
/// # Safety
/// It is one, or one of the three default streams' numbers.
pub(crate) unsafe fn stream(pointer: *mut c_void) -> RawStream {
    // SAFETY: the caller's promise.
    unsafe { RawStream::from_ptr(pointer) }
}

/// Attaches to the GPU whose context `stream` belongs to (a `CUstream` or `cudaStream_t`; NULL = the
/// legacy default stream of the current context). Attach after the engine's own initialisation and
/// not while it serves. Without a GPU the answer is `STEPSCOPE_ERROR_UNAVAILABLE`, with options that
/// cannot be `STEPSCOPE_ERROR_INVALID`: steps are then timed by the host's clock. `options` NULL = all
/// defaults.
///
/// Thread: one on which the engine's context is current. Ownership: stop stepping, call
/// `stepscope_gpu_detach`, then destroy the context, then `stepscope_gpu_free`. `stream` must live
/// as long as a lane is open on it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_gpu_attach(
    scope: *const stepscope_scope,
    stream: *mut c_void,
    options: *const stepscope_gpu_options,
    out: *mut *mut stepscope_gpu,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        hand_out(out, || {
            let options = self::options(options)?;
            scope::with(scope, |scope| {
                let gpu = scope.gpu(self::stream(stream), &options);
                let gpu = gpu.map_err(|why| Refusal::new(unavailable(&why), why))?;
                Ok(stepscope_gpu { gpu })
            })
        })
    })
}

/// Takes the stamps apart. Stop stepping first. The handle and its lanes become inert.
/// `STEPSCOPE_ERROR_BUSY`: steps were still under way after `patience_ms`, or graphs of the engine
/// may still stamp; the memory is then kept, which is safe. May be asked again, and goes on then.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_gpu_detach(
    gpu: *const stepscope_gpu,
    patience_ms: u32,
) -> stepscope_status {
    let number = |why: &DetachError| match why {
        DetachError::Busy | DetachError::Retained => STEPSCOPE_ERROR_BUSY,
        _ => STEPSCOPE_ERROR_DRIVER,
    };
    // SAFETY: as the header asks.
    status(|| unsafe {
        let gpu = need(gpu, "the GPU")?.gpu.clone();
        let detached = gpu.detach(Duration::from_millis(patience_ms.into()));
        detached.map_err(|why| Refusal::new(number(&why), why))
    })
}

/// Frees the handle; lanes that are open go on. `*gpu` becomes NULL. NULL, and a pointer to NULL,
/// are fine.
///
/// Thread: any, when no other call with this handle is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_gpu_free(gpu: *mut *mut stepscope_gpu) {
    // SAFETY: as the header asks.
    unsafe { free(gpu) }
}

/// What the stamps of a step say now; may be asked again. `STEPSCOPE_OK` fills `*out`,
/// `STEPSCOPE_PENDING` = not there yet, 1 to 99 = lost, and why.
///
/// Thread: any that may look at the ticket.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_gpu_resolve(
    gpu: *const stepscope_gpu,
    ticket: *const stepscope_ticket,
    out: *mut stepscope_step_times,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let gpu = &need(gpu, "the GPU")?.gpu;
        let ticket = need(ticket, "the ticket")?.words();
        let out = need_mut(out, "the place for the times")?;
        put(gpu.resolve(&StepTicket::from_words(&ticket)), out)
    })
}

/// The same for the last time, and counted; the ticket becomes empty.
///
/// Thread: any, one at a time for a ticket.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_gpu_settle(
    gpu: *const stepscope_gpu,
    ticket: *mut stepscope_ticket,
    out: *mut stepscope_step_times,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let gpu = &need(gpu, "the GPU")?.gpu;
        let ticket = need_mut(ticket, "the ticket")?;
        // A ticket is settled once: not without a place for what it says.
        let out = need_mut(out, "the place for the times")?;
        put(gpu.settle(ticket.take()), out)
    })
}

/// How well GPU times are known on the host's clock.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_gpu_clock(
    gpu: *const stepscope_gpu,
    out: *mut stepscope_gpu_clock_state,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let clock = need(gpu, "the GPU")?.gpu.clock();
        *need_mut(out, "the place for the clock")? = stepscope_gpu_clock_state {
            error_ns: clock.error_ns,
            resolution_ns: clock.resolution_ns,
            rounds: clock.rounds,
            rejected: clock.rejected,
            jumps: clock.jumps,
            age_ns: clock.age_ns,
            epoch: clock.epoch.into(),
        };
        Ok(())
    })
}

/// Whether CUPTI times whole graphs too, as `stepscope_gpu_options.cupti_graphs` asked: `STEPSCOPE_OK`, or
/// `STEPSCOPE_NO` and `stepscope_last_error` says why not, for good. Stamps go on without it.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_gpu_cupti(gpu: *const stepscope_gpu) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let cupti = need(gpu, "the GPU")?.gpu.cupti();
        cupti.map_err(|why| Refusal::new(STEPSCOPE_NO, why))
    })
}

/// How far a lane is; readable while the engine's thread hangs. A lane that was never opened has
/// made no step.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_gpu_progress(
    gpu: *const stepscope_gpu,
    lane: u16,
    out: *mut stepscope_gpu_lane_progress,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let p = need(gpu, "the GPU")?.gpu.progress(lane);
        let (issued, ended, completed, abandoned) = (p.issued, p.ended, p.completed, p.abandoned);
        *need_mut(out, "the place for the progress")? =
            stepscope_gpu_lane_progress { issued, ended, completed, abandoned };
        Ok(())
    })
}
