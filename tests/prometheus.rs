//! A real Prometheus scrapes a live worker, without and with native histograms.
#![cfg(feature = "export")]
#![allow(missing_docs)]

mod common;

use common::http::get_http10;
use common::traffic::{Worker, live_config};
use common::{Running, TempDir, tool, wait_for};
use serde_json::Value;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use stepscope::Config;

/// Far above the few seconds it takes: two shared cores may be busy.
const PATIENCE: Duration = Duration::from_secs(25);

struct Prometheus {
    addr: SocketAddr,
    log: PathBuf,
    // In this order: the program ends before its folder goes.
    _program: Running,
    _dir: TempDir,
}

impl Prometheus {
    /// Scrapes this worker every second.
    fn scraping(worker: &Worker, features: &str) -> Prometheus {
        let dir = TempDir::new("prometheus");
        let config = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs:\n\
             - job_name: llm\n\
             \x20 static_configs: [{{targets: ['{}']}}]\n",
            worker.addr()
        );
        let log = dir.path().join("log");
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let (mut addr, mut program) = start(&dir, &log, features);
        wait_for("Prometheus is ready", PATIENCE, || {
            if program.0.try_wait().unwrap().is_some() {
                // Somebody took the port in between.
                (addr, program) = start(&dir, &log, features)
            }
            get_http10(addr, "/-/ready").filter(|answer| answer.status == 200)
        });
        Prometheus { addr, log, _program: program, _dir: dir }
    }

    /// `data` of an API answer.
    fn api(&self, path: &str, query: &str) -> Value {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = get_http10(self.addr, &format!("/api/v1/{path}{escaped}")).unwrap();
        let mut json = answer.json();
        assert_eq!(json["status"], "success", "{query}: {json}");
        json["data"].take()
    }

    /// The one result of an instant query, if there is one: its labels and its value.
    fn query(&self, query: &str) -> Option<(Value, f64)> {
        let mut data = self.api("query?query=", query);
        let results = data["result"].as_array_mut().unwrap();
        assert!(results.len() <= 1, "{query}: {results:?}");
        let result = results.first_mut()?;
        let value = result["value"][1].as_str()?.parse().unwrap();
        Some((result["metric"].take(), value))
    }

    fn value(&self, query: &str) -> Option<f64> {
        self.query(query).map(|(_, value)| value)
    }

    /// Keeps the worker busy until the query has a result that this accepts.
    fn wait_for(&self, worker: &mut Worker, query: &str, good: impl Fn(f64) -> bool) {
        wait_for(&format!("{query}; now {:?}", self.value(query)), PATIENCE, || {
            serve(worker);
            self.value(query).filter(|value| good(*value))
        });
    }

    fn target(&self) -> Value {
        let targets = self.api("targets", "");
        targets["activeTargets"][0].clone()
    }

    /// Warnings and errors it logged: samples that are duplicates, out of order or cannot be read.
    fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        assert!(log.contains("level=info"), "the log has another form: {log}");
        let bad = |line: &&str| line.contains("level=warn") || line.contains("level=error");
        log.lines().filter(bad).map(String::from).collect()
    }
}

/// A server of its own in this folder, at a port that was free a moment ago.
fn start(dir: &TempDir, log: &Path, features: &str) -> (SocketAddr, Running) {
    let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let program = Command::new("prometheus")
        .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={addr}"))
        .arg(format!("--enable-feature={features}"))
        .stdout(Stdio::null())
        .stderr(File::create(log).unwrap())
        .spawn()
        .unwrap();
    (addr, Running(program))
}

/// Twenty requests of 40 ms to the first token, and one that waits 5.5 s for it.
fn serve(worker: &mut Worker) {
    for _ in 0..20 {
        worker.answer_now(40)
    }
    worker.answer_now(5_500)
}

