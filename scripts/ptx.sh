#!/usr/bin/env bash
# Compiles kernels/*.cu and rewrites the committed kernels/ptx/*.ptx. Run it after every change to a
# kernel, and commit what it wrote.
set -euo pipefail
cd "$(dirname "$0")/.."

INBATCH_NVCC=$(scripts/cuda-tool.sh nvcc)
export INBATCH_NVCC INBATCH_PTX=update
cargo check --quiet --package inbatch --lib
git --no-pager diff --stat -- kernels/ptx
