//! How long windows, holds and waits are: as they are, or shortened for a test of the whole chain.
//!
//! A test of an incident cannot wait for ten minutes. The short table keeps the order of all times
//! and at least five scrapes in every window; names of recordings stay as they are.

use clap::ValueEnum;
use stepscope::catalog::alert::{EVALUATION_S, Hold, Keep};
use stepscope::catalog::routing::Route;
use stepscope::catalog::signal::Window;

/// Which table of times the files are written with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Times {
    /// For operation.
    #[default]
    Production,
    /// For a test of the whole chain within two minutes.
    Ci,
}

impl Times {
    /// How far a signal looks back, in seconds.
    pub fn window_s(self, window: Window) -> u32 {
        match (self, window) {
            (Times::Production, window) => window.seconds(),
            (Times::Ci, Window::M1) => 5,
            (Times::Ci, Window::M5) => 10,
            (Times::Ci, Window::M10) => 15,
            (Times::Ci, Window::M30) => 20,
            (Times::Ci, Window::H1) => 30,
            (Times::Ci, Window::H6) => 60,
        }
    }

    /// How long ago a past ended that is compared with, in seconds.
    pub fn ago_s(self, window: Window) -> u32 {
        match (self, window) {
            (Times::Ci, Window::M10) => 10,
            (times, window) => times.window_s(window),
        }
    }

    /// How long a condition must last, in seconds.
    pub fn hold_s(self, hold: Hold) -> u32 {
        match (self, hold) {
            (Times::Production, hold) => hold.seconds(),
            (Times::Ci, Hold::Now) => 0,
            (Times::Ci, Hold::S30 | Hold::M1) => 2,
            (Times::Ci, Hold::M2) => 3,
            (Times::Ci, Hold::M5) => 4,
            (Times::Ci, Hold::M10) => 6,
            (Times::Ci, Hold::M15) => 8,
        }
    }

    /// How long an alert stays, in seconds.
    pub fn keep_s(self, keep: Keep) -> u32 {
        match (self, keep) {
            (Times::Production, keep) => keep.seconds(),
            (Times::Ci, Keep::No) => 0,
            (Times::Ci, Keep::M3) => 3,
            (Times::Ci, Keep::M5) => 8,
            (Times::Ci, Keep::M10) => 15,
        }
    }

    /// Between two evaluations of the rules, and between two scrapes, in seconds.
    pub fn every_s(self) -> u32 {
        match self {
            Times::Production => EVALUATION_S,
            Times::Ci => 1,
        }
    }

    /// How long a worker that is gone is remembered, in seconds. It must outlast any outage: when
    /// the memory ends, the alert changes its labels in the middle of the incident.
    pub fn remembered_s(self) -> u32 {
        match self {
            Times::Production => 86_400,
            Times::Ci => 600,
        }
    }

    /// Wait, interval and repetition of a route, in seconds.
    pub fn route_s(self, route: &Route) -> [u32; 3] {
        match self {
            Times::Production => [route.wait_s, route.interval_s, route.repeat_s],
            Times::Ci => {
                [route.wait_s.min(1), 2, if route.repeat_s <= route.interval_s { 5 } else { 3_600 }]
            }
        }
    }

    /// What this table calls a limit of a time, where a test cannot wait for it.
    pub fn stall_s(self) -> Option<f64> {
        (self == Times::Ci).then_some(5.0)
    }

    /// The same for the metrics thread.
    pub fn frozen_s(self) -> Option<f64> {
        (self == Times::Ci).then_some(3.0)
    }
}

/// A time as Prometheus and Alertmanager write it: the largest unit that divides it.
pub fn span(seconds: u32) -> String {
    for (unit, text) in [(86_400, "d"), (3_600, "h"), (60, "m")] {
        if seconds > 0 && seconds.is_multiple_of(unit) {
            return format!("{}{text}", seconds / unit);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_write_them() {
        assert_eq!(
            [0, 30, 60, 90, 3_600, 86_400].map(span),
            ["0s", "30s", "1m", "90s", "1h", "1d"]
        );
    }

    /// Else an alert would behave differently in the test than in operation.
    #[test]
    fn the_short_table_keeps_the_order_of_all_times() {
        let rises = |times: Vec<u32>| times.is_sorted();
        assert!(rises(Window::ALL.map(|w| Times::Ci.window_s(w)).to_vec()));
        assert!(rises(Hold::ALL.map(|h| Times::Ci.hold_s(h)).to_vec()));
        assert!(rises(Keep::ALL.map(|k| Times::Ci.keep_s(k)).to_vec()));
        for window in Window::ALL {
            assert!(Times::Ci.window_s(window) >= 5 * Times::Ci.every_s());
        }
    }
}
