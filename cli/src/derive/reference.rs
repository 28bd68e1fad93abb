//! `metrics.md`: every family for those who read numbers or write queries.

use super::GENERATED;
use super::site::Site;
use super::uses;
use std::collections::BTreeMap;
use stepscope::catalog::alerts::{self, ALERTS};
use stepscope::catalog::grid::Grid;
use stepscope::catalog::{Id, Kind, Presence, ROWS, Row, System, Tier, Unit, quantity};

const INTRODUCTION: &str = "\
# Metrics

Every series carries `model` and `worker_id` besides the labels named here; `instance` and `job` come from the
scrape. A histogram `x` is exported as `x_bucket`, `x_sum` and `x_count`; what one sample of it is stands in its
text. Healthy ranges are those of a 70B model on eight H100: read them as a starting point, not as a law. What
the words mean: [definitions](../docs/definitions.md). What to do about an alert: [playbook](playbook.md).
";

/// Parts of the catalog, as the dashboard's rows.
const PARTS: [(Tier, &str); 4] = [
    (Tier::User, "What users feel"),
    (Tier::System, "GPU, KV cache, scheduler"),
    (Tier::Diagnostic, "Where time and tokens go"),
    (Tier::Own, "How far the instrument can be trusted"),
];

/// Histograms with the same bounds share a line at the end.
type Grids = BTreeMap<Vec<&'static str>, Vec<&'static str>>;

/// The file.
pub fn text(site: &Site) -> String {
    let mut text = format!("<!-- {GENERATED} -->\n\n{INTRODUCTION}");
    for (tier, title) in PARTS {
        text += &format!("\n## {title}\n");
        for row in ROWS.iter().filter(|row| row.tier == tier) {
            text += &family(site, row)
        }
    }
    text + &bounds()
}

fn family(site: &Site, row: &'static Row) -> String {
    let mut lines: Vec<(&str, String)> = vec![("type", kind(row))];
    lines.push(("labels", labels(row)));
    if let Kind::Histogram(grid) = row.kind {
        lines.push(("buckets", buckets(grid)));
        lines.push(("one sample", weight(row.help)))
    }
    if row.presence == Presence::WhenFed {
        let when = match row.id {
            Id::GpuAllocFailures | Id::GpuMemoryPreallocated => {
                "as soon as its GPU is known, from 0 on: alerts need it"
            }
            _ => "once something feeds it; absent until then, never 0",
        };
        lines.push(("exported", when.into()))
    }
    if let Some(healthy) = row.healthy {
        lines.push(("healthy", healthy.range.into()))
    }
    lines.extend(limits(site, row).map(|limits| ("limits", limits)));
    lines.extend(asked_by(row).map(|alerts| ("alerts", alerts)));
    lines.extend(stored(row).map(|names| ("stored as", names)));
    lines.extend(elsewhere(row).map(|names| ("elsewhere", names)));
    let table: String =
        lines.iter().map(|(what, text)| format!("| {what} | {} |\n", cell(text))).collect();
    format!("\n### {}\n\n{}\n\n| | |\n|---|---|\n{table}", row.name, row.help)
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn kind(row: &Row) -> String {
    let kind = match row.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Info => "info, always 1",
        Kind::Histogram(_) => "histogram",
    };
    match unit(row.unit) {
        "" => kind.into(),
        unit => format!("{kind}, {unit}"),
    }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Ratio => "share from 0 to 1",
        Unit::Celsius => "degrees Celsius",
        Unit::TokensPerSecond => "tokens per second",
        unit => unit.suffix(),
    }
}

fn labels(row: &Row) -> String {
    let open = row.by.names().iter().map(|name| format!("`{name}`"));
    let closed = row.split.iter().map(|label| {
        let values: Vec<String> = label.values.iter().map(|v| format!("`{v}`")).collect();
        format!("`{}` = {}", label.name, values.join(", "))
    });
    let all: Vec<String> = open.chain(closed).collect();
    if all.is_empty() { "none of its own".into() } else { all.join("; ") }
}

fn buckets(grid: Grid) -> String {
    match (grid.first(), grid.last()) {
        (Some(first), Some(last)) => {
            format!("{} bounds from {} to {} ([all](#buckets))", grid.len(), first.le, last.le)
        }
        _ => "none".into(),
    }
}

/// What a sample stands for, out of the help: the part that says it.
fn weight(help: &str) -> String {
    let parts = help.trim_end_matches('.').split(';').map(str::trim);
    let said = parts.into_iter().find_map(|part| part.split_once("one sample ").map(|(_, of)| of));
    said.unwrap_or(help).into()
}

fn limits(site: &Site, row: &Row) -> Option<String> {
    let words =
        |stored: u64| quantity::of_family(row.id).words(stored as f64 / row.unit.scale() as f64);
    let warning = site.limits.warning(row.id).map(|at| format!("warning above {}", words(at)));
    let critical = site.limits.critical(row.id).map(|at| format!("critical above {}", words(at)));
    let all: Vec<String> = warning.into_iter().chain(critical).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// A list of names, if there are any.
fn listed(names: Vec<String>) -> Option<String> {
    (!names.is_empty()).then(|| names.join(", "))
}

fn asked_by(row: &Row) -> Option<String> {
    let alerts = ALERTS.iter().filter(|alert| uses::of_alert(alert).contains(&row.id));
    let link = |name: &str| format!("[{name}](playbook.md#{})", name.to_lowercase());
    listed(alerts.map(|alert| link(alert.name)).collect())
}

fn stored(row: &Row) -> Option<String> {
    let recordings = alerts::recordings().filter(|r| uses::of_recording(r).contains(&row.id));
    let mut names: Vec<String> = recordings.map(|r| format!("`{}`", r.name())).collect();
    names.sort();
    // Several limits are stored under one name.
    names.dedup();
    listed(names)
}

fn elsewhere(row: &Row) -> Option<String> {
    let one = |alias: &stepscope::catalog::Alias| {
        let differs = if alias.same { "" } else { " (similar, not the same)" };
        format!("{}: `{}`{differs}", system(alias.system), alias.name)
    };
    listed(row.aliases.iter().map(one).collect())
}

fn system(system: System) -> &'static str {
    match system {
        System::Vllm => "vLLM",
        System::Sglang => "SGLang",
        System::Dynamo => "Dynamo",
        System::TensorRtLlm => "TensorRT-LLM",
        System::OpenTelemetry => "OpenTelemetry",
        System::Dcgm => "DCGM",
    }
}

/// Every set of bounds, and who has it.
fn bounds() -> String {
    let mut grids = Grids::new();
    for row in &ROWS {
        if let Kind::Histogram(grid) = row.kind {
            let les = grid.iter().map(|bound| bound.le).collect();
            grids.entry(les).or_default().push(row.name)
        }
    }
    let mut text = "\n## Buckets\n\nThe texts of `le`, the same in every format and on every site. All times are slices of one grid, which\nholds every limit.\n".to_string();
    let mut grids: Vec<_> = grids.into_iter().collect();
    // The most used first.
    grids.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    for (les, names) in grids {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        text += &format!("\n{}: {}, +Inf\n", names.join(", "), les.join(", "))
    }
    text
}
