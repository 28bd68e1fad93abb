//! Entry points for the driver, its one device, and contexts.

use super::{entries, give};
use crate::capture::{self, Mode};
use crate::codes;
use crate::context::{self, Primary};
use crate::world::WORLD;
use std::ffi::{c_char, c_int, c_uint};
use std::sync::atomic::Ordering;

const PCI_BUS_ID: &[u8] = b"00000000:65:00.0\0";
const NAME: &[u8] = b"Fake GPU\0";
const VERSION: c_int = 13_000;

/// Copies a terminated text to a place of `length` bytes.
///
/// # Safety
/// `place` is valid for `length` bytes.
unsafe fn text(place: *mut c_char, length: c_int, text: &[u8]) -> Result<(), codes::Code> {
    if place.is_null()
        || usize::try_from(length).is_ok_and(|length| length < text.len())
        || length < 0
    {
        return Err(codes::INVALID_VALUE);
    }
    // SAFETY: `length` bytes are valid by the caller's promise, and text is not longer.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), place.cast(), text.len()) };
    Ok(())
}

entries! {
    fn cuInit(_flags: c_uint) {
        WORLD.initialised.store(true, Ordering::SeqCst);
        Ok(())
    }
    fn cuDriverGetVersion(version: *mut c_int) {
        // SAFETY: the caller's promise.
        unsafe { give(version, VERSION) }
    }
    fn cuDeviceGetCount(count: *mut c_int) {
        context::require_init()?;
        // SAFETY: the caller's promise.
        unsafe { give(count, 1) }
    }
    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        context::require_init()?;
        if ordinal != 0 {
            return Err(codes::INVALID_DEVICE);
        }
        // SAFETY: the caller's promise.
        unsafe { give(device, 0) }
    }
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) {
        context::require_init()?;
        // 75, 76: compute capability; 99: host memory can be registered.
        let known = match attribute {
            75 => 9,
            99 => 1,
            _ => 0,
        };
        // SAFETY: the caller's promise.
        unsafe { give(value, known) }
    }
    fn cuDeviceGetName(place: *mut c_char, length: c_int, _device: c_int) {
        context::require_init()?;
        // SAFETY: the caller's promise.
        unsafe { text(place, length, NAME) }
    }
    fn cuDeviceGetPCIBusId(place: *mut c_char, length: c_int, _device: c_int) {
        context::require_init()?;
        // SAFETY: the caller's promise.
        unsafe { text(place, length, PCI_BUS_ID) }
    }
    fn cuDevicePrimaryCtxRetain(handle: *mut usize, _device: c_int) {
        context::require_init()?;
        // SAFETY: the caller's promise.
        unsafe { give(handle, Primary::retain().handle) }
    }
    fn cuDevicePrimaryCtxRelease_v2(_device: c_int) {
        context::require_init()?;
        Primary::release()
    }
    fn cuDevicePrimaryCtxReset_v2(_device: c_int) {
        context::require_init()?;
        Primary::reset();
        Ok(())
    }
    fn cuDevicePrimaryCtxGetState(_device: c_int, flags: *mut c_uint, active: *mut c_int) {
        context::require_init()?;
        // SAFETY: the caller's promise.
        unsafe {
            give(flags, 0)?;
            give(active, c_int::from(Primary::is_active()))
        }
    }
    fn cuCtxGetCurrent(handle: *mut usize) {
        context::require_init()?;
        // SAFETY: the caller's promise.
        unsafe { give(handle, context::current_handle()) }
    }
    fn cuCtxSetCurrent(handle: usize) {
        context::require_init()?;
        context::set_current(handle)
    }
    fn cuCtxPushCurrent_v2(handle: usize) {
        context::require_init()?;
        context::push(handle)
    }
    fn cuCtxPopCurrent_v2(handle: *mut usize) {
        let popped = context::pop()?;
        if handle.is_null() {
            return Ok(());
        }
        // SAFETY: the caller's promise.
        unsafe { give(handle, popped) }
    }
    fn cuCtxGetDevice(device: *mut c_int) {
        context::current()?;
        // SAFETY: the caller's promise.
        unsafe { give(device, 0) }
    }
    fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) {
        context::current()?;
        // SAFETY: the caller's promise.
        unsafe {
            give(least, 0)?;
            give(greatest, -5)
        }
    }
    fn cuCtxSynchronize() {
        capture::permit_unsafe_call()?;
        let context = context::current()?;
        WORLD.drain(&context, |_| true)
    }
    fn cuThreadExchangeStreamCaptureMode(mode: *mut c_int) {
        if mode.is_null() {
            return Err(codes::INVALID_VALUE);
        }
        // SAFETY: not null, so valid by the caller's promise.
        let wanted = Mode::from_number(unsafe { mode.read() })?;
        let before = capture::exchange_mode(wanted);
        // SAFETY: as above.
        unsafe { give(mode, before as c_int) }
    }
}
