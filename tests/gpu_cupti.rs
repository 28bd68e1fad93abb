//! CUPTI's start, refusals, buffers and end, against a libcupti in C that does what the test says.
#![allow(missing_docs, unsafe_code)]

#[allow(dead_code, unused_imports)] // The module as a stranger's crate would have it, private parts included.
#[path = "../src/gpu/cupti/mod.rs"]
mod cupti;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use cupti::{Collector, Cupti, CuptiOptions, CuptiUnavailable, GraphTime, Stats, Subscription};

/// `struct knobs` of the stub.
#[repr(C)]
struct Knobs {
    version: u32,
    subscribe_code: u32,
    enable_code: u32,
    flush_code: u32,
    requests: u32,
    strange: u32,
    dropped: u64,
    canned_size: usize,
    calls: u32,
    subscribed: u32,
    kinds: u32,
    driver_calls: u32,
    depth: u32,
    refused: u32,
    misplaced: u32,
    last_kind: u32,
    last_id: u64,
    clock: u64,
    canned: [u8; 4096],
}

/// A copy of the stub with its own state, and the lock: a process has one subscription.
struct Stub {
    file: PathBuf,
    knobs: *mut Knobs,
    _one_at_a_time: MutexGuard<'static, ()>,
}

impl Stub {
    /// Compiles the stub, without what `flags` leave out.
    fn build(flags: &[&str]) -> Stub {
        static LOCK: Mutex<()> = Mutex::new(());
        static COPIES: AtomicU32 = AtomicU32::new(0);
        let lock = LOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let copy = COPIES.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir();
        let file = folder.join(format!("stepscope-cupti-stub-{}-{copy}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cupti_stub.c");
        let built = Command::new("cc")
            .args([
                "-std=c11",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-Wno-unused-variable",
                "-O1",
                "-shared",
                "-fPIC",
                "-o",
            ])
            .arg(&file)
            .args(flags)
            .arg(source)
            .status()
            .expect("a C compiler named cc");
        assert!(built.success());
        // SAFETY: our own file, whose constructors do nothing.
        let library = unsafe { libloading::Library::new(&file) }.unwrap();
        // SAFETY: the function of this name has this type, see the C file.
        let knobs = unsafe {
            library.get::<unsafe extern "C" fn() -> *mut Knobs>(b"stub_knobs\0").unwrap()()
        };
        std::mem::forget(library); // The knobs live in it.
        Stub { file, knobs, _one_at_a_time: lock }
    }

    fn knobs(&mut self) -> &mut Knobs {
        // SAFETY: the stub's static of the same layout; the stub touches it only inside calls,
        // which this thread makes, and the borrow ends before the next one.
        unsafe { &mut *self.knobs }
    }

    fn options(&self) -> CuptiOptions {
        CuptiOptions { mode: Cupti::Graphs, library: Some(self.file.clone()) }
    }

    fn start(&self) -> Result<Subscription, CuptiUnavailable> {
        Subscription::start(&self.options(), clock, true, false)
    }

    /// What starting ends in; drops a success.
    fn refusal(&self) -> Option<CuptiUnavailable> {
        self.start().err()
    }

    /// Cans an id, the launch of a graph, and the graph's time.
    fn can(&mut self, correlation: u32, id: u64, start: u64, end: u64) {
        let (low, high) = (|value: u64| value as u32, |value: u64| (value >> 32) as u32);
        let words = [
            vec![39, 3, low(id), high(id), correlation, 0],
            vec![4, 514, 1, 0, 2, 0, 0, 0, correlation, 0],
            vec![
                51,
                correlation,
                low(start),
                high(start),
                low(end),
                high(end),
                0,
                7,
                0,
                9,
                0,
                0,
                0,
                0,
            ],
        ];
        for word in words.concat() {
            let at = self.knobs().canned_size;
            self.knobs().canned[at..at + 4].copy_from_slice(&word.to_ne_bytes());
            self.knobs().canned_size += 4;
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        // A file left behind harms nobody.
        let _ = std::fs::remove_file(&self.file);
    }
}

extern "C" fn clock() -> u64 {
    77
}

fn poll(subscription: &mut Subscription) -> Vec<GraphTime> {
    let mut times = vec![];
    subscription.poll(&mut |time| times.push(time));
    times
}

#[test]
fn it_starts_in_cuptis_order_and_leaves_nothing_behind() {
    let mut stub = Stub::build(&[]);
    let subscription = stub.start().unwrap();
    assert!(subscription.with_ids());
    let knobs = stub.knobs();
    assert_eq!((knobs.subscribed, knobs.kinds, knobs.driver_calls, knobs.misplaced), (1, 2, 8, 0));
    drop(subscription);
    let knobs = stub.knobs();
    assert_eq!((knobs.subscribed, knobs.kinds, knobs.driver_calls), (0, 0, 0));
}

#[test]
fn a_refusal_is_final_and_calls_cupti_once() {
    for code in [39, 14] {
        let mut stub = Stub::build(&[]);
        stub.knobs().subscribe_code = code;
        let mut collector = Collector::new(stub.options());
        let refused = Some(CuptiUnavailable::Refused(code));
        assert_eq!(collector.start(clock, true, false).err(), refused);
        let calls = stub.knobs().calls;
        assert_eq!(calls, 2, "its version, and to subscribe");
        stub.knobs().subscribe_code = 0;
        assert_eq!(collector.start(clock, true, false).err(), refused);
        assert_eq!(stub.knobs().calls, calls);
    }
}

#[test]
fn another_failure_names_the_call_and_undoes_what_was_done() {
    let mut stub = Stub::build(&[]);
    stub.knobs().subscribe_code = 999;
    let call = |name, code| Some(CuptiUnavailable::Call { name, code });
    assert_eq!(stub.refusal(), call("cuptiSubscribe", 999));

    stub.knobs().subscribe_code = 0;
    stub.knobs().enable_code = 27;
    assert_eq!(stub.refusal(), call("cuptiActivityEnable", 27));
    let knobs = stub.knobs();
    assert_eq!((knobs.subscribed, knobs.kinds, knobs.driver_calls), (0, 0, 0));

    stub.knobs().enable_code = 0;
    assert_eq!(stub.refusal(), None, "a failed start blocks no later one of another object");
}

#[test]
fn a_missing_symbol_is_named_and_a_missing_library_said() {
    for (flag, name) in [
        ("-DNO_GET_VERSION", "cuptiGetVersion"),
        ("-DNO_SUBSCRIBE", "cuptiSubscribe"),
        ("-DNO_FLUSH_ALL", "cuptiActivityFlushAll"),
    ] {
        let mut stub = Stub::build(&[flag]);
        assert_eq!(stub.refusal(), Some(CuptiUnavailable::SymbolMissing(name)));
        assert_eq!(stub.knobs().calls, 0);
    }
    let _alone = Stub::build(&[]);
    let nowhere = Some("/nowhere/libcupti.so.13".into());
    let options = CuptiOptions { mode: Cupti::Graphs, library: nowhere };
    let end = Subscription::start(&options, clock, true, false).err();
    assert_eq!(end, Some(CuptiUnavailable::LibraryMissing));
}

#[test]
fn nothing_is_called_when_off_without_a_driver_or_after_a_capture() {
    let mut stub = Stub::build(&[]);
    let options = stub.options();
    let off = CuptiOptions { mode: Cupti::Off, ..options.clone() };
    let end =
        |options, driver, captured| Subscription::start(options, clock, driver, captured).err();
    assert_eq!(end(&off, true, false), Some(CuptiUnavailable::Off));
    assert_eq!(end(&options, false, false), Some(CuptiUnavailable::NoDriver));
    assert_eq!(end(&options, true, true), Some(CuptiUnavailable::TooLate));
    assert_eq!(stub.knobs().calls, 0);
}

#[test]
fn an_unknown_version_is_refused_before_subscribing() {
    for version in [17, 130_600, 140_000] {
        let mut stub = Stub::build(&[]);
        stub.knobs().version = version;
        assert_eq!(stub.refusal(), Some(CuptiUnavailable::Version(version)));
        assert_eq!(stub.knobs().calls, 1);
    }
}

#[test]
fn delivered_buffers_are_walked_and_times_carry_their_step() {
    let mut stub = Stub::build(&[]);
    let mut subscription = stub.start().unwrap();
    stub.can(100, 5 << 48 | 1, 1_000, 1_500);
    stub.can(101, 5 << 48 | 2, 2_000, 2_500);
    stub.can(102, 5 << 48 | 3, 0, 0);
    let time = |step: u64, start, end| GraphTime {
        external: Some(5 << 48 | step),
        stream: 9,
        graph: 7,
        start,
        end,
    };
    assert_eq!(poll(&mut subscription), [time(1, 1_000, 1_500), time(2, 2_000, 2_500)]);
    assert_eq!(stub.knobs().clock, 77, "CUPTI asks our clock");
    assert_eq!(poll(&mut subscription), [], "a buffer is walked once");
    let expected = Stats { attributed: 2, invalid: 1, ..Stats::default() };
    assert_eq!(subscription.stats(), expected);
    // SAFETY: the stub looks at neither handle.
    let id = unsafe { subscription.stream_id(std::ptr::null_mut(), std::ptr::dangling_mut()) };
    assert_eq!(id, Some(42));
}

#[test]
fn losses_are_counted() {
    let mut stub = Stub::build(&[]);
    let mut subscription = stub.start().unwrap();
    (stub.knobs().requests, stub.knobs().strange, stub.knobs().dropped) = (11, 2, 6);
    stub.can(1, 1, 10, 20);
    assert_eq!(poll(&mut subscription).len(), 1);
    assert_eq!(stub.knobs().refused, 3, "8 buffers, so 3 of 11 get NULL");
    (stub.knobs().requests, stub.knobs().strange, stub.knobs().flush_code) = (8, 0, 999);
    poll(&mut subscription);
    stub.knobs().flush_code = 0;
    poll(&mut subscription);
    assert_eq!(stub.knobs().refused, 3, "all 8 came back");
    let expected = Stats {
        attributed: 1,
        dropped: 6,
        exhausted: 3,
        strange: 2,
        flush_errors: 1,
        ..Stats::default()
    };
    assert_eq!(subscription.stats(), expected);
}

#[test]
fn a_process_has_one_subscription_at_a_time() {
    let mut stub = Stub::build(&[]);
    let mut collector = Collector::new(stub.options());
    let first = collector.start(clock, true, false).unwrap();
    let calls = stub.knobs().calls;
    assert_eq!(stub.refusal(), Some(CuptiUnavailable::InUse));
    assert_eq!(collector.start(clock, true, false).err(), Some(CuptiUnavailable::InUse));
    assert_eq!(stub.knobs().calls, calls);
    drop(first);
    assert!(stub.start().is_ok());
}

#[test]
fn ids_are_pushed_in_pairs_and_only_while_somebody_listens() {
    let mut stub = Stub::build(&[]);
    let subscription = stub.start().unwrap();
    let ids = subscription.ids();
    assert!(ids.push(5, 9));
    let knobs = stub.knobs();
    assert_eq!((knobs.depth, knobs.last_kind, knobs.last_id), (1, 3, 5 << 48 | 9));
    ids.pop();
    ids.pop();
    assert_eq!(stub.knobs().depth, 0);

    assert!(ids.push(5, 10));
    drop(subscription);
    assert!(!ids.push(5, 11), "nobody listens");
    ids.pop();
    assert_eq!(stub.knobs().depth, 0, "what was pushed before is taken back");
    let _next = stub.start().unwrap();
    assert!(!ids.push(5, 12), "an id of another life");
}

#[test]
fn without_the_driver_calls_records_there_are_times_without_ids() {
    let mut stub = Stub::build(&["-DNO_ENABLE_DRIVER_API"]);
    let mut subscription = stub.start().unwrap();
    assert!(!subscription.with_ids());
    assert_eq!(stub.knobs().kinds, 1);
    let calls = stub.knobs().calls;
    let ids = subscription.ids();
    assert!(!ids.push(1, 1));
    ids.pop();
    assert_eq!(stub.knobs().calls, calls);
    stub.can(1, 1, 10, 20);
    stub.knobs().canned.copy_within(64..120, 0); // The graph's time alone.
    stub.knobs().canned_size = 56;
    let times = poll(&mut subscription);
    assert_eq!((times.len(), times[0].external, subscription.stats().unattributed), (1, None, 1));
}
