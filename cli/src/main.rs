//! stepscope's command line.

mod agreement;
mod args;
mod book;
mod demo;
mod expect;
mod exposition;
mod headline;
mod interrupt;
mod pace;
mod plan;
mod progress;
mod report;
mod scrape;
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
    Demo(args::DemoArgs),
}

/// All numbers agree.
const AGREE: u8 = 0;
/// Some number disagrees, or the comparison could not be made.
const DISAGREE: u8 = 1;
/// The input cannot be used; clap ends with the same code.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let Command::Demo(args) = Cli::parse().command;
    let code = match demo::Demo::start(args) {
        Ok(demo) => match demo.run() {
            Ok(true) => AGREE,
            Ok(false) => DISAGREE,
            Err(error) => fail(&error, DISAGREE),
        },
        Err(error) => fail(&error, BAD_INPUT),
    };
    ExitCode::from(code)
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
