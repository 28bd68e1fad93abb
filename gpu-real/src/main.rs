//! Measures stepscope's GPU part on a real card: a table for people, one JSON object, pass or fail.
//!
//! ```text
//!  main ─ survey ─▶ one process per row ─▶ rows/*  ─▶ engine, steps, probe ─▶ driver
//!                         └─ some rows start further processes (child)
//! ```
//!
//! The engine is this program's own: its own loader of the driver, its own kernels (embedded PTX).
//! Nothing is read from disk but the vendor's libraries.
#![allow(unsafe_code)] // An engine's driver calls, and a fork to see what it does; reasons at each.

mod args;
mod child;
mod cupti;
mod driver;
mod engine;
mod numbers;
mod nvml;
mod probe;
mod report;
mod rows;
mod steps;
mod survey;

use clap::Parser;
use std::process::ExitCode;

/// A line failed, or a part could not be done.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let Some(part) = &args.part else {
        return if survey::run(&args) { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
    };
    match rows::part(&args, part) {
        Ok(last) => {
            println!("{last}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("part {part}: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
