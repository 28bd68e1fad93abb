//! The words that C speaks: numbers of statuses, outcomes and reasons, fixed and never reused, only added to;
//! and the shape of a step.

use stepscope_rs::{
    Discard, ErrorType, Launch, Outcome, Preempt, Reading, Role, Shape, Tally, Wait,
};

/// What a function answers. 0 = done; 1 to 99 = why a step has no device time; 100 and above =
/// no error, and not what was asked for either; negative = an error, with a sentence in
/// `stepscope_last_error`.
pub type stepscope_status = i32;

/// Done.
pub const STEPSCOPE_OK: stepscope_status = 0;

/// Never attached, or the context is gone.
pub const STEPSCOPE_LOST_UNAVAILABLE: stepscope_status = 1;
/// Begun while the stream captured a graph.
pub const STEPSCOPE_LOST_CAPTURING: stepscope_status = 2;
/// The driver refused a stamp's launch.
pub const STEPSCOPE_LOST_LAUNCH_FAILED: stepscope_status = 3;
/// The end was never marked.
pub const STEPSCOPE_LOST_NOT_ENDED: stepscope_status = 4;
/// Settled so late that a younger step has its slot.
pub const STEPSCOPE_LOST_OVERWRITTEN: stepscope_status = 5;
/// An older step's stamp arrived late in this slot.
pub const STEPSCOPE_LOST_FOREIGN: stepscope_status = 6;
/// The device's clock jumped in between.
pub const STEPSCOPE_LOST_CLOCK_JUMP: stepscope_status = 7;
/// On the host's clock it would end before it began, or lie in the future.
pub const STEPSCOPE_LOST_ACAUSAL: stepscope_status = 8;
/// A forked child has no GPU.
pub const STEPSCOPE_LOST_FORKED: stepscope_status = 9;
/// After the GPU was detached.
pub const STEPSCOPE_LOST_DETACHED: stepscope_status = 10;
/// The ticket is another GPU's.
pub const STEPSCOPE_LOST_WRONG_OWNER: stepscope_status = 11;

/// The stamps are not there yet.
pub const STEPSCOPE_PENDING: stepscope_status = 100;
/// The answer is no; `stepscope_last_error` says why.
pub const STEPSCOPE_NO: stepscope_status = 101;
/// There is no such value now.
pub const STEPSCOPE_ABSENT: stepscope_status = 102;

/// A pointer that is needed is NULL, or not aligned.
pub const STEPSCOPE_ERROR_NULL: stepscope_status = -1;
/// A setting, a number or a name cannot be used.
pub const STEPSCOPE_ERROR_INVALID: stepscope_status = -2;
/// The scope was shut down.
pub const STEPSCOPE_ERROR_ENDED: stepscope_status = -3;
/// The address cannot be listened on.
pub const STEPSCOPE_ERROR_LISTEN: stepscope_status = -4;
/// The process is at its limit of threads or memory.
pub const STEPSCOPE_ERROR_RESOURCES: stepscope_status = -5;
/// The buffer is too small; the needed size was written.
pub const STEPSCOPE_ERROR_TOO_SMALL: stepscope_status = -6;
/// Another thread uses this handle.
pub const STEPSCOPE_ERROR_THREAD: stepscope_status = -7;
/// There is no GPU to stamp, or no device to read.
pub const STEPSCOPE_ERROR_UNAVAILABLE: stepscope_status = -8;
/// The driver refused.
pub const STEPSCOPE_ERROR_DRIVER: stepscope_status = -9;
/// Something is still under way, or the call came from inside a callback.
pub const STEPSCOPE_ERROR_BUSY: stepscope_status = -10;
/// A fault inside stepscope that was caught.
pub const STEPSCOPE_ERROR_PANIC: stepscope_status = -11;

