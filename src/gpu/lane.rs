//! A lane: the steps of one stream, stamped from the engine's thread.
//!
//! No verb allocates, locks, blocks or panics. `begin` and `end` are one capture check and one launch
//! each; `end_in_graph`, `abandon` and `settle` call nothing. Where CUPTI runs, a step also costs its
//! push and pop of an id.

use super::graphs::{self, Marker};
use super::inner::Inner;
use super::resolve;
use super::slot;
use super::thread::Watch;
use super::ticket::{State, StepInfo, StepTicket};
use super::words::{CaptureError, DeviceHandle, LaneError, Lost, Point, RawStream, Resolution};
use crate::record::{Launch, Settled, Shape, StepClock, StepSource, Ticket, Time};
use std::cell::Cell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Status of a stream that captures.
const CAPTURING: i32 = 1;

/// The steps of one stream. `Send`, not `Sync`: one thread at a time.
///
/// The thread that calls it has the engine's context current; it is about to launch anyway.
pub struct Lane {
    inner: Arc<Inner>,
    /// The clock thread goes on as long as a lane is open.
    _watched: Arc<Watch>,
    id: u16,
    stream: RawStream,
    /// The newest step that was launched; 0 = none.
    last_armed: u64,
    marker: Marker,
    _one_thread: PhantomData<Cell<()>>,
}

