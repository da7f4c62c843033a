#!/usr/bin/env bash
# Checks `edgetap report` from outside: DuckDB counts the same log, and headless Chromium opens the page.
#
# Usage: EDGETAP_BINARY=FILE PYTHON=FILE tests/report/run.sh [LOG]
#
# PYTHON has the packages of requirements.txt, and node_modules those of package.json. LOG is another log for DuckDB to count.
set -euo pipefail
cd "$(dirname "$0")"

: "${EDGETAP_BINARY:?the built edgetap}" "${PYTHON:?a Python with duckdb}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$PYTHON" log.py "$work/EREPORT0000001.2026-11-14-00.abcdef01.gz"
for log in "$work"/*.gz ${1:+"$1"}; do
  "$EDGETAP_BINARY" report "$log" --json >"$work/report.json"
  "$PYTHON" count.py "$log" "$work/report.json"
done
"$EDGETAP_BINARY" report "$work"/*.gz --html "$work/report.html" >/dev/null
# Each run unpacks Chromium for itself, with the libraries and fonts that the package brings for Lambda and
# that a machine without a desktop lacks.
AWS_LAMBDA_JS_RUNTIME=nodejs20.x TMPDIR="$work" node look.mjs "$work/report.html" ${SCREENSHOTS:+"$SCREENSHOTS"}
