//! `alertmanager/alertmanager.yml`: the catalog's routes and inhibitions, receivers as seams.

use super::site::Site;
use super::times::span;
use super::yaml;
use serde::Serialize;
use serde_saphyr::{Commented, FlowMap, FlowSeq};
use stepscope::catalog::alert::{AlertId, SERVICE};
use stepscope::catalog::alerts;
use stepscope::catalog::routing::{INHIBITIONS, Inhibition, Pattern, ROUTES, Route};

#[derive(Serialize)]
struct Config {
    global: Global,
    route: Root,
    receivers: Vec<Receiver>,
    inhibit_rules: Vec<InhibitRule>,
}

#[derive(Serialize)]
struct Global {
    resolve_timeout: &'static str,
}

#[derive(Serialize)]
struct Root {
    #[serde(flatten)]
    way: Way,
    routes: Vec<Child>,
}

#[derive(Serialize)]
struct Child {
    matchers: Commented<FlowSeq<Vec<String>>>,
    #[serde(flatten)]
    way: Way,
}

#[derive(Serialize)]
struct Way {
    receiver: &'static str,
    group_by: FlowSeq<Vec<&'static str>>,
    group_wait: String,
    group_interval: String,
    repeat_interval: String,
}

#[derive(Serialize)]
struct Receiver {
    name: &'static str,
    webhook_configs: Vec<FlowMap<Webhook>>,
}

#[derive(Serialize)]
struct Webhook {
    url: String,
    send_resolved: bool,
}

#[derive(Serialize)]
struct InhibitRule {
    source_matchers: Commented<FlowSeq<Vec<String>>>,
    target_matchers: FlowSeq<Vec<String>>,
    equal: FlowSeq<Vec<&'static str>>,
}

const NOTE: &str = "\
Routes by severity, inhibition by the labels that every rule carries.
The webhooks are seams: put pagerduty_configs under \"page\" and slack_configs under \"chat\" (secrets
from mounted files) and keep the names.";

/// The file.
pub fn text(site: &Site) -> String {
    let (rest, routes) = match ROUTES.split_last() {
        Some((rest, routes)) => (rest, routes),
        None => return String::new(),
    };
    let config = Config {
        global: Global { resolve_timeout: "5m" },
        route: Root {
            way: way(site, rest),
            routes: routes
                .iter()
                .map(|route| Child {
                    matchers: Commented(written(&matchers(&route.takes)), route.why.into()),
                    way: way(site, route),
                })
                .collect(),
        },
        receivers: ROUTES
            .iter()
            .map(|route| Receiver {
                name: route.receiver,
                webhook_configs: vec![FlowMap(Webhook {
                    url: format!("{}/{}", site.webhook, route.receiver),
                    send_resolved: route.resolved,
                })],
            })
            .collect(),
        inhibit_rules: INHIBITIONS.iter().map(inhibition).collect(),
    };
    yaml::document(NOTE, &config)
}

fn way(site: &Site, route: &Route) -> Way {
    let [wait, interval, repeat] = site.times.route_s(route).map(span);
    Way {
        receiver: route.receiver,
        group_by: FlowSeq(route.group_by.to_vec()),
        group_wait: wait,
        group_interval: interval,
        repeat_interval: repeat,
    }
}

fn inhibition(rule: &Inhibition) -> InhibitRule {
    let signal: &[&str] = if rule.same_symptom { &["signal"] } else { &[] };
    InhibitRule {
        source_matchers: Commented(written(&matchers(&rule.source)), rule.why.into()),
        target_matchers: written(&matchers(&rule.target)),
        equal: FlowSeq([signal, rule.equal].concat()),
    }
}

/// One restriction of a route or an inhibition.
pub struct Matcher {
    /// Name of the label.
    pub label: &'static str,
    /// `=`, `!=`, `=~` or `!~`.
    pub operator: &'static str,
    /// The value, or the values as a regular expression.
    pub value: String,
}

fn written(matchers: &[Matcher]) -> FlowSeq<Vec<String>> {
    let one = |m: &Matcher| format!("{}{}\"{}\"", m.label, m.operator, m.value);
    FlowSeq(matchers.iter().map(one).collect())
}

/// Ours, and what the pattern restricts.
pub fn matchers(pattern: &Pattern) -> Vec<Matcher> {
    let name = |id: &AlertId| alerts::alert(*id).name;
    let alerts = pattern.alerts.iter().map(name).collect();
    let severities = pattern.severities.iter().map(|severity| severity.text()).collect();
    let scopes = pattern.scopes.iter().map(|scope| scope.text()).collect();
    let symptoms = pattern.symptoms.iter().map(|symptom| symptom.text()).collect();
    let but = pattern.but.iter().map(name).collect();
    let but_symptoms = pattern.but_symptoms.iter().map(|symptom| symptom.text()).collect();
    let of = |label, values: Vec<&str>, only: bool| {
        let operator = match (only, values.len()) {
            (_, 0) => return None,
            (true, 1) => "=",
            (true, _) => "=~",
            (false, 1) => "!=",
            (false, _) => "!~",
        };
        Some(Matcher { label, operator, value: values.join("|") })
    };
    let restrictions = [
        of("alertname", alerts, true),
        of("severity", severities, true),
        of("scope", scopes, true),
        of("signal", symptoms, true),
        of("alertname", but, false),
        of("signal", but_symptoms, false),
    ];
    let ours = Matcher { label: "service", operator: "=", value: SERVICE.into() };
    std::iter::once(ours).chain(restrictions.into_iter().flatten()).collect()
}
