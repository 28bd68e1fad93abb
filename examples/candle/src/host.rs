//! Without a GPU: the model runs on the CPU, and steps are timed by the host's clock.

use anyhow::Result;
use candle_core::Device;
use stepscope::{Recorder, Stepscope};

/// Where the model runs.
pub fn open() -> Result<Device> {
    Ok(Device::Cpu)
}

/// Leaves the recorder as it is, and says so.
pub fn stamp_steps(_: &Stepscope, _: &mut Recorder, _: &Device) -> String {
    "timed by the host's clock (built without the feature `cuda`)".into()
}
