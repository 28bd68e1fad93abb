//! NVML found at run time, and the calls we make, each as a safe function.
//!
//! The bindings resolve every symbol on its own, so a driver that lacks one lacks only what needs
//! it. Their methods panic on a missing symbol: only their fields are used here.
#![allow(unsafe_code)]

use super::found::{NvmlDevice, NvmlFound};
use super::unavailable::NvmlUnavailable;
use nvml_wrapper_sys::bindings as sys;
use std::ffi::{CStr, CString, c_char, c_uint};
use std::path::Path;

/// Name of the driver's library; without the number it may be a toolkit's stub.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// A call that gave nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    pub(super) name: &'static str,
    /// NVML's return code; `None` = the library has no such function.
    code: Option<u32>,
}

impl Refused {
    /// It will never work with this driver and device.
    pub(super) fn is_for_good(self) -> bool {
        use sys::{
            nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH as VERSION,
            nvmlReturn_enum_NVML_ERROR_DEPRECATED as DEPRECATED,
            nvmlReturn_enum_NVML_ERROR_FUNCTION_NOT_FOUND as NO_FUNCTION,
            nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED as NOT_SUPPORTED,
            nvmlReturn_enum_NVML_ERROR_VGPU_ECC_NOT_SUPPORTED as NO_ECC,
        };
        self.code.is_none_or(|code| {
            matches!(code, NOT_SUPPORTED | NO_FUNCTION | NO_ECC | VERSION | DEPRECATED)
        })
    }

    /// The device is gone.
    pub(super) fn is_lost(self) -> bool {
        self.code == Some(sys::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST)
    }

    fn is_timeout(self) -> bool {
        self.code == Some(sys::nvmlReturn_enum_NVML_ERROR_TIMEOUT)
    }
}

/// A device of the library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Handle(sys::nvmlDevice_t);

// SAFETY: NVML's functions may be called from any thread, and a handle is an opaque name that only
// they read; it stays valid until the last nvmlShutdown.
unsafe impl Send for Handle {}

/// A set of events of the library; one thread uses it.
#[derive(Debug)]
pub(super) struct EventSet(sys::nvmlEventSet_t);

// SAFETY: as for a handle; the set is used by its owner only and freed once, by value.
unsafe impl Send for EventSet {}

/// An event that came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) device: Handle,
    /// The XID code, or `None` for an uncorrectable memory error's own event.
    pub(super) xid: Option<u64>,
    /// The MIG instance it is about, if it is about one.
    pub(super) instance: Option<u32>,
}

/// NVML, open. The last owner's drop closes it.
pub(super) struct Nvml {
    lib: sys::NvmlLib,
    /// A forked child has the memory of its parent, not its device files.
    process: u32,
}

/// Calls a function of the library: a missing one is a refusal like any other.
macro_rules! call {
    ($nvml:expr, $name:ident($($argument:expr),*)) => {
        match $nvml.lib.$name.as_ref() {
            Err(_) => Err(Refused { name: stringify!($name), code: None }),
            Ok(function) => {
                // SAFETY: the library is never unloaded (`open` keeps a reference for good), the
                // function's type is that of NVIDIA's header, and every argument in this file is a
                // number, a handle that this library gave, a C string or a buffer with its own
                // length, or a live local of the type that the function fills.
                match unsafe { function($($argument),*) } {
                    sys::nvmlReturn_enum_NVML_SUCCESS => Ok(()),
                    code => Err(Refused { name: stringify!($name), code: Some(code) }),
                }
            }
        }
    };
}

/// Fills one value of a kind that a call writes.
macro_rules! read {
    ($nvml:expr, $start:expr, $name:ident($($argument:expr),*)) => {{
        let mut value = $start;
        call!($nvml, $name($($argument,)* &mut value)).map(|()| value)
    }};
}

impl Nvml {
    /// Finds, loads and initialises the library: some 10 ms, seconds if no one keeps the driver
    /// loaded (no persistence daemon, no CUDA context).
    pub(super) fn open(path: Option<&Path>) -> Result<Nvml, NvmlUnavailable> {
        let path = path.unwrap_or(Path::new(LIBRARY));
        let missing = |error: libloading::Error| NvmlUnavailable::LibraryMissing {
            path: path.to_path_buf(),
            text: error.to_string(),
        };
        // SAFETY: this is the driver's library, or the one the embedder names in its place: made to
        // be loaded by any program on any thread.
        let kept = unsafe { libloading::Library::new(path) }.map_err(missing)?;
        // SAFETY: as above.
        let lib = unsafe { sys::NvmlLib::new(path) }.map_err(missing)?;
        // One reference stays for good: a driver's library is not made to be unloaded.
        std::mem::forget(kept);
        // No process has this number: should the next line fail, nothing is closed.
        let mut nvml = Nvml { lib, process: 0 };
        call!(nvml, nvmlInit_v2()).map_err(|refused| nvml.unavailable(refused))?;
        nvml.process = std::process::id();
        Ok(nvml)
    }

