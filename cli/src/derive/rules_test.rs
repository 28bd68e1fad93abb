//! `prometheus/rules_test.yml`: for `promtool test rules`, each limit from both sides.
//!
//! Every scenario names the exact set of alerts that fire at its end, so a surprise fails it too.

use super::promtool::{Expected, Test, Tests};
use super::scenarios;
use super::site::Site;
use super::steady::{self, SAMPLES, Steady, WORKER, series_text, values};
use super::times::span;
use std::collections::BTreeMap;
use stepscope::catalog::alert::{Alert, AlertId};
use stepscope::catalog::alerts;
use stepscope::catalog::signal::{Series, Server, Signal, Window};
use stepscope::catalog::{self, Id};

type Firing = BTreeMap<&'static str, usize>;

/// Seconds between two evaluations in the tests: rarer than in operation, because they take the time.
pub fn evaluated_s(site: &Site) -> u32 {
    8 * site.times.every_s()
}

/// The file.
pub fn text(site: &Site) -> String {
    let steady = scenarios::pairs(site).into_iter().map(|scenario| {
        let mut input = target(site, WORKER[2].1, true);
        input.push(info(&WORKER));
        if let Some(seconds) = scenario.world.scrape_s {
            let labels = [("job", site.job.as_str()), WORKER[2]];
            let series = series_text("scrape_duration_seconds", &labels);
            input.push((series, values(Steady::Level(seconds), site.times.every_s())))
        }
        input.extend(scenario.world.input(site.times.every_s()));
        let length = SAMPLES * site.times.every_s();
        test(site, scenario.name, input, length, steady::expected(&scenario.world, site))
    });
    let others = [targets(site), fleet(site), outliers(site), traffic(site)];
    let note = "Each scenario names all alerts that fire at its end. Run: promtool test rules rules_test.yml";
    let tests = steady.chain(others.into_iter().flatten()).collect();
    Tests::of("rules.yml", span(evaluated_s(site)), tests).text(note)
}

fn test(
    site: &Site,
    name: String,
    input: Vec<(String, String)>,
    end_s: u32,
    firing: Firing,
) -> Test {
    let watchdog = alerts::alert(AlertId::Watchdog).name;
    let expr =
        format!("count by (alertname) (ALERTS{{alertstate=\"firing\",alertname!=\"{watchdog}\"}})");
    let expected = Expected::alerts(expr, span(end_s), firing);
    Test::new(Some(name), span(site.times.every_s()), input, vec![expected])
}

fn name(id: AlertId) -> &'static str {
    alerts::alert(id).name
}

fn target(site: &Site, instance: &str, up: bool) -> Vec<(String, String)> {
    let labels = [("job", site.job.as_str()), ("instance", instance)];
    let number = if up { 1.0 } else { 0.0 };
    vec![(series_text("up", &labels), values(Steady::Level(number), site.times.every_s()))]
}

fn info(worker: &[(&str, &str)]) -> (String, String) {
    let series = series_text(catalog::row(Id::WorkerInfo).name, worker);
    (series, values(Steady::Level(1.0), 0))
}

/// Whether there are targets, and whether they say anything.
fn targets(site: &Site) -> Vec<Test> {
    let length = SAMPLES * site.times.every_s();
    let answers = target(site, WORKER[2].1, true);
    let silent = target(site, WORKER[2].1, false);
    let other = vec![("other".to_string(), values(Steady::Level(1.0), 0))];
    let complete = [answers.clone(), vec![info(&WORKER)]].concat();
    [
        ("a target that answers and tells of its worker", complete, Firing::new()),
        ("no target at all", other, Firing::from([(name(AlertId::TargetsAbsent), 1)])),
        ("a target that says nothing", answers, Firing::from([(name(AlertId::MetricsAbsent), 1)])),
        (
            "the only target never answered",
            silent,
            Firing::from([(name(AlertId::WorkerDown), 1), (name(AlertId::FleetDegraded), 1)]),
        ),
    ]
    .map(|(name, input, firing)| test(site, name.to_string(), input, length, firing))
    .into()
}

fn own_limit(site: &Site, alert: &Alert, at: usize) -> f64 {
    let limit = alert.conds()[at].test.limit();
    limit.map_or(0.0, |limit| site.limits.value(alert.id, limit))
}

