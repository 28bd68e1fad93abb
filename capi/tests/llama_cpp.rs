//! A real engine, llama.cpp behind the C++ header, is served with, checked and measured:
//! `examples/llama-cpp/run.sh` on its tiny model.
#![allow(missing_docs)]

mod common;

use common::{TempDir, library, root, tool};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What the one run left, for all tests of this file.
struct Ran {
    /// The last line: the whole result.
    result: Value,
    /// The engine's own record of the served run, line by line.
    truth: Vec<Value>,
}

impl Ran {
    fn number(&self, name: &str) -> u64 {
        self.result[name].as_u64().unwrap_or_else(|| panic!("no number {name}: {}", self.result))
    }

    fn lines<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.truth.iter().filter(move |line| line["kind"] == kind)
    }
}

fn example() -> PathBuf {
    root().parent().unwrap().join("examples/llama-cpp")
}

/// Are there llama.cpp's libraries and the Python packages? Says so and skips where they are missing;
/// `STEPSCOPE_REQUIRE_TOOLS=1` fetches them, as no test should fetch 60 MB unasked.
fn fetched() -> bool {
    if !["npm", "git", "python3", "c++"].into_iter().all(tool) {
        return false;
    }
    let required = std::env::var("STEPSCOPE_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
    let folder = std::env::var_os("STEPSCOPE_LLAMA_DIR").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| root().parent().unwrap().join("target/llama-cpp"));
    if !required && !folder.join("lib").exists() {
        println!("skipped: llama.cpp is missing: examples/llama-cpp/fetch.sh fetches it");
        return false;
    }
    let out = Command::new(example().join("fetch.sh")).output().unwrap();
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr);
        assert!(!required, "{why}, and STEPSCOPE_REQUIRE_TOOLS=1");
        println!("skipped: {why}")
    }
    out.status.success()
}

fn run() -> Ran {
    let folder = TempDir::new("llama-cpp");
    let mut script = Command::new(example().join("run.sh"));
    script.args(["--pairs", "4", "--out"]).arg(folder.path()).env("LIBSTEPSCOPE", library());
    // Where the runs got stuck is in what they print.
    let out = script.stderr(Stdio::inherit()).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    println!("{said}");
    assert!(out.status.success(), "run.sh: {}", out.status);
    let result: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let record = std::fs::read_to_string(result["truth"].as_str().unwrap()).unwrap();
    let truth = record.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Ran { result, truth }
}

/// The run, made by the test that comes first; `None` where it cannot be made.
fn ran() -> Option<&'static Ran> {
    static RAN: OnceLock<Option<Ran>> = OnceLock::new();
    RAN.get_or_init(|| fetched().then(run)).as_ref()
}

#[test]
fn every_number_that_a_real_engine_reports_is_what_it_knows_itself() {
    let Some(ran) = ran() else { return };
    assert_eq!(ran.result["ok"], true);
    assert_eq!(ran.result["wrong"], serde_json::json!([]));
    assert!(ran.number("families_checked") >= 40, "{}", ran.result);
    // The second check was made while requests were running and waiting.
    assert!(ran.number("in_flight_midway") > 0, "{}", ran.result);
}

#[test]
fn the_checker_finds_out_that_the_recorder_is_off() {
    let Some(ran) = ran() else { return };
    assert!(ran.number("wrong_without_recorder") >= 20, "{}", ran.result)
}

#[test]
fn its_record_tells_of_every_request_and_step() {
    let Some(ran) = ran() else { return };
    assert_eq!(ran.lines("request").count() as u64, ran.number("requests"));
    assert_eq!(ran.lines("step").count() as u64, ran.number("steps"));
    let tokens = ran.lines("request").map(|line| line["tok"].as_array().unwrap().len() as u64);
    assert_eq!(tokens.sum::<u64>(), ran.number("tokens"));
    assert!(ran.number("tokens") > 1000, "{}", ran.result);
    let mut mixed = 0;
    for step in ran.lines("step") {
        assert!(step["begin"].as_u64() < step["end"].as_u64(), "{step}");
        assert!(step["kv_referenced"].as_u64() <= step["kv_usable"].as_u64(), "{step}");
        mixed += u64::from(step["phase"] == "mixed")
    }
    assert!(mixed > 100, "prefill and decode share a batch: {mixed}");
    let many = ran.lines("step").filter(|step| step["sequences"].as_u64() >= Some(4));
    assert!(many.count() > 100, "sequences share a batch")
}

#[test]
fn its_requests_end_in_every_way_and_its_kv_cache_runs_full() {
    let Some(ran) = ran() else { return };
    let mut ended = BTreeMap::<&str, u64>::new();
    for request in ran.lines("request") {
        *ended.entry(request["outcome"].as_str().unwrap()).or_default() += 1
    }
    for outcome in ["stop", "length", "aborted"] {
        assert!(ended.get(outcome).is_some_and(|n| *n > 0), "{outcome}: {ended:?}");
    }
    assert!(ran.number("kv_full") > 0, "{}", ran.result);
    let evicted = |line: &&Value| !line["evict"].as_array().unwrap().is_empty();
    assert!(ran.lines("request").any(|line| evicted(&line)));
    // Who was evicted came back, was computed again, and ended like others do.
    let came_back = ran.lines("request").filter(evicted).filter(|line| {
        line["recomputed"].as_u64() > Some(0)
            && ["stop", "length"].map(Some).contains(&line["outcome"].as_str())
    });
    assert!(came_back.count() > 0)
}

#[test]
fn metrics_are_served_while_it_serves() {
    let Some(ran) = ran() else { return };
    assert!(ran.number("scrapes") >= 3, "{}", ran.result);
    assert_eq!(ran.result["kv_cells"], 1024.0);
    let most = |name: &str| ran.result["most"][name].as_f64().unwrap();
    assert!(most("llm_requests_running") >= 2.0 && most("llm_requests_running") <= 8.0);
    assert!(most("llm_queue_depth") >= 1.0);
    assert!(most("kv referenced") > 200.0 && most("kv referenced") <= 1024.0)
}

/// Reported, and no more: no limit would hold on a machine that does other things too.
#[test]
fn what_recording_costs_is_measured_and_told_with_its_spread() {
    let Some(ran) = ran() else { return };
    assert_eq!(ran.number("pairs"), 4);
    for name in ["tokens_per_second_on", "tokens_per_second_off", "best_ratio"] {
        assert!(ran.result[name].as_f64().unwrap() > 0.0, "{}", ran.result)
    }
    for name in ["ratio", "cpu_ratio"] {
        let [min, low, median, high, max] = ["min", "low", "median", "high", "max"]
            .map(|part| ran.result[name][part].as_f64().unwrap());
        assert!(0.0 < min && min <= low && low <= median && median <= high && high <= max)
    }
}
