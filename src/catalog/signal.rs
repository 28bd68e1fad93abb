//! Signals: what alerts look at, said once and read twice.
//!
//! A [`Signal`] is a number about a worker (or a model, a GPU, the fleet) made of series of the
//! catalog's families. Two readers give it a value: `stepscope derive` writes it as PromQL, and
//! `/health` evaluates it over the process' own rows. Both must agree, so a signal has no syntax of
//! either, and anything only a Prometheus server can know is a [`Server`] signal.
//!
//! | signal | PromQL, folded by the scope's labels | in process |
//! |---|---|---|
//! | `Level` | fold(avg_over_time(m\[w\])), without `mean`: fold(m) | mean of m at the row closes t-w..t, both ends; without `mean`: m now |
//! | `Age` | max(m) | m now, at evaluation |
//! | `Since` | sum(m) | the counter, which starts at 0 with the process |
//! | `Count` | sum(increase(m\[w\])) | C(last row) - C(last row - w) |
//! | `Rate` | sum(rate(m\[w\])) | the same / w; a young process divides by the full w too |
//! | `Share` | sum(rate(bad\[w\])) / sum(rate(total\[w\])) | the same of integers |
//! | `Slow` | share of samples above a bucket bound | the same of bucket counts |
//! | `SlowCount` | increase of samples above a bucket bound | the same of bucket counts |
//! | `Ratio` | top / bottom | x / 0 is infinite and fires, 0 / 0 is NaN and never does |
//!
//! A family that nobody feeds has no value: a condition on it does not hold. Windows are closed rows
//! only; the open row is never used. Comparison is strict, so equality is silent.

use super::Id;

/// Series of one family: all of them, or those with (or without) some values of one label.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Series {
    /// The family.
    pub id: Id,
    /// Which number of a histogram; `Value` for what is none.
    pub part: Part,
    /// `None`: every series of the family.
    pub pick: Option<Pick>,
}

/// Which number of a family is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The value of a counter or gauge.
    Value,
    /// The sum of a histogram's samples.
    Sum,
    /// The number of a histogram's samples.
    Count,
}

/// A choice among a family's series by one label. Compiled only if the label's table has the values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pick {
    /// Label name.
    pub label: &'static str,
    /// Some of its values.
    pub values: &'static [&'static str],
    /// True: only series with these values; false: all but these.
    pub only: bool,
}

impl Pick {
    /// Is a series with this value of the label meant?
    pub fn takes(&self, value: &str) -> bool {
        self.values.contains(&value) == self.only
    }
}

impl Series {
    /// Every series of a counter or gauge.
    pub const fn all(id: Id) -> Series {
        Series { id, part: Part::Value, pick: None }
    }

    /// The sum of a histogram's samples.
    pub const fn sum(id: Id) -> Series {
        Series { id, part: Part::Sum, pick: None }
    }

    /// The number of a histogram's samples.
    pub const fn count(id: Id) -> Series {
        Series { id, part: Part::Count, pick: None }
    }

    /// Only series whose label has one of these values.
    pub const fn only(self, label: &'static str, values: &'static [&'static str]) -> Series {
        Series { pick: Some(Pick { label, values, only: true }), ..self }
    }

    /// All series but those whose label has one of these values.
    pub const fn without(self, label: &'static str, values: &'static [&'static str]) -> Series {
        Series { pick: Some(Pick { label, values, only: false }), ..self }
    }
}

/// A signed part of a sum of series.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Term {
    /// Added.
    Plus(Series),
    /// Taken away.
    Minus(Series),
}

impl Term {
    /// The series, without the sign.
    pub const fn series(self) -> Series {
        match self {
            Term::Plus(series) | Term::Minus(series) => series,
        }
    }
}

/// How the series of one worker, model or GPU become one number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fold {
    /// The largest: fullest pool, oldest device.
    Max,
    /// All together: waiting requests of every priority.
    Sum,
}

/// How far a signal looks back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Window {
    M1,
    M5,
    M10,
    M30,
    H1,
    H6,
}

impl Window {
    /// All of them, shortest first.
    pub const ALL: [Window; 6] =
        [Window::M1, Window::M5, Window::M10, Window::M30, Window::H1, Window::H6];

