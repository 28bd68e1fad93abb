//! What a person on call would have seen of a run: which alerts fired when, and on request the whole
//! scrape history for promtool.

use crate::derive::Site;
use crate::derive::history::{EVERY_S, Expectation, History, which};
use crate::worker::Worker;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use stepscope::Time;
use stepscope::catalog::alert::Alert;
use stepscope::catalog::alerts::ALERTS;
use stepscope::catalog::signal::Reader;

/// An alert that began to fire.
#[derive(Clone, Copy)]
pub struct Fired {
    /// When, since the run's start.
    pub at: Duration,
    /// On which worker.
    pub worker: u16,
    /// Which.
    pub alert: &'static Alert,
}

/// The looks at all workers, one per closed row.
pub struct Watch {
    start: Time,
    next: Time,
    fired: Vec<Fired>,
    history: Option<(PathBuf, Site, History)>,
}

impl Watch {
    /// From `start` on.
    ///
    /// # Errors
    /// The file of the history cannot be written.
    pub fn new(path: Option<PathBuf>, start: Time) -> Result<Watch> {
        let history = match path {
            Some(path) => {
                // A path that cannot be written should not cost a run.
                std::fs::write(&path, "")
                    .with_context(|| format!("cannot write --history {}", path.display()))?;
                Some((path, Site::usual()?, History::default()))
            }
            None => None,
        };
        Ok(Watch { start, next: start, fired: vec![], history })
    }

    /// When the next look is due.
    pub fn next(&self) -> Time {
        self.next
    }

    /// Looks, if it is time.
    pub fn look(&mut self, now: Time, workers: &mut [Worker]) {
        if now < self.next {
            return;
        }
        self.next = self.next.after(Duration::from_secs(EVERY_S.into()));
        let at = Duration::from_nanos(now.nanos_since(self.start));
        for worker in &mut *workers {
            let new = worker.newly_firing().into_iter();
            self.fired.extend(new.map(|alert| Fired { at, worker: worker.number(), alert }))
        }
        if let Some((_, site, history)) = &mut self.history {
            let targets = workers.iter().map(|w| (w.addr().to_string(), w.snapshot()));
            history.take(site, &targets.collect::<Vec<_>>())
        }
    }

    /// Alerts in the order in which they fired.
    pub fn fired(&self) -> &[Fired] {
        &self.fired
    }

    /// Writes the history: promtool must find exactly the alerts that fired here.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self) -> Result<()> {
        let Some((path, site, history)) = &self.history else { return Ok(()) };
        let known = ALERTS.iter().filter(|alert| alert.reader() == Reader::Both);
        let known: BTreeSet<&str> = known.map(|alert| alert.name).collect();
        let at_s = history.length_s();
        let fired: BTreeSet<&str> = self.fired.iter().map(|f| f.alert.name).collect();
        let expr = which(&known, "alertstate=\"firing\"", Some(at_s + 1));
        history.write(site, path, &[Expectation { expr, at_s, alerts: fired }])
    }
}
