//! Objects of a cluster, as another reader of YAML sees them.

use crate::Derived;
use crate::common::traffic::{Worker, ago, live_config};
use crate::common::{run_on, samples, tool};
use serde_json::Value;
use stepscope::Config;

fn python_yaml() -> bool {
    tool("python3", &["-c", "import yaml"])
}

/// The document, as PyYAML reads it.
fn read(derived: &Derived, file: &str) -> Value {
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
    let text = derived.read(file);
    let (ok, json, complaint) = run_on("python3", &["-c", script], text.as_bytes());
    assert!(ok, "{file}: {complaint}");
    serde_json::from_str(&json).unwrap()
}

#[test]
fn the_rules_of_the_cluster_are_those_of_the_file() {
    if !python_yaml() {
        return;
    }
    for args in [&[][..], &["--no-keep"]] {
        let derived = Derived::with(args);
        let object = read(&derived, "kubernetes/rules.yml");
        assert_eq!(object["kind"], "PrometheusRule");
        assert_eq!(object["apiVersion"], "monitoring.coreos.com/v1");
        let file = read(&derived, "prometheus/rules.yml");
        assert!(file["groups"].as_array().unwrap().len() == 6);
        assert_eq!(object["spec"], file)
    }
}

#[test]
fn the_dashboard_of_the_cluster_is_that_of_the_file() {
    if !python_yaml() {
        return;
    }
    let derived = Derived::with(&[]);
    let object = read(&derived, "kubernetes/dashboard.yml");
    assert_eq!(object["metadata"]["labels"]["grafana_dashboard"], "1");
    let held = object["data"]["stepscope-llm.json"].as_str().unwrap();
    assert_eq!(held, derived.read("grafana/dashboard.json"));
    // kubectl apply keeps the whole object in an annotation, which may have 256 KiB.
    assert!(derived.read("kubernetes/dashboard.yml").len() < 250 << 10);
}

/// `name op "value"` of the file against the operator's three fields.
fn same_matchers(object: &Value, file: &Value) {
    let written: Vec<String> = object
        .as_array()
        .unwrap()
        .iter()
        .map(|m| {
            let of = |field: &str| m[field].as_str().unwrap();
            format!("{}{}\"{}\"", of("name"), of("matchType"), of("value"))
        })
        .collect();
    let file: Vec<&str> = file.as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    assert_eq!(written, file);
}

#[test]
fn routes_and_inhibitions_of_the_cluster_are_those_of_the_file() {
    if !python_yaml() {
        return;
    }
    let derived = Derived::with(&[]);
    let object = read(&derived, "kubernetes/alertmanager.yml");
    let file = read(&derived, "alertmanager/alertmanager.yml");
    let spec = &object["spec"];
    let same_way = |ours: &Value, theirs: &Value| {
        for (camel, snake) in [
            ("receiver", "receiver"),
            ("groupBy", "group_by"),
            ("groupWait", "group_wait"),
            ("groupInterval", "group_interval"),
            ("repeatInterval", "repeat_interval"),
        ] {
            assert_eq!(ours[camel], theirs[snake], "{camel}")
        }
    };
    same_way(&spec["route"], &file["route"]);
    let pairs = |ours: &Value, theirs: &Value| -> Vec<(Value, Value)> {
        let (ours, theirs) = (ours.as_array().unwrap(), theirs.as_array().unwrap());
        assert!(ours.len() == theirs.len() && !ours.is_empty());
        ours.iter().cloned().zip(theirs.iter().cloned()).collect()
    };
    for (ours, theirs) in pairs(&spec["route"]["routes"], &file["route"]["routes"]) {
        same_way(&ours, &theirs);
        same_matchers(&ours["matchers"], &theirs["matchers"])
    }
    for (ours, theirs) in pairs(&spec["inhibitRules"], &file["inhibit_rules"]) {
        same_matchers(&ours["sourceMatch"], &theirs["source_matchers"]);
        same_matchers(&ours["targetMatch"], &theirs["target_matchers"]);
        assert_eq!(ours["equal"], theirs["equal"])
    }
    for (ours, theirs) in pairs(&spec["receivers"], &file["receivers"]) {
        assert_eq!(ours["name"], theirs["name"]);
        let (ours, theirs) = (&ours["webhookConfigs"][0], &theirs["webhook_configs"][0]);
        assert_eq!(ours["url"], theirs["url"]);
        assert_eq!(ours["sendResolved"], theirs["send_resolved"])
    }
}

#[test]
fn the_monitor_finds_what_the_pods_have_and_names_the_job_of_the_rules() {
    if !python_yaml() {
        return;
    }
    let derived = Derived::with(&["--job", "engines", "--native"]);
    let (monitor, pod) =
        (read(&derived, "kubernetes/podmonitor.yml"), read(&derived, "kubernetes/probes.yml"));
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    let template = &pod["spec"]["template"];
    let container = &template["spec"]["containers"][0];
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]);
    assert_eq!(endpoint["port"], container["ports"][0]["name"]);
    assert_eq!(endpoint["relabelings"][0]["replacement"], "engines");
    assert_eq!(endpoint["interval"], "15s");
    // A server that stores native histograms must keep the classic ones, which the rules read.
    assert_eq!(monitor["spec"]["scrapeClassicHistograms"], true);
    let listens = container["env"][0]["value"].as_str().unwrap();
    assert!(listens.ends_with(&format!(":{}", container["ports"][0]["containerPort"])));
    // A pod that is loaded must never be killed: no probe asks for the verdict.
    for (probe, path) in
        [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")]
    {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["port"], container["ports"][0]["name"])
    }
}

#[test]
fn a_picker_finds_one_series_for_each_name_it_is_told() {
    if !python_yaml() {
        return;
    }
    let derived = Derived::with(&[]);
    let picker = read(&derived, "kubernetes/endpoint-picker.yml");
    let plugin = &picker["plugins"][1];
    let engine = &plugin["parameters"]["engineConfigs"][0];
    assert_eq!(plugin["parameters"]["defaultEngine"], engine["name"]);
    let source = &picker["dataLayer"]["sources"][0];
    assert_eq!(source["pluginRef"], picker["plugins"][0]["type"]);
    assert_eq!(source["extractors"][0]["pluginRef"], plugin["type"]);
    let mut worker = Worker::start(Config { vllm_aliases: true, ..live_config() });
    worker.feed_everything(ago(1_000));
    let text = worker.text();
    for spec in ["queuedRequestsSpec", "runningRequestsSpec", "kvUsageSpec", "cacheInfoSpec"] {
        let name = engine[spec].as_str().unwrap();
        assert!(samples::value(&text, name, &[]).is_some(), "{spec}: {name} in {text}")
    }
}