/// What this worker does of a request's life.
pub type stepscope_role = u32;
/// Prefill and decode.
pub const STEPSCOPE_ROLE_BOTH: stepscope_role = 0;
/// Prefill only: reports no user's TTFT.
pub const STEPSCOPE_ROLE_PREFILL: stepscope_role = 1;
/// Decode only.
pub const STEPSCOPE_ROLE_DECODE: stepscope_role = 2;

/// How a request ended.
pub type stepscope_outcome = u32;
/// The model said stop.
pub const STEPSCOPE_STOP: stepscope_outcome = 0;
/// The token limit was reached.
pub const STEPSCOPE_LENGTH: stepscope_outcome = 1;
/// Role prefill only: the sequence lives on in another process.
pub const STEPSCOPE_HANDOVER: stepscope_outcome = 2;
/// The client went away or cancelled.
pub const STEPSCOPE_ABORTED: stepscope_outcome = 3;
/// The server failed it after accepting it; the error type says what of.
pub const STEPSCOPE_FAILED: stepscope_outcome = 4;
/// The server did not take it on; the error type says why.
pub const STEPSCOPE_REJECTED: stepscope_outcome = 5;

/// What a failed or rejected request died of; not looked at for other outcomes.
pub type stepscope_error_type = u32;
/// Device or host memory ran out.
pub const STEPSCOPE_OOM: stepscope_error_type = 0;
/// A deadline passed.
pub const STEPSCOPE_TIMEOUT: stepscope_error_type = 1;
/// A worker, a rank or the device died.
pub const STEPSCOPE_CRASH: stepscope_error_type = 2;
/// Turned away because the engine is full.
pub const STEPSCOPE_OVERLOAD: stepscope_error_type = 3;
/// Any other fault of the server.
pub const STEPSCOPE_INTERNAL: stepscope_error_type = 4;
/// The caller's fault; never alerts.
pub const STEPSCOPE_INPUT: stepscope_error_type = 5;

/// Why a running sequence was put back to waiting.
pub type stepscope_preempt_reason = u32;
/// KV blocks ran out; it is computed again later.
pub const STEPSCOPE_PREEMPT_MEMORY: stepscope_preempt_reason = 0;
/// A more important request took its place.
pub const STEPSCOPE_PREEMPT_PRIORITY: stepscope_preempt_reason = 1;
/// Its KV blocks were swapped out.
pub const STEPSCOPE_PREEMPT_SWAP: stepscope_preempt_reason = 2;

/// Why computed tokens are in no answer.
pub type stepscope_discard_reason = u32;
/// Drafted and not accepted; `stepscope_spec` counts these.
pub const STEPSCOPE_DISCARD_DRAFT: stepscope_discard_reason = 0;
/// Accepted by a step behind a stop.
pub const STEPSCOPE_DISCARD_STOP_SURPLUS: stepscope_discard_reason = 1;
/// A beam or sample that lost.
pub const STEPSCOPE_DISCARD_BEAM: stepscope_discard_reason = 2;
/// The request was aborted; `stepscope_finish` counts these.
pub const STEPSCOPE_DISCARD_ABORTED: stepscope_discard_reason = 3;
/// For `stepscope_join`: the child's tokens are in the answer.
pub const STEPSCOPE_DISCARD_NONE: stepscope_discard_reason = 0xffff_ffff;

/// Why a request that is not running waits.
pub type stepscope_wait_reason = u32;
/// No KV blocks or no place in the batch.
pub const STEPSCOPE_WAIT_CAPACITY: stepscope_wait_reason = 0;
/// Held back by the scheduler on purpose.
pub const STEPSCOPE_WAIT_DEFERRED: stepscope_wait_reason = 1;
/// Its grammar is being compiled.
pub const STEPSCOPE_WAIT_GRAMMAR: stepscope_wait_reason = 2;
/// KV blocks are on their way.
pub const STEPSCOPE_WAIT_KV_FETCH: stepscope_wait_reason = 3;
/// Its adapter is being loaded.
pub const STEPSCOPE_WAIT_LORA: stepscope_wait_reason = 4;

