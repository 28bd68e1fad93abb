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
use stepscope::{ErrorType, Outcome, Pool, Preempt, Reading, Tally, Time, Wait};

/// Far above the half minute it takes: two shared cores may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// A worker whose GPU is watched.
fn worker() -> Worker {
    let mut worker = Worker::start(live_config());
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
    fn start(derived: &Derived) -> Prometheus {
        let folder = derived.0.path().join("prometheus");
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let program = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={addr}"))
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
        let is_number = |one: &&Value| one["value"][1].as_str().is_some_and(|v| v != "NaN");
        (result.len(), result.iter().filter(is_number).count())
    }
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
    let mut worker = worker();
    let target = worker.addr().to_string();
    let derived = Derived::with(&["--times", "ci", "--target", &target]);
    let prometheus = Prometheus::start(&derived);
    let of_panels: Vec<String> = dashboard::queries(&dashboard::dashboard(&derived))
        .iter()
        .map(|query| query.replace("$__rate_interval", "5s"))
        .map(|query| query.replace("$model", ".*").replace("$worker", ".*"))
        .collect();
    let of_pages: Vec<String> = playbook::queries(&derived.read("playbook.md"))
        .into_iter()
        .filter(|query| !may_be_empty(query))
        .collect();
    assert!(of_panels.len() == 53 && of_pages.len() > 30, "{}", of_pages.len());
    let mut waiting: Vec<&String> = of_panels.iter().chain(&of_pages).collect();
    wait_for("data in every query", PATIENCE, || {
        serve(&mut worker);
        waiting.retain(|query| prometheus.ask(query).1 == 0);
        println!("without data: {waiting:#?}");
        waiting.is_empty().then_some(())
    });
    // And the server takes the rest.
    for query in playbook::queries(&derived.read("playbook.md")) {
        prometheus.ask(&query);
    }
}
