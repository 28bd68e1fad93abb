//! For each limit of each alert two worlds, just below and just above, all else being well above.

use super::site::Site;
use super::steady::{Reading, SAMPLES, Steady, World};
use stepscope::catalog::alert::{Alert, When};
use stepscope::catalog::alerts::ALERTS;
use stepscope::catalog::objective::{OBJECTIVES, Objective};
use stepscope::catalog::quantity::Quantity;
use stepscope::catalog::signal::{Cond, Limit, Server, Signal, Term, Test, Window};
use stepscope::catalog::{self, Id};

/// One world and what it is about.
pub struct Scenario {
    /// In words.
    pub name: String,
    /// What happens.
    pub world: World,
}

/// Enough of everything: samples, events and requests per second.
const PER_SECOND: f64 = 200.0;
/// Device memory beyond the pool, and the pool.
const BEYOND_POOL: f64 = 10e9;
const POOL: f64 = 70e9;
/// How far from a limit "just" is.
const JUST: f64 = 0.01;

/// Both sides of every limit that a steady world can show.
pub fn pairs(site: &Site) -> Vec<Scenario> {
    let mut all = vec![];
    for alert in &ALERTS {
        for (at, cond) in alert.conds().iter().enumerate() {
            // The same number over another window is no limit of its own.
            let same = |other: &Cond| {
                other.test == cond.test && subject(&other.signal) == subject(&cond.signal)
            };
            let known = alert.conds()[..at].iter().any(same);
            let limit = cond.test.limit().filter(|_| !known && is_steady(alert));
            let Some(limit) = limit.map(|limit| site.limits.value(alert.id, limit)) else {
                continue;
            };
            let per_objective = matches!(cond.signal, Signal::Server(Server::SloBurn { .. }));
            let objectives = if per_objective { &OBJECTIVES[..] } else { &OBJECTIVES[1..2] };
            for objective in objectives {
                for (side, value) in sides(limit) {
                    let name = name(site, alert, cond, objective, side);
                    let world = world(site, alert, at, value, objective);
                    all.push(Scenario { name, world })
                }
            }
        }
    }
    all
}

/// Just below and just above.
fn sides(limit: f64) -> [(&'static str, f64); 2] {
    if limit == 0.0 {
        return [("at", 0.0), ("above", 1.0)];
    }
    [("just below", limit * (1.0 - JUST)), ("just above", limit * (1.0 + JUST))]
}

/// Only what one healthy target shows; fleets and histories have scenarios of their own.
fn is_steady(alert: &Alert) -> bool {
    alert.conds().iter().all(|cond| match cond.signal {
        Signal::Server(server) => matches!(
            server,
            Server::SloBad { .. }
                | Server::SloBurn { .. }
                | Server::SloBadCount { .. }
                | Server::ScrapeTime
        ),
        _ => true,
    })
}

/// What a signal is about, whatever its window.
fn subject(signal: &Signal) -> String {
    let text = format!("{signal:?}");
    text.split("window").next().unwrap_or_default().to_string()
}

fn name(site: &Site, alert: &Alert, cond: &Cond, objective: &Objective, side: &str) -> String {
    let limit = cond.test.limit().unwrap_or(Limit::Guard(0.0));
    let words = cond.signal.quantity().words(site.limits.value(alert.id, limit));
    let what = match cond.signal {
        Signal::Slow { histogram, bound, .. } | Signal::SlowCount { histogram, bound, .. } => {
            format!("{} above {} s", catalog::row(histogram).name, site_le(site, histogram, bound))
        }
        Signal::Server(Server::SloBurn { .. } | Server::SloBadCount { .. }) => {
            format!("bad events of the {} objective", objective.name)
        }
        Signal::Server(Server::ScrapeTime) => "time of a scrape".into(),
        Signal::Ratio { top, bottom } => {
            let name = |signal: &Signal| signal.family().map_or("", |id| catalog::row(id).name);
            format!("{} / {}", name(top), name(bottom))
        }
        signal => signal.family().map_or("", |id| catalog::row(id).name).to_string(),
    };
    format!("{}: {what} {side} {words}", alert.name)
}

fn site_le(site: &Site, histogram: Id, bound: Limit) -> &'static str {
    site.limits.bound(histogram, bound).map_or("+Inf", |bound| bound.le)
}

/// A world in which one condition is at a value and the others hold by far.
fn world(site: &Site, alert: &Alert, at: usize, value: f64, objective: &Objective) -> World {
    let mut world = World::default();
    let director = Director { site, alert, objective };
    for (i, cond) in alert.conds().iter().enumerate() {
        let same = subject(&cond.signal) == subject(&alert.conds()[at].signal);
        match alert.when {
            // One is enough, so the others are not there.
            When::Any(_) if i != at => {}
            _ if i == at => director.drive(&mut world, &cond.signal, value),
            _ if same => {}
            _ => director.drive(&mut world, &cond.signal, director.comfortable(cond)),
        }
    }
    // A count that must be just so has the last word over how many there are.
    director.drive(&mut world, &alert.conds()[at].signal, value);
    // A ratio follows from what stands above its line, which may have been set behind it.
    for (i, cond) in alert.conds().iter().enumerate() {
        if let (Signal::Ratio { .. }, When::All(_)) = (cond.signal, alert.when) {
            let value = if i == at { value } else { director.comfortable(cond) };
            director.drive(&mut world, &cond.signal, value)
        }
    }
    world
}

/// Lets a world show what a signal asks for.
struct Director<'a> {
    site: &'a Site,
    alert: &'a Alert,
    objective: &'a Objective,
}

