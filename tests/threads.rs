//! Requests, recorders and readers on threads of their own, through the public API.
#![allow(missing_docs)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use stepscope::catalog::Id;
use stepscope::{Class, Config, Outcome, Request, Snapshot, Stepscope, Time};

const REQUESTS: u64 = 20_000;
/// Requests one recorder handles before it is dropped and the next one is made.
const SHIFT: u64 = 50;

fn count(snapshot: &Snapshot, id: Id) -> u64 {
    snapshot.sum(id, |_| true) as u64
}

/// Every recorder is dropped while its requests live on elsewhere: what it counted joins the base
/// between two reads and is never missing from one.
#[test]
fn counters_never_fall_while_recorders_come_and_go() {
    let scope = Stepscope::start(Config { listen: None, ..Config::default() }).unwrap();
    let series = scope.series(Class::endpoint("chat"));
    let (send, receive) = mpsc::sync_channel::<Request>(64);
    let done = AtomicBool::new(false);
    let (scope, done) = (&scope, &done);
    std::thread::scope(|threads| {
        threads.spawn(move || {
            for first in (0..REQUESTS).step_by(SHIFT as usize) {
                let mut api = scope.recorder("api");
                for id in first..first + SHIFT {
                    send.send(api.arrive(series, id, Time::now())).unwrap()
                }
            }
        });
        threads.spawn(move || {
            let mut arrived = receive.iter().peekable();
            while arrived.peek().is_some() {
                let mut engine = scope.recorder("engine");
                for mut req in arrived.by_ref().take(SHIFT as usize) {
                    engine.enqueue(&mut req, Time::now());
                    engine.finish(req, Time::now(), Outcome::Stop)
                }
            }
            done.store(true, Ordering::Release)
        });
        let mut before = [0; 2];
        while !done.load(Ordering::Acquire) {
            let snapshot = scope.snapshot();
            let now = [Id::RequestsAccepted, Id::Requests].map(|id| count(&snapshot, id));
            assert!(now[0] >= now[1], "{now:?}: accepted, ended");
            assert!(now[0] >= before[0] && now[1] >= before[1], "{before:?} fell to {now:?}");
            before = now
        }
    });
    let last = scope.snapshot();
    assert_eq!(count(&last, Id::RequestsAccepted), REQUESTS);
    assert_eq!(count(&last, Id::Requests), REQUESTS);
    for level in [Id::RequestsInFlight, Id::RequestsRunning, Id::QueueDepth] {
        assert_eq!(count(&last, level), 0, "{level:?}")
    }
    let durations = last.merged(Id::RequestDuration, |_| true).unwrap();
    assert_eq!(durations.count(), REQUESTS, "no recorder takes its ring along");
}
