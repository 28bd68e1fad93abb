#!/usr/bin/env bash
# An engine chooses how cudarc finds the driver, and cudarc's features unify over the engine's whole
# build: a library that asks for another way breaks it. This checks, outside of the workspace, that an
# app which depends on stepscope and on cudarc builds with each way, as it is:
#
#   linked    candle's choice: dynamic-linking, the version from the build system
#   loaded    dynamic-loading, a fixed version
#   fallback  what cudarc does by itself if nobody chooses
#
# and that a stream of cudarc goes into the stamps without an adapter. Needs no CUDA: `cargo check`
# does not link. One argument runs one of the three.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/linking CARGO_PROFILE_DEV_DEBUG=false

# candle-core 0.11 asks for these; gemm libraries and number formats besides do not matter here.
common='"std", "driver", "cublas", "cublaslt", "curand", "nvrtc"'

check() {
    local name=$1 features=$2
    shift 2
    mkdir -p "$work/$name/src"
    cat >"$work/$name/Cargo.toml" <<TOML
[package]
name = "engine-$name"
version = "0.0.0"
edition = "2024"

[dependencies]
stepscope = { path = "$root" }
cudarc = { version = "=0.19.10", default-features = false, features = [$common, $features] }

[workspace]
TOML
    cat >"$work/$name/src/main.rs" <<'RUST'
use cudarc::driver::{CudaContext, CudaStream};
use std::sync::Arc;
use stepscope::gpu::{Options, RawStream};
use stepscope::{Config, Recorder, Stepscope};

fn stamp(scope: &Stepscope, recorder: &mut Recorder, stream: &Arc<CudaStream>) {
    // SAFETY: the stream lives longer than the recorder.
    let raw = unsafe { RawStream::from_ptr(stream.cu_stream().cast()) };
    match scope.gpu(raw, &Options::default()) {
        Ok(gpu) => match gpu.lane(raw) {
            Ok(lane) => recorder.set_lane(lane),
            Err(why) => eprintln!("{why}"),
        },
        Err(why) => eprintln!("{why}"),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scope = Stepscope::start(Config::default())?;
    let mut recorder = scope.recorder("engine");
    let stream = CudaContext::new(0)?.new_stream()?;
    stamp(&scope, &mut recorder, &stream);
    Ok(())
}
RUST
    cp Cargo.lock "$work/$name/Cargo.lock"
    (cd "$work/$name" && env "$@" cargo check -q)
    # The app alone chooses: stepscope must not bring a cudarc of its own, nor features of it.
    local users
    users=$(cd "$work/$name" && cargo tree -q -i cudarc --prefix none --depth 1 | tail -n +2)
    case $users in
        "engine-$name "*) ;;
        *) echo "somebody else depends on cudarc: $users" >&2; exit 1 ;;
    esac
    [ "$(wc -l <<<"$users")" = 1 ]
    echo "$name: stepscope beside cudarc with $features checks"
}

wanted=${1:-all}
case $wanted in
    all | linked) check linked '"dynamic-linking", "cuda-version-from-build-system"' CUDARC_CUDA_VERSION=13000 ;;&
    all | loaded) check loaded '"dynamic-loading", "cuda-12020"' ;;&
    all | fallback) check fallback '"fallback-dynamic-loading", "fallback-latest", "cuda-12020"' ;;&
    all | linked | loaded | fallback) echo "done" ;;
    *) echo "say linked, loaded or fallback" >&2; exit 2 ;;
esac
