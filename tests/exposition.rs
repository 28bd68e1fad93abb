//! What /metrics says, judged by strangers: promtool, the official Python parsers.
#![allow(missing_docs)]

mod common;

use common::{get, python_parser, request, tool};
use std::io::Write;
use std::process::{Command, Stdio};
use stepscope::{
    Class, Clock, Config, ManualClock, Outcome, Pool, Recorder, Series, Shape, Stepscope, Time,
    Wait,
};

const MS: u64 = 1_000_000;

fn config() -> Config {
    Config {
        model: "test".into(),
        worker_id: "w0".into(),
        listen: "127.0.0.1:0".parse().ok(),
        kv_block_tokens: Some(16),
        clock: Clock::Manual(ManualClock::new(Time::from_nanos(1_000 * MS))),
        ..Config::default()
    }
}

/// One request with three tokens, one of them slow.
fn live(rec: &mut Recorder, series: Series, id: u64, at_ms: u64) {
    let time = |ms: u64| Time::from_nanos((at_ms + ms) * MS);
    let mut req = rec.arrive(series, id, time(0));
    let mut stream = req.stream();
    rec.enqueue(&mut req, time(1));
    rec.schedule(&mut req, time(2), 16, 0);
    rec.prefill(&mut req, 100);
    for (begin, end) in [(2, 50), (50, 70), (70, 200)] {
        let shape = Shape { prefills: 0, prefill_tokens: 0, decodes: 1 };
        let open = rec.begin_step(time(begin), shape);
        let step = rec.end_step(open, time(end));
        rec.tokens(&step, [(&mut req, 1)]);
        rec.emitted(&mut stream, time(end));
        rec.kv(Pool::KV, 9, 3, 100, 130);
    }
    rec.queue(Wait::Capacity, series.priority(), 0);
    rec.finish(req, time(201), Outcome::Stop)
}

fn scope_with_traffic(config: Config) -> Stepscope {
    let scope = Stepscope::start(config).unwrap();
    let chat = scope.series(Class::endpoint("chat"));
    let batch = scope.series(Class::endpoint("completions").priority("batch"));
    let mut rec = scope.recorder("engine");
    for id in 0..20 {
        live(&mut rec, if id % 3 == 0 { batch } else { chat }, id, 1_000 + id * 300)
    }
    scope.advance(Time::from_nanos(9_000 * MS));
    scope
}

fn metrics(scope: &Stepscope, accept: &str) -> common::Answer {
    get(scope.local_addr().unwrap(), "/metrics", &[&format!("Accept: {accept}")])
}

fn run_on(program: &str, args: &[&str], input: &[u8]) -> (bool, String) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn smoke() {
    let scope = scope_with_traffic(config());
    let answer = metrics(&scope, "*/*");
    println!("{}", answer.text());
    assert_eq!(answer.status, 200);
    let _ = (request, tool, python_parser, run_on);
}
