#!/bin/sh
# Runs the test of cust on the emulator, with the CUDA folder that ../../scripts/with-cust-cuda.sh makes.
set -eu
emulator=$(cd "$(dirname "$0")/.." && pwd)
root=$(cd "$emulator/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}

exec "$root/scripts/with-cust-cuda.sh" env CARGO_TARGET_DIR="$target/cust-flow" \
    cargo test --manifest-path "$emulator/cust-flow/Cargo.toml" "$@"
