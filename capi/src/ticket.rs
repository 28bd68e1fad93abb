//! A step stamped by hand: its ticket, and when it ran.

use crate::wall::*;
use crate::words::*;
use stepscope_rs::gpu::{Resolution, StepTicket, StepTime};
use stepscope_rs::{Ticket, Time};

/// One step on one lane: plain data, settled once. Zeroed = no step. Do not use copies.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_ticket {
    /// The library's; with room for what later versions keep.
    pub opaque: [u64; 12],
}

/// When a step ran on the GPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_step_times {
    /// Begin stamp on the host's clock, in ns.
    pub begin_ns: u64,
    /// End stamp on the host's clock, in ns.
    pub end_ns: u64,
    /// Stamp in between on the host's clock, in ns; 0 = none.
    pub mark_a_ns: u64,
    /// Stamp in between on the host's clock, in ns; 0 = none.
    pub mark_b_ns: u64,
    /// Bound of the error of the four times above, in ns.
    pub error_ns: u64,
    /// Begin stamp as the GPU's timer said it, in ns modulo 2^48.
    pub gpu_begin_ns: u64,
    /// End - begin on the GPU's own clock, in ns.
    pub gpu_ns: u64,
    /// Begin - end of the lane's step before, in ns; `UINT64_MAX` = not known.
    pub idle_before_ns: u64,
}
const _: () = assert!(size_of::<stepscope_step_times>() == 64);

impl stepscope_ticket {
    pub(crate) fn of(ticket: StepTicket) -> stepscope_ticket {
        let mut words = stepscope_ticket { opaque: [0; 12] };
        words.opaque[..7].copy_from_slice(&ticket.into_words().0);
        words
    }

    pub(crate) fn words(&self) -> Ticket {
        let [a, b, c, d, e, f, g, ..] = self.opaque;
        Ticket([a, b, c, d, e, f, g])
    }

    /// Leaves an empty one in its place.
    pub(crate) fn take(&mut self) -> StepTicket {
        let ticket = StepTicket::from_words(&self.words());
        self.opaque = [0; 12];
        ticket
    }
}

/// What a resolution says, into C's place for it.
pub(crate) fn put(resolution: Resolution, out: &mut stepscope_step_times) -> Result<(), Refusal> {
    match resolution {
        Resolution::Done(step) => *out = times(&step),
        Resolution::Pending => return Err(Refusal::told(STEPSCOPE_PENDING)),
        Resolution::Lost(why) => return Err(Refusal::told(why as i32)),
    }
    Ok(())
}

fn times(step: &StepTime) -> stepscope_step_times {
    let ns = |time: Option<Time>| time.map_or(0, Time::as_nanos);
    stepscope_step_times {
        begin_ns: step.begin.as_nanos(),
        end_ns: step.end.as_nanos(),
        mark_a_ns: ns(step.mark_a),
        mark_b_ns: ns(step.mark_b),
        error_ns: step.error_ns,
        gpu_begin_ns: step.gpu_begin,
        gpu_ns: step.gpu_ns,
        idle_before_ns: step.idle_before_ns.unwrap_or(u64::MAX),
    }
}
