//! NVML's readings, threads and errors against a C stand-in for the library, one copy per test.
#![allow(unsafe_code)]

use super::library::Nvml;
use super::reader::{Cadence, Life, Reader};
use super::{NvmlDevice, NvmlThread, NvmlUnavailable};
use crate::record::{Device, Reading, Tally};
use std::ffi::{CString, c_char, c_longlong, c_uint, c_ulonglong};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const NOT_SUPPORTED: i64 = 3;
const DRIVER_NOT_LOADED: i64 = 9;
const LOST: i64 = 15;
const UNKNOWN: i64 = 999;
const XID: u64 = 8;
const DOUBLE_BIT: u64 = 2;
const NO_INSTANCE: u32 = u32::MAX;

const SECOND: Duration = Duration::from_secs(1);

/// Paces for tests with threads.
const QUICK: Cadence = Cadence {
    fast: Duration::from_millis(5),
    slow: Duration::from_millis(10),
    events: Duration::from_millis(20),
};

/// A library of the test's own.
struct Stub {
    folder: PathBuf,
    path: PathBuf,
    set: unsafe extern "C" fn(*const c_char, c_longlong),
    get: unsafe extern "C" fn(*const c_char) -> c_longlong,
    event: unsafe extern "C" fn(c_ulonglong, c_ulonglong, c_ulonglong, c_uint),
    // Last: the functions above live in it.
    _library: libloading::Library,
}

impl Stub {
    fn new(defines: &[&str]) -> Stub {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("stepscope-nvml-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("libnvidia-ml.so.1");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nvml_stub.c");
        let built = Command::new(std::env::var_os("CC").unwrap_or("cc".into()))
            .args(["-shared", "-fPIC", "-O0", "-Wall", "-Wextra", "-Werror", "-pthread"])
            .args(defines)
            .arg(source)
            .arg("-o")
            .arg(&path)
            .output()
            .expect("the tests need a C compiler: install gcc or clang, or name one in CC");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        // SAFETY: our own stand-in, which has no constructors; the types are those of its source.
        unsafe {
            let library = libloading::Library::new(&path).unwrap();
            let set = *library.get(b"stub_set\0").unwrap();
            let get = *library.get(b"stub_get\0").unwrap();
            let event = *library.get(b"stub_event\0").unwrap();
            let stub = Stub { folder, path, set, get, event, _library: library };
            stub.usual();
            stub
        }
    }

    fn usual(&self) {
        for (name, value) in [
            ("utilization", 75),
            ("memory_used", 60_000),
            ("power_mw", 412_500),
            ("power_limit_mw", 700_000),
            ("temperature", 61),
            ("energy_mj", 1_000_000),
            ("replays", 40),
            ("ecc", 3),
        ] {
            self.set(name, value)
        }
    }

    fn set(&self, name: &str, value: i64) {
        let name = CString::new(name).unwrap();
        // SAFETY: a C string that lives through the call.
        unsafe { (self.set)(name.as_ptr(), value) }
    }

    fn calls(&self, function: &str) -> i64 {
        let name = CString::new(format!("{function}/calls")).unwrap();
        // SAFETY: as above.
        unsafe { (self.get)(name.as_ptr()) }
    }

    fn event(&self, kind: u64, data: u64, instance: u32) {
        // SAFETY: numbers only.
        unsafe { (self.event)(1, kind, data, instance) }
    }

    fn open(&self) -> Nvml {
        Nvml::open(Some(&self.path)).unwrap()
    }

    /// A reader of `which`, as `watch` makes it.
    fn reader(&self, nvml: &Nvml, which: NvmlDevice) -> Reader {
        let handle = nvml.device(&which).unwrap();
        let board = nvml.board(handle);
        let found = nvml.found(handle, board.map_or(handle, |(board, _)| board));
        let cadence = Cadence { fast: SECOND, slow: 10 * SECOND, ..Cadence::default() };
        Reader::new(handle, Device(Arc::default()), found.mig || board.is_some(), cadence)
    }

