//! From start to end: what does not start says why, and what ends leaves nothing behind.
#![cfg(feature = "export")]
#![allow(missing_docs)]

mod common;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::routing::get;
use common::http::{self, connect};
use common::process::{alone, open_files, wait_for_threads};
use common::samples::value;
use common::traffic::{Worker, ago, live_config};
use common::wait_for;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};
use stepscope::{Class, Config, Outcome, StartError, Stepscope};
use tower::ServiceExt;

fn listening_at(addr: &str) -> Config {
    Config { listen: addr.parse().ok(), ..live_config() }
}

#[test]
fn a_busy_port_is_an_error_that_names_the_setting() {
    let _alone = alone();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = holder.local_addr().unwrap();
    let error = Stepscope::start(listening_at(&addr.to_string())).unwrap_err();
    assert!(matches!(error, StartError::Listen { addr: asked, .. } if asked == addr));
    let text = error.to_string();
    for part in [&addr.to_string(), "Config::listen", "STEPSCOPE_LISTEN", "port 0"] {
        assert!(text.contains(part), "{part} is missing in: {text}")
    }
}

/// Many engines start from async code, where some things must not be dropped.
#[test]
fn it_starts_refuses_and_ends_inside_an_async_engine_too() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let worker = Worker::start(live_config());
        let busy = listening_at(&worker.addr().to_string());
        assert!(matches!(Stepscope::start(busy), Err(StartError::Listen { .. })));
        assert!(worker.text().starts_with("# HELP"));
        worker.scope.shutdown(Duration::ZERO)
    })
}

#[test]
fn an_address_of_another_machine_is_an_error_that_names_usable_ones() {
    let _alone = alone();
    // TEST-NET-1, an address that is nobody's.
    let error = Stepscope::start(listening_at("192.0.2.1:0")).unwrap_err().to_string();
    assert!(
        error.contains("no interface of this machine") && error.contains("127.0.0.1"),
        "{error}"
    )
}

#[test]
fn a_bad_setting_starts_nothing_and_says_what_to_do() {
    let _alone = alone();
    let before = open_files();
    for (config, advice) in [
        (Config { model: String::new(), ..live_config() }, "name the model"),
        (Config { worker_id: String::new(), ..live_config() }, "name the worker"),
        (Config { series_max: 0, ..live_config() }, "say 1 to 32767"),
        (Config { ring_events: 1, ..live_config() }, "say 16 to 1048576"),
        (Config { label_bytes_max: 7, ..live_config() }, "say 8 to 1024"),
        (Config { kv_block_tokens: Some(0), ..live_config() }, "at least one token"),
        (Config { ttft_objective_ms: 0, ..live_config() }, "at least 1 ms"),
        (Config { tbt_objective_ms: 0, ..live_config() }, "at least 1 ms"),
    ] {
        let error = Stepscope::start(config).unwrap_err();
        assert!(matches!(error, StartError::Config(_)));
        let text = error.to_string();
        assert!(text.starts_with("bad configuration: ") && text.contains(advice), "{text}")
    }
    wait_for_threads(&[]);
    assert_eq!(open_files(), before)
}

#[test]
fn two_scopes_live_in_one_process_on_ports_of_their_own() {
    let _alone = alone();
    let mut first = Worker::start(Config { model: "first".into(), ..live_config() });
    let second = Worker::start(Config { model: "second".into(), ..live_config() });
    assert_ne!(first.addr(), second.addr());
    assert!(first.addr().port() != 0 && second.addr().port() != 0);
    first.answer_now(40);
    for (worker, model, requests) in [(&first, "first", 1.0), (&second, "second", 0.0)] {
        let labels = [format!("model=\"{model}\""), "endpoint=\"chat\"".into()];
        let labels = labels.each_ref().map(|label: &String| &**label);
        let text = worker.text();
        assert_eq!(value(&text, "llm_requests_accepted_total", &labels), Some(requests));
    }
}

#[test]
fn it_listens_on_ipv6_too() {
    let _alone = alone();
    if TcpListener::bind("[::1]:0").is_err() {
        return println!("skipped: this machine has no IPv6");
    }
    let worker = Worker::start(listening_at("[::1]:0"));
    assert!(worker.addr().is_ipv6());
    assert!(worker.text().starts_with("# HELP"))
}

#[test]
fn without_an_address_there_is_no_server() {
    let _alone = alone();
    let scope = Stepscope::start(Config { listen: None, ..live_config() }).unwrap();
    assert_eq!(scope.local_addr(), None);
    wait_for_threads(&["stepscope-agg"])
}

