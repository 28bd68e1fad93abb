//! What probes and the verdict say where only the crate itself can set the stage.

use super::Status;
use crate::{Clock, Config, ManualClock, Shape, Stepscope, Time};

fn second(n: u64) -> Time {
    Time::from_nanos(n * 1_000_000_000)
}

/// A scope at one second, and its clock.
fn scope() -> (Stepscope, ManualClock) {
    let clock = ManualClock::new(second(1));
    let config = Config { listen: None, clock: Clock::Manual(clock.clone()), ..Config::default() };
    let scope = Stepscope::start(config).unwrap();
    scope.mark_ready();
    (scope, clock)
}

/// A tensor-parallel rank knows of no request: only its GPU tells that it hangs.
#[test]
fn a_hung_gpu_is_seen_without_any_request_and_without_the_engines_thread() {
    let (scope, _) = scope();
    let device = scope.device("0");
    scope.advance(second(100));
    device.0.stamps.set_stuck_since(Some(second(95)));
    assert!(scope.ready().ok && scope.live().ok);
    scope.advance(second(130));
    let ready = scope.ready();
    assert!(!ready.ok && ready.reason.contains("GPU has not finished"), "{}", ready.reason);
    assert!(scope.live().ok);
    scope.advance(second(400));
    assert!(!scope.live().ok);
    device.0.stamps.set_stuck_since(None);
    assert!(scope.ready().ok && scope.live().ok);
}

/// A starved metrics thread is no proof against the engine.
#[test]
fn a_frozen_aggregator_makes_the_verdict_unknown_and_changes_no_probe() {
    let (scope, clock) = scope();
    let mut recorder = scope.recorder("engine");
    let chat = scope.series(crate::Class::endpoint("chat"));
    let mut request = recorder.arrive(chat, 1, second(9));
    recorder.enqueue(&mut request, second(9));
    recorder.schedule(&mut request, second(9), 0, 0);
    let open = recorder.begin_step(second(9), Shape { prefills: 0, prefill_tokens: 0, decodes: 1 });
    recorder.end_step(open, second(10));
    scope.advance(second(12));
    assert!(scope.ready().ok && scope.live().ok);
    // The clock moves, and nobody drains.
    clock.advance(second(400));
    assert!(scope.ready().ok && scope.live().ok);
    let verdict = scope.health();
    assert_eq!(verdict.overall, Status::Warning);
    let telemetry = &verdict.checks.telemetry_health;
    assert_eq!((telemetry.status, telemetry.evidence.lag_seconds), (Status::Unknown, 388.0));
    assert_eq!(telemetry.issues[0].alert, "LLMTelemetryFrozen");
    assert_eq!(telemetry.sentence, "The aggregator has not drained for 388 s: numbers are old.");
    // What was not ready when the numbers were fresh does not become ready by freezing.
    scope.mark_draining();
    assert!(!scope.ready().ok);
    recorder.finish(request, second(400), crate::Outcome::Stop)
}

#[test]
fn a_worker_that_was_stalled_stays_unready_while_frozen() {
    let (scope, clock) = scope();
    let mut recorder = scope.recorder("engine");
    let chat = scope.series(crate::Class::endpoint("chat"));
    let mut request = recorder.arrive(chat, 1, second(2));
    recorder.enqueue(&mut request, second(2));
    scope.advance(second(100));
    assert!(!scope.ready().ok, "stalled");
    clock.advance(second(200));
    let frozen = scope.ready();
    assert!(!frozen.ok && frozen.reason.contains("frozen"), "{}", frozen.reason);
    recorder.finish(request, second(200), crate::Outcome::Stop)
}

/// The process' own limits are the site's, as in the derived rules.
#[test]
fn a_site_that_set_a_limit_is_judged_by_it() {
    for (limit_s, ready) in [(None, false), (Some(60.0), true)] {
        let clock = Clock::Manual(ManualClock::new(second(1)));
        let mut config = Config { listen: None, clock, ..Config::default() };
        if let Some(limit_s) = limit_s {
            config.limits.set_critical(crate::catalog::Id::LastStepAge, limit_s).unwrap()
        }
        let scope = Stepscope::start(config).unwrap();
        scope.mark_ready();
        let mut recorder = scope.recorder("engine");
        let chat = scope.series(crate::Class::endpoint("chat"));
        let mut request = recorder.arrive(chat, 1, second(2));
        recorder.enqueue(&mut request, second(2));
        scope.advance(second(45));
        assert_eq!(scope.ready().ok, ready, "{limit_s:?}");
        recorder.finish(request, second(45), crate::Outcome::Stop)
    }
}
