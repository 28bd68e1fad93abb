//! Whole runs of the engine: what it does in each scenario, and that a scope reports what it did.

use std::sync::{Arc, LazyLock};
use std::time::Duration;
use stepscope::catalog::{Id, labels};
use stepscope::snapshot::Labels;
use stepscope::{Clock, Config, ManualClock, Outcome, Phase, Snapshot, Stepscope, Time};
use stepscope_sim::truth::{RequestLog, Run, StepLog};
use stepscope_sim::{Engine, Options, Profile, Sabotage, Scenario, Trace, Truth};

static MOONCAKE: LazyLock<Arc<Trace>> = LazyLock::new(|| Arc::new(Trace::builtin_mooncake()));

const START: Time = Time::from_nanos(1_000_000_000);
const RUN: Duration = Duration::from_secs(60);
/// When scenarios are injected.
const FROM: Duration = Duration::from_secs(15);
const UNTIL: Duration = Duration::from_secs(35);

fn options(scenario: Scenario) -> Options {
    Options {
        profile: Profile::named("8b").unwrap(),
        scenario,
        inject: (FROM, UNTIL),
        seed: 1,
        speculation: false,
        worker: 0,
        workers: 1,
        sabotage: None,
    }
}

fn scope_and_engine(options: Options) -> (Stepscope, Engine) {
    let clock = Clock::Manual(ManualClock::new(START));
    let kv_block_tokens = options.profile.kv_block_tokens();
    let config =
        Config { listen: None, clock, kv_block_tokens: Some(kv_block_tokens), ..Config::default() };
    let scope = Stepscope::start(config.clone()).unwrap();
    let run = Run::of(&config, kv_block_tokens);
    let engine = Engine::new(&scope, run, MOONCAKE.clone(), START, options);
    (scope, engine)
}

/// Runs as fast as possible, moment by moment.
fn run(options: Options) -> (Truth, Snapshot) {
    let (scope, mut engine) = scope_and_engine(options);
    let until = START.after(RUN);
    while let Some(next) = engine.next_at().filter(|next| *next <= until) {
        engine.advance_to(next);
        scope.advance(next)
    }
    engine.advance_to(until);
    scope.advance(until);
    (engine.truth(), scope.snapshot())
}

fn run_scenario(scenario: Scenario) -> Truth {
    run(options(scenario)).0
}

