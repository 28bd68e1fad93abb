//! Every struct and number as Rust has it, against what a C compiler and bindgen read in the header.

#[path = "../tests/common/mod.rs"]
mod common;

use crate::config::*;
use crate::gpu::*;
use crate::read::*;
use crate::record::*;
use crate::scope::*;
use crate::step::*;
use crate::ticket::*;
use crate::words::*;
use common::{TempDir, done, root};
use std::any::type_name;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// A struct of the header.
struct Layout {
    name: &'static str,
    size: usize,
    align: usize,
    fields: Vec<Field>,
}

struct Field {
    name: &'static str,
    offset: usize,
    width: usize,
    kind: &'static str,
}

/// Size and name of the type that a field has.
fn kind_of<T, F>(_: fn(&T) -> &F) -> (usize, &'static str) {
    (size_of::<F>(), type_name::<F>())
}

macro_rules! layouts {
    ($($name:ident { $($field:ident),* })*) => { vec![$({
        // Names every field, or it does not compile.
        let _ = |$name { $($field: _),* }: $name| ();
        let fields = vec![$({
            let (width, kind) = kind_of(|it: &$name| &it.$field);
            let offset = std::mem::offset_of!($name, $field);
            Field { name: stringify!($field), offset, width, kind }
        }),*];
        let (size, align) = (size_of::<$name>(), align_of::<$name>());
        Layout { name: stringify!($name), size, align, fields }
    }),*] };
}

macro_rules! numbers {
    ($($name:ident)*) => { vec![$((stringify!($name), $name as i64)),*] };
}

fn layouts() -> Vec<Layout> {
    layouts! {
        stepscope_config {
            size, model, worker_id, engine, engine_version, gpu_id, node, listen, role,
            ttft_objective_ms, tbt_objective_ms, series_max, ring_events, label_bytes_max,
            kv_block_tokens, native_histograms, created_series, vllm_aliases, read_environment,
            manual_clock_ns
        }
        stepscope_series { opaque }
        stepscope_priority { opaque }
        stepscope_pool { opaque }
        stepscope_request { opaque }
        stepscope_origin { recv_ns, elapsed_ns, clock, reserved }
        stepscope_stream { opaque }
        stepscope_step { opaque }
        stepscope_shape { prefills, prefill_tokens, decodes }
        stepscope_gpu_options {
            size, library, gpu_id, nvml_library, cupti_library, slots, lanes, without_nvml,
            cupti_graphs
        }
        stepscope_ticket { opaque }
        stepscope_step_times {
            begin_ns, end_ns, mark_a_ns, mark_b_ns, error_ns, gpu_begin_ns, gpu_ns,
            idle_before_ns
        }
        stepscope_gpu_clock_state {
            error_ns, resolution_ns, rounds, rejected, jumps, age_ns, epoch
        }
        stepscope_gpu_lane_progress { issued, ended, completed, abandoned }
        stepscope_label { name, value }
    }
}

