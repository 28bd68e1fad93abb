//! The verdict for a person at a terminal: 80 columns, the worst first in each part.

use super::verdict::{Issue, Status, Verdict};
use crate::judge::Phase;
use std::fmt::Write;

impl Verdict {
    /// The answer of `/health` to `Accept: text/plain`.
    ///
    /// ```
    /// # let scope = stepscope::Stepscope::start(stepscope::Config { listen: None, ..Default::default() })?;
    /// scope.mark_ready();
    /// let text = scope.health().text();
    /// assert!(text.starts_with("HEALTHY  idle, serving"), "{text}");
    /// # Ok::<(), stepscope::StartError>(())
    /// ```
    pub fn text(&self) -> String {
        let mut out = String::new();
        let serving = if self.serving { "serving" } else { "not serving" };
        let state = format!("{:?}", self.state).to_lowercase();
        let (model, worker) = (&self.model, &self.worker_id);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{}  {state}, {serving}  model {model}, worker {worker}",
            word(self.overall)
        );
        let _ = writeln!(out, "{}\n", self.sentence);
        for (key, status, sentence, issues) in self.checks.each() {
            let name = key.trim_end_matches("_health");
            let _ = writeln!(out, "{name:<10} {:<9} {sentence}", word(status));
            issues.iter().for_each(|issue| write_issue(&mut out, issue))
        }
        if !self.advice.is_empty() {
            let _ = writeln!(out, "\nDo first:");
            self.advice.iter().for_each(|advice| {
                let _ = writeln!(out, "- {advice}");
            })
        }
        out
    }
}

fn write_issue(out: &mut String, issue: &Issue) {
    let words = |value: f64| issue.quantity.words(value);
    let value = issue.value.map_or_else(|| "no value".into(), words);
    let Issue { alert, since_seconds, .. } = issue;
    let limit = issue.limit.map(words);
    let (above, at) = match &limit {
        Some(limit) => (format!(" > {limit}"), format!(", limit {limit}")),
        None => Default::default(),
    };
    let line = match issue.state {
        Phase::Pending => format!("{value}{above} for {since_seconds:.0} s, about to fire"),
        // Its number may be fine again: it stays so that a gap does not resolve it.
        Phase::Kept => format!("ended, kept a while; now {value}{at}"),
        Phase::Firing | Phase::Inactive => format!("{value}{above} for {since_seconds:.0} s"),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "           {alert}: {line}");
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Healthy => "HEALTHY",
        Status::Unknown => "UNKNOWN",
        Status::Warning => "WARNING",
        Status::Critical => "CRITICAL",
    }
}
