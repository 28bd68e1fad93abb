//! Runs the binary: every scenario on both traces agrees with /metrics, every lie is noticed, every
//! bad input is refused with advice, and a stranger's checker comes to the same verdict.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn stepscope(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stepscope"));
    command.arg("demo").args(["--listen", "127.0.0.1:0"]).args(args);
    command
}

fn run(args: &[&str]) -> Output {
    stepscope(args).output().expect("the binary starts")
}

/// What the last line of stdout says; stdout has no other line.
fn json(output: &Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stdout.lines().count(), 1, "{stdout}\n{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

/// A run at full speed that must agree.
fn agreeing(args: &[&str]) -> Value {
    let output = run(&[&["--json", "--speed", "max"], args].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}\n{stderr}");
    let said = json(&output);
    assert_eq!(said["ok"], true, "{args:?}\n{stderr}");
    said
}

fn every_scenario_agrees_on(trace: &str, seed: &str) {
    let scenarios = stepscope_sim::Scenario::ALL;
    assert_eq!(scenarios.len(), 11);
    for scenario in scenarios {
        let name = scenario.name();
        let said =
            agreeing(&["--trace", trace, "--scenario", name, "--seed", seed, "--duration", "24"]);
        assert!(said["trace"].as_str().is_some_and(|name| name.contains(trace)));
        assert_eq!(said["scenario"], name);
        let requests = said["requests"].as_u64().expect("a number of requests");
        assert!(requests > 0, "{name}");
    }
}

#[test]
fn every_scenario_agrees_on_the_mooncake_trace() {
    every_scenario_agrees_on("mooncake", "1")
}

#[test]
fn every_scenario_agrees_on_the_azure_trace() {
    every_scenario_agrees_on("azure", "7")
}

/// One worker per scenario, told apart by label `model`; the one that dies comes back at its port.
#[test]
fn a_fleet_of_scenarios_agrees_too() {
    let said = agreeing(&["--fleet", "scenarios", "--duration", "24"]);
    let scenarios = stepscope_sim::Scenario::ALL;
    assert_eq!(said["scenario"], "fleet");
    assert_eq!(said["workers"], scenarios.len());
    let urls: std::collections::BTreeSet<&str> =
        said["urls"].as_array().unwrap().iter().map(|url| url.as_str().unwrap()).collect();
    assert_eq!(urls.len(), scenarios.len(), "a port each");
    let agreement = said["agreement"].as_array().unwrap();
    for scenario in scenarios {
        let label = format!("model=\"{}\"", scenario.name());
        let of_it = agreement.iter().filter(|n| n["metric"].as_str().unwrap().contains(&label));
        assert!(of_it.count() > 50, "{scenario}")
    }
}

#[test]
fn a_run_without_a_request_agrees() {
    let said = agreeing(&["--scenario", "idle", "--inject", "0..20", "--duration", "20"]);
    assert_eq!((&said["requests"], &said["tokens"]), (&0.into(), &0.into()));
    assert!(said["compared"].as_u64() > Some(500));
}

#[test]
fn speculation_workers_profiles_and_aliases_agree_too() {
    for profile in stepscope_sim::Profile::names() {
        let said = agreeing(&[
            "--profile",
            profile,
            "--speculation",
            "--workers",
            "3",
            "--aliases",
            "vllm",
            "--duration",
            "20",
            "--seed",
            "5",
        ]);
        assert_eq!((&said["workers"], &said["profile"]), (&3.into(), &(*profile).into()));
        assert_eq!(said["urls"].as_array().map(Vec::len), Some(3));
        let drafts = metric(&said, "llm_draft_tokens_total{");
        assert!(drafts.iter().any(|entry| entry["engine"].as_f64() > Some(0.0)));
    }
}

#[test]
fn real_time_and_its_multiples_agree() {
    let output = run(&["--json", "--duration", "3"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(json(&output)["speed"], 1.0);
    let output = run(&["--json", "--duration", "30", "--speed", "20"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(json(&output)["speed"], 20.0);
}

#[test]
fn a_seed_repeats_a_run() {
    let said = |seed: &str| {
        let mut said = agreeing(&["--duration", "20", "--seed", seed]);
        // The system chose the port.
        for port in ["url", "urls"] {
            said[port] = Value::Null
        }
        said
    };
    assert_eq!(said("3"), said("3"));
    assert_ne!(said("3"), said("4"));
}

#[test]
fn the_json_object_has_its_fields_and_their_types() {
    let said = agreeing(&["--duration", "15"]);
    for text in ["url", "trace", "profile", "scenario", "speed"] {
        assert!(said[text].is_string(), "{text}: {}", said[text]);
    }
    for number in
        ["requests", "tokens", "compared", "lost_samples", "seed", "workers", "duration_s"]
    {
        assert!(said[number].is_number(), "{number}: {}", said[number]);
    }
    assert_eq!(said["duration_s"], 15.0);
    assert_eq!(said["missing"], Value::Array(vec![]));
    let agreement = said["agreement"].as_array().expect("a list");
    for entry in agreement {
        assert!(entry["metric"].is_string());
        let [engine, reported, error, bound] =
            ["engine", "reported", "error", "bound"].map(|key| entry[key].as_f64().expect(key));
        assert!(error <= bound, "{entry}");
        assert!((engine - reported).abs() <= error + engine.abs() * 1e-15, "{entry}");
    }
    // Buckets that agree are counted and not listed.
    assert!(said["compared"].as_u64() > Some(agreement.len() as u64));
    assert!(metric(&said, "_bucket{").is_empty());
    for wanted in [
        "histogram_quantile(0.99, llm_ttft_seconds)",
        "llm_tbt_seconds_count{",
        "llm_itl_seconds_sum{",
        "llm_requests_total{",
        "llm_kv_blocks{",
        "queue depth by reason{",
        "accepted = ended + in flight + dropped",
    ] {
        assert!(!metric(&said, wanted).is_empty(), "{wanted}");
    }
}

/// Entries whose name contains this.
fn metric<'a>(said: &'a Value, part: &str) -> Vec<&'a Value> {
    let agreement = said["agreement"].as_array().expect("a list");
    let is_named = |entry: &&Value| entry["metric"].as_str().is_some_and(|m| m.contains(part));
    agreement.iter().filter(is_named).collect()
}

#[test]
fn every_lie_is_noticed_and_named() {
    for (lie, metrics) in [
        ("drop", ["llm_tbt_seconds", "llm_itl_seconds", "llm_generated_tokens_total"].as_slice()),
        ("shift", &["llm_step_gpu_seconds", "llm_ttft_seconds", "llm_tbt_seconds"]),
        ("swap", &["llm_requests_total", "llm_request_duration_seconds", "llm_ttft_seconds"]),
        ("mute", &["llm_requests_total", "llm_generated_tokens_total", "llm_ttft_seconds"]),
    ] {
        let output = run(&["--json", "--speed", "max", "--duration", "30", "--sabotage", lie]);
        assert_eq!(output.status.code(), Some(1), "{lie}");
        let said = json(&output);
        assert_eq!(said["ok"], false);
        let agreement = said["agreement"].as_array().expect("a list");
        let wrong: Vec<&str> = agreement
            .iter()
            .filter(|entry| entry["error"].as_f64() > entry["bound"].as_f64())
            .filter_map(|entry| entry["metric"].as_str())
            .collect();
        let is_fitting = metrics.iter().any(|name| wrong.iter().any(|there| there.contains(name)));
        assert!(is_fitting, "{lie}: {wrong:?}");
        let people = String::from_utf8_lossy(&output.stderr);
        assert!(people.contains("DISAGREE"), "{lie}: {people}");
    }
}

#[test]
fn bad_input_is_refused_with_advice() {
    let folder = tempfile::tempdir().expect("a folder");
    let bad_trace = folder.path().join("bad.jsonl");
    let line = r#"{"timestamp":0,"input_length":10,"output_length":5,"hash_ids":[0]}"#;
    std::fs::write(&bad_trace, format!("{line}\n{{\"timestamp\":\n")).expect("a file");
    let bad_trace = bad_trace.to_str().expect("a plain path");
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = busy.local_addr().expect("an address").to_string();
    for (args, advice) in [
        (["--scenario", "sunny"].as_slice(), "kv_exhaustion"),
        (&["--profile", "9000b"], "say one of"),
        (&["--speed", "0"], "or max"),
        (&["--workers", "0"], "1..=64"),
        (&["--inject", "5..4"], "such as 15..45"),
        (&["--inject", "50..70"], "--duration 60"),
        (&["--duration", "0"], "how many seconds"),
        (&["--trace", "/nowhere/at/all"], "/nowhere/at/all"),
        (&["--trace", bad_trace], "bad.jsonl"),
        (&["--trace", bad_trace], "2"),
        (&["--truth", "/nowhere/at/all"], "/nowhere/at/all"),
        (&["--sabotage", "all"], "drop"),
        (&["--listen", "9464"], "--listen"),
        (&["--listen", &busy], "another port"),
        (&["--frobnicate"], "--frobnicate"),
    ] {
        // Of two addresses the later one counts.
        let mut command = Command::new(env!("CARGO_BIN_EXE_stepscope"));
        let output = command.arg("demo").args(args).output().expect("the binary starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(advice), "{args:?}: {stderr}");
    }
}

#[test]
fn the_summary_for_people_names_the_numbers_they_look_for() {
    let output = run(&["--speed", "max", "--duration", "20"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let first = stdout.lines().next().unwrap_or_default();
    assert!(first.starts_with("http://127.0.0.1:"), "{stdout}");
    for part in ["/metrics", "/health", "TTFT p99", "TBT p50", "GPU gap mean", "all agree"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
}

#[test]
fn a_stranger_comes_to_the_same_verdict_from_the_truth_file() {
    let Some(checker) = checker() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let truth = folder.path().join("truth.jsonl");
    let path = truth.to_str().expect("a plain path");
    let mut demo = stepscope(&[
        "--json",
        "--speed",
        "max",
        "--duration",
        "40",
        "--scenario",
        "preemption_storm",
        "--workers",
        "2",
        "--speculation",
        "--truth",
        path,
        "--hold",
        "60",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .expect("the binary starts");
    let mut line = String::new();
    let stdout = demo.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let said: Value = serde_json::from_str(&line).expect("an object");
    let urls = said["urls"].as_array().expect("a list");
    let verdicts: Vec<Output> = [truth.clone(), folder.path().join("truth.jsonl.1")]
        .iter()
        .zip(urls)
        .map(|(truth, url)| check(&checker, truth, url.as_str().expect("a text")))
        .collect();
    demo.kill().expect("it still holds");
    demo.wait().expect("it ends");
    assert_eq!(verdicts.len(), 2);
    for verdict in verdicts {
        let said = String::from_utf8_lossy(&verdict.stdout);
        let error = String::from_utf8_lossy(&verdict.stderr);
        assert!(verdict.status.success(), "{said}{error}");
    }
}

fn check(checker: &Path, truth: &Path, url: &str) -> Output {
    let mut command = Command::new("python3");
    command.arg(checker).arg("--truth").arg(truth).args(["--url", url]);
    command.output().expect("python3 starts")
}

/// The checker, if this machine has what it needs.
fn checker() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/check_truth.py");
    let probe = Command::new("python3").args(["-c", "import prometheus_client"]).output();
    if script.exists() && probe.is_ok_and(|probe| probe.status.success()) {
        return Some(script);
    }
    let why = "python3 with prometheus_client and tests/check_truth.py are needed";
    let is_required = std::env::var_os("STEPSCOPE_REQUIRE_TOOLS").is_some_and(|set| set == "1");
    assert!(!is_required, "{why}");
    println!("skipped: {why}");
    None
}

/// What fired here is what a real Prometheus would have made of the same scrapes.
#[test]
fn promtool_fires_the_same_alerts_on_the_history_of_a_run() {
    let version = Command::new("promtool").arg("--version").output();
    if version.is_err() {
        let required = std::env::var("STEPSCOPE_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
        assert!(!required, "promtool is missing and STEPSCOPE_REQUIRE_TOOLS=1");
        return println!("skipped: promtool is missing");
    }
    let folder = std::env::temp_dir().join(format!("stepscope-history-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("kv.yml");
    let path = file.to_str().unwrap();
    let window = ["--duration", "640", "--inject", "60..600"];
    let said =
        agreeing(&[&["--scenario", "kv_exhaustion", "--history", path], &window[..]].concat());
    let alerts = said["alerts"].as_array().unwrap();
    let names: Vec<&str> = alerts.iter().map(|alert| alert["alert"].as_str().unwrap()).collect();
    assert_eq!(names.first(), Some(&"LLMKVCachePressure"), "{alerts:?}");
    assert!(alerts[0]["first_action"].as_str().unwrap().starts_with("Shift or shed"));
    let second = alerts[0]["second"].as_f64().unwrap();
    assert!((400.0..480.0).contains(&second), "{second}");
    assert_eq!(said["health"][0]["serving"], true);

    let promtool = || {
        let run = Command::new("promtool").args(["test", "rules", path]).output().unwrap();
        (run.status.success(), String::from_utf8_lossy(&run.stderr).into_owned())
    };
    let (agrees, why) = promtool();
    assert!(agrees, "{why}");
    // It can fail: without one of its alerts the expectation is wrong.
    let history = std::fs::read_to_string(&file).unwrap();
    let expected = "{labels: '{alertname=\"LLMKVCachePressure\"}', value: 1}";
    assert!(history.contains(expected), "{}", &history[history.len() - 800..]);
    std::fs::write(&file, history.replace(expected, "{labels: '{}', value: 1}")).unwrap();
    assert!(!promtool().0, "a wrong expectation passes");
    std::fs::remove_dir_all(&folder).unwrap()
}
