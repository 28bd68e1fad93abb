#!/usr/bin/env bash
# Compiles the device header with every compiler it promises to work with, and assembles the checked-in
# kernels for the GPUs in use. Needs no GPU and no CUDA toolkit: NVIDIA's compiler comes from PyPI.
#
#   kernels/check.sh            installs nvcc 13.0 into target/nvcc-13.0 (130 MB) if it is not there
#   NVCC_ROOT=DIR kernels/check.sh    uses the toolkit in DIR (bin/nvcc, bin/ptxas)
#
# What it shows: the text compiles and assembles. What it does not show: that it runs.
set -euo pipefail
cd "$(dirname "$0")/.."
wheels=(nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime)
architectures=(75 80 90 100 120)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '%-62s %s\n' "$1" "$2"; }
missing() {
    if [ "${STEPSCOPE_REQUIRE_TOOLS:-0}" = 1 ]; then echo "$1 is missing" >&2; exit 1; fi
    say "$1" "skipped: missing"
}

# Host code sees types only, in C and in C++.
printf '%s\n' '#include "stepscope.cuh"' \
    'int main(void) { stepscope_handle off = {0, 0}; return (int)off.ring + (int)STEPSCOPE_BEGIN; }' \
    >"$work/host.c"
strict=(-Wall -Wextra -Wpedantic -Werror -Ikernels -fsyntax-only)
for compiler in gcc clang-14; do
    if command -v "$compiler" >/dev/null; then
        "$compiler" -x c -std=c11 "${strict[@]}" "$work/host.c"
        say "stepscope.cuh as C11, $compiler" ok
    else missing "$compiler"; fi
done
for compiler in g++ clang++-14; do
    if command -v "$compiler" >/dev/null; then
        "$compiler" -x c++ -std=c++17 "${strict[@]}" "$work/host.c"
        say "stepscope.cuh as C++17, $compiler" ok
    else missing "$compiler"; fi
done

if [ -z "${NVCC_ROOT:-}" ]; then
    installed=target/nvcc-13.0
    if [ ! -x "$installed/nvidia/cu13/bin/nvcc" ]; then
        python3 -m pip install -q --no-deps --target "$installed" "${wheels[@]/%/==13.0.*}"
    fi
    NVCC_ROOT=$PWD/$installed/nvidia/cu13
fi
nvcc=$NVCC_ROOT/bin/nvcc ptxas=$NVCC_ROOT/bin/ptxas
"$nvcc" --version | sed -n 's/^Cuda compilation tools, //p'

# One kernel per device function, as an engine would call it.
cat >"$work/engine.cu" <<'CUDA'
#include "stepscope.cuh"

extern "C" __global__ void one_thread(stepscope_handle handle) {
    if (blockIdx.x == 0 && threadIdx.x == 0) stepscope::stamp(handle, STEPSCOPE_MARK_A);
}

extern "C" __global__ void first_block(stepscope_handle handle, float* data) {
    stepscope::stamp_first_block(handle, STEPSCOPE_BEGIN);
    data[blockIdx.x * blockDim.x + threadIdx.x] *= 2.0f;
}

extern "C" __global__ void last_block(stepscope_handle handle, float* data, unsigned int* done) {
    data[blockIdx.x * blockDim.x + threadIdx.x] += 1.0f;
    stepscope::stamp_last_block(handle, STEPSCOPE_END, done);
}

int main() {
    one_thread<<<1, 32>>>(stepscope_handle{0, 0});
    first_block<<<4, 256>>>(stepscope_handle{0, 0}, nullptr);
    last_block<<<4, 256>>>(stepscope_handle{0, 0}, nullptr, nullptr);
}
CUDA
for architecture in "${architectures[@]}"; do
    for source in "$work/engine.cu" kernels/stamp.cu kernels/stamp_test.cu kernels/demo.cu \
        kernels/gpu_real.cu; do
        "$nvcc" -std=c++17 -Ikernels -Werror all-warnings -arch="sm_$architecture" -cubin \
            -o "$work/out.cubin" "$source"
        say "nvcc, $(basename "$source"), sm_$architecture" ok
    done
done

# What is shipped is PTX 6.0 for sm_70; drivers compile it for their GPU as ptxas does here.
for architecture in "${architectures[@]}"; do
    for text in stamp stamp_test demo gpu_real; do
        told=$("$ptxas" -v -arch="sm_$architecture" -o "$work/out.cubin" "kernels/$text.ptx" 2>&1)
        registers=$(grep -o 'Used [0-9]* registers' <<<"$told" | sort -k2n | tail -1)
        say "ptxas, $text.ptx, sm_$architecture" "ok, ${registers,}"
    done
done
echo "all compile and assemble"
