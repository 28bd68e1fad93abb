//! What /livez, /readyz and /health answer in every state of a worker, and what /api/v1/overview
//! holds.
#![cfg(feature = "export")]
#![allow(missing_docs)]

mod common;

use common::traffic::{Worker, at, later, manual_config};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use stepscope::{ErrorType, Outcome, Pool, Request, Wait};

const S: u64 = 1_000;

/// Status codes of /livez, /readyz and /health.
fn codes(worker: &Worker) -> [u16; 3] {
    ["/livez", "/readyz", "/health"].map(|path| worker.get(path).status)
}

fn health(worker: &Worker) -> Value {
    worker.get("/health").json()
}

fn check(health: &Value, name: &str) -> Value {
    let checks = health["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).expect(name).clone()
}

fn ready() -> Worker {
    let worker = Worker::start(manual_config());
    worker.scope.mark_ready();
    worker
}

/// A ready worker with one request in flight whose last step ended at 10 s.
fn busy() -> (Worker, Request) {
    let mut worker = ready();
    let mut req = worker.running(worker.chat, at(9 * S));
    worker.step(&mut req, at(9 * S + 500), at(10 * S));
    worker.scope.advance(at(10 * S));
    (worker, req)
}

#[test]
fn probes_follow_the_worker_from_start_to_end() {
    let worker = Worker::start(manual_config());
    let state = |worker: &Worker| health(worker)["state"].clone();
    assert_eq!((codes(&worker), state(&worker)), ([200, 503, 503], json!("starting")));
    worker.scope.mark_ready();
    assert_eq!((codes(&worker), state(&worker)), ([200, 200, 200], json!("idle")));
    worker.scope.mark_draining();
    assert_eq!((codes(&worker), state(&worker)), ([200, 503, 503], json!("draining")));
    worker.scope.mark_failed();
    assert_eq!((codes(&worker), state(&worker)), ([503, 503, 503], json!("failed")));
    assert_eq!(health(&worker)["overall"], "critical")
}

#[test]
fn a_refusal_says_why_and_when_to_come_again() {
    let worker = Worker::start(manual_config());
    let refusal = worker.get("/readyz");
    assert_eq!(refusal.text(), "starting: the engine has not said that it is ready\n");
    assert_eq!(refusal.header("retry-after"), Some("5"));
    assert_eq!(worker.get("/health").header("retry-after"), Some("5"));
    worker.scope.mark_ready();
    let answer = worker.get("/readyz");
    assert_eq!((answer.text().as_str(), answer.header("retry-after")), ("ok\n", None));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"))
}

#[test]
fn a_worker_that_makes_no_progress_loses_new_requests_after_30_seconds_and_its_life_after_300() {
    let (mut worker, mut req) = busy();
    for (second, wanted, state) in [
        (39, [200, 200, 200], "busy"),
        (41, [200, 503, 503], "stalled"),
        (309, [200, 503, 503], "stalled"),
        (311, [503, 503, 503], "stalled"),
    ] {
        worker.scope.advance(at(second * S));
        assert_eq!(codes(&worker), wanted, "at {second} s");
        assert_eq!(health(&worker)["state"], state, "at {second} s")
    }
    assert_eq!(worker.get("/livez").text(), "requests are in flight and no step ended for 301 s\n");
    let progress = check(&health(&worker), "progress");
    assert_eq!((&progress["status"], &progress["value"]), (&json!("critical"), &json!(301.0)));
    worker.step(&mut req, at(12 * S), at(311 * S));
    assert_eq!(codes(&worker), [200; 3], "one step is progress");
    worker.rec.finish(req, at(311 * S), Outcome::Stop)
}

#[test]
fn an_idle_worker_is_healthy_for_hours() {
    let (mut worker, req) = busy();
    worker.rec.finish(req, at(10 * S), Outcome::Stop);
    for hour in 1..=3 {
        worker.scope.advance(at(hour * 3_600 * S));
        let health = health(&worker);
        assert_eq!(codes(&worker), [200; 3]);
        assert_eq!((&health["state"], &health["overall"]), (&json!("idle"), &json!("healthy")));
        assert_eq!(health["sentence"], "Idle: no request is in flight, nothing is wrong.")
    }
}

/// The age of the last step alone would condemn it in the moment the request comes.
#[test]
fn the_first_request_after_an_idle_hour_is_no_stall() {
    let (mut worker, req) = busy();
    worker.rec.finish(req, at(10 * S), Outcome::Stop);
    worker.scope.advance(at(3_600 * S));
    let mut req = worker.running(worker.chat, at(3_600 * S));
    assert_eq!(codes(&worker), [200; 3]);
    worker.scope.advance(at(3_610 * S));
    assert_eq!(codes(&worker), [200; 3]);
    worker.scope.advance(at(3_631 * S));
    assert_eq!(codes(&worker), [200, 503, 503], "by then it is one");
    worker.step(&mut req, at(3_601 * S), at(3_632 * S));
    assert_eq!(codes(&worker), [200; 3])
}

#[test]
fn a_worker_that_never_ends_its_first_step_is_stalled() {
    let mut worker = ready();
    let _req = worker.running(worker.chat, at(2 * S));
    worker.scope.advance(at(20 * S));
    assert_eq!(codes(&worker), [200; 3]);
    worker.scope.advance(at(40 * S));
    assert_eq!(codes(&worker), [200, 503, 503]);
    worker.scope.advance(at(310 * S));
    assert_eq!(codes(&worker), [503; 3])
}

#[test]
fn warming_up_for_minutes_kills_no_worker() {
    let mut worker = Worker::start(manual_config());
    let _warm_up = worker.running(worker.chat, at(2 * S));
    worker.scope.advance(at(900 * S));
    assert_eq!(codes(&worker), [200, 503, 503])
}

/// Overload is answered by routing and scaling, never by killing what still serves.
#[test]
fn a_loaded_worker_stays_alive_and_ready_whatever_the_verdict() {
    let (mut worker, req) = busy();
    worker.rec.kv(Pool::KV, 99, 1, 100, 1_584);
    worker.rec.queue(Wait::Capacity, worker.chat.priority(), 900);
    assert_eq!(codes(&worker), [200; 3]);
    let health = health(&worker);
    assert_eq!((&health["overall"], &health["serving"]), (&json!("critical"), &json!(true)));
    assert_eq!(check(&health, "kv_cache")["value"], 0.99);
    assert_eq!(check(&health, "queue")["value"], 900.0);
    assert_eq!(health["sentence"], "99 % of KV blocks are referenced; 900 requests wait.");
    assert_eq!(worker.get("/health?strict=1").status, 503, "for those who ask for strictness");
    assert_eq!(worker.get("/health?strict=0").status, 200);
    assert_eq!(worker.get("/readyz?strict=1").status, 200);
    // Full without a queue is a machine well used.
    worker.rec.queue(Wait::Capacity, worker.chat.priority(), 0);
    assert_eq!(check(&self::health(&worker), "kv_cache")["status"], "warning");
    assert_eq!(worker.get("/health?strict=1").status, 200);
    worker.rec.finish(req, at(11 * S), Outcome::Stop)
}

#[test]
fn slow_answers_are_critical_while_they_are_recent() {
    let mut worker = ready();
    let ttft = |worker: &Worker| check(&health(worker), "ttft");
    assert_eq!(ttft(&worker)["value"], Value::Null);
    assert_eq!(ttft(&worker)["sentence"], "No TTFT sample in the last five minutes.");
    for n in 0..6 {
        worker.answer(worker.chat, at((1 + n) * S), 6_000)
    }
    assert_eq!(ttft(&worker)["status"], "healthy", "an open row judges nobody");
    worker.scope.advance(at(21 * S));
    let slow = ttft(&worker);
    assert_eq!((&slow["status"], &slow["value"]), (&json!("critical"), &json!(8.0)));
    assert_eq!(slow["sentence"], "100.0 % of TTFT samples are above 5 s.");
    assert_eq!(codes(&worker), [200; 3]);
    assert_eq!(worker.get("/health?strict=1").status, 503);
    worker.scope.advance(at(400 * S));
    assert_eq!(health(&worker)["overall"], "healthy", "five minutes later it is past")
}

#[test]
fn failures_are_judged_and_the_callers_own_faults_are_not() {
    for (error, wanted) in [(ErrorType::Internal, "critical"), (ErrorType::Input, "healthy")] {
        let mut worker = ready();
        for n in 0..20 {
            let req = worker.arrive(worker.chat, at(2 * S + n));
            let outcome = if n < 10 { Outcome::Failed(error) } else { Outcome::Length };
            worker.rec.finish(req, later(at(2 * S + n), 5), outcome)
        }
        worker.scope.advance(at(21 * S));
        let errors = check(&health(&worker), "errors");
        assert_eq!(errors["status"], wanted, "{error:?}");
        assert_eq!(errors["value"], if wanted == "critical" { 0.5 } else { 0.0 })
    }
}

#[test]
fn lost_samples_are_a_warning() {
    let mut worker = ready();
    // More events than the ring holds, and nobody drains in between.
    for _ in 0..20_000 {
        worker.rec.kv(Pool::KV, 1, 1, 100, 16)
    }
    worker.scope.advance(at(12 * S));
    let telemetry = check(&health(&worker), "telemetry");
    assert_eq!(telemetry["status"], "warning", "{telemetry}");
    assert!(telemetry["value"].as_f64().unwrap() > 0.5, "{telemetry}")
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(|key| key.as_str()).collect()
}

#[test]
fn health_has_its_documented_fields() {
    let (worker, req) = busy();
    let health = health(&worker);
    let fields = [
        "overall",
        "serving",
        "state",
        "sentence",
        "model",
        "worker_id",
        "window_seconds",
        "checks",
    ];
    assert_eq!(keys(&health), BTreeSet::from(fields));
    assert_eq!((&health["model"], &health["worker_id"]), (&json!("test"), &json!("w0")));
    assert_eq!(health["window_seconds"], 300);
    assert_eq!(health["sentence"], "Serving: 1 running, 0 waiting, nothing is wrong.");
    let checks = health["checks"].as_array().unwrap();
    let names: Vec<&str> = checks.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["progress", "ttft", "tbt", "errors", "kv_cache", "queue", "gpu", "telemetry"]
    );
    for check in checks {
        let fields = ["name", "status", "sentence", "value", "unit"];
        assert_eq!(keys(check), BTreeSet::from(fields));
        assert!(check["sentence"].as_str().unwrap().ends_with('.'), "{check}")
    }
    assert_eq!(worker.get("/health").header("content-type"), Some("application/json"));
    drop(req)
}