impl Lane {
    pub(super) fn open(
        inner: &Arc<Inner>,
        watch: &Arc<Watch>,
        stream: RawStream,
    ) -> Result<Lane, LaneError> {
        if inner.stopped().is_some_and(|why| why != Lost::Unavailable) {
            return Err(LaneError::Detached);
        }
        let mut context = 0;
        // SAFETY: both write one handle; the stream is live by the promise of `RawStream`.
        let asked = unsafe {
            if stream.is_named() {
                inner.driver.cuStreamGetCtx(stream.0, &mut context)
            } else {
                inner.driver.cuCtxGetCurrent(&mut context)
            }
        };
        match asked {
            Err(failed) => return Err(LaneError::OtherContext(failed.code)),
            Ok(()) if context != inner.context => return Err(LaneError::OtherContext(0)),
            Ok(()) => {}
        }
        let taken = inner.next_lane.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            (next < u32::from(inner.lanes_max)).then_some(next + 1)
        });
        let id = taken.map_err(|_| LaneError::Exhausted)? as u16;
        let ids = inner.ids.as_ref().ok().copied();
        // A default stream has no number before it is used: its graphs are told by id alone.
        if let (Some(ids), Some(book), true) = (ids, inner.lane(id), stream.is_named()) {
            // SAFETY: the driver just named the context of this stream, which is live by the promise
            // of `RawStream`.
            let number = unsafe { ids.stream_id(pointer(inner.context), pointer(stream.0)) };
            book.cupti_stream.store(number.map_or(0, |n| u64::from(n) + 1), Ordering::Relaxed)
        }
        Ok(Lane {
            inner: inner.clone(),
            _watched: watch.clone(),
            id,
            stream,
            last_armed: 0,
            marker: Marker::new(ids),
            _one_thread: PhantomData,
        })
    }

    /// Number of the lane in its Gpu, from 0 on.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Launches the begin stamp. Call it directly before the first launch of the step: if the
    /// stream is idle, host time spent in between counts as step time.
    pub fn begin(&mut self, info: StepInfo) -> StepTicket {
        let host_begin = Time::now().as_nanos();
        let inner = &*self.inner;
        let Some(book) = inner.lane(self.id) else { return StepTicket::void(Lost::Unavailable) };
        book.begun.store(book.begun.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let mut ticket = StepTicket {
            host_begin,
            info,
            lane: self.id,
            owner: inner.owner(),
            ..StepTicket::void(Lost::LaunchFailed)
        };
        if let Some(why) = inner.stopped() {
            ticket.make_void(why);
            return ticket;
        }
        // A stamp with its step's address in it, captured, would rewrite that slot at every replay.
        match inner.capture_status(self.stream.0) {
            Ok(0) => {}
            Ok(_) => {
                ticket.make_void(Lost::Capturing);
                return ticket;
            }
            Err(failed) => {
                let _ = inner.book(Err(failed));
                return ticket;
            }
        }
        let seq = book.issued.load(Ordering::Relaxed) + 1;
        let offset = inner.slot(self.id, seq);
        slot::issue(&book.issued, inner.region.slot(offset), seq);
        book.set_phase(seq, info.phase);
        self.marker.begin(self.id, seq);
        ticket.seq = seq;
        ticket.prev = self.last_armed;
        ticket.tag = inner.tag(seq);
        ticket.epoch = inner.map.read().epoch;
        let (ring, cell) = inner.addresses(self.id);
        let in_ring = super::layout::slot_offset(seq, inner.slots.into());
        let arm = ticket.tag | in_ring;
        // SAFETY: our kernel; the word is the slot's and the cell the lane's, both live as long as
        // the region is alive; the stream is live by the promise of `RawStream`.
        let launched = unsafe {
            let words = [ring + in_ring, ticket.tag, cell, arm];
            inner.driver.launch(inner.kernels.begin, self.stream.0, words)
        };
        if inner.book(launched).is_err() {
            book.given_up.store(seq, Ordering::Relaxed);
            return ticket;
        }
        self.last_armed = seq;
        book.armed.store(seq, Ordering::Release);
        ticket.state = State::Open;
        ticket
    }

    /// Launches the end stamp, directly after the last launch of the step and before the engine's
    /// own event: then a settle after that event's wait never finds it pending.
    pub fn end(&mut self, ticket: &mut StepTicket) {
        self.unmark();
        let Some(book) = self.open_book(ticket) else { return };
        let inner = &*self.inner;
        let (ring, cell) = inner.addresses(self.id);
        let word = ring + super::layout::slot_offset(ticket.seq, inner.slots.into()) + 24;
        // SAFETY: as in `begin`.
        let outcome = unsafe {
            match inner.capture_status(self.stream.0) {
                Ok(0) => {
                    inner.driver.launch(inner.kernels.end, self.stream.0, [word, ticket.tag, cell])
                }
                Ok(_) => {
                    book.given_up.store(ticket.seq, Ordering::Relaxed);
                    return ticket.make_void(Lost::Capturing);
                }
                Err(failed) => Err(failed),
            }
        };
        if inner.book(outcome).is_err() {
            book.given_up.store(ticket.seq, Ordering::Relaxed);
            return ticket.make_void(Lost::LaunchFailed);
        }
        book.ended.store(ticket.seq, Ordering::Relaxed);
        ticket.state = State::Ended
    }

    /// The graph that was just launched on this lane's stream holds a captured [`Point::End`].
    pub fn end_in_graph(&mut self, ticket: &mut StepTicket) {
        self.unmark();
        let Some(book) = self.open_book(ticket) else { return };
        book.ended.store(ticket.seq, Ordering::Relaxed);
        ticket.info.graph = true;
        ticket.state = State::Ended
    }

    /// What the thread launches from now on is no step's.
    fn unmark(&mut self) {
        if self.inner.stopped() == Some(Lost::Forked) {
            self.marker.forget()
        } else {
            self.marker.end()
        }
    }

    /// The books, if the ticket is open and ours; another lane's ticket becomes void.
    fn open_book(&self, ticket: &mut StepTicket) -> Option<&super::inner::LaneBook> {
        if ticket.state != State::Open {
            return None;
        }
        if ticket.owner != self.inner.owner() || ticket.lane != self.id {
            ticket.make_void(Lost::WrongOwner);
            return None;
        }
        if let Some(why) = self.inner.stopped() {
            ticket.make_void(why);
            return None;
        }
        self.inner.lane(self.id)
    }

    /// The step did not run.
    pub fn abandon(&mut self, ticket: StepTicket) {
        self.unmark();
        let Some(book) = self.inner.lane(self.id) else { return };
        let ours = ticket.owner == self.inner.owner() && ticket.lane == self.id;
        if !ours {
            // Counted where it was begun; it is nobody's step here.
            return resolve::count_lost(&self.inner, ticket.lane, Lost::WrongOwner);
        }
        let newest = book.given_up.load(Ordering::Relaxed).max(ticket.seq);
        book.given_up.store(newest, Ordering::Relaxed);
        book.abandoned.store(book.abandoned.load(Ordering::Relaxed) + 1, Ordering::Relaxed)
    }

    /// While `capturing` captures a graph: adds a stamp as its next node. Every replay on this
    /// lane's stream then stamps the step that was begun last.
    ///
    /// # Errors
    /// What the graph then holds is unchanged; stamp its replays with `Launch::Stamp`.
    pub fn capture(&mut self, capturing: RawStream, point: Point) -> Result<(), CaptureError> {
        match self.inner.stopped() {
            Some(Lost::Detached | Lost::Forked) => return Err(CaptureError::Detached),
            Some(_) => return Err(CaptureError::Launch(self.inner.gone().unwrap_or(0))),
            None => {}
        }
        match self.inner.capture_status(capturing.0) {
            Ok(CAPTURING) => {}
            Ok(0) => return Err(CaptureError::NotCapturing),
            Ok(_) => return Err(CaptureError::Invalidated),
            Err(failed) => return Err(CaptureError::Launch(failed.code)),
        }
        let (ring, cell) = self.inner.addresses(self.id);
        let words = [ring, cell, 8 * point as u64, u64::from(point == Point::End)];
        // Before the launch: from then on a graph may hold our addresses.
        self.inner.retained.store(true, Ordering::Relaxed);
        graphs::note_capture();
        // SAFETY: our kernel on the lane's ring and cell, which are kept for ever from here on.
        let launched =
            unsafe { self.inner.driver.launch(self.inner.kernels.mark, capturing.0, words) };
        self.inner.book(launched).map_err(CaptureError::Launch)
    }

    /// What an engine kernel needs to stamp by itself; see `kernels/stepscope.cuh`.
    pub fn device_handle(&self) -> DeviceHandle {
        self.inner.retained.store(true, Ordering::Relaxed);
        let (ring, cell) = self.inner.addresses(self.id);
        DeviceHandle { ring, cell }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.unmark()
    }
}

/// A handle of the driver as the pointer it is.
fn pointer(handle: usize) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(handle)
}

impl StepClock for Lane {
    fn begin(&mut self, _at: Time, shape: Shape) -> Ticket {
        Lane::begin(self, shape.into()).into_words()
    }

    fn end(&mut self, ticket: &mut Ticket, how: Launch) {
        let mut step = StepTicket::from_words(ticket);
        match how {
            Launch::Stamp => Lane::end(self, &mut step),
            Launch::InGraph => self.end_in_graph(&mut step),
        }
        *ticket = step.into_words()
    }

    fn settle(&mut self, ticket: Ticket) -> Settled {
        match resolve::settle(&self.inner, &StepTicket::from_words(&ticket)) {
            Resolution::Done(step) => Settled::Done {
                end: step.end,
                gpu_ns: step.gpu_ns,
                idle_before_ns: step.idle_before_ns,
            },
            Resolution::Pending | Resolution::Lost(_) => Settled::Lost,
        }
    }

    fn abandon(&mut self, ticket: Ticket) {
        Lane::abandon(self, StepTicket::from_words(&ticket))
    }

    fn source(&self) -> StepSource {
        StepSource::Gpu
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("id", &self.id).finish_non_exhaustive()
    }
}
