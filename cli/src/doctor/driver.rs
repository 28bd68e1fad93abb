//! The CUDA driver as an engine meets it: a file that is loaded, symbols that are there or not, calls
//! that answer with a code. Nothing here panics, whatever the file is.

#![allow(unsafe_code)] // An engine's side of the driver's C interface; reasons at each block.

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use serde::Serialize;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use stepscope::gpu::DRIVER_SYMBOLS;

/// The driver's own name of its library. Never `libcuda.so`: that may be a toolkit's stub.
const LIBRARY: &str = "libcuda.so.1";
/// CU_STREAM_NON_BLOCKING
const NON_BLOCKING: c_uint = 1;
const ATTRIBUTE_MAJOR: c_int = 75;
const ATTRIBUTE_MINOR: c_int = 76;

/// What the doctor, like any engine, calls besides.
const OF_THE_ENGINE: [&str; 9] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetPCIBusId",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuStreamSynchronize",
];

/// A call that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Refused {
    /// Which.
    pub call: &'static str,
    /// Its `CUresult`.
    pub code: i32,
}

/// A loaded library that calls itself a driver.
pub struct Driver {
    library: Library,
    /// Where it lies, as far as the system tells.
    pub path: Option<PathBuf>,
    /// Symbols that an engine or the stamps need and that are not there.
    pub missing: Vec<&'static str>,
}

/// A device as CUDA counts it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Device {
    /// CUDA's number.
    pub ordinal: i32,
    /// Its product name.
    pub name: Option<String>,
    /// By which NVML knows it too.
    pub pci_bus_id: Option<String>,
    /// Major and minor.
    pub compute_capability: [i32; 2],
}

/// Calls a driver function by name; a missing one is a refusal (500, "not found") like any other.
macro_rules! call {
    ($driver:expr, $name:literal($($arg:expr => $kind:ty),*)) => {{
        // SAFETY: the driver's function of this name has this signature, since CUDA 11; every
        // argument is a number, a handle this driver gave, or a live place of the type it fills.
        match unsafe { $driver.library.get::<unsafe extern "C" fn($($kind),*) -> c_int>($name.as_bytes()) } {
            Err(_) => Err(Refused { call: $name, code: 500 }),
            // SAFETY: as above.
            Ok(function) => match unsafe { function($($arg),*) } {
                0 => Ok(()),
                code => Err(Refused { call: $name, code }),
            },
        }
    }};
}

impl Driver {
    /// Loads `library`, or the driver's.
    ///
    /// # Errors
    /// What the loader says.
    pub fn load(library: Option<&Path>) -> Result<Driver, String> {
        let name = library.unwrap_or(Path::new(LIBRARY));
        // SAFETY: loading runs the library's initialisers: the driver's own, or what was named.
        let loaded = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|cause| cause.to_string())?;
        let path = library.map(Path::to_path_buf).or_else(|| mapped("/libcuda.so"));
        let mut driver = Driver { library: loaded, path, missing: vec![] };
        let needed = DRIVER_SYMBOLS.iter().chain(&OF_THE_ENGINE);
        driver.missing = needed.copied().filter(|name| !driver.has(name)).collect();
        Ok(driver)
    }

    /// Does it have a function of this name?
    pub fn has(&self, name: &str) -> bool {
        self.address(name).is_some()
    }

    /// Where that function is.
    pub fn address(&self, name: &str) -> Option<usize> {
        // SAFETY: only looked up, never called; an address fits any name.
        let symbol = unsafe { self.library.get::<*const c_void>(name.as_bytes()) };
        symbol.ok().map(|symbol| symbol.addr())
    }

    /// The test driver of this project, which needs no GPU.
    pub fn is_fake(&self) -> bool {
        self.has("fakecuda_set")
    }

    /// A driver of flesh and blood: CUPTI cannot work with anything else.
    pub fn has_export_table(&self) -> bool {
        self.has("cuGetExportTable") && !self.is_fake()
    }

    /// As CUDA counts: 13000 is 13.0. Needs no initialisation.
    pub fn version(&self) -> Result<i32, Refused> {
        let mut version = 0;
        call!(self, "cuDriverGetVersion"(&mut version => *mut c_int))?;
        Ok(version)
    }

    /// What every engine does first.
    pub fn init(&self) -> Result<(), Refused> {
        call!(self, "cuInit"(0 => c_uint))
    }

    /// All devices that this process sees.
    pub fn devices(&self) -> Result<Vec<Device>, Refused> {
        let mut count = 0;
        call!(self, "cuDeviceGetCount"(&mut count => *mut c_int))?;
        (0..count).map(|ordinal| self.device(ordinal)).collect()
    }

    fn device(&self, ordinal: i32) -> Result<Device, Refused> {
        let mut device = 0;
        call!(self, "cuDeviceGet"(&mut device => *mut c_int, ordinal => c_int))?;
        let mut capability = [0; 2];
        for (value, attribute) in capability.iter_mut().zip([ATTRIBUTE_MAJOR, ATTRIBUTE_MINOR]) {
            call!(self, "cuDeviceGetAttribute"(
                value => *mut c_int, attribute => c_int, device => c_int))?
        }
        let (mut name, mut bus) = ([0 as c_char; 256], [0 as c_char; 32]);
        let named = call!(self, "cuDeviceGetName"(
            name.as_mut_ptr() => *mut c_char, 256 => c_int, device => c_int));
        let placed = call!(self, "cuDeviceGetPCIBusId"(
            bus.as_mut_ptr() => *mut c_char, 32 => c_int, device => c_int));
        Ok(Device {
            ordinal,
            name: named.ok().and_then(|()| text(&name)),
            pci_bus_id: placed.ok().and_then(|()| text(&bus)),
            compute_capability: capability,
        })
    }

    /// A context and a stream of our own on a device, current on this thread until it is dropped.
    pub fn open(&self, ordinal: i32) -> Result<Engine<'_>, Refused> {
        let mut device = 0;
        call!(self, "cuDeviceGet"(&mut device => *mut c_int, ordinal => c_int))?;
        let mut context = 0;
        call!(self, "cuDevicePrimaryCtxRetain"(&mut context => *mut usize, device => c_int))?;
        let mut engine = Engine { driver: self, device, stream: 0 };
        call!(self, "cuCtxSetCurrent"(context => usize))?;
        let mut stream = 0;
        call!(self, "cuStreamCreateWithPriority"(
            &mut stream => *mut usize, NON_BLOCKING => c_uint, 0 => c_int))?;
        engine.stream = stream;
        Ok(engine)
    }
}

