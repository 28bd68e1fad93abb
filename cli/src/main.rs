//! stepscope's command line.

mod agreement;
mod args;
mod book;
mod cuda;
mod demo;
mod derive;
mod doctor;
mod expect;
mod exposition;
mod headline;
mod interrupt;
mod pace;
mod plan;
mod progress;
mod report;
mod scrape;
mod watch;
mod worker;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Observability compiled into an LLM serving engine
#[derive(Parser)]
#[command(name = "stepscope", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(Box<args::DemoArgs>),
    Derive(Box<derive::DeriveArgs>),
    Doctor(doctor::DoctorArgs),
}

/// All numbers agree; all is as good as this machine allows.
const AGREE: u8 = 0;
/// Some number disagrees, or the comparison could not be made; something is broken that can be repaired.
const DISAGREE: u8 = 1;
/// The input cannot be used; clap ends with the same code.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Demo(args) => match demo::Demo::start(*args) {
            Ok(demo) => code(demo.run()),
            Err(error) => fail(&error, BAD_INPUT),
        },
        Command::Derive(args) => match derive::run(*args) {
            Err(error) => fail(&error, BAD_INPUT),
            outcome => code(outcome),
        },
        Command::Doctor(args) => code(doctor::run(&args)),
    };
    ExitCode::from(code)
}

fn code(outcome: anyhow::Result<bool>) -> u8 {
    match outcome {
        Ok(true) => AGREE,
        Ok(false) => DISAGREE,
        Err(error) => fail(&error, DISAGREE),
    }
}

/// Tells the error and its causes; those that already stand in the text of another only once.
fn fail(error: &anyhow::Error, code: u8) -> u8 {
    let mut text = String::from("stepscope");
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause)
        }
    }
    eprintln!("{text}");
    code
}