fn written(truth: &Truth) -> String {
    let mut bytes = vec![];
    truth.write(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn any(_: &Labels) -> bool {
    true
}

/// What the scope says and the truth does not, as (what, reported, true).
fn disagreements(truth: &Truth, snapshot: &Snapshot) -> Vec<(String, f64, f64)> {
    let requests = &truth.requests;
    let sum = |of: &dyn Fn(&RequestLog) -> u64| requests.iter().map(of).sum::<u64>() as f64;
    let mut pairs = vec![
        ("generated".into(), snapshot.sum(Id::GeneratedTokens, any), sum(&RequestLog::tokens)),
        ("recomputed".into(), snapshot.sum(Id::RecomputedTokens, any), sum(&|r| r.recomputed)),
        ("drafted".into(), snapshot.sum(Id::DraftTokens, any), sum(&|r| r.drafted)),
        ("preempted".into(), snapshot.sum(Id::Preemptions, any), sum(&|r| r.evict.len() as u64)),
        (
            "in flight".into(),
            snapshot.sum(Id::RequestsInFlight, any),
            sum(&|r| r.end.is_none().into()),
        ),
        ("running".into(), snapshot.sum(Id::RequestsRunning, any), truth.end.running as f64),
        ("waiting".into(), snapshot.sum(Id::QueueDepth, any), truth.end.waiting as f64),
        ("batch".into(), snapshot.sum(Id::BatchSize, any), truth.end.batch as f64),
        ("lost samples".into(), snapshot.sum(Id::RingDropped, any), 0.0),
    ];
    for (source, of) in [
        ("computed", (|r| r.prompt_computed) as fn(&RequestLog) -> u64),
        ("cached", |r| r.prompt_cached),
    ] {
        let reported = snapshot.sum(Id::PromptTokens, |l| l.get("source") == Some(source));
        pairs.push((format!("prompt {source}"), reported, sum(&of)))
    }
    for endpoint in ["chat", "completions"] {
        for status in labels::STATUS {
            let is_it =
                |l: &Labels| l.get("endpoint") == Some(endpoint) && l.get("status") == Some(status);
            let ended = |r: &RequestLog| {
                let status_of = |(_, outcome)| RequestLog::outcome_texts(outcome).0;
                (r.endpoint == endpoint && r.end.map(status_of) == Some(status)).into()
            };
            let reported = snapshot.sum(Id::Requests, is_it);
            pairs.push((format!("{endpoint} {status}"), reported, sum(&ended)))
        }
    }
    for (reason, depth) in &truth.end.queue {
        let reported = snapshot.sum(Id::QueueDepth, |l| l.get("reason") == Some(reason));
        pairs.push((format!("queue {reason}"), reported, *depth as f64))
    }
    for reason in labels::INVALID {
        let reported = snapshot.sum(Id::Invalid, |l| l.get("reason") == Some(reason));
        pairs.push((format!("invalid {reason}"), reported, 0.0))
    }
    let kv = [truth.end.kv_referenced, truth.end.kv_cached];
    for (state, blocks) in ["referenced", "cached"].into_iter().zip(kv) {
        let reported = snapshot.sum(Id::KvBlocks, |l| l.get("state") == Some(state));
        pairs.push((format!("kv {state}"), reported, blocks as f64))
    }
    pairs.extend(time_pairs(truth, snapshot));
    pairs.retain(|(_, reported, exact)| reported != exact);
    pairs
}

/// Sums and counts of distributions. Below 2^53 ns, which is 104 days, a double holds them exactly.
fn time_pairs(truth: &Truth, snapshot: &Snapshot) -> Vec<(String, f64, f64)> {
    let mut pairs = vec![];
    let mut compare = |what: &str, id: Id, label: Option<(&str, &str)>, exact: Vec<u64>| {
        let selected = |l: &Labels| label.is_none_or(|(name, value)| l.get(name) == Some(value));
        let reported = snapshot.merged(id, selected);
        let (count, sum) = reported.map_or((0, 0), |h| (h.count(), h.sum));
        pairs.push((format!("{what} count"), count as f64, exact.len() as f64));
        pairs.push((format!("{what} sum"), sum as f64, exact.iter().sum::<u64>() as f64))
    };
    let requests = &truth.requests;
    compare("ttft", Id::Ttft, None, ttfts(requests).collect());
    compare("tbt", Id::Tbt, None, gaps(requests).map(|(_, ns)| ns).collect());
    let user = requests.iter().filter_map(|r| Some(r.emit? - r.recv));
    compare("user's ttft", Id::TtftUser, None, user.collect());
    for (label, phase) in
        [("prefill", Phase::Prefill), ("decode", Phase::Decode), ("mixed", Phase::Mixed)]
    {
        let steps =
            truth.steps.iter().filter(|s| s.phase == phase).filter_map(|s| Some(s.gpu_ns?.low));
        compare(label, Id::StepGpu, Some(("phase", label)), steps.collect())
    }
    for (label, work) in [("waiting", true), ("none", false)] {
        let steps = truth.steps.iter().filter(|s| s.work == work);
        let idle = steps.filter_map(|s| Some(s.idle_before_ns?.low)).collect();
        compare(label, Id::GpuGap, Some(("work", label)), idle)
    }
    pairs
}

fn ttfts<'a>(requests: impl IntoIterator<Item = &'a RequestLog>) -> impl Iterator<Item = u64> {
    requests.into_iter().filter_map(|r| Some(r.tok.first()?.0 - r.recv))
}

/// (when, how long) of every gap between two emissions.
fn gaps<'a>(
    requests: impl IntoIterator<Item = &'a RequestLog>,
) -> impl Iterator<Item = (u64, u64)> {
    let pairs = requests.into_iter().flat_map(|r| r.tok.windows(2));
    pairs.map(|pair| (pair[1].0, pair[1].0 - pair[0].0))
}

fn is_between(at: u64, from: Duration, until: Duration) -> bool {
    (START.after(from)..START.after(until)).contains(&Time::from_nanos(at))
}

