//! All alerts and all recordings, in groups: what is evaluated together stands together.

use super::alert::{Alert, AlertId};
use super::proof;
use super::recording::Recording;

mod device;
mod engine;
mod latency;
mod requests;
mod slo;
mod telemetry;

/// Rules that are evaluated in order, so that alerts see this round's recordings.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// First what is stored,
    pub recordings: &'static [Recording],
    /// then what fires.
    pub alerts: &'static [Alert],
}

/// The groups, in the order of the tiers of the catalog.
pub static GROUPS: [Group; 6] =
    [latency::GROUP, requests::GROUP, slo::GROUP, engine::GROUP, device::GROUP, telemetry::GROUP];

const LEN: usize = {
    let (mut len, mut group) = (0, 0);
    while group < GROUPS.len() {
        len += GROUPS[group].alerts.len();
        group += 1;
    }
    len
};

/// Every alert, in the order of the groups.
pub static ALERTS: [Alert; LEN] = {
    let mut alerts = [latency::GROUP.alerts[0]; LEN];
    let (mut group, mut at) = (0, 0);
    while group < GROUPS.len() {
        let mut i = 0;
        while i < GROUPS[group].alerts.len() {
            alerts[at] = GROUPS[group].alerts[i];
            at += 1;
            i += 1;
        }
        group += 1;
    }
    proof::check(&alerts);
    alerts
};

/// The row of an alert.
pub fn alert(id: AlertId) -> &'static Alert {
    // Every id has a row: `every_alert_is_found_by_its_id` in the tests.
    ALERTS.iter().find(|alert| alert.id == id).unwrap_or(&ALERTS[0])
}

/// Every recording, in the order of the groups.
pub fn recordings() -> impl Iterator<Item = &'static Recording> {
    GROUPS.iter().flat_map(|group| group.recordings)
}

#[cfg(test)]
mod tests;