/// A context of our own with one stream, as an engine has them. Given back when dropped.
pub struct Engine<'a> {
    driver: &'a Driver,
    device: c_int,
    stream: usize,
}

impl Engine<'_> {
    /// The stream, for the stamps.
    pub fn stream(&self) -> stepscope::gpu::RawStream {
        // SAFETY: it lives until this engine is dropped, behind every lane on it.
        unsafe {
            stepscope::gpu::RawStream::from_ptr(std::ptr::with_exposed_provenance_mut(self.stream))
        }
    }

    /// Waits until the stream is idle.
    pub fn synchronize(&self) -> Result<(), Refused> {
        call!(self.driver, "cuStreamSynchronize"(self.stream => usize))
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        // The process ends soon; what cannot be given back goes with it.
        if self.stream != 0 {
            let _ = call!(self.driver, "cuStreamDestroy_v2"(self.stream => usize));
        }
        let _ = call!(self.driver, "cuCtxSetCurrent"(0 => usize));
        let _ = call!(self.driver, "cuDevicePrimaryCtxRelease_v2"(self.device => c_int));
    }
}

/// Where the loader found a library: the list of what is mapped tells.
fn mapped(part: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mut paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    paths.find(|path| path.contains(part)).map(PathBuf::from)
}

fn text(buffer: &[c_char]) -> Option<String> {
    let bytes: Vec<u8> = buffer.iter().map(|c| *c as u8).collect();
    let text = CStr::from_bytes_until_nul(&bytes).ok()?.to_string_lossy().into_owned();
    (!text.is_empty()).then_some(text)
}

/// What a person can do about a code, and what it is called.
pub fn advice(code: i32) -> (&'static str, &'static str) {
    match code {
        34 => (
            "a toolkit's stub library, made for linking only",
            "let the loader find the driver's own libcuda.so.1 first: take the toolkit's \
             lib64/stubs out of LD_LIBRARY_PATH",
        ),
        100 => (
            "the driver sees no device",
            "look at CUDA_VISIBLE_DEVICES and at `nvidia-smi`; in a container pass the GPUs in \
             (`docker run --gpus all`)",
        ),
        3 | 4 => ("the driver is shutting down or was never started", "run the doctor again"),
        802 => (
            "the system is not ready",
            "on NVSwitch machines start nvidia-fabricmanager and wait until it is up",
        ),
        803 => (
            "library and kernel module are of different versions",
            "the driver was updated under a running module: reload the module or reboot",
        ),
        804 => (
            "the forward-compatibility library does not support this GPU",
            "remove the cuda-compat package, or update the driver",
        ),
        46 | 101 => ("the device is taken or not there", "see who uses it with `nvidia-smi`"),
        2 => ("out of device memory", "end what else fills the GPU, then run the doctor again"),
        500 => ("the function is not there", "update the driver (R410 or newer is needed)"),
        304 | 999 => (
            "the driver failed inside",
            "does `nvidia-smi` work? May this user open /dev/nvidia*? Does dmesg name an XID?",
        ),
        _ => ("an error of the driver", "see whether `nvidia-smi` works, and what dmesg says"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_library_lacks_everything_and_calls_of_it_are_refused() {
        let other = Driver::load(Some(Path::new("libc.so.6"))).unwrap();
        assert_eq!(other.missing.len(), DRIVER_SYMBOLS.len() + OF_THE_ENGINE.len());
        assert_eq!(other.init(), Err(Refused { call: "cuInit", code: 500 }));
        assert!(!other.is_fake() && !other.has_export_table());
    }
}
