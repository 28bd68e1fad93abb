//! The golden list of names, and what the compiler cannot check.

use super::schema::{By, Kind, Presence};
use super::{ROWS, Row};

/// A rename is deliberate: change it here too, and say so in the changelog.
const NAMES: &str = include_str!("names.txt");

#[test]
fn names_are_the_golden_ones() {
    let names: String = ROWS.iter().map(|row| format!("{}\n", describe(row))).collect();
    assert_eq!(names, NAMES, "the catalog's names, kinds or labels changed");
}

fn describe(row: &Row) -> String {
    let kind = match row.kind {
        Kind::Counter => "counter".into(),
        Kind::Gauge => "gauge".into(),
        Kind::Info => "info".into(),
        Kind::Histogram(grid) => {
            let (first, last) = (grid[0].le, grid[grid.len() - 1].le);
            format!("histogram[{} {first}..{last}]", grid.len())
        }
    };
    let mut labels: Vec<&str> = row.by.names().to_vec();
    labels.extend(row.split.iter().map(|label| label.name));
    format!("{} {} {kind} {{{}}}", row.id as u16, row.name, labels.join(","))
}

#[test]
fn every_bound_text_says_its_value() {
    for row in &ROWS {
        for bound in row.grid() {
            let value = bound.value as f64 / row.unit.scale() as f64;
            assert_eq!(bound.le.parse::<f64>().unwrap(), value, "{} {}", row.name, bound.le);
            assert!(bound.le.contains(['.', 'e']), "{} is not in float form", bound.le);
        }
    }
}

#[test]
fn the_grids_have_the_sizes_the_dashboards_count_on() {
    let sizes = [super::grid::REQUEST.len(), super::grid::DURATION.len(), super::grid::STEP.len()];
    assert_eq!(sizes, [39, 31, 33]);
}

#[test]
fn help_is_one_sentence_of_what_a_sample_is() {
    for row in &ROWS {
        assert!(row.help.ends_with('.') && !row.help.contains('\n'), "{}", row.name);
        if let Kind::Histogram(_) = row.kind {
            assert!(row.help.contains("one sample per"), "{} says not what a sample is", row.name);
        }
    }
}

#[test]
fn every_row_is_found_by_its_number_and_has_at_most_four_labels() {
    for row in &ROWS {
        assert_eq!(super::row(row.id).name, row.name);
        assert!(row.by.names().len() + row.split.len() <= 4);
        // A label whose values only feeding can tell has no series to register beforehand.
        let open = matches!(row.by, By::Device | By::Gpu | By::GpuPool | By::Pool);
        assert!(!open || row.presence == Presence::WhenFed, "{}", row.name);
    }
}
