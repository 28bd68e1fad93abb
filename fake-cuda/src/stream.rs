//! Streams: threads that do their work in the order in which it came.

use std::collections::hash_map::Entry;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use crate::capture::{self, Capture};
use crate::codes::{self, Code};
use crate::context::{self, Context};
use crate::event::Event;
use crate::gpu::{self, Gpu};
use crate::lock::lock;
use crate::ptx::{Kernel, Launch};
use crate::world::World;

/// The special stream handles.
pub const LEGACY: usize = 1;
pub const PER_THREAD: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Legacy,
    /// In order with the legacy stream, as far as captures are concerned.
    Blocking,
    NonBlocking,
}

pub struct Stream {
    pub context: Arc<Context>,
    pub kind: Kind,
    /// The capture it records into, and whether it began it.
    pub capture: Mutex<Option<(Arc<Capture>, bool)>>,
    queue: Sender<Work>,
}

/// One thing a stream does; also a node of a graph.
#[derive(Clone)]
pub enum Work {
    Kernel(Arc<Kernel>, Launch),
    /// Bytes that were read when the copy was asked for.
    Write {
        to: u64,
        bytes: Arc<[u8]>,
    },
    /// Reads host memory when its turn comes.
    CopyIn {
        to: u64,
        from: usize,
        length: usize,
    },
    CopyOut {
        to: usize,
        from: u64,
        length: usize,
    },
    CopyWithin {
        to: u64,
        from: u64,
        length: usize,
    },
    Fill {
        to: u64,
        value: u8,
        length: usize,
    },
    Graph(Arc<Exec>),
    Record(Arc<Event>, u64),
    Wait(Arc<Event>, u64),
    Acknowledge(Sender<()>),
}

/// A graph made ready. It runs on one stream at a time, whatever the streams.
pub struct Exec {
    pub nodes: Vec<Work>,
    pub running: Mutex<()>,
}

impl Stream {
    /// Starts the stream's thread, which ends when the stream is destroyed and its queue is empty.
    pub fn start(context: Arc<Context>, kind: Kind) -> Stream {
        let (queue, works) = channel();
        let owner = context.clone();
        std::thread::Builder::new()
            .name("fake-cuda-stream".to_owned())
            .spawn(move || run(&works, &owner))
            .expect("the system has a thread to spare");
        Stream { context, kind, capture: Mutex::new(None), queue }
    }

    /// Queues `work`, or records it if the stream is being captured.
    pub fn submit(&self, work: Work) -> Result<(), Code> {
        let slot = lock(&self.capture);
        if let Some((capture, _)) = slot.as_ref() {
            return capture.append(work);
        }
        if self.kind == Kind::Legacy {
            // The check looks at all streams, so this one's lock must be free.
            drop(slot);
            if let Some(captures) = capture::implicit_conflict(self) {
                captures.iter().for_each(|capture| capture.invalidate());
                return Err(codes::CAPTURE_IMPLICIT);
            }
        }
        self.queue.send(work).map_err(|_| codes::INVALID_HANDLE)
    }

    pub fn is_capturing(&self) -> bool {
        lock(&self.capture).is_some()
    }

    /// Waits until all work queued so far is done.
    pub fn drain(&self) -> Result<(), Code> {
        if self.is_capturing() {
            return Err(codes::CAPTURE_UNSUPPORTED);
        }
        let (done, is_done) = channel();
        self.queue.send(Work::Acknowledge(done)).map_err(|_| codes::INVALID_HANDLE)?;
        is_done.recv().map_err(|_| codes::INVALID_HANDLE)
    }
}

impl World {
    /// The stream of a handle, in the calling thread's context for the special ones.
    pub fn stream(&self, handle: usize) -> Result<Arc<Stream>, Code> {
        let thread = match handle {
            0 | LEGACY => None,
            PER_THREAD => Some(std::thread::current().id()),
            _ => return self.streams.get(handle).ok_or(codes::INVALID_HANDLE),
        };
        let context = context::current()?;
        Ok(match lock(&self.default_streams).entry((context.handle, thread)) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                let kind = if thread.is_none() { Kind::Legacy } else { Kind::Blocking };
                entry.insert(Arc::new(Stream::start(context, kind))).clone()
            }
        })
    }

    /// Streams with a handle and the special ones that are in use.
    pub fn all_streams(&self) -> Vec<Arc<Stream>> {
        let mut streams = self.streams.all();
        streams.extend(lock(&self.default_streams).values().cloned());
        streams
    }

    /// Waits for the streams of `context` that `is_meant` picks.
    pub fn drain(&self, context: &Context, is_meant: impl Fn(&Stream) -> bool) -> Result<(), Code> {
        self.all_streams()
            .iter()
            .filter(|stream| stream.context.handle == context.handle && is_meant(stream))
            .try_for_each(|stream| stream.drain())?;
        context.check()
    }
}

fn run(works: &Receiver<Work>, context: &Context) {
    for work in works {
        perform(&work, context);
    }
}

/// Does one thing. A context that has failed or ended does no work, but whoever waits is still told.
fn perform(work: &Work, context: &Context) {
    match work {
        Work::Graph(graph) => {
            let _alone = lock(&graph.running);
            graph.nodes.iter().for_each(|node| perform(node, context));
        }
        Work::Record(event, number) => event.complete(*number),
        Work::Wait(event, number) => event.wait(*number),
        // Whoever asked may have given up.
        Work::Acknowledge(done) => drop(done.send(())),
        work if context.check().is_ok() => {
            if let Err(code) = touch_memory(work, context) {
                context.fail(code);
            }
        }
        _ => {}
    }
}

fn touch_memory(work: &Work, context: &Context) -> Result<(), Code> {
    match work {
        Work::Kernel(kernel, launch) => kernel.run(launch, &Gpu(context)).map_err(gpu::code_of),
        Work::Write { to, bytes } => {
            // SAFETY: the bytes are there as long as the work is.
            unsafe { gpu::copy_in(context, *to, bytes.as_ptr(), bytes.len()) }
        }
        Work::CopyIn { to, from, length } => {
            // SAFETY: as with any driver, the caller keeps the host memory until the copy is done.
            unsafe { gpu::copy_in(context, *to, *from as *const u8, *length) }
        }
        Work::CopyOut { to, from, length } => {
            // SAFETY: as with any driver, the caller keeps the host memory until the copy is done.
            unsafe { gpu::copy_out(context, *to as *mut u8, *from, *length) }
        }
        Work::CopyWithin { to, from, length } => gpu::copy_within(context, *to, *from, *length),
        Work::Fill { to, value, length } => gpu::fill(context, *to, *value, *length),
        Work::Graph(_) | Work::Record(..) | Work::Wait(..) | Work::Acknowledge(_) => Ok(()),
    }
}