#[test]
fn prometheus_stores_every_sample_and_its_exemplars() {
    if !tool("prometheus", &["--version"]) {
        return;
    }
    let mut worker = Worker::start(live_config());
    serve(&mut worker);
    let prometheus = Prometheus::scraping(&worker, "exemplar-storage");
    prometheus.wait_for(&mut worker, "up{job=\"llm\"}", |up| up == 1.0);
    // The alerts select this bound by its text, in the form that Prometheus 3 would make of it.
    let bucket = "llm_ttft_seconds_bucket{endpoint=\"chat\",le=\"5.0\"}";
    prometheus.wait_for(&mut worker, bucket, |n| n >= 20.0);
    let median = "histogram_quantile(0.5, sum by (le) (rate(llm_ttft_seconds_bucket[10s])))";
    prometheus.wait_for(&mut worker, median, |s| (0.03..=0.05).contains(&s));
    let slow = "sum(rate(llm_ttft_seconds_bucket{le=\"+Inf\"}[10s])) \
                - sum(rate(llm_ttft_seconds_bucket{le=\"5.0\"}[10s]))";
    prometheus.wait_for(&mut worker, slow, |n| n > 0.0);
    // Nothing is missing: as many samples as there are lines.
    let text = worker.openmetrics().text();
    let lines = text.lines().filter(|line| !line.starts_with('#')).count() as f64;
    prometheus.wait_for(&mut worker, "scrape_samples_post_metric_relabeling", |n| n == lines);
    let exemplars = wait_for("exemplars", PATIENCE, || {
        serve(&mut worker);
        let query = "query_exemplars?start=0&end=4102444800&query=";
        let data = prometheus.api(query, "llm_ttft_seconds_bucket");
        data.as_array().filter(|found| !found.is_empty()).cloned()
    });
    let exemplar = &exemplars[0]["exemplars"][0];
    assert!(exemplar["labels"]["request_id"].is_string(), "{exemplar}");
    assert!(exemplar["value"].as_str().unwrap().parse::<f64>().unwrap() > 5.0, "{exemplar}");
    let metadata = prometheus.api("metadata?metric=llm_tbt_seconds", "");
    assert_eq!(metadata["llm_tbt_seconds"][0]["type"], "histogram");
    assert_eq!(metadata["llm_tbt_seconds"][0]["unit"], "seconds");
    let target = prometheus.target();
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()));
    assert_eq!(prometheus.complaints(), [""; 0])
}

/// The trap, and why `native_histograms` is off by default: a 2.42 that takes the native histogram
/// throws away the classic buckets of the same target. Every alert that reads `_bucket` would fall
/// silent, and nothing would say so. Later servers keep both when they are told to.
#[test]
fn native_histograms_arrive_and_the_classic_buckets_vanish_on_2_42() {
    if !tool("prometheus", &["--version"]) {
        return;
    }
    let hostile = "a \"b\" \\c\nd 🚀";
    let config = Config { native_histograms: true, model: hostile.into(), ..live_config() };
    let mut worker = Worker::start(config);
    serve(&mut worker);
    let prometheus = Prometheus::scraping(&worker, "exemplar-storage,native-histograms");
    prometheus.wait_for(&mut worker, "up{job=\"llm\"}", |up| up == 1.0);
    let count = "histogram_count(llm_ttft_seconds{endpoint=\"chat\"})";
    prometheus.wait_for(&mut worker, count, |n| n >= 21.0);
    let median = "histogram_quantile(0.5, sum(rate(llm_ttft_seconds[10s])))";
    // One bucket is at most 9 % wide.
    prometheus.wait_for(&mut worker, median, |s| (0.036..0.044).contains(&s));
    // Protobuf carries numbers and names as the text does, whatever the names are.
    let text = worker.text();
    for (name, query) in [
        ("llm_generated_tokens_total", "llm_generated_tokens_total"),
        ("llm_queue_seconds_sum", "sum(histogram_sum(llm_queue_seconds))"),
        ("llm_kv_cache_utilization", "llm_kv_cache_utilization"),
    ] {
        let values = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        let wanted: f64 =
            values.map(|v| v.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum();
        wait_for(query, PATIENCE, || {
            prometheus.value(query).filter(|value| (value / wanted - 1.0).abs() < 1e-9)
        });
    }
    let (labels, _) = prometheus.query("llm_worker_info").unwrap();
    assert_eq!(labels["model"], hostile);
    assert_eq!(prometheus.target()["lastError"], "");
    assert_eq!(prometheus.complaints(), [""; 0]);
    let classic = prometheus.api("query?query=", "llm_ttft_seconds_bucket");
    assert_eq!(classic["result"], serde_json::json!([]))
}
