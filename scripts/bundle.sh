#!/usr/bin/env bash
# Packs tests and benchmarks, built here, for an x86-64 Linux machine with a GPU and without Rust:
#   scripts/bundle.sh [ARCHIVE]        default target/inbatch-gpu.tar.gz
# There: tar xzf inbatch-gpu.tar.gz && inbatch-gpu/run.sh
# Here, on the emulator, as a rehearsal: env -i inbatch-gpu/run.sh --emulate
set -euo pipefail
cd "$(dirname "$0")/.."

archive=${1:-target/inbatch-gpu.tar.gz}
limit=$((60 * 1000 * 1000))
folder=target/bundle/inbatch-gpu
rm -rf target/bundle
mkdir -p "$folder/peers"

# executable NAME: the file that the last cargo command made of the target of that name.
executable() {
    python3 -c '
import json, sys
found = [m["executable"] for m in map(json.loads, open("target/bundle/messages")) if m.get("executable")
         and m["target"]["name"] == sys.argv[1]]
print(found[-1])' "$1"
}

# build NAME FILE ARGUMENTS...: cargo with these arguments, the target NAME as FILE.
build() {
    local name=$1 file=$2
    shift 2
    cargo "$@" --message-format json-render-diagnostics >target/bundle/messages
    install -m 755 "$(executable "$name")" "$folder/$file"
    strip --strip-all "$folder/$file"
}

build cuda tests test --release --no-run --package inbatch --test cuda
build cudarc_flow driver_tests test --release --no-run --package ptx-emulator-harness --test cudarc_flow
build peer_step peer_step build --release --package inbatch --example peer_step
# A bench target is a program of the release profile.
build cuda bench bench --no-run --package inbatch --bench cuda
install -m 644 "$(ls -t target/release/deps/libptx_emulator*.so target/release/libptx_emulator.so 2>/dev/null | head -1)" \
    "$folder/libptx_emulator.so"
strip --strip-unneeded "$folder/libptx_emulator.so"
cp benches/peers/*.py benches/peers/requirements-cuda.txt benches/peers/requirements.txt "$folder/peers"
install -m 755 scripts/bundle/run.sh "$folder/run.sh"
{
    git describe --always --dirty
    rustc --version
} >"$folder/built"

mkdir -p "$(dirname "$archive")"
tar --create --gzip --file "$archive" --directory target/bundle inbatch-gpu
size=$(stat -c %s "$archive")
ls -l "$folder"
echo "$archive: $((size / 1000000)) MB"
[ "$size" -lt "$limit" ] || { echo "larger than $((limit / 1000000)) MB" >&2; exit 1; }
