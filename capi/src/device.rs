//! `stepscope_device`: the readings of one GPU, fed by the engine or by NVML.

use crate::scope::{self, stepscope_scope};
use crate::wall::*;
use crate::words::*;
use std::ffi::c_char;
use stepscope_rs::Device;
use stepscope_rs::gpu::NvmlDevice;

/// The readings of one GPU.
pub struct stepscope_device {
    device: Device,
}

/// # Safety
/// The pointer leads nowhere or to a handle that was not freed.
unsafe fn on<W>(
    device: *const stepscope_device,
    word: Option<W>,
    body: impl FnOnce(&Device, W),
) -> Result<(), Refusal> {
    let unknown = || Refusal::new(STEPSCOPE_ERROR_INVALID, "no reading or count has this number");
    // SAFETY: the caller's promise.
    let device = unsafe { need(device, "the device") }?;
    body(&device.device, word.ok_or_else(unknown)?);
    Ok(())
}

/// The readings of one GPU, to be fed by an engine that knows them better than NVML, or has none.
/// What is never told has no series.
///
/// Thread: any. Ownership: free it with `stepscope_device_free`; what it told stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_device_new(
    scope: *const stepscope_scope,
    gpu_id: *const c_char,
    out: *mut *mut stepscope_device,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        hand_out(out, || {
            let gpu_id = text(gpu_id).ok_or_else(|| Refusal::null("the gpu_id"))?;
            scope::with(scope, |scope| Ok(stepscope_device { device: scope.device(&gpu_id) }))
        })
    })
}

/// Frees the handle. `*device` becomes NULL. NULL, and a pointer to NULL, are fine.
///
/// Thread: any, when no other call with this handle is under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_device_free(device: *mut *mut stepscope_device) {
    // SAFETY: as the header asks.
    unsafe { free(device) }
}

/// Sets a level, in the unit of the reading. A value that is no finite number clears it.
///
/// Thread: any; no call waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_device_set(
    device: *const stepscope_device,
    reading: stepscope_reading,
    value: f64,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        on(device, crate::words::reading(reading), |d, reading| d.set(reading, value))
    })
}

/// The level is not known any more: its series goes away.
///
/// Thread: any; no call waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_device_clear(
    device: *const stepscope_device,
    reading: stepscope_reading,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { on(device, crate::words::reading(reading), |d, reading| d.clear(reading)) })
}

/// Adds to a count, in the unit of the count. Adding 0 makes its series exist.
///
/// Thread: any; no call waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_device_add(
    device: *const stepscope_device,
    tally: stepscope_tally,
    by: u64,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { on(device, crate::words::tally(tally), |d, tally| d.add(tally, by)) })
}

/// An XID error was seen: adds one to its count; `/health` names the code.
///
/// Thread: any; no call waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_device_xid(
    device: *const stepscope_device,
    tally: stepscope_tally,
    code: u64,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe { on(device, crate::words::tally(tally), |d, tally| d.xid(tally, code)) })
}

/// Reads a device through NVML, on a thread of the scope. `which` is its PCI bus id
/// (`0000:65:00.0`) or UUID (`GPU-...`, `MIG-...`); `library` NULL = the driver's.
/// `stepscope_gpu_attach` does it for the device it attaches to. Takes 10 ms to seconds.
///
/// Thread: any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_watch_device(
    scope: *const stepscope_scope,
    gpu_id: *const c_char,
    which: *const c_char,
    library: *const c_char,
) -> stepscope_status {
    // SAFETY: as the header asks.
    status(|| unsafe {
        let gpu_id = text(gpu_id).ok_or_else(|| Refusal::null("the gpu_id"))?;
        let which = text(which).ok_or_else(|| Refusal::null("the device's name"))?;
        scope::with(scope, |scope| {
            let watched = scope.watch_device(&gpu_id, named(&which), path(library));
            watched.map_err(|why| Refusal::new(STEPSCOPE_ERROR_UNAVAILABLE, why))
        })?;
        Ok(())
    })
}

fn named(which: &str) -> NvmlDevice {
    match which.starts_with("GPU-") || which.starts_with("MIG-") {
        true => NvmlDevice::Uuid(which.into()),
        false => NvmlDevice::PciBusId(which.into()),
    }
}