fn numbers() -> Vec<(&'static str, i64)> {
    numbers![
        STEPSCOPE_BATCH_MAX STEPSCOPE_LABELS_MAX STEPSCOPE_OK STEPSCOPE_LOST_UNAVAILABLE
        STEPSCOPE_LOST_CAPTURING STEPSCOPE_LOST_LAUNCH_FAILED STEPSCOPE_LOST_NOT_ENDED
        STEPSCOPE_LOST_OVERWRITTEN STEPSCOPE_LOST_FOREIGN STEPSCOPE_LOST_CLOCK_JUMP
        STEPSCOPE_LOST_ACAUSAL STEPSCOPE_LOST_FORKED STEPSCOPE_LOST_DETACHED
        STEPSCOPE_LOST_WRONG_OWNER STEPSCOPE_PENDING STEPSCOPE_NO STEPSCOPE_ABSENT
        STEPSCOPE_ERROR_NULL STEPSCOPE_ERROR_INVALID STEPSCOPE_ERROR_ENDED STEPSCOPE_ERROR_LISTEN
        STEPSCOPE_ERROR_RESOURCES STEPSCOPE_ERROR_TOO_SMALL STEPSCOPE_ERROR_THREAD
        STEPSCOPE_ERROR_UNAVAILABLE STEPSCOPE_ERROR_DRIVER STEPSCOPE_ERROR_BUSY
        STEPSCOPE_ERROR_PANIC STEPSCOPE_ROLE_BOTH STEPSCOPE_ROLE_PREFILL STEPSCOPE_ROLE_DECODE
        STEPSCOPE_STOP STEPSCOPE_LENGTH STEPSCOPE_HANDOVER STEPSCOPE_ABORTED STEPSCOPE_FAILED
        STEPSCOPE_REJECTED STEPSCOPE_OOM STEPSCOPE_TIMEOUT STEPSCOPE_CRASH STEPSCOPE_OVERLOAD
        STEPSCOPE_INTERNAL STEPSCOPE_INPUT STEPSCOPE_PREEMPT_MEMORY STEPSCOPE_PREEMPT_PRIORITY
        STEPSCOPE_PREEMPT_SWAP STEPSCOPE_DISCARD_DRAFT STEPSCOPE_DISCARD_STOP_SURPLUS
        STEPSCOPE_DISCARD_BEAM STEPSCOPE_DISCARD_ABORTED STEPSCOPE_DISCARD_NONE
        STEPSCOPE_WAIT_CAPACITY STEPSCOPE_WAIT_DEFERRED STEPSCOPE_WAIT_GRAMMAR
        STEPSCOPE_WAIT_KV_FETCH STEPSCOPE_WAIT_LORA STEPSCOPE_LAUNCH_STAMP
        STEPSCOPE_LAUNCH_IN_GRAPH STEPSCOPE_UTILIZATION STEPSCOPE_MEMORY_USED
        STEPSCOPE_MEMORY_TOTAL STEPSCOPE_MEMORY_PREALLOCATED STEPSCOPE_TEMPERATURE
        STEPSCOPE_POWER STEPSCOPE_POWER_LIMIT STEPSCOPE_CLOCK_SM STEPSCOPE_CLOCK_MEMORY
        STEPSCOPE_ALLOC_FAILURES STEPSCOPE_ENERGY STEPSCOPE_THROTTLE_THERMAL
        STEPSCOPE_THROTTLE_POWER_BRAKE STEPSCOPE_THROTTLE_POWER_CAP STEPSCOPE_XID_FATAL
        STEPSCOPE_XID_APP STEPSCOPE_XID_NOTICE STEPSCOPE_ECC_UNCORRECTED STEPSCOPE_PCIE_REPLAYS
        STEPSCOPE_LOG_ERROR STEPSCOPE_LOG_WARN STEPSCOPE_LOG_INFO
    ]
}

/// In the words of `tests/abi.txt`.
fn lines() -> BTreeSet<String> {
    let mut lines: BTreeSet<String> =
        numbers().iter().map(|(name, value)| format!("number {name} {value}")).collect();
    for Layout { name, size, align, fields } in layouts() {
        lines.insert(format!("size {name} {size}"));
        lines.insert(format!("align {name} {align}"));
        for Field { name: field, offset, width, .. } in fields {
            lines.insert(format!("offset {name}.{field} {offset}"));
            lines.insert(format!("width {name}.{field} {width}"));
        }
    }
    lines
}

fn assert_same(here: &BTreeSet<String>, there: &BTreeSet<String>) {
    let apart: Vec<_> = here.symmetric_difference(there).collect();
    assert!(apart.is_empty(), "Rust and the header's reader differ in {apart:#?}");
}

#[test]
fn a_c_compiler_reads_the_header_as_rust_has_it() {
    assert_same(&lines(), &common::read_by_c())
}

