//! Starts this program again for one part, and watches how it ends.

use crate::args::Args;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// The line by which a part says: what follows must end soon.
const MARK: &str = "armed";

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    Code(i32),
    Signal(i32),
    /// It did not end by itself.
    Killed,
}

/// A process that has ended.
pub struct Ended {
    pub how: How,
    /// The last line it printed.
    pub last: String,
    /// From the mark to the end.
    pub since_mark: Option<Duration>,
}

/// Says the mark.
pub fn mark() {
    println!("{MARK}");
    // A closed pipe means that nobody waits for it.
    let _ = std::io::stdout().flush();
}

/// Runs a part to its end, or to `limit`.
///
/// # Errors
/// The program cannot be started.
pub fn run(args: &Args, part: &str, limit: Duration) -> Result<Ended> {
    run_with(args, part, limit, &[])
}

/// The same with variables of the environment.
///
/// # Errors
/// The program cannot be started.
pub fn run_with(
    args: &Args,
    part: &str,
    limit: Duration,
    variables: &[(&str, &str)],
) -> Result<Ended> {
    let program = std::env::current_exe().context("this program's own file")?;
    let mut child = Command::new(program)
        .args(args.for_part(part))
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting part {part}"))?;
    let stdout = child.stdout.take().context("the part's output")?;
    let (said, heard) = channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if said.send((Instant::now(), line)).is_err() {
                break;
            }
        }
    });
    let started = Instant::now();
    let how = loop {
        if let Some(status) = child.try_wait()? {
            use std::os::unix::process::ExitStatusExt;
            break match status.code() {
                Some(code) => How::Code(code),
                None => How::Signal(status.signal().unwrap_or(0)),
            };
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            break How::Killed;
        }
        std::thread::sleep(Duration::from_millis(1))
    };
    let ended = Instant::now();
    // The pipe is closed with the process, so the reader ends.
    let _ = reader.join();
    let (mut last, mut marked) = (String::new(), None);
    for (at, line) in heard {
        if line == MARK {
            marked = Some(at)
        }
        last = line
    }
    Ok(Ended { how, last, since_mark: marked.map(|at| ended.saturating_duration_since(at)) })
}
