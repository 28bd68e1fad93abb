//! Which families an alert or a recording reads.

use stepscope::catalog::Id;
use stepscope::catalog::alert::Alert;
use stepscope::catalog::recording::{Recorded, Recording};
use stepscope::catalog::signal::{Server, Signal};

/// Every family that one of the alert's conditions reads.
pub fn of_alert(alert: &Alert) -> Vec<Id> {
    let mut found = vec![];
    for cond in alert.conds() {
        of_signal(&cond.signal, &mut found)
    }
    once(found)
}

/// Every family that a recording reads.
pub fn of_recording(recording: &Recording) -> Vec<Id> {
    let mut found = vec![];
    match &recording.what {
        Recorded::Buckets { histogram, .. } => found.push(*histogram),
        Recorded::Signal(signal) => of_signal(signal, &mut found),
    }
    once(found)
}

fn once(mut found: Vec<Id>) -> Vec<Id> {
    found.sort();
    found.dedup();
    found
}

fn of_signal(signal: &Signal, found: &mut Vec<Id>) {
    match signal {
        Signal::Level { of, .. } => found.extend(of.iter().map(|term| term.series().id)),
        Signal::Age { of }
        | Signal::Since { of }
        | Signal::Count { of, .. }
        | Signal::Rate { of, .. } => found.push(of.id),
        Signal::Share { bad, total, .. } => {
            found.push(bad.id);
            found.extend(total.iter().map(|series| series.id))
        }
        Signal::Slow { histogram, .. } | Signal::SlowCount { histogram, .. } => {
            found.push(*histogram)
        }
        Signal::Ratio { top, bottom } => {
            of_signal(top, found);
            of_signal(bottom, found)
        }
        Signal::Server(server) => found.extend(of_server(server)),
    }
}

fn of_server(server: &Server) -> Vec<Id> {
    match server {
        Server::SloBad { .. } | Server::SloBurn { .. } | Server::SloBadCount { .. } => {
            vec![Id::SloEvents]
        }
        Server::Earlier { of, .. } | Server::Peers { of, .. } => vec![of.id],
        Server::Outlier { sum, count, .. } => vec![sum.id, count.id],
        Server::TargetWithout { family } => vec![*family],
        // What is known of a worker that is gone.
        Server::TargetDown => vec![Id::WorkerInfo],
        Server::TargetsAbsent | Server::TargetsDown | Server::ScrapeTime | Server::Always => {
            vec![]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stepscope::catalog::alert::AlertId;
    use stepscope::catalog::alerts::{ALERTS, alert};

    #[test]
    fn both_sides_of_a_ratio_count_once() {
        let ids = of_alert(alert(AlertId::QueueOverload));
        assert_eq!(ids, [Id::Requests, Id::QueueDepth]);
    }

    /// Else the reference would not say that an alert looks at the family it is about.
    #[test]
    fn the_family_of_an_alert_is_among_those_it_reads() {
        for alert in &ALERTS {
            let read = of_alert(alert);
            assert!(alert.family().is_none_or(|id| read.contains(&id)), "{}", alert.name);
        }
    }
}
