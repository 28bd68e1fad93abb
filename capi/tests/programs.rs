//! Outside programs in C and C++: compiled with every warning as an error, run, and looked at by
//! sanitizers.
#![allow(missing_docs)]

mod common;

use common::{Build, TempDir, done, first_tool, library, root, run, tool};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Compiles and runs a program; what it printed.
fn outcome(build: &Build<'_>, source: &Path, folder: &TempDir) -> String {
    let program = folder.path().join(source.file_stem().unwrap());
    build.compile(source, &program);
    let out = done(&source.display().to_string(), run(&program).env("LSAN_OPTIONS", "exitcode=23"));
    String::from_utf8(out.stdout).unwrap()
}

fn c_compilers() -> Vec<&'static str> {
    [first_tool(&["gcc"]), first_tool(&["clang", "clang-14"])].into_iter().flatten().collect()
}

fn cpp_compilers() -> Vec<&'static str> {
    [first_tool(&["g++"]), first_tool(&["clang++", "clang++-14"])].into_iter().flatten().collect()
}

fn example(path: &str) -> std::path::PathBuf {
    root().parent().unwrap().join("examples").join(path)
}

fn is_ok(out: &str) {
    let last = out.lines().last().unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(value["ok"], true, "{out}");
    assert!(value["tokens"].as_u64().unwrap() > 100, "{out}");
}

#[test]
fn the_examples_count_what_they_did_with_every_compiler_shared_and_static() {
    let folder = TempDir::new("examples");
    for linked_static in [false, true] {
        for compiler in c_compilers() {
            let build = Build { compiler, standard: "c11", flags: &[], linked_static };
            is_ok(&outcome(&build, &example("c/engine.c"), &folder))
        }
        for compiler in cpp_compilers() {
            for standard in ["c++17", "c++20"] {
                let flags = &["-fno-exceptions", "-fno-rtti"];
                let build = Build { compiler, standard, flags, linked_static };
                is_ok(&outcome(&build, &example("cpp/engine.cpp"), &folder))
            }
        }
    }
}

#[test]
fn the_examples_are_short_and_their_scripts_run() {
    for (folder, source) in [("c", "engine.c"), ("cpp", "engine.cpp")] {
        let text = fs::read_to_string(example(folder).join(source)).unwrap();
        assert!(text.lines().count() < 100, "{source}");
        let mut script = Command::new(example(folder).join("run.sh"));
        let out = done(source, script.env("LIBSTEPSCOPE", library()));
        is_ok(&String::from_utf8(out.stdout).unwrap())
    }
}

#[test]
fn the_example_in_the_header_compiles_and_runs() {
    let folder = TempDir::new("header-example");
    let header = fs::read_to_string(root().join("include/stepscope.h")).unwrap();
    let (_, from) = header.split_once(" * Example:").unwrap();
    let lines = from.lines().skip(1).take_while(|line| line.starts_with(" *") && *line != " */");
    let code: String = lines.map(|line| line[2..].to_string() + "\n").collect();
    let source = folder.path().join("example.c");
    fs::write(&source, code).unwrap();
    let build = Build { compiler: "cc", standard: "c11", flags: &[], linked_static: false };
    outcome(&build, &source, &folder);
}

#[test]
fn the_header_and_the_kernels_header_go_together() {
    let folder = TempDir::new("both-headers");
    let source = root().join("tests/c/header_with_kernels.c");
    for (compiler, standard, flags) in
        [("cc", "c11", &[][..]), ("c++", "c++17", &["-x", "c++"][..])]
    {
        let build = Build { compiler, standard, flags, linked_static: false };
        outcome(&build, &source, &folder);
    }
}

#[test]
fn misuse_is_answered_or_counted_and_the_sanitizers_find_nothing() {
    let folder = TempDir::new("survive");
    let source = root().join("tests/c/survive.c");
    // Only gcc: its runtimes come with it, those of clang are a package of their own.
    let flags = &["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wno-conversion"];
    let Some(compiler) = first_tool(&["gcc"]) else { return };
    let build = Build { compiler, standard: "c11", flags, linked_static: false };
    assert!(outcome(&build, &source, &folder).ends_with("survived\n"))
}

#[test]
fn misuse_leaves_no_error_and_no_leak_for_valgrind() {
    if !tool("valgrind") {
        return;
    }
    let folder = TempDir::new("valgrind");
    let program = folder.path().join("survive");
    let flags = &["-Wno-conversion"];
    let build = Build { compiler: "cc", standard: "c11", flags, linked_static: false };
    build.compile(&root().join("tests/c/survive.c"), &program);
    let mut valgrind = run(Path::new("valgrind"));
    valgrind.args(["-q", "--error-exitcode=23", "--leak-check=full"]);
    valgrind.args(["--errors-for-leak-kinds=definite,indirect"]).arg(&program);
    done("valgrind", &mut valgrind);
}

/// A function that nobody misuses proves nothing.
#[test]
fn every_exported_function_is_misused() {
    let text = fs::read_to_string(root().join("tests/c/survive.c")).unwrap();
    for symbol in common::symbols() {
        let name = symbol.strip_prefix("symbol ").unwrap();
        assert!(name.starts_with("stepscope_"), "{name} is no name of ours");
        assert!(text.contains(&format!("{name}(")), "{name} is not called")
    }
}

#[test]
fn a_library_that_is_closed_and_opened_again_goes_on() {
    let folder = TempDir::new("reload");
    let flags = &["-ldl"];
    let build = Build { compiler: "cc", standard: "c11", flags, linked_static: false };
    let said = outcome(&build, &root().join("tests/c/reload.c"), &folder);
    assert_eq!(said, "survived\n");
}

#[test]
fn an_engine_in_c_stamps_its_steps_on_the_gpu() {
    let folder = TempDir::new("gpu");
    let program = folder.path().join("gpu");
    for (name, flags) in [
        ("cc", &["-ldl"][..]),
        ("gcc", &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]),
    ] {
        let Some(compiler) = first_tool(&[name]) else { continue };
        let build = Build { compiler, standard: "c11", flags, linked_static: false };
        build.compile(&root().join("tests/c/gpu.c"), &program);
        let driver = library().join("libfake_cuda.so");
        let out = done("gpu.c", run(&program).arg(driver).env("LSAN_OPTIONS", "exitcode=23"));
        assert_eq!(String::from_utf8(out.stdout).unwrap(), "survived\n")
    }
}

#[test]
fn a_forked_child_may_call_everything_and_hangs_in_nothing() {
    let folder = TempDir::new("fork");
    let flags = &["-pthread"];
    let build = Build { compiler: "cc", standard: "c11", flags, linked_static: false };
    let said = outcome(&build, &root().join("tests/c/fork.c"), &folder);
    assert_eq!(said, "survived\n");
}

#[test]
fn the_library_names_itself_by_its_interface_and_stays_loaded() {
    if !tool("readelf") {
        return;
    }
    let mut readelf = Command::new("readelf");
    let out = done("readelf", readelf.arg("-d").arg(library().join("libstepscope.so")));
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("soname: [libstepscope.so.0]"), "{text}");
    assert!(text.contains("NODELETE"), "{text}");
}
