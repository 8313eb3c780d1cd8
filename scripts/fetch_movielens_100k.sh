#!/bin/sh
# Puts the MovieLens-100K interactions (2 MB) into data/ml-100k.inter.
#
# They come out of the Python package recbole, which ships them as an example in the format that
# `cargo run --release --example train -- --data data/ml-100k.inter` reads. Needs python3 with pip.
# The ratings belong to GroupLens Research (University of Minnesota); their terms of use apply:
# research use with acknowledgement, no redistribution.
set -eu

version=1.2.1
member=recbole/dataset_example/ml-100k/ml-100k.inter
sha256=4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff
cd "$(dirname "$0")/.."
target=data/ml-100k.inter

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$scratch" "recbole==$version"
python3 - "$scratch" "$member" "$sha256" <<'PYTHON'
import hashlib, pathlib, sys, zipfile

scratch, member, expected = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
(wheel,) = scratch.glob("*.whl")
content = zipfile.ZipFile(wheel).read(member)
found = hashlib.sha256(content).hexdigest()
if found != expected:
    sys.exit(f"{member} in {wheel.name} has sha256 {found}, expected {expected}: not the file this script knows")
(scratch / "ml-100k.inter").write_bytes(content)
PYTHON

mkdir -p data
mv "$scratch/ml-100k.inter" "$target"
echo "$target: $(($(wc -l < "$target") - 1)) interactions"
