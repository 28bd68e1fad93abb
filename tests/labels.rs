//! Label values nobody foresaw: they stay valid in every format, bounded in length and in number.
#![cfg(feature = "export")]
#![allow(missing_docs)]

mod common;

use common::python_parser;
use common::samples::{Family, numbers, parsed, parsed_all, value};
use common::traffic::{START_MS, Worker, at, later, manual_config};
use stepscope::{Class, Config, Outcome, RecorderOptions, Stepscope};

const LIMIT: usize = 128;

/// What may stand in a model's name when nobody checks it.
fn hostile() -> Vec<String> {
    let controls: String =
        (0u8..32).map(char::from).chain(['\u{7f}', '\u{85}', '\u{9f}']).collect();
    let mut values: Vec<String> = [
        "a \"quoted\" name, a back\\slash, \\n and one at the end\\",
        " spaces, two\nlines, carriage\rreturn\r\n, NUL\0inside ",
        "\",le=\"5.0\"} 1\n# HELP x\n# TYPE x counter\n# EOF\n{}[]=,;#'`$%",
        "日本語 emoji 🚀 👩‍👩‍👧 e\u{301} \u{feff}bom \u{2028}line \u{202e}right to left",
    ]
    .map(String::from)
    .into();
    values.push(controls);
    // Characters of one to four bytes, so that the limit falls inside some of them.
    for (c, pad) in [("x", ""), ("é", "a"), ("漢", "ab"), ("🚀", "abc"), ("\"", ""), ("\n", "")]
    {
        values.push(format!("{pad}{}", c.repeat(10_000 / c.len())))
    }
    values
}

/// A control character has no place in a label; what is too long ends at a character's end.
fn expected(value: &str) -> String {
    let mut kept = String::new();
    for c in value.chars() {
        let c = if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
        if kept.len() + c.len_utf8() > LIMIT {
            break;
        }
        kept.push(c)
    }
    kept
}

/// A worker that uses this value wherever an engine may.
fn named(value: &str, vllm_aliases: bool) -> Worker {
    let name = || value.to_string();
    let config = Config {
        model: name(),
        worker_id: name(),
        engine: name(),
        engine_version: name(),
        node: name(),
        gpu_id: name(),
        label_bytes_max: LIMIT,
        vllm_aliases,
        ..manual_config()
    };
    let class = Class::endpoint(value).priority(value);
    let mut worker = Worker::serving(config, class.clone(), class);
    worker.rec = worker.scope.recorder_with(RecorderOptions::new(value).gpu_id(value));
    worker.answer(worker.batch, at(START_MS), 40);
    let pool = worker.scope.pool(value);
    worker.rec.kv(pool, 1, 2, 10, 16);
    worker.scope.advance(at(START_MS + 1_000));
    worker
}

#[test]
fn hostile_values_arrive_unharmed_in_both_text_formats() {
    if !python_parser() {
        return;
    }
    let hostile = hostile();
    let workers: Vec<Worker> = hostile.iter().map(|value| named(value, false)).collect();
    let text: Vec<String> = workers.iter().map(Worker::text).collect();
    let open: Vec<String> = workers.iter().map(|worker| worker.openmetrics().text()).collect();
    for (kind, expositions) in [("text", text), ("openmetrics", open)] {
        for (families, hostile) in parsed_all(kind, &expositions).iter().zip(&hostile) {
            numbers(families);
            assert_labels(families, hostile, kind)
        }
    }
}

fn assert_labels(families: &[Family], hostile: &str, kind: &str) {
    let wanted = expected(hostile);
    for (name, labels) in [
        ("llm_worker_info", &["model", "worker_id", "engine", "version"][..]),
        ("llm_ttft_seconds_count", &["model", "endpoint", "priority"]),
        ("llm_requests_total", &["endpoint"]),
        ("llm_queue_seconds_count", &["priority"]),
        ("llm_kv_blocks", &["pool"]),
        ("llm_kv_cache_utilization", &["gpu_id", "pool"]),
        ("llm_last_step_age_seconds", &["gpu_id", "node"]),
    ] {
        let samples = || families.iter().flat_map(|f| &f.samples).filter(|s| s.name == name);
        let all = samples().any(|s| labels.iter().all(|l| s.labels.get(*l) == Some(&wanted)));
        assert!(all, "{kind} {name} has no {labels:?} of {hostile:?}: {:?}", samples().next())
    }
}

#[test]
fn alias_families_carry_the_same_harmless_model() {
    if !python_parser() {
        return;
    }
    let hostile = format!("\"\\\0{}", "漢".repeat(100));
    let worker = named(&hostile, true);
    for (kind, body) in
        [("text", worker.get("/metrics").body), ("openmetrics", worker.openmetrics().body)]
    {
        let families = parsed(kind, &body);
        let samples = families.iter().flat_map(|family| &family.samples);
        let mut models = samples.filter_map(|sample| sample.labels.get("model_name")).peekable();
        assert!(models.peek().is_some() && models.all(|model| *model == expected(&hostile)))
    }
}

