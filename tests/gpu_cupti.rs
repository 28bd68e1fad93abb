//! CUPTI's start, refusals, buffers and end, against a libcupti in C that does what the test says.
#![allow(missing_docs, unsafe_code)]

#[allow(dead_code, unused_imports)] // The module as a stranger's crate would have it, private parts included.
#[path = "../src/gpu/cupti/mod.rs"]
mod cupti;

#[allow(dead_code)] // Each test binary uses its own part.
#[path = "common/cupti_stub.rs"]
mod cupti_stub;

use cupti::{Cupti, CuptiOptions, CuptiUnavailable, GraphTime, Stats, Subscription};
use cupti_stub::Stub;

/// What starting this stub ends in.
trait Start {
    fn options(&self) -> CuptiOptions;
    fn start(&self) -> Result<Subscription, CuptiUnavailable>;
    fn refusal(&self) -> Option<CuptiUnavailable>;
}

impl Start for Stub {
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
    drop((knobs, subscription));
    let knobs = stub.knobs();
    assert_eq!((knobs.subscribed, knobs.kinds, knobs.driver_calls), (0, 0, 0));
}

#[test]
fn a_refusal_is_told_with_its_code_after_one_question() {
    for code in [39, 14] {
        let mut stub = Stub::build(&[]);
        stub.knobs().subscribe_code = code;
        assert_eq!(stub.refusal(), Some(CuptiUnavailable::Refused(code)));
        assert_eq!(stub.knobs().calls, 2, "its version, and to subscribe");
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
    drop(knobs);

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
    stub.can(100, 5 << 48 | 1, 9, 1_000, 1_500);
    stub.can(101, 5 << 48 | 2, 9, 2_000, 2_500);
    stub.can(102, 5 << 48 | 3, 9, 0, 0);
    let time = |step: u64, start, end| GraphTime {
        external: Some(5 << 48 | step),
        device: 0,
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
    let id =
        unsafe { subscription.ids().stream_id(std::ptr::null_mut(), std::ptr::dangling_mut()) };
    assert_eq!(id, Some(42));
}

#[test]
fn losses_are_counted() {
    let mut stub = Stub::build(&[]);
    let mut subscription = stub.start().unwrap();
    let mut knobs = stub.knobs();
    (knobs.requests, knobs.strange, knobs.dropped) = (11, 2, 6);
    drop(knobs);
    stub.can(1, 1, 9, 10, 20);
    assert_eq!(poll(&mut subscription).len(), 1);
    assert_eq!(stub.knobs().refused, 3, "8 buffers, so 3 of 11 get NULL");
    let mut knobs = stub.knobs();
    (knobs.requests, knobs.strange, knobs.flush_code) = (8, 0, 999);
    drop(knobs);
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
    let first = stub.start().unwrap();
    let calls = stub.knobs().calls;
    assert_eq!(stub.refusal(), Some(CuptiUnavailable::InUse));
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
    drop(knobs);
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
    stub.can_time(1, 9, 10, 20);
    let times = poll(&mut subscription);
    assert_eq!((times.len(), times[0].external, subscription.stats().unattributed), (1, None, 1));
}
