//! A CUDA driver that needs no GPU: how contributors without one run the stamp kernels.
//!
//! The library stands in for `libcuda.so.1`: an engine, unmodified cudarc, or a test's own calls load
//! it by path. Streams are threads with a queue, graphs are lists of work, device memory is memory of
//! this process with every access checked, and kernels are *interpreted PTX*, so what runs is the text
//! that is shipped.
//!
//! Each loaded copy of the file is a driver of its own: tests load private copies and share nothing.
//!
//! ```text
//! api/       the C entry points: check, count, then call what is below
//! context    contexts and sticky errors       stream   queues, what a stream does
//! capture    stream capture and its rules     event    events
//! memory     what kernels may touch           late     stores that become visible late
//! clock      the GPU's timer                  ptx/     the interpreter
//! faults     calls that are made to fail      gpu      what a kernel's instructions reach
//! ```
//!
//! Beside the driver's functions it exports a side door that no real driver has: `fakecuda_set`,
//! `fakecuda_fail`, `fakecuda_calls`, `fakecuda_time`, `fakecuda_host_of`, `fakecuda_shown`.
//!
//! Not modelled: several devices, concurrency inside a kernel, textures, managed and array memory,
//! peer access, floating point in kernels, and `cuGetExportTable` (so CUPTI stays away).

#![allow(unsafe_code)] // A C interface, and memory that kernels address by number.

mod api;
mod capture;
mod clock;
mod codes;
mod context;
mod event;
mod faults;
mod gpu;
mod late;
mod lock;
mod memory;
mod ptx;
mod stream;
mod table;
mod world;
