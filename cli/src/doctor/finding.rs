//! One line of the doctor: what was found, what that means, what to do.

use serde::Serialize;

/// Text is wrapped for a terminal of 80 columns.
const COLUMNS: usize = 80;
/// Where a finding's text begins.
const INDENT: usize = 5;

/// How a finding is to be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Good,
    /// Not there, and this machine or these options leave it out.
    Absent,
    /// Broken, and somebody can repair it.
    Broken,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// How to take it.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What that means.
    pub means: String,
    /// What to do, if there is anything to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn good(found: impl Into<String>, means: impl Into<String>) -> Finding {
        Finding { state: State::Good, found: found.into(), means: means.into(), todo: None }
    }

    /// Left out, and nothing is broken.
    pub fn absent(found: impl Into<String>, means: impl Into<String>) -> Finding {
        Finding { state: State::Absent, found: found.into(), means: means.into(), todo: None }
    }

    /// To be repaired.
    pub fn broken(
        found: impl Into<String>,
        means: impl Into<String>,
        todo: impl Into<String>,
    ) -> Finding {
        let todo = Some(todo.into());
        Finding { state: State::Broken, found: found.into(), means: means.into(), todo }
    }

    /// Advice beside what was found.
    pub fn advise(self, todo: impl Into<String>) -> Finding {
        Finding { todo: Some(todo.into()), ..self }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mark = match self.state {
            State::Good => " ok  ",
            State::Absent => " --  ",
            State::Broken => " !!  ",
        };
        let parts = [Some(&self.found), Some(&self.means), self.todo.as_ref()];
        let parts: Vec<&str> = parts
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .map(String::as_str)
            .collect();
        format!("{mark}{}", wrapped(&parts.join(" · "), INDENT))
    }
}

/// Breaks a text between words; a word longer than a line (a path) keeps a line of its own.
pub fn wrapped(text: &str, indent: usize) -> String {
    let (mut out, mut column) = (String::new(), indent);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > indent && column + 1 + length > COLUMNS {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent
        } else if column > indent {
            out.push(' ');
            column += 1
        }
        out.push_str(word);
        column += length
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_within_eighty_columns_and_paths_stay_whole() {
        let path = format!("/{}", "x".repeat(90));
        let finding = Finding::broken(format!("found {path}"), "means ".repeat(30), "do it");
        let text = finding.text();
        assert!(text.contains(&path));
        let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > COLUMNS).collect();
        assert_eq!(long.len(), 1, "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("     ")));
        assert!(text.starts_with(" !!  found") && text.ends_with("· do it"));
    }
}
