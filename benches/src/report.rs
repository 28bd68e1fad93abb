//! Where results go, and on which machine they came about.

use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Writes a result: `target/bench/NAME.json` of this checkout.
fn write_json(name: &str, value: &impl Serialize) -> std::io::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join("target");
    let folder = target.unwrap_or(root).join("bench");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(value)?)?;
    path.canonicalize()
}

/// The processor, as the kernel names it.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':'])).to_string()
}

/// Seconds since the epoch.
fn unix_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or(Duration::ZERO).as_secs()
}

/// A bench's result as it is kept.
#[derive(Serialize)]
struct Report<'a, T> {
    machine: String,
    unix_seconds: u64,
    /// Rounds, pairs or seconds, as the bench counts.
    repeats: f64,
    rows: &'a [T],
}

/// Keeps a result and says where, unless this is only a smoke test.
///
/// # Errors
/// The folder cannot be written to.
pub fn save<T: Serialize>(name: &str, repeats: f64, rows: &[T]) -> std::io::Result<()> {
    if is_smoke() {
        return Ok(());
    }
    let report = Report { machine: processor(), unix_seconds: unix_seconds(), repeats, rows };
    println!("written to {}", write_json(name, &report)?.display());
    Ok(())
}

/// The middle of some samples, which it sorts; 0 of none.
pub fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(0.0)
}

/// `cargo test` runs benches without `--bench`: then they are only smoke tests.
pub fn is_smoke() -> bool {
    !std::env::args().any(|arg| arg == "--bench")
}

/// The arguments that are no options.
pub fn arguments() -> Vec<String> {
    std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect()
}
