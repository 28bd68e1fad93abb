//! Finds libcupti at run time and holds its functions. Nothing here links, panics or unloads.

use std::ffi::{OsStr, c_int};
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::binding::{self, SUCCESS};
use super::unavailable::CuptiUnavailable;

/// SONAMEs of the versions whose records are known, newest first.
const NAMES: [&str; 2] = ["libcupti.so.13", "libcupti.so.12"];

/// glibc's and musl's flag for "only if it is loaded already"; libloading has no name for it.
const RTLD_NOLOAD: c_int = 4;

/// Declares the table from the header's own signatures: a name or type that is wrong does not compile.
macro_rules! table {
    (
        required { $($call:ident: fn($($kind:ty),*);)* }
        optional { $($extra:ident: fn($($e:ty),*);)* }
    ) => {
        /// CUPTI's functions. The library stays loaded for ever: CUPTI has threads of its own.
        #[allow(non_snake_case)] // The vendor's names, so that they can be searched for.
        #[derive(Clone, Copy)]
        pub(super) struct Functions {
            $(pub(super) $call: unsafe extern "C" fn($($kind),*) -> binding::CUptiResult,)*
            $(pub(super) $extra: Option<unsafe extern "C" fn($($e),*) -> binding::CUptiResult>,)*
        }

        $(const _: unsafe extern "C" fn($($kind),*) -> binding::CUptiResult = binding::$call;)*
        $(const _: unsafe extern "C" fn($($e),*) -> binding::CUptiResult = binding::$extra;)*

        impl Functions {
            fn resolve(library: &Library) -> Result<Functions, CuptiUnavailable> {
                Ok(Functions {
                    $(
                        // SAFETY: the type is the header's for this name (checked above), and
                        // pointers outlive the library's handle because that is leaked.
                        $call: *unsafe { library.get(concat!(stringify!($call), "\0").as_bytes()) }
                            .map_err(|_| CuptiUnavailable::SymbolMissing(stringify!($call)))?,
                    )*
                    $(
                        // SAFETY: as above.
                        $extra: unsafe { library.get(concat!(stringify!($extra), "\0").as_bytes()) }
                            .ok()
                            .map(|symbol| *symbol),
                    )*
                })
            }
        }
    };
}

table! {
    required {
        cuptiGetVersion: fn(*mut u32);
        cuptiSubscribe: fn(
            *mut binding::CUpti_SubscriberHandle, binding::CUpti_CallbackFunc, *mut std::ffi::c_void
        );
        cuptiUnsubscribe: fn(binding::CUpti_SubscriberHandle);
        cuptiActivityRegisterTimestampCallback: fn(binding::CUpti_TimestampCallbackFunc);
        cuptiActivityRegisterCallbacks: fn(
            binding::CUpti_BuffersCallbackRequestFunc, binding::CUpti_BuffersCallbackCompleteFunc
        );
        cuptiActivityEnable: fn(binding::CUpti_ActivityKind);
        cuptiActivityDisable: fn(binding::CUpti_ActivityKind);
        cuptiActivityFlushAll: fn(u32);
        cuptiActivityGetNextRecord: fn(*mut u8, usize, *mut *mut binding::CUpti_Activity);
        cuptiActivityGetNumDroppedRecords: fn(binding::CUcontext, u32, *mut usize);
        cuptiActivityPushExternalCorrelationId: fn(binding::CUpti_ExternalCorrelationKind, u64);
        cuptiActivityPopExternalCorrelationId: fn(binding::CUpti_ExternalCorrelationKind, *mut u64);
    }
    optional {
        // From CUDA 12.4 on.
        cuptiActivityEnableDriverApi: fn(binding::CUpti_CallbackId, u8);
        cuptiGetStreamId: fn(binding::CUcontext, binding::CUstream, *mut u32);
    }
}

