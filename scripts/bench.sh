#!/usr/bin/env bash
# Measures edgetap beside other programs on logs made here, and writes docs/benchmarks.md with its plots.
#
# Usage: scripts/bench.sh [--quick] [--rounds N] [--compare MB] [--skip-build]
#
#   --quick        small logs and few rounds, to see that everything works; the report goes below cargo's target folder
#   --rounds       how often each program runs, the programs taking turns; default: 5 (and three times that for the pipeline by itself)
#   --compare      size of the log of the comparison in MB, inflated: 1, 100 or 350; default: 350
#   --skip-build   measure what was built and installed before
#
# It takes the better part of an hour. CPU is user + system time of a process; the unit is one inflating of the same log
# (benches/src/bin/inflate.rs). What is compared with comes from PyPI, npm and crates.io; GoAccess and valgrind are used where they are
# installed, and the report says where they were not. The sizing is checked with a quota of CPU where this user may make a cgroup (root).
# Stages by themselves: cargo bench --manifest-path benches/Cargo.toml; with -- --quick in a minute, once it is built.
#
# Exit status: 0 measured and written, 1 it failed, 2 something is missing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

quick=0 skip_build=0 rounds=5 compare=350

main() {
  read_arguments "$@"
  need_tools cargo python3 node npm gzip
  refuse_on_problems
  target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
  bench=$target/bench
  mkdir -p "$bench/logs"
  if ((! skip_build)); then
    build
    install_peers
  fi
  make_logs
  measure
}

read_arguments() {
  while (($#)); do
    case $1 in
      --quick) quick=1 rounds=1 compare=1 ;;
      --rounds)
        [[ ${2:-} =~ ^[1-9][0-9]?$ ]] || usage_error '--rounds is a number'
        rounds=$2
        shift
        ;;
      --compare)
        [[ ${2:-} == 1 || ${2:-} == 100 || ${2:-} == 350 ]] || usage_error '--compare is 1, 100 or 350'
        compare=$2
        shift
        ;;
      --skip-build) skip_build=1 ;;
      -h | --help) print_help ;;
      *) usage_error "what is $1?" ;;
    esac
    shift
  done
}

# The programs as they are shipped: the profile `lambda`, with the flags of build-lambda.sh, so that what both need is built once.
build() {
  scripts/build-lambda.sh || die 'the function cannot be built'
  local flags="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo --remap-path-prefix=$PWD=edgetap"
  CARGO_TARGET_DIR=$target RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }$flags" cargo build --locked --profile lambda \
    --manifest-path benches/Cargo.toml --bins || die 'the programs cannot be built'
  cargo build --locked --release --bin edgetap || die 'edgetap cannot be built'
}

install_peers() {
  local list=benches/peers/requirements.txt
  if ! cmp -s "$list" "$bench/venv/installed.txt"; then
    python3 -m venv --clear "$bench/venv" || die "python3 has no venv module (Debian: apt-get install python3-venv)"
    "$bench/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$list" || die 'the Python peers cannot be installed'
    cp "$list" "$bench/venv/installed.txt"
  fi
  mkdir -p "$bench/node"
  cp benches/peers/{*.mjs,package.json,package-lock.json} "$bench/node"
  npm ci --prefix "$bench/node" --no-audit --no-fund --ignore-scripts || die 'the Node.js peers cannot be installed'
  CARGO_TARGET_DIR=$bench/crate cargo build --locked --release --manifest-path benches/peers/cloudfront-logs/Cargo.toml \
    || note 'the peer of crates.io cannot be built: the report leaves it out, and says so'
}

# 20,000 rows for callgrind; the others by their inflated size.
make_logs() {
  local size sizes=(1 100 350)
  ((quick)) && sizes=(1)
  for size in "${sizes[@]}"; do
    make_log "$size" --mb "$size"
  done
  make_log rows --rows 20000
}

make_log() {
  local name=$1
  shift
  [[ -f $bench/logs/$name.json ]] && return
  "$target/lambda/generate" "$@" "$bench/logs/$name" >"$scratch/log" || die "the log $name cannot be made"
  mv "$scratch/log" "$bench/logs/$name.json"
}

measure() {
  local report=docs/benchmarks.md
  ((quick)) && report=$bench/quick/benchmarks.md
  BENCH_QUICK=$quick "$bench/venv/bin/python" benches/measure.py --target "$target" --rounds "$rounds" --compare "$compare" \
    >"$bench/results.json" || die 'the measuring fails'
  "$bench/venv/bin/python" benches/report.py "$bench/results.json" "$report" || die 'the report cannot be written'
  say "Written: $report, from $bench/results.json."
}

main "$@"
