//! How a device is named to NVML, and what is found under the name.

/// One device of NVML's, by a name that does not depend on who asks.
///
/// CUDA's ordinals are no such name: they follow `CUDA_VISIBLE_DEVICES` and CUDA's own order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum NvmlDevice {
    /// PCI bus id, `0000:65:00.0` (as CUDA tells it) or `00000000:65:00.0` (as nvidia-smi does).
    PciBusId(String),
    /// UUID, `GPU-…` for a device or `MIG-…` for one MIG instance.
    Uuid(String),
}

/// What was found under an [`NvmlDevice`]. `None` = the driver does not tell.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NvmlFound {
    /// Product name.
    pub name: Option<String>,
    /// UUID of the device or of the MIG instance.
    pub uuid: Option<String>,
    /// PCI bus id as NVML writes it, `00000000:65:00.0`; of the board for a MIG instance.
    pub pci_bus_id: Option<String>,
    /// A MIG instance, or a device in MIG mode: its utilisation has no series.
    pub mig: bool,
    /// Version of the driver.
    pub driver: Option<String>,
}
