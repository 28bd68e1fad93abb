//! Rows and their lines: what was measured, its limit, and what was made of it.

use serde::{Deserialize, Serialize};

/// What a line came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Within its limit.
    Pass,
    /// Not within it, or the measurement broke.
    Fail,
    /// A figure without a limit.
    Reported,
    /// A figure whose limit is about real hardware, from the fake driver.
    NotJudged,
    /// Could not be measured here; `note` says why.
    Skipped,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Reported => "",
            Verdict::NotJudged => "not judged on a fake driver",
            Verdict::Skipped => "skip",
        }
    }
}

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub what: String,
    pub verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<f64>,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub unit: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub limit: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub note: String,
}

/// One row of the plan: several figures about one question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub row: u8,
    pub title: String,
    /// Limits that are about real hardware are not judged.
    pub fake: bool,
    pub lines: Vec<Line>,
}

impl Row {
    pub fn new(row: u8, title: &str, fake: bool) -> Row {
        Row { row, title: title.to_owned(), fake, lines: vec![] }
    }

    fn add(&mut self, what: &str, verdict: Verdict) -> &mut Line {
        let (value, empty) = (None, String::new);
        let what = what.to_owned();
        let line = Line { what, verdict, value, unit: empty(), limit: empty(), note: empty() };
        self.lines.push(line);
        // Just pushed.
        let last = self.lines.len() - 1;
        &mut self.lines[last]
    }

    /// Something that must be true on any driver.
    pub fn holds(&mut self, what: &str, ok: bool, note: impl std::fmt::Display) {
        let verdict = if ok { Verdict::Pass } else { Verdict::Fail };
        self.add(what, verdict).note = note.to_string()
    }

    /// A count that must be exact on any driver.
    pub fn exactly(&mut self, what: &str, found: u64, wanted: u64) {
        let verdict = if found == wanted { Verdict::Pass } else { Verdict::Fail };
        let line = self.add(what, verdict);
        line.value = Some(found as f64);
        line.limit = format!("= {wanted}")
    }

    /// A figure of real hardware that may not be above `most`.
    pub fn at_most(&mut self, what: &str, value: f64, unit: &str, most: f64) {
        self.between(what, value, unit, f64::NEG_INFINITY..=most)
    }

    /// A figure of real hardware with a range.
    pub fn between(
        &mut self,
        what: &str,
        value: f64,
        unit: &str,
        range: std::ops::RangeInclusive<f64>,
    ) {
        let verdict = match range.contains(&value) {
            _ if self.fake => Verdict::NotJudged,
            true => Verdict::Pass,
            false => Verdict::Fail,
        };
        let line = self.add(what, verdict);
        line.value = Some(value);
        line.unit = unit.to_owned();
        line.limit = match range.start().is_finite() {
            true => format!("{} to {}", range.start(), range.end()),
            false => format!("<= {}", range.end()),
        }
    }

    /// A figure without a limit.
    pub fn reported(&mut self, what: &str, value: f64, unit: &str) {
        let line = self.add(what, Verdict::Reported);
        line.value = Some(value);
        line.unit = unit.to_owned()
    }

    /// What could not be measured here.
    pub fn skipped(&mut self, what: &str, why: impl std::fmt::Display) {
        self.add(what, Verdict::Skipped).note = why.to_string()
    }

    /// What needs real hardware, not run on the fake driver at all. True = leave it.
    pub fn needs_a_card(&mut self, what: &str, why: &str) -> bool {
        if self.fake {
            self.add(what, Verdict::NotJudged).note = why.to_owned()
        }
        self.fake
    }

    /// The row as a whole: its worst line.
    pub fn verdict(&self) -> Verdict {
        let has = |verdict| self.lines.iter().any(|line| line.verdict == verdict);
        [Verdict::Fail, Verdict::Pass, Verdict::NotJudged, Verdict::Reported]
            .into_iter()
            .find(|verdict| has(*verdict))
            .unwrap_or(Verdict::Skipped)
    }

    /// The row for people.
    pub fn table(&self) -> String {
        let mut text = format!("{:>2}  {}\n", self.row, self.title);
        for line in &self.lines {
            let value = line.value.map_or_else(String::new, |value| {
                let shown = if value.fract() == 0.0 || value.abs() >= 1_000.0 {
                    format!("{value:.0}")
                } else {
                    format!("{value:.3}")
                };
                format!("{shown} {}", line.unit)
            });
            let row = format!(
                "      {:<52} {:>18}  {:<16} {} {}",
                line.what,
                value.trim_end(),
                line.limit,
                line.verdict.word(),
                line.note
            );
            text.push_str(row.trim_end());
            text.push('\n')
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_hardware_is_judged_on_hardware_only() {
        let verdicts = |fake| {
            let mut row = Row::new(1, "t", fake);
            row.at_most("a", 2.0, "us", 1.0);
            row.at_most("b", 1.0, "us", 1.0);
            row.at_most("c", f64::NAN, "us", 1.0);
            row.exactly("d", 1, 0);
            row.lines.iter().map(|line| line.verdict).collect::<Vec<_>>()
        };
        use Verdict::{Fail, NotJudged, Pass};
        assert_eq!(verdicts(false), [Fail, Pass, Fail, Fail], "no figure is no pass");
        assert_eq!(verdicts(true), [NotJudged, NotJudged, NotJudged, Fail]);
    }

    #[test]
    fn one_failed_line_fails_its_row() {
        let mut row = Row::new(1, "t", false);
        row.skipped("a", "not here");
        assert_eq!(row.verdict(), Verdict::Skipped);
        row.holds("b", true, "");
        assert_eq!(row.verdict(), Verdict::Pass);
        row.holds("c", false, "");
        assert_eq!(row.verdict(), Verdict::Fail);
    }
}
