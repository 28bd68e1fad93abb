//! Runs the doctor against drivers that work, that are stubs, that lack something, that are not there.

mod common;

use common::{compiled, fake_driver};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Exit code, the text as one line, and the same as JSON.
struct Said {
    code: i32,
    text: String,
    json: Value,
}

fn doctor(arguments: &[&str]) -> Said {
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stepscope"));
        command.arg("doctor").args(arguments).args(more).output().expect("the binary starts")
    };
    let (people, programs) = (run(&[]), run(&["--json"]));
    let text = String::from_utf8(people.stdout).expect("UTF-8");
    for line in text.lines().filter(|line| !line.contains('/')) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let json: Value = serde_json::from_slice(&programs.stdout).expect("one JSON document");
    for key in ["ok", "driver", "devices", "stamps", "cupti", "nvml", "host", "exporter", "advice"]
    {
        assert!(json.get(key).is_some(), "{key}");
    }
    let code = people.status.code().expect("no signal");
    assert_eq!(programs.status.code(), Some(code));
    assert_eq!(json["ok"], code == 0);
    Said { code, text: text.split_whitespace().collect::<Vec<_>>().join(" "), json }
}

/// The doctor with a library, on a host that has nothing.
fn with_driver(folder: &Path, library: &Path, more: &[&str]) -> Said {
    let root = folder.join("root");
    std::fs::create_dir_all(&root).unwrap();
    let (library, root) = (library.to_str().unwrap(), root.to_str().unwrap());
    doctor(&[&["--driver", library, "--root", root], more].concat())
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A copy of a library in which one symbol has another name.
fn renamed(library: &Path, symbol: &str, to: &Path) {
    let mut bytes = std::fs::read(library).unwrap();
    let name = [b"\0", symbol.as_bytes(), b"\0"].concat();
    let places: Vec<usize> =
        (0..bytes.len() - name.len()).filter(|at| bytes[*at..].starts_with(&name)).collect();
    assert!(!places.is_empty(), "{symbol}");
    for at in places {
        bytes[at + name.len() - 2] = b'~'
    }
    std::fs::write(to, bytes).unwrap()
}

#[test]
fn with_a_driver_that_works_everything_is_tried_and_good() {
    let folder = folder();
    let library = fake_driver(folder.path());
    let said = with_driver(folder.path(), &library, &[]);
    assert_eq!(said.code, 0, "{}", said.text);
    let first = format!("stepscope doctor, with the driver you named: {}", library.display());
    assert!(said.text.starts_with(&first), "{}", said.text);
    for part in ["a fake driver for CUDA 13.0", "device 0: Fake GPU", "512 done, 0 lost"] {
        assert!(said.text.contains(part), "{part}: {}", said.text);
    }
    let stamps = &said.json["stamps"];
    assert_eq!(
        (&stamps["work"], &stamps["done"], &stamps["lost"]),
        (&true.into(), &512.into(), &0.into())
    );
    assert!(stamps["clock_rounds"].as_u64() >= Some(2), "{stamps}");
    assert!(
        stamps["clock_error_ns"].as_u64() > Some(0) && stamps["attach_ms"].as_f64() > Some(0.0)
    );
    assert_eq!(said.json["devices"][0]["pci_bus_id"], "00000000:65:00.0");
    assert_eq!(said.json["exporter"]["step_source"], "gpu");
    assert_eq!(said.json["cupti"]["called"], false);
}

#[test]
fn a_toolkits_stub_is_told_from_a_driver_and_how_to_get_rid_of_it() {
    let folder = folder();
    let source = folder.path().join("stub.c");
    let mut code = String::new();
    for name in OF_THE_ENGINE.iter().chain(stepscope::gpu::DRIVER_SYMBOLS) {
        code.push_str(&format!("int {name}(void) {{ return 34; }}\n"))
    }
    std::fs::write(&source, code).unwrap();
    let library = folder.path().join("libcuda-stub.so");
    if compiled(&source, &library, &[]).is_none() {
        return;
    }
    let said = with_driver(folder.path(), &library, &[]);
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(said.text.contains("CUDA error 34 · a toolkit's stub library"), "{}", said.text);
    assert!(said.text.contains("out of LD_LIBRARY_PATH"), "{}", said.text);
    assert_eq!(
        (&said.json["driver"]["is_stub"], &said.json["driver"]["code"]),
        (&true.into(), &34.into())
    );
    assert_eq!(said.json["exporter"]["step_source"], "host");
}

#[test]
fn a_missing_function_is_named() {
    let folder = folder();
    for symbol in ["cuStreamIsCapturing", "cuMemHostRegister_v2", "cuDeviceGetCount"] {
        let library = folder.path().join("libcuda-old.so");
        renamed(&fake_driver(folder.path()), symbol, &library);
        let said = with_driver(folder.path(), &library, &[]);
        assert_eq!(said.code, 1, "{}", said.text);
        assert!(
            said.text.contains(&format!("lacks 1 of the functions needed: {symbol}")),
            "{}",
            said.text
        );
        assert_eq!(said.json["driver"]["missing"], serde_json::json!([symbol]));
        let advice = said.json["advice"][0].as_str().expect("advice");
        assert!(advice.contains("update NVIDIA's driver"), "{advice}");
    }
}

#[test]
fn a_file_that_is_not_there_is_an_error_that_can_be_repaired() {
    let folder = folder();
    let said = with_driver(folder.path(), Path::new("/nowhere/libcuda.so.1"), &[]);
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(said.text.contains("/nowhere/libcuda.so.1 cannot be loaded"), "{}", said.text);
    assert!(said.text.contains("name a file that is there"), "{}", said.text);
    assert_eq!(said.json["devices"], serde_json::json!([]));
}

#[test]
fn without_a_driver_the_report_is_calm_and_full() {
    let loaded = Command::new("ldconfig").arg("-p").output();
    if loaded.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("libcuda.so.1")) {
        println!("skipped: this machine has a driver");
        return;
    }
    let folder = folder();
    let said = doctor(&["--root", folder.path().to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}", said.text);
    let calm = "no NVIDIA driver · steps come from host clocks; everything else works";
    assert!(said.text.contains(calm), "{}", said.text);
    for title in
        ["driver", "devices", "stamps", "CUPTI", "NVML", "host", "what /metrics will contain"]
    {
        assert!(said.text.contains(title), "{title}: {}", said.text);
    }
    assert!(!said.text.contains("!!"), "{}", said.text);
    assert_eq!(said.json["stamps"]["work"], false);

    // The same without a library on a host that has the hardware can be repaired.
    let module = folder.path().join("proc/driver/nvidia/version");
    std::fs::create_dir_all(module.parent().unwrap()).unwrap();
    std::fs::write(&module, "NVRM version: 580.1\n").unwrap();
    let said = doctor(&["--root", folder.path().to_str().unwrap()]);
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(said.text.contains("nvidia-modprobe"), "{}", said.text);
}

#[test]
fn nvml_is_matched_by_pci_id_and_says_what_it_offers() {
    let folder = folder();
    let library = fake_driver(folder.path());
    let nvml = folder.path().join("libnvidia-ml.so.1");
    let source = repository().join("tests/nvml_stub.c");
    let arguments = ["-DNO_nvmlDeviceGetPowerUsage"];
    if compiled(&source, &nvml, &arguments).is_none() {
        return;
    }
    let said = with_driver(folder.path(), &library, &["--nvml", nvml.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}", said.text);
    let device = &said.json["nvml"]["devices"][0];
    let list = |key: &str| device[key].as_array().expect("a list").clone();
    assert!(list("offered").contains(&"llm_gpu_temperature_celsius".into()), "{device}");
    assert!(list("absent").contains(&"llm_gpu_power_watts".into()), "{device}");
    let families = said.json["exporter"]["families"].as_array().expect("a list");
    assert!(families.contains(&"llm_gpu_temperature_celsius".into()), "{families:?}");
    assert!(said.text.contains("device 0 is NVML's 00000000:65:00.0"), "{}", said.text);
}

#[test]
fn cupti_is_asked_with_a_real_driver_only() {
    let folder = folder();
    let fake = fake_driver(folder.path());
    let cupti = folder.path().join("libcupti.so.13");
    let source = repository().join("tests/cupti_stub.c");
    if compiled(&source, &cupti, &[]).is_none() {
        return;
    }
    let more = ["--cupti", cupti.to_str().unwrap()];
    let said = with_driver(folder.path(), &fake, &more);
    assert!(said.text.contains("CUPTI found, not called"), "{}", said.text);
    assert!(said.text.contains("the driver is a fake one"), "{}", said.text);
    assert_eq!(said.json["cupti"]["called"], false);

    // As real as it gets without a GPU: not recognisable as a fake, and with an export table.
    let anonymous = folder.path().join("libanonymous.so");
    renamed(&fake, "fakecuda_set", &anonymous);
    let said = with_driver(folder.path(), &anonymous, &more);
    assert!(said.text.contains("the driver has no cuGetExportTable"), "{}", said.text);
    let (source, real) = (folder.path().join("table.c"), folder.path().join("libreal.so"));
    std::fs::write(&source, "int cuGetExportTable(void) { return 0; }\n").unwrap();
    let rest = ["-Wl,--no-as-needed", anonymous.to_str().unwrap()];
    let rpath = format!("-Wl,-rpath,{}", folder.path().display());
    // The fake's own name is the driver's; the loader looks for a file of that name.
    std::fs::copy(&anonymous, folder.path().join("libcuda.so.1")).unwrap();
    compiled(&source, &real, &[rest[0], rest[1], &rpath]).expect("the compiler is there");
    let said = with_driver(folder.path(), &real, &more);
    assert_eq!(said.json["driver"]["has_export_table"], true, "{}", said.text);
    assert_eq!(said.json["cupti"]["version"], 130_001, "{}", said.text);
    assert!(said.text.contains("CUPTI 13.0 would start"), "{}", said.text);
    assert_eq!(said.code, 0, "{}", said.text);
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What the doctor wants of a driver besides what the stamps need.
const OF_THE_ENGINE: [&str; 9] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetPCIBusId",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuStreamSynchronize",
];
