#!/usr/bin/env bash
# Prints the path of the pinned nvcc, installing it on first use (104 MB) into .venv-nvcc, which is
# kept between runs. Needs python3 with venv, and g++ (nvcc's host compiler). No CUDA, no root.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv-nvcc
pins=scripts/nvcc-requirements.txt

command -v g++ >/dev/null || { echo "nvcc needs g++ on PATH (Debian: apt-get install g++)" >&2; exit 1; }
# The copy of the pins is written last: an interrupted installation starts again.
if ! cmp -s "$pins" "$venv/installed"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$pins" >&2
    cp "$pins" "$venv/installed"
fi
nvcc=$(echo "$PWD/$venv"/lib/python3*/site-packages/nvidia/cu13/bin/nvcc)
[ -x "$nvcc" ] || { echo "no nvcc at $nvcc" >&2; exit 1; }
echo "$nvcc"
