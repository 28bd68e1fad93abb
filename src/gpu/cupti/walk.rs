//! Reads completed activity buffers: which graph ran how long, for which step.

use super::binding::*;
use super::ids::Ids;

// The fields that are read stand at these bytes in every version from 12.0 to 13.5; only what
// follows them grew. From the headers of 12.0 to 13.5.
const _: () = {
    assert!(RECORD_KIND == 0 && RECORD_ALIGNMENT == 8);
    assert!(KERNEL_START == 16 && KERNEL_END == 24);
    assert!(KERNEL_DEVICE_ID == 40 && KERNEL_CONTEXT_ID == 44 && KERNEL_STREAM_ID == 48);
    assert!(KERNEL_CORRELATION_ID == 92 && KERNEL_NAME == 104);
    assert!(KERNEL_GRAPH_NODE_ID == 144 && KERNEL_GRAPH_ID == 156 && KERNEL_SIZE == 208);
    assert!(GRAPH_TRACE_CORRELATION_ID == 4 && GRAPH_TRACE_START == 8 && GRAPH_TRACE_END == 16);
    assert!(GRAPH_TRACE_GRAPH_ID == 28 && GRAPH_TRACE_STREAM_ID == 36 && GRAPH_TRACE_SIZE == 48);
    assert!(EXTERNAL_KIND == 4 && EXTERNAL_ID == 8 && EXTERNAL_CORRELATION_ID == 16);
    assert!(EXTERNAL_SIZE == 24 && API_CBID == 4 && API_CORRELATION_ID == 32 && API_SIZE == 40);
};

/// Driver calls whose records carry our ids: every way to launch a kernel or a graph.
pub(super) const LAUNCHES: [u32; 8] = [
    CBID_LAUNCH_KERNEL,
    CBID_LAUNCH_KERNEL_PTSZ,
    CBID_LAUNCH_KERNEL_EX,
    CBID_LAUNCH_KERNEL_EX_PTSZ,
    CBID_LAUNCH_COOPERATIVE,
    CBID_LAUNCH_COOPERATIVE_PTSZ,
    CBID_GRAPH_LAUNCH,
    CBID_GRAPH_LAUNCH_PTSZ,
];

/// Times that wait for their id at most; more are handed out without one.
const WAITING_MAX: usize = 1_024;

/// Walks after which a time no longer waits for its id: 300 ms at a walk each 100 ms.
const WALKS_MAX: u8 = 3;

/// GPU time of one launch of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphTime {
    /// `lane << 48 | seq` as pushed around the launch; none if CUPTI gave no id for it.
    pub external: Option<u64>,
    /// CUPTI's number of the device, which is the driver's.
    pub device: u32,
    /// CUPTI's number of the stream, unique within its context.
    pub stream: u32,
    /// CUPTI's number of the graph; 0 for a kernel outside any graph.
    pub graph: u32,
    /// Begin on the GPU, in nanoseconds of the clock given to CUPTI.
    pub start: u64,
    /// End on the GPU, not before `start`.
    pub end: u64,
}

/// What walking met so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WalkCounts {
    /// Times handed out with an id.
    pub(super) attributed: u64,
    /// Times handed out without one.
    pub(super) unattributed: u64,
    /// Records without a start, or that end before it: CUPTI had no time for them.
    pub(super) invalid: u64,
    /// Launches that were forgotten, for want of room, before their time came.
    pub(super) overwritten: u64,
    /// Records of a kind nobody asked for, and rests of buffers that could not be read.
    pub(super) unknown: u64,
}

/// What stands behind a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A record at this byte of the buffer.
    Record(usize),
    /// The end of the buffer.
    End,
    /// Nothing that can be read.
    Broken,
}

/// What of the launches is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Launches of graphs. The many kernels of an eager step would push them out of the table.
    Graphs,
    /// All launches: for kernel records.
    #[cfg_attr(not(test), allow(dead_code))]
    // Kernel times are read and tested, not yet offered.
    All,
}

/// A time whose id has not been seen yet.
#[derive(Clone, Copy)]
struct Waiting {
    correlation: u32,
    walks: u8,
    time: GraphTime,
}

/// Pairs ids with times over any number of buffers.
///
/// Ids and times come in different buffers, and a time's buffer may be delivered before that of its
/// id, which is held back while any call recorded in it is still running. So [`learn`](Walker::learn)
/// reads the ids of all buffers first, [`times`](Walker::times) then hands out what it can, and the
/// rest waits for [`settle`](Walker::settle) of this walk and two more.
pub(super) struct Walker {
    ids: Ids,
    keep: Keep,
    /// Whether ids can come at all.
    waits: bool,
    waiting: Vec<Waiting>,
    counts: WalkCounts,
}

impl Walker {
    /// `with_ids`: whether ids will come; without them no time waits.
    pub(super) fn new(keep: Keep, with_ids: bool) -> Walker {
        Walker {
            ids: Ids::new(),
            keep,
            waits: with_ids,
            waiting: Vec::with_capacity(WAITING_MAX),
            counts: WalkCounts::default(),
        }
    }

    pub(super) fn counts(&self) -> WalkCounts {
        WalkCounts { overwritten: self.ids.overwritten(), ..self.counts }
    }