/// How the end of a step was marked on the device.
pub type stepscope_launch = u32;
/// Launch an end stamp on the stream now.
pub const STEPSCOPE_LAUNCH_STAMP: stepscope_launch = 0;
/// The graph that was just launched holds a captured end stamp.
pub const STEPSCOPE_LAUNCH_IN_GRAPH: stepscope_launch = 1;

/// A level that is read off a device.
pub type stepscope_reading = u32;
/// Share of time in which some kernel ran, 0 to 1.
pub const STEPSCOPE_UTILIZATION: stepscope_reading = 0;
/// Bytes in use by anybody.
pub const STEPSCOPE_MEMORY_USED: stepscope_reading = 1;
/// Bytes in all.
pub const STEPSCOPE_MEMORY_TOTAL: stepscope_reading = 2;
/// Bytes the engine took at start for weights and KV blocks.
pub const STEPSCOPE_MEMORY_PREALLOCATED: stepscope_reading = 3;
/// Degrees Celsius.
pub const STEPSCOPE_TEMPERATURE: stepscope_reading = 4;
/// Watts drawn.
pub const STEPSCOPE_POWER: stepscope_reading = 5;
/// Watts it may draw.
pub const STEPSCOPE_POWER_LIMIT: stepscope_reading = 6;
/// Hertz of the multiprocessors.
pub const STEPSCOPE_CLOCK_SM: stepscope_reading = 7;
/// Hertz of the memory.
pub const STEPSCOPE_CLOCK_MEMORY: stepscope_reading = 8;

/// A count of a device that only grows.
pub type stepscope_tally = u32;
/// Device allocations that failed.
pub const STEPSCOPE_ALLOC_FAILURES: stepscope_tally = 0;
/// Energy used, in millijoules.
pub const STEPSCOPE_ENERGY: stepscope_tally = 1;
/// Nanoseconds below its clocks because it is too hot.
pub const STEPSCOPE_THROTTLE_THERMAL: stepscope_tally = 2;
/// Nanoseconds below its clocks because the power supply asked for it.
pub const STEPSCOPE_THROTTLE_POWER_BRAKE: stepscope_tally = 3;
/// Nanoseconds below its clocks because of the power limit.
pub const STEPSCOPE_THROTTLE_POWER_CAP: stepscope_tally = 4;
/// XID errors after which the device or the context is gone.
pub const STEPSCOPE_XID_FATAL: stepscope_tally = 5;
/// XID errors that an application caused.
pub const STEPSCOPE_XID_APP: stepscope_tally = 6;
/// XID errors that are only worth a note.
pub const STEPSCOPE_XID_NOTICE: stepscope_tally = 7;
/// Uncorrectable memory errors.
pub const STEPSCOPE_ECC_UNCORRECTED: stepscope_tally = 8;
/// Packets sent again over PCIe.
pub const STEPSCOPE_PCIE_REPLAYS: stepscope_tally = 9;

/// How important a line of the log is.
pub type stepscope_log_level = u32;
/// Something does not work.
pub const STEPSCOPE_LOG_ERROR: stepscope_log_level = 1;
/// Something works less than it could.
pub const STEPSCOPE_LOG_WARN: stepscope_log_level = 2;
/// Worth knowing.
pub const STEPSCOPE_LOG_INFO: stepscope_log_level = 3;

/// What stands at the place that a number of C's names.
fn pick<T: Copy>(table: &[T], number: u32) -> Option<T> {
    table.get(usize::try_from(number).ok()?).copied()
}

pub(crate) fn role(number: stepscope_role) -> Option<Role> {
    pick(&[Role::Both, Role::Prefill, Role::Decode], number)
}

pub(crate) fn error_type(number: stepscope_error_type) -> Option<ErrorType> {
    use ErrorType::*;
    pick(&[Oom, Timeout, Crash, Overload, Internal, Input], number)
}

