//! What the handle, the lanes and the clock thread of one attachment share.

use super::cupti::{CuptiUnavailable, ExternalIds};
use super::driver::{Code, Context, Driver, Failed, Function, Module, StreamHandle, is_final};
use super::fit::{Fit, Round};
use super::layout::{
    ALIVE, CELL_BYTES, DETACHED, PROBE, SLOT_BYTES, UNCLAIMED, lap_of, ring_offset, slot_offset,
    tag,
};
use super::map::Published;
use super::region::Region;
use super::words::{LaneCounts, Lost, Progress};
use crate::record::{DeviceCells, Phase, Time};
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// So many failed calls in a row end the stamps, whatever their codes.
const FAILURES_MAX: u32 = 16;
/// A probe while steps run that takes longer than this tells nothing: its round is given up.
pub(super) const PROBE_PATIENCE: Duration = Duration::from_millis(20);
/// From here on a waiting probe lets others run.
const PROBE_SPIN: Duration = Duration::from_micros(50);
/// How far behind the newest step `progress` looks for a finished one.
const PROGRESS_STEPS: u64 = 64;

/// The entries of the stamp kernels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernels {
    pub(super) begin: Function,
    pub(super) end: Function,
    pub(super) mark: Function,
    pub(super) probe: Function,
}

/// The books of one lane. `issued` to `abandoned` are written by the lane's thread only.
#[derive(Debug)]
pub(super) struct LaneBook {
    pub(super) issued: AtomicU64,
    pub(super) begun: AtomicU64,
    /// Newest step whose begin was launched.
    pub(super) armed: AtomicU64,
    pub(super) ended: AtomicU64,
    /// Newest step that was given up, or whose stamps the driver refused.
    pub(super) given_up: AtomicU64,
    pub(super) abandoned: AtomicU64,
    /// Written by whoever settles.
    pub(super) done: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) lost: [AtomicU64; Lost::ALL.len()],
    /// CUPTI's number of the lane's stream, plus 1; 0 = not known.
    pub(super) cupti_stream: AtomicU64,
    /// Phase of each remembered step, by slot; empty while CUPTI is off.
    pub(super) phases: Box<[AtomicU8]>,
}

impl LaneBook {
    pub(super) fn new(phases: usize) -> LaneBook {
        LaneBook {
            issued: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            armed: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            done: AtomicU64::new(0),
            late: AtomicU64::new(0),
            lost: Default::default(),
            cupti_stream: AtomicU64::new(0),
            phases: (0..phases).map(|_| AtomicU8::new(0)).collect(),
        }
    }

    /// Notes the phase of a step, where somebody will ask for it.
    #[inline]
    pub(super) fn set_phase(&self, seq: u64, phase: Phase) {
        if let Some(mask) = self.phases.len().checked_sub(1) {
            self.phases[seq as usize & mask].store(phase as u8, Ordering::Relaxed)
        }
    }

    /// The phase of a step that is still remembered.
    pub(super) fn phase(&self, seq: u64) -> Option<u8> {
        let mask = self.phases.len().checked_sub(1)?;
        let phase = self.phases[seq as usize & mask].load(Ordering::Acquire);
        let issued = self.issued.load(Ordering::Acquire);
        let remembered = seq != 0 && seq <= issued && issued - seq <= mask as u64;
        remembered.then_some(phase)
    }
}

pub(super) struct Inner {
    pub(super) driver: Arc<Driver>,
    pub(super) region: Region,
    /// Device address of the region.
    pub(super) device_region: u64,
    /// Device address of the cells.
    pub(super) cells: u64,
    pub(super) lanes_max: u16,
    pub(super) slots: u32,
    pub(super) kernels: Kernels,
    pub(super) module: Module,
    pub(super) context: Context,
    /// The driver's number of the device.
    pub(super) ordinal: i32,
    pub(super) own_stream: StreamHandle,
    /// Everything was given back; held by whoever takes apart.
    pub(super) given_back: Mutex<bool>,
    pub(super) map: Published,
    pub(super) lanes: Box<[CachePadded<LaneBook>]>,
    pub(super) next_lane: AtomicU32,
    /// A stamp was captured or a device handle handed out: the GPU may stamp as long as it lives.
    pub(super) retained: AtomicBool,
    failures: AtomicU32,
    /// The code that ended the stamps; 0 = they go on.
    gone: AtomicI32,
    pub(super) rounds: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) jumps: AtomicU64,
    pub(super) last_round: AtomicU64,
    pub(super) device: Arc<DeviceCells>,
    /// Marks launches with their step, for CUPTI; or why there are no graph times.
    pub(super) ids: Result<ExternalIds, CuptiUnavailable>,
}

/// What `attach` has made ready, with nothing running yet.
pub(super) struct Parts {
    pub(super) driver: Arc<Driver>,
    pub(super) region: Region,
    pub(super) device_region: u64,
    pub(super) cells: u64,
    pub(super) lanes: u16,
    pub(super) slots: u32,
    pub(super) kernels: Kernels,
    pub(super) module: Module,
    pub(super) context: Context,
    pub(super) ordinal: i32,
    pub(super) own_stream: StreamHandle,
    /// Steps whose phase each lane remembers.
    pub(super) phases: usize,
}