    fn start(&self) -> NvmlThread {
        NvmlThread::start_at(Some(&self.path), QUICK).unwrap()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn gpu() -> NvmlDevice {
    NvmlDevice::PciBusId("0000:65:00.0".into())
}

fn device() -> Device {
    Device(Arc::default())
}

fn levels(device: &Device) -> [Option<f64>; 8] {
    use Reading::*;
    [Utilization, MemoryUsed, MemoryTotal, Power, Temperature, ClockSm, ClockMemory, PowerLimit]
        .map(|reading| device.0.reading(reading))
}

fn throttled(device: &Device) -> [Option<u64>; 3] {
    [Tally::ThrottleThermal, Tally::ThrottlePowerBrake, Tally::ThrottlePowerCap]
        .map(|tally| device.0.tally(tally))
}

fn xids(device: &Device) -> [Option<u64>; 3] {
    [Tally::XidFatal, Tally::XidApp, Tally::XidNotice].map(|tally| device.0.tally(tally))
}

/// Waits for what a thread will do; a machine under load may need long.
#[track_caller]
fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < 20 * SECOND, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(2))
    }
}

const ALL: [Option<f64>; 8] = [
    Some(0.75),
    Some(60_000.0),
    Some(80_000.0),
    Some(412.5),
    Some(61.0),
    Some(1.98e9),
    Some(2.619e9),
    Some(700.0),
];

#[test]
fn every_level_arrives_in_its_unit() {
    let stub = Stub::new(&[]);
    let nvml = stub.open();
    let mut reader = stub.reader(&nvml, gpu());
    assert_eq!(reader.tick(&nvml, Instant::now()), Life::Alive);
    assert_eq!(levels(&reader.device), ALL);
}

#[test]
fn slow_readings_are_read_at_the_slow_pace() {
    let stub = Stub::new(&[]);
    let nvml = stub.open();
    let mut reader = stub.reader(&nvml, gpu());
    let start = Instant::now();
    for second in 0..20 {
        reader.tick(&nvml, start + second * SECOND);
    }
    assert_eq!(stub.calls("nvmlDeviceGetPowerUsage"), 20);
    for slow in ["TotalEnergyConsumption", "EnforcedPowerLimit", "PcieReplayCounter"] {
        assert_eq!(stub.calls(&format!("nvmlDeviceGet{slow}")), 2, "{slow}");
    }
}

#[test]
fn what_the_device_does_not_support_has_no_series_and_is_not_asked_again() {
    let stub = Stub::new(&[]);
    let nvml = stub.open();
    stub.set("nvmlDeviceGetPowerUsage", NOT_SUPPORTED);
    stub.set("nvmlDeviceGetTotalEccErrors", NOT_SUPPORTED);
    let mut reader = stub.reader(&nvml, gpu());
    let start = Instant::now();
    for second in [0, 10, 20] {
        reader.tick(&nvml, start + second * SECOND);
    }
    assert_eq!(reader.device.0.reading(Reading::Power), None);
    assert_eq!(reader.device.0.tally(Tally::EccUncorrected), None);
    assert_eq!(reader.device.0.reading(Reading::Temperature), Some(61.0));
    assert_eq!(stub.calls("nvmlDeviceGetPowerUsage"), 1);
    assert_eq!(stub.calls("nvmlDeviceGetTotalEccErrors"), 1);
}

#[test]
fn a_missing_function_costs_its_own_series_only() {
    let stub = Stub::new(&["-DNO_nvmlDeviceGetPowerUsage"]);
    let nvml = stub.open();
    let mut reader = stub.reader(&nvml, gpu());
    reader.device.set(Reading::Power, 1.0);
    for _ in 0..10 {
        assert_eq!(reader.tick(&nvml, Instant::now()), Life::Alive);
    }
    let mut expected = ALL;
    expected[3] = None;
    assert_eq!(levels(&reader.device), expected);
}

#[test]
fn older_names_stand_in_for_newer_ones() {
    let stub = Stub::new(&[
        "-DNO_nvmlDeviceGetMemoryInfo_v2",
        "-DNO_nvmlDeviceGetCurrentClocksEventReasons",
    ]);
    let nvml = stub.open();
    let mut reader = stub.reader(&nvml, gpu());
    reader.tick(&nvml, Instant::now());
    assert_eq!(reader.device.0.reading(Reading::MemoryUsed), Some(555.0));
    assert_eq!(throttled(&reader.device), [Some(0); 3]);
}

