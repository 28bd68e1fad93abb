#!/usr/bin/env bash
# Builds the library and the example from a clean checkout, and runs it. The last line is JSON.
# LIBSTEPSCOPE names a folder with libstepscope.so instead of building one.
set -euo pipefail
unset CDPATH # with it, cd prints
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
if [ -z "${LIBSTEPSCOPE:-}" ]; then
    (cd "$root" && cargo build -q --release --locked -p stepscope-capi)
    LIBSTEPSCOPE=${CARGO_TARGET_DIR:-$root/target}/release
fi
LIBSTEPSCOPE=$(cd "$LIBSTEPSCOPE" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# Programs ask for the name that an installed library has.
ln -s "$LIBSTEPSCOPE/libstepscope.so" "$out/libstepscope.so.0"
ln -s libstepscope.so.0 "$out/libstepscope.so"
"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror -pedantic -I "$root/capi/include" "$here/engine.c" \
    -o "$out/engine" -L "$out" -lstepscope
LD_LIBRARY_PATH="$out" "$out/engine"
