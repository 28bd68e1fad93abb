//! Three calls of NVML, by the card's PCI bus id: its UUID and the power it draws.

use crate::driver::Refused;
use libloading::Library;
use std::ffi::{CString, OsStr, c_char, c_int, c_uint};
use std::path::Path;

const LIBRARY: &str = "libnvidia-ml.so.1";

pub struct Nvml {
    library: Library,
    device: usize,
}

macro_rules! call {
    ($library:expr, $name:literal($($arg:expr => $kind:ty),*)) => {{
        // SAFETY: NVML's signature of this name; each place written to is ours and large enough.
        let code = unsafe {
            let call: libloading::Symbol<unsafe extern "C" fn($($kind),*) -> c_int> =
                $library.get(concat!($name, "\0").as_bytes())?;
            call($($arg),*)
        };
        if code == 0 { Ok(()) } else { Err(Refused { call: $name, code }) }
    }};
}

impl Nvml {
    /// Opens NVML and finds the card.
    ///
    /// # Errors
    /// Why not.
    pub fn open(library: Option<&Path>, pci_bus_id: &str) -> anyhow::Result<Nvml> {
        let name = library.map_or(OsStr::new(LIBRARY), Path::as_os_str);
        // SAFETY: NVML's own initialisers.
        let library = unsafe { Library::new(name) }?;
        call!(library, "nvmlInit_v2"())?;
        let (id, mut device) = (CString::new(pci_bus_id)?, 0);
        call!(library, "nvmlDeviceGetHandleByPciBusId_v2"(
            id.as_ptr() => *const c_char, &mut device => *mut usize))?;
        Ok(Nvml { library, device })
    }

    /// The card's UUID, `GPU-…`.
    ///
    /// # Errors
    /// NVML does not tell.
    pub fn uuid(&self) -> anyhow::Result<String> {
        let mut text = [0 as c_char; 96];
        call!(self.library, "nvmlDeviceGetUUID"(
            self.device => usize, text.as_mut_ptr() => *mut c_char, 96 => c_uint))?;
        let bytes = text.iter().map(|c| *c as u8).take_while(|byte| *byte != 0);
        Ok(String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned())
    }

    /// W that the card draws.
    ///
    /// # Errors
    /// NVML does not tell.
    pub fn power_w(&self) -> anyhow::Result<f64> {
        let mut milliwatts = 0;
        call!(self.library, "nvmlDeviceGetPowerUsage"(
            self.device => usize, &mut milliwatts => *mut c_uint))?;
        Ok(f64::from(milliwatts) / 1e3)
    }
}
