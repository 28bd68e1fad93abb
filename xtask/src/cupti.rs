//! Rebuilds the CUPTI names and layouts from NVIDIA's published headers with bindgen.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The file that is rebuilt, from the root of the repository.
const TARGET: &str = "src/gpu/cupti/binding.rs";

/// Wheels of PyPI that hold the headers. Any 13.0 gives the same text; pinned so that it stays so.
const WHEELS: [&str; 3] =
    ["nvidia-cuda-cupti==13.0.85", "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-crt==13.0.88"];

/// Where the wheels keep their headers.
const INCLUDE: &str = "nvidia/cu13/include";

/// The bindgen whose output is checked in; another one may format otherwise.
const BINDGEN: &str = "0.72.1";

const HOW_TO_INSTALL: &str = "\
install bindgen 0.72.1 (`cargo install bindgen-cli --version 0.72.1 --locked`) and libclang \
(`apt-get install libclang-14-dev`, or libclang-dev), \
or name a bindgen with the environment variable BINDGEN";

/// Constants to take over: our name, its type, and what it stands for.
///
/// Fields are constants instead of structs, because a record is read from the bytes of a buffer,
/// and because the structs would bring hundreds of types with them.
const CONSTANTS: &[(&str, &str, &str)] = &[
    ("SUCCESS", "unsigned", "CUPTI_SUCCESS"),
    ("ERROR_MAX_LIMIT_REACHED", "unsigned", "CUPTI_ERROR_MAX_LIMIT_REACHED"),
    ("ERROR_NOT_COMPATIBLE", "unsigned", "CUPTI_ERROR_NOT_COMPATIBLE"),
    ("ERROR_MULTIPLE_SUBSCRIBERS", "unsigned", "CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED"),
    ("KIND_MEMCPY", "unsigned", "CUPTI_ACTIVITY_KIND_MEMCPY"),
    ("KIND_MEMSET", "unsigned", "CUPTI_ACTIVITY_KIND_MEMSET"),
    ("KIND_DRIVER", "unsigned", "CUPTI_ACTIVITY_KIND_DRIVER"),
    ("KIND_RUNTIME", "unsigned", "CUPTI_ACTIVITY_KIND_RUNTIME"),
    ("KIND_CONCURRENT_KERNEL", "unsigned", "CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL"),
    ("KIND_EXTERNAL_CORRELATION", "unsigned", "CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION"),
    ("KIND_GRAPH_TRACE", "unsigned", "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"),
    ("EXTERNAL_KIND_CUSTOM0", "unsigned", "CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0"),
    ("CBID_LAUNCH_KERNEL", "unsigned", "CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel"),
    ("CBID_LAUNCH_KERNEL_PTSZ", "unsigned", "CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel_ptsz"),
    ("CBID_LAUNCH_COOPERATIVE", "unsigned", "CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel"),
    (
        "CBID_LAUNCH_COOPERATIVE_PTSZ",
        "unsigned",
        "CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel_ptsz",
    ),
    ("CBID_GRAPH_LAUNCH", "unsigned", "CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch"),
    ("CBID_GRAPH_LAUNCH_PTSZ", "unsigned", "CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch_ptsz"),
    ("CBID_LAUNCH_KERNEL_EX", "unsigned", "CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx"),
    ("CBID_LAUNCH_KERNEL_EX_PTSZ", "unsigned", "CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx_ptsz"),
    ("RECORD_KIND", "size_t", "offsetof(CUpti_Activity, kind)"),
    ("RECORD_ALIGNMENT", "size_t", "ACTIVITY_RECORD_ALIGNMENT"),
    ("KERNEL_START", "size_t", "offsetof(CUpti_ActivityKernel9, start)"),
    ("KERNEL_END", "size_t", "offsetof(CUpti_ActivityKernel9, end)"),
    ("KERNEL_DEVICE_ID", "size_t", "offsetof(CUpti_ActivityKernel9, deviceId)"),
    ("KERNEL_CONTEXT_ID", "size_t", "offsetof(CUpti_ActivityKernel9, contextId)"),
    ("KERNEL_STREAM_ID", "size_t", "offsetof(CUpti_ActivityKernel9, streamId)"),
    ("KERNEL_CORRELATION_ID", "size_t", "offsetof(CUpti_ActivityKernel9, correlationId)"),
    ("KERNEL_NAME", "size_t", "offsetof(CUpti_ActivityKernel9, name)"),
    ("KERNEL_GRAPH_NODE_ID", "size_t", "offsetof(CUpti_ActivityKernel9, graphNodeId)"),
    ("KERNEL_GRAPH_ID", "size_t", "offsetof(CUpti_ActivityKernel9, graphId)"),
    ("KERNEL_SIZE", "size_t", "sizeof(CUpti_ActivityKernel9)"),
    ("GRAPH_TRACE_CORRELATION_ID", "size_t", "offsetof(CUpti_ActivityGraphTrace, correlationId)"),
    ("GRAPH_TRACE_START", "size_t", "offsetof(CUpti_ActivityGraphTrace, start)"),
    ("GRAPH_TRACE_END", "size_t", "offsetof(CUpti_ActivityGraphTrace, end)"),
    ("GRAPH_TRACE_DEVICE_ID", "size_t", "offsetof(CUpti_ActivityGraphTrace, deviceId)"),
    ("GRAPH_TRACE_GRAPH_ID", "size_t", "offsetof(CUpti_ActivityGraphTrace, graphId)"),
    ("GRAPH_TRACE_STREAM_ID", "size_t", "offsetof(CUpti_ActivityGraphTrace, streamId)"),
    ("GRAPH_TRACE_SIZE", "size_t", "sizeof(CUpti_ActivityGraphTrace)"),
    ("EXTERNAL_KIND", "size_t", "offsetof(CUpti_ActivityExternalCorrelation, externalKind)"),
    ("EXTERNAL_ID", "size_t", "offsetof(CUpti_ActivityExternalCorrelation, externalId)"),
    (
        "EXTERNAL_CORRELATION_ID",
        "size_t",
        "offsetof(CUpti_ActivityExternalCorrelation, correlationId)",
    ),
    ("EXTERNAL_SIZE", "size_t", "sizeof(CUpti_ActivityExternalCorrelation)"),
    ("API_CBID", "size_t", "offsetof(CUpti_ActivityAPI, cbid)"),
    ("API_CORRELATION_ID", "size_t", "offsetof(CUpti_ActivityAPI, correlationId)"),
    ("API_SIZE", "size_t", "sizeof(CUpti_ActivityAPI)"),
];

