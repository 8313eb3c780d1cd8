#!/usr/bin/env bash
# Prints the path of a pinned CUDA tool, installed from PyPI wheels on first use into .venv-<wheels>,
# which is kept between runs. Needs python3 with venv, and g++ for nvcc. No CUDA, no root.
#   scripts/cuda-tool.sh nvcc         the compiler that makes the committed PTX (104 MB)
#   scripts/cuda-tool.sh ptxas        the assembler beside it
#   scripts/cuda-tool.sh ptxas-12.0   the assembler of CUDA 12.0 (20 MB)
#   scripts/cuda-tool.sh nvdisasm     the disassembler
set -euo pipefail
cd "$(dirname "$0")/.."

tool=${1:-}
case $tool in
    nvcc | ptxas) wheels=nvcc binary=cu13/bin/$tool ;;
    ptxas-12.0) wheels=ptxas-12.0 binary=cuda_nvcc/bin/ptxas ;;
    nvdisasm) wheels=nvdisasm binary=cu13/bin/nvdisasm ;;
    *) echo "usage: scripts/cuda-tool.sh nvcc | ptxas | ptxas-12.0 | nvdisasm" >&2; exit 2 ;;
esac
if [ "$tool" = nvcc ] && ! command -v g++ >/dev/null; then
    echo "nvcc needs g++ on PATH (Debian: apt-get install g++)" >&2
    exit 1
fi

venv=.venv-$wheels
pins=scripts/pins/$wheels.txt
# The copy of the pins is written last: an interrupted installation starts again.
if ! cmp -s "$pins" "$venv/installed"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$pins" >&2
    cp "$pins" "$venv/installed"
fi
path=$(echo "$PWD/$venv"/lib/python3*/site-packages/nvidia/"$binary")
[ -x "$path" ] || { echo "no $tool at $path" >&2; exit 1; }
echo "$path"
