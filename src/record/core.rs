//! What a recorder owns, and the small rules every verb shares: liveness, time, flows, samples.

use super::cells::{Cells, bump, cell};
use super::event::{Event, Metric};
use super::outbox::{OUT_MAX, Outbox};
use super::request::{Request, State, flag};
use super::runs::Runs;
use super::step::StepClock;
use super::words::{Invalid, Role};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Longest time a sample may carry: one hour, the top of the histograms.
pub(crate) const SAMPLE_NS_MAX: u64 = 3_600_000_000_000;

/// What the front door tells a new recorder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) scope: u8,
    /// Index of the (gpu_id, node) pair this recorder reports for.
    pub(crate) device: u16,
    pub(crate) series_max: u16,
    pub(crate) role: Role,
    pub(crate) ttft_objective_ns: u64,
    pub(crate) tbt_objective_ns: u64,
    pub(crate) clock: u32,
}

pub(super) struct Core {
    pub(super) out: Outbox,
    pub(super) runs: Runs,
    /// Place of the last slow gap, to merge equal ones.
    pub(super) slow_at: usize,
    pub(super) lane: Option<Box<dyn StepClock>>,
    pub(super) scope: u8,
    /// `scope_and_state` of a decoding request of this scope.
    decoding: u32,
    pub(super) series_max: u16,
    pub(super) device: u16,
    pub(super) role: Role,
    pub(super) ttft_ns: u64,
    pub(super) tbt_ns: u64,
    pub(super) clock: u32,
    /// Sequences queued or running here, and the least of it since the last step began.
    load: i64,
    low_water: i64,
}

impl Core {
    pub(super) fn new(ring: rtrb::Producer<Event>, cells: Arc<Cells>, s: Settings) -> Core {
        Core {
            out: Outbox::new(ring, cells),
            runs: Runs::new(),
            slow_at: OUT_MAX,
            lane: None,
            scope: s.scope,
            decoding: Request::pack(0, s.scope, State::Decoding) >> 16,
            series_max: s.series_max,
            device: s.device,
            role: s.role,
            ttft_ns: s.ttft_objective_ns,
            tbt_ns: s.tbt_objective_ns.min(SAMPLE_NS_MAX),
            clock: s.clock,
            load: 0,
            low_water: 0,
        }
    }

    /// A decoding request of ours: the only kind the fast paths take.
    #[inline(always)]
    pub(super) fn is_plain(&self, req: &Request) -> bool {
        req.scope_and_state() == self.decoding && req.class() < self.series_max
    }

    /// The counter row for a verb that only looks at a request; `None` if it must not count. A
    /// foreign one counts under `other`.
    #[inline]
    pub(super) fn row(&self, req: &Request) -> Option<u16> {
        if !self.is_live(req) {
            return None;
        }
        if !self.owns(req.scope(), req.class()) {
            self.invalid(Invalid::Foreign);
            return Some(0);
        }
        Some(req.class())
    }

    #[inline]
    pub(super) fn owns(&self, scope: u8, class: u16) -> bool {
        scope == self.scope && class < self.series_max
    }

    #[cold]
    #[inline(never)]
    pub(super) fn invalid(&self, why: Invalid) {
        self.out.cells.invalid(why)
    }

    /// May a verb do anything with this request?
    fn is_live(&self, req: &Request) -> bool {
        match req.state() {
            State::Free => self.invalid(Invalid::NotLive),
            State::Ended => self.invalid(Invalid::AlreadyEnded),
            _ => return true,
        }
        false
    }

    /// The same for a verb that changes it: adopts a foreign one.
    pub(super) fn live(&mut self, req: &mut Request) -> bool {
        let live = self.is_live(req);
        if live && !self.owns(req.scope(), req.class()) {
            self.adopt(req)
        }
        live
    }

    /// A request of another scope: accepted here, under `other`.
    #[cold]
    fn adopt(&mut self, req: &mut Request) {
        self.invalid(Invalid::Foreign);
        req.set_head(Request::pack(0, self.scope, req.state()));
        if !req.has(flag::CHILD) {
            self.out.cells.add(0, cell::ACCEPTED, 1)
        }
        if req.state() != State::Arrived {
            self.add_load(1)
        }
        self.flow_in(req.state())
    }

    /// Length of an interval, cut at the longest a sample may carry.
    pub(super) fn span(&self, to: u64, from: u64) -> u64 {
        let ns = to.saturating_sub(from);
        if ns > SAMPLE_NS_MAX {
            self.invalid(Invalid::AbsurdGap);
        }
        ns.min(SAMPLE_NS_MAX)
    }

    /// The time of a verb: never before what the request already saw, so intervals stay positive.
    pub(super) fn not_before(&self, at: u64, req: &Request) -> u64 {
        let latest = req.latest();
        if at < latest {
            self.invalid(Invalid::TimeBackwards);
        }
        at.max(latest)
    }

    /// Moves sequences between the levels waiting and running.
    pub(super) fn flow(&mut self, waiting: i64, running: i64) {
        bump(&self.out.cells.levels.waiting, waiting as u64);
        bump(&self.out.cells.levels.running, running as u64)
    }

    pub(super) fn flow_in(&mut self, state: State) {
        if state.is_running() { self.flow(0, 1) } else { self.flow(1, 0) }
    }

    pub(super) fn flow_out(&mut self, state: State) {
        if state.is_running() { self.flow(0, -1) } else { self.flow(-1, 0) }
    }

    /// Sequences in this scheduler's hands: was there work between two steps?
    pub(super) fn add_load(&mut self, by: i64) {
        self.load = (self.load + by).max(0);
        self.low_water = self.low_water.min(self.load);
        if self.load == 0 {
            // A gauge is right at idle too.
            self.out.cells.levels.batch.store(0, Ordering::Relaxed)
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.load == 0
    }

    /// True if there was work at every moment since the last call; a new step begins.
    pub(super) fn take_work(&mut self) -> bool {
        let work = self.low_water > 0;
        self.low_water = self.load;
        work
    }

    pub(super) fn sample(&mut self, metric: Metric, variant: u8, class: u16, value: u64) {
        self.out.append(value, Event::key(metric, variant, class), 1);
    }

    /// A slow sample's request: value and id in one event, so nothing has to be paired.
    pub(super) fn exemplar(&mut self, metric: Metric, id: u64, class: u16, ns: u64) {
        let us = (ns / 1_000).min(u32::MAX as u64) as u32;
        self.out.append(id, Event::key(Metric::Exemplar, metric as u8, class), us);
    }
}
