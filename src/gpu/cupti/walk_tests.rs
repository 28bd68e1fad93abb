//! Walks buffers of every known version with our sizes, and those of 13.0 with CUPTI itself.

use super::binding::*;
use super::library::Functions;
use super::sizes::Sizes;
use super::subscription::next_record;
use super::walk::{GraphTime, Keep, Next, WalkCounts, Walker};

/// CUPTI's version numbers, and bytes of kernel, memcpy, memset and graph trace in each.
const VERSIONS: [(u32, usize, usize, usize, usize); 18] = [
    (18, 208, 88, 88, 48), // 12.0, 12.1
    (19, 208, 88, 88, 48),
    (20, 208, 88, 88, 48), // 12.2
    (21, 208, 88, 88, 56), // 12.3
    (22, 208, 88, 88, 56), // 12.4
    (23, 208, 88, 88, 56), // 12.5
    (24, 208, 88, 88, 56), // 12.6
    (26, 208, 96, 88, 56), // 12.8
    (27, 208, 96, 88, 56), // 12.9
    (28, 208, 96, 88, 56), // 12.9 update 1
    (130_000, 216, 96, 88, 56),
    (130_001, 216, 96, 88, 56),
    (130_100, 224, 96, 88, 56),
    (130_201, 224, 96, 88, 56),
    (130_300, 232, 96, 88, 56),
    (130_301, 232, 96, 88, 56),
    (130_400, 248, 112, 104, 56),
    (130_500, 248, 112, 104, 56),
];

/// Names the file of a real libcupti 13.0.
const REAL: &str = "STEPSCOPE_CUPTI_LIB";

/// A buffer under construction, in 64-bit words so that it is aligned like CUPTI's.
#[derive(Default)]
struct Records(Vec<u64>);