#[test]
fn without_the_library_the_error_says_what_to_do() {
    let error = NvmlThread::start(Some("/nowhere/libnvidia-ml.so.1".into())).unwrap_err();
    assert!(matches!(error, NvmlUnavailable::LibraryMissing { .. }), "{error:?}");
    assert!(error.to_string().contains("NVIDIA_DRIVER_CAPABILITIES"), "{error}");
}

#[test]
fn a_file_that_is_not_nvml_lacks_a_symbol() {
    let stub = Stub::new(&["-DnvmlInit_v2=other"]);
    let error = NvmlThread::start(Some(stub.path.clone())).unwrap_err();
    assert_eq!(error, NvmlUnavailable::SymbolMissing("nvmlInit_v2"));
}

#[test]
fn a_driver_that_is_not_loaded_is_named_with_its_code_and_not_closed() {
    let stub = Stub::new(&[]);
    stub.set("nvmlInit_v2", DRIVER_NOT_LOADED);
    let error = NvmlThread::start(Some(stub.path.clone())).unwrap_err();
    let words = error.to_string();
    assert!(words.starts_with("nvmlInit_v2 failed: Driver Not Loaded (error 9); load"), "{words}");
    assert_eq!(stub.calls("nvmlShutdown"), 0);
}

#[test]
fn a_device_that_is_not_there_is_said_to_be_so() {
    let stub = Stub::new(&[]);
    let thread = stub.start();
    for which in [
        NvmlDevice::PciBusId("0000:66:00.0".into()),
        NvmlDevice::PciBusId("no bus id".into()),
        NvmlDevice::PciBusId("a\0b".into()),
        NvmlDevice::Uuid("GPU-2".into()),
    ] {
        let error = thread.watch(device(), which.clone()).unwrap_err();
        assert!(matches!(&error, NvmlUnavailable::NoDevice { device, .. } if *device == which));
    }
}

#[test]
fn both_forms_of_a_bus_id_and_the_uuid_find_the_same_device() {
    let stub = Stub::new(&[]);
    let thread = stub.start();
    for which in
        [gpu(), NvmlDevice::PciBusId("00000000:65:00.0".into()), NvmlDevice::Uuid("GPU-1".into())]
    {
        let found = thread.watch(device(), which).unwrap();
        assert_eq!(found.name.as_deref(), Some("Stub 80GB"));
        assert_eq!(found.uuid.as_deref(), Some("GPU-1"));
        assert_eq!(found.pci_bus_id.as_deref(), Some("00000000:65:00.0"));
        assert_eq!(found.driver.as_deref(), Some("580.65.06"));
        assert!(!found.mig);
    }
}

#[test]
fn a_lost_gpu_ends_its_polling_at_once_and_clears_every_level() {
    let stub = Stub::new(&[]);
    let nvml = stub.open();
    let mut reader = stub.reader(&nvml, gpu());
    reader.device.set(Reading::MemoryPreallocated, 7.0);
    let start = Instant::now();
    reader.tick(&nvml, start);
    stub.set("nvmlDeviceGetTemperature", LOST);
    assert_eq!(reader.tick(&nvml, start + SECOND), Life::Ended);
    assert_eq!(levels(&reader.device), [None; 8]);
    assert_eq!(reader.device.0.reading(Reading::MemoryPreallocated), Some(7.0), "the engine's own");
    assert_eq!(xids(&reader.device), [None; 3], "no XID is made up");
    assert_eq!(reader.device.0.tally(Tally::Energy), Some(0), "counts stay");
}

#[test]
fn one_failing_level_is_cleared_after_three_and_comes_back() {
    let stub = Stub::new(&[]);
    let nvml = stub.open();
    let mut reader = stub.reader(&nvml, gpu());
    let start = Instant::now();
    reader.tick(&nvml, start);
    stub.set("nvmlDeviceGetPowerUsage", UNKNOWN);
    let power = |second: u32, reader: &mut Reader| {
        assert_eq!(reader.tick(&nvml, start + second * SECOND), Life::Alive);
        reader.device.0.reading(Reading::Power)
    };
    assert_eq!(power(1, &mut reader), Some(412.5));
    assert_eq!(power(2, &mut reader), Some(412.5));
    for second in 3..9 {
        assert_eq!(power(second, &mut reader), None);
    }
    stub.set("nvmlDeviceGetPowerUsage", 0);
    assert_eq!(power(9, &mut reader), Some(412.5));
}

