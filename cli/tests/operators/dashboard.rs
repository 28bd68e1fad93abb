//! The dashboard: whole, readable, and with the catalog's limits.

use crate::Derived;
use crate::queries::{filled, must_be_known, must_parse};
use serde_json::Value;
use std::collections::BTreeSet;
use stepscope::catalog::alerts::ALERTS;

pub fn dashboard(of: &Derived) -> Value {
    serde_json::from_str(&of.read("grafana/dashboard.json")).unwrap()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a Vec<Value> {
    value[field].as_array().unwrap_or_else(|| panic!("{field} of {value}"))
}

/// Panels that show something, without the headings of rows.
fn shown(dashboard: &Value) -> Vec<&Value> {
    list(dashboard, "panels").iter().filter(|panel| panel["type"] != "row").collect()
}

fn panel<'a>(dashboard: &'a Value, title: &str) -> &'a Value {
    let found = shown(dashboard).into_iter().find(|panel| panel["title"] == title);
    found.unwrap_or_else(|| panic!("no panel {title}"))
}

pub fn queries(dashboard: &Value) -> Vec<String> {
    let targets = shown(dashboard).into_iter().flat_map(|panel| list(panel, "targets"));
    targets.map(|target| target["expr"].as_str().unwrap().to_string()).collect()
}

fn steps(panel: &Value) -> Vec<(Option<f64>, &str)> {
    let steps = list(&panel["fieldConfig"]["defaults"]["thresholds"], "steps");
    steps.iter().map(|step| (step["value"].as_f64(), step["color"].as_str().unwrap())).collect()
}

#[test]
fn the_dashboard_has_its_rows_variables_and_panels() {
    let dashboard = dashboard(&Derived::with(&[]));
    assert_eq!(dashboard["uid"], "stepscope-llm");
    assert_eq!(dashboard["schemaVersion"], 39);
    assert!(dashboard["description"].as_str().unwrap().contains("do not edit"));
    let named = |all: &Vec<Value>, by: &str| -> Vec<String> {
        all.iter().map(|one| one[by].as_str().unwrap().to_string()).collect()
    };
    let rows: Vec<Value> =
        list(&dashboard, "panels").iter().filter(|p| p["type"] == "row").cloned().collect();
    assert_eq!(
        named(&rows, "title"),
        ["User experience", "GPU health", "KV cache and scheduling", "Detailed diagnostics"]
    );
    let variables = list(&dashboard["templating"], "list");
    assert_eq!(named(variables, "name"), ["datasource", "model", "worker"]);
    let annotation = &dashboard["annotations"]["list"][0];
    assert!(annotation["expr"].as_str().unwrap().contains("critical|warning"));
    assert_eq!(shown(&dashboard).len(), 39);
    assert_eq!(queries(&dashboard).len(), 53);
}

#[test]
fn every_panel_has_a_number_a_unit_and_says_what_it_answers() {
    // Free text needs `suffix:`; a word that Grafana does not know would be shown as it stands.
    const KNOWN: [&str; 9] =
        ["s", "percentunit", "reqps", "ops", "bytes", "celsius", "watt", "short", "none"];
    let dashboard = dashboard(&Derived::with(&[]));
    let ids: BTreeSet<u64> =
        list(&dashboard, "panels").iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), list(&dashboard, "panels").len());
    for panel in shown(&dashboard) {
        let title = &panel["title"];
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 10), "{title}");
        let of_columns = list(&panel["fieldConfig"], "overrides").iter();
        let of_columns = of_columns.map(|column| &column["properties"][0]["value"]);
        for unit in of_columns.chain([&panel["fieldConfig"]["defaults"]["unit"]]) {
            let unit = unit.as_str().unwrap_or_default();
            assert!(KNOWN.contains(&unit) || unit.starts_with("suffix: "), "{title}: {unit:?}")
        }
        for source in list(panel, "targets").iter().chain([panel]) {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{title}");
            assert_eq!(source["datasource"]["type"], "prometheus", "{title}")
        }
        if panel["type"] == "heatmap" {
            assert_eq!(panel["targets"][0]["format"], "heatmap", "{title}");
            assert_eq!(panel["options"]["calculate"], false, "{title}")
        }
    }
}

#[test]
fn panels_stay_within_the_width_and_apart() {
    let dashboard = dashboard(&Derived::with(&[]));
    let mut taken = BTreeSet::new();
    for panel in list(&dashboard, "panels") {
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24 && at("w") > 0 && at("h") > 0, "{panel}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{} covers another panel", panel["title"])
            }
        }
    }
}

