//! Events: markers in a stream that the host or another stream can wait for.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

use crate::capture::Capture;
use crate::clock::host_now_ns;
use crate::codes::{self, Code};
use crate::lock::lock;

#[derive(Default)]
struct State {
    /// Number of the last record that was asked for; 0 = never recorded, which counts as complete.
    recorded: u64,
    /// Number of the last record that its stream has reached.
    completed: u64,
    completed_ns: i128,
    /// The capture in which the event was last recorded.
    capture: Option<Weak<Capture>>,
}

#[derive(Default)]
pub struct Event {
    state: Mutex<State>,
    changed: Condvar,
}

impl Event {
    /// A record is being put into a stream; its number goes with it.
    pub fn record(&self) -> u64 {
        let mut state = lock(&self.state);
        state.capture = None;
        state.recorded += 1;
        state.recorded
    }

    /// The event is being recorded in a capture: it then only joins other streams to that capture.
    pub fn record_in(&self, capture: &Arc<Capture>) {
        lock(&self.state).capture = Some(Arc::downgrade(capture));
    }

    /// The stream has reached record `number`.
    pub fn complete(&self, number: u64) {
        let mut state = lock(&self.state);
        if number > state.completed {
            state.completed = number;
            state.completed_ns = host_now_ns();
        }
        self.changed.notify_all();
    }

    /// Number of the last record, 0 if there is none; or the capture it was made in.
    pub fn last_record(&self) -> Result<u64, Weak<Capture>> {
        let state = lock(&self.state);
        state.capture.clone().map_or(Ok(state.recorded), Err)
    }

    /// Waits until the stream has reached record `number`.
    pub fn wait(&self, number: u64) {
        let state = lock(&self.state);
        let waited = self.changed.wait_while(state, |state| state.completed < number);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    pub fn is_complete(&self, number: u64) -> bool {
        lock(&self.state).completed >= number
    }

    /// Milliseconds from `start`'s last record to this one's.
    pub fn elapsed_ms(&self, start: &Event) -> Result<f32, Code> {
        let moment = |event: &Event| {
            let state = lock(&event.state);
            match (state.recorded, state.completed) {
                (0, _) => Err(codes::INVALID_HANDLE),
                (recorded, completed) if completed < recorded => Err(codes::NOT_READY),
                _ => Ok(state.completed_ns),
            }
        };
        let elapsed_ns = moment(self)? - moment(start)?;
        Ok(elapsed_ns as f32 / 1e6)
    }
}
