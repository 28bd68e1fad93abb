//! Entry points for modules and launches.

use super::{entries, give};
use crate::capture;
use crate::codes;
use crate::context;
use crate::ptx::{self, Launch};
use crate::stream::Work;
use crate::world::{Function, Module, WORLD};
use std::ffi::{CStr, c_char, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

entries! {
    fn cuModuleLoadData(handle: *mut usize, image: *const c_char) {
        capture::permit_unsafe_call()?;
        context::current()?;
        if image.is_null() {
            return Err(codes::INVALID_VALUE);
        }
        // SAFETY: PTX is a terminated text by the caller's promise.
        let text = unsafe { CStr::from_ptr(image) }.to_str().map_err(|_| codes::INVALID_VALUE)?;
        let kernels = ptx::parse(text).map_err(|why| {
            eprintln!("fake-cuda: {why}");
            codes::UNSUPPORTED_PTX_VERSION
        })?;
        // SAFETY: the caller's promise.
        unsafe { give(handle, WORLD.modules.insert(Module { kernels })) }
    }
    fn cuModuleGetFunction(handle: *mut usize, module: usize, name: *const c_char) {
        context::current()?;
        let module = WORLD.modules.get(module).ok_or(codes::INVALID_HANDLE)?;
        if name.is_null() {
            return Err(codes::INVALID_VALUE);
        }
        // SAFETY: a terminated text by the caller's promise.
        let name = unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| codes::NOT_FOUND)?;
        let kernel = module.kernels.get(name).ok_or(codes::NOT_FOUND)?.clone();
        let function = Function { module: Arc::downgrade(&module), kernel };
        // SAFETY: the caller's promise.
        unsafe { give(handle, WORLD.functions.insert(function)) }
    }
    fn cuModuleUnload(module: usize) {
        context::current()?;
        WORLD.modules.remove(module).map(drop).ok_or(codes::INVALID_HANDLE)
    }
    fn cuLaunchKernel(
        function: usize,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        _shared_bytes: c_uint,
        stream: usize,
        parameters: *mut *mut c_void,
        _extra: *mut *mut c_void,
    ) {
        context::current()?;
        let function = WORLD.functions.get(function).ok_or(codes::INVALID_HANDLE)?;
        function.module.upgrade().ok_or(codes::INVALID_HANDLE)?;
        let kernel = function.kernel.clone();
        if parameters.is_null() && !kernel.parameters.is_empty() {
            return Err(codes::INVALID_VALUE);
        }
        let mut arguments = vec![0u8; kernel.argument_bytes()];
        for (place, parameter) in kernel.parameters.iter().enumerate() {
            let target = &mut arguments[parameter.offset..parameter.offset + parameter.length];
            // SAFETY: one pointer per parameter, to a value of its size, by the caller's promise.
            unsafe {
                let source = parameters.add(place).read();
                std::ptr::copy_nonoverlapping(source.cast(), target.as_mut_ptr(), target.len())
            }
        }
        let launch_ns = WORLD.launch_ns.load(Ordering::Relaxed);
        if launch_ns > 0 {
            std::thread::sleep(Duration::from_nanos(launch_ns))
        }
        let launch = Launch {
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            arguments,
        };
        WORLD.stream(stream)?.submit(Work::Kernel(kernel, launch))
    }
}
