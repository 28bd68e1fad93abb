//! Windows, rates, retirement and native buckets, on a clock that the test moves.

use crate::catalog::Id;
use crate::record::cells::cell;
use crate::snapshot::{LINES, Snapshot, Value};
use crate::{
    Class, Clock, Config, ManualClock, Outcome, Pool, Recorder, RecorderOptions, Series, Shape,
    Stepscope, Time,
};

const S: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

fn scope_with(change: impl FnOnce(&mut Config)) -> Stepscope {
    let clock = Clock::Manual(ManualClock::new(at(0)));
    let mut config = Config { listen: None, clock, ..Config::default() };
    change(&mut config);
    Stepscope::start(config).unwrap()
}

fn scope() -> Stepscope {
    scope_with(|_| {})
}

/// Scopes start at 100 s of their clock, so that times before the start can be told apart.
fn at(ns: u64) -> Time {
    Time::from_nanos(100 * S + ns)
}

/// A request that gets `tokens` tokens, one each `gap_ns`, from `begin` on.
fn answer(rec: &mut Recorder, series: Series, begin: u64, gap_ns: u64, tokens: u64) {
    let mut req = rec.arrive(series, 7, at(begin));
    rec.enqueue(&mut req, at(begin));
    rec.schedule(&mut req, at(begin), 0, 0);
    for i in 1..=tokens {
        let shape = Shape { prefills: 0, prefill_tokens: 0, decodes: 1 };
        let open = rec.begin_step(at(begin + (i - 1) * gap_ns), shape);
        let step = rec.end_step(open, at(begin + i * gap_ns));
        rec.tokens(&step, [(&mut req, 1)])
    }
    rec.finish(req, at(begin + tokens * gap_ns), Outcome::Stop)
}

fn gauge(snapshot: &Snapshot, id: Id) -> f64 {
    snapshot.sum(id, |_| true)
}

#[test]
fn tokens_per_second_follow_the_last_ten_seconds_and_fall_to_zero() {
    let scope = scope();
    let chat = scope.series(Class::endpoint("chat"));
    let mut rec = scope.recorder("engine");
    for second in 0..20 {
        answer(&mut rec, chat, second * S, 10 * MS, 50);
        scope.advance(at((second + 1) * S))
    }
    assert_eq!(gauge(&scope.snapshot(), Id::TokensPerSecond), 50.0);
    for second in 20..26 {
        scope.advance(at(second * S))
    }
    let half = gauge(&scope.snapshot(), Id::TokensPerSecond);
    assert!((20.0..=30.0).contains(&half), "half of the window is idle: {half}");
    scope.advance(at(31 * S));
    assert_eq!(gauge(&scope.snapshot(), Id::TokensPerSecond), 0.0);
}

#[test]
fn a_window_ends_at_the_last_closed_row_and_never_looks_at_the_open_one() {
    let scope = scope();
    let chat = scope.series(Class::endpoint("chat"));
    let mut rec = scope.recorder("engine");
    // Row 0: three requests; row 1: one; then one in the row that stays open.
    for (begin, n) in [(0, 3), (10, 1), (20, 1)] {
        scope.advance(at(begin * S));
        for _ in 0..n {
            answer(&mut rec, chat, (begin + 1) * S, 20 * MS, 4)
        }
    }
    scope.advance(at(22 * S));
    let ended = cell::ENDED..cell::GENERATED;
    let aggregator = scope.shared.aggregator();
    assert_eq!(aggregator.window_increase(ended.clone(), 1), 1);
    assert_eq!(aggregator.window_increase(ended.clone(), 2), 4);
    assert_eq!(aggregator.window_increase(ended, 30), 4, "a young process answers from its start");
    // Gaps of 20 ms: bound 20 ms holds them all, one bound lower none.
    assert_eq!(aggregator.window_quantile(Id::Tbt, 0.99, 2), Some(0.02));
    assert_eq!(aggregator.window_loss(2).1, 0);
}