    /// The device of that name.
    pub(super) fn device(&self, which: &NvmlDevice) -> Result<Handle, NvmlUnavailable> {
        let none = |text: String| NvmlUnavailable::NoDevice { device: which.clone(), text };
        let (NvmlDevice::PciBusId(name) | NvmlDevice::Uuid(name)) = which;
        let name = match which {
            NvmlDevice::PciBusId(id) => long_bus_id(id).unwrap_or(name.clone()),
            NvmlDevice::Uuid(_) => name.clone(),
        };
        let name = CString::new(name).map_err(|_| none("a NUL in its name".into()))?;
        let start = std::ptr::null_mut();
        let found = match which {
            NvmlDevice::PciBusId(_) => {
                read!(self, start, nvmlDeviceGetHandleByPciBusId_v2(name.as_ptr()))
            }
            NvmlDevice::Uuid(_) => read!(self, start, nvmlDeviceGetHandleByUUID(name.as_ptr())),
        };
        found.map(Handle).map_err(|refused| match refused.code {
            Some(
                code @ (sys::nvmlReturn_enum_NVML_ERROR_NOT_FOUND
                | sys::nvmlReturn_enum_NVML_ERROR_GPU_NOT_FOUND
                | sys::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT),
            ) => none(self.words(code)),
            _ => self.unavailable(refused),
        })
    }

    /// What is known of a device; `board` is the device that a MIG instance is on, or itself.
    pub(super) fn found(&self, device: Handle, board: Handle) -> NvmlFound {
        let mut name = [0; sys::NVML_DEVICE_NAME_V2_BUFFER_SIZE as usize];
        let mut driver = [0; sys::NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE as usize];
        let room = (name.len() as c_uint, driver.len() as c_uint);
        let named = call!(self, nvmlDeviceGetName(device.0, name.as_mut_ptr(), room.0));
        let told = call!(self, nvmlSystemGetDriverVersion(driver.as_mut_ptr(), room.1));
        // SAFETY: a struct of numbers and characters; all zeros are valid ones.
        let start: sys::nvmlPciInfo_t = unsafe { std::mem::zeroed() };
        let pci = read!(self, start, nvmlDeviceGetPciInfo_v3(board.0));
        NvmlFound {
            name: named.ok().map(|()| text(&name)),
            uuid: self.uuid(device),
            pci_bus_id: pci.ok().map(|pci| text(&pci.busId)),
            mig: device != board || self.mig_mode(device),
            driver: told.ok().map(|()| text(&driver)),
        }
    }

    pub(super) fn uuid(&self, device: Handle) -> Option<String> {
        let mut uuid = [0; sys::NVML_DEVICE_UUID_V2_BUFFER_SIZE as usize];
        let room = uuid.len() as c_uint;
        call!(self, nvmlDeviceGetUUID(device.0, uuid.as_mut_ptr(), room)).ok()?;
        Some(text(&uuid))
    }

