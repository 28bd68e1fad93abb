//! What is measured: one row per metric family, pure data, read by every other part.
//!
//! A name, unit, limit, bucket, help text or label value is typed here and nowhere else. Rows break
//! the build, not a scrape, when they break a rule (unique names, unit suffixes, ascending bounds,
//! limits on bounds). Definitions of the words: `docs/definitions.md`.

pub mod alert;
pub mod alerts;
pub mod grid;
pub mod labels;
pub mod limits;
pub mod objective;
pub mod quantity;
pub mod recording;
pub mod routing;
pub mod schema;
pub mod signal;

mod diagnostic;
mod own;
mod proof;
mod system;
mod user;

pub use schema::{Alias, By, Healthy, Id, Kind, Label, Presence, Row, System, Tier, Unit};

const TIERS: [&[Row]; 4] = [user::ROWS, system::ROWS, diagnostic::ROWS, own::ROWS];

const LEN: usize = user::ROWS.len() + system::ROWS.len() + diagnostic::ROWS.len() + own::ROWS.len();

/// Every metric family, in the order in which they are exported.
pub static ROWS: [Row; LEN] = {
    let mut rows = [user::ROWS[0]; LEN];
    let (mut tier, mut at) = (0, 0);
    while tier < TIERS.len() {
        let mut i = 0;
        while i < TIERS[tier].len() {
            rows[at] = TIERS[tier][i];
            at += 1;
            i += 1;
        }
        tier += 1;
    }
    schema::check(&rows);
    rows
};

/// The row of a family.
pub const fn row(id: Id) -> &'static Row {
    let mut i = 0;
    while i < ROWS.len() {
        if ROWS[i].id as u16 == id as u16 {
            return &ROWS[i];
        }
        i += 1;
    }
    // Every number has a row: `every_row_is_found_by_its_number...` in the tests.
    &ROWS[0]
}

#[cfg(test)]
mod tests;
