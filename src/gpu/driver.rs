//! The few driver calls we make, found by name at run time. Nothing here links, panics or creates
//! a context.
//!
//! Why not cudarc: its features unify over a user's whole build, and a library that asks for one
//! way of loading breaks an engine that asked for another. These calls have not changed since CUDA
//! 11, and a stream pointer of cudarc, candle or the runtime API is the same pointer here.

use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::path::Path;

/// The driver's own name of its library. Never `libcuda.so`: that may be a toolkit's stub.
const LIBRARY: &str = "libcuda.so.1";

/// A `CUresult`; 0 is success.
pub(super) type Code = c_int;
pub(super) type Context = usize;
pub(super) type Function = usize;
pub(super) type Module = usize;
/// A `CUstream`: a pointer, or 0 (legacy), 1 (legacy), 2 (per-thread).
pub(super) type StreamHandle = usize;

/// Codes that mean something to us.
pub(super) mod code {
    use super::Code;

    pub(crate) const NOT_INITIALIZED: Code = 3;
    pub(crate) const DEINITIALIZED: Code = 4;
    pub(crate) const STUB_LIBRARY: Code = 34;
    pub(crate) const UNKNOWN: Code = 999;
}

/// A call that failed: which, and with what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Failed {
    pub(super) call: &'static str,
    pub(super) code: Code,
}

/// Why there is no table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    Library(String),
    Symbol(&'static str),
}

macro_rules! driver_table {
    (required { $($call:ident($($name:ident: $kind:ty),*);)* } optional { $($extra:ident($($e:ident: $ek:ty),*);)* }) => {
        /// Functions that the stamps need of the CUDA driver, by name. A driver without any of them is
        /// refused ([`GpuUnavailable::SymbolMissing`](super::GpuUnavailable::SymbolMissing)).
        pub const DRIVER_SYMBOLS: &[&str] = &[$(stringify!($call)),*];

        /// The driver's functions. The library stays loaded for ever: a GPU may be running its code.
        #[allow(non_snake_case)]
        pub(super) struct Driver {
            $($call: unsafe extern "C" fn($($kind),*) -> Code,)*
            $($extra: Option<unsafe extern "C" fn($($ek),*) -> Code>,)*
        }

        impl Driver {
            fn resolve(library: &libloading::Library) -> Result<Driver, Missing> {
                Ok(Driver {
                    $($call: *symbol(library, concat!(stringify!($call), "\0"))
                        .ok_or(Missing::Symbol(stringify!($call)))?,)*
                    $($extra: symbol(library, concat!(stringify!($extra), "\0")).map(|s| *s),)*
                })
            }

            $(
                /// The driver's function of this name.
                #[allow(non_snake_case, clippy::too_many_arguments)] // The driver's signature.
                pub(super) unsafe fn $call(&self, $($name: $kind),*) -> Result<(), Failed> {
                    // SAFETY: the caller's promise; the signature is the driver's.
                    match unsafe { (self.$call)($($name),*) } {
                        0 => Ok(()),
                        code => Err(Failed { call: stringify!($call), code }),
                    }
                }
            )*
            $(
                /// The driver's function of this name, if it has it.
                #[allow(non_snake_case, dead_code)] // One is only looked for.
                pub(super) unsafe fn $extra(&self, $($e: $ek),*) -> Option<Code> {
                    // SAFETY: the caller's promise; the signature is the driver's.
                    self.$extra.map(|call| unsafe { call($($e),*) })
                }
            )*

        }
    };
}

driver_table! {
    required {
        cuCtxGetCurrent(context: *mut Context);
        cuCtxSetCurrent(context: Context);
        cuCtxPushCurrent_v2(context: Context);
        cuCtxPopCurrent_v2(context: *mut Context);
        cuCtxGetDevice(device: *mut c_int);
        cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int);
        cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int);
        cuStreamGetCtx(stream: StreamHandle, context: *mut Context);
        cuStreamIsCapturing(stream: StreamHandle, status: *mut c_int);
        cuStreamCreateWithPriority(stream: *mut StreamHandle, flags: c_uint, priority: c_int);
        cuStreamDestroy_v2(stream: StreamHandle);
        cuThreadExchangeStreamCaptureMode(mode: *mut c_int);
        cuModuleLoadData(module: *mut Module, image: *const c_char);
        cuModuleGetFunction(function: *mut Function, module: Module, name: *const c_char);
        cuModuleUnload(module: Module);
        cuMemHostRegister_v2(address: *mut c_void, bytes: usize, flags: c_uint);
        cuMemHostUnregister(address: *mut c_void);
        cuMemHostGetDevicePointer_v2(device: *mut u64, host: *mut c_void, flags: c_uint);
        cuMemAlloc_v2(device: *mut u64, bytes: usize);
        cuMemFree_v2(device: u64);
        cuMemcpyHtoD_v2(device: u64, host: *const c_void, bytes: usize);
        cuLaunchKernel(
            function: Function,
            grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
            block_x: c_uint, block_y: c_uint, block_z: c_uint,
            shared_bytes: c_uint, stream: StreamHandle,
            parameters: *mut *mut c_void, extra: *mut *mut c_void
        );
    }
    optional {
        cuDriverGetVersion(version: *mut c_int);
        cuDeviceGetPCIBusId(text: *mut c_char, bytes: c_int, device: c_int);
        cuDeviceGetName(text: *mut c_char, bytes: c_int, device: c_int);
        cuGetExportTable(table: *mut *const c_void, id: *const c_void);
    }
}

