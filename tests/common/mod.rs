//! What several test binaries need: outside tools that may be missing, a bare HTTP client, a worker
//! with made-up traffic (`traffic`), what the official parsers read (`samples`), what this process
//! has (`process`).
#![allow(dead_code, missing_docs)] // each test binary uses its own part

pub mod http;
pub mod process;
pub mod samples;
pub mod traffic;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Is this program there? Says so and skips where it is missing, unless `STEPSCOPE_REQUIRE_TOOLS=1`:
/// then a missing tool is a failure.
pub fn tool(name: &str, probe: &[&str]) -> bool {
    let found = Command::new(name).args(probe).output().is_ok_and(|out| out.status.success());
    if !found {
        let required = std::env::var("STEPSCOPE_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
        assert!(!required, "{name} is missing and STEPSCOPE_REQUIRE_TOOLS=1");
        println!("skipped: {name} is missing");
    }
    found
}

/// Python with the official Prometheus parser.
pub fn python_parser() -> bool {
    tool("python3", &["-c", "import prometheus_client"])
}

/// Runs a program on this input: (did it succeed, what it printed, what it complained about).
pub fn run_on(program: &str, args: &[&str], input: &[u8]) -> (bool, String, String) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Every program used here reads its whole input before it prints, so no pipe fills up.
    child.stdin.take().unwrap().write_all(input).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (out.status.success(), text(out.stdout), text(out.stderr))
}

/// A program that runs until it is dropped: killed by its own number, then waited for.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder of one test, removed with what is in it.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("stepscope-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A program that was just killed may still own a file there: then the folder stays.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks until there is an answer; says what it waited for when there is none for too long.
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50))
    }
}