    /// Length in seconds.
    pub const fn seconds(self) -> u32 {
        match self {
            Window::M1 => 60,
            Window::M5 => 300,
            Window::M10 => 600,
            Window::M30 => 1_800,
            Window::H1 => 3_600,
            Window::H6 => 21_600,
        }
    }

    /// The length as it stands in the names of recordings.
    pub const fn text(self) -> &'static str {
        match self {
            Window::M1 => "1m",
            Window::M5 => "5m",
            Window::M10 => "10m",
            Window::M30 => "30m",
            Window::H1 => "1h",
            Window::H6 => "6h",
        }
    }
}

/// A number about one worker, model, GPU or the fleet. See the table at the top of this file.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Signal {
    /// A level, or a signed sum of levels each folded on its own.
    Level {
        /// What is added and taken away.
        of: &'static [Term],
        /// How its series become one.
        fold: Fold,
        /// Averaged so long, so that flicker cannot restart a hold; `None` = as it is now.
        mean: Option<Window>,
    },
    /// A time that grows by itself and is read when asked; the largest counts.
    Age {
        /// The gauge.
        of: Series,
    },
    /// A counter since the process began: stays until it restarts.
    Since {
        /// The counter.
        of: Series,
    },
    /// How much a counter grew.
    Count {
        /// The counter.
        of: Series,
        /// In which time.
        window: Window,
    },
    /// How much a counter grew per second.
    Rate {
        /// The counter.
        of: Series,
        /// Over which time.
        window: Window,
    },
    /// How much of one growth another is.
    Share {
        /// The part.
        bad: Series,
        /// The whole: one series, or several added up.
        total: &'static [Series],
        /// Over which time.
        window: Window,
    },
    /// How many of a histogram's samples lie above a bound, as a share.
    Slow {
        /// The histogram.
        histogram: Id,
        /// The bound.
        bound: Limit,
        /// Over which time.
        window: Window,
    },
    /// How many of a histogram's samples lie above a bound.
    SlowCount {
        /// The histogram.
        histogram: Id,
        /// The bound.
        bound: Limit,
        /// In which time.
        window: Window,
    },
    /// One signal divided by another.
    Ratio {
        /// Above the line.
        top: &'static Signal,
        /// Below the line.
        bottom: &'static Signal,
    },
    /// Something only a Prometheus server can know.
    Server(Server),
}

/// What a process cannot know about itself: other workers, long histories, its own absence.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Server {
    /// Share of bad events of an objective, per model and objective.
    SloBad {
        /// Over which time.
        window: Window,
    },
    /// How many times faster than allowed an objective's budget is used up.
    SloBurn {
        /// Over which time.
        window: Window,
    },
    /// Bad events of an objective.
    SloBadCount {
        /// In which time.
        window: Window,
    },
    /// Mean of a rate over a time that ended a while ago.
    Earlier {
        /// The counter of the rate.
        of: Series,
        /// Window of the rate.
        window: Window,
        /// Length of the time.
        over: Window,
        /// When it ended.
        ago: Window,
    },
    /// A worker's mean against the median of its model's workers.
    Outlier {
        /// What is added up.
        sum: Series,
        /// How many there are.
        count: Series,
        /// Over which time.
        window: Window,
    },
    /// Workers of the model whose counter grows.
    Peers {
        /// The counter.
        of: Series,
        /// Over which time.
        window: Window,
    },
    /// No target of the job is known.
    TargetsAbsent,
    /// Share of targets that do not answer.
    TargetsDown,
    /// A target that does not answer, with what is known of the worker behind it.
    TargetDown,
    /// A target that answers without the family.
    TargetWithout {
        /// The family every worker exports.
        family: Id,
    },
    /// How long a scrape takes, as Prometheus measures it, in seconds.
    ScrapeTime,
    /// Always 1.
    Always,
}

/// A limit, in the exported unit of what it is compared with. Typed once: here or in a family's row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Limit {
    /// What the family's row calls a warning.
    Warning(Id),
    /// What the family's row calls critical.
    Critical(Id),
    /// The alert's own; a site may set another.
    Own(f64),
    /// A guard that belongs to the definition of the alert, such as the least number of events.
    Guard(f64),
}

