//! The guides for operators name only files, options, alerts and metrics that exist, and their
//! examples work.

use crate::common::tool;
use crate::queries::{must_be_known, names};
use crate::{Derived, repository};
use std::process::Command;
use stepscope::catalog::alerts::ALERTS;

fn read(file: &str) -> String {
    std::fs::read_to_string(repository().join(file)).unwrap()
}

const GUIDES: [&str; 4] = ["docs/operations.md", "docs/scale.md", "CONTRIBUTING.md", "README.md"];

/// Words that are made of these characters, from every place where this begins.
fn words<'a>(text: &'a str, begin: &str, of: impl Fn(char) -> bool) -> Vec<&'a str> {
    let starts = text.match_indices(begin).map(|(at, _)| at);
    let word = |at: usize| {
        let rest = &text[at..];
        &rest[..rest.find(|c: char| !of(c)).unwrap_or(rest.len())]
    };
    starts.map(word).collect()
}

#[test]
fn every_link_of_the_guides_arrives() {
    let mut links = 0;
    for guide in GUIDES {
        let folder = repository().join(guide);
        let folder = folder.parent().unwrap();
        for link in read(guide).split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap();
            if !target.is_empty() && !target.starts_with("http") {
                links += 1;
                assert!(folder.join(target).exists(), "{guide}: {target}")
            }
        }
    }
    assert!(links > 20, "{links}");
}

#[test]
fn every_alert_the_guides_name_exists() {
    let mut named = 0;
    // The example of a new alert is none yet.
    for guide in &GUIDES[..2] {
        let text = read(guide);
        for name in words(&text, "LLM", |c| c.is_ascii_alphanumeric()) {
            named += 1;
            let known = name == "LLM" || ALERTS.iter().any(|alert| alert.name == name);
            assert!(known, "{guide}: {name}")
        }
    }
    assert!(named > 5, "{named}");
}

#[test]
fn every_option_the_guides_name_exists() {
    // Of cargo, the demo, Prometheus and mimirtool.
    const OF_OTHERS: [&str; 6] =
        ["--release", "--scenario", "--enable-feature", "--address", "--id", "--workspace"];
    let help = Command::new(env!("CARGO_BIN_EXE_stepscope")).args(["derive", "--help"]).output();
    let help = String::from_utf8_lossy(&help.unwrap().stdout).into_owned();
    for guide in &GUIDES[..2] {
        let text = read(guide);
        for option in words(&text, "--", |c| c.is_ascii_lowercase() || c == '-') {
            // A line of a table is none.
            let is_option = option.trim_matches('-').starts_with(|c: char| c.is_ascii_lowercase());
            let known = help.contains(option) || OF_OTHERS.contains(&option);
            assert!(!is_option || known, "{guide}: {option}")
        }
    }
}

#[test]
fn every_metric_the_guides_name_exists() {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    for guide in &GUIDES[..2] {
        let text = read(guide);
        for code in text.split('`').skip(1).step_by(2) {
            if code.contains("llm_") && code.chars().all(is_name) {
                must_be_known(&[format!("{code}{{}}")])
            } else if code.starts_with("sum by") {
                assert!(!names(code).is_empty());
                must_be_known(&[code.to_string()])
            }
        }
    }
}

#[test]
fn the_commands_of_the_guide_make_files_that_others_accept() {
    let guide = read("docs/operations.md").replace("\\\n", " ");
    let command = guide.lines().find(|line| line.contains("-- derive --out site ")).unwrap();
    let args = command.split_once("--out site").unwrap().1.split_whitespace();
    let derived = Derived::with(&args.collect::<Vec<_>>());
    let rules = derived.read("prometheus/rules.yml");
    assert!(rules.contains("https://wiki.example.com/llm/playbook.md#llmhighttft"));
    assert!(derived.read("grafana/dashboard.json").contains("https://wiki.example.com/llm"));
    assert!(derived.read("prometheus/prometheus.yml").contains("engine-1:9464"));
    for (program, check) in [
        ("promtool", &["check", "rules", "prometheus/rules.yml"][..]),
        ("promtool", &["check", "config", "prometheus/prometheus.yml"]),
        ("amtool", &["check-config", "alertmanager/alertmanager.yml"]),
    ] {
        if tool(program, &["--version"]) {
            // In the guide as it stands here, but for the folder.
            let said = format!("{program} {}", check[..check.len() - 1].join(" "));
            assert!(guide.contains(&format!("{said} site/{}", check[check.len() - 1])), "{said}");
            let output = Command::new(program).args(check).current_dir(derived.0.path()).output();
            let output = output.unwrap();
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{program} {check:?}: {complaint}")
        }
    }
}

#[test]
fn the_example_of_other_limits_is_accepted() {
    let guide = read("docs/operations.md");
    let example = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let rules = Derived::limited(example).read("prometheus/rules.yml");
    assert!(rules.contains("le=\"8.0\"") && rules.contains("> 0.9") && rules.contains("> 0.4"));
}