/// A program that says of bindgen's types and numbers what `lines` says of ours, and calls.
fn program() -> String {
    let mut code = String::from(
        r#"#![allow(warnings)]
        mod read { include!("read.rs"); }
        use read::*;
        use std::{any::type_name, mem::{align_of, offset_of, size_of}};
        fn kind_of<T, F>(_: fn(&T) -> &F) -> (usize, &'static str) {
            (size_of::<F>(), type_name::<F>())
        }
        fn main() {
            // SAFETY: asks nothing of its caller.
            assert!(unsafe { stepscope_now() } > 0);
            // SAFETY: NULL is allowed for a scope.
            assert_eq!(unsafe { stepscope_shutdown(std::ptr::null_mut(), 0) }, STEPSCOPE_ERROR_NULL);
        "#,
    );
    for (name, _) in numbers() {
        writeln!(code, r#"println!("number {name} {{}}", {name} as i64);"#).unwrap();
    }
    for Layout { name, fields, .. } in layouts() {
        let all: String = fields.iter().map(|field| format!("{}: _, ", field.name)).collect();
        writeln!(code, "let _ = |{name} {{ {all} }}: {name}| ();").unwrap();
        writeln!(code, r#"println!("size {name} {{}}", size_of::<{name}>());"#).unwrap();
        writeln!(code, r#"println!("align {name} {{}}", align_of::<{name}>());"#).unwrap();
        for Field { name: field, .. } in fields {
            let at = format!("{name}.{field}");
            writeln!(code, r#"println!("offset {at} {{}}", offset_of!({name}, {field}));"#)
                .unwrap();
            writeln!(code, "let (width, kind) = kind_of(|it: &{name}| &it.{field});").unwrap();
            writeln!(code, r#"println!("width {at} {{width}}\nkind {at} {{kind}}");"#).unwrap();
        }
    }
    // Declared, and found by the linker.
    for symbol in common::symbols() {
        let name = symbol.strip_prefix("symbol ").unwrap();
        writeln!(code, "std::hint::black_box({name} as *const ());").unwrap();
    }
    code + "}\n"
}

/// What the program says once bindgen has read the header.
fn read_by_bindgen(bindgen: &str) -> BTreeSet<String> {
    let folder = TempDir::new("bindgen");
    let at = |name: &str| folder.path().join(name);
    // Among bindgen's text are assertions of its own: libclang's layout is the one of rustc.
    let mut read = Command::new(bindgen);
    read.arg(root().join("include/stepscope.h")).arg("-o").arg(at("read.rs"));
    done("bindgen", read.args(["--allowlist-item", "stepscope_.*|STEPSCOPE_.*"]));
    std::fs::write(at("main.rs"), program()).unwrap();
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.arg("--edition=2021").arg(at("main.rs")).arg("-o").arg(at("main"));
    rustc.arg("-L").arg(common::library()).arg("-lstepscope");
    done("rustc", &mut rustc);
    let out = done("what bindgen read", &mut common::run(Path::new(&at("main"))));
    String::from_utf8(out.stdout).unwrap().lines().map(String::from).collect()
}

/// Is there a bindgen that knows the option and finds libclang? Says so and skips where not.
fn usable(bindgen: &str) -> bool {
    let folder = TempDir::new("bindgen-probe");
    let empty = folder.path().join("empty.h");
    std::fs::write(&empty, "").unwrap();
    let probe = Command::new(bindgen).args(["--allowlist-item", "none"]).arg(empty).output();
    let works = probe.is_ok_and(|out| out.status.success());
    if !works {
        let required = std::env::var("STEPSCOPE_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
        let why =
            format!("{bindgen} is missing, too old for --allowlist-item, or finds no libclang");
        assert!(!required, "{why}, and STEPSCOPE_REQUIRE_TOOLS=1");
        println!("skipped: {why}");
    }
    works
}

/// `BINDGEN` names another one.
#[test]
fn bindgen_reads_the_header_as_rust_has_it() {
    let bindgen = std::env::var("BINDGEN").unwrap_or_else(|_| "bindgen".into());
    if !usable(&bindgen) {
        return;
    }
    let mut here = lines();
    for Layout { name, fields, .. } in layouts() {
        here.extend(fields.iter().map(|f| format!("kind {name}.{} {}", f.name, f.kind)));
    }
    assert_same(&here, &read_by_bindgen(&bindgen))
}
