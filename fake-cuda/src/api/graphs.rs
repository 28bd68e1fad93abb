//! Entry points for capture and graphs.

use super::{entries, give};
use crate::capture::{self, Mode};
use crate::codes;
use crate::context;
use crate::stream::{Exec, Work};
use crate::world::WORLD;
use std::ffi::{c_int, c_ulonglong};
use std::sync::Mutex;

entries! {
    fn cuStreamIsCapturing(stream: usize, status: *mut c_int) {
        context::current()?;
        let found = capture::status(&*WORLD.stream(stream)?)?;
        // SAFETY: the caller's promise.
        unsafe { give(status, found as c_int) }
    }
    fn cuStreamBeginCapture_v2(stream: usize, mode: c_int) {
        context::current()?;
        capture::begin(&*WORLD.stream(stream)?, Mode::from_number(mode)?)
    }
    fn cuStreamEndCapture(stream: usize, graph: *mut usize) {
        context::current()?;
        match capture::end(&*WORLD.stream(stream)?) {
            // SAFETY: the caller's promise.
            Ok(nodes) => unsafe { give(graph, WORLD.graphs.insert(nodes)) },
            Err(code) => {
                // SAFETY: the caller's promise.
                unsafe { give(graph, 0)? };
                Err(code)
            }
        }
    }
    fn cuGraphInstantiateWithFlags(handle: *mut usize, graph: usize, _flags: c_ulonglong) {
        context::current()?;
        let nodes = WORLD.graphs.get(graph).ok_or(codes::INVALID_HANDLE)?;
        let exec = Exec { nodes: nodes.to_vec(), running: Mutex::new(()) };
        // SAFETY: the caller's promise.
        unsafe { give(handle, WORLD.executables.insert(exec)) }
    }
    fn cuGraphLaunch(exec: usize, stream: usize) {
        context::current()?;
        let exec = WORLD.executables.get(exec).ok_or(codes::INVALID_HANDLE)?;
        WORLD.stream(stream)?.submit(Work::Graph(exec))
    }
    fn cuGraphExecDestroy(exec: usize) {
        context::require_init()?;
        WORLD.executables.remove(exec).map(drop).ok_or(codes::INVALID_HANDLE)
    }
    fn cuGraphDestroy(graph: usize) {
        context::require_init()?;
        WORLD.graphs.remove(graph).map(drop).ok_or(codes::INVALID_HANDLE)
    }
}
