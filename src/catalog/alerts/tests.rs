//! The golden list of alerts and recordings, and what the compiler cannot check.

use super::{ALERTS, alert, proof, recordings};
use crate::catalog::Id;
use crate::catalog::alert::{Alert, AlertId, Hold, Keep, Scope, Severity, When};
use crate::catalog::limits::Limits;
use crate::catalog::objective::OBJECTIVES;
use crate::catalog::quantity::Quantity;
use crate::catalog::routing::{ROUTES, route};
use crate::catalog::signal::{Cond, Limit, Reader, Series, Signal, Window};

/// A rename is deliberate: change it here too, and say so in the changelog.
const GOLDEN: &str = include_str!("golden.txt");

#[test]
fn alerts_and_recordings_are_the_golden_ones() {
    let alerts = ALERTS.iter().map(|alert| {
        let (severity, symptom) = (alert.severity.text(), alert.symptom.text());
        let (hold, keep) = (alert.hold.seconds(), alert.keep.seconds());
        let (scope, reader) = (alert.scope.text(), alert.reader());
        format!("{} {severity} {symptom} {scope} {hold}/{keep} {reader:?}\n", alert.name)
    });
    let stored = recordings().map(|recording| format!("{}\n", recording.name()));
    let found: String = alerts.chain(stored).collect();
    assert_eq!(found, GOLDEN, "alerts or recordings changed");
}

#[test]
fn every_alert_is_found_by_its_id() {
    for row in &ALERTS {
        assert_eq!(alert(row.id).name, row.name);
        assert!(row.name.starts_with("LLM"));
    }
    assert_eq!(ALERTS.len(), AlertId::Watchdog as usize + 1);
}

#[test]
fn texts_name_only_alerts_that_exist() {
    for row in &ALERTS {
        for text in [row.summary, row.impact, row.first_action] {
            let words = text.split(|c: char| !c.is_alphanumeric());
            for word in words.filter(|word| word.starts_with("LLM") && word.len() > 3) {
                assert!(ALERTS.iter().any(|other| other.name == word), "{}: {word}", row.name);
            }
        }
    }
}

/// What stands in braces in a summary.
fn placeholders(alert: &Alert) -> Vec<&'static str> {
    let parts = alert.summary.split('{').skip(1);
    parts.map(|part| part.split_once('}').unwrap().0).collect()
}

#[test]
fn summaries_ask_only_for_what_the_alert_has() {
    for row in &ALERTS {
        for placeholder in placeholders(row) {
            let label = |name| row.scope.labels().contains(&name);
            let known = match placeholder {
                "model" => label("model"),
                "worker" => label("worker_id"),
                "instance" => label("instance"),
                "node" => label("node"),
                "gpu" => label("gpu_id"),
                "objective" => row.family() == Some(Id::SloEvents),
                "value" | "limit" => row.conds()[0].test.limit().is_some(),
                "bound" => matches!(row.conds()[0].signal, Signal::Slow { .. }),
                "guard" => row.conds()[1].test.limit().is_some(),
                _ => false,
            };
            assert!(known, "{}: {{{placeholder}}}", row.name);
        }
    }
}

#[test]
fn numbers_stand_in_no_summary_but_through_their_limits() {
    for row in &ALERTS {
        for cond in row.conds() {
            let limit = match (cond.signal, cond.test.limit()) {
                (Signal::Slow { bound, histogram, .. }, _) => {
                    (bound, crate::catalog::row(histogram).unit)
                }
                (_, Some(limit @ (Limit::Own(_) | Limit::Warning(_) | Limit::Critical(_)))) => {
                    (limit, crate::catalog::Unit::Count)
                }
                _ => continue,
            };
            let value = Limits::default().value(row.id, limit.0);
            let number = Quantity::Number.words(value);
            let words = row.summary.split(|c: char| !(c.is_alphanumeric() || c == '.'));
            for word in words {
                // `p99`, `5 minutes` and `6 h` are names and windows.
                let window = row.id == AlertId::TrafficStopped || row.id == AlertId::SloSlowBurn;
                assert!(word != number || window, "{} types {number}", row.name);
            }
        }
    }
}