    /// The device that a MIG instance is on, and the instance's number; `None` = no MIG instance.
    pub(super) fn board(&self, device: Handle) -> Option<(Handle, Option<u32>)> {
        let is_mig = read!(self, 0, nvmlDeviceIsMigDeviceHandle(device.0)).is_ok_and(|is| is != 0);
        if !is_mig {
            return None;
        }
        let start = std::ptr::null_mut();
        let board = read!(self, start, nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device.0));
        let instance = read!(self, 0, nvmlDeviceGetGpuInstanceId(device.0));
        Some((board.map_or(device, Handle), instance.ok()))
    }

    /// Whether the device is cut into MIG instances.
    pub(super) fn mig_mode(&self, device: Handle) -> bool {
        let (mut now, mut after_reset) = (0, 0);
        call!(self, nvmlDeviceGetMigMode(device.0, &mut now, &mut after_reset)).is_ok() && now != 0
    }

    /// Share of time in which a kernel ran, 0 to 1.
    pub(super) fn utilization(&self, device: Handle) -> Result<f64, Refused> {
        let start = sys::nvmlUtilization_t { gpu: 0, memory: 0 };
        let rates = read!(self, start, nvmlDeviceGetUtilizationRates(device.0))?;
        Ok(f64::from(rates.gpu) / 100.0)
    }

    /// (used, total) bytes. Used is without the driver's own reserve where version 2 exists (R510);
    /// version 1 counts the reserve as used.
    pub(super) fn memory(&self, device: Handle) -> Result<(u64, u64), Refused> {
        let size = size_of::<sys::nvmlMemory_v2_t>() as c_uint;
        let start = sys::nvmlMemory_v2_t {
            version: size | 2 << 24,
            total: 0,
            reserved: 0,
            free: 0,
            used: 0,
        };
        match read!(self, start, nvmlDeviceGetMemoryInfo_v2(device.0)) {
            Ok(memory) => Ok((memory.used, memory.total)),
            Err(refused) if refused.is_for_good() => {
                let start = sys::nvmlMemory_t { total: 0, free: 0, used: 0 };
                let memory = read!(self, start, nvmlDeviceGetMemoryInfo(device.0))?;
                Ok((memory.used, memory.total))
            }
            Err(refused) => Err(refused),
        }
    }

    /// Watts drawn.
    pub(super) fn power(&self, device: Handle) -> Result<f64, Refused> {
        read!(self, 0, nvmlDeviceGetPowerUsage(device.0)).map(|mw: c_uint| f64::from(mw) / 1e3)
    }

    /// Watts it may draw.
    pub(super) fn power_limit(&self, device: Handle) -> Result<f64, Refused> {
        let limit = read!(self, 0, nvmlDeviceGetEnforcedPowerLimit(device.0));
        limit.map(|mw: c_uint| f64::from(mw) / 1e3)
    }

    /// Degrees Celsius.
    pub(super) fn temperature(&self, device: Handle) -> Result<f64, Refused> {
        const SENSOR: c_uint = sys::nvmlTemperatureSensors_enum_NVML_TEMPERATURE_GPU;
        read!(self, 0, nvmlDeviceGetTemperature(device.0, SENSOR)).map(|c: c_uint| f64::from(c))
    }

    /// Hertz of the multiprocessors.
    pub(super) fn clock_sm(&self, device: Handle) -> Result<f64, Refused> {
        self.clock(device, sys::nvmlClockType_enum_NVML_CLOCK_SM)
    }

    /// Hertz of the memory.
    pub(super) fn clock_memory(&self, device: Handle) -> Result<f64, Refused> {
        self.clock(device, sys::nvmlClockType_enum_NVML_CLOCK_MEM)
    }

    fn clock(&self, device: Handle, which: sys::nvmlClockType_t) -> Result<f64, Refused> {
        read!(self, 0, nvmlDeviceGetClockInfo(device.0, which))
            .map(|mhz: c_uint| f64::from(mhz) * 1e6)
    }

    /// Why the clocks are as they are, as bits. Its name changed with R535.
    pub(super) fn clock_reasons(&self, device: Handle) -> Result<u64, Refused> {
        match read!(self, 0, nvmlDeviceGetCurrentClocksEventReasons(device.0)) {
            Err(refused) if refused.is_for_good() => {
                read!(self, 0, nvmlDeviceGetCurrentClocksThrottleReasons(device.0))
            }
            told => told,
        }
    }

    /// Millijoules since the driver was loaded.
    pub(super) fn energy(&self, device: Handle) -> Result<u64, Refused> {
        read!(self, 0, nvmlDeviceGetTotalEnergyConsumption(device.0))
    }

    /// PCIe packets sent again since the last reset.
    pub(super) fn pcie_replays(&self, device: Handle) -> Result<u64, Refused> {
        read!(self, 0, nvmlDeviceGetPcieReplayCounter(device.0)).map(|n: c_uint| u64::from(n))
    }

    /// Uncorrected memory errors since the driver was loaded.
    pub(super) fn ecc_uncorrected(&self, device: Handle) -> Result<u64, Refused> {
        const KIND: c_uint = sys::nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_UNCORRECTED;
        const SINCE: c_uint = sys::nvmlEccCounterType_enum_NVML_VOLATILE_ECC;
        read!(self, 0, nvmlDeviceGetTotalEccErrors(device.0, KIND, SINCE))
    }

    pub(super) fn event_set(&self) -> Result<EventSet, Refused> {
        read!(self, std::ptr::null_mut(), nvmlEventSetCreate()).map(EventSet)
    }

    /// Asks for the XID errors of a device and, where it has them, for events of uncorrectable
    /// memory errors.
    pub(super) fn register(&self, device: Handle, set: &EventSet) -> Result<(), Refused> {
        const XID: u64 = sys::nvmlEventTypeXidCriticalError as u64;
        const MEMORY: u64 = sys::nvmlEventTypeDoubleBitEccError as u64;
        let offered = read!(self, 0, nvmlDeviceGetSupportedEventTypes(device.0))?;
        if offered & XID == 0 {
            let code = Some(sys::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED);
            return Err(Refused { name: "nvmlDeviceGetSupportedEventTypes", code });
        }
        call!(self, nvmlDeviceRegisterEvents(device.0, offered & (XID | MEMORY), set.0))
    }

    /// Waits for one event; `None` = none came in time.
    pub(super) fn wait(&self, set: &EventSet, wait_ms: u32) -> Result<Option<Event>, Refused> {
        let start = sys::nvmlEventData_t {
            device: std::ptr::null_mut(),
            eventType: 0,
            eventData: 0,
            gpuInstanceId: c_uint::MAX,
            computeInstanceId: c_uint::MAX,
        };
        let mut came = start;
        match call!(self, nvmlEventSetWait_v2(set.0, &mut came, wait_ms)) {
            Err(refused) if refused.is_timeout() => Ok(None),
            Err(refused) => Err(refused),
            Ok(()) => Ok(Some(Event {
                device: Handle(came.device),
                xid: (came.eventType & u64::from(sys::nvmlEventTypeXidCriticalError) != 0)
                    .then_some(came.eventData),
                instance: (came.gpuInstanceId != c_uint::MAX).then_some(came.gpuInstanceId),
            })),
        }
    }

    pub(super) fn free(&self, set: EventSet) {
        // A set that cannot be freed is leaked: there is nothing else to do with it.
        let _ = call!(self, nvmlEventSetFree(set.0));
    }

    /// The refusal as an error for people.
    pub(super) fn unavailable(&self, refused: Refused) -> NvmlUnavailable {
        match refused.code {
            None => NvmlUnavailable::SymbolMissing(refused.name),
            Some(code) => {
                NvmlUnavailable::Call { name: refused.name, code, text: self.words(code) }
            }
        }
    }

    /// NVML's words for a return code.
    fn words(&self, code: u32) -> String {
        let unknown = || "no words for it".to_string();
        let Ok(function) = self.lib.nvmlErrorString.as_ref() else { return unknown() };
        // SAFETY: the function's type is that of NVIDIA's header and it takes any number.
        let words = unsafe { function(code) };
        if words.is_null() {
            return unknown();
        }
        // SAFETY: not null, and by the header a constant C string of the library, which is never
        // unloaded.
        unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
    }
}