#[test]
fn hostile_values_leave_the_json_valid() {
    for hostile in hostile() {
        let worker = named(&hostile, false);
        for path in ["/health", "/api/v1/overview"] {
            let json = worker.get(path).json();
            assert_eq!(json["model"], serde_json::json!(hostile), "{path}")
        }
    }
}

#[test]
fn a_cut_value_is_counted_and_one_that_fits_is_not() {
    let fits = "é".repeat(LIMIT / 2);
    let (fits, cut) = (named(&fits, false).text(), named(&format!("{fits}x"), false).text());
    let counted = |text: &str, family: &str| {
        value(text, "llm_label_overflow_total", &[&format!("metric=\"{family}\"")])
    };
    for (family, cuts) in [
        // Model, worker, engine and its version.
        ("llm_worker_info", 4.0),
        // Once per call: both classes are this one.
        ("llm_requests_total", 2.0),
        ("llm_queue_depth", 2.0),
        ("llm_kv_blocks", 1.0),
        // Device and node, of the configuration and of the recorder.
        ("llm_step_gpu_seconds", 4.0),
    ] {
        assert_eq!(counted(&fits, family), Some(0.0), "{family}");
        assert_eq!(counted(&cut, family), Some(cuts), "{family}")
    }
}

#[test]
fn classes_above_the_limit_share_the_class_other_and_lose_no_request() {
    let config = Config { series_max: 4, listen: None, ..manual_config() };
    let scope = Stepscope::start(Config { listen: "127.0.0.1:0".parse().ok(), ..config }).unwrap();
    let mut rec = scope.recorder("engine");
    for n in 0..10u64 {
        let series = scope.series(Class::endpoint(format!("endpoint {n}")));
        let req = rec.arrive(series, n, at(2_000));
        rec.finish(req, later(at(2_000), n), Outcome::Aborted)
    }
    scope.advance(at(3_000));
    let text = common::http::get(scope.local_addr().unwrap(), "/metrics", &[]).text();
    let aborted = |endpoint: &str| {
        let endpoint = format!("endpoint=\"{endpoint}\"");
        value(&text, "llm_requests_total", &[&endpoint, "status=\"aborted\""])
    };
    // Of four places one is the overflow's own.
    assert_eq!(
        ["endpoint 0", "endpoint 2", "endpoint 3"].map(aborted),
        [Some(1.0), Some(1.0), None]
    );
    assert_eq!(aborted("other"), Some(7.0));
    let folded = value(&text, "llm_label_overflow_total", &["metric=\"llm_requests_total\""]);
    assert_eq!(folded, Some(7.0))
}

#[test]
fn priorities_and_pools_above_eight_become_other_and_are_counted() {
    let mut worker = Worker::start(manual_config());
    for n in 0..12 {
        let priority = worker.scope.priority(&format!("p{n}"));
        worker.rec.queue(stepscope::Wait::Capacity, priority, 1);
        let pool = worker.scope.pool(&format!("pool{n}"));
        worker.rec.kv(pool, n + 1, 0, 20, 0)
    }
    worker.scope.advance(at(2_000));
    let text = worker.text();
    let depth = |priority: &str| {
        let priority = format!("priority=\"{priority}\"");
        value(&text, "llm_queue_depth", &[&priority, "reason=\"capacity\""])
    };
    // `default` and `batch` are there already, and the last place belongs to `other`.
    assert_eq!([depth("p4"), depth("p5"), depth("other")], [Some(1.0), None, Some(1.0)]);
    let referenced = |pool: &str| {
        value(&text, "llm_kv_blocks", &[&format!("pool=\"{pool}\""), "state=\"referenced\""])
    };
    assert_eq!([referenced("pool5"), referenced("pool6")], [Some(6.0), None]);
    assert_eq!(referenced("other"), Some(12.0), "a level is what was told last");
    for (family, folded) in [("llm_queue_depth", 7.0), ("llm_kv_blocks", 6.0)] {
        let metric = format!("metric=\"{family}\"");
        assert_eq!(value(&text, "llm_label_overflow_total", &[&metric]), Some(folded), "{family}")
    }
}

/// `other` is the name of the overflow class: whoever uses it shares that class, in one series.
#[test]
fn an_endpoint_named_other_is_the_overflow_class_and_there_from_the_start() {
    if !python_parser() {
        return;
    }
    let mut worker = Worker::start(manual_config());
    let named = [
        Class::endpoint("other"),
        Class::endpoint("other").priority("other"),
        Class::endpoint("other").priority("batch"),
    ]
    .map(|class| worker.scope.series(class));
    let accepted = |worker: &Worker| {
        value(&worker.text(), "llm_requests_accepted_total", &["endpoint=\"other\""])
    };
    assert_eq!(accepted(&worker), Some(0.0), "its counters exist before its first request");
    for series in named {
        worker.answer(series, at(2_000), 40)
    }
    worker.scope.advance(at(3_000));
    assert_eq!(accepted(&worker), Some(3.0));
    numbers(&parsed("text", &worker.get("/metrics").body));
}
