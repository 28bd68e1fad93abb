//! Captured marks and the stamps of an engine's own kernels, end to end: each lies between the work
//! that runs before it and the work that runs behind it.
#![allow(missing_docs, unsafe_code)] // The engine on the fake driver makes driver calls.

#[path = "common/fake_gpu.rs"]
#[allow(dead_code)]
mod fake_gpu;

use fake_gpu::{FakeGpu, Stream, settled};
use stepscope::Time;
use stepscope::gpu::{
    DeviceHandle, Gpu, Lane, Options, Point, RawStream, StepInfo, StepTicket, StepTime,
};

const STEPS: usize = 1_000;
/// The device functions of the header, called by entries as an engine's kernel would call them.
const HEADER_STAMPS: &str = include_str!("../kernels/stamp_test.ptx");

fn attached(fake: &FakeGpu) -> Gpu {
    let options = Options { library: Some(fake.path.clone()), nvml: false, ..Options::default() };
    Gpu::attach(RawStream::LEGACY, &options).unwrap()
}

/// Where the work kernel writes down begin and end of so many runs, and the place that moves on.
fn work_place(fake: &FakeGpu, runs: usize) -> (u64, u64) {
    let (place, truth) = (fake.memory(8), fake.memory(runs * 16));
    fake.write(place, truth);
    (place, truth)
}

/// Time that lies on the GPU's clock between `from` and `to`, mapped with at most `error_ns`?
fn between(fake: &FakeGpu, time: Time, [from, to]: [u64; 2], error_ns: u64) -> bool {
    let earliest = fake.shown(from, 0).unwrap().0 - error_ns as i64;
    let latest = fake.shown(to, 0).unwrap().1 + error_ns as i64;
    (earliest..=latest).contains(&(time.as_nanos() as i64))
}

/// One replay of the graph behind one eager kernel, as a step.
fn replayed(stream: &Stream, lane: &mut Lane, place: u64, graph: &fake_gpu::Graph) -> StepTicket {
    let mut ticket = lane.begin(StepInfo::default());
    assert!(stream.work(place, 20_000));
    assert!(stream.replay(graph));
    lane.end_in_graph(&mut ticket);
    ticket
}

#[test]
fn captured_points_lie_between_the_work_before_and_behind_them() {
    let fake = FakeGpu::new();
    let gpu = attached(&fake);
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    let (place, truth) = work_place(&fake, STEPS * 4 + 1);
    stream.begin_capture(1);
    for point in [Point::Begin, Point::MarkA, Point::MarkB] {
        lane.capture(stream.raw(), point).unwrap();
        assert!(stream.work(place, 3_000))
    }
    lane.capture(stream.raw(), Point::End).unwrap();
    let graph = stream.end_capture().unwrap();
    let steps: Vec<StepTime> = (0..STEPS)
        .map(|_| {
            let ticket = replayed(&stream, &mut lane, place, &graph);
            settled(&gpu, ticket)
        })
        .collect();
    stream.synchronize();
    let truth = fake.read(truth, STEPS * 8);
    let mut marks_ns = [0; 2];
    for (step, works) in steps.iter().zip(truth.chunks_exact(8)) {
        let [_, before_end, a_begin, a_end, b_begin, b_end, c_begin, c_end] = works else {
            unreachable!("eight words a step")
        };
        let (begin, end) = (fake.full(step.gpu_begin), fake.full(step.gpu_begin + step.gpu_ns));
        assert!((*before_end..=*a_begin).contains(&begin), "the captured begin is the later one");
        assert!(end >= *c_end);
        let (mark_a, mark_b) = (step.mark_a.unwrap(), step.mark_b.unwrap());
        assert!(step.begin <= mark_a && mark_a <= mark_b && mark_b <= step.end);
        assert!(between(&fake, step.begin, [*before_end, *a_begin], step.error_ns));
        assert!(between(&fake, mark_a, [*a_end, *b_begin], step.error_ns));
        assert!(between(&fake, mark_b, [*b_end, *c_begin], step.error_ns));
        assert!(between(&fake, step.end, [*c_end, end], step.error_ns));
        marks_ns[0] += mark_a.nanos_since(step.begin);
        marks_ns[1] += step.end.nanos_since(mark_b)
    }
    // One map maps all points of a step, so what lies between them is the work, not the bound.
    assert!(marks_ns.into_iter().all(|ns| ns >= 2_900 * STEPS as u64), "{marks_ns:?}");
    assert_eq!((gpu.counts(0).done, gpu.counts(0).unclaimed), (STEPS as u64, 0));
}

#[test]
fn a_mark_that_was_not_placed_is_not_told_though_the_slot_had_one_before() {
    let fake = FakeGpu::new();
    let options =
        Options { library: Some(fake.path.clone()), nvml: false, slots: 64, ..Options::default() };
    let gpu = Gpu::attach(RawStream::LEGACY, &options).unwrap();
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    let (place, _) = work_place(&fake, 1_000);
    let graphs = [Point::MarkA, Point::MarkB].map(|point| {
        stream.begin_capture(1);
        lane.capture(stream.raw(), point).unwrap();
        lane.capture(stream.raw(), Point::End).unwrap();
        stream.end_capture().unwrap()
    });
    // 65 steps apart the slot is another one; 64 steps and one lap apart it is the same.
    for step in 0..300 {
        let which = step / 64 % 2;
        let ticket = replayed(&stream, &mut lane, place, &graphs[which]);
        let step = settled(&gpu, ticket);
        assert_eq!((step.mark_a.is_some(), step.mark_b.is_some()), (which == 0, which == 1));
    }
}