/// When a condition on a signal holds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Test {
    /// Strictly above.
    Above(Limit),
    /// At or above.
    AtLeast(Limit),
    /// Exactly 0.
    Zero,
    /// There is such a thing.
    Present,
}

impl Test {
    /// What the signal is compared with, if with a limit.
    pub const fn limit(self) -> Option<Limit> {
        match self {
            Test::Above(limit) | Test::AtLeast(limit) => Some(limit),
            Test::Zero | Test::Present => None,
        }
    }
}

/// A signal and when it counts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cond {
    /// The number.
    pub signal: Signal,
    /// When it counts.
    pub test: Test,
}

impl Cond {
    /// The signal is strictly above the limit.
    pub const fn above(signal: Signal, limit: Limit) -> Cond {
        Cond { signal, test: Test::Above(limit) }
    }

    /// The signal is at or above the limit.
    pub const fn at_least(signal: Signal, limit: Limit) -> Cond {
        Cond { signal, test: Test::AtLeast(limit) }
    }

    /// The signal is exactly 0.
    pub const fn zero(signal: Signal) -> Cond {
        Cond { signal, test: Test::Zero }
    }

    /// The signal has a value at all.
    pub const fn present(signal: Signal) -> Cond {
        Cond { signal, test: Test::Present }
    }
}

/// What of a worker's life a process can evaluate itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// PromQL and the process itself.
    Both,
    /// PromQL only.
    PromOnly,
}

impl Signal {
    /// Who can give it a value.
    pub const fn reader(&self) -> Reader {
        match self {
            Signal::Server(_) => Reader::PromOnly,
            Signal::Ratio { top, bottom } => match (top.reader(), bottom.reader()) {
                (Reader::Both, Reader::Both) => Reader::Both,
                _ => Reader::PromOnly,
            },
            _ => Reader::Both,
        }
    }

    /// How long it remembers, in seconds; `None` = until the process restarts.
    pub const fn memory_s(&self) -> Option<u32> {
        match self {
            Signal::Level { mean: Some(window), .. } => Some(window.seconds()),
            Signal::Level { mean: None, .. } | Signal::Age { .. } => Some(0),
            Signal::Since { .. } => None,
            Signal::Count { window, .. }
            | Signal::Rate { window, .. }
            | Signal::Share { window, .. }
            | Signal::Slow { window, .. }
            | Signal::SlowCount { window, .. } => Some(window.seconds()),
            Signal::Ratio { top, bottom } => match (top.memory_s(), bottom.memory_s()) {
                (Some(top), Some(bottom)) => Some(if top > bottom { top } else { bottom }),
                _ => None,
            },
            Signal::Server(server) => Some(server.memory_s()),
        }
    }

    /// The family that shows it first: of the bad events, of what stands above the line.
    pub const fn family(&self) -> Option<Id> {
        match self {
            Signal::Level { of, .. } => Some(of[0].series().id),
            Signal::Age { of }
            | Signal::Since { of }
            | Signal::Count { of, .. }
            | Signal::Rate { of, .. }
            | Signal::Share { bad: of, .. } => Some(of.id),
            Signal::Slow { histogram, .. } | Signal::SlowCount { histogram, .. } => {
                Some(*histogram)
            }
            Signal::Ratio { top, .. } => top.family(),
            Signal::Server(server) => server.family(),
        }
    }
}

impl Server {
    const fn memory_s(&self) -> u32 {
        match self {
            Server::SloBad { window }
            | Server::SloBurn { window }
            | Server::SloBadCount { window }
            | Server::Earlier { window, .. }
            | Server::Outlier { window, .. }
            | Server::Peers { window, .. } => window.seconds(),
            _ => 0,
        }
    }

    const fn family(&self) -> Option<Id> {
        match self {
            Server::SloBad { .. } | Server::SloBurn { .. } | Server::SloBadCount { .. } => {
                Some(Id::SloEvents)
            }
            Server::Earlier { of, .. } | Server::Peers { of, .. } => Some(of.id),
            Server::Outlier { sum, .. } => Some(sum.id),
            Server::TargetWithout { family } => Some(*family),
            _ => None,
        }
    }
}