#[test]
fn the_overview_has_its_documented_fields_and_charts() {
    let mut worker = ready();
    for n in 0..40 {
        let (received, first_ms) = (at((1 + n) * S), 40 + n);
        worker.answer(worker.chat, received, first_ms);
        worker.scope.advance(later(received, S))
    }
    let overview = worker.get("/api/v1/overview").json();
    let fields = [
        "schema",
        "model",
        "worker_id",
        "engine",
        "engine_version",
        "role",
        "stepscope_version",
        "state",
        "uptime_seconds",
        "health",
        "tiles",
        "row_seconds",
        "row_ages_seconds",
        "charts",
        "losses",
    ];
    assert_eq!(keys(&overview), BTreeSet::from(fields));
    assert_eq!(overview["schema"], 1);
    assert_eq!((&overview["state"], &overview["uptime_seconds"]), (&json!("idle"), &json!(40.0)));
    assert_eq!(keys(&overview["health"]), BTreeSet::from(["overall", "sentence", "checks"]));
    let ids = |part: &str| {
        let items = overview[part].as_array().unwrap().iter();
        items.map(|item| item["id"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        ids("tiles"),
        [
            "tokens_per_second",
            "running",
            "waiting",
            "in_flight",
            "kv_utilization",
            "requests",
            "generated",
            "prefix_cache"
        ]
    );
    let tile = |id: &str| {
        let tiles = overview["tiles"].as_array().unwrap();
        tiles.iter().find(|tile| tile["id"] == id).unwrap()["value"].clone()
    };
    assert_eq!((tile("requests"), tile("generated")), (json!(40.0), json!(120.0)));
    assert_eq!((tile("tokens_per_second"), tile("kv_utilization")), (json!(3.0), json!(0.09)));
    assert_eq!(
        ids("charts"),
        [
            "ttft",
            "tbt",
            "step_prefill",
            "step_decode",
            "step_mixed",
            "queue_time",
            "tokens",
            "requests",
            "batch",
            "kv"
        ]
    );
    // Four closed rows of ten seconds, and the open one.
    let ages = overview["row_ages_seconds"].as_array().unwrap().iter();
    let ages: Vec<f64> = ages.map(|age| age.as_f64().unwrap().round()).collect();
    assert_eq!(ages, [30.0, 20.0, 10.0, 0.0, 0.0]);
    for chart in overview["charts"].as_array().unwrap() {
        let fields = ["id", "title", "unit", "help", "stacked", "lines", "limits"];
        assert_eq!(keys(chart), BTreeSet::from(fields));
        for line in chart["lines"].as_array().unwrap() {
            assert_eq!(keys(line), BTreeSet::from(["name", "values"]));
            assert_eq!(line["values"].as_array().unwrap().len(), 5, "{line}")
        }
    }
    let ttft = &overview["charts"][0];
    let names: Vec<&Value> = ttft["lines"].as_array().unwrap().iter().map(|l| &l["name"]).collect();
    assert_eq!(names, ["p50", "p90", "p99"]);
    let median = ttft["lines"][0]["values"][0].as_f64().unwrap();
    assert!((0.04..0.06).contains(&median), "{median} s of 40 to 49 ms");
    let severities = [(2.0, "warning"), (5.0, "critical")];
    let limits = severities.map(|(value, severity)| json!({"value": value, "severity": severity}));
    assert_eq!(ttft["limits"], json!(limits))
}

#[test]
fn losses_name_what_was_lost() {
    let mut worker = ready();
    let req = worker.arrive(worker.chat, at(2 * S));
    drop(req);
    let overview = worker.get("/api/v1/overview").json();
    let losses = overview["losses"].as_array().unwrap();
    let loss = |name: &str| losses.iter().find(|l| l["name"] == name).expect(name)["value"].clone();
    assert_eq!(loss("Invalid input: dropped"), 1.0);
    assert_eq!(loss("Invalid input: time backwards"), 0.0);
    assert_eq!(loss("Samples dropped by full rings"), 0.0);
    assert_eq!(loss("Label values folded or cut"), 0.0);
    // A dropped request is not in flight any more.
    assert_eq!(overview["state"], "idle")
}
