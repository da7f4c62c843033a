#!/usr/bin/env bash
# Checks the Terraform module without AWS: terraform fmt, validate and test, checkov, and the limits
# of the operator's policy.
#
# Usage: tests/terraform/run.sh [--help]
#
# Requires jq. Also uses terraform, which may download its AWS provider, and checkov (on the PATH,
# or named by CHECKOV). If one of these two is missing, its checks are skipped and reported at the
# end. tests/operator applies the module against moto.
set -euo pipefail
cd "$(dirname "$0")/../.."

case "${1:-}" in
  '') ;;
  -h | --help)
    sed -n '2,/^[^#]/ { s/^# \{0,1\}//p; }' tests/terraform/run.sh
    exit
    ;;
  *)
    printf 'error: unexpected argument: %s\n  hint: run tests/terraform/run.sh --help for usage\n' "$1" >&2
    exit 2
    ;;
esac

checkov=${CHECKOV:-checkov}
skipped=()

# Check a copy: a .terraform directory, state or settings of an installation would change the
# result.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
while IFS= read -r -d '' file; do
  mkdir -p "$copy/${file%/*}"
  cp "$file" "$copy/$file"
done < <(git ls-files -z --cached --others --exclude-standard terraform)
module=$copy/terraform

if command -v terraform >/dev/null; then
  terraform fmt -no-color -check -diff -recursive "$module"
  terraform fmt -no-color -check -diff tests/operator
  terraform -chdir="$module" init -no-color -backend=false -input=false -lockfile=readonly
  terraform -chdir="$module" validate -no-color
  terraform -chdir="$module" test -no-color
else
  skipped+=('terraform fmt, validate and test: terraform is not installed')
fi

# --skip-download: do not ask the vendor's server for links to explanations.
if command -v "$checkov" >/dev/null; then
  "$checkov" --directory "$module" --framework terraform --skip-download --quiet --compact
else
  skipped+=("checkov: $checkov is not installed")
fi

# IAM limits a managed policy to 6,144 characters. The policy must not allow all actions of a
# service, and must let the operator pass the role to Lambda only.
jq --exit-status '
  (tojson | length) <= 6144
  and all(.Statement[]; .Effect == "Allow" and ([.Action] | flatten | all(endswith(":*") | not)))
  and ([.Statement[] | select([.Action] | flatten | index("iam:PassRole")) | .Condition.StringEquals["iam:PassedToService"]] == ["lambda.amazonaws.com"])
' "$module/operator-policy.json" >/dev/null || {
  echo 'error: terraform/operator-policy.json is too long for a managed policy, or allows too much' >&2
  exit 1
}

((${#skipped[@]} == 0)) || printf '!!! SKIPPED: %s\n' "${skipped[@]}" >&2