fn is_injected(at: u64) -> bool {
    is_between(at, FROM, UNTIL)
}

fn injected_steps(truth: &Truth) -> impl Iterator<Item = &StepLog> {
    truth.steps.iter().filter(|step| is_injected(step.end))
}

fn evictions(truth: &Truth) -> usize {
    let all = truth.requests.iter().flat_map(|r| &r.evict);
    all.filter(|(at, _)| is_injected(*at)).count()
}

fn ended(truth: &Truth, is_it: impl Fn(&RequestLog, Outcome) -> bool) -> usize {
    truth.requests.iter().filter(|r| r.end.is_some_and(|(_, outcome)| is_it(r, outcome))).count()
}

fn quantile_ms(ns: impl Iterator<Item = u64>, q: f64) -> u64 {
    let mut ns: Vec<u64> = ns.collect();
    ns.sort_unstable();
    ns[(ns.len() as f64 * q) as usize] / 1_000_000
}

fn share<T>(all: impl Iterator<Item = T>, is_it: impl Fn(&T) -> bool) -> f64 {
    let (mut yes, mut count) = (0, 0);
    for one in all {
        yes += u32::from(is_it(&one));
        count += 1
    }
    f64::from(yes) / f64::from(count.max(1))
}

/// Long after a scenario was lifted nobody notices that it was there.
fn assert_recovered(truth: &Truth) {
    let late = |at| is_between(at, Duration::from_secs(50), RUN);
    let recent = truth.requests.iter().filter(|r| late(r.recv));
    assert!(quantile_ms(ttfts(recent), 0.9) < 2_000);
    let recent = gaps(&truth.requests).filter(|(at, _)| late(*at));
    assert!(quantile_ms(recent.map(|(_, ns)| ns), 0.99) < 80);
    assert!(truth.end.waiting <= 3 && truth.end.kv_usable == 24_800)
}

#[test]
fn an_engine_may_move_to_a_thread() {
    fn is_send<T: Send>() {}
    is_send::<Engine>()
}

#[test]
fn a_scope_reports_what_the_engine_did_in_every_scenario() {
    for scenario in Scenario::ALL {
        for speculation in [false, true] {
            let (truth, snapshot) = run(Options { speculation, ..options(*scenario) });
            let wrong = disagreements(&truth, &snapshot);
            assert!(wrong.is_empty(), "{scenario}, speculation {speculation}: {wrong:?}")
        }
    }
}

#[test]
fn every_sabotage_is_noticed() {
    for sabotage in [Sabotage::Drop, Sabotage::Shift, Sabotage::Swap, Sabotage::Mute] {
        let honest = run_scenario(Scenario::Healthy);
        let (truth, snapshot) =
            run(Options { sabotage: Some(sabotage), ..options(Scenario::Healthy) });
        assert!(!disagreements(&truth, &snapshot).is_empty(), "{sabotage:?}");
        assert_eq!(written(&truth), written(&honest), "{sabotage:?} lies to the recorder only")
    }
}

#[test]
fn equal_seeds_give_equal_runs_and_other_seeds_others() {
    let of_seed = |seed| {
        written(&run(Options { seed, speculation: true, ..options(Scenario::KvExhaustion) }).0)
    };
    assert!(of_seed(1) == of_seed(1));
    assert!(of_seed(1) != of_seed(2))
}

#[test]
fn a_late_caller_gets_the_same_run_and_nothing_from_its_future() {
    let (_scope, mut engine) = scope_and_engine(options(Scenario::GpuFault));
    let mut now = START;
    while now < START.after(RUN) {
        now = now.after(Duration::from_millis(250)).min(START.after(RUN));
        engine.advance_to(now);
        assert!(engine.next_at().is_none_or(|next| next > now))
    }
    let truth = engine.truth();
    let times = truth.requests.iter().flat_map(|r| {
        let ends = [r.emit, r.end.map(|(at, _)| at)].into_iter().flatten();
        r.tok.iter().map(|(at, _)| *at).chain(r.sched.iter().copied()).chain(ends)
    });
    assert!(times.max() <= Some(now.as_nanos()));
    assert_eq!(written(&truth), written(&run_scenario(Scenario::GpuFault)))
}

