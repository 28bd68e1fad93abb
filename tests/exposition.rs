//! What /metrics says and in which form, judged by strangers: promtool, the official Python parsers.
#![cfg(feature = "export")]
#![allow(missing_docs)]

mod common;

use common::http::{get, request};
use common::samples::{Family, Sample, has, numbers, parsed, parsed_all, value};
use common::traffic::{START_MS, Worker, at, live_config, manual_config};
use common::{python_parser, run_on, tool};
use std::collections::BTreeSet;
use std::sync::OnceLock;
use stepscope::{Config, Reading, Tally, catalog};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// A worker in which every family that this build can feed has data.
fn everything(config: Config) -> Worker {
    let mut worker = Worker::with_traffic(config);
    worker.feed_everything(at(31_000));
    worker.scope.advance(at(45_000));
    // A scrape shows the time of those before it.
    worker.text();
    worker
}

/// Both text formats of it, as the official parsers read them: scraped and parsed once for all tests.
fn everything_parsed() -> &'static [(&'static str, Vec<Family>); 2] {
    static PARSED: OnceLock<[(&str, Vec<Family>); 2]> = OnceLock::new();
    PARSED.get_or_init(|| {
        let worker = everything(manual_config());
        let text = parsed("text", &worker.get("/metrics").body);
        [("text", text), ("openmetrics", parsed("openmetrics", &worker.openmetrics().body))]
    })
}

fn samples(families: &[Family]) -> impl Iterator<Item = &Sample> {
    families.iter().flat_map(|family| &family.samples)
}

/// Its lint knows the conventions for names, units and help texts. The names that a published
/// catalog prescribes (`llm_error_total`, `llm_batch_size`, `llm_gpu_utilization` and others) pass
/// too, so no name needs an exception. The `vllm:` names would not: they hold colons.
#[test]
fn promtool_accepts_the_text_without_a_complaint() {
    if !tool("promtool", &["--version"]) {
        return;
    }
    let worker = everything(manual_config());
    let (ok, out, complaints) =
        run_on("promtool", &["check", "metrics"], &worker.get("/metrics").body);
    assert!(ok && out.is_empty() && complaints.is_empty(), "{out}{complaints}");
    let (ok, _, complaints) = run_on("promtool", &["check", "metrics"], b"# TYPE x gauge\nx 1\n");
    assert!(!ok && complaints.contains("no help text"), "its lint finds nothing: {complaints}")
}

#[test]
fn the_official_parsers_accept_both_text_formats_with_every_switch() {
    if !python_parser() {
        return;
    }
    let switches = [(false, false), (true, false), (false, true), (true, true)];
    let workers = switches.map(|(created_series, vllm_aliases)| {
        everything(Config { created_series, vllm_aliases, ..manual_config() })
    });
    let text = parsed_all("text", &workers.each_ref().map(Worker::text));
    let open = parsed_all("openmetrics", &workers.each_ref().map(|w| w.openmetrics().text()));
    for ((created_series, vllm_aliases), (text, open)) in
        switches.iter().zip(text.iter().zip(&open))
    {
        for families in [text, open] {
            let vllm = samples(families).any(|s| s.name.starts_with("vllm:"));
            assert_eq!(vllm, *vllm_aliases);
            numbers(families);
        }
        let created: Vec<f64> = samples(open)
            .filter(|sample| sample.name.ends_with("_created"))
            .map(|sample| sample.value)
            .collect();
        assert_eq!(!created.is_empty(), *created_series);
        assert!(created.iter().all(|time| (now() - time).abs() < 600.0), "{created:?}");
        assert!(!samples(text).any(|sample| sample.name.ends_with("_created")));
        assert!(samples(open).any(|sample| sample.exemplar.is_some()), "no slow sample shows");
    }
}

#[test]
fn slow_samples_carry_the_number_of_their_request() {
    if !python_parser() {
        return;
    }
    let [_, (_, families)] = everything_parsed();
    let of = |name: &'static str| {
        samples(families)
            .filter(move |s| s.name == name)
            .filter_map(|s| s.exemplar.as_ref().map(|exemplar| (s, exemplar)))
    };
    for (name, above) in [("llm_ttft_seconds_bucket", 2.0), ("llm_tbt_seconds_bucket", 0.08)] {
        let mut seen = 0;
        for (sample, exemplar) in of(name) {
            let le: f64 = sample.labels["le"].replace("+Inf", "inf").parse().unwrap();
            assert!(above < exemplar.value && exemplar.value <= le, "{sample:?}");
            let id: u64 = exemplar.labels["request_id"].parse().unwrap();
            assert!((1..=22).contains(&id), "{exemplar:?}");
            assert_eq!(exemplar.timestamp, None, "a simulated time is no time of the day");
            seen += 1
        }
        assert!(seen > 0, "{name} has no exemplar")
    }
}