/// A share of the targets is down, just below and just above.
fn fleet(site: &Site) -> Vec<Test> {
    const ALL: usize = 20;
    let alert = alerts::alert(AlertId::FleetDegraded);
    let limit = own_limit(site, alert, 0) * ALL as f64;
    let below = limit.ceil().max(1.0) as usize - 1;
    let above = (limit.floor() as usize + 1).min(ALL);
    [below, above]
        .map(|down| {
            let input = (0..ALL).flat_map(|i| {
                let instance = format!("h{i}:9464");
                let worker = format!("w{i}");
                let labels = [("model", "m70b"), ("worker_id", &worker), ("instance", &instance)];
                let mut input = target(site, &instance, i >= down);
                input.push(info(&labels));
                input
            });
            let mut firing = Firing::from([(name(AlertId::WorkerDown), down)]);
            firing.retain(|_, count| *count > 0);
            if down == above {
                firing.insert(alert.name, 1);
            }
            let title = format!("{}: {down} of {ALL} targets are down", alert.name);
            test(site, title, input.collect(), SAMPLES * site.times.every_s(), firing)
        })
        .into()
}

/// One worker is slower than its neighbours, just below and just above; and too few neighbours.
fn outliers(site: &Site) -> Vec<Test> {
    let alert = alerts::alert(AlertId::WorkerOutlier);
    let Signal::Server(Server::Outlier { sum, count, .. }) = alert.conds()[0].signal else {
        return vec![];
    };
    let (limit, peers) = (own_limit(site, alert, 0), own_limit(site, alert, 1) as usize);
    let cases = [
        (peers + 1, limit * 0.99, false),
        (peers + 1, limit * 1.01, true),
        (peers - 1, limit * 20.0, false),
        (peers, limit * 20.0, true),
    ];
    let tests = cases.map(|(workers, slower, fires)| {
        let input = (0..workers).flat_map(|i| {
            let (worker, instance) = (format!("w{i}"), format!("h{i}:9464"));
            let labels = [("model", "m70b"), ("worker_id", &*worker), ("instance", &*instance)];
            let mut input = target(site, &instance, true);
            input.push(info(&labels));
            let factor = if i == 0 { slower } else { 1.0 };
            let mut one = |series: &Series, rate: f64| {
                let pick = series.pick.map(|pick| (pick.label, pick.values[0]));
                let labels: Vec<_> = labels.iter().copied().chain(pick).collect();
                let text = series_text(&super::promql::series_name(series), &labels);
                let rates = values(Steady::PerSecond(rate), site.times.every_s());
                input.push((text, rates))
            };
            one(&count, 40.0);
            one(&sum, 0.8 * factor);
            input
        });
        let firing = if fires { Firing::from([(alert.name, 1)]) } else { Firing::new() };
        let title = format!("{}: {slower:.3} times slower, {workers} workers", alert.name);
        test(site, title, input.collect(), SAMPLES * site.times.every_s(), firing)
    });
    tests.into()
}

/// Traffic for more than the time that is looked back at, then none.
fn traffic(site: &Site) -> Vec<Test> {
    let alert = alerts::alert(AlertId::TrafficStopped);
    let Signal::Server(Server::Earlier { of, window, over, ago }) = alert.conds()[1].signal else {
        return vec![];
    };
    let (every, limit) = (site.times.every_s(), own_limit(site, alert, 1));
    let seconds = |window: Window| site.times.window_s(window);
    let begun = seconds(over) + 2 * seconds(window) + site.times.ago_s(ago);
    // The rate falls to 0 a window after the stop, and must stay there for the hold.
    let silence = seconds(window) + site.times.hold_s(alert.hold) + 2 * evaluated_s(site);
    let end = begun + silence;
    // So much of the time that is looked at came after the stop.
    let past = f64::from(silence.saturating_sub(site.times.ago_s(ago)));
    let dilution = f64::from(seconds(over)) / (f64::from(seconds(over)) - past);
    [(limit * 0.99, false), (limit * 1.01 * dilution, true)]
        .map(|(rate, fires)| {
            let step = steady::plain(rate * f64::from(every));
            let (rising, flat) = (begun / every, silence / every);
            // Sums of floats may end above what their product is, and a counter that falls has been
            // reset: so it ends a trifle higher.
            let top = steady::plain(step * f64::from(rising) + 1e-6);
            let samples = format!("0+{step}x{rising} {top}x{flat}");
            let mut labels = WORKER.to_vec();
            labels.push(("status", "stop"));
            let mut input = vec![(series_text(&super::promql::series_name(&of), &labels), samples)];
            let ones = format!("1x{}", rising + flat + 1);
            let target = [("job", site.job.as_str()), WORKER[2]];
            input.push((series_text("up", &target), ones.clone()));
            input.push((series_text(catalog::row(Id::WorkerInfo).name, &WORKER), ones));
            let firing = if fires { Firing::from([(alert.name, 1)]) } else { Firing::new() };
            let side = if fires { "just above" } else { "just below" };
            let title = format!("{}: {side} {limit} requests per second before", alert.name);
            test(site, title, input, end, firing)
        })
        .into()
}
