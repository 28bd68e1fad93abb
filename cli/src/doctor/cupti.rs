//! Is CUPTI there, and would it start? It is never started here, and never asked anything without a
//! real driver: some versions crash then.

use super::driver::Driver;
use super::finding::Finding;
use serde::Serialize;
use std::path::{Path, PathBuf};
use stepscope::gpu::cupti::{CuptiFound, CuptiUnavailable};

/// What was found.
#[derive(Default, Serialize)]
pub struct Cupti {
    /// The file.
    pub path: Option<PathBuf>,
    /// CUPTI's own version number.
    pub version: Option<u32>,
    /// Was anything of it called?
    pub called: bool,
    /// Would it start, as far as one can know without starting it?
    pub would_start: bool,
    /// Whether graph times would carry the ids of their steps.
    pub with_ids: Option<bool>,
    /// The same in words.
    pub findings: Vec<Finding>,
}

impl Cupti {
    /// Looks for `library`, or where CUPTI usually is.
    pub fn look(driver: Option<&Driver>, library: Option<&Path>) -> Cupti {
        let found = match CuptiFound::look(library) {
            Ok(found) => found,
            Err(why) => return Cupti::without(&why, library.is_some()),
        };
        let mut cupti = Cupti {
            path: found.file().map(Path::to_path_buf),
            with_ids: Some(found.with_ids()),
            ..Cupti::default()
        };
        let path = cupti.path.as_ref().map_or("libcupti".into(), |path| path.display().to_string());
        let has_table = driver.is_some_and(Driver::has_export_table);
        if !has_table {
            let why = match driver {
                None => "there is no driver",
                Some(driver) if driver.is_fake() => "the driver is a fake one for tests",
                Some(_) => "the driver has no cuGetExportTable",
            };
            cupti.findings.push(Finding::absent(
                format!("CUPTI found, not called: {path}"),
                format!("{why}, and some versions of CUPTI crash then when asked anything"),
            ));
            return cupti;
        }
        cupti.called = true;
        match found.version(has_table) {
            Ok(version) => {
                cupti.version = Some(version);
                cupti.would_start = true;
                let ids = if found.with_ids() {
                    "graph times would carry the ids of their steps"
                } else {
                    "graph times would be assigned to steps by time (ids need CUDA 12.4)"
                };
                cupti.findings.push(Finding::good(
                    format!("CUPTI {} would start: {path}", name(version)),
                    format!(
                        "{ids}; not started: a process has one CUPTI subscriber, so whether a \
                             profiler holds it shows in the engine's process only"
                    ),
                ))
            }
            Err(why) => cupti.findings.push(Finding::broken(
                format!("CUPTI would not start: {path}"),
                why.to_string(),
                "name another libcupti, or leave CUPTI off: stamps do not need it",
            )),
        }
        cupti
    }

    fn without(why: &CuptiUnavailable, is_named: bool) -> Cupti {
        let found = "no usable CUPTI";
        let finding = if is_named {
            Finding::broken(found, why.to_string(), "name another file")
        } else {
            // The stamps do everything but times of graphs that hold no node of ours.
            Finding::absent(found, why.to_string())
        };
        Cupti { findings: vec![finding], ..Cupti::default() }
    }
}

/// 130100 is 13.1; smaller numbers count interfaces up to CUDA 12.9.
fn name(version: u32) -> String {
    match version {
        100_000.. => format!("{}.{}", version / 10_000, version / 100 % 100),
        old => format!("of CUDA 12 (interface {old})"),
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn versions_are_named_as_people_name_them() {
        assert_eq!(name(130_100), "13.1");
        assert_eq!(name(130_000), "13.0");
        assert_eq!(name(26), "of CUDA 12 (interface 26)");
    }
}