#[test]
fn a_truth_file_is_a_run_line_then_steps_and_requests_then_one_end_line() {
    let truth = run_scenario(Scenario::Healthy);
    let text = written(&truth);
    let kinds: Vec<String> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["kind"].as_str().unwrap().into()
        })
        .collect();
    assert_eq!((kinds.first().unwrap().as_str(), kinds.last().unwrap().as_str()), ("run", "end"));
    let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
    let counts = ["run", "step", "request", "end"].map(count);
    assert_eq!(counts, [1, truth.steps.len(), truth.requests.len(), 1])
}

#[test]
fn workers_share_a_trace_without_overlap() {
    // The trace needs three workers of this kind: the share of one is the same if one is simulated.
    let arrivals = |worker, workers| {
        let truth = run(Options { worker, workers, ..options(Scenario::Healthy) }).0;
        truth.requests.iter().map(|r| r.recv).collect::<Vec<_>>()
    };
    let mut all: Vec<u64> = (0..3).flat_map(|worker| arrivals(worker, 3)).collect();
    all.sort_unstable();
    let trace = MOONCAKE.requests.iter().map(|r| START.as_nanos() + r.at_ns);
    let until = START.after(RUN).as_nanos();
    assert_eq!(all, trace.take_while(|at| *at <= until).collect::<Vec<_>>());
    assert_eq!(arrivals(0, 1), arrivals(0, 3))
}

#[test]
fn a_healthy_worker_keeps_its_objectives_with_either_profile() {
    for name in Profile::names() {
        let profile = Profile::named(name).unwrap();
        let truth = run(Options { profile, ..options(Scenario::Healthy) }).0;
        assert!(quantile_ms(ttfts(&truth.requests), 0.99) < 2_000, "{name}");
        assert!(quantile_ms(gaps(&truth.requests).map(|(_, ns)| ns), 0.99) < 80, "{name}");
        assert_eq!(evictions(&truth), 0, "{name}");
        assert!(truth.steps.iter().all(|s| s.kv_referenced * 2 < s.kv_usable), "{name}");
        assert!(truth.requests.iter().any(|r| r.prompt_cached > 0), "{name}: no prefix was shared")
    }
}

#[test]
fn idle_nothing_arrives_and_the_levels_are_zero() {
    let truth = run_scenario(Scenario::Idle);
    assert!(!truth.requests.iter().any(|r| is_injected(r.recv)));
    assert!(
        truth
            .steps
            .iter()
            .any(|s| !s.work && s.idle_before_ns.is_some_and(|ns| ns.low > 5_000_000_000))
    );
    let (scope, mut engine) = scope_and_engine(options(Scenario::Idle));
    let at = START.after(UNTIL - Duration::from_secs(1));
    engine.advance_to(at);
    scope.advance(at);
    let (progress, snapshot) = (engine.progress(), scope.snapshot());
    assert_eq!((progress.running, progress.waiting, progress.kv_referenced), (0, 0, 0));
    for level in [Id::RequestsInFlight, Id::RequestsRunning, Id::QueueDepth, Id::BatchSize] {
        assert_eq!(snapshot.sum(level, any), 0.0)
    }
    assert_recovered(&truth)
}

#[test]
fn kv_exhaustion_the_pool_is_full_requests_wait_and_preemption_stays_rare() {
    let truth = run_scenario(Scenario::KvExhaustion);
    let filled = |step: &&StepLog| is_between(step.end, FROM + Duration::from_secs(5), UNTIL);
    let usage: Vec<f64> = truth
        .steps
        .iter()
        .filter(filled)
        .map(|s| f64::from(s.kv_referenced) / f64::from(s.kv_usable))
        .collect();
    assert!(usage.iter().sum::<f64>() / usage.len() as f64 > 0.95);
    let waits = truth
        .requests
        .iter()
        .filter(|r| is_injected(r.recv))
        .filter_map(|r| Some(r.sched.first()? - r.enq?));
    assert!(share(waits, |ns| *ns > 100_000_000) > 0.5);
    assert!(evictions(&truth) < 20, "less than one a second");
    assert_recovered(&truth)
}

