//! Runs the demo on the fake driver: cudarc unmodified, the demo's kernels and the stamps interpreted,
//! and what the stamps say judged by what the kernels wrote down.

mod common;

use common::fake_driver;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn demo(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stepscope"));
    command.arg("demo").args(["--listen", "127.0.0.1:0", "--json"]).args(arguments);
    command.output().expect("the binary starts")
}

/// A run on a copy of the fake driver, its verdict and its exit code; none where a real driver comes first.
fn on_gpu(arguments: &[&str]) -> Option<(Value, i32)> {
    let folder = tempfile::tempdir().expect("a folder");
    let driver = fake_driver(folder.path());
    let output = demo(&[&["--driver", driver.to_str().expect("plain")], arguments].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let required = std::env::var_os("STEPSCOPE_REQUIRE_TOOLS").is_some_and(|set| set == "1");
    if !required && stderr.contains("cudarc finds another driver library first") {
        println!("skipped: this machine has a driver, which cudarc finds before the fake one");
        return None;
    }
    let said: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    assert_eq!(said["device"], "gpu", "{stderr}");
    assert_eq!(said["device_detail"], "Fake GPU");
    let code = output.status.code().expect("no signal");
    let wrong = entries(&said, "").into_iter().filter(|e| !agrees(e)).collect::<Vec<_>>();
    println!("{:?}", &wrong[..wrong.len().min(5)]);
    Some((said, code))
}

/// Entries whose name contains this.
fn entries<'a>(said: &'a Value, part: &str) -> Vec<&'a Value> {
    let all = said["agreement"].as_array().expect("a list");
    all.iter().filter(|e| e["metric"].as_str().is_some_and(|name| name.contains(part))).collect()
}

fn number(entry: &Value, key: &str) -> f64 {
    entry[key].as_f64().unwrap_or_else(|| panic!("{key}: {entry}"))
}

fn agrees(entry: &Value) -> bool {
    number(entry, "error") <= number(entry, "bound")
}

/// Sum over the series of one name and part of its labels: (what the engine knows, what was told).
fn total(said: &Value, name: &str, part: &str) -> (f64, f64) {
    let named = entries(said, name).into_iter();
    let all = named.filter(|e| e["metric"].as_str().is_some_and(|metric| metric.contains(part)));
    all.fold((0.0, 0.0), |sum, e| (sum.0 + number(e, "engine"), sum.1 + number(e, "reported")))
}

#[test]
fn steps_on_a_gpu_are_stamped_and_their_times_are_those_of_the_kernels() {
    let Some((said, code)) = on_gpu(&["--duration", "5"]) else { return };
    assert_eq!((code, &said["ok"]), (0, &true.into()));
    let (steps, told) = total(&said, "llm_step_source_total{", "source=\"gpu\"");
    assert!(steps > 50.0 && steps == told, "{steps} {told}");
    for source in ["simulated", "host"] {
        let part = format!("source=\"{source}\"");
        assert_eq!(total(&said, "llm_step_source_total{", &part), (0.0, 0.0));
    }
    // Counts are exact; times lie between the notes inside and outside of the stamps, which are
    // close: a few launches apart, and no step takes less than milliseconds.
    for family in ["llm_step_gpu_seconds", "llm_gpu_gap_seconds"] {
        let (known, told) = total(&said, &format!("{family}_count{{"), "");
        assert!(known > 50.0 && known == told, "{family}: {known} {told}");
        let mean = entries(&said, &format!("{family}_sum / {family}_count"))[0];
        assert!(agrees(mean) && number(mean, "engine") > 0.0, "{mean}");
        assert!(number(mean, "bound") < number(mean, "engine"), "{mean}");
    }
    let mean = entries(&said, "llm_step_gpu_seconds_sum / llm_step_gpu_seconds_count")[0];
    assert!(number(mean, "bound") < number(mean, "engine") / 4.0, "{mean}");
    for phase in ["decode", "mixed", "prefill"] {
        let part = format!("phase=\"{phase}\"");
        assert!(total(&said, "llm_step_gpu_seconds_count{", &part).0 > 0.0, "{phase}");
    }
    assert_eq!(total(&said, "llm_stamps_lost_total{", ""), (0.0, 0.0));
    assert_eq!(entries(&said, "steps told to have ended").len(), 1);
}

