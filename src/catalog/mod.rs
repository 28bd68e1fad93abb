//! What is measured: one row per metric family, pure data, read by every other part.
//!
//! A name, unit, limit, bucket, help text or label value is typed here and nowhere else. Rows break
//! the build, not a scrape, when they break a rule (unique names, unit suffixes, ascending bounds,
//! limits on bounds). Definitions of the words: `docs/definitions.md`.

pub mod grid;
pub mod labels;
pub mod schema;

mod diagnostic;
mod own;
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
pub fn row(id: Id) -> &'static Row {
    // Every number has a row: `every_number_has_a_row` in the tests.
    ROWS.iter().find(|row| row.id == id).unwrap_or(&ROWS[0])
}

#[cfg(test)]
mod tests;
