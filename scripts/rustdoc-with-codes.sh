#!/usr/bin/env bash
# rustdoc that checks the error codes of compile_fail examples, which a stable rustdoc ignores:
#     RUSTDOC=scripts/rustdoc-with-codes.sh cargo test --doc
RUSTC_BOOTSTRAP=1 exec rustdoc "$@"