#[test]
fn shutdown_waits_for_one_last_scrape_that_has_everything() {
    let _alone = alone();
    let mut worker = Worker::start(live_config());
    worker.scope.mark_ready();
    let addr = worker.addr();
    worker.text();
    worker.answer_now(40);
    let Worker { scope, rec, .. } = worker;
    drop(rec);
    let begin = Instant::now();
    let ending = std::thread::spawn(move || scope.shutdown(Duration::from_secs(60)));
    wait_for("draining", Duration::from_secs(10), || {
        (http::get(addr, "/readyz", &[]).text() == "draining: it finishes what it has\n")
            .then_some(())
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(!ending.is_finished(), "a probe is no scrape");
    let text = http::get(addr, "/metrics", &[]).text();
    let labels = ["endpoint=\"chat\"", "status=\"stop\""];
    assert_eq!(value(&text, "llm_requests_total", &labels), Some(1.0));
    assert_eq!(value(&text, "llm_ttft_seconds_count", &labels[..1]), Some(1.0));
    ending.join().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(30), "it did not end with the scrape");
    wait_for_threads(&[]);
    assert!(std::net::TcpStream::connect(addr).is_err(), "the port is still open")
}

/// It is larger than what the system buffers, and its reader takes a while.
#[test]
fn the_last_scrape_arrives_whole_however_long_it_is() {
    let _alone = alone();
    let worker = Worker::start(live_config());
    for n in 0..200 {
        worker.scope.series(Class::endpoint(format!("endpoint {n}")));
    }
    let (addr, scope) = (worker.addr(), worker.scope);
    http::get(addr, "/metrics", &[]);
    let mut stream = connect(addr);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let ending = std::thread::spawn(move || scope.shutdown(Duration::from_secs(5)));
    std::thread::sleep(Duration::from_millis(200));
    let mut raw = vec![];
    stream.read_to_end(&mut raw).unwrap();
    let answer = http::parse(&raw);
    assert!(answer.body.len() > 4 << 20, "{} bytes fit into buffers", answer.body.len());
    ending.join().unwrap()
}

#[test]
fn nobody_scraped_so_nobody_is_waited_for() {
    let _alone = alone();
    let worker = Worker::start(live_config());
    worker.get("/health");
    let begin = Instant::now();
    worker.scope.shutdown(Duration::from_secs(60));
    assert!(begin.elapsed() < Duration::from_secs(20))
}

#[test]
fn patience_ends() {
    let _alone = alone();
    let worker = Worker::start(live_config());
    worker.text();
    let begin = Instant::now();
    worker.scope.shutdown(Duration::from_millis(300));
    let took = begin.elapsed();
    assert!((Duration::from_millis(300)..Duration::from_secs(20)).contains(&took), "{took:?}")
}

#[test]
fn twenty_lives_leave_no_thread_and_no_file_behind() {
    let _alone = alone();
    let life = |n: u32| {
        let mut worker = Worker::start(live_config());
        let addr = worker.addr();
        worker.answer_now(40);
        // A connection that is kept open, one that says half a header, and a scrape.
        let kept = connect(addr);
        let mut half = connect(addr);
        half.write_all(b"GET /metrics HTTP/1.1\r\nHo").unwrap();
        worker.text();
        wait_for_threads(&["stepscope-agg", "stepscope-http"]);
        if n.is_multiple_of(2) {
            drop(worker)
        } else {
            worker.scope.shutdown(Duration::ZERO)
        }
        drop((kept, half))
    };
    // The first one may open files that stay, such as those of the name service.
    life(0);
    wait_for_threads(&[]);
    let before = open_files();
    for n in 0..20 {
        life(n)
    }
    wait_for_threads(&[]);
    assert_eq!(open_files(), before)
}

#[test]
fn a_recorder_outlives_its_scope_without_harm() {
    let _alone = alone();
    let worker = Worker::start(live_config());
    let (mut rec, chat) = (worker.rec, worker.chat);
    let req = rec.arrive(chat, 1, ago(10));
    drop(worker.scope);
    for id in 0..20_000 {
        let req = rec.arrive(chat, id, ago(10));
        rec.finish(req, ago(5), Outcome::Aborted)
    }
    rec.finish(req, ago(5), Outcome::Stop)
}

async fn ask(app: &axum::Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = app.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[test]
fn an_engine_mounts_the_routes_in_an_app_of_its_own() {
    let _alone = alone();
    let scope = Stepscope::start(Config { listen: None, ..live_config() }).unwrap();
    let app = axum::Router::new()
        .route("/generate", get(|| async { "tokens" }))
        .nest("/telemetry", scope.router())
        .merge(scope.router());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        assert_eq!(ask(&app, "/generate").await, (StatusCode::OK, "tokens".into()));
        for path in ["/metrics", "/telemetry/metrics"] {
            let (status, text) = ask(&app, path).await;
            assert_eq!(status, StatusCode::OK);
            assert!(text.contains("llm_worker_info{model=\"test\""), "{path}")
        }
        // Nested, the page has no slash behind it.
        let (status, page) = ask(&app, "/telemetry").await;
        assert!(status == StatusCode::OK && page.contains("createElement(\"base\")"));
        assert_eq!(ask(&app, "/telemetry/api/v1/overview").await.0, StatusCode::OK);
        assert_eq!(ask(&app, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        scope.mark_ready();
        assert_eq!(ask(&app, "/telemetry/readyz").await.0, StatusCode::OK)
    })
}

#[test]
fn a_port_is_free_again_at_once() {
    let _alone = alone();
    let addr: SocketAddr = {
        let worker = Worker::start(live_config());
        worker.text();
        worker.addr()
    };
    let again = Worker::start(listening_at(&addr.to_string()));
    assert_eq!(again.addr(), addr);
    assert!(again.text().starts_with("# HELP"))
}
