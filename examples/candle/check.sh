#!/usr/bin/env bash
# Checks the example outside of the project's CI: it is formatted, and compiles without a warning for the
# CPU and with candle's feature `cuda`. Needs no GPU and no CUDA toolkit.
#
#   ./check.sh            with a stand-in for nvcc that leaves empty kernels: all Rust is checked, stepscope
#                         on candle's stream included; candle's CUDA kernels are not compiled
#   ./check.sh kernels    compiles them too, with NVIDIA's nvcc 13.0 from PyPI (270 MB, once), for the
#                         compute capability CUDA_COMPUTE_CAP, 90 by default. Takes long.
#
# What neither shows: that it links (candle wants libcuda, libcudart, libcublas, libcurand, libnvrtc at
# build time), and that it runs.
set -euo pipefail
unset CDPATH # with it, cd prints
cd "$(dirname "$0")"
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90} CARGO_PROFILE_DEV_DEBUG=false CARGO_INCREMENTAL=0
target=${CARGO_TARGET_DIR:-target}

cargo fmt --check
cargo clippy -q --locked --all-targets -- -D warnings
echo "CPU: checks"

case ${1:-} in
    '')
        # Apart from the real one: cargo does not know that another nvcc answers.
        export CARGO_TARGET_DIR=$target/without-kernels
        bin=$PWD/target/stand-in
        mkdir -p "$bin"
        cat >"$bin/nvcc" <<'NVCC'
#!/usr/bin/env bash
# Stands in for nvcc: says a version, and leaves an empty file where a compiled kernel would be.
set -euo pipefail
out= folder= source=
while [ $# -gt 0 ]; do
    case $1 in
        # On the fourth line, as nvcc does: cudarc's build counts lines.
        --version) printf '\n\n\n%s\n' "Cuda compilation tools, release 13.0, V13.0.88"; exit ;;
        -o) out=$2; shift ;;
        --output-directory) folder=$2; shift ;;
        *.cu) source=${1##*/} ;;
    esac
    shift
done
: >"${out:-$folder/${source%.cu}.ptx}"
NVCC
        chmod +x "$bin/nvcc"
        what="its Rust checks; its kernels were skipped (./check.sh kernels compiles them)"
        ;;
    kernels)
        root=$PWD/target/nvcc-13.0
        bin=$root/nvidia/cu13/bin
        wheels=(nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime nvidia-cuda-cccl)
        if [ ! -x "$bin/nvcc" ]; then
            python3 -m pip install -q --no-deps --target "$root" "${wheels[@]/%/==13.0.*}"
        fi
        what="its Rust checks, its kernels compile for $CUDA_COMPUTE_CAP"
        ;;
    *) echo "say nothing, or kernels" >&2; exit 2 ;;
esac
# candle's build looks for nvcc by NVCC and in PATH, cudarc's in PATH.
PATH=$bin:$PATH NVCC=$bin/nvcc cargo clippy -q --locked --features cuda -- -D warnings
echo "CUDA: $what"
