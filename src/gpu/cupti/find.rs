//! Looks whether CUPTI is there and known, without starting it: for people who set a machine up.

use super::library::Functions;
use super::sizes::Sizes;
use super::unavailable::CuptiUnavailable;
use std::path::{Path, PathBuf};

/// A CUPTI that was found and loaded. Nothing of it runs.
#[derive(Clone)]
pub struct CuptiFound {
    functions: Functions,
    file: Option<PathBuf>,
}

impl CuptiFound {
    /// Finds and loads the library that [`Subscription::start`](super::Subscription::start) would
    /// use; calls nothing of it.
    ///
    /// # Errors
    /// [`LibraryMissing`](CuptiUnavailable::LibraryMissing),
    /// [`SymbolMissing`](CuptiUnavailable::SymbolMissing).
    pub fn look(library: Option<&Path>) -> Result<CuptiFound, CuptiUnavailable> {
        let functions = Functions::load(library)?;
        let file = library.map(Path::to_path_buf).or_else(mapped);
        Ok(CuptiFound { functions, file })
    }

    /// The file, as far as the system tells.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Whether graph times would carry the ids of their steps (from CUDA 12.4 on).
    pub fn with_ids(&self) -> bool {
        self.functions.cuptiActivityEnableDriverApi.is_some()
    }

    /// Its version number: 18 to 28 up to CUDA 12.9, then 130000 and so on.
    ///
    /// `driver_has_export_table`: whether a real driver is loaded. Without one nothing is called:
    /// some versions crash when asked anything.
    ///
    /// # Errors
    /// [`NoDriver`](CuptiUnavailable::NoDriver), [`Version`](CuptiUnavailable::Version) for one
    /// whose records are not known, [`Call`](CuptiUnavailable::Call).
    pub fn version(&self, driver_has_export_table: bool) -> Result<u32, CuptiUnavailable> {
        if !driver_has_export_table {
            return Err(CuptiUnavailable::NoDriver);
        }
        let version = self.functions.version()?;
        match Sizes::of(version) {
            Some(_) => Ok(version),
            None => Err(CuptiUnavailable::Version(version)),
        }
    }
}

impl std::fmt::Debug for CuptiFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CuptiFound").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Where the loader found it: the only place that tells is the list of what is mapped.
fn mapped() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().filter_map(|line| line.split_once('/')).map(|(_, path)| path);
    let path = path.into_iter().find(|path| path.contains("/libcupti.so"))?;
    Some(PathBuf::from(format!("/{path}")))
}
