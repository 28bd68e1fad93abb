//! Scopes are told apart by a tag of eight bits that comes round. In a process of its own, because
//! it uses up all tags.
#![allow(missing_docs)]

use stepscope::catalog::Id;
use stepscope::{Class, Clock, Config, ManualClock, Stepscope, Time};

/// Each tag is used twice, and by the second scope after requests of the first were dropped.
#[test]
fn what_an_earlier_scope_dropped_never_shows_in_a_later_one_with_its_tag() {
    for _ in 0..2 * 255 {
        let clock = Clock::Manual(ManualClock::new(Time::from_nanos(1)));
        let scope = Stepscope::start(Config { listen: None, clock, ..Config::default() }).unwrap();
        let series = scope.series(Class::endpoint("chat"));
        let mut rec = scope.recorder("engine");
        let shown = || {
            let snapshot = scope.snapshot();
            let dropped =
                |labels: &stepscope::snapshot::Labels| labels.get("reason") == Some("dropped");
            let waiting = snapshot.sum(Id::QueueDepth, |_| true);
            let in_flight = snapshot.sum(Id::RequestsInFlight, |_| true);
            [waiting, in_flight, snapshot.sum(Id::Invalid, dropped)]
        };
        assert_eq!(shown(), [0.0, 0.0, 0.0]);
        let dropped = rec.arrive(series, 1, Time::from_nanos(1));
        let kept = rec.arrive(series, 2, Time::from_nanos(1));
        drop(dropped);
        assert_eq!(shown(), [1.0, 1.0, 1.0]);
        drop(kept);
        assert_eq!(shown(), [0.0, 0.0, 2.0])
    }
}
