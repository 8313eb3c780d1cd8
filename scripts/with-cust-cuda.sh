#!/usr/bin/env bash
# Runs a Cargo command with what cust looks for when it is built: a CUDA folder with a libcuda to link. It is made of the
# emulator's library, in the folder of build outputs, so that no CUDA is needed, and the program runs on the emulator.
#   scripts/with-cust-cuda.sh cargo run --example link_cust --features cust
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

cargo build --quiet --manifest-path "$root/Cargo.toml" --package ptx-emulator
cuda=$target/cust-cuda
mkdir -p "$cuda/include" "$cuda/lib64"
: > "$cuda/include/cuda.h"
# Another file for another library: programs that run keep theirs.
cmp -s "$target/debug/libptx_emulator.so" "$cuda/lib64/libcuda.so" ||
    install "$target/debug/libptx_emulator.so" "$cuda/lib64/libcuda.so"

export CUDA_LIBRARY_PATH=$cuda CUDA_PATH=$cuda CUDA_ROOT=$cuda CUDA_TOOLKIT_ROOT_DIR=$cuda
export LD_LIBRARY_PATH=$cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "$@"
