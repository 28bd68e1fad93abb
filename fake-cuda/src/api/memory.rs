//! Entry points for memory.

use super::{entries, give};
use crate::capture;
use crate::codes;
use crate::context;
use crate::gpu;
use crate::memory::{DEVICE_VIEW, Kind};
use crate::stream::Work;
use crate::world::WORLD;
use std::ffi::{c_char, c_int, c_uint, c_void};

/// Memory that the device reaches by itself.
fn is_pinned(host: *const c_void) -> bool {
    WORLD.memory.device_address(host.addr() as u64).is_some()
}

entries! {
    fn cuMemAlloc_v2(address: *mut u64, length: usize) {
        capture::permit_unsafe_call()?;
        let context = context::current()?;
        let start = WORLD.memory.allocate(context.handle, length, Kind::Device)?;
        // SAFETY: the caller's promise.
        unsafe { give(address, start) }
    }
    fn cuMemFree_v2(address: u64) {
        capture::permit_unsafe_call()?;
        context::current()?;
        if WORLD.memory.release(address, Kind::Device) { Ok(()) } else { Err(codes::INVALID_VALUE) }
    }
    fn cuMemHostAlloc(place: *mut *mut c_void, length: usize, _flags: c_uint) {
        capture::permit_unsafe_call()?;
        let context = context::current()?;
        let start = WORLD.memory.allocate(context.handle, length, Kind::HostAllocated)?;
        // SAFETY: the caller's promise.
        unsafe { give(place, std::ptr::with_exposed_provenance_mut(start as usize)) }
    }
    fn cuMemFreeHost(address: *mut c_void) {
        capture::permit_unsafe_call()?;
        context::current()?;
        let freed = WORLD.memory.release(address.addr() as u64, Kind::HostAllocated);
        if freed { Ok(()) } else { Err(codes::INVALID_VALUE) }
    }
    fn cuMemHostRegister_v2(address: *mut c_void, length: usize, _flags: c_uint) {
        capture::permit_unsafe_call()?;
        let context = context::current()?;
        WORLD.memory.register(context.handle, address.expose_provenance() as u64, length)
    }
    fn cuMemHostUnregister(address: *mut c_void) {
        capture::permit_unsafe_call()?;
        context::current()?;
        let start = address.addr() as u64 + DEVICE_VIEW;
        let known = WORLD.memory.release(start, Kind::HostRegistered);
        if known { Ok(()) } else { Err(codes::HOST_MEMORY_NOT_REGISTERED) }
    }
    fn cuMemHostGetDevicePointer_v2(place: *mut u64, address: *mut c_void, _flags: c_uint) {
        context::current()?;
        let device = WORLD.memory.device_address(address.addr() as u64);
        // SAFETY: the caller's promise.
        unsafe { give(place, device.ok_or(codes::INVALID_VALUE)?) }
    }
    fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, length: usize) {
        capture::permit_unsafe_call()?;
        let context = context::current()?;
        // SAFETY: `length` bytes at `from` by the caller's promise.
        unsafe { gpu::copy_in(&context, to, from.cast(), length) }
    }
    fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, length: usize) {
        capture::permit_unsafe_call()?;
        let context = context::current()?;
        // SAFETY: `length` bytes at `to` by the caller's promise.
        unsafe { gpu::copy_out(&context, to.cast(), from, length) }
    }
    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, length: usize, stream: usize) {
        context::current()?;
        let stream = WORLD.stream(stream)?;
        if is_pinned(from) || stream.is_capturing() || length == 0 {
            return stream.submit(Work::CopyIn { to, from: from.expose_provenance(), length });
        }
        // Pageable memory is staged before the call returns; its owner may then reuse it.
        // SAFETY: `length` bytes at `from` by the caller's promise.
        let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), length) }.into();
        stream.submit(Work::Write { to, bytes })
    }
    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, length: usize, stream: usize) {
        context::current()?;
        let stream = WORLD.stream(stream)?;
        stream.submit(Work::CopyOut { to: to.expose_provenance(), from, length })?;
        // Into pageable memory the call returns only when the copy is done.
        if is_pinned(to) || stream.is_capturing() { Ok(()) } else { stream.drain() }
    }
    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, length: usize, stream: usize) {
        context::current()?;
        WORLD.stream(stream)?.submit(Work::CopyWithin { to, from, length })
    }
    fn cuMemsetD8_v2(to: u64, value: u8, length: usize) {
        capture::permit_unsafe_call()?;
        let context = context::current()?;
        gpu::fill(&context, to, value, length)
    }
    fn cuMemsetD8Async(to: u64, value: u8, length: usize, stream: usize) {
        context::current()?;
        WORLD.stream(stream)?.submit(Work::Fill { to, value, length })
    }
    fn cuGetErrorName(code: c_int, text: *mut *const c_char) {
        let name = codes::name(code).ok_or(codes::INVALID_VALUE)?;
        // SAFETY: the caller's promise.
        unsafe { give(text, name.as_ptr()) }
    }
    fn cuGetErrorString(code: c_int, text: *mut *const c_char) {
        let name = codes::name(code).ok_or(codes::INVALID_VALUE)?;
        // SAFETY: the caller's promise.
        unsafe { give(text, name.as_ptr()) }
    }
}
