//! What tests of the binary share: the fake driver, and small libraries made for one test.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of the fake driver in `folder`: each copy is a driver of its own.
pub fn fake_driver(folder: &Path) -> PathBuf {
    let built = std::env::current_exe().unwrap().with_file_name("libfake_cuda.so");
    let copy = folder.join("libfake-cuda.so");
    std::fs::copy(&built, &copy).unwrap_or_else(|e| panic!("{}: {e}", built.display()));
    copy
}

/// A library of `source`; `None` where there is no C compiler.
#[allow(dead_code)] // Not every test binary makes one.
pub fn compiled(source: &Path, library: &Path, arguments: &[&str]) -> Option<()> {
    let compiler = std::env::var_os("CC").unwrap_or("cc".into());
    let mut command = Command::new(compiler);
    command.args(["-shared", "-fPIC", "-pthread", "-o"]).arg(library).arg(source).args(arguments);
    let Ok(built) = command.output() else {
        let is_required = std::env::var_os("STEPSCOPE_REQUIRE_TOOLS").is_some_and(|set| set == "1");
        assert!(!is_required, "no C compiler");
        println!("skipped: no C compiler");
        return None;
    };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(())
}