#[test]
fn rows_of_an_hour_are_kept_and_no_more() {
    let scope = scope();
    let chat = scope.series(Class::endpoint("chat"));
    let mut rec = scope.recorder("engine");
    answer(&mut rec, chat, 0, MS, 2);
    scope.advance(at(3_590 * S));
    let ended = cell::ENDED..cell::GENERATED;
    assert_eq!(scope.shared.aggregator().window_increase(ended.clone(), 360), 1);
    scope.advance(at(3_620 * S));
    assert_eq!(scope.shared.aggregator().window_increase(ended, 360), 0, "it is over an hour ago");
    assert_eq!(scope.history().rows.len(), 61, "ten minutes and the open row");
}

#[test]
fn a_leap_of_years_closes_no_more_rows_than_are_kept() {
    let scope = scope();
    let chat = scope.series(Class::endpoint("chat"));
    let mut rec = scope.recorder("engine");
    answer(&mut rec, chat, 0, MS, 2);
    let begin = std::time::Instant::now();
    scope.advance(at(10 * 365 * 86_400 * S));
    // Each of the 31 million rows would cost microseconds: minutes in all.
    assert!(begin.elapsed() < std::time::Duration::from_secs(20));
    assert_eq!(scope.history().rows.len(), 61);
    answer(&mut rec, chat, 10 * 365 * 86_400 * S, MS, 2);
    scope.advance(at((10 * 365 * 86_400 + 10) * S));
    let ended = cell::ENDED..cell::GENERATED;
    assert_eq!(scope.shared.aggregator().window_increase(ended, 1), 1);
}

#[test]
fn history_shows_each_row_by_itself() {
    let scope = scope();
    let chat = scope.series(Class::endpoint("chat"));
    let mut rec = scope.recorder("engine");
    answer(&mut rec, chat, S, 30 * MS, 11);
    rec.kv(Pool::KV, 40, 10, 100, 600);
    scope.advance(at(10 * S));
    answer(&mut rec, chat, 12 * S, 5 * MS, 6);
    scope.advance(at(15 * S));
    let rows = scope.history().rows;
    assert_eq!(rows.len(), 2);
    let tbt = LINES.iter().position(|(id, _)| *id == Id::Tbt).unwrap();
    let p50 = |row: usize| rows[row].quantiles[tbt].unwrap();
    assert!((p50(0).p50 - 0.030).abs() < 0.000_5 && p50(0).count == 10, "{:?}", p50(0));
    assert!((p50(1).p50 - 0.005).abs() < 0.000_1 && p50(1).count == 5, "{:?}", p50(1));
    assert_eq!((rows[0].generated, rows[1].generated), (11, 6));
    assert_eq!(rows[0].kv, Some([40, 10, 50]));
    assert_eq!(rows[1].age_seconds, 0.0);
    assert!(rows[1].seconds == 5.0 && rows[0].seconds == 10.0);
}

#[test]
fn a_recorder_that_is_gone_leaves_its_counters_and_takes_its_levels() {
    let scope = scope();
    let chat = scope.series(Class::endpoint("chat"));
    let mut rec = scope.recorder("engine");
    answer(&mut rec, chat, S, 10 * MS, 5);
    rec.kv(Pool::KV, 40, 10, 100, 600);
    let mut moved = rec.arrive(chat, 1, at(2 * S));
    rec.enqueue(&mut moved, at(2 * S));
    drop(rec);
    scope.advance(at(3 * S));
    let snapshot = scope.snapshot();
    assert_eq!(gauge(&snapshot, Id::GeneratedTokens), 5.0);
    assert_eq!(gauge(&snapshot, Id::RequestsInFlight), 1.0);
    assert_eq!(gauge(&snapshot, Id::QueueDepth), 1.0, "flows outlive their recorder");
    assert!(snapshot.family(Id::KvBlocks).is_none(), "levels do not");
    // The request goes on elsewhere, and everything adds up again.
    let mut other = scope.recorder("other");
    other.finish(moved, at(4 * S), Outcome::Aborted);
    let snapshot = scope.snapshot();
    let levels = [Id::RequestsInFlight, Id::QueueDepth, Id::RequestsRunning];
    assert_eq!(levels.map(|id| gauge(&snapshot, id)), [0.0; 3]);
}

