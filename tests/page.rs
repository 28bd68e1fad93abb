//! The page at "/", drawn by a real browser.
#![cfg(feature = "export")]
#![allow(missing_docs)]

mod common;

use common::traffic::{Worker, live_config};
use common::{TempDir, tool};
use std::process::Command;
use stepscope::Config;

fn browser() -> bool {
    tool("chromium", &["--version"])
}

/// What the browser made of the page after some seconds of its own, virtual time.
fn drawn(worker: &Worker) -> String {
    let profile = TempDir::new("browser");
    let out = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=6000", "--dump-dom"])
        .arg(format!("http://{}/", worker.addr()))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn ready(config: Config) -> Worker {
    let worker = Worker::start(config);
    worker.scope.mark_ready();
    worker
}

/// The words of the verdict, which stand in #verdict.
fn verdict(dom: &str) -> &str {
    let card = &dom[dom.find("id=\"verdict\"").unwrap()..];
    let words = &card[card.find("id=\"sentence\">").unwrap() + "id=\"sentence\">".len()..];
    &words[..words.find('<').unwrap()]
}

#[test]
fn a_worker_with_traffic_shows_its_verdict_its_tiles_and_its_charts() {
    if !browser() {
        return;
    }
    let mut worker = ready(live_config());
    for _ in 0..30 {
        worker.answer_now(40)
    }
    let dom = drawn(&worker);
    assert!(dom.contains("data-state=\"idle\"") && dom.contains("data-link=\"live\""));
    assert!(dom.contains("data-health=\"healthy\""));
    assert_eq!(verdict(&dom), "Idle: no request is in flight, nothing is wrong.");
    for tile in ["tokens_per_second", "running", "kv_utilization", "requests", "prefix_cache"] {
        assert!(dom.contains(&format!("data-tile=\"{tile}\"")), "no tile {tile}")
    }
    for chart in ["ttft", "tbt", "step_decode", "queue_time", "tokens", "requests", "batch", "kv"] {
        assert!(dom.contains(&format!("data-chart=\"{chart}\"")), "no chart {chart}")
    }
    // Lines or dots were drawn, not only frames.
    assert!(dom.contains("<circle") || dom.contains("class=\"area\""));
    assert!(dom.contains("Nothing was lost."))
}

#[test]
fn a_worker_in_trouble_says_so_in_words_and_marks() {
    if !browser() {
        return;
    }
    let mut worker = ready(live_config());
    let mut req = worker.arrive(worker.chat, stepscope::Time::now());
    worker.rec.enqueue(&mut req, stepscope::Time::now());
    worker.scope.device("0").xid(stepscope::Tally::XidFatal, 79);
    let dom = drawn(&worker);
    assert!(dom.contains("data-state=\"busy\"") && dom.contains("data-health=\"critical\""));
    let broken = "A GPU is broken: a fatal XID error, the last one is 79; it stays so until the process restarts.";
    assert_eq!(verdict(&dom), broken)
}

#[test]
fn an_idle_worker_shows_no_chart_without_data() {
    if !browser() {
        return;
    }
    let worker = ready(live_config());
    let dom = drawn(&worker);
    assert!(dom.contains("data-state=\"idle\"") && dom.contains("data-link=\"live\""));
    for chart in ["ttft", "tbt", "step_decode", "step_mixed", "queue_time", "kv", "requests"] {
        assert!(!dom.contains(&format!("data-chart=\"{chart}\"")), "an empty chart {chart}")
    }
    assert!(dom.contains("data-chart=\"batch\""), "zero is a value");
    assert!(dom.contains("No request has been recorded yet."));
    for tile in ["kv_utilization", "prefix_cache"] {
        assert!(!dom.contains(&format!("data-tile=\"{tile}\"")), "a tile without a value: {tile}")
    }
}

#[test]
fn a_hostile_name_stays_text() {
    if !browser() {
        return;
    }
    let script = "<script>document.title='owned';alert(1)</script>";
    let mut worker = ready(Config {
        model: script.into(),
        worker_id: "\"><img src=x onerror=\"document.title='owned'\">".into(),
        engine: "</dd></dl><h1>owned</h1>".into(),
        ..live_config()
    });
    worker.answer_now(40);
    let dom = drawn(&worker);
    assert!(dom.contains("data-link=\"live\""));
    assert!(dom.contains("&lt;script&gt;document.title='owned';alert(1)&lt;/script&gt;"));
    assert!(!dom.contains(script) && !dom.contains("<img") && !dom.contains("<h1>owned"));
    let title = &dom[dom.find("<title>").unwrap()..dom.find("</title>").unwrap()];
    assert!(title.contains("Healthy, idle · &lt;script&gt;"), "{title}")
}

#[test]
fn the_page_asks_no_other_host_for_anything() {
    let worker = ready(live_config());
    let answer = worker.get("/");
    let page = answer.text();
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"));
    // Namespaces are names, not addresses: nothing is loaded from them.
    let namespace = "http://www.w3.org/2000/svg";
    let addresses = page.replace(namespace, "");
    for outside in ["http://", "https://", "url(", "@import", "src=", "href=\"//"] {
        assert!(!addresses.contains(outside), "{outside}")
    }
    assert!(page.len() < 64 << 10, "{} bytes", page.len())
}
