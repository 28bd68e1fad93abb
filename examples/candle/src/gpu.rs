//! With a GPU: the model runs on the first one, and steps are stamped on candle's own stream.

#![allow(unsafe_code)] // A stream is told to stepscope by its pointer.

use anyhow::Result;
use candle_core::Device;
use stepscope::gpu::{Options, RawStream};
use stepscope::{Recorder, Stepscope};

/// Where the model runs: the first GPU, with a stream of its own.
///
/// `Device::new_cuda` would take the per-thread default stream instead. That can be stamped too, but
/// only by the thread that launches: the same pointer is another stream on another thread.
pub fn open() -> Result<Device> {
    Ok(Device::new_cuda_with_stream(0)?)
}

/// Stamps each step of `recorder` with the GPU's own clock, or says why not: an engine serves on.
pub fn stamp_steps(scope: &Stepscope, recorder: &mut Recorder, device: &Device) -> String {
    let Device::Cuda(cuda) = device else { return "timed by the host's clock (no GPU)".into() };
    // SAFETY: candle launches on this stream for as long as the device lives. The model owns the
    // device, and the engine that gets the recorder borrows the model.
    let stream = unsafe { RawStream::from_ptr(cuda.cuda_stream().cu_stream().cast()) };
    let gpu = match scope.gpu(stream, &Options { lanes: 1, ..Options::default() }) {
        Ok(gpu) => gpu,
        Err(why) => return format!("timed by the host's clock ({why})"),
    };
    match gpu.lane(stream) {
        Ok(lane) => {
            recorder.set_lane(lane);
            let name = gpu.identity().name.as_deref().unwrap_or("a GPU without a name");
            format!("stamped on candle's stream of {name}")
        }
        Err(why) => format!("timed by the host's clock ({why})"),
    }
}