/// What the stamps of an engine's kernel need, and the kernels.
struct Blocks<'a> {
    fake: &'a FakeGpu,
    first: usize,
    last: usize,
    /// The counter of finished blocks, one per kernel node.
    done: u64,
}

const THREADS: u32 = 32;

impl<'a> Blocks<'a> {
    fn new(fake: &'a FakeGpu) -> Blocks<'a> {
        let module = fake.load(HEADER_STAMPS);
        let done = fake.memory(8);
        fake.write(done, 0);
        let first = fake.function(module, "stepscope_test_first_block");
        let last = fake.function(module, "stepscope_test_last_block");
        Blocks { fake, first, last, done }
    }

    fn first(&self, stream: &Stream, handle: DeviceHandle, point: Point, blocks: u32) {
        let words = [handle.ring, handle.cell, 8 * point as u64];
        assert!(stream.launch(self.first, blocks, THREADS, &words))
    }

    fn last(&self, stream: &Stream, handle: DeviceHandle, point: Point, blocks: u32) {
        let words = [handle.ring, handle.cell, 8 * point as u64, self.done];
        assert!(stream.launch(self.last, blocks, THREADS, &words))
    }

    fn counter(&self) -> u64 {
        self.fake.read(self.done, 1)[0]
    }
}

#[test]
fn stamps_of_the_first_and_the_last_block_are_one_each_and_replays_are_safe() {
    for blocks in [1, 32] {
        let fake = FakeGpu::new();
        let gpu = attached(&fake);
        let stream = fake.stream();
        let mut lane = gpu.lane(stream.raw()).unwrap();
        let (place, truth) = work_place(&fake, 100 * 3 + 1);
        let kernels = Blocks::new(&fake);
        let handle = lane.device_handle();
        stream.begin_capture(1);
        kernels.first(&stream, handle, Point::Begin, blocks);
        assert!(stream.work(place, 3_000));
        kernels.last(&stream, handle, Point::MarkA, blocks);
        assert!(stream.work(place, 3_000));
        kernels.last(&stream, handle, Point::End, blocks);
        let graph = stream.end_capture().unwrap();
        let mut steps = vec![];
        for _ in 0..100 {
            let ticket = replayed(&stream, &mut lane, place, &graph);
            steps.push(settled(&gpu, ticket));
            stream.synchronize();
            assert_eq!(kernels.counter(), 0, "the last block wraps its counter");
        }
        let truth = fake.read(truth, 100 * 6);
        for (step, works) in steps.iter().zip(truth.chunks_exact(6)) {
            let [_, before_end, a_begin, a_end, b_begin, b_end] = works else {
                unreachable!("six words a step")
            };
            let begin = fake.full(step.gpu_begin);
            assert!((*before_end..=*a_begin).contains(&begin));
            assert!(begin + step.gpu_ns >= *b_end);
            assert!(between(&fake, step.mark_a.unwrap(), [*a_end, *b_begin], step.error_ns));
        }
        assert_eq!(gpu.counts(0).unclaimed, 0);

        // Nobody's: each kernel counts once, however many threads it has.
        kernels.first(&stream, handle, Point::MarkB, blocks);
        kernels.last(&stream, handle, Point::MarkB, blocks);
        stream.synchronize();
        assert_eq!(gpu.counts(0).unclaimed, 2, "{blocks} blocks");
    }
}

#[test]
fn a_handle_of_zeros_stamps_nothing_and_touches_nothing() {
    let fake = FakeGpu::new();
    let gpu = attached(&fake);
    let stream = fake.stream();
    let mut lane = gpu.lane(stream.raw()).unwrap();
    let (kernels, off) = (Blocks::new(&fake), DeviceHandle::default());
    fake.write(kernels.done, 5);
    let mut ticket = lane.begin(StepInfo::default());
    for point in [Point::MarkA, Point::MarkB, Point::End] {
        kernels.first(&stream, off, point, 32);
        kernels.last(&stream, off, point, 32)
    }
    lane.end(&mut ticket);
    let step = settled(&gpu, ticket);
    assert_eq!((step.mark_a, step.mark_b), (None, None));
    assert_eq!((gpu.counts(0).unclaimed, kernels.counter()), (0, 5));

    // On, the same kernels stamp the same step: the zeros made the difference.
    fake.write(kernels.done, 0);
    let mut ticket = lane.begin(StepInfo::default());
    kernels.first(&stream, lane.device_handle(), Point::MarkA, 32);
    kernels.last(&stream, lane.device_handle(), Point::MarkB, 32);
    lane.end(&mut ticket);
    let step = settled(&gpu, ticket);
    assert!(step.mark_a.is_some() && step.mark_a <= step.mark_b);
}
