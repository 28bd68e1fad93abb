//! The whole chain on loopback: a fleet in which everything goes wrong at once, a real Prometheus and a
//! real Alertmanager with the derived files, and a webhook in place of pager, chat and log.
//!
//! Each scenario is a model of its own, so one run proves all: its alert arrives on the right path,
//! nothing else pages, what is healthy or idle stays silent, and all resolves. Times are those of
//! `--times ci`.
#![allow(missing_docs)]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::http::get_http10;
use common::{Running, TempDir, tool, wait_for};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Faults begin and end, in seconds since the fleet's start.
const FAULT: (u64, u64) = (14, 46);
/// What is wrong is announced at most so long after its end: a slow first token is known when it comes.
const NOTICED_S: u64 = 10;
/// The fleet serves on behind that, so that everything resolves.
const RUN_S: u64 = 100;
const START: Duration = Duration::from_secs(30);

/// What must arrive: model, path, alert.
const REQUIRED: [(&str, &str, &str); 8] = [
    ("kv_exhaustion", "/page", "LLMKVCachePressure"),
    ("preemption_storm", "/page", "LLMPreemptionStorm"),
    ("slow_prefill", "/page", "LLMHighTTFT"),
    ("slow_decode", "/page", "LLMHighTBT"),
    ("stalled_gpu", "/page", "LLMEngineStalled"),
    ("error_burst", "/page", "LLMHighErrorRate"),
    ("gpu_fault", "/page", "LLMGPUFault"),
    ("dead", "/chat", "LLMWorkerDown"),
];

/// What may page besides, as a consequence of the same fault and in the same group. A burnt budget is
/// one of every fault that users feel.
const ALLOWED_PAGES: [(&str, &str); 4] = [
    ("preemption_storm", "LLMKVCachePressure"),
    ("preemption_storm", "LLMHighTBT"),
    ("preemption_storm", "LLMHighTTFT"),
    // Those that waited get their first token when it is over.
    ("stalled_gpu", "LLMHighTTFT"),
];
const BURN: &str = "LLMSLOFastBurn";
const FELT: [&str; 6] = [
    "kv_exhaustion",
    "preemption_storm",
    "slow_prefill",
    "slow_decode",
    "stalled_gpu",
    "error_burst",
];

/// One alert in one notification.
#[derive(Clone, Debug, PartialEq)]
struct Notice {
    path: String,
    is_resolved: bool,
    alert: String,
    model: String,
    at_s: f64,
}

/// Takes what Alertmanager sends.
struct Webhook {
    addr: SocketAddr,
    notices: Arc<Mutex<Vec<Notice>>>,
}

impl Webhook {
    fn start() -> Webhook {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let notices = Arc::new(Mutex::new(vec![]));
        let (kept, since) = (notices.clone(), Instant::now());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let notices = kept.clone();
                std::thread::spawn(move || take(stream, &notices, since));
            }
        });
        Webhook { addr, notices }
    }

    fn notices(&self) -> Vec<Notice> {
        self.notices.lock().unwrap().clone()
    }
}

/// Requests on one connection, until its end.
fn take(stream: TcpStream, notices: &Mutex<Vec<Notice>>, since: Instant) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut path, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("POST ") {
                path = rest.split(' ').next().unwrap_or_default().into()
            }
            let lower = line.to_ascii_lowercase();
            if let Some(n) = lower.strip_prefix("content-length:") {
                length = n.trim().parse().unwrap_or(0)
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let at_s = since.elapsed().as_secs_f64();
        let message: Value = serde_json::from_slice(&body).unwrap_or_default();
        for alert in message["alerts"].as_array().into_iter().flatten() {
            let label = |name: &str| alert["labels"][name].as_str().unwrap_or("").to_string();
            notices.lock().unwrap().push(Notice {
                path: path.clone(),
                is_resolved: alert["status"] == "resolved",
                alert: label("alertname"),
                model: label("model"),
                at_s,
            })
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        if reader.get_mut().write_all(answer).is_err() {
            return;
        }
    }
}

