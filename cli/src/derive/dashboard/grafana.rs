//! Grafana's form of a dashboard, schema 39: later versions read it and migrate it themselves.

use super::layout::{Layout, Place};
use super::panel::{self, Panel, View};
use crate::derive::GENERATED;
use crate::derive::site::Site;
use serde::Serialize;
use serde_json::{Value, json};
use stepscope::catalog::alert::{SERVICE, Severity};
use stepscope::catalog::{self, Id};

/// Version of the JSON's form.
const SCHEMA_VERSION: u32 = 39;

/// The whole dashboard.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    title: &'static str,
    uid: &'static str,
    description: String,
    tags: [&'static str; 3],
    schema_version: u32,
    version: u32,
    editable: bool,
    graph_tooltip: u32,
    timezone: &'static str,
    refresh: &'static str,
    time: Value,
    links: Vec<Link>,
    annotations: Value,
    templating: Value,
    panels: Vec<Shown>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shown {
    Heading(Value),
    Panel(Box<Body>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    id: u32,
    r#type: &'static str,
    title: &'static str,
    description: String,
    datasource: Value,
    grid_pos: Place,
    links: Vec<Link>,
    field_config: Value,
    options: Value,
    targets: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    transformations: Vec<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    title: String,
    url: String,
    target_blank: bool,
    /// What a dashboard's own links need, and a panel's refuse.
    #[serde(flatten)]
    more: Option<LinkMore>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkMore {
    r#type: &'static str,
    icon: &'static str,
    tooltip: &'static str,
    tags: [&'static str; 0],
    as_dropdown: bool,
    include_vars: bool,
    keep_time: bool,
}

/// A dashboard of these rows.
pub fn dashboard(site: &Site, rows: impl Iterator<Item = (&'static str, Vec<Panel>)>) -> Dashboard {
    let mut shown = vec![];
    let mut layout = Layout::default();
    let mut id = 0..;
    let mut next = || id.next().map_or(0, |id: u32| id + 1);
    for (title, panels) in rows {
        shown.push(Shown::Heading(json!({
            "id": next(),
            "type": "row",
            "title": title,
            "collapsed": false,
            "gridPos": layout.heading(),
            "panels": [],
        })));
        for panel in panels {
            let place = layout.panel(panel.size);
            shown.push(Shown::Panel(Box::new(body(site, &panel, next(), place))))
        }
    }
    Dashboard {
        title: "LLM serving",
        uid: super::UID,
        description: format!("{GENERATED} Every limit and healthy range is the catalog's."),
        tags: ["llm", "inference", "stepscope"],
        schema_version: SCHEMA_VERSION,
        version: 1,
        editable: true,
        graph_tooltip: 1,
        timezone: "utc",
        refresh: "10s",
        time: json!({"from": "now-1h", "to": "now"}),
        links: vec![playbook(site)],
        annotations: json!({"list": [firing_alerts()]}),
        templating: json!({"list": variables()}),
        panels: shown,
    }
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn playbook(site: &Site) -> Link {
    Link {
        title: "Playbook".into(),
        url: site.runbooks.clone(),
        target_blank: true,
        more: Some(LinkMore {
            r#type: "link",
            icon: "doc",
            tooltip: "What to do about each alert",
            tags: [],
            as_dropdown: false,
            include_vars: false,
            keep_time: false,
        }),
    }
}

/// Marks on every panel where alerts fired that somebody hears of.
fn firing_alerts() -> Value {
    let heard = [Severity::Critical, Severity::Warning].map(Severity::text).join("|");
    json!({
        "name": "Firing alerts",
        "enable": true,
        "datasource": datasource(),
        "iconColor": "red",
        "expr": format!(
            "ALERTS{{alertstate=\"firing\",service=\"{SERVICE}\",severity=~\"{heard}\"}}"
        ),
        "titleFormat": "{{alertname}}",
        "textFormat": "{{model}} {{worker_id}}",
        "step": "60s",
    })
}

fn variables() -> [Value; 3] {
    let info = catalog::row(Id::WorkerInfo).name;
    let query = |name: &str, title: &str, text: String| {
        json!({
            "name": name,
            "label": title,
            "type": "query",
            "datasource": datasource(),
            "query": {"query": text, "refId": name},
            "definition": text,
            "multi": true,
            "includeAll": true,
            "allValue": ".*",
            // When the time range changes: a worker of yesterday is in yesterday's list.
            "refresh": 2,
            "sort": 1,
            "current": {"text": ["All"], "value": ["$__all"]},
        })
    };
    [
        json!({
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
        }),
        query("model", "Model", format!("label_values({info}, model)")),
        query("worker", "Worker", format!("label_values({info}{{model=~\"$model\"}}, worker_id)")),
    ]
}

fn body(site: &Site, panel: &Panel, id: u32, place: Place) -> Body {
    let link = |alert: &stepscope::catalog::alert::Alert| Link {
        title: format!("{}: what to do", alert.name),
        url: format!("{}#{}", site.runbooks, alert.name.to_lowercase()),
        target_blank: true,
        more: None,
    };
    Body {
        id,
        r#type: kind(panel.view),
        title: panel.title,
        description: panel.description(site),
        datasource: datasource(),
        grid_pos: place,
        links: panel.alerts().into_iter().map(link).collect(),
        field_config: json!({"defaults": defaults(site, panel), "overrides": overrides(panel)}),
        options: options(panel),
        targets: targets(panel),
        transformations: transformations(panel),
    }
}

fn kind(view: View) -> &'static str {
    match view {
        View::Stat => "stat",
        View::Gauge => "gauge",
        View::Lines | View::Stacked => "timeseries",
        View::Heat => "heatmap",
        View::Table => "table",
    }
}

fn targets(panel: &Panel) -> Vec<Value> {
    let instant = panel.view == View::Table;
    let format = match panel.view {
        View::Heat => "heatmap",
        View::Table => "table",
        _ => "time_series",
    };
    let letters = 'A'..='Z';
    let one = |(letter, target): (char, &panel::Target)| {
        json!({
            "refId": letter.to_string(),
            "datasource": datasource(),
            "expr": target.expr,
            "legendFormat": target.legend,
            "format": format,
            "exemplar": panel.exemplars,
            "range": !instant,
            "instant": instant,
        })
    };
    letters.zip(&panel.targets).map(one).collect()
}

/// Colours: the base has no number, and each step says where it begins.
fn thresholds(site: &Site, panel: &Panel) -> Value {
    let mut steps = vec![json!({"value": null, "color": "green"})];
    for step in &panel.steps {
        let (at, severity) = panel::place(site, *step);
        let color = if severity == Severity::Critical { "red" } else { "yellow" };
        steps.push(json!({"value": at, "color": color}))
    }
    json!({"mode": "absolute", "steps": steps})
}

fn defaults(site: &Site, panel: &Panel) -> Value {
    let mut defaults = json!({"unit": panel.unit, "thresholds": thresholds(site, panel)});
    if panel.whole {
        defaults["min"] = json!(0);
        defaults["max"] = json!(1)
    }
    if matches!(panel.view, View::Lines | View::Stacked) {
        let stacked = panel.view == View::Stacked;
        let lines = if panel.steps.is_empty() { "off" } else { "line" };
        defaults["custom"] = json!({
            "thresholdsStyle": {"mode": lines},
            "stacking": {"mode": if stacked { "normal" } else { "none" }, "group": "A"},
            "fillOpacity": if stacked { 20 } else { 0 },
        })
    }
    defaults
}

/// Each column of a table has a unit of its own.
fn overrides(panel: &Panel) -> Vec<Value> {
    if panel.view != View::Table {
        return vec![];
    }
    let of = |target: &panel::Target| {
        json!({
            "matcher": {"id": "byName", "options": target.legend},
            "properties": [{"id": "unit", "value": target.unit}],
        })
    };
    panel.targets.iter().map(of).collect()
}

fn options(panel: &Panel) -> Value {
    let last = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
    match panel.view {
        View::Stat => json!({
            "reduceOptions": last,
            "colorMode": if panel.steps.is_empty() { "none" } else { "background" },
            "graphMode": "area",
        }),
        View::Gauge => json!({"reduceOptions": last, "showThresholdLabels": false}),
        View::Lines | View::Stacked => json!({
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }),
        View::Heat => heat(panel),
        View::Table => json!({"showHeader": true}),
    }
}

/// Buckets come as they are: Grafana must not make its own.
fn heat(panel: &Panel) -> Value {
    json!({
        "calculate": false,
        "yAxis": {"unit": panel.unit, "axisPlacement": "left"},
        "rowsFrame": {"layout": "auto"},
        "color": {
            "mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5,
            "fill": "dark-orange",
        },
        "cellGap": 1,
        "filterValues": {"le": 1e-9},
        "tooltip": {"mode": "single", "yHistogram": true},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "legend": {"show": true},
        "showValue": "never",
    })
}

/// Rows of one worker become one row, and columns get their names.
fn transformations(panel: &Panel) -> Vec<Value> {
    if panel.view != View::Table {
        return vec![];
    }
    let names: serde_json::Map<String, Value> = ('A'..='Z')
        .zip(&panel.targets)
        .map(|(letter, target)| (format!("Value #{letter}"), json!(target.legend)))
        .collect();
    vec![
        json!({"id": "merge", "options": {}}),
        json!({
            "id": "organize",
            "options": {"excludeByName": {"Time": true}, "renameByName": names},
        }),
    ]
}
