//! Every panel and every page has something to show: their queries, asked of a real Prometheus that
//! scrapes a worker with all kinds of traffic.

use crate::common::http::get_http10;
use crate::common::traffic::{Device, Worker, ago, later, live_config};
use crate::common::{Running, tool, wait_for};
use crate::{Derived, dashboard, playbook};
use serde_json::Value;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;
use stepscope::{Config, ErrorType, Outcome, Pool, Preempt, Reading, Tally, Time, Wait};

/// Far above the half minute it takes: two shared cores may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A worker whose GPU is watched.
fn worker(config: Config) -> Worker {
    let mut worker = Worker::start(config);
    worker.rec.set_lane(Device { stamped: false });
    let device = worker.scope.device("0");
    for (reading, value) in [
        (Reading::Utilization, 0.9),
        (Reading::MemoryUsed, 75e9),
        (Reading::MemoryTotal, 80e9),
        (Reading::MemoryPreallocated, 70e9),
        (Reading::Temperature, 85.0),
        (Reading::Power, 600.0),
    ] {
        device.set(reading, value)
    }
    device.xid(Tally::XidFatal, 79);
    for tally in [Tally::EccUncorrected, Tally::AllocFailures, Tally::ThrottleThermal] {
        device.add(tally, 0)
    }
    worker.scope.mark_ready();
    worker
}

/// A little of everything: answers, a preemption, a failure, waiting requests, blocks.
fn serve(worker: &mut Worker) {
    for _ in 0..5 {
        worker.answer_now(40)
    }
    let from = ago(400);
    let mut unlucky = worker.running(worker.chat, from);
    worker.step(&mut unlucky, later(from, 20), later(from, 30));
    worker.rec.preempt(&mut unlucky, later(from, 40), Preempt::Memory);
    worker.rec.schedule(&mut unlucky, later(from, 60), 0, 0);
    worker.step(&mut unlucky, later(from, 70), later(from, 80));
    worker.rec.finish(unlucky, later(from, 90), Outcome::Failed(ErrorType::Oom));
    worker.rec.queue(Wait::Capacity, worker.chat.priority(), 7);
    worker.rec.kv(Pool::KV, 90, 5, 100, 1_300);
    assert!(Time::now().as_nanos() > from.as_nanos())
}

struct Prometheus {
    addr: SocketAddr,
    _program: Running,
}

impl Prometheus {
    /// Reads the derived configuration, in the folder where it lies.
    fn start(derived: &Derived, features: &str) -> Prometheus {
        let folder = derived.0.path().join("prometheus");
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let program = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={addr}"))
            .arg(format!("--enable-feature={features}"))
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut program = Running(program);
        wait_for("Prometheus is ready", PATIENCE, || {
            assert_eq!(program.0.try_wait().unwrap(), None, "it ended: {}", folder.display());
            get_http10(addr, "/-/ready").filter(|answer| answer.status == 200)
        });
        Prometheus { addr, _program: program }
    }

    /// How many series a query has, and how many of them a number; fails if it is refused.
    fn ask(&self, query: &str) -> (usize, usize) {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = get_http10(self.addr, &format!("/api/v1/query?query={escaped}")).unwrap();
        let json = answer.json();
        assert_eq!(json["status"], "success", "{query}: {json}");
        let result = json["data"]["result"].as_array().unwrap();
        let is_number = |one: &&Value| {
            // A native histogram comes as one.
            one["value"][1].as_str().is_some_and(|v| v != "NaN") || one["histogram"].is_array()
        };
        (result.len(), result.iter().filter(is_number).count())
    }

    /// Keeps the worker busy until each of these had data once.
    fn wait_for_data(&self, worker: &mut Worker, mut queries: Vec<&String>) {
        wait_for("data in every query", PATIENCE, || {
            serve(worker);
            queries.retain(|query| self.ask(query).1 == 0);
            println!("without data: {queries:#?}");
            queries.is_empty().then_some(())
        });
    }
}

/// The queries of the panels, with the variables filled in.
fn panels(derived: &Derived) -> Vec<String> {
    let queries = dashboard::queries(&dashboard::dashboard(derived)).into_iter();
    let queries = queries.map(|query| query.replace("$__rate_interval", "5s"));
    queries.map(|query| query.replace("$model", ".*").replace("$worker", ".*")).collect()
}

/// May such a query rightly find nothing?
fn may_be_empty(query: &str) -> bool {
    // Filters; a day ago there was no server; this server does not scrape itself.
    [" > ", " == ", " unless ", " offset ", "prometheus_"].iter().any(|part| query.contains(part))
}

#[test]
fn every_query_has_data_on_a_live_server() {
    if !tool("prometheus", &["--version"]) {
        return;
    }
    let mut worker = worker(live_config());
    let target = worker.addr().to_string();
    let derived = Derived::with(&["--times", "ci", "--target", &target]);
    let prometheus = Prometheus::start(&derived, "exemplar-storage");
    let of_panels = panels(&derived);
    let of_pages: Vec<String> = playbook::queries(&derived.read("playbook.md"))
        .into_iter()
        .filter(|query| !may_be_empty(query))
        .collect();
    assert!(of_panels.len() == 53 && of_pages.len() > 30, "{}", of_pages.len());
    prometheus.wait_for_data(&mut worker, of_panels.iter().chain(&of_pages).collect());
    // And the server takes the rest.
    for query in playbook::queries(&derived.read("playbook.md")) {
        prometheus.ask(&query);
    }
}

#[test]
fn native_panels_have_data_where_native_histograms_are_stored() {
    if !tool("prometheus", &["--version"]) {
        return;
    }
    let mut worker = worker(Config { native_histograms: true, ..live_config() });
    let site = ["--times", "ci", "--target", &worker.addr().to_string()];
    let derived = Derived::with(&site);
    let native = Derived::with(&[&site[..], &["--native"]].concat());
    // The server is older than the settings of the native scrape config, and needs none of them.
    let prometheus = Prometheus::start(&derived, "native-histograms");
    let (classic, native) = (panels(&derived), panels(&native));
    let changed: Vec<&String> =
        native.iter().zip(&classic).filter(|(a, b)| a != b).map(|(native, _)| native).collect();
    assert_eq!(changed.len(), 14);
    prometheus.wait_for_data(&mut worker, changed);
    // This is the trap: such a server has no classic buckets left, and rules would read nothing.
    let buckets = classic.iter().find(|query| query.contains("_bucket")).unwrap();
    assert_eq!(prometheus.ask(buckets).1, 0, "{buckets}");
}
