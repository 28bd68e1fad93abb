//! From CUPTI's graph times to samples: finds the step that each launch belonged to, and its phase.

use super::cupti::{
    Collector, ExternalIds, GraphTime, SettledStep, Stats, Subscription, by_overlap,
};
use super::inner::Inner;
use super::words::Options;
use crate::record::{Recorder, Time};
use std::sync::atomic::{AtomicBool, Ordering};

/// A lane of this process has captured a graph: it is too late for CUPTI. Kept for the process,
/// since CUPTI watches the process and not one attachment.
static CAPTURED: AtomicBool = AtomicBool::new(false);

/// Bits of an external id below the lane.
const SEQ_MASK: u64 = (1 << 48) - 1;

pub(super) fn note_capture() {
    CAPTURED.store(true, Ordering::Relaxed)
}

/// Starts CUPTI if the options ask for it, and notes in `inner` what came of it.
pub(super) fn start(inner: &mut Inner, options: &Options) -> Option<Subscription> {
    let has_door = inner.driver.has_export_table();
    let captured = CAPTURED.load(Ordering::Relaxed);
    match Collector::new(options.cupti.clone()).start(now, has_door, captured) {
        Ok(subscription) => {
            inner.device.stamps.cupti.iter().for_each(|count| count.add(0));
            inner.ids = Ok(subscription.ids());
            Some(subscription)
        }
        Err(why) => {
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
}

impl Graphs {
    pub(super) fn new(subscription: Subscription, recorder: Option<Recorder>) -> Graphs {
        Graphs { subscription, recorder, told: Stats::default() }
    }

    /// Takes what CUPTI has and feeds it. Blocks while CUPTI hands over, but not for the GPU.
    pub(super) fn poll(&mut self, inner: &Inner) {
        let Graphs { subscription, recorder, told } = self;
        let with_ids = subscription.with_ids();
        let (mut attributed, mut unattributed) = (0, 0);
        subscription.poll(&mut |graph| {
            let step = if with_ids { by_id(&graph) } else { by_time(inner, &graph) };
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
}

/// (lane, step) as it was pushed around the launch.
fn by_id(graph: &GraphTime) -> Option<(u16, u64)> {
    let id = graph.external?;
    Some(((id >> 48) as u16, id & SEQ_MASK))
}

/// (lane, step) by time alone, for a CUPTI that gives no ids: the one finished step of the stream
/// that shares more of the graph's time than its error explains.
fn by_time(inner: &Inner, graph: &GraphTime) -> Option<(u16, u64)> {
    let number = u64::from(graph.stream) + 1;
    let on_stream = |lane: &u16| {
        inner.lane(*lane).is_some_and(|book| book.cupti_stream.load(Ordering::Relaxed) == number)
    };
    let lane = (0..inner.lanes_max).find(on_stream)?;
    let issued = inner.lane(lane)?.issued.load(Ordering::Acquire);
    let oldest = issued.saturating_sub(u64::from(inner.slots) - 1).max(1);
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
}

impl Drop for Marker {
    fn drop(&mut self) {
        self.end()
    }
}
