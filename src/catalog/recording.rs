//! What a Prometheus server stores for rules and panels, so that both read the same number.

use super::Id;
use super::alert::Scope;
use super::row;
use super::signal::{Server, Signal, Window};

/// One stored number.
#[derive(Clone, Copy, Debug)]
pub struct Recording {
    /// By which labels it is folded.
    pub scope: Scope,
    /// What is stored.
    pub what: Recorded,
    /// What it is called.
    pub called: Called,
}

/// What is stored.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Recorded {
    /// The value of a signal.
    Signal(Signal),
    /// How fast each bucket of a histogram fills; any share above a bound follows from it.
    Buckets {
        /// The histogram.
        histogram: Id,
        /// Over which time.
        window: Window,
    },
}

/// The middle of a recording's name, and its end where the signal does not say it.
#[derive(Clone, Copy, Debug)]
pub enum Called {
    /// As its family.
    Family,
    /// As its family, with this behind.
    FamilyAnd(&'static str),
    /// A word of its own; the end follows from the signal.
    Word(&'static str),
    /// A word and an end of its own.
    Own(&'static str, &'static str),
}

impl Recording {
    /// The signal at its family's name.
    pub const fn of(scope: Scope, signal: Signal) -> Recording {
        Recording { scope, what: Recorded::Signal(signal), called: Called::Family }
    }

    /// The same under another name.
    pub const fn called(self, called: Called) -> Recording {
        Recording { called, ..self }
    }

    /// The buckets of a histogram.
    pub const fn buckets(scope: Scope, histogram: Id, window: Window) -> Recording {
        let what = Recorded::Buckets { histogram, window };
        Recording { scope, what, called: Called::Family }
    }

    /// Name as `level:what:operation`.
    pub fn name(&self) -> String {
        let (stem, operation) = match self.what {
            Recorded::Buckets { histogram, window } => {
                (format!("{}_bucket", row(histogram).name), format!("rate{}", window.text()))
            }
            Recorded::Signal(signal) => (stem(&signal), operation(&signal)),
        };
        let level = self.scope.text();
        match self.called {
            Called::Family => format!("{level}:{stem}:{operation}"),
            Called::FamilyAnd(more) => format!("{level}:{stem}{more}:{operation}"),
            Called::Word(word) => format!("{level}:{word}:{operation}"),
            Called::Own(word, end) => format!("{level}:{word}:{end}"),
        }
    }
}

fn stem(signal: &Signal) -> String {
    let name = signal.family().map_or("", |id| row(id).name);
    let name = name.strip_suffix("_total").unwrap_or(name);
    match signal {
        Signal::Slow { .. } | Signal::SlowCount { .. } => {
            format!("{}_slow", name.strip_suffix("_seconds").unwrap_or(name))
        }
        _ => name.to_string(),
    }
}

/// The end of the name: what was done to the family, and over which time.
fn operation(signal: &Signal) -> String {
    let (done, window) = match signal {
        Signal::Level { mean: Some(window), .. } => ("avg", window),
        Signal::Rate { window, .. } | Signal::Server(Server::SloBurn { window }) => {
            ("rate", window)
        }
        Signal::Share { window, .. }
        | Signal::Slow { window, .. }
        | Signal::Server(Server::SloBad { window }) => ("ratio_rate", window),
        Signal::Count { window, .. }
        | Signal::SlowCount { window, .. }
        | Signal::Server(Server::SloBadCount { window }) => ("increase", window),
        // What else is stored has an end of its own (`Called::Own`); a test looks.
        _ => return String::new(),
    };
    format!("{done}{}", window.text())
}
