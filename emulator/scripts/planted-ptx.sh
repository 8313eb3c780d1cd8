#!/bin/sh
# Compiles the kernels of the planted-bug suite to the PTX that is committed next to them. Needs nvcc 13.0 (NVCC names it).
set -eu
cd "$(dirname "$0")/../harness/tests/planted"
for source in *.cu; do
    arch=compute_75
    [ "$source" = async.cu ] && arch=compute_80
    "${NVCC:-nvcc}" --ptx -arch=$arch "$source" -o "${source%.cu}.ptx.new"
    # nvcc writes the newest PTX version; these kernels need nothing newer than 8.0.
    sed -e 's/^\.version .*/.version 8.0/' -e '/^\/\/ *Compiler Build ID/d' "${source%.cu}.ptx.new" > "${source%.cu}.ptx"
    rm "${source%.cu}.ptx.new"
done
