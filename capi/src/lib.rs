//! stepscope for C and C++: the public Rust API behind opaque handles and plain values.
//!
//! ```text
//!  C pointer ──▶ wall (no panic crosses) ──▶ pointer looked at ──▶ one call of the Rust API
//! ```
//!
//! `include/stepscope.h` is generated from the documentation in these files; it is the place to
//! read. A function here is a few lines: whatever thinks belongs to the library.
#![allow(unsafe_code)] // C hands pointers; reasons at each block.
#![allow(non_camel_case_types)] // Names as C sees them.
#![allow(clippy::missing_safety_doc)] // The header tells ownership, threads and lifetimes.

pub mod config;
pub mod device;
pub mod gpu;
pub mod lane;
#[cfg(test)]
mod layouts;
pub mod log;
pub mod read;
pub mod record;
pub mod recorder;
pub mod scope;
pub mod step;
pub mod ticket;
mod wall;
pub mod words;