#[test]
fn five_ticks_without_any_answer_end_the_polling_and_four_do_not() {
    let stub = Stub::new(&[]);
    let nvml = stub.open();
    let mut reader = stub.reader(&nvml, gpu());
    let start = Instant::now();
    let mut tick =
        |second: u32| (reader.tick(&nvml, start + second * SECOND), levels(&reader.device));
    tick(0);
    stub.set("all", UNKNOWN);
    for second in 1..5 {
        assert_eq!(tick(second).0, Life::Alive, "{second}");
    }
    stub.set("all", 0);
    assert_eq!(tick(5).0, Life::Alive);
    stub.set("all", UNKNOWN);
    for second in 6..10 {
        assert_eq!(tick(second).0, Life::Alive, "{second}");
    }
    assert_eq!(tick(10), (Life::Ended, [None; 8]));
}

#[test]
fn counts_begin_at_zero_grow_by_what_was_added_and_rebase_after_a_driver_reload() {
    let stub = Stub::new(&[]);
    let nvml = stub.open();
    let mut reader = stub.reader(&nvml, gpu());
    let start = Instant::now();
    let mut read = |second: u32, energy: i64, replays: i64, ecc: i64| {
        stub.set("energy_mj", energy);
        stub.set("replays", replays);
        stub.set("ecc", ecc);
        reader.tick(&nvml, start + second * SECOND);
        [Tally::Energy, Tally::PcieReplays, Tally::EccUncorrected]
            .map(|tally| reader.device.0.tally(tally).unwrap())
    };
    assert_eq!(read(0, 1_000_000, 40, 3), [0, 0, 0]);
    assert_eq!(read(10, 1_250_000, 41, 3), [250_000, 1, 0]);
    assert_eq!(read(20, 500, 0, 0), [250_000, 1, 0], "backwards adds nothing");
    assert_eq!(read(30, 900, 2, 1), [250_400, 3, 1]);
}

#[test]
fn throttling_counts_the_time_since_the_last_reading_by_reason() {
    let stub = Stub::new(&[]);
    let nvml = stub.open();
    let mut reader = stub.reader(&nvml, gpu());
    let start = Instant::now();
    let ns = |ms: u64| Some(ms * 1_000_000);
    let mut read = |ms: u64, bits: i64| {
        stub.set("reasons", bits);
        reader.tick(&nvml, start + Duration::from_millis(ms));
        throttled(&reader.device)
    };
    assert_eq!(read(0, 0x04), [ns(0); 3], "nobody knows since when");
    assert_eq!(read(1_000, 0x04), [ns(0), ns(0), ns(1_000)]);
    assert_eq!(read(2_100, 0x20 | 0x08), [ns(1_100), ns(0), ns(1_000)]);
    assert_eq!(read(3_000, 0x80 | 0x04), [ns(1_100), ns(900), ns(1_900)]);
    assert_eq!(read(4_000, 0x01), [ns(1_100), ns(900), ns(1_900)]);
    assert_eq!(read(3_604_000, 0x08), [ns(1_100), ns(2_900), ns(1_900)], "asleep for an hour");
}

#[test]
fn a_failed_reading_of_the_reasons_loses_no_time() {
    let stub = Stub::new(&[]);
    let nvml = stub.open();
    let mut reader = stub.reader(&nvml, gpu());
    let start = Instant::now();
    stub.set("reasons", 0x40);
    reader.tick(&nvml, start);
    stub.set("nvmlDeviceGetCurrentClocksEventReasons", UNKNOWN);
    reader.tick(&nvml, start + SECOND);
    stub.set("nvmlDeviceGetCurrentClocksEventReasons", 0);
    reader.tick(&nvml, start + 2 * SECOND);
    assert_eq!(throttled(&reader.device)[0], Some(2_000_000_000));
}

