#!/bin/sh
# run.sh TARGET SECONDS: fuzz one target for that long, beginning with the seeds in corpus/TARGET.
# Exit status 0: nothing found; 2: wrong use; 3: cannot run here (says why); anything else: a finding, whose
# input is in artifacts/TARGET/.
set -eu

if [ $# -ne 2 ]; then
    echo "usage: $0 TARGET SECONDS" >&2
    exit 2
fi
target=$1
seconds=$2
case $seconds in
    '' | *[!0-9]*) echo "$0: SECONDS must be a number, not '$seconds'" >&2; exit 2 ;;
esac

here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
if [ ! -f "fuzz_targets/$target.rs" ]; then
    echo "$0: no target '$target'; there are:" >&2
    ls fuzz_targets | sed 's/\.rs$//' >&2
    exit 2
fi
if ! version=$(rustc +nightly -vV 2>/dev/null); then
    echo "$0: cannot run: needs a nightly toolchain (rustup toolchain install nightly)" >&2
    exit 3
fi
if ! command -v c++ >/dev/null 2>&1; then
    echo "$0: cannot run: needs a C++ compiler, called c++, to build libFuzzer" >&2
    exit 3
fi
host=$(printf '%s\n' "$version" | sed -n 's/^host: //p')

# What cargo-fuzz sets. With --target the flags reach the crates under test and not the build scripts.
RUSTFLAGS="${RUSTFLAGS:-} --cfg fuzzing -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares \
-Cdebug-assertions -Ccodegen-units=1 -Zsanitizer=address"
export RUSTFLAGS
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$here/target}
export CARGO_TARGET_DIR
cargo +nightly build --release --target "$host" --bin "$target"

# SQLite's one large C file has local tables of one name twice, which the check for two definitions of a
# global takes for a defect.
ASAN_OPTIONS=${ASAN_OPTIONS:-detect_odr_violation=0}
export ASAN_OPTIONS

# New inputs go beside the build; the checked-in seeds are read and never written.
found=$CARGO_TARGET_DIR/corpus/$target
mkdir -p "$found" "artifacts/$target"
exec "$CARGO_TARGET_DIR/$host/release/$target" "$found" "corpus/$target" \
    -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
    -max_len=20000 -print_final_stats=1
