//! `prometheus/rules.yml`: every recording and alert of the catalog as rules of Prometheus.

use super::promql::Promql;
use super::site::Site;
use super::times::span;
use super::yaml;
use serde::Serialize;
use serde_saphyr::FlowMap;
use std::collections::BTreeMap;
use stepscope::catalog::alert::{Alert, Hold, Keep, SERVICE, Scope};
use stepscope::catalog::alerts::GROUPS;
use stepscope::catalog::quantity::Quantity;
use stepscope::catalog::recording::Recording;

#[derive(Serialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    name: &'static str,
    interval: String,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rule {
    Record(RecordRule),
    Alert(Box<AlertRule>),
}

#[derive(Serialize)]
struct RecordRule {
    record: String,
    expr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<FlowMap<BTreeMap<&'static str, String>>>,
}

#[derive(Serialize)]
struct AlertRule {
    alert: &'static str,
    expr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#for: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_for: Option<String>,
    labels: FlowMap<AlertLabels>,
    annotations: Annotations,
}

#[derive(Serialize)]
struct AlertLabels {
    severity: &'static str,
    signal: &'static str,
    scope: &'static str,
    service: &'static str,
}

/// What a person reads who was woken.
#[derive(Serialize)]
pub struct Annotations {
    /// What is wrong, with the value.
    pub summary: String,
    /// What users notice.
    pub impact: &'static str,
    /// What to do first.
    pub first_action: &'static str,
    /// More of it.
    pub runbook_url: String,
    /// Where to look.
    pub dashboard_url: String,
}

/// The file.
pub fn text(site: &Site) -> String {
    let promql = Promql(site);
    let groups = GROUPS.iter().map(|group| {
        let stored = group.recordings.iter().flat_map(|recording| record(promql, recording));
        let alerts = group.alerts.iter().map(|row| Rule::Alert(Box::new(alert(site, row))));
        Group {
            name: group.name,
            interval: span(site.times.every_s()),
            rules: stored.chain(alerts).collect(),
        }
    });
    let needs = if site.keep { "Needs Prometheus 2.42 (keep_firing_for)." } else { "" };
    let note = format!(
        "{needs}\nScrape at least every {}; job label of the engines' targets: {}.",
        span(site.times.every_s()),
        site.job
    );
    yaml::document(note.trim(), &Rules { groups: groups.collect() })
}

fn record(promql: Promql, recording: &Recording) -> Vec<Rule> {
    let rules = promql.recording(recording).into_iter().map(|(expr, labels)| {
        let labels: BTreeMap<_, _> = labels.into_iter().collect();
        Rule::Record(RecordRule {
            record: recording.name(),
            expr: expr.into_text(),
            labels: (!labels.is_empty()).then_some(FlowMap(labels)),
        })
    });
    rules.collect()
}

fn alert(site: &Site, row: &Alert) -> AlertRule {
    let keep = site.keep && row.keep != Keep::No;
    AlertRule {
        alert: row.name,
        expr: Promql(site).alert(row).into_text(),
        r#for: (row.hold != Hold::Now).then(|| span(site.times.hold_s(row.hold))),
        keep_firing_for: keep.then(|| span(site.times.keep_s(row.keep))),
        labels: FlowMap(AlertLabels {
            severity: row.severity.text(),
            signal: row.symptom.text(),
            scope: row.scope.text(),
            service: SERVICE,
        }),
        annotations: annotations(
            site,
            row,
            |name| format!("{{{{ $labels.{name} }}}}"),
            |quantity| format!("{{{{ $value | {} }}}}", humanized(quantity)),
        ),
    }
}

/// What is told of an alert; labels and the value as the caller has them.
pub fn annotations(
    site: &Site,
    row: &Alert,
    label: impl Fn(&str) -> String,
    value: impl Fn(Quantity) -> String,
) -> Annotations {
    let variables = match row.scope {
        Scope::Fleet => String::new(),
        Scope::Model => format!("?var-model={}", label("model")),
        Scope::Worker | Scope::Gpu => {
            format!("?var-model={}&var-worker={}", label("model"), label("worker_id"))
        }
    };
    Annotations {
        summary: site.limits.summary(row, label, value),
        impact: row.impact,
        first_action: row.first_action,
        runbook_url: format!("{}#{}", site.runbooks, row.name.to_lowercase()),
        dashboard_url: format!("{}{variables}", site.dashboard),
    }
}

/// The function of Prometheus' templates that writes such a number for people.
fn humanized(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Share => "humanizePercentage",
        Quantity::Seconds => "humanizeDuration",
        Quantity::Bytes => "humanize1024",
        Quantity::PerSecond | Quantity::Number => "humanize",
    }
}
