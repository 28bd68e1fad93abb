//! The threads' start and stop, and `stepscope-nvml`, which reads every device once a second.

use super::events::{Events, Listener};
use super::found::{NvmlDevice, NvmlFound};
use super::library::{Handle, Nvml};
use super::reader::{Cadence, Life, Reader};
use super::signals::Signals;
use super::unavailable::NvmlUnavailable;
use crate::record::Device;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a stop waits for a driver that does not answer.
const STOP_MAX: Duration = Duration::from_secs(1);

/// A device to be read.
struct Watch {
    handle: Handle,
    device: Device,
    mig: bool,
}

/// NVML, watched by two threads of ours: `stepscope-nvml` reads, `stepscope-xid` waits for errors.
///
/// Calls of the library are made by these two, and by [`start`](NvmlThread::start) and
/// [`watch`](NvmlThread::watch) on their caller's thread; by nobody else. A drop stops it.
pub struct NvmlThread {
    /// `None` once stopped.
    running: Option<Running>,
    process: u32,
}

struct Running {
    nvml: Arc<Nvml>,
    signals: Arc<Signals>,
    reader: (Sender<Watch>, JoinHandle<()>),
    listener: (Sender<Listener>, JoinHandle<()>),
    /// Closed once both threads have ended.
    ended: Receiver<()>,
}

impl std::fmt::Debug for NvmlThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NvmlThread")
            .field("running", &self.running.is_some())
            .finish_non_exhaustive()
    }
}

impl NvmlThread {
    /// Finds NVML (`library`, or `libnvidia-ml.so.1` where the loader looks), opens it and starts
    /// the threads.
    ///
    /// The library is opened on the caller's thread, so that the error can be returned: some 10 ms,
    /// but seconds on a host where nothing keeps the driver loaded. Call it once, at start-up.
    ///
    /// # Errors
    ///
    /// [`NvmlUnavailable`] says why there will be no readings. Nothing else depends on them.
    pub fn start(library: Option<PathBuf>) -> Result<NvmlThread, NvmlUnavailable> {
        NvmlThread::start_at(library.as_deref(), Cadence::default())
    }

    pub(super) fn start_at(
        library: Option<&Path>,
        cadence: Cadence,
    ) -> Result<NvmlThread, NvmlUnavailable> {
        let nvml = Arc::new(Nvml::open(library)?);
        let signals = Arc::new(Signals::new());
        let (watches, watch_inbox) = channel();
        let (listeners, listen_inbox) = channel();
        let (end, ended) = channel();
        let polling = Polling::new(nvml.clone(), signals.clone(), watch_inbox, cadence);
        let events = Events::new(nvml.clone(), signals.clone(), listen_inbox, cadence);
        let reader = spawn("stepscope-nvml", signals.clone(), end.clone(), || polling.run())?;
        let listener = match spawn("stepscope-xid", signals.clone(), end, || events.run()) {
            Ok(handle) => handle,
            Err(error) => {
                signals.stop();
                reader.thread().unpark();
                return Err(error);
            }
        };
        let reader = (watches, reader);
        let listener = (listeners, listener);
        let running = Some(Running { nvml, signals, reader, listener, ended });
        Ok(NvmlThread { running, process: std::process::id() })
    }

    /// Reads `which` into `device` from now on; a device is read once, so a second call for the same
    /// `device` replaces the first.
    ///
    /// The device is looked up on the caller's thread: some ms, more if it sleeps.
    ///
    /// # Errors
    ///
    /// [`NvmlUnavailable::NoDevice`] if NVML does not know it, [`NvmlUnavailable::Ended`] in a
    /// forked child, [`NvmlUnavailable::Call`] if NVML fails.
    pub fn watch(&self, device: Device, which: NvmlDevice) -> Result<NvmlFound, NvmlUnavailable> {
        let here = self.process == std::process::id();
        let Some(running) = self.running.as_ref().filter(|_| here) else {
            return Err(NvmlUnavailable::Ended);
        };
        let nvml = &running.nvml;
        let handle = nvml.device(&which)?;
        let instance = nvml.board(handle);
        let board = instance.map_or(handle, |(board, _)| board);
        let mut found = nvml.found(handle, board);
        found.mig |= instance.is_some();
        let listener = Listener {
            board,
            board_uuid: nvml.uuid(board),
            instance: instance.and_then(|(_, number)| number),
            device: device.clone(),
        };
        // A thread that panicked took its inbox along; the panic was reported by the hook.
        let heard = running.listener.0.send(listener).is_ok();
        let read = running.reader.0.send(Watch { handle, device, mig: found.mig }).is_ok();
        if !(heard && read) {
            return Err(NvmlUnavailable::Ended);
        }
        running.reader.1.thread().unpark();
        running.listener.1.thread().unpark();
        Ok(found)
    }