#[test]
fn every_recording_has_a_whole_name_of_its_own() {
    let mut names: Vec<String> = recordings()
        // Rules on two bounds of one histogram share a name and differ in the label `limit`.
        .filter(|r| !r.name().contains("_slow:"))
        .map(|recording| recording.name())
        .collect();
    for name in &names {
        assert!(name.split(':').count() == 3 && !name.ends_with(':'), "{name}");
    }
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_process_evaluates_all_it_can_know_of() {
    let own: Vec<&str> =
        ALERTS.iter().filter(|a| a.reader() == Reader::Both).map(|a| a.name).collect();
    assert_eq!(own.len(), 21, "{own:?}");
    for row in ALERTS.iter().filter(|row| row.reader() == Reader::Both) {
        assert!(row.severity != Severity::None && row.scope != Scope::Fleet, "{}", row.name);
    }
}

#[test]
fn each_severity_has_a_way() {
    let ways: Vec<&str> = ROUTES.iter().map(|route| route.receiver).collect();
    assert_eq!(ways, ["deadman", "page", "chat", "log"]);
    for row in &ALERTS {
        let way = match row.severity {
            Severity::Critical => "page",
            Severity::Warning => "chat",
            Severity::Info => "log",
            Severity::None => "deadman",
        };
        assert_eq!(route(row).receiver, way, "{}", row.name);
    }
}

#[test]
fn budgets_and_targets_are_two_sides_of_one_number() {
    let said: Vec<(&str, f64, f64)> =
        OBJECTIVES.iter().map(|o| (o.name, o.target(), o.budget())).collect();
    assert_eq!(said, [("availability", 0.999, 0.001), ("ttft", 0.99, 0.01), ("tbt", 0.99, 0.01)]);
}

#[test]
fn a_limit_that_is_no_bound_is_refused_with_its_neighbours() {
    let mut limits = Limits::default();
    let error = limits.set_critical(Id::Ttft, 7.0).unwrap_err().to_string();
    assert_eq!(
        error,
        "llm_ttft_seconds critical = 7: a limit must be a bucket bound: take 5.0 or 8.0"
    );
    let error = limits.set_warning(Id::Tbt, 1e-9).unwrap_err().to_string();
    assert!(error.ends_with("take 0.0005"), "{error}");
    limits.set_critical(Id::Ttft, 8.0).unwrap();
    assert_eq!(limits.bound(Id::Ttft, Limit::Critical(Id::Ttft)).unwrap().le, "8.0");
    assert_eq!(limits.value(AlertId::HighTtft, Limit::Critical(Id::Ttft)), 8.0);
    assert_eq!(Limits::default().value(AlertId::HighTtft, Limit::Critical(Id::Ttft)), 5.0);
}

#[test]
fn limits_keep_their_order_and_their_owner() {
    let mut limits = Limits::default();
    let error = limits.set_warning(Id::QueueDepth, 200.0).unwrap_err().to_string();
    assert!(error.contains("before the critical"), "{error}");
    let error = limits.set_critical(Id::Preemptions, 1.0).unwrap_err().to_string();
    assert!(error.contains("no alert looks at"), "{error}");
    let error = limits.set_own(AlertId::HighTtft, 3.0).unwrap_err().to_string();
    assert!(error.contains("that of llm_ttft_seconds"), "{error}");
    let error = limits.set_own(AlertId::GpuFault, 3.0).unwrap_err().to_string();
    assert!(error.contains("no limit that could be set"), "{error}");
    limits.set_own(AlertId::HostBound, 0.5).unwrap();
    assert_eq!(limits.value(AlertId::HostBound, Limit::Own(0.3)), 0.5);
    assert!(limits.set_own(AlertId::HostBound, f64::NAN).is_err());
}

#[test]
fn values_read_as_people_write_them() {
    let said = [
        Quantity::Share.words(0.01),
        Quantity::Share.words(0.001),
        Quantity::Seconds.words(0.15),
        Quantity::Seconds.words(5.0),
        Quantity::Number.words(50.0),
        Quantity::PerSecond.words(0.1),
    ];
    assert_eq!(said, ["1 %", "0.1 %", "150 ms", "5 s", "50", "0.1"]);
}

#[test]
fn what_signals_measure_follows_from_their_families() {
    let of = |id| alert(id).conds()[0].signal.quantity();
    assert_eq!(of(AlertId::HighTtft), Quantity::Share);
    assert_eq!(of(AlertId::KvCachePressure), Quantity::Share);
    assert_eq!(of(AlertId::GpuThrottled), Quantity::Share);
    assert_eq!(of(AlertId::GpuMemoryCritical), Quantity::Share);
    assert_eq!(of(AlertId::EngineStalled), Quantity::Seconds);
    assert_eq!(of(AlertId::QueueBuildup), Quantity::Number);
    assert_eq!(alert(AlertId::QueueBuildup).conds()[1].signal.quantity(), Quantity::Seconds);
    assert_eq!(of(AlertId::PreemptionStorm), Quantity::PerSecond);
}

#[test]
fn a_summary_is_filled_with_limits_labels_and_the_value() {
    let mut limits = Limits::default();
    limits.set_critical(Id::Ttft, 8.0).unwrap();
    let said = |id| limits.summary(alert(id), |label| format!("<{label}>"), |q| format!("{q:?}"));
    assert_eq!(
        said(AlertId::HighTtft),
        "<model>: Share of requests wait over 8 s for their first token (p99 TTFT > 8 s)"
    );
    assert_eq!(
        said(AlertId::QueueOverload),
        "<worker_id>: Number requests wait, over 15 s of work"
    );
}

/// What the compiler would say of the rows with one of them changed.
fn complaint(id: AlertId, change: impl FnOnce(&mut Alert)) -> String {
    let mut rows = ALERTS;
    change(&mut rows[id as usize]);
    let refused = std::panic::catch_unwind(|| proof::check(&rows)).expect_err("it was accepted");
    let said = refused.downcast_ref::<&str>().map(ToString::to_string);
    said.or(refused.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn all(conds: &'static [Cond]) -> When {
    When::All(conds)
}

#[test]
fn rows_as_they_are_pass() {
    proof::check(&ALERTS)
}

#[test]
fn a_row_out_of_place_breaks_the_build() {
    let said = complaint(AlertId::HighTtft, |row| row.id = AlertId::ElevatedTtft);
    assert!(said.contains("order of their ids"), "{said}");
}

#[test]
fn a_critical_without_a_first_action_breaks_the_build() {
    let said = complaint(AlertId::EngineStalled, |row| row.first_action = "");
    assert!(said.contains("what to do first"), "{said}");
}

#[test]
fn a_latency_limit_that_is_no_bound_breaks_the_build() {
    const CONDS: &[Cond] = &[Cond::above(
        Signal::Slow {
            histogram: Id::Ttft,
            // 50 ns.
            bound: Limit::Warning(Id::QueueDepth),
            window: Window::M5,
        },
        Limit::Guard(0.01),
    )];
    let said = complaint(AlertId::HighTtft, |row| row.when = all(CONDS));
    assert!(said.contains("a bound of the grid"), "{said}");
}

#[test]
fn a_label_value_that_does_not_exist_breaks_the_build() {
    const CONDS: &[Cond] = &[Cond::above(
        Signal::Since { of: Series::all(Id::GpuXid).only("class", &["deadly"]) },
        Limit::Guard(0.0),
    )];
    let said = complaint(AlertId::GpuFault, |row| row.when = all(CONDS));
    assert!(said.contains("no such value"), "{said}");
}

#[test]
fn growth_of_a_level_breaks_the_build() {
    const CONDS: &[Cond] = &[Cond::above(
        Signal::Rate { of: Series::all(Id::QueueDepth), window: Window::M5 },
        Limit::Own(1.0),
    )];
    let said = complaint(AlertId::GpuThrottled, |row| row.when = all(CONDS));
    assert!(said.contains("growth is of a counter"), "{said}");
}

#[test]
fn a_window_longer_than_a_process_remembers_breaks_the_build() {
    const CONDS: &[Cond] = &[Cond::above(
        Signal::Count { of: Series::all(Id::GpuAllocFailures), window: Window::M30 },
        Limit::Guard(0.0),
    )];
    let said = complaint(AlertId::GpuAllocFailed, |row| row.when = all(CONDS));
    assert!(said.contains("rows of ten minutes"), "{said}");
}

#[test]
fn a_warning_at_or_above_its_critical_breaks_the_build() {
    let critical = alert(AlertId::HighErrorRate).when;
    let said = complaint(AlertId::ElevatedErrorRate, |row| row.when = critical);
    assert!(said.contains("a warning comes before a critical"), "{said}");
}

#[test]
fn a_warning_that_would_be_told_before_its_critical_breaks_the_build() {
    let said = complaint(AlertId::ElevatedErrorRate, |row| row.hold = Hold::M2);
    assert!(said.contains("before its warning is told"), "{said}");
}

#[test]
fn a_source_that_fires_after_its_target_breaks_the_build() {
    let said = complaint(AlertId::EngineStalled, |row| row.hold = Hold::M5);
    assert!(said.contains("the source must fire before"), "{said}");
}

#[test]
fn a_source_that_ends_before_its_target_breaks_the_build() {
    for keep in [Keep::No, Keep::M3, Keep::M5] {
        let said = complaint(AlertId::EngineStalled, |row| row.keep = keep);
        assert!(said.contains("outlive its targets"), "{said}");
    }
    let said = complaint(AlertId::QueueBuildup, |row| row.keep = Keep::M10);
    assert!(said.contains("outlive its targets"), "{said}");
}
