//! What the types forbid. The compiler's words are pinned beside each case, so another compiler
//! skips: `TRYBUILD=overwrite cargo test --test misuse_does_not_compile` pins them anew.
#![allow(missing_docs)]

/// The compiler whose words stand in `tests/ui/*.stderr`.
const PINNED: &str = "rustc 1.95.";

#[test]
fn misuse_that_the_types_forbid_does_not_compile() {
    let out = std::process::Command::new("rustc").arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&out.stdout).into_owned();
    let rewrites = std::env::var_os("TRYBUILD").is_some();
    if !version.starts_with(PINNED) && !rewrites {
        let required = std::env::var("STEPSCOPE_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
        assert!(!required, "{} is not the pinned {PINNED}x: pin anew", version.trim());
        println!("skipped: error messages are pinned for {PINNED}x, this is {}", version.trim());
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs")
}
