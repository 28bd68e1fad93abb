//! Why there are no readings from NVML, in words that say what to do.

use super::found::NvmlDevice;
use nvml_wrapper_sys::bindings as sys;

/// Why NVML, or one device of it, cannot be read. Serving goes on; the device's readings are absent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NvmlUnavailable {
    /// The library was not found, or the loader refused it.
    #[error(
        "NVML cannot be loaded ({text}): install the NVIDIA driver, or in a container add `utility` \
         to NVIDIA_DRIVER_CAPABILITIES; until then the GPU's own readings are absent"
    )]
    LibraryMissing {
        /// What was looked for.
        path: std::path::PathBuf,
        /// What the loader said.
        text: String,
    },
    /// The library lacks a function without which nothing can be read.
    #[error(
        "NVML lacks {0}: the driver is too old (R450 or newer is needed) or the file is not NVML"
    )]
    SymbolMissing(&'static str),
    /// NVML is there but does not know the device.
    #[error(
        "NVML knows no device {device:?} ({text}): compare with `nvidia-smi -L` and \
         `nvidia-smi --query-gpu=pci.bus_id`; a container sees only the devices it was given"
    )]
    NoDevice {
        /// What was looked for.
        device: NvmlDevice,
        /// What NVML said.
        text: String,
    },
    /// A call failed.
    #[error("{name} failed: {text} (error {code}); {}", advice(*code))]
    Call {
        /// The function.
        name: &'static str,
        /// NVML's return code.
        code: u32,
        /// NVML's words for it.
        text: String,
    },
    /// A thread could not be started.
    #[error(
        "cannot start a thread for NVML: {0}; the process is at its limit of threads or memory"
    )]
    Thread(String),
    /// The process was forked after the start, or the watching was stopped.
    #[error("NVML is not watched in this process: start a Stepscope after the fork, not before")]
    Ended,
}

/// What a person can do about a return code.
fn advice(code: u32) -> &'static str {
    match code {
        sys::nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED => {
            "load the kernel module `nvidia` (does `nvidia-smi` work on the host?)"
        }
        sys::nvmlReturn_enum_NVML_ERROR_LIB_RM_VERSION_MISMATCH => {
            "the driver was updated under a running kernel module: reload the module or reboot"
        }
        sys::nvmlReturn_enum_NVML_ERROR_NO_PERMISSION => {
            "allow this process to open /dev/nvidiactl and the device's /dev/nvidia<N>"
        }
        sys::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST => {
            "the GPU fell off the bus: drain the node and read the kernel log for its XID"
        }
        sys::nvmlReturn_enum_NVML_ERROR_RESET_REQUIRED => "drain the worker and reset the GPU",
        _ => "see whether `nvidia-smi` works on this host",
    }
}