impl Inner {
    pub(super) fn new(parts: Parts, fit: &Fit, device: Arc<DeviceCells>) -> Inner {
        let lanes =
            (0..parts.lanes).map(|_| CachePadded::new(LaneBook::new(parts.phases))).collect();
        // Counted from 0: a rate cannot see a jump from absent to 1.
        let stamps = &device.stamps;
        stamps.lost.iter().chain([&stamps.unclaimed, &stamps.clock_jumps]).for_each(|c| c.add(0));
        Inner {
            driver: parts.driver,
            region: parts.region,
            device_region: parts.device_region,
            cells: parts.cells,
            lanes_max: parts.lanes,
            slots: parts.slots,
            kernels: parts.kernels,
            module: parts.module,
            context: parts.context,
            ordinal: parts.ordinal,
            own_stream: parts.own_stream,
            given_back: Mutex::new(false),
            map: Published::new(fit.map()),
            lanes,
            next_lane: AtomicU32::new(0),
            retained: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            gone: AtomicI32::new(0),
            rounds: AtomicU64::new(1),
            rejected: AtomicU64::new(0),
            jumps: AtomicU64::new(0),
            last_round: AtomicU64::new(Time::now().as_nanos()),
            device,
            ids: Err(CuptiUnavailable::Off),
        }
    }

    /// Whose tickets are ours: the region's address in pages.
    pub(super) fn owner(&self) -> u32 {
        (self.region.address().addr() >> 12) as u32
    }

    /// Why nothing may be launched, without a driver call; `None` = it may.
    #[inline]
    pub(super) fn stopped(&self) -> Option<Lost> {
        match self.region.magic() {
            ALIVE if self.gone.load(Ordering::Relaxed) == 0 => None,
            ALIVE => Some(Lost::Unavailable),
            DETACHED => Some(Lost::Detached),
            _ => Some(Lost::Forked),
        }
    }

    /// The code that ended the stamps.
    pub(super) fn gone(&self) -> Option<Code> {
        let code = self.gone.load(Ordering::Relaxed);
        (code != 0).then_some(code)
    }

    /// Books how a launch went; opens the breaker where there is no hope.
    #[inline]
    pub(super) fn book(&self, outcome: Result<(), Failed>) -> Result<(), Code> {
        match outcome {
            Ok(()) => {
                if self.failures.load(Ordering::Relaxed) != 0 {
                    self.failures.store(0, Ordering::Relaxed)
                }
                Ok(())
            }
            Err(failed) => {
                self.failed(failed.code);
                Err(failed.code)
            }
        }
    }

