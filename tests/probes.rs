//! What /livez, /readyz and /health answer in every state of a worker, and what /api/v1/overview
//! holds.
#![cfg(feature = "export")]
#![allow(missing_docs)]

mod common;

use common::http::get;
use common::traffic::{DECODE, Worker, at, later, manual_config};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use stepscope::{ErrorType, Outcome, Pool, Request, Tally, Wait};

const S: u64 = 1_000;

/// Status codes of /livez, /readyz and /health.
fn codes(worker: &Worker) -> [u16; 3] {
    ["/livez", "/readyz", "/health"].map(|path| worker.get(path).status)
}

fn health(worker: &Worker) -> Value {
    worker.get("/health").json()
}

fn check(health: &Value, name: &str) -> Value {
    health["checks"][name].clone()
}

/// Names of the alerts of a check that are in this state.
fn alerts(check: &Value, state: &str) -> Vec<String> {
    let issues = check["issues"].as_array().unwrap().iter();
    let named = issues.filter(|issue| issue["state"] == state);
    named.map(|issue| issue["alert"].as_str().unwrap().into()).collect()
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
    let gpu = check(&health(&worker), "gpu_health");
    assert_eq!(
        (&gpu["status"], &gpu["last_step_age_seconds"]),
        (&json!("critical"), &json!(301.0))
    );
    assert_eq!(alerts(&gpu, "firing"), ["LLMEngineStalled"]);
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
    let mut now = 10 * S;
    let mut pass = |worker: &mut Worker, until: u64| {
        while now < until * S {
            // A step of no tokens: gaps of a second would be another alert.
            let open = worker.rec.begin_step(at(now), DECODE);
            worker.rec.end_step(open, at(now + S));
            now += S;
            worker.scope.advance(at(now))
        }
    };
    pass(&mut worker, 100);
    let health = health(&worker);
    let kv = check(&health, "kv_cache_health");
    assert_eq!((&kv["status"], &kv["max_utilization"]), (&json!("healthy"), &json!(0.99)));
    assert_eq!(alerts(&kv, "pending"), ["LLMKVCachePressure", "LLMKVCacheElevated"], "{kv}");
    assert_eq!(health["overall"], "healthy", "what may be a burst is no verdict yet");

    pass(&mut worker, 400);
    let health = self::health(&worker);
    assert_eq!(codes(&worker), [200; 3]);
    assert_eq!((&health["overall"], &health["serving"]), (&json!("critical"), &json!(true)));
    let kv = check(&health, "kv_cache_health");
    assert_eq!(
        (&kv["status"], alerts(&kv, "firing")),
        (&json!("critical"), vec!["LLMKVCachePressure".into()])
    );
    let issue = &kv["issues"][0];
    assert_eq!(
        (&issue["value"], &issue["limit"], &issue["unit"]),
        (&json!(0.99), &json!(0.95), &json!("ratio"))
    );
    assert!(issue["since_seconds"].as_f64().unwrap() >= 300.0, "{issue}");
    assert_eq!(issue["runbook"], "#llmkvcachepressure");
    assert!(health["advice"].as_array().unwrap().contains(&issue["advice"]));
    let queue = check(&health, "queue_health");
    assert_eq!((&queue["max_depth"], &queue["status"]), (&json!(900), &json!("critical")));
    assert_eq!(queue["note"], "requests wait and none ended in the window", "{queue}");
    assert_eq!(worker.get("/health?strict=1").status, 503, "for those who ask for strictness");
    assert_eq!(worker.get("/health?strict=0").status, 200);
    assert_eq!(worker.get("/readyz?strict=1").status, 200);

    // Full without a queue is a machine well used: first kept, then over.
    worker.rec.queue(Wait::Capacity, worker.chat.priority(), 0);
    pass(&mut worker, 480);
    let kv = check(&self::health(&worker), "kv_cache_health");
    assert_eq!(alerts(&kv, "kept"), ["LLMKVCachePressure"], "{kv}");
    pass(&mut worker, 900);
    let kv = check(&self::health(&worker), "kv_cache_health");
    assert_eq!(
        (&kv["status"], alerts(&kv, "firing")),
        (&json!("warning"), vec!["LLMKVCacheElevated".into()])
    );
    assert_eq!(worker.get("/health?strict=1").status, 200);
    worker.rec.finish(req, at(901 * S), Outcome::Stop)
}

#[test]
fn slow_answers_are_critical_after_two_minutes_and_while_they_are_recent() {
    let mut worker = ready();
    let latency = |worker: &Worker| check(&health(worker), "latency_health");
    let calm = latency(&worker);
    assert_eq!((&calm["ttft_p99"], &calm["samples"]), (&Value::Null, &json!(0)));
    assert_eq!(calm["note"], "no first token, or no gap between tokens, in the window");
    let answer_until = |worker: &mut Worker, from: u64, until: u64| {
        for second in (from..until).step_by(5) {
            worker.answer(worker.chat, at(second * S), 6_000);
            worker.scope.advance(at((second + 5) * S))
        }
    };
    answer_until(&mut worker, 5, 120);
    assert_eq!(latency(&worker)["status"], "healthy", "a burst is no page");
    answer_until(&mut worker, 120, 180);
    let slow = latency(&worker);
    assert_eq!((&slow["status"], &slow["ttft_p99"]), (&json!("critical"), &json!(8.0)));
    assert_eq!(alerts(&slow, "firing"), ["LLMHighTTFT"]);
    assert_eq!(codes(&worker), [200; 3]);
    assert_eq!(worker.get("/health?strict=1").status, 503);
    worker.scope.advance(at(400 * S));
    assert_eq!(alerts(&latency(&worker), "kept"), ["LLMHighTTFT"], "ten minutes longer");
    for minute in 7..=20 {
        worker.scope.advance(at(minute * 60 * S))
    }
    assert_eq!(health(&worker)["overall"], "healthy", "then it is past")
}

