//! The kernels' header as host code sees it, by a C and a C++ compiler: plain types, the numbers of
//! the library, and no warning.
#![allow(missing_docs, dead_code)]

#[path = "../src/gpu/layout.rs"]
mod layout;

mod common;

use common::{run_on, tool};
use stepscope::gpu::{DeviceHandle, Point};

/// A program that holds every number of the header against the library's.
fn program(assert: &str) -> String {
    let points = [
        ("STEPSCOPE_BEGIN", Point::Begin),
        ("STEPSCOPE_MARK_A", Point::MarkA),
        ("STEPSCOPE_MARK_B", Point::MarkB),
        ("STEPSCOPE_END", Point::End),
    ]
    .map(|(name, point)| (name, point as u64));
    let numbers = [
        ("STEPSCOPE_SLOT_BYTES", layout::SLOT_BYTES),
        ("STEPSCOPE_WORD_BYTES", layout::SLOT_BYTES / layout::WORDS as u64),
        ("STEPSCOPE_TIME_BITS", u64::from(layout::TIME_MASK.count_ones())),
        ("STEPSCOPE_REGION_MAGIC_AT", layout::MAGIC),
        ("STEPSCOPE_REGION_UNCLAIMED_AT", layout::UNCLAIMED),
        ("STEPSCOPE_REGION_SCRATCH_AT", layout::SCRATCH),
        ("STEPSCOPE_REGION_PROBE_AT", layout::PROBE),
        ("STEPSCOPE_REGION_RINGS_AT", layout::RINGS),
        ("STEPSCOPE_CELL_BYTES", layout::CELL_BYTES),
        ("sizeof(struct stepscope_handle)", size_of::<DeviceHandle>() as u64),
        (
            "offsetof(struct stepscope_handle, ring)",
            std::mem::offset_of!(DeviceHandle, ring) as u64,
        ),
        (
            "offsetof(struct stepscope_handle, cell)",
            std::mem::offset_of!(DeviceHandle, cell) as u64,
        ),
    ];
    let asserts: String = numbers
        .into_iter()
        .chain(points)
        .map(|(name, number)| format!("{assert}({name} == {number}, \"{name}\");\n"))
        .collect();
    let header = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/stepscope.cuh");
    format!("#include <stddef.h>\n#include \"{header}\"\n{asserts}")
}

/// Compiles without output: did it, and what was complained about.
fn compiles(compiler: &str, standard: &str, language: &str, program: &str) -> (bool, String) {
    let arguments = [
        standard,
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        "-fsyntax-only",
        "-x",
        language,
        "-",
    ];
    let (fine, _, complaints) = run_on(compiler, &arguments, program.as_bytes());
    (fine, complaints)
}

#[test]
fn c_sees_plain_types_and_the_librarys_numbers() {
    let good = program("_Static_assert");
    let (fine, complaints) = compiles("cc", "-std=c11", "c", &good);
    assert!(fine, "{complaints}");
    let bad = good.replace("STEPSCOPE_CELL_BYTES == 64", "STEPSCOPE_CELL_BYTES == 65");
    let (fine, complaints) = compiles("cc", "-std=c11", "c", &bad);
    assert!(!fine && complaints.contains("STEPSCOPE_CELL_BYTES"), "the check can fail");
}

#[test]
fn cpp_sees_the_same() {
    if !tool("c++", &["--version"]) {
        return;
    }
    let (fine, complaints) = compiles("c++", "-std=c++17", "c++", &program("static_assert"));
    assert!(fine, "{complaints}");
}