    #[cold]
    fn failed(&self, code: Code) {
        let in_a_row = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if is_final(code) || in_a_row >= FAILURES_MAX {
            // The first code stays: it is the one that tells.
            let _ = self.gone.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    pub(super) fn lane(&self, lane: u16) -> Option<&LaneBook> {
        self.lanes.get(usize::from(lane)).map(|book| &**book)
    }

    /// Byte offset of a step's slot in the region.
    pub(super) fn slot(&self, lane: u16, seq: u64) -> u64 {
        ring_offset(lane, self.slots) + slot_offset(seq, self.slots.into())
    }

    pub(super) fn tag(&self, seq: u64) -> u64 {
        tag(seq, self.slots.into())
    }

    /// Device addresses of a lane's ring and cell.
    pub(super) fn addresses(&self, lane: u16) -> (u64, u64) {
        let ring = self.device_region + ring_offset(lane, self.slots);
        (ring, self.cells + CELL_BYTES * u64::from(lane))
    }

    /// Is a stream of ours capturing? 0 no, 1 yes, 2 its capture is broken.
    pub(super) fn capture_status(&self, stream: StreamHandle) -> Result<i32, Failed> {
        let mut status = 0;
        // SAFETY: the stream is live by the promise of `RawStream::from_ptr`.
        unsafe { self.driver.cuStreamIsCapturing(stream, &mut status)? };
        Ok(status)
    }

    /// End word of a step, if it is that step's.
    pub(super) fn end_word(&self, lane: u16, seq: u64) -> Option<u64> {
        let end = self.region.word(self.slot(lane, seq) + SLOT_BYTES - 8).load(Ordering::Acquire);
        (end != 0 && lap_of(end) == self.tag(seq)).then_some(end)
    }

    /// Begin and end word of a step, if both are there and that step's.
    pub(super) fn border_words(&self, lane: u16, seq: u64) -> Option<[u64; 2]> {
        let begin = self.region.word(self.slot(lane, seq)).load(Ordering::Acquire);
        let end = self.end_word(lane, seq)?;
        (begin != 0 && lap_of(begin) == self.tag(seq)).then_some([begin, end])
    }

    /// How far a lane is: looks at the newest 64 steps' end words.
    pub(super) fn progress(&self, lane: u16) -> Progress {
        let Some(book) = self.lane(lane) else { return Progress::default() };
        let issued = book.issued.load(Ordering::Acquire);
        let depth = PROGRESS_STEPS.min(self.slots.into()).min(issued);
        let completed = if self.region.magic() == 0 {
            0
        } else {
            (0..depth)
                .map(|back| issued - back)
                .find(|seq| self.end_word(lane, *seq).is_some())
                .unwrap_or(0)
        };
        Progress {
            issued,
            ended: book.ended.load(Ordering::Relaxed),
            completed,
            abandoned: book.given_up.load(Ordering::Relaxed),
        }
    }

    /// Nothing of ours is under way on this lane: its newest stamps have arrived.
    pub(super) fn is_idle(&self, lane: u16) -> bool {
        let Some(book) = self.lane(lane) else { return true };
        let load = |cell: &AtomicU64| cell.load(Ordering::Acquire);
        let (armed, ended, given_up) = (load(&book.armed), load(&book.ended), load(&book.given_up));
        let finished = |seq: u64| self.end_word(lane, seq).is_some();
        // Only a step that was given up itself, and before its end was launched, owes no end.
        let owes_nothing = armed == given_up && armed != ended;
        let begun = |seq: u64| {
            let begin = self.region.word(self.slot(lane, seq)).load(Ordering::Acquire);
            begin != 0 && lap_of(begin) == self.tag(seq)
        };
        (armed == 0 || begun(armed) && (owes_nothing || finished(armed)))
            && (ended == 0 || finished(ended))
    }

    pub(super) fn unclaimed(&self, lane: u16) -> u64 {
        self.region.word(UNCLAIMED + 8 * u64::from(lane)).load(Ordering::Relaxed)
    }

    pub(super) fn counts(&self, lane: u16) -> LaneCounts {
        let Some(book) = self.lane(lane) else { return LaneCounts::default() };
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        LaneCounts {
            begun: load(&book.begun),
            done: load(&book.done),
            lost: book.lost.each_ref().map(load),
            late: load(&book.late),
            abandoned: load(&book.abandoned),
            unclaimed: self.unclaimed(lane),
        }
    }

    /// Reads the GPU's timer: host time before, 48-bit GPU time, host time after. With `spins` the
    /// timer's smallest step is measured too. `None` = it took longer than `patience`.
    pub(super) fn probe(
        &self,
        tag: u64,
        spins: u64,
        patience: Duration,
    ) -> Result<Option<Probe>, Code> {
        let [word, step] = [PROBE, PROBE + 8].map(|offset| self.region.word(offset));
        word.store(0, Ordering::Relaxed);
        step.store(0, Ordering::Relaxed);
        let address = self.device_region + PROBE;
        let before = Time::now().as_nanos();
        // SAFETY: our kernel, our words, our stream; the context is current on this thread.
        let launched = unsafe {
            self.driver.launch(self.kernels.probe, self.own_stream, [address, tag, spins])
        };
        self.book(launched)?;
        let mut after;
        let stamp = loop {
            let stamp = word.load(Ordering::Relaxed);
            after = Time::now().as_nanos();
            // The two words may become visible in any order.
            let measured = spins == 0 || lap_of(step.load(Ordering::Relaxed)) == tag;
            if lap_of(stamp) == tag && measured {
                break stamp;
            }
            let waited = Duration::from_nanos(after.saturating_sub(before));
            if waited > patience {
                return Ok(None);
            }
            if waited > PROBE_SPIN { std::thread::yield_now() } else { std::hint::spin_loop() }
        };
        let step = step.load(Ordering::Relaxed);
        Ok(Some(Probe { before, stamp, after, step }))
    }

    /// One round of probes; `None` = one of them took too long.
    pub(super) fn probe_round(
        &self,
        fit: &Fit,
        tags: &mut Tags,
        resolution: i64,
        patience: Duration,
    ) -> Result<Option<Round>, Code> {
        let mut round = Round::new(resolution);
        for _ in 0..PROBES {
            let Some(probe) = self.probe(tags.next(), 0, patience)? else { return Ok(None) };
            round.add(probe.before as i64, fit.unwrap(probe.stamp), probe.after as i64)
        }
        Ok(Some(round))
    }
}

/// Probes of a round.
const PROBES: usize = 8;
/// Timer reads that find its smallest step.
pub(super) const RESOLUTION_SPINS: u64 = 4_096;

/// One reading of the GPU's timer between two host times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    before: u64,
    stamp: u64,
    after: u64,
    step: u64,
}

impl Probe {
    /// The timer's smallest step in ns, if it was asked for and seen.
    pub(super) fn resolution(&self) -> Option<i64> {
        let step = self.step & super::layout::TIME_MASK;
        (step > 0 && step < 1 << 32 && lap_of(self.step) == lap_of(self.stamp))
            .then_some(step as i64)
    }
}

/// Fresh tags for probes: 1..=65,535, again and again.
#[derive(Debug, Default)]
pub(super) struct Tags(u16);

impl Tags {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.checked_add(1).unwrap_or(1);
        u64::from(self.0) << 48
    }
}