pub(crate) fn outcome(number: stepscope_outcome, error: stepscope_error_type) -> Option<Outcome> {
    let plain = [Outcome::Stop, Outcome::Length, Outcome::Handover, Outcome::Aborted];
    match number {
        STEPSCOPE_FAILED => error_type(error).map(Outcome::Failed),
        STEPSCOPE_REJECTED => error_type(error).map(Outcome::Rejected),
        _ => pick(&plain, number),
    }
}

pub(crate) fn preempt(number: stepscope_preempt_reason) -> Option<Preempt> {
    pick(&[Preempt::Memory, Preempt::Priority, Preempt::Swap], number)
}

pub(crate) fn discard(number: stepscope_discard_reason) -> Option<Discard> {
    use Discard::*;
    pick(&[Draft, StopSurplus, Beam, Aborted], number)
}

pub(crate) fn wait(number: stepscope_wait_reason) -> Option<Wait> {
    use Wait::*;
    pick(&[Capacity, Deferred, Grammar, KvFetch, Lora], number)
}

pub(crate) fn launch(number: stepscope_launch) -> Option<Launch> {
    pick(&[Launch::Stamp, Launch::InGraph], number)
}

pub(crate) fn reading(number: stepscope_reading) -> Option<Reading> {
    use Reading::*;
    #[rustfmt::skip]
    let all = [
        Utilization, MemoryUsed, MemoryTotal, MemoryPreallocated, Temperature, Power, PowerLimit,
        ClockSm, ClockMemory,
    ];
    pick(&all, number)
}

pub(crate) fn tally(number: stepscope_tally) -> Option<Tally> {
    use Tally::*;
    #[rustfmt::skip]
    let all = [
        AllocFailures, Energy, ThrottleThermal, ThrottlePowerBrake, ThrottlePowerCap, XidFatal,
        XidApp, XidNotice, EccUncorrected, PcieReplays,
    ];
    pick(&all, number)
}

/// The composition of a step.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_shape {
    /// Sequences that compute prompt (or recomputed) positions.
    pub prefills: u32,
    /// Positions those sequences compute.
    pub prefill_tokens: u32,
    /// Sequences that decode.
    pub decodes: u32,
}

impl stepscope_shape {
    pub(crate) fn get(self) -> Shape {
        let stepscope_shape { prefills, prefill_tokens, decodes } = self;
        Shape { prefills, prefill_tokens, decodes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stepscope_rs::gpu::Lost;

    /// The tables above are in the order of Rust's numbers, which are fixed.
    #[test]
    fn every_number_is_the_one_of_rust_and_the_next_one_is_none() {
        let in_order = |numbers: Vec<usize>| numbers.iter().enumerate().all(|(i, n)| i == *n);
        assert!(in_order((0..).map_while(role).map(|w| w as usize).collect()));
        assert!(in_order((0..).map_while(error_type).map(|w| w as usize).collect()));
        assert!(in_order((0..).map_while(preempt).map(|w| w as usize).collect()));
        assert!(in_order((0..).map_while(discard).map(|w| w as usize).collect()));
        assert!(in_order((0..).map_while(wait).map(|w| w as usize).collect()));
        assert!(in_order((0..).map_while(reading).map(|w| w as usize).collect()));
        assert!(in_order((0..).map_while(tally).map(|w| w as usize).collect()));
        assert_eq!(reading(STEPSCOPE_CLOCK_MEMORY), Some(Reading::ClockMemory));
        assert_eq!(tally(STEPSCOPE_PCIE_REPLAYS), Some(Tally::PcieReplays));
        assert_eq!((reading(9), tally(10), role(3), outcome(6, 0)), (None, None, None, None));
        assert_eq!(outcome(STEPSCOPE_FAILED, u32::MAX), None);
        assert_eq!(Lost::Unavailable as i32, STEPSCOPE_LOST_UNAVAILABLE);
        assert_eq!(Lost::WrongOwner as i32, STEPSCOPE_LOST_WRONG_OWNER);
        assert_eq!(Lost::ALL.len() as i32, STEPSCOPE_LOST_WRONG_OWNER);
    }
}
