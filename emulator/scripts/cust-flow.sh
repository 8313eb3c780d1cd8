#!/bin/sh
# Runs the test of cust on the emulator. cust's build script looks for a CUDA folder with a libcuda to link: this script makes one in the
# folder of build outputs, from the emulator's library. It is on the search path of this one test only.
set -eu
emulator=$(cd "$(dirname "$0")/.." && pwd)
root=$(cd "$emulator/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

cargo build --manifest-path "$root/Cargo.toml" -p ptx-emulator
cuda=$target/cust-cuda
mkdir -p "$cuda/include" "$cuda/lib64"
: > "$cuda/include/cuda.h"
cp "$target/debug/libptx_emulator.so" "$cuda/lib64/libcuda.so"

CUDA_LIBRARY_PATH=$cuda CUDA_PATH=$cuda CUDA_ROOT=$cuda CUDA_TOOLKIT_ROOT_DIR=$cuda \
LD_LIBRARY_PATH=$cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} CARGO_TARGET_DIR=$target/cust-flow \
    cargo test --manifest-path "$emulator/cust-flow/Cargo.toml" "$@"