/// nvmlShutdown, counted by the library: another user in this process keeps it open.
impl Drop for Nvml {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = call!(self, nvmlShutdown());
        }
    }
}

/// `65:00.0`, `0000:65:00.0` or `00000000:65:00.0` as NVML writes it; `None` = no bus id.
fn long_bus_id(id: &str) -> Option<String> {
    let mut parts = id.rsplitn(3, ':');
    let (device, function) = parts.next()?.split_once('.')?;
    let bus = parts.next()?;
    let domain = parts.next().unwrap_or("0");
    let hex = |part: &str| u32::from_str_radix(part, 16).ok();
    let (domain, bus, device) = (hex(domain)?, hex(bus)?, hex(device)?);
    Some(format!("{domain:08X}:{bus:02X}:{device:02X}.{:X}", hex(function)?))
}

/// A C string in a buffer of ours, up to its NUL or the buffer's end.
fn text(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> =
        buffer.iter().map(|c| c.to_ne_bytes()[0]).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_ids_of_cuda_lspci_and_nvidia_smi_are_one() {
        for id in ["0000:65:00.0", "00000000:65:00.0", "65:00.0", "0:65:0.0"] {
            assert_eq!(long_bus_id(id).as_deref(), Some("00000000:65:00.0"), "{id}");
        }
        assert_eq!(long_bus_id("000a:c1:1f.7").as_deref(), Some("0000000A:C1:1F.7"));
        for id in ["", "0", "65:00", "GPU-1", "x:65:00.0", "0000:65:00."] {
            assert_eq!(long_bus_id(id), None, "{id}");
        }
    }
}
