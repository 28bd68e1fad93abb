//! What kind of number a signal is, and how it is written for people.

use super::schema::Unit;
use super::signal::{Part, Series, Server, Signal};
use super::{Id, row};

/// What kind of number a signal is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quantity {
    /// A share of a whole, 1 = all of it.
    Share,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// So many per second.
    PerSecond,
    /// A number of things, or a factor.
    Number,
}

impl Signal {
    /// What kind of number it is.
    pub fn quantity(&self) -> Quantity {
        match self {
            Signal::Level { of, .. } => of_series(&of[0].series()),
            Signal::Age { of } | Signal::Since { of } | Signal::Count { of, .. } => of_series(of),
            // Seconds per second are a share of the time.
            Signal::Rate { of, .. } => match of_series(of) {
                Quantity::Seconds => Quantity::Share,
                _ => Quantity::PerSecond,
            },
            Signal::Share { .. } | Signal::Slow { .. } => Quantity::Share,
            Signal::SlowCount { .. } => Quantity::Number,
            Signal::Ratio { top, bottom } => match (top.quantity(), bottom.quantity()) {
                (Quantity::Bytes, Quantity::Bytes) => Quantity::Share,
                (Quantity::Number, Quantity::PerSecond) => Quantity::Seconds,
                _ => Quantity::Number,
            },
            Signal::Server(server) => match server {
                Server::SloBad { .. } | Server::TargetsDown => Quantity::Share,
                Server::Earlier { .. } => Quantity::PerSecond,
                Server::ScrapeTime => Quantity::Seconds,
                _ => Quantity::Number,
            },
        }
    }
}

fn of_series(series: &Series) -> Quantity {
    if series.part == Part::Count {
        return Quantity::Number;
    }
    of_family(series.id)
}

/// What kind of number a family exports.
pub fn of_family(id: Id) -> Quantity {
    match row(id).unit {
        Unit::Seconds => Quantity::Seconds,
        Unit::Bytes => Quantity::Bytes,
        Unit::Ratio => Quantity::Share,
        Unit::TokensPerSecond => Quantity::PerSecond,
        _ => Quantity::Number,
    }
}

impl Quantity {
    /// A value in words: `1 %`, `150 ms`, `30 s`, `50`.
    pub fn words(self, value: f64) -> String {
        match self {
            Quantity::Share => format!("{} %", rounded(value * 100.0)),
            Quantity::Seconds if value != 0.0 && value < 1.0 => {
                format!("{} ms", rounded(value * 1e3))
            }
            Quantity::Seconds => format!("{} s", rounded(value)),
            Quantity::Bytes | Quantity::PerSecond | Quantity::Number => rounded(value),
        }
    }
}

/// Four digits behind the point are enough for people, and hide what floats cannot say.
fn rounded(value: f64) -> String {
    if value.is_finite() { ((value * 1e4).round() / 1e4).to_string() } else { value.to_string() }
}
