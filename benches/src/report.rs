//! Where results go, and on which machine they came about.

use std::path::PathBuf;
use std::time::Duration;

/// Writes a result: `target/bench/NAME.json` of this checkout.
pub fn write_json(name: &str, value: &impl serde::Serialize) -> std::io::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join("target");
    let folder = target.unwrap_or(root).join("bench");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(value)?)?;
    path.canonicalize()
}

/// The processor, as the kernel names it.
pub fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':'])).to_string()
}

/// Seconds since the epoch.
pub fn unix_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or(Duration::ZERO).as_secs()
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
