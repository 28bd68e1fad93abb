//! What no real driver has: knobs, planned failures, counts, and the true relation of the clocks.

use crate::world::WORLD;
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::Ordering;

/// The text, or nothing for null and for what is no UTF-8.
///
/// # Safety
/// `text` is null or terminated.
unsafe fn word<'a>(text: *const c_char) -> &'a str {
    if text.is_null() {
        return "";
    }
    // SAFETY: not null, so terminated by the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or_default()
}

/// Turns a knob: `ppm`, `slew_ppm`, `jump`, `step_ns` of the GPU's clock, `late_ns` of its stores,
/// `launch_ns` of the host. 0, or -1 for an unknown one.
///
/// # Safety
/// `knob` is null or a terminated text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fakecuda_set(knob: *const c_char, value: i64) -> c_int {
    // SAFETY: the caller's promise.
    match unsafe { word(knob) } {
        "ppm" => WORLD.clock.set_ppm(value),
        "slew_ppm" => WORLD.clock.set_slew_ppm(value),
        "jump" => WORLD.clock.set_jump(value),
        "step_ns" => WORLD.clock.set_step(value),
        // Relaxed: knobs that nothing else depends on.
        "late_ns" => WORLD.late.late_ns.store(value.max(0) as u64, Ordering::Relaxed),
        "launch_ns" => WORLD.launch_ns.store(value.max(0) as u64, Ordering::Relaxed),
        _ => return -1,
    }
    0
}

/// After `skip` calls of `symbol` ("*" = any) gives `code` to `count` calls; -1 = success, and
/// nothing is done.
///
/// # Safety
/// `symbol` is null or a terminated text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fakecuda_fail(symbol: *const c_char, skip: u64, count: u64, code: c_int) {
    // SAFETY: the caller's promise.
    WORLD.faults.plan(unsafe { word(symbol) }, skip, count, code)
}

/// Calls of `symbol` so far, "*" = of all.
///
/// # Safety
/// `symbol` is null or a terminated text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fakecuda_calls(symbol: *const c_char) -> u64 {
    // SAFETY: the caller's promise.
    WORLD.faults.calls(unsafe { word(symbol) })
}

/// The GPU's clock now.
#[unsafe(no_mangle)]
pub extern "C" fn fakecuda_time() -> u64 {
    WORLD.clock.now_ns()
}

/// CLOCK_MONOTONIC at a time of the GPU's clock, exactly.
#[unsafe(no_mangle)]
pub extern "C" fn fakecuda_host_of(gpu_ns: u64) -> i64 {
    WORLD.clock.host_of(gpu_ns)
}

/// First and last nanosecond of CLOCK_MONOTONIC, from `from_host` on, at which the GPU's clock showed
/// `gpu_ns`. 0, or -1 if it never did.
///
/// # Safety
/// Both places are valid for one value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fakecuda_shown(
    gpu_ns: u64,
    from_host: i64,
    first: *mut i64,
    last: *mut i64,
) -> c_int {
    let Some((begin, end)) = WORLD.clock.shown(gpu_ns, from_host) else { return -1 };
    // SAFETY: the caller's promise.
    unsafe {
        first.write(begin);
        last.write(end)
    }
    0
}
