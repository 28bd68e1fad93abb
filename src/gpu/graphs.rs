//! From CUPTI's graph times to samples: finds the step that each launch belonged to, and its phase.

use super::cupti::{
    Cupti, CuptiUnavailable, ExternalIds, GraphTime, SettledStep, Stats, Subscription, by_overlap,
};
use super::inner::Inner;
use super::words::Options;
use crate::record::{Recorder, Time};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A lane of this process has captured a graph: it is too late for CUPTI. Kept for the process,
/// since CUPTI watches the process and not one attachment.
static CAPTURED: AtomicBool = AtomicBool::new(false);

/// The code with which CUPTI refused this process; 0 = it has not. Asked once: another tool has it.
static REFUSED: AtomicU32 = AtomicU32::new(0);

/// Bits of an external id below the lane.
const SEQ_MASK: u64 = (1 << 48) - 1;

pub(super) fn note_capture() {
    CAPTURED.store(true, Ordering::Relaxed)
}

/// Starts CUPTI if the options ask for it, and notes in `inner` what came of it.
pub(super) fn start(inner: &mut Inner, options: &Options) -> Option<Subscription> {
    let has_door = inner.driver.has_export_table();
    let captured = CAPTURED.load(Ordering::Relaxed);
    let refused = REFUSED.load(Ordering::Relaxed);
    let is_asked = options.cupti.mode != Cupti::Off && has_door && !captured;
    if is_asked && refused != 0 {
        inner.ids = Err(CuptiUnavailable::Refused(refused));
        return None;
    }
    match Subscription::start(&options.cupti, now, has_door, captured) {
        Ok(subscription) => {
            inner.device.stamps.cupti.iter().for_each(|count| count.add(0));
            inner.ids = Ok(subscription.ids());
            Some(subscription)
        }
        Err(why) => {
            if let CuptiUnavailable::Refused(code) = why {
                REFUSED.store(code, Ordering::Relaxed)
            }
            if why != CuptiUnavailable::Off {
                tracing::warn!(%why, "no graph times")
            }
            inner.ids = Err(why);
            None
        }
    }
}

extern "C" fn now() -> u64 {
    Time::now().as_nanos()
}

/// CUPTI's end at the clock thread.
pub(super) struct Graphs {
    subscription: Subscription,
    /// Whoever attached without a front door has nobody to tell the times to: they are counted.
    recorder: Option<Recorder>,
    told: Stats,
    /// The map's epoch, and by lane the first step that lies in it.
    epoch: u32,
    oldest: Vec<u64>,
}

impl Graphs {
    pub(super) fn new(
        subscription: Subscription,
        recorder: Option<Recorder>,
        epoch: u32,
    ) -> Graphs {
        Graphs { subscription, recorder, told: Stats::default(), epoch, oldest: vec![] }
    }

    /// Takes what CUPTI has and feeds it. Blocks while CUPTI hands over, but not for the GPU.
    pub(super) fn poll(&mut self, inner: &Inner) {
        self.take(inner, Subscription::poll)
    }

    /// The same for the last time.
    pub(super) fn finish(&mut self, inner: &Inner) {
        // A context that is gone answers nothing any more, and might hang in answering that.
        if inner.gone().is_none() {
            self.take(inner, Subscription::finish)
        }
    }

    fn take(&mut self, inner: &Inner, take: fn(&mut Subscription, &mut dyn FnMut(GraphTime))) {
        self.follow(inner);
        let Graphs { subscription, recorder, told, oldest, .. } = self;
        let with_ids = subscription.with_ids();
        let (mut attributed, mut unattributed) = (0, 0);
        take(subscription, &mut |graph| {
            let step = if with_ids { by_id(inner, &graph) } else { by_time(inner, oldest, &graph) };
            let phase = step.and_then(|(lane, seq)| inner.lane(lane)?.phase(seq));
            match phase {
                Some(phase) => {
                    attributed += 1;
                    if let Some(recorder) = recorder {
                        recorder.graph_time(phase, graph.end - graph.start)
                    }
                }
                None => unattributed += 1,
            }
        });
        let stats = subscription.stats();
        let counts = [
            attributed,
            unattributed,
            stats.invalid - told.invalid,
            stats.dropped - told.dropped,
            stats.unknown - told.unknown,
        ];
        for (count, by) in inner.device.stamps.cupti.iter().zip(counts) {
            count.add(by)
        }
        *told = stats
    }

