//! Rules, scraping, the dashboard and the probes as objects of a cluster.

use super::{NAME, POD_LABEL, PORT};
use crate::derive::dashboard::{self, UID};
use crate::derive::site::Site;
use crate::derive::times::span;
use crate::derive::{rules, yaml};
use serde_json::{Value, json};
use std::net::SocketAddr;
use stepscope::DEFAULT_LISTEN;

/// The Prometheus operator's first API group.
const OPERATOR: &str = "monitoring.coreos.com/v1";

fn metadata() -> Value {
    json!({"name": NAME, "labels": {"app.kubernetes.io/name": NAME}})
}

/// The rules of `prometheus/rules.yml`, word for word, as a PrometheusRule.
pub fn rules(site: &Site) -> String {
    let rules = rules::text(site);
    let (comments, groups): (Vec<&str>, Vec<&str>) =
        rules.lines().partition(|line| line.starts_with('#'));
    let mut text = comments.join("\n");
    text += &format!(
        "\n# The labels must be those that your Prometheus' ruleSelector asks for.\n\
         apiVersion: {OPERATOR}\nkind: PrometheusRule\n\
         metadata:\n  name: {NAME}\n  labels:\n    app.kubernetes.io/name: {NAME}\nspec:\n"
    );
    for line in groups {
        let indent = if line.is_empty() { "" } else { "  " };
        text += &format!("{indent}{line}\n")
    }
    text
}

const MONITOR_NOTE: &str = "\
Scrapes every pod with this label at its port of this name. The job's name is what the rules ask for. The
label endpoint, which the operator sets to the port's name, must go: ours says which API was called.";

/// How the engines' pods are scraped.
pub fn monitor(site: &Site) -> String {
    let every = span(site.times.every_s());
    let mut spec = json!({
        "selector": {"matchLabels": {POD_LABEL.0: POD_LABEL.1}},
        "podMetricsEndpoints": [{
            "port": PORT,
            "path": "/metrics",
            "interval": every,
            "scrapeTimeout": span(site.times.every_s().min(10)),
            "relabelings": [
                {"targetLabel": "job", "replacement": site.job},
                {"action": "labeldrop", "regex": "endpoint"},
            ],
        }],
    });
    if site.native {
        spec["scrapeNativeHistograms"] = json!(true);
        spec["scrapeClassicHistograms"] = json!(true)
    }
    let monitor = json!({
        "apiVersion": OPERATOR, "kind": "PodMonitor", "metadata": metadata(), "spec": spec,
    });
    yaml::document(MONITOR_NOTE, &monitor)
}

/// The dashboard for Grafana's sidecar, which looks for the label.
pub fn dashboard(site: &Site) -> String {
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": UID, "labels": {"grafana_dashboard": "1"}},
        "data": {format!("{UID}.json"): dashboard::text(site)},
    });
    yaml::document("For Grafana's dashboard sidecar, by its usual label.", &map)
}

const PROBES_NOTE: &str = "\
A patch for your Deployment or LeaderWorkerSet: merge it into the engine's container and pod template.
Startup may take as long as the model takes to load: 180 failures, 10 s apart. Readiness takes a worker out of
the router when it starts, drains, stalls or has a broken GPU, never because it is loaded. Liveness restarts
only what has made no progress for minutes. Never use /health for it: a verdict is no reason to kill.";

/// What a pod needs: a port that can be reached from outside of it, and three probes.
pub fn probes(_: &Site) -> String {
    let port = DEFAULT_LISTEN.parse().map_or(0, |addr: SocketAddr| addr.port());
    let probe = |path: &str, period_s: u32, failures: u32| {
        json!({
            "httpGet": {"path": path, "port": PORT},
            "periodSeconds": period_s,
            "failureThreshold": failures,
            "timeoutSeconds": 2,
        })
    };
    let container = json!({
        "name": "engine",
        "env": [{"name": "STEPSCOPE_LISTEN", "value": format!("0.0.0.0:{port}")}],
        "ports": [{"name": PORT, "containerPort": port}],
        "startupProbe": probe("/readyz", 10, 180),
        "readinessProbe": probe("/readyz", 5, 2),
        "livenessProbe": probe("/livez", 10, 3),
    });
    let patch = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "engine"},
        "spec": {"template": {
            "metadata": {"labels": {POD_LABEL.0: POD_LABEL.1}},
            "spec": {"containers": [container]},
        }},
    });
    yaml::document(PROBES_NOTE, &patch)
}