impl Functions {
    /// Finds and loads CUPTI; calls nothing of it.
    ///
    /// Order: `explicit` and nothing else if given; a copy that the process has loaded; the loader's
    /// own search; folders of toolkits; folders of Python wheels.
    ///
    /// # Errors
    /// [`LibraryMissing`](CuptiUnavailable::LibraryMissing),
    /// [`SymbolMissing`](CuptiUnavailable::SymbolMissing) with the function's name.
    pub(super) fn load(explicit: Option<&Path>) -> Result<Functions, CuptiUnavailable> {
        let library = find(explicit).ok_or(CuptiUnavailable::LibraryMissing)?;
        let functions = Functions::resolve(&library);
        // Never dlclose: the table's pointers live on, and CUPTI may have started threads.
        std::mem::forget(library);
        functions
    }

    /// CUPTI's version number: 18 to 28 up to CUDA 12.9, then 130000 and so on.
    pub(super) fn version(&self) -> Result<u32, CuptiUnavailable> {
        let mut version = 0;
        // SAFETY: CUPTI writes one u32 through the pointer, which is ours.
        match unsafe { (self.cuptiGetVersion)(&mut version) } {
            SUCCESS => Ok(version),
            code => Err(CuptiUnavailable::Call { name: "cuptiGetVersion", code }),
        }
    }
}

fn find(explicit: Option<&Path>) -> Option<Library> {
    if let Some(path) = explicit {
        return open(path.as_os_str(), 0);
    }
    let loaded = NAMES.iter().find_map(|name| open(OsStr::new(name), RTLD_NOLOAD));
    let named = || NAMES.iter().find_map(|name| open(OsStr::new(name), 0));
    let filed = || {
        let folders = toolkit_folders().into_iter().chain(wheel_folders());
        let mut files = folders.flat_map(|folder| NAMES.map(|name| folder.join(name)));
        files.find_map(|file| if file.exists() { open(file.as_os_str(), 0) } else { None })
    };
    loaded.or_else(named).or_else(filed)
}

fn open(name: &OsStr, flags: c_int) -> Option<Library> {
    // SAFETY: libcupti's constructors are those of a library made to be loaded into any CUDA
    // process; they start no thread and touch no driver. The handle is never closed once in use.
    unsafe { Library::open(Some(name), RTLD_NOW | RTLD_LOCAL | flags) }.ok()
}

/// Where CUDA toolkits keep CUPTI.
fn toolkit_folders() -> Vec<PathBuf> {
    let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    let roots = named.map(PathBuf::from).chain(
        ["/usr/local/cuda", "/usr/local/cuda-13", "/usr/local/cuda-12", "/opt/cuda"]
            .map(PathBuf::from),
    );
    roots.flat_map(|root| [root.join("extras/CUPTI/lib64"), root.join("lib64")]).collect()
}

/// Where wheels keep CUPTI: `nvidia/cu13/lib` of CUDA 13, `nvidia/cuda_cupti/lib` of CUDA 12.
fn wheel_folders() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".local"));
    let roots = ["VIRTUAL_ENV", "CONDA_PREFIX"]
        .into_iter()
        .filter_map(|name| std::env::var_os(name).map(PathBuf::from))
        .chain(home)
        .chain(["/usr/local", "/usr"].map(PathBuf::from));
    let mut folders = vec![];
    for library in roots.map(|root| root.join("lib")) {
        let Ok(entries) = std::fs::read_dir(&library) else { continue };
        let pythons = entries.filter_map(|entry| Some(entry.ok()?.path()));
        for python in pythons.filter(|path| is_python(path)) {
            for packages in ["site-packages", "dist-packages"] {
                let nvidia = python.join(packages).join("nvidia");
                folders.extend([nvidia.join("cu13/lib"), nvidia.join("cuda_cupti/lib")]);
            }
        }
    }
    folders
}

fn is_python(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3"))
}

#[cfg(test)]
mod tests {
    use super::{CuptiUnavailable, Functions};
    use std::path::Path;

    #[test]
    fn a_path_that_is_given_is_the_only_one_tried() {
        let missing = Functions::load(Some(Path::new("/nowhere/libcupti.so.13"))).err();
        assert_eq!(missing, Some(CuptiUnavailable::LibraryMissing));
    }

    #[test]
    fn another_library_lacks_the_first_function() {
        let found = Functions::load(Some(Path::new("libc.so.6"))).err();
        assert_eq!(found, Some(CuptiUnavailable::SymbolMissing("cuptiGetVersion")));
    }
}