impl Director<'_> {
    /// Far on the other side of the limit.
    fn comfortable(&self, cond: &Cond) -> f64 {
        let limit = match cond.test {
            Test::Above(limit) | Test::AtLeast(limit) => {
                self.site.limits.value(self.alert.id, limit)
            }
            Test::Zero | Test::Present => return 0.0,
        };
        match cond.signal.quantity() {
            Quantity::Share => (1.0 + limit) / 2.0,
            _ if limit == 0.0 => 1.0,
            _ => limit * 2.0,
        }
    }

    /// The limit of the alert's last condition: the least number of events.
    fn guard(&self) -> Limit {
        let last = self.alert.conds().last().and_then(|cond| cond.test.limit());
        last.unwrap_or(Limit::Guard(0.0))
    }

    fn seconds(&self, window: Window) -> f64 {
        f64::from(self.site.times.window_s(window))
    }

    fn drive(&self, world: &mut World, signal: &Signal, value: f64) {
        match signal {
            Signal::Level { of, .. } => self.drive_level(world, of, value),
            Signal::Age { of } | Signal::Since { of } => world.set(of, Steady::Level(value)),
            Signal::Rate { of, .. } => world.set(of, Steady::PerSecond(value)),
            Signal::Count { of, window } => {
                let rate = Steady::PerSecond(value / self.seconds(*window));
                // Few, and all of them bad: where a share of them counts too, it is the whole.
                for cond in self.alert.conds() {
                    match cond.signal {
                        Signal::Share { bad, total, .. } if bad == *of => {
                            total.iter().for_each(|part| world.set(part, rate))
                        }
                        _ => {}
                    }
                }
                world.set(of, rate)
            }
            Signal::Share { bad, total, .. } => {
                // The whole holds the part, or is counted beside it.
                let rest = total.iter().filter(|part| *part != bad);
                let inside = total.contains(bad);
                let all = PER_SECOND;
                world.set(bad, Steady::PerSecond(all * value));
                let left = if inside { all * (1.0 - value) } else { all };
                rest.for_each(|part| world.set(part, Steady::PerSecond(left)))
            }
            Signal::Slow { histogram, bound, .. } => {
                let bound = self.site.limits.value(self.alert.id, *bound);
                world.set_slow(&self.site.limits, *histogram, bound, PER_SECOND, PER_SECOND * value)
            }
            Signal::SlowCount { histogram, bound, window } => {
                // Few, and all of them slow.
                let bound = self.site.limits.value(self.alert.id, *bound);
                let rate = value / self.seconds(*window);
                world.set_slow(&self.site.limits, *histogram, bound, rate, rate)
            }
            Signal::Ratio { top, bottom } => self.drive_ratio(world, top, bottom, value),
            Signal::Server(Server::SloBurn { .. } | Server::SloBad { .. }) => {
                let bad = PER_SECOND * value * self.objective.budget();
                world.set_events(self.objective, PER_SECOND - bad, bad)
            }
            Signal::Server(Server::SloBadCount { window }) => {
                // Few, and all of them bad: enough of them before the hold begins, or too few even at
                // the end.
                let length = SAMPLES * self.site.times.every_s();
                let held = self.site.times.hold_s(self.alert.hold);
                let held = held + super::rules_test::evaluated_s(self.site);
                let enough = value > self.site.limits.value(self.alert.id, self.guard());
                let before = f64::from(if enough { length - held } else { length });
                let before = before.min(self.seconds(*window));
                world.set_events(self.objective, 0.0, value / before)
            }
            Signal::Server(Server::ScrapeTime) => world.scrape_s = Some(value),
            Signal::Server(_) => {}
        }
    }

    fn drive_level(&self, world: &mut World, of: &[Term], value: f64) {
        let taken = of[1..].iter().map(|term| {
            let number = world.sum(&term.series()).unwrap_or(POOL);
            world.set(&term.series(), Steady::Level(number));
            if matches!(term, Term::Minus(_)) { number } else { -number }
        });
        let taken: f64 = taken.sum();
        world.set(&of[0].series(), Steady::Level(value + taken))
    }

    fn drive_ratio(&self, world: &mut World, top: &Signal, bottom: &Signal, value: f64) {
        if let Signal::Level { .. } = bottom {
            self.drive(world, bottom, BEYOND_POOL);
            return self.drive(world, top, BEYOND_POOL * value);
        }
        let above = self.reading(world).number(top).unwrap_or(PER_SECOND);
        self.drive(world, bottom, above / value)
    }

    fn reading<'a>(&'a self, world: &'a World) -> Reading<'a> {
        Reading { world, site: self.site, elapsed_s: f64::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::site::tests::site;
    use crate::derive::steady::expected;
    use crate::derive::times::Times;

    #[test]
    fn both_sides_of_a_limit_differ_in_the_alert_it_belongs_to() {
        for times in [Times::Production, Times::Ci] {
            let site = site(times);
            let pairs = pairs(&site);
            assert!(pairs.len() >= 2 * ALERTS.len(), "{} scenarios", pairs.len());
            for pair in pairs.chunks(2) {
                let [low, high] = pair else { panic!("a side is missing") };
                let alert = high.name.split(':').next().unwrap();
                let fires = |scenario: &Scenario| {
                    expected(&scenario.world, &site).get(alert).copied().unwrap_or(0)
                };
                assert_eq!((fires(low), fires(high)), (0, 1), "{} / {}", low.name, high.name);
            }
        }
    }
}