/// The fleet, and where its workers listen.
fn start_fleet() -> (Running, Vec<String>) {
    let (from, until) = FAULT;
    let mut fleet = Command::new(env!("CARGO_BIN_EXE_stepscope"))
        .args(["demo", "--fleet", "scenarios", "--device", "sim", "--trace", "azure"])
        .args([
            "--listen",
            "127.0.0.1:0",
            "--json",
            "--duration",
            &RUN_S.to_string(),
            "--inject",
            &format!("{from}..{until}"),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(fleet.stderr.take().unwrap());
    let mut targets = vec![];
    loop {
        let mut line = String::new();
        assert!(said.read_line(&mut line).unwrap() > 0, "the fleet ended: {targets:?}");
        match line.strip_prefix("http://").and_then(|rest| rest.split_once('/')) {
            Some((addr, _)) => targets.push(addr.to_string()),
            None if !targets.is_empty() => break,
            None => {}
        }
    }
    // It goes on talking, and must not wait for a reader.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    (Running(fleet), targets)
}

fn free_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A server that is ready, at a port that was free a moment ago.
fn start_server(
    name: &str,
    mut command: impl FnMut(SocketAddr) -> Command,
    log: &Path,
) -> (Running, SocketAddr) {
    let mut begin = || {
        let addr = free_port();
        let child: Child =
            command(addr).stdout(Stdio::null()).stderr(File::create(log).unwrap()).spawn().unwrap();
        (Running(child), addr)
    };
    let (mut program, mut addr) = begin();
    wait_for(&format!("{name} is ready"), START, || {
        if program.0.try_wait().unwrap().is_some() {
            (program, addr) = begin()
        }
        get_http10(addr, "/-/ready").filter(|answer| answer.status == 200)
    });
    (program, addr)
}

fn derive(folder: &Path, webhook: SocketAddr, alertmanager: SocketAddr, targets: &[String]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stepscope"));
    command.args(["derive", "--times", "ci", "--out"]).arg(folder);
    command.args(["--webhook", &format!("http://{webhook}")]);
    command.args(["--alertmanager", &alertmanager.to_string()]);
    for target in targets {
        command.args(["--target", target]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr))
}

/// `data` of an answer of Prometheus' API.
fn api(prometheus: SocketAddr, path: &str) -> Value {
    let answer = get_http10(prometheus, &format!("/api/v1/{path}")).expect("an answer").json();
    assert_eq!(answer["status"], "success", "{path}: {answer}");
    answer["data"].clone()
}

#[test]
fn every_fault_reaches_the_right_person_and_nothing_else_does() {
    if !tool("prometheus", &["--version"]) || !tool("prometheus-alertmanager", &["--version"]) {
        return;
    }
    let dir = TempDir::new("e2e");
    let webhook = Webhook::start();
    let (fleet, targets) = start_fleet();
    let started = Instant::now();
    assert_eq!(targets.len(), 11);

    // The address of Alertmanager stands in Prometheus' file, so it comes first.
    let folder = dir.path().join("deploy");
    derive(&folder, webhook.addr, free_port(), &targets);
    let config = |file: &str| format!("--config.file={}", folder.join(file).display());
    let (_alertmanager, alertmanager) = start_server(
        "Alertmanager",
        |addr| {
            let mut command = Command::new("prometheus-alertmanager");
            command
                .arg(config("alertmanager/alertmanager.yml"))
                .arg(format!("--storage.path={}", dir.path().join("am").display()))
                .arg(format!("--web.listen-address={addr}"))
                // Empty: else it opens a gossip port on all addresses.
                .arg("--cluster.listen-address=");
            command
        },
        &dir.path().join("alertmanager.log"),
    );
    derive(&folder, webhook.addr, alertmanager, &targets);
    let (_prometheus, prometheus) = start_server(
        "Prometheus",
        |addr| {
            let mut command = Command::new("prometheus");
            command
                .arg(config("prometheus/prometheus.yml"))
                .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
                .arg(format!("--web.listen-address={addr}"))
                .arg("--enable-feature=exemplar-storage");
            command
        },
        &dir.path().join("prometheus.log"),
    );
    let until = |second: u64| {
        let end = Duration::from_secs(second);
        std::thread::sleep(end.saturating_sub(started.elapsed()))
    };
    let setup_s = started.elapsed().as_secs_f64();
    assert!(setup_s < FAULT.0 as f64 - 4.0, "{setup_s} s for the set-up: nothing calm was scraped");

    until(FAULT.0);
    let early: Vec<Notice> = firing(&webhook).into_iter().filter(is_heard).collect();
    assert_eq!(early, [], "nothing is wrong yet");
    until(FAULT.1);
    rules_are_healthy(prometheus);
    every_panel_shows_something(prometheus, &folder);
    until(RUN_S - 2);
    drop(fleet);
    judge(&webhook)
}

/// Alerts on pager and chat.
fn is_heard(notice: &Notice) -> bool {
    notice.path == "/page" || notice.path == "/chat"
}

fn firing(webhook: &Webhook) -> Vec<Notice> {
    webhook.notices().into_iter().filter(|notice| !notice.is_resolved).collect()
}

fn rules_are_healthy(prometheus: SocketAddr) {
    let data = api(prometheus, "rules");
    let groups = data["groups"].as_array().unwrap();
    let rules: Vec<&Value> = groups.iter().flat_map(|g| g["rules"].as_array().unwrap()).collect();
    assert!(rules.len() > 80, "{} rules", rules.len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}")
    }
}

/// In the middle of all faults no panel is empty, with variables filled as a first import does.
fn every_panel_shows_something(prometheus: SocketAddr, folder: &Path) {
    let text = std::fs::read_to_string(folder.join("grafana/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut queries = vec![];
    queries_of(&dashboard["panels"], &mut queries);
    assert!(queries.len() > 40, "{} queries", queries.len());
    for query in queries {
        let filled = query.replace("$__rate_interval", "10s");
        let filled = filled.replace("$model", ".*").replace("$worker", ".*");
        let escaped: String = filled.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let data = api(prometheus, &format!("query?query={escaped}"));
        let results = data["result"].as_array().unwrap();
        let has_number = |result: &Value| result["value"][1].as_str() != Some("NaN");
        assert!(results.iter().any(has_number), "nothing to see: {filled}")
    }
}

fn queries_of(panels: &Value, found: &mut Vec<String>) {
    for panel in panels.as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.extend(target["expr"].as_str().map(String::from))
        }
        queries_of(&panel["panels"], found)
    }
}

fn judge(webhook: &Webhook) {
    let notices = webhook.notices();
    let fired = firing(webhook);
    for notice in &notices {
        if notice.path != "/deadman" {
            println!(
                "{:6.1} s {:6} {:8} {} {}",
                notice.at_s,
                notice.path,
                if notice.is_resolved { "resolved" } else { "firing" },
                notice.model,
                notice.alert
            )
        }
    }
    for (model, path, alert) in REQUIRED {
        let is_it = |n: &&Notice| n.model == model && n.path == path && n.alert == alert;
        let first = fired.iter().find(is_it).map(|n| n.at_s);
        let limit = (FAULT.1 + NOTICED_S) as f64;
        assert!(first.is_some_and(|at| at < limit), "{model}: {alert} on {path} at {first:?} s");
        let resolved = notices.iter().filter(is_it).any(|n| n.is_resolved);
        // A broken GPU stays broken until its process restarts.
        assert_eq!(resolved, model != "gpu_fault", "{model}: {alert} resolved")
    }
    let allowed: BTreeSet<(&str, &str)> = REQUIRED
        .iter()
        .filter(|(_, path, _)| *path == "/page")
        .map(|(model, _, alert)| (*model, *alert))
        .chain(ALLOWED_PAGES)
        .chain(FELT.map(|model| (model, BURN)))
        .collect();
    for page in fired.iter().filter(|notice| notice.path == "/page") {
        assert!(allowed.contains(&(&page.model, &page.alert)), "nobody should wake for {page:?}")
    }
    for calm in ["healthy", "idle"] {
        let heard: Vec<&Notice> = fired.iter().filter(|n| n.model == calm && is_heard(n)).collect();
        assert!(heard.is_empty(), "{calm}: {heard:?}")
    }
    let beats = fired.iter().filter(|n| n.path == "/deadman" && n.alert == "LLMWatchdog").count();
    assert!(beats >= 3, "the dead man's switch beat {beats} times")
}