#[test]
fn preemption_storm_more_than_one_a_second_and_than_a_tenth_of_the_requests() {
    let truth = run_scenario(Scenario::PreemptionStorm);
    let finished = truth.requests.iter().filter(|r| r.end.is_some_and(|(at, _)| is_injected(at)));
    assert!(evictions(&truth) > 20);
    assert!(evictions(&truth) * 10 > finished.count());
    assert!(truth.requests.iter().map(|r| r.recomputed).sum::<u64>() > 0);
    assert_recovered(&truth)
}

#[test]
fn slow_prefill_first_tokens_take_seconds_and_later_ones_do_not() {
    let truth = run_scenario(Scenario::SlowPrefill);
    let arrived = truth.requests.iter().filter(|r| is_injected(r.recv));
    assert!(share(ttfts(arrived), |ns| *ns > 5_000_000_000) > 0.3);
    let injected = gaps(&truth.requests).filter(|(at, _)| is_injected(*at));
    assert!(quantile_ms(injected.map(|(_, ns)| ns), 0.99) < 80);
    assert_recovered(&truth)
}

#[test]
fn slow_decode_tokens_come_slowly_and_first_ones_do_not() {
    let truth = run_scenario(Scenario::SlowDecode);
    let injected = gaps(&truth.requests).filter(|(at, _)| is_injected(*at));
    assert!(share(injected, |(_, ns)| *ns > 250_000_000) > 0.1);
    let arrived = truth.requests.iter().filter(|r| is_injected(r.recv));
    assert!(quantile_ms(ttfts(arrived), 0.9) < 2_000);
    assert_recovered(&truth)
}

#[test]
fn stalled_gpu_no_step_ends_while_requests_arrive() {
    let truth = run_scenario(Scenario::StalledGpu);
    assert_eq!(injected_steps(&truth).count(), 0);
    assert!(truth.requests.iter().filter(|r| is_injected(r.recv)).count() > 10);
    assert_recovered(&truth)
}

#[test]
fn gpu_fault_what_ran_fails_and_the_engine_serves_on() {
    let truth = run_scenario(Scenario::GpuFault);
    let crashed = |r: &RequestLog, outcome| {
        RequestLog::outcome_texts(outcome) == ("failed", Some("crash")) && !r.sched.is_empty()
    };
    assert!(ended(&truth, crashed) > 0);
    let pause = Duration::from_secs(5);
    assert!(!truth.steps.iter().any(|s| is_between(s.end, FROM, FROM + pause)));
    let first_after = truth.steps.iter().find(|s| is_injected(s.end)).unwrap();
    assert_eq!(first_after.idle_before_ns, None, "a new stream");
    assert_recovered(&truth)
}

#[test]
fn error_burst_a_quarter_of_what_arrives_fails() {
    let truth = run_scenario(Scenario::ErrorBurst);
    let taken = truth.requests.iter().filter(|r| is_injected(r.recv) && r.enq.is_some());
    let failed = |r: &&RequestLog| {
        r.end.is_some_and(|(_, o)| RequestLog::outcome_texts(o) == ("failed", Some("internal")))
    };
    assert!((0.15..0.35).contains(&share(taken, failed)));
    assert!(!truth.requests.iter().any(|r| !is_injected(r.recv) && failed(&r)));
    assert_recovered(&truth)
}

#[test]
fn host_bound_the_device_waits_for_the_host_while_work_waits() {
    let truth = run_scenario(Scenario::HostBound);
    let of_steps = |of: fn(&StepLog) -> u64| injected_steps(&truth).map(of).sum::<u64>();
    let gap = of_steps(|s| if s.work { s.idle_before_ns.map_or(0, |ns| ns.low) } else { 0 });
    let busy = of_steps(|s| s.gpu_ns.map_or(0, |ns| ns.low));
    assert!(gap as f64 / (gap + busy) as f64 > 0.4);
    assert_recovered(&truth)
}

#[test]
fn dead_the_engine_itself_is_healthy() {
    assert_eq!(written(&run_scenario(Scenario::Dead)), written(&run_scenario(Scenario::Healthy)))
}
