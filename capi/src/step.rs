//! Steps and the tokens they make.

use crate::record::{request, stepscope_request};
use crate::recorder::{stepscope_recorder, verb};
use crate::wall::*;
use crate::words::*;
use stepscope_rs::{OpenStep, Recorder, Request, Step, Time};

/// One engine iteration: plain data, first begun, then ended. Zeroed = no step. Do not use copies.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stepscope_step {
    /// The library's; with room for what later versions keep.
    pub opaque: [u64; 16],
}
const _: () = assert!(size_of::<stepscope_step>() == 128);

/// Most sequences that one call of `stepscope_tokens` takes.
pub const STEPSCOPE_BATCH_MAX: usize = 1_048_576;

/// First word of a step that was begun, and of one that was ended. Uninitialised memory rarely says
/// either.
const OPEN: u64 = 0x5354_4550_4f50_454e;
const ENDED: u64 = 0x5354_4550_454e_4445;
const NO_STEP: stepscope_step = stepscope_step { opaque: [0; 16] };

impl stepscope_step {
    fn open(step: OpenStep) -> stepscope_step {
        let mut words = NO_STEP;
        words.opaque[0] = OPEN;
        words.opaque[1..11].copy_from_slice(&step.into_words());
        words
    }

    fn ended(step: Step) -> stepscope_step {
        let mut words = NO_STEP;
        words.opaque[0] = ENDED;
        words.opaque[1..5].copy_from_slice(&step.into_words());
        words
    }

    fn as_open(&self) -> Option<OpenStep> {
        let [OPEN, a, b, c, d, e, f, g, h, i, j, ..] = self.opaque else { return None };
        Some(OpenStep::from_words([a, b, c, d, e, f, g, h, i, j]))
    }

    #[inline(always)]
    fn as_ended(&self) -> Option<Step> {
        let [ENDED, a, b, c, d, ..] = self.opaque else { return None };
        Some(Step::from_words([a, b, c, d]))
    }
}

/// Takes an open step out of its place, which is empty then; another one is counted.
fn take(recorder: &mut Recorder, step: Option<&mut stepscope_step>) -> Option<OpenStep> {
    let open = step.and_then(|step| {
        let open = step.as_open()?;
        *step = NO_STEP;
        Some(open)
    });
    if open.is_none() {
        recorder.refuse()
    }
    open
}

/// A step begins, directly before its first launch. Launches the begin stamp if there is a lane.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_begin_step(
    recorder: *const stepscope_recorder,
    at_ns: u64,
    shape: stepscope_shape,
) -> stepscope_step {
    // SAFETY: as the header asks.
    unsafe {
        verb(recorder, NO_STEP, |r| {
            stepscope_step::open(r.begin_step(Time::from_nanos(at_ns), shape.get()))
        })
    }
}

/// Directly after the step's last launch. Does nothing without a lane.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_step_launched(
    recorder: *const stepscope_recorder,
    step: *mut stepscope_step,
    how: stepscope_launch,
) {
    // SAFETY: as the header asks.
    unsafe {
        verb(recorder, (), |r| {
            let Some(how) = launch(how) else { return r.refuse() };
            let place = look_mut(step);
            let Some(place) = place else { return r.refuse() };
            if let Some(mut open) = take(r, Some(place)) {
                r.launched(&mut open, how);
                *place = stepscope_step::open(open)
            }
        })
    }
}

/// The step's outputs are on the host. Its time is the GPU's end if the stamps are there, else
/// `at_ns`. A step that is not begun is counted.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_end_step(
    recorder: *const stepscope_recorder,
    step: *mut stepscope_step,
    at_ns: u64,
) {
    // SAFETY: as the header asks.
    unsafe {
        verb(recorder, (), |r| {
            let Some(place) = look_mut(step) else { return r.refuse() };
            if let Some(open) = take(r, Some(place)) {
                *place = stepscope_step::ended(r.end_step(open, Time::from_nanos(at_ns)))
            }
        })
    }
}

/// The step did not run (a launch failed): it leaves no sample.
/// What `stepscope_prefill` was told for it stays counted.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_step_abandon(
    recorder: *const stepscope_recorder,
    step: *mut stepscope_step,
) {
    // SAFETY: as the header asks.
    unsafe {
        verb(recorder, (), |r| {
            if let Some(open) = take(r, look_mut(step)) {
                r.abandon(open)
            }
        })
    }
}

/// The time of an ended step's tokens, in ns; 0 for any other.
///
/// Thread: any that may look at the step.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_step_time(step: *const stepscope_step) -> u64 {
    // SAFETY: as the header asks.
    wall(0, || unsafe {
        let ended = look(step).and_then(stepscope_step::as_ended);
        ended.map_or(0, |step| step.time().as_nanos())
    })
}

/// A verb on a batch: the step must have ended, and the batch be one that can exist.
///
/// # Safety
/// As for `verb`; the step's pointer leads nowhere or to a step.
#[inline(always)]
unsafe fn batch(
    recorder: *const stepscope_recorder,
    step: *const stepscope_step,
    possible: bool,
    body: impl FnOnce(&mut Recorder, &Step),
) {
    // SAFETY: the caller's promise.
    unsafe {
        verb(recorder, (), |r| {
            match look(step).and_then(stepscope_step::as_ended).filter(|_| possible) {
                Some(step) => body(r, &step),
                None => r.refuse(),
            }
        })
    }
}