fn symbol<'a, T>(
    library: &'a libloading::Library,
    name: &str,
) -> Option<libloading::Symbol<'a, T>> {
    // SAFETY: every use names a driver function together with the driver's signature of it.
    unsafe { library.get(name.as_bytes()) }.ok()
}

impl Driver {
    /// Loads `library`, or the driver's. If the engine has it loaded this is the same copy.
    pub(super) fn load(library: Option<&Path>) -> Result<Driver, Missing> {
        let name = library.map_or(OsStr::new(LIBRARY), Path::as_os_str);
        // SAFETY: loading runs the library's initialisers: the driver's own, or what the caller named.
        let library = unsafe { libloading::Library::new(name) }
            .map_err(|cause| Missing::Library(cause.to_string()))?;
        let table = Driver::resolve(&library);
        // Never unloaded: streams, callbacks and the engine itself may be using it.
        std::mem::forget(library);
        table
    }

    /// Version of the driver as CUDA counts, 13000 for 13.0.
    pub(super) fn version(&self) -> Option<i32> {
        let mut version = 0;
        // SAFETY: writes one int to the place given; needs no context.
        let code = unsafe { self.cuDriverGetVersion(&mut version) }?;
        (code == 0).then_some(version)
    }

    /// Does it have the side door that CUPTI needs? Stand-ins of the driver have none; a toolkit's stub
    /// never comes so far, since attaching to it fails.
    pub(super) fn has_export_table(&self) -> bool {
        self.cuGetExportTable.is_some()
    }

    /// PCI bus id of a device, the name by which NVML knows it too.
    pub(super) fn pci_bus_id(&self, device: c_int) -> Option<String> {
        let mut text = [0 as c_char; 32];
        // SAFETY: writes at most the given number of bytes, terminated.
        let code = unsafe { self.cuDeviceGetPCIBusId(text.as_mut_ptr(), 32, device) }?;
        (code == 0).then(|| string(&text))
    }

    /// Marketing name of a device.
    pub(super) fn name(&self, device: c_int) -> Option<String> {
        let mut text = [0 as c_char; 128];
        // SAFETY: writes at most the given number of bytes, terminated.
        let code = unsafe { self.cuDeviceGetName(text.as_mut_ptr(), 128, device) }?;
        (code == 0).then(|| string(&text))
    }

    /// Launches one thread of a kernel whose parameters are all 64-bit. No allocation.
    ///
    /// # Safety
    /// `function` takes exactly these parameters, the addresses among them are the device's, and
    /// `stream` is a live stream.
    pub(super) unsafe fn launch<const N: usize>(
        &self,
        function: Function,
        stream: StreamHandle,
        mut parameters: [u64; N],
    ) -> Result<(), Failed> {
        let mut places: [*mut c_void; N] = [std::ptr::null_mut(); N];
        for (place, parameter) in places.iter_mut().zip(&mut parameters) {
            *place = std::ptr::from_mut(parameter).cast()
        }
        let none = std::ptr::null_mut();
        // SAFETY: the driver copies the parameters before it returns; the rest is the caller's.
        unsafe {
            self.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, places.as_mut_ptr(), none)
        }
    }
}

fn string(text: &[c_char]) -> String {
    let bytes: Vec<u8> = text.iter().map(|c| *c as u8).collect();
    CStr::from_bytes_until_nul(&bytes)
        .map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
}

/// Does this code mean that the context, or the driver, is gone for good?
///
/// 201 (no context current on the calling thread) is not among them: one thread's mistake must not
/// end the stamps of all others; sixteen in a row do.
pub(super) fn is_final(code: Code) -> bool {
    matches!(
        code,
        code::NOT_INITIALIZED
            | code::DEINITIALIZED
            | code::STUB_LIBRARY
            | 700 // illegal address
            | 702 // launch timeout
            | 709 // context destroyed
            | 710 // device assert
            | 714
            ..=719 // hardware exceptions, launch failed
            | code::UNKNOWN
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_and_another_library_are_values() {
        let none = Driver::load(Some(Path::new("/nowhere/libcuda.so.1")));
        assert!(matches!(none.err(), Some(Missing::Library(_))));
        let other = Driver::load(Some(Path::new("libc.so.6")));
        assert_eq!(other.err(), Some(Missing::Symbol("cuCtxGetCurrent")));
    }

    #[test]
    fn what_is_final_is_the_context_and_not_one_threads_mistake() {
        assert!([3, 4, 34, 700, 709, 719, 999].into_iter().all(is_final));
        assert!(![1, 2, 201, 400, 600, 712, 720, 900, 906].into_iter().any(is_final));
    }
}
