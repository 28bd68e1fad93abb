//! The machine of hold and keep, and signals on made-up rows. That both readers agree is tested with
//! promtool, beside the one that writes PromQL.

use super::past::{Past, Sample, Taps};
use super::standing::{Judge, Phase, Standing};
use crate::catalog::alert::{Alert, AlertId};
use crate::catalog::alerts::{ALERTS, alert};
use crate::catalog::limits::Limits;
use crate::catalog::signal::Reader;
use crate::catalog::{Id, row};
use crate::record::Time;

const ROW_NS: u64 = 10_000_000_000;

fn row_end(n: u64) -> Time {
    Time::from_nanos((n + 1) * ROW_NS)
}

fn stepped(alert: &'static Alert, met: &[bool]) -> Vec<Phase> {
    let mut judge = Judge::new(Limits::default());
    let place = judge.standings().iter().position(|s| s.alert.id == alert.id).unwrap();
    let mut standing: Standing = judge.standings()[place];
    let mut phases = vec![];
    for (n, met) in met.iter().enumerate() {
        standing.step(*met, None, row_end(n as u64));
        phases.push(standing.phase)
    }
    judge.begin(empty(&judge, row_end(0)));
    phases
}

fn empty(judge: &Judge, at: Time) -> Sample {
    let taps = judge.taps();
    let buckets = taps.histograms.iter().map(|id| vec![0; row(*id).grid().len() + 1]).collect();
    Sample { at, series: vec![vec![]; taps.series.len()], buckets }
}

#[test]
fn it_fires_after_its_hold_and_stays_for_its_keep() {
    // Holds 2 minutes, kept for 10.
    let alert = alert(AlertId::HighTtft);
    assert_eq!((alert.hold.seconds(), alert.keep.seconds()), (120, 600));
    let met = [vec![true; 14], vec![false; 62]].concat();
    let phases = stepped(alert, &met);
    assert!(phases[..12].iter().all(|phase| *phase == Phase::Pending));
    assert!(phases[12..14].iter().all(|phase| *phase == Phase::Firing));
    assert!(phases[14..74].iter().all(|phase| *phase == Phase::Kept), "{phases:?}");
    assert!(phases[74..].iter().all(|phase| *phase == Phase::Inactive));
}

#[test]
fn one_calm_row_starts_the_hold_anew_and_does_not_resolve_what_fires() {
    let met = [vec![true; 12], vec![false], vec![true; 13], vec![false], vec![true]].concat();
    let phases = stepped(alert(AlertId::HighTtft), &met);
    assert_eq!(phases[11..14], [Phase::Pending, Phase::Inactive, Phase::Pending]);
    assert_eq!(phases[24..], [Phase::Pending, Phase::Firing, Phase::Kept, Phase::Firing]);
}

#[test]
fn without_hold_and_keep_it_follows_its_condition() {
    let phases = stepped(alert(AlertId::GpuFault), &[false, true, true, false]);
    use Phase::{Firing, Inactive};
    assert_eq!(phases, [Inactive, Firing, Firing, Inactive]);
}

#[test]
fn every_alert_a_process_can_know_stands_and_no_other() {
    let judge = Judge::new(Limits::default());
    let standing: Vec<AlertId> = judge.standings().iter().map(|s| s.alert.id).collect();
    let known: Vec<AlertId> =
        ALERTS.iter().filter(|a| a.reader() == Reader::Both).map(|a| a.id).collect();
    assert_eq!(standing, known);
    for id in [AlertId::KvCachePressure, AlertId::EngineStalled, AlertId::TelemetryFrozen] {
        assert!(standing.contains(&id), "{id:?}")
    }
    for id in [AlertId::WorkerDown, AlertId::Watchdog, AlertId::SloFastBurn] {
        assert!(!standing.contains(&id), "{id:?}")
    }
}

/// A past of rows in which the TTFT histogram has so many slow and fast samples, cumulative.
fn ttft_rows(rows: &[(u64, u64)]) -> Past {
    let mut past = Past::new(Taps::new());
    let grid = row(Id::Ttft).grid();
    let critical = row(Id::Ttft).healthy.and_then(|healthy| healthy.critical).unwrap();
    let fast = grid.iter().position(|bound| bound.value == critical).unwrap();
    for (n, (slow, all)) in rows.iter().enumerate() {
        let judge = Judge::new(Limits::default());
        let mut sample = empty(&judge, row_end(n as u64));
        let tap = judge.taps().histograms.iter().position(|id| *id == Id::Ttft).unwrap();
        // Exactly at the limit is not above it.
        sample.buckets[tap][fast] = all - slow;
        sample.buckets[tap][fast + 1] = *slow;
        past.push(sample)
    }
    past
}

#[test]
fn a_share_at_its_limit_is_silent_and_one_event_more_is_not() {
    let met = |slow, all| {
        let past = ttft_rows(&[(0, 0), (slow, all)]);
        let outcome =
            super::evaluate::evaluate(alert(AlertId::HighTtft), &past, &Limits::default());
        (outcome.met, outcome.value)
    };
    for hundreds in [5, 7, 29, 57, 1_000] {
        let (calm, value) = met(hundreds, hundreds * 100);
        assert!(!calm, "{hundreds} of {}", hundreds * 100);
        assert!((value.unwrap() - 0.01).abs() < 1e-12);
        assert!(met(hundreds + 1, hundreds * 100).0, "one more than {hundreds}");
    }
    assert!(!met(4, 4).0, "four slow requests are not enough to wake anybody");
    assert!(met(5, 5).0, "a small service in which every request is slow must be heard");
    assert_eq!(met(0, 0), (false, None), "0 / 0 is no number and never fires");
}

#[test]
fn a_window_looks_back_as_far_as_it_says() {
    // 10 slow of 100 in the first row, then nothing but fast ones.
    let rows: Vec<(u64, u64)> =
        (0..40).map(|n| if n == 0 { (0, 0) } else { (10, 90 + 10 * n) }).collect();
    let met = |rows: &[(u64, u64)]| {
        let past = ttft_rows(rows);
        let slow = |seconds| past.slow(Id::Ttft, 5_000_000_000, seconds).unwrap();
        (slow(60), slow(300))
    };
    assert_eq!(met(&rows[..2]), ((10, 100), (10, 100)), "a young process answers from its start");
    assert_eq!(met(&rows[..8]), ((0, 60), (10, 160)));
    assert_eq!(met(&rows[..32]), ((0, 60), (0, 300)));
    assert_eq!(met(&rows[..31]), ((0, 60), (10, 390)));
}
