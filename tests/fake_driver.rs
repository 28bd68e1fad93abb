//! What the fake driver is as a file: found by the driver's name once it is loaded, and its own driver
//! in each copy.
#![allow(missing_docs, unsafe_code)] // Libraries by path.

#[path = "common/fake_gpu.rs"]
#[allow(dead_code)]
mod fake_gpu;

use fake_gpu::FakeGpu;
use libloading::Library;
use std::ffi::c_int;
use std::path::Path;

/// Where the library that this name finds has its `cuInit`.
fn address_in(name: &Path) -> usize {
    // SAFETY: the test driver has no initialisers, and the symbol is only looked at.
    unsafe {
        let library = Library::new(name).unwrap();
        let init: libloading::Symbol<unsafe extern "C" fn(u32) -> c_int> =
            library.get(b"cuInit\0").unwrap();
        *init as usize
    }
}

/// One test, as names are found by what the process has loaded before.
#[test]
fn a_loaded_copy_is_the_driver_by_name_and_another_path_is_another_driver() {
    let first = FakeGpu::new();
    let by_name = address_in(Path::new("libcuda.so.1"));
    assert_eq!(by_name, address_in(&first.path), "whoever asks by name gets the engine's copy");

    let second = FakeGpu::new();
    assert_ne!(address_in(&second.path), by_name);
    assert_eq!(address_in(Path::new("libcuda.so.1")), by_name, "the first one keeps the name");
    let calls = first.calls("*");
    second.fail("cuMemcpyHtoD_v2", 0, 1, 2);
    let place = first.memory(8);
    first.write(place, 7);
    assert_eq!(first.calls("*"), calls + 2, "calls and failures are each copy's own");
    assert_eq!(first.read(place, 1), [7]);
}
