//! What must hold between alerts, checked at compile time: a wrong row breaks the build.

use super::alert::{Alert, EVALUATION_S, Severity, Symptom};
use super::routing::{INHIBITIONS, Inhibition, route};
use super::row;
use super::schema::{Kind, Row};
use super::signal::{Cond, Limit, Part, Pick, Reader, Series, Server, Signal, Term};
use super::{Id, labels};

/// How far back the rows of a process go, in seconds.
const ROWS_S: u32 = 600;

/// Fails the build where the alerts break a rule.
pub(super) const fn check(alerts: &[Alert]) {
    let mut i = 0;
    while i < alerts.len() {
        assert!(alerts[i].id as usize == i, "alerts stand in the order of their ids, each once");
        check_alert(&alerts[i]);
        let mut j = 0;
        while j < alerts.len() {
            if alerts[i].symptom as u8 == alerts[j].symptom as u8 {
                check_pair(&alerts[i], &alerts[j])
            }
            let mut k = 0;
            while k < INHIBITIONS.len() {
                check_inhibition(&INHIBITIONS[k], &alerts[i], &alerts[j]);
                k += 1;
            }
            j += 1;
        }
        i += 1;
    }
}

const fn check_alert(alert: &Alert) {
    assert!(!alert.summary.is_empty() && !alert.impact.is_empty(), "it says what is wrong");
    assert!(!alert.first_action.is_empty(), "it says what to do first");
    // Every symptom has its page: `Symptom::runbook` is a match without a rest.
    let conds = alert.conds();
    assert!(!conds.is_empty(), "an alert has a condition");
    let mut i = 0;
    while i < conds.len() {
        check_cond(&conds[i]);
        i += 1;
    }
    if let Reader::Both = alert.reader() {
        assert!(alert.symptom.check().is_some(), "what a process can evaluate has a health check");
    }
}

const fn check_cond(cond: &Cond) {
    check_signal(&cond.signal);
    if let Some(limit) = cond.test.limit() {
        check_limit(limit)
    }
    if let (Reader::Both, Some(memory)) = (cond.signal.reader(), cond.signal.memory_s()) {
        assert!(memory <= ROWS_S, "a process keeps rows of ten minutes");
    }
}

const fn check_signal(signal: &Signal) {
    match signal {
        Signal::Level { of, .. } => {
            assert!(matches!(of[0], Term::Plus(_)), "the first term names the family");
            let mut i = 0;
            while i < of.len() {
                check_gauge(&of[i].series());
                i += 1;
            }
        }
        Signal::Age { of } => check_gauge(of),
        Signal::Since { of } | Signal::Count { of, .. } | Signal::Rate { of, .. } => {
            check_counter(of)
        }
        Signal::Share { bad, total, .. } => {
            check_counter(bad);
            assert!(!total.is_empty(), "a share is of something");
            let mut i = 0;
            while i < total.len() {
                check_counter(&total[i]);
                i += 1;
            }
        }
        Signal::Slow { histogram, bound, .. } | Signal::SlowCount { histogram, bound, .. } => {
            check_bound(*histogram, *bound)
        }
        Signal::Ratio { top, bottom } => {
            check_signal(top);
            check_signal(bottom)
        }
        Signal::Server(Server::Outlier { sum, count, .. }) => {
            check_counter(sum);
            check_counter(count)
        }
        Signal::Server(Server::Peers { of, .. } | Server::Earlier { of, .. }) => check_counter(of),
        Signal::Server(_) => {}
    }
}

/// What only rises: a counter, or the sum or count of a histogram.
const fn check_counter(series: &Series) {
    let kind = row(series.id).kind;
    let rises = match series.part {
        Part::Value => matches!(kind, Kind::Counter),
        Part::Sum | Part::Count => matches!(kind, Kind::Histogram(_)),
    };
    assert!(rises, "growth is of a counter, or of a histogram's sum or count");
    check_pick(series)
}

const fn check_gauge(series: &Series) {
    assert!(matches!(row(series.id).kind, Kind::Gauge), "a level is of a gauge");
    assert!(matches!(series.part, Part::Value), "a gauge has one number");
    check_pick(series)
}