#[test]
fn both_formats_hold_the_same_numbers() {
    if !python_parser() {
        return;
    }
    let [(_, text), (_, open)] = everything_parsed();
    // The scrape in between added one sample to the time that scrapes take.
    let numbers = |families| {
        let mut all = numbers(families);
        all.retain(|(name, _), _| !name.starts_with("llm_scrape_seconds"));
        all
    };
    let (text, open) = (numbers(text), numbers(open));
    assert!(text.len() > 1_000);
    for (series, value) in &text {
        assert_eq!(open.get(series), Some(value), "{series:?}")
    }
    assert_eq!(text.len(), open.len())
}

#[test]
fn buckets_ascend_to_the_count_and_their_bounds_are_floats() {
    if !python_parser() {
        return;
    }
    for (_, families) in everything_parsed() {
        let mut bounds = BTreeSet::new();
        for family in families.iter().filter(|family| family.kind == "histogram") {
            let (mut last, mut bound) = (0.0, f64::NEG_INFINITY);
            for sample in &family.samples {
                if sample.name.ends_with("_bucket") {
                    let le = &sample.labels["le"];
                    assert!(le.contains(['.', 'e']) || le == "+Inf", "{} {le}", sample.name);
                    let value: f64 = le.replace("+Inf", "inf").parse().unwrap();
                    assert!(value > bound && sample.value >= last, "{sample:?}");
                    (bound, last) = (value, sample.value);
                    bounds.insert(le.clone());
                } else if sample.name.ends_with("_count") {
                    assert_eq!((bound, last), (f64::INFINITY, sample.value), "{sample:?}");
                    (bound, last) = (f64::NEG_INFINITY, 0.0)
                }
            }
        }
        assert!(bounds.contains("5.0") && bounds.contains("0.08") && bounds.contains("5e-05"))
    }
}

#[test]
fn every_series_says_its_model_and_its_worker() {
    if !python_parser() {
        return;
    }
    for (kind, families) in everything_parsed() {
        for sample in samples(families) {
            let identity = [sample.labels.get("model"), sample.labels.get("worker_id")];
            assert_eq!(
                identity.map(|l| l.map(|v| &**v)),
                [Some("test"), Some("w0")],
                "{kind} {sample:?}"
            )
        }
    }
}

#[test]
fn every_family_has_the_type_that_the_catalog_says() {
    if !python_parser() {
        return;
    }
    let [_, (_, families)] = everything_parsed();
    for row in &catalog::ROWS {
        let name = row.name.trim_end_matches("_total").trim_end_matches("_info");
        let Some(family) = families.iter().find(|family| family.name == name) else { continue };
        let kind = match row.kind {
            catalog::Kind::Counter => "counter",
            catalog::Kind::Gauge => "gauge",
            catalog::Kind::Info => "info",
            catalog::Kind::Histogram(_) => "histogram",
        };
        assert_eq!(family.kind, kind, "{name}")
    }
}

#[test]
fn counters_are_there_at_zero_before_the_first_request() {
    let worker = Worker::start(manual_config());
    let text = worker.text();
    for status in catalog::labels::STATUS {
        let labels = ["endpoint=\"chat\"", &format!("status=\"{status}\"")];
        assert_eq!(value(&text, "llm_requests_total", &labels), Some(0.0), "{status}");
        assert_eq!(value(&text, "llm_request_duration_seconds_count", &labels), Some(0.0))
    }
    for error in catalog::labels::ERROR_TYPE {
        let labels = ["endpoint=\"completions\"", &format!("error_type=\"{error}\"")];
        assert_eq!(value(&text, "llm_error_total", &labels), Some(0.0), "{error}")
    }
    for reason in catalog::labels::PREEMPT {
        let label = format!("reason=\"{reason}\"");
        assert_eq!(value(&text, "llm_preemption_total", &[&label]), Some(0.0), "{reason}")
    }
    for objective in catalog::labels::OBJECTIVE {
        for good in catalog::labels::GOOD {
            let labels = [format!("objective=\"{objective}\""), format!("good=\"{good}\"")];
            let labels = labels.each_ref().map(|label| &**label);
            assert_eq!(value(&text, "llm_slo_events_total", &labels), Some(0.0))
        }
    }
    for metric in ["llm_requests_total", "llm_queue_depth", "llm_kv_blocks"] {
        let metric = format!("metric=\"{metric}\"");
        assert_eq!(value(&text, "llm_label_overflow_total", &[&metric]), Some(0.0), "{metric}")
    }
    let ttft = ["endpoint=\"chat\"", "priority=\"default\"", "le=\"5.0\""];
    assert_eq!(value(&text, "llm_ttft_seconds_bucket", &ttft), Some(0.0));
    let ttft = ["endpoint=\"completions\"", "priority=\"batch\"", "le=\"+Inf\""];
    assert_eq!(value(&text, "llm_ttft_seconds_bucket", &ttft), Some(0.0));
    assert!(!text.contains("\"other\""), "the overflow class shows before it is used")
}

