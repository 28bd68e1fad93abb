//! Instructions of a subject, counted by callgrind in a child process of this program: they do not depend
//! on the machine's mood.

use std::process::{Command, Stdio};

/// Samples of the two runs: their difference has no warm-up in it.
const SAMPLES: [usize; 2] = [4_096, 20_480];

/// The argument that says: count this subject.
pub const COUNT: &str = "--count";

/// (subject, samples) if this process is such a child.
pub fn wanted() -> Option<(String, usize)> {
    let mut arguments = std::env::args().skip_while(|arg| arg != COUNT).skip(1);
    Some((arguments.next()?, arguments.next()?.parse().ok()?))
}

/// Is valgrind here?
pub fn is_here() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|out| out.status.success())
}

/// Instructions per sample.
pub fn instructions(subject: &str) -> Option<f64> {
    let [few, many] = SAMPLES.map(|samples| run(subject, samples));
    Some((many? - few?) as f64 / (SAMPLES[1] - SAMPLES[0]) as f64)
}

fn run(subject: &str, samples: usize) -> Option<u64> {
    let program = std::env::current_exe().ok()?;
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*measured_loop*")
        .arg(program)
        .args([COUNT, subject, &samples.to_string()])
        .stdout(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let line = said.lines().find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok()
}