    /// Takes the ids out of a buffer.
    pub(super) fn learn(
        &mut self,
        buffer: &mut [u8],
        next: impl FnMut(&mut [u8], Option<usize>) -> Next,
    ) {
        let ids = &mut self.ids;
        let keep = self.keep;
        // A broken rest is counted once, by `times`.
        each(buffer, next, |kind, record| match kind {
            KIND_EXTERNAL_CORRELATION => {
                if u32_at(record, EXTERNAL_KIND)? == EXTERNAL_KIND_CUSTOM0 {
                    ids.insert(
                        u32_at(record, EXTERNAL_CORRELATION_ID)?,
                        u64_at(record, EXTERNAL_ID)?,
                    );
                }
                Some(())
            }
            // Follows its id. What is not a graph's launch in graph mode will never have a time.
            KIND_DRIVER => {
                let cbid = u32_at(record, API_CBID)?;
                if keep == Keep::Graphs && !is_graph_launch(cbid) {
                    ids.remove(u32_at(record, API_CORRELATION_ID)?);
                }
                Some(())
            }
            _ => Some(()),
        });
    }

    /// Hands out the times of a buffer whose ids are known, and keeps the others for `settle`.
    pub(super) fn times(
        &mut self,
        buffer: &mut [u8],
        next: impl FnMut(&mut [u8], Option<usize>) -> Next,
        sink: &mut dyn FnMut(GraphTime),
    ) {
        let read = each(buffer, next, |kind, record| {
            match kind {
                KIND_GRAPH_TRACE => self.time(graph_trace(record)?, sink),
                KIND_CONCURRENT_KERNEL => self.time(kernel(record)?, sink),
                KIND_EXTERNAL_CORRELATION | KIND_DRIVER | KIND_RUNTIME => {}
                _ => self.counts.unknown += 1,
            }
            Some(())
        });
        self.counts.unknown += u64::from(!read);
    }

    /// Ends a walk: hands out the waiting times whose ids came, and those that waited long enough.
    pub(super) fn settle(&mut self, sink: &mut dyn FnMut(GraphTime)) {
        let (ids, counts) = (&mut self.ids, &mut self.counts);
        self.waiting.retain_mut(|waiting| {
            waiting.walks += 1;
            waiting.time.external = ids.get(waiting.correlation);
            let done = waiting.time.external.is_some() || waiting.walks >= WALKS_MAX;
            if done {
                hand_out(counts, waiting.time, sink);
            }
            !done
        });
    }

    fn time(&mut self, (correlation, mut time): (u32, GraphTime), sink: &mut dyn FnMut(GraphTime)) {
        if time.start == 0 || time.end < time.start {
            self.counts.invalid += 1;
            self.ids.get(correlation); // Its time came, though useless: no loss of the table.
            return;
        }
        time.external = self.ids.get(correlation);
        if time.external.is_none() && self.waits && self.waiting.len() < WAITING_MAX {
            self.waiting.push(Waiting { correlation, walks: 0, time });
            return;
        }
        hand_out(&mut self.counts, time, sink);
    }
}

fn hand_out(counts: &mut WalkCounts, time: GraphTime, sink: &mut dyn FnMut(GraphTime)) {
    match time.external {
        Some(_) => counts.attributed += 1,
        None => counts.unattributed += 1,
    }
    sink(time);
}

fn is_graph_launch(cbid: u32) -> bool {
    matches!(cbid, CBID_GRAPH_LAUNCH | CBID_GRAPH_LAUNCH_PTSZ)
}

/// Correlation id and time of a graph's record.
fn graph_trace(record: &[u8]) -> Option<(u32, GraphTime)> {
    let time = GraphTime {
        external: None,
        device: u32_at(record, GRAPH_TRACE_DEVICE_ID)?,
        stream: u32_at(record, GRAPH_TRACE_STREAM_ID)?,
        graph: u32_at(record, GRAPH_TRACE_GRAPH_ID)?,
        start: u64_at(record, GRAPH_TRACE_START)?,
        end: u64_at(record, GRAPH_TRACE_END)?,
    };
    Some((u32_at(record, GRAPH_TRACE_CORRELATION_ID)?, time))
}

/// Correlation id and time of a kernel's record.
fn kernel(record: &[u8]) -> Option<(u32, GraphTime)> {
    let time = GraphTime {
        external: None,
        device: u32_at(record, KERNEL_DEVICE_ID)?,
        stream: u32_at(record, KERNEL_STREAM_ID)?,
        graph: u32_at(record, KERNEL_GRAPH_ID)?,
        start: u64_at(record, KERNEL_START)?,
        end: u64_at(record, KERNEL_END)?,
    };
    Some((u32_at(record, KERNEL_CORRELATION_ID)?, time))
}

/// Calls `read` with the kind and the bytes of each record, from its begin to the buffer's end.
///
/// True if the end was reached; false if `next` or `read` (with None) could not go on. Whatever
/// `next` answers, this ends: each record must lie behind the one before it.
fn each(
    buffer: &mut [u8],
    mut next: impl FnMut(&mut [u8], Option<usize>) -> Next,
    mut read: impl FnMut(u32, &[u8]) -> Option<()>,
) -> bool {
    let mut last = None;
    loop {
        let at = match next(buffer, last) {
            Next::Record(at) if last.is_none_or(|last| at > last) => at,
            Next::End => return true,
            Next::Record(_) | Next::Broken => return false,
        };
        let record = buffer.get(at..).unwrap_or_default();
        if u32_at(record, RECORD_KIND).and_then(|kind| read(kind, record)).is_none() {
            return false;
        }
        last = Some(at);
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|field| u32::from_ne_bytes(*field))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|field| u64::from_ne_bytes(*field))
}