#[test]
fn what_nothing_feeds_is_absent_and_what_was_fed_is_there() {
    let fresh = Worker::start(manual_config()).text();
    for family in [
        "llm_ttft_user_seconds",
        "llm_step_gpu_seconds",
        "llm_gpu_gap_seconds",
        "llm_step_host_seconds",
        "llm_kv_cache_utilization",
        "llm_kv_blocks",
        "llm_kv_slot_usage_ratio",
        "llm_last_step_age_seconds",
        "llm_draft_tokens_total",
    ] {
        assert!(!has(&fresh, family), "{family} shows before anything feeds it")
    }
    let fed = everything(manual_config()).text();
    // Readings of devices come from elsewhere.
    let device = |name: &str| {
        ["llm_gpu_", "llm_stamps_", "llm_clock_", "llm_cupti_"]
            .iter()
            .any(|part| name.starts_with(part))
            && !["llm_gpu_gap_seconds", "llm_gpu_alloc_failures_total"].contains(&name)
    };
    for row in &catalog::ROWS {
        assert_eq!(has(&fed, row.name), !device(row.name), "{}", row.name)
    }
}

/// Alerts look at the increase of one and divide by what the other leaves.
#[test]
fn failed_allocations_count_from_zero_and_a_memory_without_a_pool_has_a_pool_of_zero() {
    let worker = Worker::start(manual_config());
    let device = worker.scope.device("0");
    let of = |family| value(&worker.text(), family, &["gpu_id=\"0\""]);
    assert_eq!(of("llm_gpu_alloc_failures_total"), Some(0.0));
    assert_eq!(of("llm_gpu_memory_preallocated_bytes"), None);
    device.set(Reading::MemoryTotal, 80e9);
    assert_eq!(of("llm_gpu_memory_preallocated_bytes"), Some(0.0));
    device.set(Reading::MemoryPreallocated, 70e9);
    assert_eq!(of("llm_gpu_memory_preallocated_bytes"), Some(70e9));
    device.add(Tally::AllocFailures, 2);
    assert_eq!(of("llm_gpu_alloc_failures_total"), Some(2.0));
}

/// The headers as these programs send them.
#[test]
fn each_client_gets_the_format_it_asks_for() {
    const PLAIN_2_42: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const NATIVE_2_42: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const PLAIN_2_53: &str = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    const NATIVE_2_53: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,application/openmetrics-text;version=0.0.1;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    const PLAIN_3_5: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1";
    const NATIVE_3_5: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1";
    let classic = Worker::start(manual_config());
    let native = Worker::start(Config { native_histograms: true, ..manual_config() });
    for (accept, from_classic, from_native) in [
        (Some(PLAIN_2_42), OPENMETRICS, OPENMETRICS),
        (Some(NATIVE_2_42), OPENMETRICS, PROTOBUF),
        (Some(PLAIN_2_53), OPENMETRICS, OPENMETRICS),
        (Some(NATIVE_2_53), OPENMETRICS, PROTOBUF),
        (Some(PLAIN_3_5), OPENMETRICS, OPENMETRICS),
        (Some(NATIVE_3_5), OPENMETRICS, PROTOBUF),
        (Some("*/*"), TEXT, TEXT),
        (Some("text/html,application/xhtml+xml"), TEXT, TEXT),
        (None, TEXT, TEXT),
    ] {
        let header = accept.map(|accept| format!("Accept: {accept}"));
        let headers: Vec<&str> = header.as_deref().into_iter().collect();
        for (worker, wanted) in [(&classic, from_classic), (&native, from_native)] {
            let answer = get(worker.addr(), "/metrics", &headers);
            assert_eq!(answer.header("content-type"), Some(wanted), "{accept:?}");
            assert_eq!(answer.header("vary"), Some("accept, accept-encoding"));
            assert_eq!(answer.body.ends_with(b"# EOF\n"), wanted == OPENMETRICS, "{accept:?}")
        }
    }
}

