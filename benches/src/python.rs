//! The recorder that engines in Python use, in a process of its own: it is asked for a round at a time.

use crate::rounds::Subject;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Calls in one round.
const CALLS: usize = 2_000;

/// Python's prometheus_client doing one thing.
pub struct Python {
    name: String,
    what: &'static str,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Python {
    /// `None` where Python or its prometheus_client is missing.
    pub fn start(name: &str, what: &'static str) -> Option<Python> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python_peer.py");
        let mut child = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let questions = child.stdin.take()?;
        let answers = BufReader::new(child.stdout.take()?);
        let mut python = Python { name: name.into(), what, child, questions, answers };
        python.ask(10).map(|_| python)
    }

    /// ns per call.
    fn ask(&mut self, calls: usize) -> Option<f64> {
        writeln!(self.questions, "{} {calls}", self.what).ok()?;
        self.questions.flush().ok()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).ok()?;
        answer.trim().parse().ok()
    }
}

impl Subject for Python {
    fn name(&self) -> &str {
        &self.name
    }

    fn round(&mut self) -> f64 {
        self.ask(CALLS).expect("the child answers")
    }

    fn count(&mut self, _: usize) {}
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
