#!/usr/bin/env bash
# Tests the operator's scripts with bats, a scripted AWS CLI and moto.
#
# Usage: BATS=… MOTO_SERVER=… tests/scripts/run.sh [BATS ARGUMENTS] [FILE.bats …]
#
#   BATS            bats (package bats of npm); by default the one on the PATH
#   MOTO_SERVER     moto_server (package moto[server] of PyPI); by default the one on the PATH
#   EDGETAP_BINARY  edgetap, to read the log that verify.sh uploads; without it, a check is left out
#
# moto listens on a free loopback port. Exit status: that of bats, or 2 if a tool is missing.
set -euo pipefail
unset CDPATH # it would lead `cd` to another clone
cd "$(dirname "$0")/../.."

case "${1:-}" in
  -h | --help)
    sed -n '2,/^[^#]/ { s/^# \{0,1\}//p; }' tests/scripts/run.sh
    exit
    ;;
esac

bats=${BATS:-$(command -v bats || true)}
moto_server=${MOTO_SERVER:-$(command -v moto_server || true)}

missing=()
[[ -x $bats ]] || missing+=('bats (BATS)')
[[ -x $moto_server ]] || missing+=('moto_server (MOTO_SERVER)')
for tool in aws jq curl; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if ((${#missing[@]})); then
  printf 'error: not installed: %s\n' "${missing[@]}" >&2
  exit 2
fi

work=$(mktemp -d)
servers=()
stop_servers() {
  local server
  for server in "${servers[@]}"; do
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap stop_servers EXIT

: >"$work/moto.log"
# moto chooses the port, so that no other process can take it in between.
"$(sed -n '1s/^#!//p' "$moto_server")" tests/scripts/two_accounts.py --host 127.0.0.1 --port 0 >"$work/moto.log" 2>&1 &
moto=$!
servers+=("$moto")
for _ in {1..150}; do
  port=$(sed -n 's|.*Running on http://127\.0\.0\.1:\([0-9]*\).*|\1|p' "$work/moto.log" | head -n 1)
  if [[ -n $port ]] || ! kill -0 "$moto" 2>/dev/null; then break; fi
  sleep 0.2
done
if [[ -z $port ]]; then
  printf 'error: moto did not start:\n' >&2
  cat "$work/moto.log" >&2
  exit 1
fi

# Keep an AWS CLI that is installed as a Python package warm (warm_aws.py explains why). Any other
# one only takes longer.
if python=$(python3 -c 'import awscli, sys; print(sys.executable)' 2>/dev/null); then
  export WARM_AWS=$work/socket
  "$python" tests/scripts/warm_aws.py serve "$WARM_AWS" &
  servers+=("$!")
  mkdir "$work/bin"
  { printf '#!%s -IS\n' "$python" && cat tests/scripts/warm_aws.py; } >"$work/bin/aws"
  chmod +x "$work/bin/aws"
  for _ in {1..100}; do
    [[ ! -S $WARM_AWS ]] || break
    sleep 0.2
  done
  [[ ! -S $WARM_AWS ]] || export PATH=$work/bin:$PATH
fi

files=()
for argument; do
  if [[ $argument == *.bats ]]; then files+=("$argument"); fi
done
if ((${#files[@]} == 0)); then set -- "$@" tests/scripts/*.bats; fi
REPOSITORY=$PWD MOTO=http://127.0.0.1:$port "$bats" "$@"
