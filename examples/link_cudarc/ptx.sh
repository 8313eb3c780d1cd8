#!/usr/bin/env bash
# Compiles kernels.cu to kernels.ptx, which is committed: the example runs without nvcc.
set -euo pipefail
cd "$(dirname "$0")"
"$(../../scripts/cuda-tool.sh nvcc)" --ptx -arch=compute_75 kernels.cu -o kernels.ptx.new
# nvcc writes the newest PTX version; these kernels need nothing newer than 8.0, which drivers from 525 on take.
sed -e 's/^\.version .*/.version 8.0/' -e '/^\/\//d' -e '/./,$!d' kernels.ptx.new > kernels.ptx
rm kernels.ptx.new