#[test]
fn an_answer_is_compressed_only_for_those_who_ask() {
    let worker = Worker::with_traffic(manual_config());
    let plain = worker.get("/metrics");
    for refuses in ["Accept-Encoding: br", "Accept-Encoding: gzip;q=0", "Accept-Encoding: identity"]
    {
        let answer = get(worker.addr(), "/metrics", &[refuses]);
        assert_eq!(answer.header("content-encoding"), None, "{refuses}");
        assert!(answer.body.starts_with(b"# HELP"))
    }
    let accept = "Accept: application/openmetrics-text;version=1.0.0";
    for (kind, headers) in [
        ("text", &["Accept-Encoding: gzip"][..]),
        ("openmetrics", &["Accept-Encoding: deflate, gzip;q=0.5", accept][..]),
    ] {
        let answer = get(worker.addr(), "/metrics", headers);
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert!(answer.body.len() * 5 < plain.body.len(), "{} bytes", answer.body.len());
        if python_parser() {
            let text = parsed("text", &plain.body);
            assert_eq!(samples(&parsed(kind, &answer.body)).count(), samples(&text).count())
        }
    }
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let worker = Worker::start(manual_config());
    worker.scope.mark_ready();
    // The second scrape is as long as the third: both show one before them.
    worker.text();
    for path in ["/", "/metrics", "/api/v1/overview", "/livez", "/readyz", "/health"] {
        let head = request(worker.addr(), "HEAD", path, &[]);
        let get = request(worker.addr(), "GET", path, &[]);
        assert_eq!((head.status, get.status), (200, 200), "{path}");
        assert!(head.body.is_empty() && !get.body.is_empty());
        let names = |headers: &[(String, String)]| {
            headers.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()
        };
        assert_eq!(names(&head.headers), names(&get.headers), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"));
        assert_eq!(get.header("cache-control"), Some("no-store"), "{path}")
    }
}

#[test]
fn other_methods_are_refused_and_other_paths_unknown() {
    let worker = Worker::start(manual_config());
    for path in ["/", "/metrics", "/api/v1/overview", "/livez", "/readyz", "/health"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
            let answer = request(worker.addr(), method, path, &["Content-Length: 0"]);
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some("GET,HEAD"), "{method} {path}")
        }
    }
    for path in ["/metric", "/metrics/", "/Metrics", "/api/v1", "/../etc/passwd", "/%00", "//"] {
        assert_eq!(worker.get(path).status, 404, "{path}")
    }
    assert_eq!(worker.get("/metrics?name=x").status, 200, "Prometheus may be told parameters")
}

/// The names and meanings an endpoint picker of a Kubernetes gateway reads by default.
#[test]
fn endpoint_pickers_find_vllms_names_with_vllms_meaning() {
    let mut worker = Worker::start(Config { vllm_aliases: true, ..manual_config() });
    let mut running = [at(2_000), at(2_010)].map(|time| worker.running(worker.chat, time));
    let mut waiting = worker.arrive(worker.batch, at(2_020));
    worker.rec.enqueue(&mut waiting, at(2_021));
    for (n, req) in running.iter_mut().enumerate() {
        worker.step(req, at(2_100 + 10 * n as u64), at(2_110 + 10 * n as u64))
    }
    worker.rec.kv(stepscope::Pool::KV, 30, 10, 120, 470);
    worker.scope.advance(at(3_000));
    let text = worker.text();
    for (name, labels, wanted) in [
        ("vllm:num_requests_waiting", &["model_name=\"test\""][..], 1.0),
        ("vllm:num_requests_running", &[], 2.0),
        ("vllm:kv_cache_usage_perc", &[], 0.25),
        ("vllm:cache_config_info", &["block_size=\"16\"", "num_gpu_blocks=\"120\""], 1.0),
        ("vllm:time_to_first_token_seconds_count", &[], 2.0),
        ("vllm:generation_tokens_total", &[], 2.0),
        ("vllm:prompt_tokens_total", &[], 232.0),
        ("vllm:prefix_cache_hits_total", &[], 32.0),
        ("vllm:request_success_total", &["finished_reason=\"abort\""], 0.0),
    ] {
        assert_eq!(value(&text, name, labels), Some(wanted), "{name}")
    }
    let off = Worker::start(manual_config()).text();
    assert!(!off.contains("vllm:"))
}

