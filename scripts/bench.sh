#!/usr/bin/env bash
# Measures edgetap and other programs on generated logs, and writes docs/benchmarks.md and its plots.
#
# Usage: scripts/bench.sh [--quick] [--rounds N] [--compare MB] [--only SECTION]… [--skip-build]
#
#   --quick          test the script itself: small logs, one round; docs/benchmarks.md stays as it
#                    is, and the report goes to cargo's target directory (bench/quick/benchmarks.md)
#   --rounds N       number of rounds, 1 to 99 [default: 5]. Each round runs every program once, and
#                    short programs three times
#   --compare MB     uncompressed size of the log on which the programs are compared: 1, 100 or 350
#                    [default: 350]
#   --only SECTION   measure this section, even if it was measured before; can be repeated. An unknown
#                    name lists the sections
#   --skip-build     use the programs that an earlier run built and installed
#
# A full run takes about an hour, most of it after the build. Finished sections are kept in cargo's
# target directory (bench/kept.json). The next run measures those that are missing, or that were
# measured at another commit or with other rounds; so a run can be interrupted, or made in pieces
# with --only. The report is written when no section is missing, and names the commit and the load of
# each.
#
# The report gives CPU time (user + system) relative to decompressing the same log
# (benches/src/bin/gunzip.rs).
#
# The other programs are installed from PyPI, npm and crates.io. GoAccess and valgrind are optional;
# if one is missing, the report says so. The check of the sizing limits the CPU with a cgroup, which
# usually requires root.
#
# To measure the stages of the pipeline one by one, run
#   cargo bench --manifest-path benches/Cargo.toml
# Append -- --quick for a run of about a minute.
#
# Exit status: 0 if the report was written or sections of --only were measured, 1 if a step failed, 2
# on a usage error or if a tool is missing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

quick=0 skip_build=0 rounds=5 compare=350 only=()

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
  [[ -f $target/lambda/bench-commit ]] || die 'nothing is built yet: run scripts/bench.sh without --skip-build'
  make_logs
  measure
}

read_arguments() {
  while (($#)); do
    case $1 in
      --quick) quick=1 rounds=1 compare=1 ;;
      --rounds)
        [[ ${2:-} =~ ^[1-9][0-9]?$ ]] || usage_error '--rounds requires a number from 1 to 99'
        rounds=$2
        shift
        ;;
      --compare)
        [[ ${2:-} == 1 || ${2:-} == 100 || ${2:-} == 350 ]] || usage_error '--compare requires 1, 100 or 350'
        compare=$2
        shift
        ;;
      --only)
        [[ -n ${2:-} && " $(sections) " == *" $2 "* ]] || usage_error "--only requires a section: $(sections)"
        only+=("$2")
        shift
        ;;
      --skip-build) skip_build=1 ;;
      -h | --help) print_help ;;
      *) usage_error "unknown option: $1" ;;
    esac
    shift
  done
}

# The names of the sections, as measure.py has them.
sections() {
  sed -n '/^SECTIONS = (/,/^)/ { /[()]/d; p; }' benches/measure.py | tr -d ',\n' | tr -s ' ' | sed 's/^ //'
}

# Builds with the profile and the flags of build-lambda.sh, so that common dependencies are built once.
build() {
  local flags
  scripts/build-lambda.sh || die 'cannot build the function'
  flags=$(scripts/build-lambda.sh --flags) || die 'scripts/build-lambda.sh names no flags'
  CARGO_TARGET_DIR=$target RUSTFLAGS=$flags cargo build --locked --profile lambda --manifest-path benches/Cargo.toml --bins \
    || die 'cannot build the benchmark programs'
  RUSTFLAGS=$flags cargo build --locked --profile lambda --bin bootstrap || die 'cannot build the function'
  # With fat LTO, rustc 1.95.0 crashes on this program (in LLVM's loop vectorizer).
  RUSTFLAGS=$flags CARGO_PROFILE_LAMBDA_LTO=thin cargo build --locked --profile lambda --bin edgetap || die 'cannot build edgetap'
  git describe --always --dirty >"$target/lambda/bench-commit" || die 'this is not a git repository'
}

install_peers() {
  local list=benches/peers/requirements.txt
  if ! cmp -s "$list" "$bench/venv/installed.txt"; then
    python3 -m venv --clear "$bench/venv" || die "python3 has no venv module (Debian: apt-get install python3-venv)"
    "$bench/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$list" || die 'cannot install the Python programs to compare with'
    cp "$list" "$bench/venv/installed.txt"
  fi
  mkdir -p "$bench/node"
  cp benches/peers/{*.mjs,package.json,package-lock.json} "$bench/node"
  npm ci --prefix "$bench/node" --no-audit --no-fund --ignore-scripts || die 'cannot install the Node.js programs to compare with'
  CARGO_TARGET_DIR=$bench/crate cargo build --locked --release --manifest-path benches/peers/cloudfront-logs/Cargo.toml \
    || note 'cannot build the program that uses the crate cloudfront-logs; the report lists it as not installed'
}

# Generates a log of 20,000 rows for callgrind, and the others by their uncompressed size.
make_logs() {
  local size sizes=(1 100 350)
  ((quick)) && sizes=(1)
  for size in "${sizes[@]}"; do
    make_log "$size" --mb "$size"
  done
  make_log rows --rows 20000
}

make_log() {
  local name=$1 codec
  shift
  [[ -f $bench/logs/$name.json && -f $bench/logs/$name.gzip.parquet ]] && return
  "$target/lambda/generate" "$@" "$bench/logs/$name" >"$scratch/log" || die "cannot generate the log $name"
  for codec in snappy gzip; do
    "$bench/venv/bin/python" benches/parquet_twin.py "$bench/logs/$name.log.gz" "$codec" "$bench/logs/$name.$codec.parquet" \
      || die "cannot write the Parquet twin of the log $name"
  done
  mv "$scratch/log" "$bench/logs/$name.json"
}

measure() {
  local report=docs/benchmarks.md kept=$bench/kept.json status=0
  if ((quick)); then
    report=$bench/quick/benchmarks.md kept=$bench/quick/kept.json
    mkdir -p "$bench/quick"
    ((${#only[@]})) || rm -f "$kept"
  fi
  BENCH_QUICK=$quick "$bench/venv/bin/python" benches/measure.py --target "$target" --rounds "$rounds" --compare "$compare" \
    --kept "$kept" --only "${only[*]}" >"$bench/results.json" || status=$?
  case $status in
    0) ;;
    3)
      say "Kept: $kept. The report is written when no section is missing."
      return
      ;;
    *) die 'the measurement failed; the next run continues with the section that failed' ;;
  esac
  "$bench/venv/bin/python" benches/report.py "$bench/results.json" "$report" || die 'cannot write the report'
  say "Written: $report, from $bench/results.json."
}

main "$@"
