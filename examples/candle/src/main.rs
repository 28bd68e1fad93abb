//! A small serving engine on candle, observed by stepscope: loads a real model, serves a script of
//! requests, and says at the end what was measured.
//!
//! `engine` is the part to read: every verb of stepscope stands there, where its fact happens.

#[cfg(not(feature = "cuda"))]
#[path = "host.rs"]
mod device;
#[cfg(feature = "cuda")]
#[path = "gpu.rs"]
mod device;
mod engine;
mod model;
mod report;
mod traffic;

use anyhow::{Result, bail};
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;
use stepscope::{Config, Stepscope};

/// Serves a script of requests with a small model; /metrics is served meanwhile
///
/// STEPSCOPE_LISTEN says where, STEPSCOPE_... the other settings of stepscope. The last line of the
/// output is JSON. Exit code 0: /metrics agrees with the engine's own books; 1: it does not.
#[derive(Parser)]
struct Args {
    /// A llama model with its tokenizer, in GGUF
    model: PathBuf,
    /// Sequences that run at a time
    #[arg(long, default_value_t = 3)]
    slots: usize,
    /// Prompt positions that one step computes at most
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    chunk: u32,
    /// KV blocks of 16 positions that all sequences share
    #[arg(long, default_value_t = 48)]
    kv_blocks: u32,
    /// 0 takes the likeliest token; above, the choice is drawn with a fixed seed per request
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Seconds to go on serving /metrics after the last request
    #[arg(long, default_value_t = 0)]
    linger: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let model = model::Model::load(&args.model, device::open()?, args.temperature)?;
    model.warm_up()?;

    let scope = Stepscope::start(Config {
        model: model.name().into(),
        engine: env!("CARGO_PKG_NAME").into(),
        engine_version: env!("CARGO_PKG_VERSION").into(),
        kv_block_tokens: Some(engine::BLOCK_TOKENS),
        ..Config::from_env()?
    })?;
    let mut recorder = scope.recorder("engine");
    // After the engine's own initialisation, before it serves: attaching may synchronise the device.
    println!("steps: {}", device::stamp_steps(&scope, &mut recorder, model.device()));
    scope.mark_ready();
    if let Some(address) = scope.local_addr() {
        println!("metrics: http://{address}/metrics");
    }

    let limits = engine::Limits {
        slots: args.slots.max(1),
        chunk: args.chunk as usize,
        kv_blocks: args.kv_blocks,
    };
    // The engine borrows the model, so the stream in the model's device outlives the recorder's lane.
    let served = engine::Engine::new(&model, &scope, recorder, limits).serve(traffic::SCRIPT)?;

    let report = report::Report::new(&served, &scope.snapshot());
    report.print(&served);
    std::thread::sleep(Duration::from_secs(args.linger));
    scope.shutdown(Duration::ZERO);
    println!("{}", report.json());
    if !report.ok() {
        bail!("/metrics does not say what the engine did")
    }
    Ok(())
}