#[test]
fn a_device_in_mig_mode_has_no_utilisation_rather_than_zero() {
    let stub = Stub::new(&[]);
    stub.set("mig_mode", 1);
    stub.set("utilization", 0);
    let nvml = stub.open();
    let mut reader = stub.reader(&nvml, gpu());
    reader.tick(&nvml, Instant::now());
    assert_eq!(reader.device.0.reading(Reading::Utilization), None);
    assert_eq!(reader.device.0.reading(Reading::Power), Some(412.5));
    assert_eq!(stub.calls("nvmlDeviceGetUtilizationRates"), 0);
}

#[test]
fn a_mig_instance_has_its_own_memory_and_nothing_of_the_whole_board() {
    let stub = Stub::new(&[]);
    let nvml = stub.open();
    let mut reader = stub.reader(&nvml, NvmlDevice::Uuid("MIG-1".into()));
    assert_eq!(reader.tick(&nvml, Instant::now()), Life::Alive);
    let memory = [None, Some(3_000.0), Some(10_000.0), None, None, None, None, None];
    assert_eq!(levels(&reader.device), memory);
    assert_eq!(throttled(&reader.device), [None; 3]);
    assert_eq!(reader.device.0.tally(Tally::Energy), None);
}

#[test]
fn the_thread_reads_again_and_again_and_closes_the_library() {
    let stub = Stub::new(&[]);
    let mut thread = stub.start();
    let device = device();
    thread.watch(device.clone(), gpu()).unwrap();
    until("levels", || levels(&device) == ALL);
    stub.set("temperature", 88);
    until("a new level", || device.0.reading(Reading::Temperature) == Some(88.0));
    stub.set("energy_mj", 1_000_700);
    until("energy", || device.0.tally(Tally::Energy) == Some(700));
    thread.stop();
    assert_eq!((stub.calls("nvmlInit_v2"), stub.calls("nvmlShutdown")), (1, 1));
    let calls = stub.calls("nvmlDeviceGetTemperature");
    std::thread::sleep(5 * QUICK.fast);
    assert_eq!(stub.calls("nvmlDeviceGetTemperature"), calls, "nobody calls after the stop");
    assert_eq!(thread.watch(device, gpu()).unwrap_err(), NvmlUnavailable::Ended);
}

#[test]
fn watching_a_device_twice_counts_it_once() {
    let stub = Stub::new(&[]);
    let thread = stub.start();
    let device = device();
    thread.watch(device.clone(), gpu()).unwrap();
    thread.watch(device.clone(), NvmlDevice::Uuid("GPU-1".into())).unwrap();
    until("the base", || device.0.tally(Tally::Energy) == Some(0));
    until("registration", || stub.calls("nvmlDeviceRegisterEvents") == 2);
    // Two rounds later the second watch has certainly replaced the first.
    let rounds = stub.calls("nvmlDeviceGetTotalEnergyConsumption");
    until("rounds", || stub.calls("nvmlDeviceGetTotalEnergyConsumption") >= rounds + 2);
    stub.set("energy_mj", 1_000_010);
    stub.event(XID, 79, NO_INSTANCE);
    until("growth", || device.0.tally(Tally::Energy) >= Some(10));
    until("the error", || xids(&device)[0] >= Some(1));
    let rounds = stub.calls("nvmlDeviceGetTotalEnergyConsumption");
    until("rounds", || stub.calls("nvmlDeviceGetTotalEnergyConsumption") >= rounds + 2);
    assert_eq!((device.0.tally(Tally::Energy), xids(&device)[0]), (Some(10), Some(1)));
}

#[test]
fn xid_errors_arrive_by_class_and_memory_events_are_no_xids() {
    let stub = Stub::new(&[]);
    let thread = stub.start();
    let device = device();
    thread.watch(device.clone(), gpu()).unwrap();
    until("registration", || xids(&device) == [Some(0); 3]);
    stub.event(DOUBLE_BIT, 48, NO_INSTANCE);
    for code in [79, 13, 31, 63, 4242, 119] {
        stub.event(XID, code, NO_INSTANCE);
    }
    until("all errors", || device.0.last_xid() == Some(119));
    assert_eq!(xids(&device), [Some(2), Some(2), Some(2)]);
}

