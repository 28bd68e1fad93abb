//! Names the shared library by its interface's number, and keeps it loaded: its threads and
//! thread-locals must not lose their code to a dlclose.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libstepscope.so.0");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
