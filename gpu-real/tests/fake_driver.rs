//! The measuring program on the fake driver: which rows pass there, that a broken driver fails it, and
//! what it says where there is no driver at all.
#![allow(missing_docs, unsafe_code)] // One test looks for a real driver.

use serde_json::Value;
use std::process::{Command, Output};

fn gpu_real(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpu_real")).args(words).output().unwrap()
}

fn json(output: &Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let last = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

/// The fake driver, which cargo builds beside this test.
fn fake() -> String {
    let file = std::env::current_exe().unwrap().parent().unwrap().join("libfake_cuda.so");
    assert!(file.exists(), "{} is not built", file.display());
    file.to_str().unwrap().to_owned()
}

/// What each line of a row came to, by what it is about.
fn verdict<'a>(report: &'a Value, row: u64, what: &str) -> &'a str {
    let rows = report["rows"].as_array().unwrap();
    let row = rows.iter().find(|found| found["row"] == row).unwrap();
    let lines = row["lines"].as_array().unwrap();
    let line = lines.iter().find(|line| line["what"] == what);
    line.unwrap_or_else(|| panic!("no line {what} in {row}"))["verdict"].as_str().unwrap()
}

#[test]
fn every_row_that_needs_no_hardware_passes_on_the_fake_driver() {
    let output = gpu_real(&["--driver", &fake(), "--quick"]);
    let report = json(&output);
    let table = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{table}");
    assert_eq!(report["ok"], true, "{table}");
    assert_eq!(report["failed"], serde_json::json!([]), "{table}");
    let passed = serde_json::json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15]);
    assert_eq!(report["passed"], passed, "{table}");
    assert_eq!(report["not_judged"], serde_json::json!([13, 14]), "{table}");
    assert_eq!(report["not_measured"], serde_json::json!([]), "{table}");
    assert_eq!((&report["quick"], &report["fake_driver"]), (&true.into(), &true.into()));
    assert_eq!(report["card"]["name"], "Fake GPU");
    assert_eq!(report["card"]["pci_bus_id"], "00000000:65:00.0");
    assert_eq!(report["stepscope"], env!("CARGO_PKG_VERSION"));
    assert_eq!(verdict(&report, 1, "symbols that are there"), "pass");
    assert_eq!(verdict(&report, 1, "attach, warm"), "not_judged", "no time of it is judged");
    assert_eq!(verdict(&report, 5, "times that are another step's"), "pass");
    assert_eq!(verdict(&report, 9, "that capture stays valid"), "pass");
    assert_eq!(verdict(&report, 11, "the child finds empty pages and no GPU"), "pass");
    assert!(table.contains("QUICK") && table.contains("FAKE DRIVER"), "{table}");
}

#[test]
fn only_the_rows_that_are_asked_for_run() {
    let report = json(&gpu_real(&["--driver", &fake(), "--quick", "--only", "1,9"]));
    let rows: Vec<_> = report["rows"].as_array().unwrap().iter().map(|row| &row["row"]).collect();
    assert_eq!(rows, [1, 9]);
}

#[test]
fn a_card_that_is_not_there_is_a_reason_and_no_failure() {
    let output = gpu_real(&["--driver", &fake(), "--device", "7"]);
    let report = json(&output);
    assert!(output.status.success());
    assert_eq!(report["skipped"], "no card number 7: the driver shows 1");
    assert_eq!(report["rows"], serde_json::json!([]));
}

#[test]
fn without_a_driver_it_says_so_and_ends_well() {
    // SAFETY: only asks the loader; a driver's own initialisers are made for it.
    if unsafe { libloading::Library::new("libcuda.so.1") }.is_ok() {
        println!("skipped: this machine has a driver");
        return;
    }
    let output = gpu_real(&["--quick"]);
    let report = json(&output);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("skipped: no libcuda.so.1"), "{said}");
    assert!(report["skipped"].as_str().unwrap().starts_with("no libcuda.so.1"));
    assert_eq!((&report["ok"], &report["card"]), (&true.into(), &Value::Null));
}

#[test]
fn a_named_library_that_is_no_driver_is_a_failure() {
    let output = gpu_real(&["--driver", "libc.so.6"]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        (&report["ok"], &report["error"]),
        (&false.into(), &"the driver has no cuInit".into())
    );
}

#[test]
fn stamps_that_lie_fail_their_row_and_the_run() {
    // The direct begin stamp tells a time 50 us too early.
    let truth = include_str!("../../kernels/stamp.ptx");
    let read = "mov.u64 %rd1, %globaltimer;";
    let lie = format!("{read}\n\tadd.s64 %rd1, %rd1, -50000;");
    let lying = truth.replacen(read, &lie, 1);
    assert_ne!(lying, truth);
    let file = std::env::temp_dir().join(format!("lying-stamps-{}.ptx", std::process::id()));
    std::fs::write(&file, lying).unwrap();
    let words = ["--driver", &fake(), "--quick", "--only", "5", "--stamps"];
    let output = gpu_real(&[&words[..], &[file.to_str().unwrap()]].concat());
    std::fs::remove_file(file).unwrap();
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((&report["ok"], &report["failed"]), (&false.into(), &serde_json::json!([5])));
    assert_eq!(verdict(&report, 5, "times that are another step's"), "fail");
}