impl Records {
    fn add(&mut self, kind: u32, size: usize, u32s: &[(usize, u32)], u64s: &[(usize, u64)]) {
        let mut bytes = vec![0; size];
        for (at, value) in [(RECORD_KIND, kind)].iter().chain(u32s) {
            bytes[*at..*at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        for (at, value) in u64s {
            bytes[*at..*at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        let words = bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
        self.0.extend(words);
    }

    fn id(&mut self, kind: u32, id: u64, correlation: u32) {
        let u32s = [(EXTERNAL_KIND, kind), (EXTERNAL_CORRELATION_ID, correlation)];
        self.add(KIND_EXTERNAL_CORRELATION, EXTERNAL_SIZE, &u32s, &[(EXTERNAL_ID, id)]);
    }

    fn call(&mut self, cbid: u32, correlation: u32) {
        let u32s = [(API_CBID, cbid), (API_CORRELATION_ID, correlation)];
        self.add(KIND_DRIVER, API_SIZE, &u32s, &[]);
    }

    fn graph(&mut self, size: usize, correlation: u32, start: u64, end: u64) {
        let u32s = [
            (GRAPH_TRACE_CORRELATION_ID, correlation),
            (GRAPH_TRACE_GRAPH_ID, 7),
            (GRAPH_TRACE_STREAM_ID, 9),
        ];
        let u64s = [(GRAPH_TRACE_START, start), (GRAPH_TRACE_END, end)];
        self.add(KIND_GRAPH_TRACE, size, &u32s, &u64s);
    }

    fn kernel(&mut self, size: usize, correlation: u32, start: u64, end: u64) {
        let u32s = [(KERNEL_CORRELATION_ID, correlation), (KERNEL_STREAM_ID, 9)];
        let u64s = [(KERNEL_START, start), (KERNEL_END, end)];
        self.add(KIND_CONCURRENT_KERNEL, size, &u32s, &u64s);
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the words' own memory, any bytes of which are u8s, for as long as `self` is lent.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), size_of_val(&*self.0)) }
    }
}

/// Three steps: an id, a graph launch, its time, a kernel of it without time, a copy, a fill.
fn three_steps(sizes: Sizes) -> Records {
    let mut records = Records::default();
    for step in 1..=3_u64 {
        let correlation = 100 + step as u32;
        records.id(EXTERNAL_KIND_CUSTOM0, 5 << 48 | step, correlation);
        records.call(CBID_GRAPH_LAUNCH, correlation);
        records.graph(sizes.graph_trace, correlation, 1_000 * step, 1_000 * step + 500);
        records.kernel(sizes.kernel, correlation, 0, 0);
        records.add(KIND_MEMCPY, sizes.memcpy, &[], &[]);
        records.add(KIND_MEMSET, sizes.memset, &[], &[]);
    }
    records
}

/// One walk over buffers, and what came of it.
fn walk(
    walker: &mut Walker,
    buffers: &mut [&mut Records],
    mut next: impl FnMut(&mut [u8], Option<usize>) -> Next,
) -> Vec<GraphTime> {
    let mut times = vec![];
    for buffer in buffers.iter_mut() {
        walker.learn(buffer.bytes(), &mut next);
    }
    for buffer in buffers.iter_mut() {
        walker.times(buffer.bytes(), &mut next, &mut |time| times.push(time));
    }
    walker.settle(&mut |time| times.push(time));
    times
}

fn newest() -> Sizes {
    Sizes::of(130_500).unwrap()
}

fn our_next(sizes: Sizes) -> impl FnMut(&mut [u8], Option<usize>) -> Next {
    move |buffer, last| sizes.next(buffer, last)
}

fn steps_of(times: &[GraphTime]) -> Vec<Option<u64>> {
    times.iter().map(|time| time.external.map(|id| id & ((1 << 48) - 1))).collect()
}

fn assert_three_steps(walker: &Walker, times: &[GraphTime]) {
    for (step, time) in (1..).zip(times) {
        let external = Some(5 << 48 | step);
        let (start, end) = (1_000 * step, 1_000 * step + 500);
        assert_eq!(*time, GraphTime { external, device: 0, stream: 9, graph: 7, start, end });
    }
    assert_eq!(times.len(), 3);
    // The copies and fills are nobody's: two a step.
    let counts = WalkCounts { attributed: 3, invalid: 3, unknown: 6, ..WalkCounts::default() };
    assert_eq!(walker.counts(), counts);
}

#[test]
fn three_steps_are_paired_at_the_sizes_of_every_version() {
    for (version, kernel, memcpy, memset, graph_trace) in VERSIONS {
        let sizes = Sizes::of(version).unwrap();
        assert_eq!(sizes, Sizes { kernel, memcpy, memset, graph_trace }, "{version}");
        let mut walker = Walker::new(Keep::Graphs, true);
        let times = walk(&mut walker, &mut [&mut three_steps(sizes)], our_next(sizes));
        assert_three_steps(&walker, &times);
    }
}

#[test]
fn an_unknown_version_has_no_sizes() {
    for version in [0, 17, 25, 29, 129_999, 130_600, 140_000, u32::MAX] {
        assert_eq!(Sizes::of(version), None, "{version}");
    }
}

#[test]
fn cupti_itself_finds_the_same_records_as_our_sizes() {
    let Some(path) = std::env::var_os(REAL) else {
        eprintln!("skipped: {REAL} names no libcupti 13.0");
        return;
    };
    let cupti = Functions::load(Some(path.as_ref())).unwrap();
    let version = cupti.version().unwrap();
    assert_eq!(version / 100, 1_300, "{REAL} must be 13.0");
    let sizes = Sizes::of(version).unwrap();
    let mut records = three_steps(sizes);

    let theirs = |buffer: &mut [u8], last| next_record(&cupti, buffer, last);
    let mut walker = Walker::new(Keep::Graphs, true);
    let times = walk(&mut walker, &mut [&mut records], theirs);
    assert_three_steps(&walker, &times);

    let (mut last, mut met) = (None, 0);
    let end = loop {
        let next = next_record(&cupti, records.bytes(), last);
        assert_eq!(next, sizes.next(records.bytes(), last), "behind {last:?}");
        let Next::Record(at) = next else { break next };
        (last, met) = (Some(at), met + 1);
    };
    assert_eq!((end, met), (Next::End, 18));
    eprintln!("CUPTI {version}: {met} records, as ours; {times:?}");
}

#[test]
fn a_time_finds_its_id_in_a_later_buffer_of_the_same_walk() {
    let (mut times, mut ids) = (Records::default(), Records::default());
    times.graph(56, 1, 10, 20);
    ids.id(EXTERNAL_KIND_CUSTOM0, 11, 1);
    ids.call(CBID_GRAPH_LAUNCH_PTSZ, 1);
    let mut walker = Walker::new(Keep::Graphs, true);
    let found = walk(&mut walker, &mut [&mut times, &mut ids], our_next(newest()));
    assert_eq!(steps_of(&found), [Some(11)]);
}

#[test]
fn a_time_waits_three_walks_for_its_id() {
    let (mut times, mut ids) = (Records::default(), Records::default());
    times.graph(56, 1, 10, 20);
    times.graph(56, 2, 30, 40);
    ids.id(EXTERNAL_KIND_CUSTOM0, 11, 1);
    let mut walker = Walker::new(Keep::Graphs, true);
    assert_eq!(walk(&mut walker, &mut [&mut times], our_next(newest())), []);
    assert_eq!(steps_of(&walk(&mut walker, &mut [&mut ids], our_next(newest()))), [Some(11)]);
    assert_eq!(steps_of(&walk(&mut walker, &mut [], our_next(newest()))), [None]);
    assert_eq!((walker.counts().attributed, walker.counts().unattributed), (1, 1));
}

#[test]
fn without_ids_or_without_room_no_time_waits() {
    let mut times = Records::default();
    for n in 0..1_030 {
        times.graph(56, n, 10, 20);
    }
    let found = walk(&mut Walker::new(Keep::Graphs, false), &mut [&mut times], our_next(newest()));
    assert_eq!(found.len(), 1_030);
    let mut walker = Walker::new(Keep::Graphs, true);
    let found = walk(&mut walker, &mut [&mut times], our_next(newest()));
    assert_eq!((found.len(), walker.counts().unattributed), (6, 6), "1,024 wait");
}

#[test]
fn kernels_launched_alone_push_no_graph_out() {
    let (mut ids, mut times) = (Records::default(), Records::default());
    ids.id(EXTERNAL_KIND_CUSTOM0, 1, 1);
    ids.call(CBID_GRAPH_LAUNCH, 1);
    for n in 2..20_000 {
        ids.id(EXTERNAL_KIND_CUSTOM0, 1, n);
        ids.call(CBID_LAUNCH_KERNEL, n);
    }
    times.graph(56, 1, 10, 20);
    let mut graphs = Walker::new(Keep::Graphs, true);
    let found = walk(&mut graphs, &mut [&mut ids, &mut times], our_next(newest()));
    assert_eq!((steps_of(&found), graphs.counts().overwritten), (vec![Some(1)], 0));
    let mut all = Walker::new(Keep::All, true);
    walk(&mut all, &mut [&mut ids, &mut times], our_next(newest()));
    assert_eq!(all.counts().overwritten, 19_999 - 8_192);
}

#[test]
fn kernels_have_times_too_and_share_their_launch() {
    let mut records = Records::default();
    records.id(EXTERNAL_KIND_CUSTOM0, 8, 1);
    records.call(CBID_LAUNCH_KERNEL_EX, 1);
    records.kernel(248, 1, 5, 6);
    records.kernel(248, 1, 7, 9);
    let mut walker = Walker::new(Keep::All, true);
    let found = walk(&mut walker, &mut [&mut records], our_next(newest()));
    assert_eq!(steps_of(&found), [Some(8), Some(8)]);
    assert_eq!((found[1].stream, found[1].graph, found[1].start, found[1].end), (9, 0, 7, 9));
}

#[test]
fn another_tools_ids_are_not_ours() {
    let mut records = Records::default();
    records.id(EXTERNAL_KIND_CUSTOM0, 3, 1);
    records.id(EXTERNAL_KIND_CUSTOM0 + 1, 4, 1);
    records.call(CBID_GRAPH_LAUNCH, 1);
    records.graph(56, 1, 10, 20);
    let mut walker = Walker::new(Keep::Graphs, true);
    let found = walk(&mut walker, &mut [&mut records], our_next(newest()));
    assert_eq!(steps_of(&found), [Some(3)]);
}

#[test]
fn a_time_without_start_or_with_an_end_before_it_is_invalid() {
    let mut records = Records::default();
    records.graph(56, 1, 0, 20);
    records.graph(56, 2, 21, 20);
    records.graph(56, 3, 20, 20);
    let mut walker = Walker::new(Keep::Graphs, false);
    let found = walk(&mut walker, &mut [&mut records], our_next(newest()));
    assert_eq!((found.len(), walker.counts().invalid), (1, 2));
}

#[test]
fn a_rest_that_cannot_be_read_is_counted_once_and_costs_only_itself() {
    let mut records = Records::default();
    records.graph(56, 1, 10, 20);
    records.add(99, 40, &[], &[]);
    records.graph(56, 2, 10, 20);
    let mut walker = Walker::new(Keep::Graphs, false);
    let found = walk(&mut walker, &mut [&mut records], our_next(newest()));
    assert_eq!((found.len(), walker.counts().unknown), (1, 1));

    let mut cut = Records::default();
    cut.graph(56, 1, 10, 20);
    cut.0.truncate(4);
    let mut walker = Walker::new(Keep::Graphs, false);
    // A finder that believes the cut record: the walker does not read past the buffer.
    let believes = |_: &mut [u8], last: Option<usize>| match last {
        None => Next::Record(0),
        Some(_) => Next::End,
    };
    assert_eq!(walk(&mut walker, &mut [&mut cut], believes), []);
    assert_eq!(walker.counts().unknown, 1);
}

#[test]
fn a_finder_that_goes_back_or_outside_does_not_hold_the_walk() {
    for at in [0, 1 << 40] {
        let mut records = Records::default();
        records.graph(56, 1, 10, 20);
        let mut walker = Walker::new(Keep::Graphs, false);
        let stuck = |_: &mut [u8], last: Option<usize>| Next::Record(last.map_or(0, |_| at));
        assert_eq!(walk(&mut walker, &mut [&mut records], stuck).len(), 1);
        assert_eq!(walker.counts().unknown, 1);
    }
}
