//! Attaching where it cannot be: a driver that lacks one symbol, any of them; devices and streams that
//! cannot be stamped. A stub in C stands in for the driver; every answer is a value that names it.
#![allow(missing_docs, unsafe_code)] // The engine on the fake driver makes driver calls.

#[path = "common/fake_gpu.rs"]
#[allow(dead_code)]
mod fake_gpu;

mod common;

use common::{TempDir, run_on};
use fake_gpu::FakeGpu;
use std::path::PathBuf;
use stepscope::gpu::{DRIVER_SYMBOLS, Gpu, GpuUnavailable, Options, RawStream};

/// What the library needs of a driver; the rest is optional.
const REQUIRED: [&str; 22] = [
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuCtxPushCurrent_v2",
    "cuCtxPopCurrent_v2",
    "cuCtxGetDevice",
    "cuCtxGetStreamPriorityRange",
    "cuDeviceGetAttribute",
    "cuStreamGetCtx",
    "cuStreamIsCapturing",
    "cuStreamCreateWithPriority",
    "cuStreamDestroy_v2",
    "cuThreadExchangeStreamCaptureMode",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuModuleUnload",
    "cuMemHostRegister_v2",
    "cuMemHostUnregister",
    "cuMemHostGetDevicePointer_v2",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemcpyHtoD_v2",
    "cuLaunchKernel",
];

/// A driver in C whose functions succeed and do nothing but what is given for them here.
fn stub(folder: &TempDir, name: &str, without: &str, bodies: &[(&str, &str)]) -> PathBuf {
    let file = folder.path().join(format!("{name}.so"));
    let body = |symbol| bodies.iter().find(|(given, _)| *given == symbol).map(|(_, body)| *body);
    let source: String = REQUIRED
        .iter()
        .filter(|symbol| **symbol != without)
        .map(|symbol| {
            let body = body(*symbol).unwrap_or("(void) { return 0; }");
            format!("int {symbol}{body}\n")
        })
        .collect();
    let out = file.to_str().unwrap();
    let arguments = ["-std=c11", "-shared", "-fPIC", "-x", "c", "-o", out, "-"];
    let (built, _, complaints) = run_on("cc", &arguments, source.as_bytes());
    assert!(built, "{complaints}");
    file
}

fn refusal(library: PathBuf) -> GpuUnavailable {
    let options = Options { library: Some(library), nvml: false, ..Options::default() };
    Gpu::attach(RawStream::LEGACY, &options).unwrap_err()
}

/// A current context, and a device with these attributes: 75 is its major compute capability, 99 says
/// whether host memory can be registered.
fn device(folder: &TempDir, name: &str, major: u32, register: u32) -> PathBuf {
    let attribute = format!(
        "(int *value, int which, int device) {{ (void)device; \
         *value = which == 75 ? {major} : which == 99 ? {register} : 0; return 0; }}"
    );
    let context = "(void **context) { *context = context; return 0; }";
    stub(folder, name, "", &[("cuCtxGetCurrent", context), ("cuDeviceGetAttribute", &attribute)])
}

#[test]
fn a_driver_that_lacks_any_one_symbol_is_refused_by_that_name() {
    assert_eq!(DRIVER_SYMBOLS, REQUIRED, "a list of its own, so that none is lost");
    let folder = TempDir::new("gpu-attach");
    for symbol in REQUIRED {
        let why = refusal(stub(&folder, symbol, symbol, &[]));
        assert_eq!(why, GpuUnavailable::SymbolMissing(symbol));
        assert!(why.to_string().contains(symbol), "{why}");
    }
    let nothing_lacks = refusal(stub(&folder, "whole", "", &[]));
    assert_eq!(nothing_lacks, GpuUnavailable::NoContext, "all symbols: it asks on");
}

#[test]
fn devices_that_cannot_be_stamped_are_refused_with_the_reason() {
    let folder = TempDir::new("gpu-attach");
    assert_eq!(refusal(device(&folder, "pascal", 6, 1)), GpuUnavailable::DeviceTooOld(6));
    let confidential = refusal(device(&folder, "confidential", 9, 0));
    assert_eq!(confidential, GpuUnavailable::HostRegisterUnsupported);
    let stub_library = "(void **context) { (void)context; return 34; }";
    let toolkit = refusal(stub(&folder, "toolkit", "", &[("cuCtxGetCurrent", stub_library)]));
    assert_eq!(toolkit, GpuUnavailable::Call { name: "cuCtxGetCurrent", code: 34 });
    assert!(toolkit.to_string().contains("stub"), "{toolkit}");
    // It asks no further: this one registers nothing, runs nothing and says so.
    let silent = refusal(device(&folder, "silent", 9, 1));
    assert!(matches!(silent, GpuUnavailable::SelfTest(_)), "{silent}");
}

#[test]
fn a_stream_that_captures_is_not_attached_to_and_its_capture_lives() {
    let fake = FakeGpu::new();
    let stream = fake.stream();
    let options = Options { library: Some(fake.path.clone()), nvml: false, ..Options::default() };
    for mode in 0..3 {
        stream.begin_capture(mode);
        let why = Gpu::attach(stream.raw(), &options).unwrap_err();
        assert_eq!(why, GpuUnavailable::Capturing);
        assert!(stream.end_capture().is_ok(), "mode {mode}");
    }
    let gpu = Gpu::attach(stream.raw(), &options);
    assert!(gpu.is_ok(), "afterwards it is as good as any");
}