#[test]
fn colours_begin_without_a_number_and_rise() {
    let dashboard = dashboard(&Derived::with(&[]));
    let mut with_limits = 0;
    for panel in shown(&dashboard) {
        let steps = steps(panel);
        assert_eq!(steps[0], (None, "green"), "{}", panel["title"]);
        let limits: Vec<f64> = steps[1..].iter().map(|(value, _)| value.unwrap()).collect();
        assert!(limits.is_sorted_by(|a, b| a < b), "{}: {limits:?}", panel["title"]);
        with_limits += usize::from(!limits.is_empty())
    }
    assert!(with_limits > 12, "{with_limits}");
}

#[test]
fn colours_stand_where_the_alerts_begin() {
    let dashboard = dashboard(&Derived::with(&[]));
    let wanted: &[(&str, &[f64])] = &[
        ("Firing pages", &[1.0]),
        ("Firing warnings", &[1.0]),
        ("SLO burn, 1 h", &[1.0, 14.4]),
        ("Error share, 5 m", &[0.01, 0.05]),
        ("Time to first token (TTFT)", &[2.0, 5.0]),
        ("Time between tokens (TBT)", &[0.08, 0.15]),
        ("GPU memory headroom used", &[0.95]),
        ("GPU idle while work waits", &[0.3]),
        ("Faults since start", &[1.0]),
        ("KV cache utilisation", &[0.85, 0.95]),
        ("Queue depth", &[50.0, 200.0]),
        ("Queue drain time", &[5.0, 15.0]),
        ("Preemption rate", &[0.1, 1.0]),
        ("Age of the last GPU step", &[30.0]),
        ("Telemetry loss share", &[0.001]),
        ("Scrape duration", &[1.0]),
    ];
    for panel in shown(&dashboard) {
        let limits: Vec<f64> = steps(panel).into_iter().filter_map(|(value, _)| value).collect();
        let title = panel["title"].as_str().unwrap();
        let wanted = wanted.iter().find(|(of, _)| *of == title).map_or(&[][..], |(_, at)| at);
        assert_eq!(limits, wanted, "{title}")
    }
}

#[test]
fn every_query_of_the_dashboard_parses_and_names_what_exists() {
    for args in [&[][..], &["--native"], &["--times", "ci"], &["--job", "engines"]] {
        let queries = queries(&dashboard(&Derived::with(args)));
        must_be_known(&queries);
        let filled: Vec<String> = queries.iter().map(|query| filled(query)).collect();
        must_parse(&filled)
    }
}

#[test]
fn every_alert_has_a_panel_that_leads_to_its_page() {
    let derived = Derived::with(&["--runbooks", "https://wiki.test/playbook.md"]);
    let dashboard = dashboard(&derived);
    let playbook = derived.read("playbook.md");
    let mut led_to = BTreeSet::new();
    for panel in shown(&dashboard) {
        for link in list(panel, "links") {
            let url = link["url"].as_str().unwrap();
            let anchor =
                url.strip_prefix("https://wiki.test/playbook.md#").expect("the site's own");
            assert!(playbook.contains(&format!("<a id=\"{anchor}\"></a>")), "{url}");
            led_to.insert(anchor.to_string());
        }
    }
    let all: BTreeSet<String> = ALERTS.iter().map(|alert| alert.name.to_lowercase()).collect();
    assert_eq!(led_to, all);
}

#[test]
fn limits_of_a_site_move_colours_and_words() {
    let usual = dashboard(&Derived::with(&[]));
    let ttft = "Time to first token (TTFT)";
    assert_eq!(steps(panel(&usual, ttft))[1..], [(Some(2.0), "yellow"), (Some(5.0), "red")]);
    let limits = "[llm_ttft_seconds]\ncritical = 8.0\n\n[LLMHostBound]\nlimit = 0.5\n";
    let moved = dashboard(&Derived::limited(limits));
    let panel_of = panel(&moved, ttft);
    assert_eq!(steps(panel_of)[1..], [(Some(2.0), "yellow"), (Some(8.0), "red")]);
    assert!(
        panel_of["description"].as_str().unwrap().contains("LLMHighTTFT looks for more than 8 s")
    );
    assert_eq!(steps(panel(&moved, "GPU idle while work waits"))[1..], [(Some(0.5), "yellow")]);
}

#[test]
fn native_panels_ask_for_whole_histograms() {
    let classic = queries(&dashboard(&Derived::with(&[])));
    let native = queries(&dashboard(&Derived::with(&["--native"])));
    assert_eq!(classic.len(), native.len());
    let mut changed = 0;
    for (classic, native) in classic.iter().zip(&native) {
        assert!(!native.contains("_bucket") && !native.contains("by (le"), "{native}");
        changed += usize::from(classic != native);
        assert_eq!(classic.contains("_bucket"), classic != native, "{classic}")
    }
    // Three quantiles of two families, two of two more, two columns, two heatmaps.
    assert_eq!(changed, 3 * 2 + 2 * 2 + 2 + 2);
}
