//! The engine's side of the CUDA driver: every call that the measurements make, found by name at run time.

use libloading::Library;
use std::ffi::{OsStr, c_char, c_int, c_uint, c_void};
use std::mem::ManuallyDrop;
use std::path::Path;

/// The driver's own name of its library.
pub const LIBRARY: &str = "libcuda.so.1";

/// A call that did not succeed: which, and its `CUresult`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    pub call: &'static str,
    pub code: c_int,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} failed with CUDA error {}", self.call, self.code)
    }
}

impl std::error::Error for Refused {}

macro_rules! driver_table {
    ($($call:ident($($name:ident: $kind:ty),*);)*) => {
        /// The driver's functions.
        #[allow(non_snake_case)] // The driver's names, so that they can be searched for.
        pub struct Driver {
            /// Never unloaded: the driver has threads of its own, and stepscope may be in it.
            library: ManuallyDrop<Library>,
            $($call: unsafe extern "C" fn($($kind),*) -> c_int,)*
        }

        impl Driver {
            fn resolve(library: Library) -> Result<Driver, String> {
                Ok(Driver {
                    $($call: {
                        let name = concat!(stringify!($call), "\0");
                        // SAFETY: the signature is the driver's for this name.
                        *unsafe { library.get(name.as_bytes()) }
                            .map_err(|_| format!("the driver has no {}", stringify!($call)))?
                    },)*
                    library: ManuallyDrop::new(library),
                })
            }

            $(
                /// The driver's function of this name.
                ///
                /// # Safety
                /// As the CUDA driver API asks of its callers.
                #[allow(non_snake_case, clippy::too_many_arguments)] // The driver's signature.
                pub unsafe fn $call(&self, $($name: $kind),*) -> Result<(), Refused> {
                    // SAFETY: the caller's promise.
                    match unsafe { (self.$call)($($name),*) } {
                        0 => Ok(()),
                        code => Err(Refused { call: stringify!($call), code }),
                    }
                }
            )*
        }
    };
}

driver_table! {
    cuInit(flags: c_uint);
    cuDriverGetVersion(version: *mut c_int);
    cuDeviceGet(device: *mut c_int, ordinal: c_int);
    cuDeviceGetCount(count: *mut c_int);
    cuDeviceGetName(text: *mut c_char, bytes: c_int, device: c_int);
    cuDeviceGetPCIBusId(text: *mut c_char, bytes: c_int, device: c_int);
    cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int);
    cuDevicePrimaryCtxRetain(context: *mut usize, device: c_int);
    cuDevicePrimaryCtxReset_v2(device: c_int);
    cuCtxSetCurrent(context: usize);
    cuModuleLoadData(module: *mut usize, image: *const c_char);
    cuModuleGetFunction(function: *mut usize, module: usize, name: *const c_char);
    cuMemAlloc_v2(place: *mut u64, bytes: usize);
    cuMemHostAlloc(place: *mut *mut c_void, bytes: usize, flags: c_uint);
    cuMemHostGetDevicePointer_v2(place: *mut u64, host: *mut c_void, flags: c_uint);
    cuMemsetD8_v2(place: u64, value: u8, bytes: usize);
    cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize);
    cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: usize);
    cuStreamCreate(stream: *mut usize, flags: c_uint);
    cuStreamCreateWithPriority(stream: *mut usize, flags: c_uint, priority: c_int);
    cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int);
    cuStreamSynchronize(stream: usize);
    cuStreamIsCapturing(stream: usize, status: *mut c_int);
    cuStreamBeginCapture_v2(stream: usize, mode: c_int);
    cuStreamEndCapture(stream: usize, graph: *mut usize);
    cuGraphInstantiateWithFlags(exec: *mut usize, graph: usize, flags: u64);
    cuGraphDestroy(graph: usize);
    cuGraphLaunch(exec: usize, stream: usize);
    cuEventCreate(event: *mut usize, flags: c_uint);
    cuEventRecord(event: usize, stream: usize);
    cuEventSynchronize(event: usize);
    cuEventElapsedTime(milliseconds: *mut f32, start: usize, end: usize);
    cuLaunchKernel(
        function: usize,
        grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared_bytes: c_uint, stream: usize,
        parameters: *mut *mut c_void, extra: *mut *mut c_void
    );
}

impl Driver {
    /// Loads `library`, or the driver's own.
    ///
    /// # Errors
    /// A sentence: why there is no driver here.
    pub fn load(library: Option<&Path>) -> Result<Driver, String> {
        let name = library.map_or(OsStr::new(LIBRARY), Path::as_os_str);
        // SAFETY: loading runs the library's initialisers: the driver's own, or what the user named.
        let library = unsafe { Library::new(name) }
            .map_err(|cause| format!("no {}: {cause}", name.to_string_lossy()))?;
        Driver::resolve(library)
    }

    /// Does the library export this name?
    pub fn has(&self, symbol: &str) -> bool {
        let name = format!("{symbol}\0");
        // SAFETY: only asked whether it is there; never called through this.
        unsafe { self.library.get::<*const c_void>(name.as_bytes()) }.is_ok()
    }

    /// The repository's fake driver, whose times mean nothing.
    pub fn is_fake(&self) -> bool {
        self.has("fakecuda_calls")
    }

    /// UUID of a device as NVML writes it, `GPU-…`; none where the driver cannot tell.
    pub fn uuid(&self, device: c_int) -> Option<String> {
        type GetUuid = unsafe extern "C" fn(*mut [u8; 16], c_int) -> c_int;
        // SAFETY: the driver's signature of this name.
        let call: libloading::Symbol<GetUuid> =
            unsafe { self.library.get(b"cuDeviceGetUuid_v2\0") }.ok()?;
        let mut bytes = [0u8; 16];
        // SAFETY: writes 16 bytes, which are ours.
        if unsafe { call(&mut bytes, device) } != 0 {
            return None;
        }
        let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let parts = [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]];
        Some(format!("GPU-{}", parts.map(hex).join("-")))
    }
}