#[test]
fn failures_are_judged_and_the_callers_own_faults_are_not() {
    for (error, wanted) in [(ErrorType::Internal, "critical"), (ErrorType::Input, "healthy")] {
        let mut worker = ready();
        for second in 1..200 {
            for n in 0..2 {
                let req = worker.arrive(worker.chat, at(second * S + n));
                let outcome = if n == 0 { Outcome::Failed(error) } else { Outcome::Length };
                worker.rec.finish(req, later(at(second * S + n), 5), outcome)
            }
            worker.scope.advance(at((second + 1) * S))
        }
        let errors = check(&health(&worker), "error_health");
        assert_eq!(errors["status"], wanted, "{error:?}");
        assert_eq!(errors["error_rate"], if wanted == "critical" { 0.5 } else { 0.0 })
    }
}

#[test]
fn lost_samples_are_a_warning_after_five_minutes() {
    let mut worker = ready();
    for second in 1..400 {
        // More events than the ring holds, and nobody drains in between.
        for _ in 0..if second % 10 == 0 { 20_000 } else { 0 } {
            worker.rec.kv(Pool::KV, 1, 1, 100, 16)
        }
        worker.scope.advance(at(second * S));
    }
    let telemetry = check(&health(&worker), "telemetry_health");
    assert_eq!(alerts(&telemetry, "firing"), ["LLMInstrumentationLoss"], "{telemetry}");
    assert_eq!(telemetry["status"], "warning");
    assert!(telemetry["dropped_share"].as_f64().unwrap() > 0.5, "{telemetry}")
}

#[test]
fn a_broken_gpu_gets_no_new_requests_until_the_process_restarts() {
    let worker = ready();
    worker.scope.device("0").xid(Tally::XidFatal, 79);
    worker.scope.advance(at(20 * S));
    assert_eq!(codes(&worker), [200, 503, 503]);
    let refusal = worker.get("/readyz").text();
    assert!(refusal.contains("a fatal XID error, the last one is 79"), "{refusal}");
    let gpu = check(&health(&worker), "gpu_health");
    assert_eq!(
        (&gpu["last_xid"], alerts(&gpu, "firing")),
        (&json!(79), vec!["LLMGPUFault".into()])
    );
    for minute in 1..60 {
        worker.scope.advance(at(minute * 60 * S))
    }
    assert_eq!(check(&health(&worker), "gpu_health")["status"], "critical", "it does not heal")
}

#[test]
fn a_person_at_a_terminal_reads_the_same_verdict_as_text() {
    let worker = ready();
    worker.scope.device("0").xid(Tally::XidFatal, 79);
    worker.scope.advance(at(20 * S));
    let answer = get(worker.addr(), "/health", &["Accept: text/plain"]);
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (503, Some("text/plain; charset=utf-8"))
    );
    let text = answer.text();
    assert!(text.starts_with("CRITICAL  idle, not serving  model test, worker w0\n"), "{text}");
    assert!(
        text.contains(
            "gpu        CRITICAL  LLMGPUFault: No step has ended since it was ready, 19 s ago."
        ),
        "{text}"
    );
    assert!(text.contains("\nDo first:\n- Drain the worker"), "{text}");
    assert!(text.lines().count() > 9, "{text}")
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
        "timestamp",
        "model",
        "worker_id",
        "window_seconds",
        "checks",
        "advice",
    ];
    assert_eq!(keys(&health), BTreeSet::from(fields));
    assert_eq!((&health["model"], &health["worker_id"]), (&json!("test"), &json!("w0")));
    assert_eq!(health["window_seconds"], 300);
    assert_eq!(health["sentence"], "Serving: 1 running, 0 waiting, nothing is wrong.");
    let evidence: [(&str, &[&str]); 6] = [
        ("gpu_health", &["last_step_age_seconds", "last_xid"]),
        ("kv_cache_health", &["max_utilization", "note"]),
        ("latency_health", &["ttft_p99", "tbt_p99", "samples", "note"]),
        ("error_health", &["error_rate", "samples", "note"]),
        ("queue_health", &["max_depth", "drain_seconds"]),
        ("telemetry_health", &["dropped_share", "lag_seconds"]),
    ];
    assert_eq!(keys(&health["checks"]), evidence.iter().map(|(name, _)| *name).collect());
    for (name, numbers) in evidence {
        let check = check(&health, name);
        let fields = ["status", "sentence", "issues"].iter().chain(numbers).copied();
        assert_eq!(keys(&check), fields.collect(), "{name}");
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
    assert_eq!(
        keys(&overview["health"]),
        BTreeSet::from(["overall", "sentence", "checks", "advice"])
    );
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
