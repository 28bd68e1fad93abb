//! The report as text for a terminal and as one JSON document with the same content.

use super::cupti::Cupti;
use super::driver::Device;
use super::exporter::Exporter;
use super::finding::{Finding, State, wrapped};
use super::host::Host;
use super::nvml::Nvml;
use super::stamps::Stamps;
use anyhow::Result;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// The driver's library.
#[derive(Default, Serialize)]
pub struct DriverFacts {
    /// The file that was named on the command line.
    pub named: Option<PathBuf>,
    /// Where the library lies.
    pub path: Option<PathBuf>,
    /// As CUDA counts: 13000 is 13.0.
    pub version: Option<i32>,
    /// The code with which it refused to start.
    pub code: Option<i32>,
    /// A toolkit's stub.
    pub is_stub: bool,
    /// This project's test driver.
    pub is_fake: bool,
    /// Whether CUPTI may be asked.
    pub has_export_table: bool,
    /// Functions that are needed and not there.
    pub missing: Vec<&'static str>,
    /// The same in words.
    pub findings: Vec<Finding>,
}

/// Everything that was found.
#[derive(Serialize)]
pub struct Report {
    /// As good as this machine allows.
    pub ok: bool,
    driver: DriverFacts,
    devices: Vec<Device>,
    device_findings: Vec<Finding>,
    stamps: Stamps,
    cupti: Cupti,
    nvml: Nvml,
    host: Host,
    exporter: Exporter,
    /// What to do, the broken first.
    advice: Vec<String>,
}

impl Report {
    /// Draws the conclusion.
    #[allow(clippy::too_many_arguments)] // One per section, each once.
    pub fn new(
        driver: DriverFacts,
        devices: Vec<Device>,
        device_findings: Vec<Finding>,
        stamps: Stamps,
        cupti: Cupti,
        nvml: Nvml,
        host: Host,
        exporter: Exporter,
    ) -> Report {
        let mut report = Report {
            ok: true,
            driver,
            devices,
            device_findings,
            stamps,
            cupti,
            nvml,
            host,
            exporter,
            advice: vec![],
        };
        let all = || report.sections().into_iter().flat_map(|(_, findings)| findings);
        let ok = all().all(|finding| finding.state != State::Broken);
        let of = |broken: bool| {
            all().filter(move |finding| (finding.state == State::Broken) == broken).filter_map(
                |finding| Some(format!("{}: {}", finding.found, finding.todo.as_ref()?)),
            )
        };
        let advice = of(true).chain(of(false)).collect();
        (report.ok, report.advice) = (ok, advice);
        report
    }

    fn sections(&self) -> [(&'static str, &[Finding]); 7] {
        [
            ("driver", &self.driver.findings),
            ("devices", &self.device_findings),
            ("stamps", &self.stamps.findings),
            ("CUPTI", &self.cupti.findings),
            ("NVML", &self.nvml.findings),
            ("host", &self.host.findings),
            ("what /metrics will contain", &self.exporter.findings),
        ]
    }

    /// Writes it to stdout.
    ///
    /// # Errors
    /// The output is closed.
    pub fn write(&self, is_json: bool) -> Result<()> {
        let mut out = io::stdout().lock();
        if is_json {
            writeln!(out, "{}", serde_json::to_string_pretty(self)?)?
        } else {
            self.text(&mut out)?
        }
        Ok(out.flush()?)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let first = match &self.driver.named {
            Some(path) => {
                format!("stepscope doctor, with the driver you named: {}", path.display())
            }
            None => "stepscope doctor: what was found · what that means · what to do".into(),
        };
        writeln!(out, "{}", wrapped(&first, 0))?;
        for (title, findings) in self.sections().iter().filter(|(_, f)| !f.is_empty()) {
            writeln!(out, "\n{title}")?;
            for finding in *findings {
                writeln!(out, "{}", finding.text())?
            }
        }
        let verdict = if self.ok {
            "All is as good as this machine allows."
        } else {
            "Something is broken that can be repaired:"
        };
        writeln!(out, "\n{verdict}")?;
        if !self.ok {
            for advice in &self.advice {
                writeln!(out, "  -  {}", wrapped(advice, 5))?
            }
        }
        Ok(())
    }
}
