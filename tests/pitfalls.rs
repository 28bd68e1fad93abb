//! The list of known faults (`pitfalls.md`) is whole, and every test it names exists.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use stepscope::catalog::{Id, labels, row};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What holds each code.
fn held() -> BTreeMap<String, String> {
    let list = std::fs::read_to_string(root().join("tests/pitfalls.md")).unwrap();
    let mut held = BTreeMap::new();
    for line in list.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").collect();
        let [code, _, holds] = cells[..] else { panic!("three columns: {line}") };
        if code != "code" {
            let twice = held.insert(code.to_string(), holds.to_string());
            assert!(twice.is_none(), "{code} stands there twice")
        }
    }
    held
}

/// Names of all tests: functions under `#[test]`, and those that proptest makes.
fn tests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            tests(&path, found)
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for part in text.split("#[test]").skip(1) {
                let name = part.split_once("fn ").map(|(_, rest)| rest);
                let name = name.and_then(|rest| rest.split(['(', '<']).next());
                found.extend(name.map(String::from))
            }
        }
    }
}

#[test]
fn every_known_fault_is_held_by_a_test_that_exists() {
    let mut all = BTreeSet::new();
    for folder in ["src", "tests", "cli", "sim", "fake-cuda"] {
        tests(&root().join(folder), &mut all)
    }
    let scenarios = std::fs::read_to_string(root().join("tests/reference/rules_test.yml")).unwrap();
    let held = held();
    for (code, holds) in &held {
        let named: Vec<&str> = holds.split('`').skip(1).step_by(2).collect();
        let quoted: Vec<&str> = holds.split('"').skip(1).step_by(2).collect();
        assert!(!named.is_empty() || !quoted.is_empty(), "{code} is held by nothing");
        for name in named {
            assert!(all.contains(name), "{code}: there is no test {name}")
        }
        for name in quoted {
            let line = format!("- name: \"{name}\"\n");
            assert!(scenarios.contains(&line), "{code}: there is no scenario {name}")
        }
    }
    let numbers = |letter: char, last: usize| (1..=last).map(move |n| format!("{letter}{n}"));
    let codes = numbers('E', 10).chain(numbers('P', 13)).chain(numbers('H', 5));
    let codes: BTreeSet<String> = codes.chain(numbers('C', 9)).collect();
    assert_eq!(held.into_keys().collect::<BTreeSet<_>>(), codes);
}

#[test]
fn what_the_article_left_out_is_in_the_catalog() {
    let has = |id: Id, label: &str, value: &str| {
        let split = row(id).split.iter().find(|split| split.name == label);
        split.is_some_and(|split| split.values.contains(&value))
    };
    assert!(row(Id::Ttft).by.names().contains(&"priority"));
    assert!(has(Id::QueueDepth, "reason", "lora") && has(Id::QueueDepth, "reason", "kv_fetch"));
    assert!(has(Id::Requests, "status", "aborted") && has(Id::Requests, "status", "handover"));
    assert!(has(Id::PromptTokens, "source", "cached"));
    assert!(has(Id::DiscardedTokens, "reason", "draft"));
    assert!(row(Id::WorkerInfo).by.names().contains(&"role"));
    assert!(row(Id::DraftAcceptedTokens).name.ends_with("_total"));
    // A timeout is no preemption.
    assert!(!labels::PREEMPT.contains(&"timeout") && labels::ERROR_TYPE.contains(&"timeout"));
}

#[test]
fn ttft_is_read_together_with_prompt_lengths() {
    let healthy = row(Id::Ttft).healthy.unwrap().range;
    assert!(healthy.contains("prompt"), "{healthy}");
    let page = std::fs::read_to_string(root().join("cli/src/derive/playbook/ttft.md")).unwrap();
    assert!(page.contains("TTFT grows with the prompt") && page.contains("{{PromptTokens}}"));
}
