//! The thread `stepscope-xid`: waits for XID errors, and sees when the other thread hangs.
//!
//! NVML has events for the physical device only. A MIG instance listens to its board and takes what
//! names its own instance or none.

use super::library::{Event, EventSet, Handle, Nvml, Refused};
use super::reader::{Cadence, clear_levels};
use super::signals::Signals;
use super::xid::{xid_class, xid_meaning};
use crate::record::{Device, Tally};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// After so many failed waits in a row there are no events to be had.
const FAILURES_MAX: u32 = 5;

/// A device whose errors are wanted.
pub(super) struct Listener {
    /// The physical device.
    pub(super) board: Handle,
    pub(super) board_uuid: Option<String>,
    /// The MIG instance, if it is one.
    pub(super) instance: Option<u32>,
    pub(super) device: Device,
}

impl Listener {
    fn hears(&self, event: &Event, uuid: Option<&str>) -> bool {
        let of_board =
            event.device == self.board || uuid.is_some() && self.board_uuid.as_deref() == uuid;
        let others =
            matches!((self.instance, event.instance), (Some(own), Some(its)) if own != its);
        of_board && !others
    }
}

/// What the thread owns.
pub(super) struct Events {
    nvml: Arc<Nvml>,
    signals: Arc<Signals>,
    inbox: Receiver<Listener>,
    cadence: Cadence,
    /// All devices, whether they have events or not.
    listeners: Vec<Listener>,
    set: Option<EventSet>,
    failures: u32,
}

impl Events {
    pub(super) fn new(
        nvml: Arc<Nvml>,
        signals: Arc<Signals>,
        inbox: Receiver<Listener>,
        cadence: Cadence,
    ) -> Events {
        Events { nvml, signals, inbox, cadence, listeners: vec![], set: None, failures: 0 }
    }

    /// Waits until the stop, then hands the library back.
    pub(super) fn run(mut self) -> Arc<Nvml> {
        while !self.signals.stopped() {
            while let Ok(listener) = self.inbox.try_recv() {
                self.listen(listener)
            }
            self.wait_once();
            if self.signals.hangs(5 * self.cadence.fast) {
                self.listeners.iter().for_each(|listener| clear_levels(&listener.device))
            }
        }
        if let Some(set) = self.set.take() {
            self.nvml.free(set)
        }
        self.nvml
    }

    /// Registers a device; only then do its series exist.
    fn listen(&mut self, listener: Listener) {
        match self.register(listener.board) {
            Ok(()) => [Tally::XidFatal, Tally::XidApp, Tally::XidNotice]
                .iter()
                .for_each(|tally| listener.device.add(*tally, 0)),
            Err(refused) => {
                let error = self.nvml.unavailable(refused);
                tracing::info!(%error, "no XID errors from this GPU")
            }
        }
        self.listeners.retain(|there| !Arc::ptr_eq(&there.device.0, &listener.device.0));
        self.listeners.push(listener)
    }

    fn register(&mut self, board: Handle) -> Result<(), Refused> {
        if let Some(set) = &self.set {
            return self.nvml.register(board, set);
        }
        let set = self.nvml.event_set()?;
        match self.nvml.register(board, &set) {
            // Waiting on a set without devices returns at once: keep none.
            Err(refused) => {
                self.nvml.free(set);
                Err(refused)
            }
            Ok(()) => {
                self.set = Some(set);
                Ok(())
            }
        }
    }

    fn wait_once(&mut self) {
        let wait = self.cadence.events;
        let Some(set) = &self.set else { return std::thread::park_timeout(wait) };
        match self.nvml.wait(set, u32::try_from(wait.as_millis()).unwrap_or(u32::MAX)) {
            Ok(event) => {
                self.failures = 0;
                if let Some(event) = event {
                    self.report(&event)
                }
            }
            Err(refused) => {
                self.failures += 1;
                if self.failures >= FAILURES_MAX {
                    let error = self.nvml.unavailable(refused);
                    tracing::warn!(%error, "XID errors are not seen any more");
                    if let Some(set) = self.set.take() {
                        self.nvml.free(set)
                    }
                }
                // A failed wait returns at once.
                std::thread::park_timeout(wait)
            }
        }
    }

    fn report(&self, event: &Event) {
        let known = self.listeners.iter().any(|listener| listener.board == event.device);
        let uuid = if known { None } else { self.nvml.uuid(event.device) };
        for listener in self.listeners.iter().filter(|l| l.hears(event, uuid.as_deref())) {
            let gpu = listener.board_uuid.as_deref().unwrap_or("unknown");
            let Some(code) = event.xid else {
                // The slow readings count it.
                tracing::warn!(gpu, "uncorrectable memory error");
                continue;
            };
            let class = xid_class(code);
            listener.device.xid(class, code);
            match xid_meaning(code) {
                Some(meaning) if class == Tally::XidFatal => {
                    tracing::error!(gpu, code, "XID error, fatal: {meaning}")
                }
                Some(meaning) => tracing::warn!(gpu, code, "XID error: {meaning}"),
                None => tracing::warn!(gpu, code, "XID error that is not in NVIDIA's catalogue"),
            }
        }
    }
}
