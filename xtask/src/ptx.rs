//! Rebuilds the checked-in PTX from `kernels/*.cu` with clang, which needs no CUDA toolkit for it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Sources in `kernels/`; each gives a `.ptx` of the same name.
const SOURCES: [&str; 4] = ["stamp", "stamp_test", "demo", "gpu_real"];

/// PTX 6.0 for sm_70: the oldest text that has scoped stores, so that every driver in use loads it.
const FLAGS: [&str; 9] = [
    "-x",
    "cuda",
    "--cuda-device-only",
    "--cuda-gpu-arch=sm_70",
    "-nocudainc",
    "-nocudalib",
    "-std=c++17",
    "-O2",
    "-S",
];

/// The clang whose output is checked in. Another major version may choose other instructions.
const CLANG_MAJOR: u32 = 14;

const HOW_TO_INSTALL: &str = "\
install clang 14 (`apt-get install clang-14`, or an archive from https://releases.llvm.org), \
or name a clang of version 14 or later with the environment variable CLANG";

/// Rebuilds every PTX file; with `check`, compares instead of writing.
pub fn regenerate(check: bool) -> Result<(), String> {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels");
    let clang = find_clang()?;
    for name in SOURCES {
        let built = compile(&clang, &kernels, name)?;
        let target = kernels.join(format!("{name}.ptx"));
        if check {
            let stored = std::fs::read_to_string(&target).unwrap_or_default();
            compare(name, &stored, &built, &clang)?;
        } else {
            std::fs::write(&target, built)
                .map_err(|error| format!("cannot write kernels/{name}.ptx: {error}"))?;
        }
    }
    Ok(())
}

/// A clang that was found, with the major version it states.
struct Clang {
    program: PathBuf,
    major: u32,
}

fn find_clang() -> Result<Clang, String> {
    let program = std::env::var_os("CLANG").map_or_else(|| "clang-14".into(), PathBuf::from);
    let shown = program.display();
    let output = Command::new(&program)
        .arg("--version")
        .output()
        .map_err(|error| format!("cannot run `{shown}` ({error}): {HOW_TO_INSTALL}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let major = major_version(&text)
        .ok_or_else(|| format!("`{shown}` does not state a clang version: {HOW_TO_INSTALL}"))?;
    if major < CLANG_MAJOR {
        return Err(format!("`{shown}` is clang {major}, too old: {HOW_TO_INSTALL}"));
    }
    Ok(Clang { program, major })
}

/// "Debian clang version 14.0.6" -> 14
fn major_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("clang version ")?;
    version.split('.').next()?.parse().ok()
}

fn compile(clang: &Clang, kernels: &Path, name: &str) -> Result<String, String> {
    // Relative names, so that no path of this machine can get into the text.
    let output = Command::new(&clang.program)
        .current_dir(kernels)
        .args(FLAGS)
        .args(["-Wall", "-Wextra", "-Werror", "-o", "-"])
        .arg(format!("{name}.cu"))
        .output()
        .map_err(|error| format!("cannot run `{}`: {error}", clang.program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaints = String::from_utf8_lossy(&output.stderr);
        return Err(format!("kernels/{name}.cu does not compile:\n{complaints}"));
    }
    Ok(tidy(name, &text))
}

/// The compiler's text without its comments and blank lines, under a line that says where it comes from.
fn tidy(name: &str, text: &str) -> String {
    let mut tidied = format!(
        "// Generated from kernels/{name}.cu and kernels/stepscope.cuh by `cargo xtask regenerate` \
         (clang-{CLANG_MAJOR} {}). Do not edit.\n",
        FLAGS.join(" ")
    );
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() || line.trim_start().starts_with("//") {
            continue;
        }
        if line.starts_with(".visible") {
            tidied.push('\n');
        }
        tidied.push_str(line);
        tidied.push('\n');
    }
    tidied
}

fn compare(name: &str, stored: &str, built: &str, clang: &Clang) -> Result<(), String> {
    if stored == built {
        return Ok(());
    }
    let number = stored.lines().zip(built.lines()).take_while(|(old, new)| old == new).count();
    let line = |text: &str| text.lines().nth(number).unwrap_or("(end of file)").to_owned();
    let hint = if clang.major == CLANG_MAJOR {
        String::new()
    } else {
        format!("\nthis is clang {}; the stored text comes from clang {CLANG_MAJOR}", clang.major)
    };
    Err(format!(
        "kernels/{name}.ptx is stale, first difference at line {}:\n- {}\n+ {}\nrun `cargo xtask regenerate`{hint}",
        number + 1,
        line(stored),
        line(built)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_any_vendors_line() {
        assert_eq!(major_version("Debian clang version 14.0.6\nTarget: x"), Some(14));
        assert_eq!(major_version("clang version 19.1.0 (https://example.org)"), Some(19));
        assert_eq!(major_version("gcc 12"), None);
    }

    #[test]
    fn comments_and_blank_lines_go_and_the_origin_comes_first() {
        let tidied = tidy("stamp", "//\n// LLVM\n\n.version 6.0\n\t// asm\n\tret;  \n");
        let lines: Vec<&str> = tidied.lines().collect();
        assert!(lines[0].starts_with("// Generated from kernels/stamp.cu"));
        assert_eq!(lines[1..], [".version 6.0", "\tret;"]);
    }

    #[test]
    fn a_difference_is_shown_with_its_line() {
        let clang = Clang { program: PathBuf::new(), major: CLANG_MAJOR };
        assert!(compare("stamp", "a\nb\n", "a\nb\n", &clang).is_ok());
        let message = compare("stamp", "a\nb\n", "a\nc\n", &clang).unwrap_err();
        assert!(message.contains("line 2:\n- b\n+ c"), "{message}");
    }
}