#[test]
fn levels_of_several_recorders_add_up_per_gpu_and_over_all() {
    let scope = scope_with(|config| config.kv_block_tokens = Some(16));
    let options = |gpu: &str| RecorderOptions::new("rank").gpu_id(gpu);
    let mut ranks = [scope.recorder_with(options("0")), scope.recorder_with(options("1"))];
    ranks[0].kv(Pool::KV, 50, 20, 100, 640);
    ranks[1].kv(Pool::KV, 10, 0, 100, 160);
    let snapshot = scope.snapshot();
    let usage = |gpu: &str| snapshot.sum(Id::KvUtilization, |l| l.get("gpu_id") == Some(gpu));
    assert_eq!([usage("0"), usage("1")], [0.5, 0.1]);
    let blocks = |state: &str| snapshot.sum(Id::KvBlocks, |l| l.get("state") == Some(state));
    assert_eq!(["referenced", "cached", "free"].map(blocks), [60.0, 20.0, 120.0]);
    assert_eq!(gauge(&snapshot, Id::KvSlotUsage), 800.0 / (60.0 * 16.0));
}

#[test]
fn native_buckets_hold_every_sample_across_row_closes() {
    let scope = scope_with(|config| config.native_histograms = true);
    let chat = scope.series(Class::endpoint("chat"));
    let mut rec = scope.recorder("engine");
    for (row, gap) in [(0, 3), (1, 30), (2, 300)] {
        answer(&mut rec, chat, row * 10 * S + S, gap * MS, 8);
        scope.advance(at(row * 10 * S + 5 * S))
    }
    let tbt = scope.snapshot().merged(Id::Tbt, |_| true).unwrap();
    assert_eq!(tbt.count(), 21);
    assert_eq!(tbt.native.iter().map(|(_, n)| n).sum::<u64>(), 21);
    // A native bucket i ends at 2^(i/8) and is at most 9 % wide; the HDR adds 1 %.
    for (gap, n) in [(0.003_f64, 7), (0.030, 7), (0.300, 7)] {
        let wanted = (gap.log2() * 8.0).ceil() as i32;
        let near: u64 =
            tbt.native.iter().filter(|(i, _)| (i - wanted).abs() <= 1).map(|(_, n)| n).sum();
        assert_eq!(near, n, "{gap} s: {:?}", tbt.native);
    }
    let off = scope_with(|_| {}).snapshot();
    let native = |value: &Value| value.histogram().is_some_and(|h| !h.native.is_empty());
    assert!(!off.families.iter().flat_map(|f| &f.series).any(|s| native(&s.value)));
}

#[test]
fn the_shown_share_never_falls_below_a_bound_it_exceeds() {
    let scope = scope();
    let mut rec = scope.recorder("engine");
    // 0.85 exactly, and the smallest share above it that these totals can show.
    rec.kv(Pool::KV, 850_000_000, 0, 1_000_000_000, 0);
    rec.kv(Pool::KV, 850_000_001, 0, 1_000_000_000, 0);
    let shares = scope.snapshot().merged(Id::KvStepUtilization, |_| true).unwrap();
    let grid = crate::catalog::row(Id::KvStepUtilization).grid();
    let bound = grid.iter().position(|bound| bound.le == "0.85").unwrap();
    assert_eq!((shares.counts[bound], shares.counts[bound + 1]), (1, 1));
}

#[test]
fn one_thread_drains_a_clock_that_moves_by_itself() {
    let scope = Stepscope::start(Config { listen: None, ..Config::default() }).unwrap();
    let chat = scope.series(Class::endpoint("chat"));
    let mut rec = scope.recorder("engine");
    let req = rec.arrive(chat, 1, Time::now());
    rec.finish(req, Time::now(), Outcome::Aborted);
    // Nobody scrapes: the thread must come by itself, and the lag must say that it does.
    let drained = || scope.shared.aggregator().distributions.drained_events;
    for _ in 0..200 {
        if drained() > 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10))
    }
    assert_eq!(drained(), 1);
    assert!(gauge(&scope.snapshot(), Id::AggregatorLag) < 5.0);
}
