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
    assert_eq!(telemetry.sentence, "The metrics thread has not run for 388 s: numbers are old.");
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

fn decoding() -> Shape {
    Shape { prefills: 0, prefill_tokens: 0, decodes: 1 }
}

/// A handle of another scope names no pool here: it is no reason to lose all numbers.
#[test]
fn a_pool_of_another_scope_breaks_nothing() {
    let (other, _) = scope();
    let foreign = other.pool("mamba");
    let (scope, _) = scope();
    let mut recorder = scope.recorder("engine");
    recorder.kv(foreign, 1, 0, 10, 16);
    scope.advance(second(30));
    assert_eq!(scope.health().overall, Status::Healthy);
    assert!(scope.snapshot().family(crate::catalog::Id::KvUtilization).is_none());
}

/// A scheduler's or a server's recorder has a device too, and never a step.
#[test]
fn a_device_without_steps_is_no_stall_while_another_works() {
    let (scope, _) = scope();
    let mut idle = scope.recorder("http");
    let mut engine = scope.recorder_with(crate::RecorderOptions::new("engine").gpu_id("4"));
    let chat = scope.series(crate::Class::endpoint("chat"));
    let mut request = idle.arrive(chat, 1, second(2));
    idle.enqueue(&mut request, second(2));
    for n in 2..200 {
        let open = engine.begin_step(second(n), decoding());
        engine.end_step(open, second(n + 1));
        scope.advance(second(n + 1))
    }
    let verdict = scope.health();
    assert_eq!(verdict.overall, Status::Healthy, "{}", verdict.text());
    assert_eq!(verdict.checks.gpu_health.evidence.last_step_age_seconds, Some(0.0));
    idle.finish(request, second(200), crate::Outcome::Stop)
}

/// An engine that dies with requests in hand is the case that the alert is for; one that is made anew
/// is none.
#[test]
fn steps_of_a_recorder_that_is_gone_still_count() {
    let (scope, _) = scope();
    let mut api = scope.recorder("api");
    let chat = scope.series(crate::Class::endpoint("chat"));
    let mut request = api.arrive(chat, 1, second(2));
    api.enqueue(&mut request, second(2));
    let mut engine = scope.recorder("engine");
    for n in 2..400 {
        let open = engine.begin_step(second(n), decoding());
        engine.end_step(open, second(n + 1));
        scope.advance(second(n + 1))
    }
    drop(engine);
    scope.advance(second(401));
    let mut engine = scope.recorder("engine again");
    scope.advance(second(410));
    assert!(scope.live().ok && scope.ready().ok, "{}", scope.ready().reason);
    scope.advance(second(440));
    assert!(scope.live().ok && !scope.ready().ok, "now it is stalled");
    let verdict = scope.health();
    assert!(verdict.advice[0].starts_with("Drain"), "{:?}", verdict.advice);
    let open = engine.begin_step(second(440), decoding());
    engine.end_step(open, second(441));
    scope.advance(second(441));
    assert!(scope.ready().ok);
    api.finish(request, second(441), crate::Outcome::Stop)
}

/// What is about one GPU is asked of each: shares of several do not add up.
#[test]
fn eight_gpus_that_are_a_little_slow_are_not_one_that_is_very_slow() {
    use crate::{Reading, Tally};
    for (share_ms, fires) in [(20, false), (200, true)] {
        let (scope, _) = scope();
        let gpus: Vec<_> = (0..8).map(|n| scope.device(&n.to_string())).collect();
        for (n, gpu) in gpus.iter().enumerate() {
            gpu.add(Tally::ThrottleThermal, 0);
            gpu.set(Reading::MemoryTotal, 80e9);
            // The first is nearly full behind nothing of its own, the others hold a pool.
            let [used, own] = if n == 0 { [79e9, 0.0] } else { [72e9, 70e9] };
            gpu.set(Reading::MemoryUsed, used);
            gpu.set(Reading::MemoryPreallocated, own)
        }
        for n in 2..1_200 {
            gpus[3].add(Tally::ThrottleThermal, share_ms * 1_000_000);
            gpus.iter().for_each(|gpu| gpu.add(Tally::ThrottleThermal, 20_000_000));
            scope.advance(second(n))
        }
        let issues = scope.health().checks.gpu_health.issues;
        let firing = |name: &str| issues.iter().any(|issue| issue.alert == name);
        assert_eq!(firing("LLMGPUThrottled"), fires, "{issues:?}");
        assert!(firing("LLMGPUMemoryCritical"), "{issues:?}")
    }
}

/// Scrapes wait for the aggregator; probes do not wait for scrapes.
#[cfg(feature = "export")]
#[test]
fn a_scrape_that_hangs_keeps_no_probe_waiting() {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;
    let config = Config { listen: "127.0.0.1:0".parse().ok(), ..Config::default() };
    let scope = Stepscope::start(config).unwrap();
    scope.mark_ready();
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(scope.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        stream
    };
    let held = scope.shared.aggregator();
    let mut scrape = ask("/metrics");
    std::thread::sleep(Duration::from_millis(100));
    let mut answer = String::new();
    ask("/livez").read_to_string(&mut answer).expect("an answer while the scrape hangs");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(held);
    answer.clear();
    scrape.read_to_string(&mut answer).expect("the scrape goes on");
    assert!(answer.contains("llm_worker_info"))
}
