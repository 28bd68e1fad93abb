//! `playbook.md`: what to do about each alert, one page per family of symptoms.
//!
//! Prose stands in the Markdown files of this folder; whatever a row of the catalog says (names,
//! limits, impact, the first action) stands there as a placeholder and is filled in here:
//!
//! | placeholder | becomes |
//! |---|---|
//! | `{{Ttft}}` | name of the family |
//! | `{{name HighTtft}}`, `{{alert HighTtft}}` | name of the alert, plain or as a link to its page |
//! | `{{limit HighTtft}}`, `{{limit HighTtft 2}}` | limit in force of its first, of its second condition |
//! | `{{bound HighTtft}}` | bucket bound above which it counts |
//! | `{{signal HighTtft}}`, `{{signal HighTtft 2}}` | name of what is stored for a condition |
//! | `{{buckets worker Ttft 5m}}` | name of a histogram's stored buckets |
//! | `{{job}}`, `{{objectives}}` | job label of the targets; the objectives as a list |

mod fill;

use super::GENERATED;
use super::site::Site;
use super::times::span;
use stepscope::catalog::alert::{Alert, Hold, Keep, Runbook};
use stepscope::catalog::alerts::ALERTS;
use stepscope::catalog::routing;

const INTRODUCTION: &str = "\
# Playbook

For the person who was woken. Find the alert's name, do what its first line says, then read on. Each page:
what it means, what to ask Prometheus, what causes it, what to do now, what to do so that it does not come
back, whom to call and when.

Slow answers without an alert to start from: ask in this order, and stop at the first that is wrong.
**Progress** (does a step end?), **KV cache** (do requests wait for blocks?), **queue** (is it load?), **GPU step
time** (is the device slow?), **host gap** (does the GPU wait for the CPU?).

Queries are for Prometheus as they stand; add `{model=\"...\"}` to narrow them down.
";

/// The page of a family of symptoms.
fn page(runbook: Runbook) -> &'static str {
    match runbook {
        Runbook::Stall => include_str!("stall.md"),
        Runbook::Ttft => include_str!("ttft.md"),
        Runbook::Tbt => include_str!("tbt.md"),
        Runbook::Kv => include_str!("kv.md"),
        Runbook::Preemption => include_str!("preemption.md"),
        Runbook::Queue => include_str!("queue.md"),
        Runbook::Host => include_str!("host.md"),
        Runbook::Outlier => include_str!("outlier.md"),
        Runbook::Errors => include_str!("errors.md"),
        Runbook::Slo => include_str!("slo.md"),
        Runbook::Traffic => include_str!("traffic.md"),
        Runbook::GpuMemory => include_str!("gpu_memory.md"),
        Runbook::GpuFault => include_str!("gpu_fault.md"),
        Runbook::GpuClocks => include_str!("gpu_clocks.md"),
        Runbook::Targets => include_str!("targets.md"),
        Runbook::Telemetry => include_str!("telemetry.md"),
        Runbook::Watchdog => include_str!("watchdog.md"),
    }
}

/// The alerts of a page, the worst first.
fn alerts_of(runbook: Runbook) -> Vec<&'static Alert> {
    let mut alerts: Vec<_> =
        ALERTS.iter().filter(|alert| alert.symptom.runbook() == runbook).collect();
    alerts.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
    alerts
}

/// The file.
pub fn text(site: &Site) -> String {
    let mut text = format!("<!-- {GENERATED} -->\n\n{INTRODUCTION}\n");
    for runbook in Runbook::ALL {
        let links: Vec<String> = alerts_of(runbook).into_iter().map(fill::link).collect();
        text += &format!("- {}\n", links.join(", "))
    }
    for runbook in Runbook::ALL {
        text += "\n";
        text += &entry(site, runbook)
    }
    text
}

fn entry(site: &Site, runbook: Runbook) -> String {
    let alerts = alerts_of(runbook);
    let names: Vec<&str> = alerts.iter().map(|alert| alert.name).collect();
    let mut text = String::new();
    for name in &names {
        text += &format!("<a id=\"{}\"></a>\n", name.to_lowercase())
    }
    text += &format!("\n## {}\n\n", names.join(", "));
    for alert in &alerts {
        text += &first_line(alert, alerts.len() > 1)
    }
    text += "**Fires.**\n\n";
    for alert in &alerts {
        text += &fires(site, alert)
    }
    text += "\n**Impact.**";
    for alert in &alerts {
        let whose = if alerts.len() > 1 { format!(" {}:", alert.name) } else { String::new() };
        text += &format!("{whose} {}", alert.impact)
    }
    text + "\n\n" + fill::filled(site, page(runbook)).trim_end() + "\n"
}

/// What to do first; with the alert's name where the page has several.
fn first_line(alert: &Alert, of_several: bool) -> String {
    let whose = if of_several { format!("{}: ", alert.name) } else { String::new() };
    format!("**{whose}{}**\n\n", alert.first_action)
}

/// When it fires and whom it wakes: `LLMHighTTFT (critical, to page): ...`.
fn fires(site: &Site, alert: &Alert) -> String {
    let first = &alert.conds()[0];
    let limit = first.test.limit().map(|limit| site.limits.value(alert.id, limit));
    let value = |quantity: stepscope::catalog::quantity::Quantity| match limit {
        Some(0.0) => "some".into(),
        Some(limit) => format!("more than {}", quantity.words(limit)),
        None => String::new(),
    };
    let summary = site.limits.summary(alert, |label| format!("*{label}*"), value);
    let receiver = routing::route(alert).receiver;
    let mut times = vec![];
    if alert.hold != Hold::Now {
        times.push(format!("after {}", span(site.times.hold_s(alert.hold))))
    }
    if site.keep && alert.keep != Keep::No {
        times.push(format!("stays {} after the end", span(site.times.keep_s(alert.keep))))
    }
    let times = if times.is_empty() { String::new() } else { format!(" ({})", times.join(", ")) };
    let severity = alert.severity.text();
    format!("- {} ({severity}, to {receiver}): {summary}{times}.\n", alert.name)
}
