#!/usr/bin/env bash
# Runs a Cargo command that checks, and does not link, the feature candle-cuda on a machine without CUDA.
#   scripts/with-candle-cuda.sh cargo check --features candle-cuda
#
# candle-kernels compiles candle's own kernels with nvcc when it is built, some ten minutes of two cores, and none of them
# is ours. A stand-in that answers as nvcc does and writes empty files is enough to check every type of `link::candle`;
# it is not enough to link a program.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cuda=${CARGO_TARGET_DIR:-$root/target}/candle-cuda
mkdir -p "$cuda/bin" "$cuda/include" "$cuda/lib64"
cat > "$cuda/bin/nvcc" <<'NVCC'
#!/bin/sh
case $1 in
    --version)
        printf '%s\n' "nvcc: stand-in" "" "" "Cuda compilation tools, release 12.8, V12.8.0"
        exit ;;
    --list-gpu-code) echo sm_80; exit ;;
esac
while [ $# -gt 0 ]; do
    case $1 in
        -o) : > "$2"; shift ;;
        --output-directory) folder=$2; shift ;;
        *.cu) source=$(basename "$1" .cu) ;;
    esac
    shift
done
[ -z "${folder:-}" ] || : > "$folder/$source.ptx"
NVCC
chmod +x "$cuda/bin/nvcc"
: > "$cuda/include/cuda.h"

export PATH=$cuda/bin:$PATH NVCC=$cuda/bin/nvcc CUDA_COMPUTE_CAP=80
export CUDA_HOME=$cuda CUDA_PATH=$cuda CUDA_ROOT=$cuda CUDA_TOOLKIT_ROOT_DIR=$cuda
# The stand-in compiles no kernel of ours either.
export INBATCH_PTX=committed
exec "$@"
