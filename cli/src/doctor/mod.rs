//! `stepscope doctor`: what this machine offers, what that means, what to do.
//!
//! It uses the library as an engine would, on a context of its own in its own process: what works here
//! works there. It changes nothing on the machine.

mod cupti;
mod driver;
mod exporter;
mod finding;
mod host;
mod nvml;
mod report;
mod stamps;

use anyhow::Result;
use clap::Args;
use cupti::Cupti;
use driver::{Device, Refused};
pub use driver::{Driver, advice};
use exporter::Exporter;
use finding::Finding;
use host::Host;
use nvml::Nvml;
use report::{DriverFacts, Report};
use stamps::Stamps;
use std::path::{Path, PathBuf};

/// Missing functions that people are shown; JSON has all.
const SHOWN_MAX: usize = 5;

/// Say what this machine offers, what that means and what to do
///
/// Looks for the driver, the devices, CUPTI and NVML, attaches the stamps to a context of its own
/// and runs some hundred empty steps. Exit code 0: as good as this machine allows; 1: something is
/// broken that can be repaired.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Look at this library instead of the driver that the loader finds
    #[arg(long, value_name = "LIB")]
    pub driver: Option<PathBuf>,
    /// Ask this library instead of the driver's NVML
    #[arg(long, value_name = "LIB")]
    pub nvml: Option<PathBuf>,
    /// Look at this library instead of searching for CUPTI
    #[arg(long, value_name = "LIB")]
    pub cupti: Option<PathBuf>,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
    /// Where the host's facts are read
    #[arg(long, hide = true, default_value = "/")]
    pub root: PathBuf,
}

/// Looks at everything and writes the report. Says whether all is as good as this machine allows.
///
/// # Errors
/// The report cannot be written.
pub fn run(args: &DoctorArgs) -> Result<bool> {
    let report = examine(args);
    report.write(args.json)?;
    Ok(report.ok)
}

fn examine(args: &DoctorArgs) -> Report {
    let mut host = Host::read(&args.root);
    let library = args.driver.as_deref();
    let mut facts = DriverFacts { named: args.driver.clone(), ..DriverFacts::default() };
    let driver = load(library, &mut facts, &host);
    let (devices, device_findings) = devices(driver.as_ref(), &mut facts);
    let stamps = match (&driver, devices.first()) {
        (Some(driver), Some(device)) => Stamps::tried(driver, device.ordinal, library),
        _ => Stamps::without(Finding::absent(
            "stamps not tried: there is no device to try them on",
            "steps are timed by the host's clock",
        )),
    };
    let cupti = Cupti::look(driver.as_ref(), args.cupti.as_deref());
    let nvml = match &args.nvml {
        _ if devices.is_empty() => Nvml::not_asked("there is no device to ask about"),
        None if library.is_some() => {
            Nvml::not_asked("the driver you named is not the one NVML belongs to")
        }
        path => Nvml::look(&devices, path.as_deref()),
    };
    host.judge(driver.is_some(), nvml.devices.iter().any(|device| device.mig));
    if library.is_some() {
        // A library that was named says nothing about this host, nor the host about it.
        host.findings.retain(|finding| finding.state != finding::State::Broken)
    }
    let exporter = Exporter::of(&stamps, &nvml);
    Report::new(facts, devices, device_findings, stamps, cupti, nvml, host, exporter)
}

/// The driver, if there is a whole one.
fn load(library: Option<&Path>, facts: &mut DriverFacts, host: &Host) -> Option<Driver> {
    let driver = match Driver::load(library) {
        Ok(driver) => driver,
        Err(cause) => {
            facts.findings.push(match library {
                Some(path) => Finding::broken(
                    format!("{} cannot be loaded", path.display()),
                    cause,
                    "name a file that is there and is a shared library of this processor",
                ),
                None if host.has_gpu() => {
                    let means = "steps come from host clocks, though there is a GPU";
                    Finding::broken("no NVIDIA driver library", means, "see the host's lines below")
                }
                None => Finding::absent(
                    "no NVIDIA driver",
                    "steps come from host clocks; everything else works",
                ),
            });
            return None;
        }
    };
    facts.path = driver.path.clone();
    facts.is_fake = driver.is_fake();
    facts.has_export_table = driver.has_export_table();
    facts.missing = driver.missing.clone();
    let shown =
        facts.path.as_ref().map_or("libcuda.so.1".into(), |path| path.display().to_string());
    if !driver.missing.is_empty() {
        let n = driver.missing.len();
        let mut names = driver.missing[..n.min(SHOWN_MAX)].join(", ");
        if n > SHOWN_MAX {
            names.push_str(", and so on")
        }
        facts.findings.push(Finding::broken(
            format!("{shown} lacks {n} of the functions needed: {names}"),
            "it is no CUDA driver, or one older than R410: no stamps",
            "update NVIDIA's driver, or name another library",
        ));
        return None;
    }
    if let Err(refused) = driver.init() {
        refuse(facts, refused);
        return None;
    }
    facts.version = driver.version().ok();
    let version = facts.version.map_or("of unknown version".into(), |v| {
        format!("for CUDA {}.{}", v / 1_000, v % 1_000 / 10)
    });
    facts.findings.push(if facts.is_fake {
        Finding::good(
            format!("a fake driver {version}: {shown}"),
            "this project's own, for tests: it interprets the kernels, and its times are no GPU's",
        )
    } else {
        Finding::good(format!("driver {version}: {shown}"), "all functions needed are there")
    });
    Some(driver)
}

fn refuse(facts: &mut DriverFacts, refused: Refused) {
    let Refused { call, code } = refused;
    facts.code = Some(code);
    facts.is_stub = code == 34;
    let (means, todo) = advice(code);
    let found = format!("{call} failed with CUDA error {code}");
    let means = format!("{means}: steps come from host clocks");
    facts.findings.push(Finding::broken(found, means, todo))
}

fn devices(driver: Option<&Driver>, facts: &mut DriverFacts) -> (Vec<Device>, Vec<Finding>) {
    let Some(driver) = driver else {
        let finding = Finding::absent("no devices", "a driver is needed to count them");
        return (vec![], vec![finding]);
    };
    match driver.devices() {
        Ok(devices) if devices.is_empty() => {
            let (means, todo) = advice(100);
            (vec![], vec![Finding::broken("no device", means, todo)])
        }
        Ok(devices) => {
            let findings = devices.iter().map(describe).collect();
            (devices, findings)
        }
        Err(refused) => {
            refuse(facts, refused);
            (vec![], vec![])
        }
    }
}

fn describe(device: &Device) -> Finding {
    let name = device.name.as_deref().unwrap_or("without a name");
    let bus = device.pci_bus_id.as_deref().unwrap_or("unknown");
    let [major, minor] = device.compute_capability;
    let found =
        format!("device {}: {name}, PCI {bus}, compute capability {major}.{minor}", device.ordinal);
    if major >= 7 {
        Finding::good(found, "can be stamped")
    } else {
        Finding::absent(found, "too old for stamps (7.0 is needed): steps come from host clocks")
    }
}