#[test]
fn a_mig_instance_hears_its_own_errors_and_those_of_the_board() {
    let stub = Stub::new(&[]);
    let thread = stub.start();
    let device = device();
    let found = thread.watch(device.clone(), NvmlDevice::Uuid("MIG-1".into())).unwrap();
    assert!(found.mig);
    assert_eq!(found.uuid.as_deref(), Some("MIG-1"));
    assert_eq!(found.pci_bus_id.as_deref(), Some("00000000:65:00.0"));
    until("registration", || xids(&device) == [Some(0); 3]);
    stub.event(XID, 31, 5);
    stub.event(XID, 13, 7);
    stub.event(XID, 79, NO_INSTANCE);
    until("all errors", || device.0.last_xid() == Some(79));
    assert_eq!(xids(&device), [Some(1), Some(1), Some(0)]);
}

#[test]
fn without_events_there_are_no_xid_series_but_levels() {
    for (defines, refused) in [
        (&["-DNO_nvmlEventSetCreate"][..], "none"),
        (&[], "nvmlDeviceRegisterEvents"),
        (&[], "nvmlDeviceGetSupportedEventTypes"),
    ] {
        let stub = Stub::new(defines);
        stub.set(refused, NOT_SUPPORTED);
        let mut thread = stub.start();
        let device = device();
        thread.watch(device.clone(), gpu()).unwrap();
        until("levels", || levels(&device) == ALL);
        thread.stop();
        assert_eq!(xids(&device), [None; 3], "{defines:?} {refused}");
    }
}

#[test]
fn failing_waits_end_the_events_and_nothing_else() {
    let stub = Stub::new(&[]);
    stub.set("nvmlEventSetWait_v2", UNKNOWN);
    let thread = stub.start();
    let device = device();
    thread.watch(device.clone(), gpu()).unwrap();
    until("the end of waiting", || stub.calls("nvmlEventSetFree") == 1);
    assert_eq!(stub.calls("nvmlEventSetWait_v2"), 5);
    until("levels", || levels(&device) == ALL);
}

#[test]
fn a_lost_gpu_does_not_stop_the_readings_of_another() {
    let stub = Stub::new(&[]);
    let thread = stub.start();
    let (lost, other) = (device(), device());
    thread.watch(lost.clone(), gpu()).unwrap();
    until("levels", || levels(&lost) == ALL);
    stub.set("nvmlDeviceGetTemperature", LOST);
    until("the end", || levels(&lost) == [None; 8]);
    thread.watch(other.clone(), NvmlDevice::Uuid("MIG-1".into())).unwrap();
    stub.set("nvmlDeviceGetTemperature", NOT_SUPPORTED);
    until("the other", || other.0.reading(Reading::MemoryUsed).is_some());
    assert_eq!(levels(&lost), [None; 8], "the end is final");
}

#[test]
fn a_call_that_hangs_leaves_no_old_level_and_a_stop_does_not_wait_for_it() {
    let stub = Stub::new(&[]);
    let mut thread = stub.start();
    let device = device();
    thread.watch(device.clone(), gpu()).unwrap();
    until("levels", || levels(&device) == ALL);
    stub.set("nvmlDeviceGetTemperature/ms", 30_000);
    until("no old level", || levels(&device) == [None; 8]);
    let start = Instant::now();
    thread.stop();
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(900), "it gives the driver its second: {took:?}");
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    assert_eq!(stub.calls("nvmlShutdown"), 0, "a library in use is not closed");
    // The thread is inside the library: it must stay loaded. Its file may go.
}

#[test]
fn a_shutdown_that_hangs_does_not_hold_the_stop() {
    let stub = Stub::new(&[]);
    stub.set("nvmlShutdown/ms", 30_000);
    let mut thread = stub.start();
    let start = Instant::now();
    thread.stop();
    assert!(start.elapsed() < Duration::from_millis(1_500), "{:?}", start.elapsed());
}

#[test]
fn in_another_process_nothing_is_ended_called_or_waited_for() {
    let stub = Stub::new(&[]);
    let mut thread = stub.start();
    thread.pretend_forked();
    stub.set("nvmlEventSetWait_v2/ms", 30_000);
    let watched = thread.watch(device(), gpu());
    assert_eq!(watched.unwrap_err(), NvmlUnavailable::Ended);
    let start = Instant::now();
    thread.stop();
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(stub.calls("nvmlShutdown"), 0);
}