/// Numbers that only a scrape can know.
#[test]
fn a_scrape_reports_the_time_of_those_before_it() {
    let worker = Worker::start(manual_config());
    let scrapes = |text: String| value(&text, "llm_scrape_seconds_count", &[]);
    assert_eq!(scrapes(worker.text()), Some(0.0));
    assert_eq!(scrapes(worker.text()), Some(1.0));
    let text = worker.text();
    let took = value(&text, "llm_scrape_seconds_sum", &[]).unwrap();
    assert!(took > 0.0 && took < 10.0, "{took} s for two scrapes")
}

fn now() -> f64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
}

#[test]
fn the_process_started_before_now_and_not_long_ago() {
    let start = value(&Worker::start(manual_config()).text(), "process_start_time_seconds", &[]);
    let age = now() - start.expect("Linux tells");
    // The kernel rounds the boot time to seconds.
    assert!((-2.0..600.0).contains(&age), "{age} s")
}

#[test]
fn tokens_per_second_is_right_under_load_and_zero_after_ten_idle_seconds() {
    let mut worker = Worker::start(manual_config());
    let rate = |worker: &Worker| value(&worker.text(), "llm_tokens_per_second", &[]).unwrap();
    assert_eq!(rate(&worker), 0.0);
    // Six tokens per second for 20 s, seen twice a second.
    for half in 0..40 {
        let from = START_MS + half * 500;
        worker.answer(worker.chat, at(from), 40);
        worker.scope.advance(at(from + 500))
    }
    assert_eq!(rate(&worker), 6.0);
    worker.scope.advance(at(26_000));
    assert_eq!(rate(&worker), 3.0);
    worker.scope.advance(at(31_000));
    assert_eq!(rate(&worker), 0.0);
    worker.scope.advance(at(3_600_000));
    assert_eq!(rate(&worker), 0.0)
}

#[test]
fn gauges_follow_the_load_up_and_down_to_idle() {
    let mut worker = Worker::start(manual_config());
    let gauges = |worker: &Worker| {
        let text = worker.text();
        [
            "llm_requests_in_flight",
            "llm_requests_running",
            "llm_batch_size",
            "llm_queue_depth",
            "llm_kv_cache_utilization",
        ]
        .map(|name| value(&text, name, &capacity(name)))
    };
    assert_eq!(gauges(&worker), [Some(0.0), Some(0.0), Some(0.0), Some(0.0), None]);
    let mut req = worker.running(worker.chat, at(2_000));
    let mut queued = worker.arrive(worker.chat, at(2_000));
    worker.rec.enqueue(&mut queued, at(2_001));
    worker.step(&mut req, at(2_010), at(2_050));
    worker.rec.kv(stepscope::Pool::KV, 40, 10, 80, 640);
    assert_eq!(gauges(&worker), [Some(2.0), Some(1.0), Some(1.0), Some(1.0), Some(0.5)]);
    worker.rec.finish(req, at(2_060), stepscope::Outcome::Stop);
    worker.rec.finish(queued, at(2_060), stepscope::Outcome::Aborted);
    worker.rec.kv(stepscope::Pool::KV, 0, 50, 80, 0);
    assert_eq!(gauges(&worker), [Some(0.0); 5]);
    let text = worker.text();
    for (state, blocks) in [("referenced", 0.0), ("cached", 50.0), ("free", 30.0)] {
        let state = format!("state=\"{state}\"");
        assert_eq!(value(&text, "llm_kv_blocks", &[&state]), Some(blocks))
    }
}

fn capacity(name: &str) -> Vec<&'static str> {
    match name {
        "llm_queue_depth" => vec!["reason=\"capacity\"", "priority=\"default\""],
        _ => vec![],
    }
}

#[test]
fn the_age_of_the_last_step_grows_until_the_next() {
    let mut worker = Worker::start(manual_config());
    let age = |worker: &Worker| value(&worker.text(), "llm_last_step_age_seconds", &[]);
    assert_eq!(age(&worker), None);
    worker.scope.mark_ready();
    worker.scope.advance(at(START_MS + 4_000));
    assert_eq!(age(&worker), Some(4.0), "before a step it counts from ready");
    let mut req = worker.running(worker.chat, at(6_000));
    worker.step(&mut req, at(6_010), at(6_500));
    worker.scope.advance(at(8_000));
    assert_eq!(age(&worker), Some(1.5))
}

#[test]
fn the_lag_is_small_while_the_thread_drains() {
    let worker = Worker::start(live_config());
    std::thread::sleep(std::time::Duration::from_millis(300));
    let lag = value(&worker.text(), "llm_aggregator_lag_seconds", &[]).unwrap();
    // It drains every 100 ms at rest; a busy machine may be late, a stopped thread would be later.
    assert!((0.0..5.0).contains(&lag), "{lag} s")
}
