//! `kubernetes/alertmanager.yml`: the routes and inhibitions of the catalog as an AlertmanagerConfig.

use super::NAME;
use crate::derive::alertmanager::{Matcher, matchers};
use crate::derive::site::Site;
use crate::derive::times::span;
use crate::derive::yaml;
use serde_json::{Value, json};
use stepscope::catalog::routing::{INHIBITIONS, Inhibition, ROUTES, Route};

const NOTE: &str = "\
Set alertmanagerConfigMatcherStrategy: {type: None} on your Alertmanager: otherwise the operator restricts
every route and inhibition to alerts of this object's namespace. The webhooks are seams: put pagerdutyConfigs
under \"page\" and slackConfigs under \"chat\" and keep the names.";

/// The file.
pub fn text(site: &Site) -> String {
    let Some((rest, routes)) = ROUTES.split_last() else { return String::new() };
    let mut root = way(site, rest);
    // Without it, everything that the cluster ever alerts on would be copied to the last receiver.
    root["matchers"] = taken(&matchers(&rest.takes));
    root["routes"] = routes
        .iter()
        .map(|route| {
            let mut child = way(site, route);
            child["matchers"] = taken(&matchers(&route.takes));
            child
        })
        .collect();
    let receivers: Vec<Value> = ROUTES
        .iter()
        .map(|route| {
            let url = format!("{}/{}", site.webhook, route.receiver);
            let webhook = json!({"url": url, "sendResolved": route.resolved});
            json!({"name": route.receiver, "webhookConfigs": [webhook]})
        })
        .collect();
    let config = json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "AlertmanagerConfig",
        "metadata": {"name": NAME, "labels": {"app.kubernetes.io/name": NAME}},
        "spec": {
            "route": root,
            "receivers": receivers,
            "inhibitRules": INHIBITIONS.iter().map(inhibition).collect::<Vec<_>>(),
        },
    });
    yaml::document(NOTE, &config)
}

fn way(site: &Site, route: &Route) -> Value {
    let [wait, interval, repeat] = site.times.route_s(route).map(span);
    json!({
        "receiver": route.receiver,
        "groupBy": route.group_by,
        "groupWait": wait,
        "groupInterval": interval,
        "repeatInterval": repeat,
    })
}

fn inhibition(rule: &Inhibition) -> Value {
    let signal: &[&str] = if rule.same_symptom { &["signal"] } else { &[] };
    let equal = [signal, rule.equal].concat();
    json!({
        "sourceMatch": taken(&matchers(&rule.source)),
        "targetMatch": taken(&matchers(&rule.target)),
        "equal": equal,
    })
}

fn taken(matchers: &[Matcher]) -> Value {
    let one = |m: &Matcher| json!({"name": m.label, "matchType": m.operator, "value": m.value});
    matchers.iter().map(one).collect()
}