/// Is this an array, of a length that a batch may have, or an empty batch?
fn is_array<T>(first: *const T, n: usize) -> bool {
    n == 0 || n <= STEPSCOPE_BATCH_MAX && !first.is_null() && first.is_aligned()
}

fn is_stride(stride: usize, n: usize) -> bool {
    let size = size_of::<stepscope_request>();
    n < 2
        || stride.is_multiple_of(align_of::<Request>())
            && (size..=isize::MAX as usize / n).contains(&stride)
}

/// The tokens of a whole batch at once: sequence `i` lies `i * stride` bytes behind `first`, so
/// requests may sit in the engine's own structs, and the step accepted `accepted[i]` tokens for it;
/// `accepted` NULL = 1 each. 0 (a chunk of prompt, nothing sampled) records nothing. `stride` is at
/// least `sizeof(stepscope_request)` and a multiple of 8, `n` at most `STEPSCOPE_BATCH_MAX`; another
/// batch is counted and records nothing.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_tokens(
    recorder: *const stepscope_recorder,
    step: *const stepscope_step,
    first: *mut stepscope_request,
    stride: usize,
    accepted: *const u32,
    n: usize,
) {
    let possible =
        is_array(first, n) && is_stride(stride, n) && (accepted.is_null() || is_array(accepted, n));
    // SAFETY: as the header asks: `n` slots, one after the other, each used for one item.
    let at = |i: usize| unsafe { &mut *first.byte_add(i * stride).cast::<Request>() };
    // SAFETY: as the header asks: `n` numbers.
    let given = |i: usize| unsafe { *accepted.add(i) };
    // SAFETY: as the header asks.
    unsafe {
        batch(recorder, step, possible, |r, step| match accepted.is_null() {
            true => r.tokens(step, (0..n).map(|i| (at(i), 1))),
            false => r.tokens(step, (0..n).map(|i| (at(i), given(i)))),
        })
    }
}

/// The same for requests that lie anywhere: `each` is an array of `n` pointers. NULL ones are left
/// out. A request that is there twice emits twice, the second time at gap 0, which is counted.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_tokens_at(
    recorder: *const stepscope_recorder,
    step: *const stepscope_step,
    each: *const *mut stepscope_request,
    accepted: *const u32,
    n: usize,
) {
    let possible = is_array(each, n) && (accepted.is_null() || is_array(accepted, n));
    // SAFETY: as the header asks: `n` pointers and `n` numbers.
    let item = |i: usize| unsafe {
        let accepted = if accepted.is_null() { 1 } else { *accepted.add(i) };
        Some((request(*each.add(i))?, accepted))
    };
    // SAFETY: as the header asks.
    unsafe { batch(recorder, step, possible, |r, step| r.tokens(step, (0..n).filter_map(item))) }
}

/// The same for one sequence: a decode loop of batch 1.
///
/// Thread: the recorder's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stepscope_token(
    recorder: *const stepscope_recorder,
    step: *const stepscope_step,
    request: *mut stepscope_request,
    accepted: u32,
) {
    // SAFETY: as the header asks.
    unsafe {
        batch(recorder, step, true, |r, step| match self::request(request) {
            Some(request) => r.token(step, request, accepted),
            None => r.refuse(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stepscope_rs::{Config, Launch, Settled, Shape, StepClock, StepSource, Stepscope, Ticket};

    /// A device that wants its own words back.
    struct Device;

    const WORDS: [u64; 7] = [1, 2, 3, 4, 5, 6, u64::MAX];

    impl StepClock for Device {
        fn begin(&mut self, _: Time, _: Shape) -> Ticket {
            Ticket(WORDS)
        }

        fn end(&mut self, _: &mut Ticket, _: Launch) {}

        fn settle(&mut self, ticket: Ticket) -> Settled {
            assert_eq!(ticket.0, WORDS);
            Settled::Done { end: Time::from_nanos(70), gpu_ns: 10, idle_before_ns: None }
        }

        fn abandon(&mut self, _: Ticket) {}

        fn source(&self) -> StepSource {
            StepSource::Simulated
        }
    }

    #[test]
    fn a_step_comes_back_from_c_as_it_went() {
        let scope = Stepscope::start(Config { listen: None, ..Config::default() }).unwrap();
        let mut recorder = scope.recorder("engine");
        let shape = Shape { prefills: u32::MAX, prefill_tokens: 7, decodes: u32::MAX - 1 };
        let begin = |recorder: &mut Recorder| recorder.begin_step(Time::from_nanos(9), shape);
        let without_lane = format!("{:?}", begin(&mut recorder));
        let back = stepscope_step::open(begin(&mut recorder)).as_open().unwrap();
        assert_eq!(format!("{back:?}"), without_lane);

        recorder.set_lane(Device);
        let open = begin(&mut recorder);
        let said = format!("{open:?}");
        let back = stepscope_step::open(open).as_open().unwrap();
        assert_eq!(format!("{back:?}"), said);
        let step = recorder.end_step(back, Time::from_nanos(99));
        assert_eq!((step.time().as_nanos(), step.source()), (70, StepSource::Simulated));
        let said = format!("{step:?}");
        assert_eq!(format!("{:?}", stepscope_step::ended(step).as_ended().unwrap()), said);
    }

    #[test]
    fn no_words_that_no_step_made_are_a_step() {
        for byte in [0, 1, 0xff] {
            let any = stepscope_step { opaque: [u64::from_ne_bytes([byte; 8]); 16] };
            assert!(any.as_open().is_none() && any.as_ended().is_none());
        }
    }
}
