//! Stream capture: launches become the nodes of a graph, and careless calls elsewhere break it.
//!
//! The rule is that of `cuThreadExchangeStreamCaptureMode`. A call that may synchronise (an allocation, say) is refused
//! with error 900, and spoils the capture in its way, if
//!
//! 1. the calling thread's mode is GLOBAL or THREAD_LOCAL, and it has itself begun a capture that is not RELAXED; or
//! 2. the calling thread's mode is GLOBAL, and another thread has begun a capture in mode GLOBAL.
//!
//! A spoilt capture accepts no more nodes (901) and gives no graph when it ends (901).

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use crate::codes::{self, Code};
use crate::lock::lock;
use crate::stream::{Kind, Stream, Work};
use crate::world::WORLD;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Global,
    ThreadLocal,
    Relaxed,
}

impl Mode {
    pub fn from_number(number: c_int) -> Result<Mode, Code> {
        match number {
            0 => Ok(Mode::Global),
            1 => Ok(Mode::ThreadLocal),
            2 => Ok(Mode::Relaxed),
            _ => Err(codes::INVALID_VALUE),
        }
    }
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Global) };
}

/// Sets the calling thread's mode and gives the old one.
pub fn exchange_mode(mode: Mode) -> Mode {
    MODE.replace(mode)
}

/// A capture that has begun and not ended. Streams that joined it share it.
pub struct Capture {
    mode: Mode,
    thread: ThreadId,
    context: usize,
    state: Mutex<State>,
}

struct State {
    nodes: Vec<Work>,
    valid: bool,
}

/// What `cuStreamIsCapturing` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    None = 0,
    Active = 1,
    Invalidated = 2,
}

impl Capture {
    pub fn append(&self, node: Work) -> Result<(), Code> {
        let mut state = lock(&self.state);
        if !state.valid {
            return Err(codes::CAPTURE_INVALIDATED);
        }
        state.nodes.push(node);
        Ok(())
    }

    pub fn invalidate(&self) {
        lock(&self.state).valid = false;
    }

    fn is_valid(&self) -> bool {
        lock(&self.state).valid
    }
}

/// Must come first in every call that may synchronise.
pub fn permit_unsafe_call() -> Result<(), Code> {
    let (mode, me) = (MODE.get(), std::thread::current().id());
    let mut refused = false;
    for capture in lock(&WORLD.captures).iter() {
        let own = capture.thread == me;
        let in_the_way = match mode {
            Mode::Relaxed => false,
            Mode::ThreadLocal => own && capture.mode != Mode::Relaxed,
            Mode::Global if own => capture.mode != Mode::Relaxed,
            Mode::Global => capture.mode == Mode::Global,
        };
        if in_the_way {
            capture.invalidate();
            refused = true;
        }
    }
    if refused { Err(codes::CAPTURE_UNSUPPORTED) } else { Ok(()) }
}

/// From now on what is launched on `stream` is recorded.
pub fn begin(stream: &Stream, mode: Mode) -> Result<(), Code> {
    if stream.kind == Kind::Legacy {
        return Err(codes::CAPTURE_UNSUPPORTED);
    }
    let mut slot = lock(&stream.capture);
    if slot.is_some() {
        return Err(codes::ILLEGAL_STATE);
    }
    let capture = Arc::new(Capture {
        mode,
        thread: std::thread::current().id(),
        context: stream.context.handle,
        state: Mutex::new(State { nodes: Vec::new(), valid: true }),
    });
    *slot = Some((capture.clone(), true));
    lock(&WORLD.captures).push(capture);
    Ok(())
}

/// Lets `stream` record into the capture in which another stream recorded an event.
pub fn join(stream: &Stream, capture: &Arc<Capture>) -> Result<(), Code> {
    let mut slot = lock(&stream.capture);
    match slot.as_ref() {
        Some((own, _)) if Arc::ptr_eq(own, capture) => Ok(()),
        Some((own, _)) => {
            own.invalidate();
            capture.invalidate();
            Err(codes::CAPTURE_MERGE)
        }
        None => {
            *slot = Some((capture.clone(), false));
            Ok(())
        }
    }
}

/// The nodes recorded since `begin`.
pub fn end(stream: &Stream) -> Result<Vec<Work>, Code> {
    let (capture, is_origin) = lock(&stream.capture).clone().ok_or(codes::ILLEGAL_STATE)?;
    if !is_origin {
        capture.invalidate();
        return Err(codes::CAPTURE_UNMATCHED);
    }
    if capture.mode != Mode::Relaxed && capture.thread != std::thread::current().id() {
        return Err(codes::CAPTURE_WRONG_THREAD);
    }
    take_from_streams(|found| Arc::ptr_eq(found, &capture));
    lock(&WORLD.captures).retain(|found| !Arc::ptr_eq(found, &capture));
    let mut state = lock(&capture.state);
    if !state.valid {
        return Err(codes::CAPTURE_INVALIDATED);
    }
    // The streams are out; nothing can be appended any more, even by a launch that raced with this call.
    state.valid = false;
    Ok(std::mem::take(&mut state.nodes))
}

/// Error 906: a stream that the legacy stream waits for is being captured.
pub fn implicit_conflict(legacy: &Stream) -> Option<Vec<Arc<Capture>>> {
    let conflicting: Vec<Arc<Capture>> = WORLD
        .all_streams()
        .iter()
        .filter(|stream| {
            stream.context.handle == legacy.context.handle && stream.kind == Kind::Blocking
        })
        .filter_map(|stream| lock(&stream.capture).as_ref().map(|(capture, _)| capture.clone()))
        .collect();
    (!conflicting.is_empty()).then_some(conflicting)
}

/// What the stream is doing. The error 906 leaves the capture as it is.
pub fn status(stream: &Stream) -> Result<Status, Code> {
    if stream.kind == Kind::Legacy && implicit_conflict(stream).is_some() {
        return Err(codes::CAPTURE_IMPLICIT);
    }
    Ok(match lock(&stream.capture).as_ref() {
        None => Status::None,
        Some((capture, _)) if capture.is_valid() => Status::Active,
        Some(_) => Status::Invalidated,
    })
}

/// The captures of a context that has ended are over.
pub fn abandon(context: usize) {
    take_from_streams(|capture| capture.context == context);
    lock(&WORLD.captures).retain(|capture| capture.context != context);
}

fn take_from_streams(is_meant: impl Fn(&Arc<Capture>) -> bool) {
    for stream in WORLD.all_streams() {
        lock(&stream.capture).take_if(|(capture, _)| is_meant(capture));
    }
}
