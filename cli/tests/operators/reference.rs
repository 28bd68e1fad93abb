//! The reference: every family, with all that its row says.

use crate::Derived;
use std::collections::BTreeMap;
use stepscope::catalog::alerts::{ALERTS, recordings};
use stepscope::catalog::{Kind, ROWS};

/// Text of each family, from its heading to the next.
fn sections(reference: &str) -> BTreeMap<&str, &str> {
    reference.split("\n### ").skip(1).filter_map(|text| text.split_once('\n')).collect()
}

fn line<'a>(section: &'a str, what: &str) -> Option<&'a str> {
    section.lines().find_map(|line| line.strip_prefix(&format!("| {what} | ")))
}

#[test]
fn the_reference_has_every_family_with_its_type_labels_and_names_elsewhere() {
    let reference = Derived::with(&[]).read("metrics.md");
    let sections = sections(&reference);
    assert_eq!(sections.len(), ROWS.len());
    for row in &ROWS {
        let section = sections[row.name];
        assert!(section.contains(row.help), "{}", row.name);
        let kind = line(section, "type").unwrap();
        let wanted = match row.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Info => "info",
            Kind::Histogram(_) => "histogram",
        };
        assert!(kind.starts_with(wanted), "{}: {kind}", row.name);
        let labels = line(section, "labels").unwrap();
        let closed = row.split.iter().map(|label| (label.name, label.values));
        let open = row.by.names().iter().map(|name| (*name, &[][..]));
        for (label, values) in open.chain(closed) {
            assert!(labels.contains(&format!("`{label}`")), "{}: {labels}", row.name);
            for value in values {
                assert!(labels.contains(&format!("`{value}`")), "{}: {labels}", row.name)
            }
        }
        let histogram = !row.grid().is_empty();
        assert_eq!(line(section, "buckets").is_some(), histogram, "{}", row.name);
        assert_eq!(line(section, "one sample").is_some(), histogram, "{}", row.name);
        let healthy = line(section, "healthy").map(|text| text.trim_end_matches(" |"));
        assert_eq!(healthy, row.healthy.map(|healthy| healthy.range), "{}", row.name);
        for alias in row.aliases {
            let elsewhere = line(section, "elsewhere").unwrap();
            assert!(elsewhere.contains(&format!("`{}`", alias.name)), "{}", row.name)
        }
    }
}

#[test]
fn a_sample_is_what_the_help_says_it_is() {
    let reference = Derived::with(&[]).read("metrics.md");
    for row in ROWS.iter().filter(|row| !row.grid().is_empty()) {
        let sample = line(sections(&reference)[row.name], "one sample").unwrap();
        assert!(sample.starts_with("per "), "{}: {sample}", row.name);
        assert!(row.help.contains(sample.trim_end_matches(" |")), "{}: {sample}", row.name)
    }
}

#[test]
fn alerts_and_recordings_stand_with_the_families_they_read() {
    let derived = Derived::with(&[]);
    let (reference, playbook) = (derived.read("metrics.md"), derived.read("playbook.md"));
    let sections = sections(&reference);
    for alert in &ALERTS {
        let anchor = format!("#{})", alert.name.to_lowercase());
        assert!(playbook.contains(&format!("<a id=\"{}\">", alert.name.to_lowercase())));
        let with = sections.iter().filter(|(_, text)| text.contains(&anchor)).count();
        // What only Prometheus knows reads no family.
        let of_server = ["LLMTargetsAbsent", "LLMFleetDegraded", "LLMScrapeSlow", "LLMWatchdog"];
        assert_eq!(with == 0, of_server.contains(&alert.name), "{}: {with}", alert.name);
        if let Some(id) = alert.family() {
            let row = stepscope::catalog::row(id);
            assert!(sections[row.name].contains(&anchor), "{} at {}", alert.name, row.name)
        }
    }
    for recording in recordings() {
        let name = format!("`{}`", recording.name());
        assert!(reference.contains(&name), "{name}")
    }
}

#[test]
fn limits_of_a_site_stand_in_the_reference() {
    let moved = Derived::limited("[llm_ttft_seconds]\ncritical = 8.0\n").read("metrics.md");
    let limits = line(sections(&moved)["llm_ttft_seconds"], "limits").unwrap();
    assert_eq!(limits, "warning above 2 s, critical above 8 s |");
}

#[test]
fn every_bound_stands_in_the_list_of_buckets() {
    let reference = Derived::with(&[]).read("metrics.md");
    let buckets = reference.split("\n## Buckets\n").nth(1).unwrap();
    for row in ROWS.iter().filter(|row| !row.grid().is_empty()) {
        let name = format!("`{}`", row.name);
        let line = buckets.lines().find(|line| line.contains(&name)).unwrap();
        let (_, bounds) = line.split_once(": ").unwrap();
        let bounds: Vec<&str> = bounds.split(", ").collect();
        let wanted: Vec<&str> = row.grid().iter().map(|b| b.le).chain(["+Inf"]).collect();
        assert_eq!(bounds, wanted, "{}", row.name)
    }
}
