#!/usr/bin/env bash
# The whole example from a clean checkout: fetches llama.cpp, builds libstepscope and the engine, serves
# a trace, checks what /metrics says against the engine's own record, does the same with the recorder off
# (the check must fail), and measures what recording costs. The last line is JSON.
#
#   run.sh [--smollm2] [--pairs N] [--out FOLDER] [-- options of the engine]
#
#   --smollm2    a small model that speaks (93 MB) instead of a tiny random one; prints some answers
#   --pairs N    runs with and without recorder to compare (40; 3 with --smollm2)
#   --out FOLDER where the truth files go (target/llama-cpp/run)
#
# LIBSTEPSCOPE names a folder with libstepscope.so instead of building one.
# STEPSCOPE_LLAMA_DIR names the folder of what is fetched.
set -euo pipefail
unset CDPATH # with it, cd prints
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
model=tiny pairs='' run=
while [ $# -gt 0 ]; do
    case "$1" in
        --smollm2) model=smollm2; shift ;;
        --pairs) pairs=$2; shift 2 ;;
        --out) run=$2; shift 2 ;;
        --) shift; break ;;
        *) echo "run.sh: unknown option $1; the first lines of the file say what there is" >&2; exit 2 ;;
    esac
done

if [ $model = smollm2 ]; then fetch=(--model); else fetch=(); fi
dir=$("$here/fetch.sh" "${fetch[@]}")
if [ -z "${LIBSTEPSCOPE:-}" ]; then
    (cd "$root" && cargo build -q --release --locked -p stepscope-capi)
    LIBSTEPSCOPE=${CARGO_TARGET_DIR:-$root/target}/release
fi
run=${run:-$dir/run}
mkdir -p "$run"
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
# Programs ask for the name that an installed library has.
ln -s "$(cd "$LIBSTEPSCOPE" && pwd)/libstepscope.so" "$build/libstepscope.so.0"
ln -s libstepscope.so.0 "$build/libstepscope.so"
llama=$(basename "$dir"/lib/libllama.v*.so) ggml=$(basename "$dir"/lib/libggml.v*.so)
"${CXX:-c++}" -std=c++17 -O2 -Wall -Wextra -Werror -pedantic -Wshadow -Wconversion \
    -isystem "$dir/include" -I "$root/capi/include" "$here"/*.cpp -o "$build/engine" \
    -L "$build" -lstepscope -L "$dir/lib" -l:"$llama" -l:"$ggml" \
    -Wl,-rpath,"$build" -Wl,-rpath,"$dir/lib"

engine=("$build/engine" --model "$dir/$model.gguf" --backends "$dir/lib"
    --trace "$root/sim/traces/azure_llm_2023_conv_first20min.csv")
if [ $model = smollm2 ]; then
    serve=(--requests 16 --speed 1 --prompt-max 128 --answer-max 64 --slots 4 --context 512 --patience 60000)
    less=(--requests 5) shown=(--text 3) every=2 midway=60 pairs=${pairs:-3}
else
    # Far more than a core serves: queue and cache run full on any machine. A prompt takes several steps.
    serve=(--requests 160 --speed 30 --budget 32)
    less=(--requests 12) shown=() every=0.25 midway=150 pairs=${pairs:-40}
fi
export PYTHONPATH="$dir/python"
watch() { python3 "$here/watch.py" --checker "$root/tests/check_truth.py" --every "$every" "$@"; }
# Shows all but the last line, which goes into a file.
keep() { tee "$build/said" | sed '$d' && tail -n 1 "$build/said" >"$1"; }

echo "== served with the recorder on ($model)"
watch --truth "$run/truth.jsonl" -- "${engine[@]}" "${serve[@]}" "${shown[@]}" "$@" | keep "$build/on.json"
echo "== served with the recorder off"
watch --truth "$run/truth_off.jsonl" --expect wrong -- "${engine[@]}" "${serve[@]}" "${less[@]}" "$@" \
    --recorder off | keep "$build/off.json"
echo "== stopped in the middle, with requests in flight"
watch --truth "$run/truth_midway.jsonl" -- "${engine[@]}" "${serve[@]}" "$@" --speed 0 \
    --max-steps "$midway" | keep "$build/midway.json"
echo "== $pairs pairs of runs, recording and not"
"${engine[@]}" "${serve[@]}" "${less[@]}" "$@" --compare "$pairs" | keep "$build/compare.json"
python3 "$here/summary.py" "$build"/{on,off,midway,compare}.json