const fn check_pick(series: &Series) {
    if let Some(Pick { label, values, .. }) = series.pick {
        let row = row(series.id);
        let mut i = 0;
        while i < values.len() {
            assert!(has_value(row, label, values[i]), "no such label, or no such value of it");
            i += 1;
        }
    }
}

const fn has_value(row: &Row, label: &str, value: &str) -> bool {
    let mut i = 0;
    while i < row.split.len() {
        if equal(row.split[i].name, label) {
            return listed(row.split[i].values, value);
        }
        i += 1;
    }
    // Of the open label sets one has a value that is always there.
    equal(label, "pool") && equal(value, labels::DEFAULT_POOL) && listed(row.by.names(), label)
}

const fn check_limit(limit: Limit) {
    match limit {
        Limit::Warning(_) | Limit::Critical(_) => {
            assert!(stored(limit).is_some(), "the family's row has no such limit")
        }
        Limit::Own(number) | Limit::Guard(number) => assert!(number >= 0.0, "a limit is a number"),
    }
}

/// A limit of a row, in the stored unit.
const fn stored(limit: Limit) -> Option<u64> {
    match limit {
        Limit::Warning(id) => match row(id).healthy {
            Some(healthy) => healthy.warning,
            None => None,
        },
        Limit::Critical(id) => match row(id).healthy {
            Some(healthy) => healthy.critical,
            None => None,
        },
        Limit::Own(_) | Limit::Guard(_) => None,
    }
}

const fn check_bound(histogram: Id, bound: Limit) {
    let Some(limit) = stored(bound) else { panic!("a bound is a limit of the family's row") };
    let grid = row(histogram).grid();
    let (mut i, mut found) = (0, false);
    while i < grid.len() {
        found |= grid[i].value == limit;
        i += 1;
    }
    assert!(found, "a limit must be a bound of the grid");
}

/// Critical and warning of one symptom: the warning comes at less, and not before the critical can
/// silence it.
const fn check_pair(critical: &Alert, warning: &Alert) {
    let pair = matches!(critical.severity, Severity::Critical)
        && matches!(warning.severity, Severity::Warning);
    // The targets' alerts look at different things: one worker, a part of the fleet, all of it.
    if !pair || matches!(critical.symptom, Symptom::Target) {
        return;
    }
    let (high, low) = (&critical.conds()[0], &warning.conds()[0]);
    assert!(limit_of(low) < limit_of(high), "a warning comes before a critical");
    assert!(
        warning.hold.seconds() >= critical.hold.seconds() + route(critical).wait_s,
        "the critical must be there before its warning is told"
    );
}

/// What tells the conditions of two severities apart, in the exported unit.
const fn limit_of(cond: &Cond) -> f64 {
    let limit = match cond.signal {
        Signal::Slow { bound, .. } => Some(bound),
        _ => cond.test.limit(),
    };
    match limit {
        Some(Limit::Own(number) | Limit::Guard(number)) => number,
        Some(limit @ (Limit::Warning(id) | Limit::Critical(id))) => match stored(limit) {
            Some(stored) => stored as f64 / row(id).unit.scale() as f64,
            None => panic!("the family's row has no such limit"),
        },
        None => panic!("a pair of severities needs limits"),
    }
}

/// A source must fire before its targets are told, and outlive them: else a fault ends with a
/// message about the child it silenced.
const fn check_inhibition(rule: &Inhibition, source: &Alert, target: &Alert) {
    // Children of dead targets go stale by themselves.
    if !rule.silences(source, target) || matches!(source.symptom, Symptom::Target) {
        return;
    }
    assert!(
        target.hold.seconds() + route(target).wait_s >= source.hold.seconds() + EVALUATION_S,
        "the source must fire before its target is told"
    );
    // The slow burn looks back further, and what it says afterwards is true.
    if matches!((source.symptom, target.symptom), (Symptom::Slo, Symptom::Slo)) {
        return;
    }
    if let Some(source_memory) = source.memory_s() {
        let Some(target_memory) = target.memory_s() else { panic!("the target never ends") };
        assert!(
            source.keep.seconds() + source_memory >= target.keep.seconds() + target_memory,
            "a source of inhibition must outlive its targets"
        );
    }
}

const fn listed(list: &[&str], text: &str) -> bool {
    let mut i = 0;
    while i < list.len() {
        if equal(list[i], text) {
            return true;
        }
        i += 1;
    }
    false
}

const fn equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}
