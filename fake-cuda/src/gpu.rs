//! The device side: gives the interpreter its clock and its checked memory, and performs copies.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

use crate::codes::{self, Code};
use crate::context::Context;
use crate::late::LateStore;
use crate::ptx::{Fault, Machine};
use crate::world::WORLD;

/// What the kernels of one context reach.
pub struct Gpu<'a>(pub &'a Context);

impl Machine for Gpu<'_> {
    fn timer_ns(&self) -> u64 {
        WORLD.clock.now_ns()
    }

    fn load(&self, address: u64, bytes: u32) -> Result<u64, Fault> {
        access(self.0.handle, address, bytes, |pointer| load(pointer, bytes))
    }

    fn store(&self, address: u64, bytes: u32, value: u64, system: bool) -> Result<(), Fault> {
        let context = self.0.handle;
        match WORLD.late.delay() {
            Some(delay) if system => {
                // A bad address is the kernel's fault now, not the late thread's then.
                access(context, address, bytes, |_| ())?;
                WORLD.late.post(delay, LateStore { context, address, bytes, value });
                Ok(())
            }
            _ => store_now(context, address, bytes, value),
        }
    }

    fn update(&self, address: u64, bytes: u32, update: &dyn Fn(u64) -> u64) -> Result<u64, Fault> {
        access(self.0.handle, address, bytes, |pointer| {
            let mut old = load(pointer, bytes);
            while let Err(found) = compare_exchange(pointer, bytes, old, update(old)) {
                old = found;
            }
            old
        })
    }

    fn goes_on(&self) -> bool {
        self.0.is_alive()
    }
}

/// Stores at once, if the memory is (still) there.
pub fn store_now(context: usize, address: u64, bytes: u32, value: u64) -> Result<(), Fault> {
    access(context, address, bytes, |pointer| store(pointer, bytes, value))
}

fn access<T>(
    context: usize,
    address: u64,
    bytes: u32,
    access: impl FnOnce(*mut u8) -> T,
) -> Result<T, Fault> {
    if !address.is_multiple_of(bytes.into()) {
        return Err(Fault::Misaligned);
    }
    WORLD.memory.with(context, address, bytes as usize, access).map_err(|_| Fault::IllegalAddress)
}

// Each access below is one atomic of its full width, as the hardware's is.
// SAFETY, for all blocks: access() has checked that `bytes` aligned bytes at `pointer` belong to the context, and the
// memory's lock keeps them there meanwhile.

fn load(pointer: *mut u8, bytes: u32) -> u64 {
    match bytes {
        // SAFETY: see above.
        1 => unsafe { AtomicU8::from_ptr(pointer) }.load(SeqCst).into(),
        // SAFETY: see above.
        2 => unsafe { AtomicU16::from_ptr(pointer.cast()) }.load(SeqCst).into(),
        // SAFETY: see above.
        4 => unsafe { AtomicU32::from_ptr(pointer.cast()) }.load(SeqCst).into(),
        // SAFETY: see above.
        _ => unsafe { AtomicU64::from_ptr(pointer.cast()) }.load(SeqCst),
    }
}

fn store(pointer: *mut u8, bytes: u32, value: u64) {
    match bytes {
        // SAFETY: see above.
        1 => unsafe { AtomicU8::from_ptr(pointer) }.store(value as u8, SeqCst),
        // SAFETY: see above.
        2 => unsafe { AtomicU16::from_ptr(pointer.cast()) }.store(value as u16, SeqCst),
        // SAFETY: see above.
        4 => unsafe { AtomicU32::from_ptr(pointer.cast()) }.store(value as u32, SeqCst),
        // SAFETY: see above.
        _ => unsafe { AtomicU64::from_ptr(pointer.cast()) }.store(value, SeqCst),
    }
}

/// 32 or 64 bits, the widths that PTX has atomics for.
fn compare_exchange(pointer: *mut u8, bytes: u32, old: u64, new: u64) -> Result<(), u64> {
    if bytes == 4 {
        // SAFETY: see above.
        let word = unsafe { AtomicU32::from_ptr(pointer.cast()) };
        return word
            .compare_exchange(old as u32, new as u32, SeqCst, SeqCst)
            .map(drop)
            .map_err(u64::from);
    }
    // SAFETY: see above.
    let word = unsafe { AtomicU64::from_ptr(pointer.cast()) };
    word.compare_exchange(old, new, SeqCst, SeqCst).map(drop)
}

/// Copies host bytes to device memory.
///
/// # Safety
///
/// `source` points to `length` readable bytes.
pub unsafe fn copy_in(
    context: &Context,
    to: u64,
    source: *const u8,
    length: usize,
) -> Result<(), Code> {
    if length == 0 {
        return Ok(());
    }
    WORLD.memory.with(context.handle, to, length, |pointer| {
        // SAFETY: with() has checked `length` bytes at `pointer`; the caller vouches for `source`. copy() may overlap.
        unsafe { std::ptr::copy(source, pointer, length) }
    })
}

/// Copies device memory to host bytes.
///
/// # Safety
///
/// `target` points to `length` writable bytes.
pub unsafe fn copy_out(
    context: &Context,
    target: *mut u8,
    from: u64,
    length: usize,
) -> Result<(), Code> {
    if length == 0 {
        return Ok(());
    }
    WORLD.memory.with(context.handle, from, length, |pointer| {
        // SAFETY: with() has checked `length` bytes at `pointer`; the caller vouches for `target`. copy() may overlap.
        unsafe { std::ptr::copy(pointer, target, length) }
    })
}

/// Copies within device memory.
pub fn copy_within(context: &Context, to: u64, from: u64, length: usize) -> Result<(), Code> {
    let mut staged = vec![0; length];
    // SAFETY: `staged` has `length` bytes.
    unsafe { copy_out(context, staged.as_mut_ptr(), from, length) }?;
    // SAFETY: `staged` has `length` bytes.
    unsafe { copy_in(context, to, staged.as_ptr(), length) }
}

/// Sets `length` bytes of device memory.
pub fn fill(context: &Context, to: u64, value: u8, length: usize) -> Result<(), Code> {
    let bytes = vec![value; length];
    // SAFETY: `bytes` has `length` bytes.
    unsafe { copy_in(context, to, bytes.as_ptr(), length) }
}

/// The driver's code for what stopped a kernel.
pub fn code_of(fault: Fault) -> Code {
    match fault {
        Fault::IllegalAddress => codes::ILLEGAL_ADDRESS,
        Fault::Misaligned => codes::MISALIGNED_ADDRESS,
        Fault::Stopped => codes::CONTEXT_IS_DESTROYED,
    }
}