    /// Steps from before a jump of the clock lie nowhere on the map behind it.
    fn follow(&mut self, inner: &Inner) {
        let epoch = inner.map.read().epoch;
        if epoch != self.epoch {
            let issued = inner.lanes.iter().map(|book| book.issued.load(Ordering::Acquire));
            self.oldest = issued.map(|issued| issued + 1).collect();
            self.epoch = epoch
        }
    }
}

/// (lane, step) as it was pushed around the launch. CUPTI keeps pushed ids by thread: two lanes that
/// take turns on one may mark each other's launches, so the stream must be the lane's as well.
fn by_id(inner: &Inner, graph: &GraphTime) -> Option<(u16, u64)> {
    let id = graph.external?;
    let (lane, seq) = ((id >> 48) as u16, id & SEQ_MASK);
    is_on(inner, lane, graph, true).then_some((lane, seq))
}

/// Ran this graph on the lane's device and stream? `guess` where CUPTI told no number for the stream.
fn is_on(inner: &Inner, lane: u16, graph: &GraphTime, guess: bool) -> bool {
    let Some(book) = inner.lane(lane) else { return false };
    let stream = book.cupti_stream.load(Ordering::Relaxed);
    let is_there = if stream == 0 { guess } else { stream == u64::from(graph.stream) + 1 };
    is_there && i64::from(graph.device) == i64::from(inner.ordinal)
}

/// (lane, step) by time alone, for a CUPTI that gives no ids: the one finished step of the stream
/// that shares more of the graph's time than its error explains.
fn by_time(inner: &Inner, oldest: &[u64], graph: &GraphTime) -> Option<(u16, u64)> {
    // Lanes are never recycled: of two on one stream the younger one is in use.
    let lane = (0..inner.lanes_max).rev().find(|lane| is_on(inner, *lane, graph, false))?;
    let issued = inner.lane(lane)?.issued.load(Ordering::Acquire);
    let remembered = issued.saturating_sub(u64::from(inner.slots) - 1).max(1);
    let oldest = remembered.max(oldest.get(usize::from(lane)).copied().unwrap_or(1));
    let steps: Vec<SettledStep> = (oldest..=issued)
        .rev()
        .filter_map(|seq| finished(inner, lane, seq))
        // Steps of a stream do not overlap, so what ends before the graph begins ends the search.
        .take_while(|step| step.end + step.error >= graph.start)
        .collect();
    let found = by_overlap(graph.start, graph.end, &steps)?;
    Some((lane, steps[found].seq))
}

/// A step whose begin and end stamps are there, on the host's clock.
fn finished(inner: &Inner, lane: u16, seq: u64) -> Option<SettledStep> {
    let map = inner.map.read();
    let [begin, end] = inner.border_words(lane, seq)?.map(|word| map.host(word));
    let at = |ns: i64| u64::try_from(ns).unwrap_or(0);
    let error = at(begin.error_ns.max(end.error_ns));
    Some(SettledStep { lane, seq, begin: at(begin.ns), end: at(end.ns), error })
}

/// Marks the launches of a lane's steps; nothing where CUPTI is off or gives no ids.
pub(super) struct Marker {
    ids: Option<ExternalIds>,
    pushed: bool,
}

impl Marker {
    pub(super) fn new(ids: Option<ExternalIds>) -> Marker {
        Marker { ids, pushed: false }
    }

    /// What the thread launches from now on is this step's; a step that was forgotten ends here.
    #[inline]
    pub(super) fn begin(&mut self, lane: u16, seq: u64) {
        if self.ids.is_some() {
            self.end();
            self.pushed = self.ids.is_some_and(|ids| ids.push(lane, seq))
        }
    }

    #[inline]
    pub(super) fn end(&mut self) {
        if let (true, Some(ids)) = (self.pushed, self.ids) {
            ids.pop();
            self.pushed = false
        }
    }

    /// In a forked child: what was pushed there is the parent's, and CUPTI must not be called.
    pub(super) fn forget(&mut self) {
        self.pushed = false
    }
}
