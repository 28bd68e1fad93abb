//! Entry points for streams and events.

use super::{entries, give};
use crate::capture;
use crate::codes;
use crate::context;
use crate::event::Event;
use crate::stream::{Kind, Stream, Work};
use crate::world::WORLD;
use std::ffi::{c_int, c_uint};

const NON_BLOCKING: c_uint = 1;

fn kind_of(flags: c_uint) -> Kind {
    if flags & NON_BLOCKING != 0 { Kind::NonBlocking } else { Kind::Blocking }
}

entries! {
    fn cuStreamCreate(handle: *mut usize, flags: c_uint) {
        capture::permit_unsafe_call()?;
        let stream = Stream::start(context::current()?, kind_of(flags));
        // SAFETY: the caller's promise.
        unsafe { give(handle, WORLD.streams.insert(stream)) }
    }
    fn cuStreamCreateWithPriority(handle: *mut usize, flags: c_uint, _priority: c_int) {
        capture::permit_unsafe_call()?;
        let stream = Stream::start(context::current()?, kind_of(flags));
        // SAFETY: the caller's promise.
        unsafe { give(handle, WORLD.streams.insert(stream)) }
    }
    fn cuStreamDestroy_v2(stream: usize) {
        context::current()?;
        WORLD.streams.remove(stream).map(drop).ok_or(codes::INVALID_HANDLE)
    }
    fn cuStreamGetCtx(stream: usize, handle: *mut usize) {
        context::require_init()?;
        // SAFETY: the caller's promise.
        unsafe { give(handle, WORLD.stream(stream)?.context.handle) }
    }
    fn cuStreamSynchronize(stream: usize) {
        capture::permit_unsafe_call()?;
        let context = context::current()?;
        WORLD.stream(stream)?.drain()?;
        context.check()
    }
    fn cuStreamWaitEvent(stream: usize, event: usize, _flags: c_uint) {
        context::current()?;
        let event = WORLD.events.get(event).ok_or(codes::INVALID_HANDLE)?;
        let stream = WORLD.stream(stream)?;
        match event.last_record() {
            Ok(number) => stream.submit(Work::Wait(event, number)),
            Err(capture) => {
                let capture = capture.upgrade().ok_or(codes::CAPTURED_EVENT)?;
                capture::join(&stream, &capture)
            }
        }
    }
    fn cuEventCreate(handle: *mut usize, _flags: c_uint) {
        context::current()?;
        // SAFETY: the caller's promise.
        unsafe { give(handle, WORLD.events.insert(Event::default())) }
    }
    fn cuEventDestroy_v2(event: usize) {
        context::require_init()?;
        WORLD.events.remove(event).map(drop).ok_or(codes::INVALID_HANDLE)
    }
    fn cuEventRecord(event: usize, stream: usize) {
        context::current()?;
        let event = WORLD.events.get(event).ok_or(codes::INVALID_HANDLE)?;
        let stream = WORLD.stream(stream)?;
        let capturing = crate::lock::lock(&stream.capture).as_ref().map(|(capture, _)| capture.clone());
        if let Some(capture) = capturing {
            event.record_in(&capture);
            return Ok(());
        }
        let number = event.record();
        stream.submit(Work::Record(event, number))
    }
    fn cuEventQuery(event: usize) {
        capture::permit_unsafe_call()?;
        context::current()?;
        let event = WORLD.events.get(event).ok_or(codes::INVALID_HANDLE)?;
        let number = event.last_record().map_err(|_| codes::CAPTURED_EVENT)?;
        if event.is_complete(number) { Ok(()) } else { Err(codes::NOT_READY) }
    }
    fn cuEventSynchronize(event: usize) {
        capture::permit_unsafe_call()?;
        let context = context::current()?;
        let event = WORLD.events.get(event).ok_or(codes::INVALID_HANDLE)?;
        event.wait(event.last_record().map_err(|_| codes::CAPTURED_EVENT)?);
        context.check()
    }
    fn cuEventElapsedTime(milliseconds: *mut f32, start: usize, end: usize) {
        context::current()?;
        let start = WORLD.events.get(start).ok_or(codes::INVALID_HANDLE)?;
        let end = WORLD.events.get(end).ok_or(codes::INVALID_HANDLE)?;
        // SAFETY: the caller's promise.
        unsafe { give(milliseconds, end.elapsed_ms(&start)?) }
    }
}
