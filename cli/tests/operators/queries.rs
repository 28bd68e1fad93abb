//! Is a query one? promtool parses it, and every name in it is the catalog's, a recording's or
//! Prometheus' own.

use crate::common::{TempDir, tool};
use std::collections::BTreeSet;
use std::process::Command;
use stepscope::catalog::{ROWS, alerts};

/// What Prometheus itself stores.
const PROMETHEUS_OWN: [&str; 5] = [
    "ALERTS",
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "prometheus_notifications_errors_total",
];

/// Words that may be followed by an opening brace and are no names of series.
fn is_known(name: &str) -> bool {
    let family = |name: &str| ROWS.iter().any(|row| row.name == name);
    let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
    PROMETHEUS_OWN.contains(&name)
        || family(name)
        || part
            .is_some_and(|name| ROWS.iter().any(|row| row.name == name && !row.grid().is_empty()))
        || alerts::recordings().any(|recording| recording.name() == name)
}

/// Names of series in a query: what stands before a brace or a range, or looks like one of ours.
pub fn names(query: &str) -> BTreeSet<&str> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = BTreeSet::new();
    let mut quoted = false;
    let mut start = None;
    for (at, c) in query.char_indices().chain([(query.len(), ' ')]) {
        if !quoted && of_name(c) {
            start.get_or_insert(at);
            continue;
        }
        if let Some(name) = start.take().map(|start: usize| &query[start..at]) {
            let ours = name.contains("llm_") || name.contains(':');
            if name.starts_with(char::is_alphabetic) && (ours || c == '{' || c == '[') {
                found.insert(name);
            }
        }
        quoted ^= c == '"'
    }
    found
}

pub fn must_be_known(queries: &[String]) {
    for query in queries {
        let names = names(query);
        for name in &names {
            assert!(is_known(name), "{name} is no family, no recording: {query}")
        }
        assert!(!names.is_empty() || query.contains("up{") || query == "vector(1)", "{query}")
    }
}

/// With the dashboard's variables filled in, as Grafana does.
pub fn filled(query: &str) -> String {
    let query = query.replace("$__rate_interval", "1m");
    let query = query.replace("$model", ".*").replace("$worker", ".*");
    assert!(!query.contains('$'), "a variable is left: {query}");
    query
}

/// promtool knows no command for a query; a rule file in which each is a recording does it.
pub fn must_parse(queries: &[String]) {
    if !tool("promtool", &["--version"]) {
        return;
    }
    let folder = TempDir::new("queries");
    let mut rules = "groups:\n- name: queries\n  rules:\n".to_string();
    for (number, query) in queries.iter().enumerate() {
        // JSON's strings are YAML's too.
        let query = serde_json::to_string(query).unwrap();
        rules += &format!("  - record: query:number{number}\n    expr: {query}\n")
    }
    let file = folder.path().join("queries.yml");
    std::fs::write(&file, rules).unwrap();
    let output = Command::new("promtool").args(["check", "rules"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&format!("{} rules found", queries.len())), "{said}");
}

#[test]
fn the_reader_of_names_finds_them_and_nothing_else() {
    let query = r#"sum by (le, a_label) (rate(llm_x_bucket{m=~"llm_y:z{"}[5m])) / up{job="llm"} > worker:a:b"#;
    let found: Vec<&str> = names(query).into_iter().collect();
    assert_eq!(found, ["llm_x_bucket", "up", "worker:a:b"]);
    assert!(!is_known("llm_x_bucket") && is_known("llm_ttft_seconds_sum"));
    assert!(!is_known("llm_queue_depth_sum"), "a gauge has no sum");
}