    /// Ends both threads. A dying driver may not answer for minutes: after a second they are left
    /// behind, and NVML stays open. In a forked child there is nothing to end.
    pub fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        if self.process != std::process::id() {
            // The threads are the parent's, and so are the locks that they may have held.
            return std::mem::forget(running);
        }
        let Running { nvml, signals, reader, listener, ended } = running;
        signals.stop();
        // The last of the threads closes NVML: that call may block too.
        drop(nvml);
        for handle in [&reader.1, &listener.1] {
            handle.thread().unpark()
        }
        match ended.recv_timeout(STOP_MAX) {
            Err(RecvTimeoutError::Disconnected) => {
                for handle in [reader.1, listener.1] {
                    // A panic there was reported by the hook; there is nothing left to undo here.
                    let _ = handle.join();
                }
            }
            _ => {
                signals.leave();
                tracing::warn!("NVML does not answer: its threads are left behind")
            }
        }
    }
}

#[cfg(test)]
impl NvmlThread {
    /// As a forked child sees it: started by another process.
    pub(super) fn pretend_forked(&mut self) {
        self.process = 0
    }
}

impl Drop for NvmlThread {
    fn drop(&mut self) {
        self.stop()
    }
}

/// Starts a thread; `end` closes when it has ended and given NVML back.
fn spawn(
    name: &str,
    signals: Arc<Signals>,
    end: Sender<()>,
    work: impl FnOnce() -> Arc<Nvml> + Send + 'static,
) -> Result<JoinHandle<()>, NvmlUnavailable> {
    let run = move || {
        let nvml = work();
        if signals.left() {
            // Nobody waits any more, the process may be at its exit: no more calls.
            std::mem::forget(nvml)
        } else {
            drop(nvml)
        }
        drop(end)
    };
    let builder = std::thread::Builder::new().name(name.into());
    builder.spawn(run).map_err(|error| NvmlUnavailable::Thread(error.to_string()))
}

/// What the reading thread owns.
struct Polling {
    nvml: Arc<Nvml>,
    signals: Arc<Signals>,
    inbox: Receiver<Watch>,
    cadence: Cadence,
    readers: Vec<Reader>,
}

impl Polling {
    fn new(
        nvml: Arc<Nvml>,
        signals: Arc<Signals>,
        inbox: Receiver<Watch>,
        cadence: Cadence,
    ) -> Polling {
        Polling { nvml, signals, inbox, cadence, readers: vec![] }
    }

    /// Reads until the stop, then hands the library back.
    fn run(mut self) -> Arc<Nvml> {
        let mut next = Instant::now();
        while !self.signals.stopped() {
            let adopted = self.adopt();
            let now = Instant::now();
            if adopted || now >= next {
                self.round();
                // Not `next + fast`: after a blocked call the missed rounds are not made up for.
                next = now + self.cadence.fast
            }
            std::thread::park_timeout(next.saturating_duration_since(Instant::now()))
        }
        self.nvml
    }

    fn adopt(&mut self) -> bool {
        let mut adopted = false;
        while let Ok(Watch { handle, device, mig }) = self.inbox.try_recv() {
            self.readers.retain(|there| !Arc::ptr_eq(&there.device.0, &device.0));
            self.readers.push(Reader::new(handle, device, mig, self.cadence));
            adopted = true
        }
        adopted
    }

    fn round(&mut self) {
        let (nvml, signals) = (&self.nvml, &self.signals);
        self.readers.retain_mut(|reader| {
            if signals.stopped() {
                return true;
            }
            signals.round_begins();
            let life = reader.tick(nvml, Instant::now());
            signals.round_ends();
            if life == Life::Ended {
                tracing::warn!(
                    "a GPU does not answer NVML any more: its readings are absent from now on"
                )
            }
            life == Life::Alive
        })
    }
}
