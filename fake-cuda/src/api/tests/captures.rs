//! Captures, and the calls beside them that break them: the rules as the driver's manual states them
//! for `cuThreadExchangeStreamCaptureMode`.

use super::super::graphs::*;
use super::*;
use crate::codes;

const GLOBAL: c_int = 0;
const THREAD_LOCAL: c_int = 1;
const RELAXED: c_int = 2;
const NON_BLOCKING: u32 = 1;

fn begin(stream: usize, mode: c_int) -> c_int {
    // SAFETY: takes numbers.
    unsafe { cuStreamBeginCapture_v2(stream, mode) }
}

/// Ends a capture: the driver's code, and whether there is a graph.
fn end(stream: usize) -> (c_int, bool) {
    let mut graph = 0;
    // SAFETY: a place of the right type.
    let code = unsafe { cuStreamEndCapture(stream, &mut graph) };
    (code, graph != 0)
}

/// The code and the status that asking a stream gives.
fn status(stream: usize) -> (c_int, c_int) {
    let mut status = -1;
    // SAFETY: a place of the right type.
    let code = unsafe { cuStreamIsCapturing(stream, &mut status) };
    (code, status)
}

/// Sets the thread's mode and allocates: a call that may synchronise.
fn allocate_in(mut mode: c_int) -> c_int {
    let mut place = 0;
    // SAFETY: a place of the right type.
    assert_eq!(unsafe { cuThreadExchangeStreamCaptureMode(&mut mode) }, 0);
    let code = allocate(&mut place, 64);
    // SAFETY: as above; the mode of before.
    assert_eq!(unsafe { cuThreadExchangeStreamCaptureMode(&mut mode) }, 0);
    code
}

#[test]
fn whose_unsafe_call_is_refused_is_as_the_manual_says() {
    let driver = driver();
    let stream = stream(NON_BLOCKING);
    // (mode of the capture, mode of the calling thread, refused on its own thread, on another one)
    let manual = [
        (GLOBAL, GLOBAL, true, true),
        (GLOBAL, THREAD_LOCAL, true, false),
        (GLOBAL, RELAXED, false, false),
        (THREAD_LOCAL, GLOBAL, true, false),
        (THREAD_LOCAL, THREAD_LOCAL, true, false),
        (THREAD_LOCAL, RELAXED, false, false),
        (RELAXED, GLOBAL, false, false),
        (RELAXED, THREAD_LOCAL, false, false),
        (RELAXED, RELAXED, false, false),
    ];
    for (captured, mode, own, other) in manual {
        for (refused, here) in [(own, true), (other, false)] {
            let case = format!("capture {captured}, thread {mode}, its own: {here}");
            assert_eq!(begin(stream, captured), 0, "{case}");
            let code =
                if here { allocate_in(mode) } else { driver.elsewhere(|| allocate_in(mode)) };
            let (allocated, ended) = if refused {
                (codes::CAPTURE_UNSUPPORTED, (codes::CAPTURE_INVALIDATED, false))
            } else {
                (codes::SUCCESS, (codes::SUCCESS, true))
            };
            assert_eq!((code, end(stream)), (allocated, ended), "{case}");
            assert_eq!(allocate_in(GLOBAL), 0, "nothing captures any more");
        }
    }
}

#[test]
fn a_broken_capture_takes_no_more_work_and_gives_no_graph() {
    let _driver = driver();
    let (stream, place) = (stream(NON_BLOCKING), memory(8));
    let store = kernel("st.global.u64 [%rd1], 7;");
    // Loading is unsafe too, so it comes first; the mode is relaxed to load it again in `start`.
    let mut mode = RELAXED;
    assert_eq!((begin(stream, GLOBAL), status(stream)), (0, (0, 1)));
    assert_eq!(allocate_in(GLOBAL), 900);
    assert_eq!(status(stream), (0, 2), "invalidated");
    // SAFETY: a place of the right type.
    assert_eq!(unsafe { cuThreadExchangeStreamCaptureMode(&mut mode) }, 0);
    assert_eq!(start(&store, stream, place), 901);
    assert_eq!((end(stream), status(stream)), ((901, false), (0, 0)));
    assert_eq!(begin(stream, GLOBAL), 0, "the stream is as good as new");
    assert_eq!(start(&store, stream, place), 0);
    assert_eq!(end(stream), (0, true));
    assert_ne!(read(place, 1)[0], 7, "what is captured does not run");
}

#[test]
fn work_on_the_legacy_stream_breaks_a_capture_that_it_would_wait_for_and_asking_does_not() {
    let _driver = driver();
    let (blocking, place) = (stream(0), memory(8));
    let store = kernel("st.global.u64 [%rd1], 7;");
    for (stream, code) in [(blocking, codes::CAPTURE_IMPLICIT), (stream(NON_BLOCKING), 0)] {
        assert_eq!(begin(stream, RELAXED), 0);
        assert_eq!(status(0).0, code);
        assert_eq!(status(stream), (0, 1), "asking leaves it whole");
        assert_eq!(start(&store, 0, place), code);
        assert_eq!(end(stream).1, code == 0);
    }
    assert_eq!(begin(0, RELAXED), codes::CAPTURE_UNSUPPORTED, "the legacy stream cannot capture");
}

#[test]
fn a_capture_ends_where_it_began() {
    let driver = driver();
    let (origin, joined) = (stream(NON_BLOCKING), stream(NON_BLOCKING));
    let mut event = 0;
    // SAFETY: a place of the right type, and numbers.
    unsafe {
        assert_eq!(cuEventCreate(&mut event, 0), 0);
        assert_eq!(begin(origin, THREAD_LOCAL), 0);
        assert_eq!(begin(origin, THREAD_LOCAL), codes::ILLEGAL_STATE);
        assert_eq!(cuEventRecord(event, origin), 0);
        assert_eq!(cuStreamWaitEvent(joined, event, 0), 0);
    }
    assert_eq!(status(joined), (0, 1), "it has joined");
    assert_eq!(driver.elsewhere(|| end(origin)), (codes::CAPTURE_WRONG_THREAD, false));
    assert_eq!(end(origin), (0, true));
    assert_eq!((status(joined), end(origin)), ((0, 0), (codes::ILLEGAL_STATE, false)));

    assert_eq!(begin(origin, THREAD_LOCAL), 0);
    // SAFETY: takes numbers.
    unsafe {
        assert_eq!(cuEventRecord(event, origin), 0);
        assert_eq!(cuStreamWaitEvent(joined, event, 0), 0);
    }
    assert_eq!(end(joined), (codes::CAPTURE_UNMATCHED, false), "it did not begin there");
    assert_eq!(end(origin), (codes::CAPTURE_INVALIDATED, false));
}
