//! Names the library as the driver names itself, so that whoever asks for `libcuda.so.1` later gets this copy.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");
    println!("cargo:rerun-if-changed=build.rs");
}
