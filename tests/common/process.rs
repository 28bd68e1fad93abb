//! What this process has: threads of ours, open files, memory. Counting needs tests that run alone.

use super::wait_for;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One test at a time: for binaries whose tests count what their process has.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names of the threads that scopes started, sorted.
pub fn our_threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    let ours = names.filter(|name| name.starts_with("stepscope-"));
    let mut ours: Vec<String> = ours.map(|name| name.trim_end().to_string()).collect();
    ours.sort();
    ours
}

/// A thread names itself, after it started; a joined one may be listed a moment longer.
pub fn wait_for_threads(wanted: &[&str]) {
    wait_for(&format!("threads {wanted:?}"), Duration::from_secs(10), || {
        (our_threads() == wanted).then_some(())
    })
}

pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn status(file: &str, name: &str) -> u64 {
    let status = std::fs::read_to_string(file).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

pub fn resident_mib() -> u64 {
    status("/proc/self/status", "VmRSS:") / 1_024
}

/// How often the calling thread gave up the processor by itself: to sleep, or to wait for a lock.
pub fn voluntary_switches() -> u64 {
    status("/proc/thread-self/status", "voluntary_ctxt_switches:")
}
