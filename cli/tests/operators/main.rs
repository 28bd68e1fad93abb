//! What people on call read: the dashboard, the playbook, the reference, the cluster's objects. Each
//! is whole, says what the catalog says, and strangers can read it.

#[path = "../../../tests/common/mod.rs"]
mod common;

mod dashboard;
mod guide;
mod kubernetes;
mod live;
mod playbook;
mod queries;
mod reference;
mod scale;

use common::TempDir;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The derived files of a site.
struct Derived(TempDir);

impl Derived {
    fn with(args: &[&str]) -> Derived {
        let folder = TempDir::new("operators");
        let mut command = Command::new(env!("CARGO_BIN_EXE_stepscope"));
        let command = command.arg("derive").arg("--out").arg(folder.path()).args(args);
        let output = command.output().expect("the binary starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
        Derived(folder)
    }

    /// For a site whose limits are these.
    fn limited(limits: &str) -> Derived {
        let folder = TempDir::new("limits");
        let file = folder.path().join("site.toml");
        std::fs::write(&file, limits).unwrap();
        Derived::with(&["--limits", file.to_str().unwrap()])
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.path().join(file)).unwrap()
    }
}