#[test]
fn a_simulated_run_compares_the_same_numbers_exactly() {
    let output = demo(&["--device", "sim", "--speed", "max", "--duration", "20"]);
    assert_eq!(output.status.code(), Some(0));
    let said: Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert_eq!(
        (&said["device"], &said["device_detail"]),
        (&"simulated".into(), &"as asked for".into())
    );
    let (steps, told) = total(&said, "llm_step_source_total{", "source=\"simulated\"");
    assert!(steps > 50.0 && steps == told, "{steps} {told}");
    for family in ["llm_step_gpu_seconds_sum{", "llm_gpu_gap_seconds_sum{"] {
        let all = entries(&said, family);
        assert!(!all.is_empty() && all.iter().all(|e| number(e, "bound") == 0.0), "{all:?}");
    }
}

#[test]
fn a_clock_that_lies_about_one_step_in_ten_is_noticed() {
    let Some((said, code)) = on_gpu(&["--duration", "4", "--sabotage", "shift"]) else { return };
    assert_eq!((code, &said["ok"]), (1, &false.into()));
    let stray = entries(&said, "steps told to have ended")[0];
    assert!(number(stray, "reported") > 0.0 && !agrees(stray), "{stray}");
}

#[test]
fn a_device_that_dies_and_several_workers_agree_too() {
    let Some((said, code)) =
        on_gpu(&["--duration", "8", "--scenario", "gpu_fault", "--inject", "1..2"])
    else {
        return;
    };
    assert_eq!((code, &said["ok"]), (0, &true.into()));
    assert!(total(&said, "llm_requests_total{", "status=\"failed\"").0 > 0.0);
    let Some((said, code)) = on_gpu(&["--duration", "4", "--workers", "2"]) else { return };
    assert_eq!((code, &said["ok"]), (0, &true.into()));
    for worker in ["w0", "w1"] {
        let part = format!("worker_id=\"{worker}\"");
        assert!(total(&said, "llm_step_gpu_seconds_count{", &part).0 > 0.0, "{worker}");
    }
}

#[test]
fn a_gpu_runs_in_real_time_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let driver = fake_driver(folder.path());
    let driver = driver.to_str().expect("plain");
    let output = demo(&["--driver", driver, "--speed", "max", "--duration", "10"]);
    assert_eq!(output.status.code(), Some(0));
    let said: Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert_eq!(said["device"], "simulated");
    let why = said["device_detail"].as_str().expect("a reason");
    assert!(why.contains("real time, not at --speed max"), "{why}");
    let output = demo(&["--driver", driver, "--speed", "2", "--device", "gpu"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("leave --speed away"));
}

#[test]
fn a_driver_that_cannot_be_used_is_refused_in_words_and_without_a_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = folder.path().join("libcuda-old.so");
    let mut bytes = std::fs::read(fake_driver(folder.path())).expect("the fake driver");
    let name = b"\0cuGraphLaunch\0";
    let at = (0..bytes.len()).find(|at| bytes[*at..].starts_with(name)).expect("the name");
    bytes[at + name.len() - 2] = b'~';
    std::fs::write(&old, bytes).expect("a file");
    for (driver, words) in [
        (Path::new("/nowhere/libcuda.so.1"), "No such file"),
        (&old, "the driver lacks cuGraphLaunch"),
        (Path::new("libc.so.6"), "the driver lacks cuCtxGetCurrent"),
    ] {
        let output = demo(&["--driver", driver.to_str().expect("plain"), "--duration", "1"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(words) && stderr.contains("stepscope doctor"), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}
