//! The rows that need more than the fake driver: CUPTI and NVML, played by libraries in C.
#![allow(missing_docs)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with a driver that has CUPTI and a runtime, and with an NVML; gone with its owner.
struct StandIn {
    folder: PathBuf,
}

impl StandIn {
    fn build(name: &str) -> StandIn {
        let folder = std::env::temp_dir().join(format!("gpu-real-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let built = std::env::current_exe().unwrap().parent().unwrap().join("libfake_cuda.so");
        let fake = folder.join("libcuda.so.1");
        std::fs::copy(built, &fake).unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let stand_in = folder.join("stand_in.so");
        let folder_name = folder.to_str().unwrap();
        cc(&stand_in, &here.join("stand_in.c"))
            .arg(format!("-DFAKE=\"{}\"", fake.display()))
            // Nothing in it is called by name, and still its functions are this library's.
            .arg("-Wl,--no-as-needed")
            .arg(&fake)
            .arg(format!("-Wl,-rpath,{folder_name}"))
            .arg("-ldl")
            .status()
            .map(|status| assert!(status.success()))
            .expect("a C compiler named cc");
        cc(&folder.join("nvml.so"), &here.join("../../tests/nvml_stub.c"))
            .status()
            .map(|status| assert!(status.success()))
            .expect("a C compiler named cc");
        // The same file under the runtime's name is the same library.
        std::os::unix::fs::symlink(&stand_in, folder.join("libcudart.so.13")).unwrap();
        StandIn { folder }
    }

    fn measure(&self, row: &str) -> (Value, String) {
        let file = |name: &str| self.folder.join(name);
        let output = Command::new(env!("CARGO_BIN_EXE_gpu_real"))
            .args(["--judge", "--quick", "--only", row, "--driver"])
            .arg(file("stand_in.so"))
            .arg("--cupti")
            .arg(file("stand_in.so"))
            .arg("--nvml")
            .arg(file("nvml.so"))
            .env("LD_LIBRARY_PATH", &self.folder)
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let report: Value = serde_json::from_str(stdout.lines().last().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
        (report, stderr)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn cc(to: &Path, from: &Path) -> Command {
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-Wall", "-Wextra", "-O1", "-shared", "-fPIC", "-pthread", "-o"]);
    command.arg(to).arg(from);
    command
}

fn line<'a>(report: &'a Value, what: &str) -> &'a Value {
    let lines = report["rows"][0]["lines"].as_array();
    let lines = lines.unwrap_or_else(|| panic!("no row in {report}"));
    let found = lines.iter().find(|line| line["what"] == what);
    found.unwrap_or_else(|| panic!("no line {what} in {report}"))
}

#[test]
fn every_graph_time_finds_its_step_whoever_launched_it() {
    let (report, table) = StandIn::build("cupti").measure("13");
    for what in [
        "replays by the driver API with their step's id",
        "replays by the runtime API with their step's id",
        "times without a step's id",
        "growth of memory in the long run",
        "a second subscriber is refused by name",
    ] {
        assert_eq!(line(&report, what)["verdict"], "pass", "{table}");
    }
    assert_eq!(line(&report, "launches of the long run")["value"], 20_000.0, "{table}");
    assert_eq!(line(&report, "its records")["value"], 20_000.0, "{table}");
}

#[test]
fn another_card_under_the_same_id_is_noticed() {
    let (report, table) = StandIn::build("nvml").measure("14");
    assert_eq!(line(&report, "the id finds a card")["verdict"], "pass", "{table}");
    assert_eq!(line(&report, "added by an idle attachment")["verdict"], "pass", "{table}");
    // This NVML's card is GPU-1, this driver's is not.
    assert_eq!(line(&report, "NVML's card is CUDA's, by UUID")["verdict"], "fail", "{table}");
    assert_eq!((&report["ok"], &report["failed"]), (&false.into(), &serde_json::json!([14])));
}
