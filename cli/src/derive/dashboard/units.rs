//! Units as Grafana names them, from what the catalog says of a family or a signal.

use stepscope::catalog::quantity::Quantity;
use stepscope::catalog::{self, Id, Unit};

/// Requests per second.
pub const REQUESTS: &str = "reqps";
/// Events per second.
pub const EVENTS: &str = "ops";
/// Tokens per second: Grafana has no unit of that name.
pub const TOKENS: &str = "suffix: tok/s";
/// A number that is read as it stands.
pub const PLAIN: &str = "none";

/// The unit of what a family exports.
pub fn of_family(id: Id) -> &'static str {
    match catalog::row(id).unit {
        Unit::Seconds => "s",
        Unit::Bytes => "bytes",
        Unit::Ratio => "percentunit",
        Unit::Celsius => "celsius",
        Unit::Watts => "watt",
        Unit::Joules => "joule",
        Unit::Hertz => "hertz",
        Unit::TokensPerSecond => TOKENS,
        Unit::Count => "short",
    }
}

/// The unit of a kind of number.
pub fn of_quantity(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Share => "percentunit",
        Quantity::Seconds => "s",
        Quantity::Bytes => "bytes",
        Quantity::PerSecond => EVENTS,
        Quantity::Number => "short",
    }
}