/// The functions that are called, as a pattern.
const FUNCTIONS: &str = "cupti(GetVersion|GetStreamId|Subscribe|Unsubscribe|Activity(\
    RegisterTimestampCallback|RegisterCallbacks|Enable|Disable|EnableDriverApi|FlushAll|\
    GetNextRecord|GetNumDroppedRecords|PushExternalCorrelationId|PopExternalCorrelationId))";

/// C enums with hundreds of members, of which `CONSTANTS` names the few that are used.
const ENUMS: [&str; 5] = [
    "CUptiResult",
    "CUpti_ActivityKind",
    "CUpti_CallbackDomain",
    "CUpti_CallbackId",
    "CUpti_ExternalCorrelationKind",
];

/// Records of today's headers that must begin like the oldest ones, whose fields are taken over.
const SAME_FIELDS: &[(&str, &str, &[&str])] = &[
    (
        "CUpti_ActivityKernel9",
        "CUpti_ActivityKernel10",
        &["start", "end", "deviceId", "streamId", "correlationId", "graphNodeId", "graphId"],
    ),
    (
        "CUpti_ActivityGraphTrace",
        "CUpti_ActivityGraphTrace2",
        &["correlationId", "start", "end", "deviceId", "graphId", "streamId"],
    ),
];

/// Rebuilds the binding; with `check`, compares instead of writing.
pub fn regenerate(check: bool) -> Result<(), String> {
    let bindgen = find_bindgen()?;
    let folder = Folder::create()?;
    fetch(&folder.0)?;
    let built = generate(&bindgen, &folder.0)?;
    let target = root().join(TARGET);
    if check {
        let stored = std::fs::read_to_string(&target).unwrap_or_default();
        return if stored == built {
            Ok(())
        } else {
            Err(format!(
                "{TARGET} is not what its headers give: run `cargo xtask regenerate cupti`"
            ))
        };
    }
    std::fs::write(&target, built).map_err(|error| format!("cannot write {TARGET}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A temporary folder that goes away with its value.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Folder, String> {
        let path = std::env::temp_dir().join(format!("stepscope-cupti-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of a temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn find_bindgen() -> Result<PathBuf, String> {
    let program = std::env::var_os("BINDGEN").map_or_else(|| "bindgen".into(), PathBuf::from);
    let shown = program.display();
    let output = Command::new(&program)
        .arg("--version")
        .output()
        .map_err(|error| format!("cannot run `{shown}` ({error}): {HOW_TO_INSTALL}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.trim() != format!("bindgen {BINDGEN}") {
        return Err(format!("`{shown}` is `{}`: {HOW_TO_INSTALL}", text.trim()));
    }
    Ok(program)
}

/// Downloads the wheels into `folder` and unpacks them there.
fn fetch(folder: &Path) -> Result<(), String> {
    let mut pip = python(folder);
    pip.args(["pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]).args(WHEELS);
    run(&mut pip, "pip could not download the headers")?;
    let entries = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
    for wheel in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if wheel.extension().is_some_and(|extension| extension == "whl") {
            let mut unpack = python(folder);
            unpack.args(["zipfile", "-e"]).arg(&wheel).arg(folder);
            run(&mut unpack, "a wheel could not be unpacked")?;
        }
    }
    Ok(())
}

fn python(folder: &Path) -> Command {
    let mut command = Command::new("python3");
    command.current_dir(folder).arg("-m");
    command
}

fn generate(bindgen: &Path, folder: &Path) -> Result<String, String> {
    std::fs::write(folder.join("names.h"), names()).map_err(|error| error.to_string())?;
    let constants: Vec<&str> = CONSTANTS.iter().map(|(name, ..)| *name).collect();
    // Relative names, so that no path of this machine can get into the text.
    let mut command = Command::new(bindgen);
    command
        .current_dir(folder)
        .arg("names.h")
        .args(["--no-doc-comments", "--disable-header-comment", "--use-core"])
        .args(["--no-derive-copy", "--no-derive-debug", "--merge-extern-blocks"])
        .args(["--rust-target", "1.91", "--rust-edition", "2024"])
        .args(["--allowlist-var", &constants.join("|"), "--allowlist-function", FUNCTIONS])
        .args(["--blocklist-type", &ENUMS.join("|")])
        .arg("--rustfmt-configuration-file")
        .arg(std::path::absolute(root().join("rustfmt.toml")).map_err(|error| error.to_string())?)
        .args(["--", "-std=c11", &format!("-I{INCLUDE}")]);
    let text = run(&mut command, &format!("bindgen failed ({HOW_TO_INSTALL})"))?;
    Ok(head() + &text)
}

/// The C file that bindgen reads: our constants over NVIDIA's headers.
fn names() -> String {
    let mut text = "#include <stddef.h>\n#include <cupti.h>\n".to_owned();
    for (name, kind, value) in CONSTANTS {
        text += &format!("static const {kind} {name} = {value};\n");
    }
    for (old, new, fields) in SAME_FIELDS {
        for field in *fields {
            text += &format!(
                "_Static_assert(offsetof({old}, {field}) == offsetof({new}, {field}), \"{field}\");\n"
            );
        }
    }
    text
}

/// What stands above bindgen's text: where it is from, and the enums as plain numbers.
fn head() -> String {
    let source = WHEELS[0].replace("==", " ");
    let mut text = format!(
        "//! Generated from the headers of {source} by `cargo xtask regenerate cupti` \
         (bindgen {BINDGEN}); do not edit.\n\
         #![allow(missing_docs, non_camel_case_types, non_snake_case)]\n\n"
    );
    for name in ENUMS {
        text += &format!("pub type {name} = ::core::ffi::c_uint;\n");
    }
    text
}

/// Standard output of a command that must succeed.
fn run(command: &mut Command, what: &str) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().map_err(|error| format!("{what}: cannot run `{program}`: {error}"))?;
    if !output.status.success() {
        return Err(format!("{what}:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::{CONSTANTS, WHEELS, head, names};

    #[test]
    fn the_first_line_names_the_source_and_the_command() {
        let text = head();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("//! Generated from the headers of nvidia-cuda-cupti 13.0"));
        assert!(first.contains("cargo xtask regenerate cupti"), "{first}");
        assert!(WHEELS.iter().all(|wheel| wheel.contains("==")));
    }

    #[test]
    fn every_constant_is_declared_once() {
        let text = names();
        for (name, ..) in CONSTANTS {
            assert_eq!(text.matches(&format!(" {name} = ")).count(), 1, "{name}");
        }
    }
}
