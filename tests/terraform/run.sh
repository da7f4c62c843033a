#!/usr/bin/env bash
# Checks the Terraform module without AWS: format, validity, the rules of terraform/tests/, checkov, and the operator's policy.
#
# Usage: tests/terraform/run.sh [--help]
#
# Needed: jq; terraform, which may have to download its AWS provider; and checkov, on the PATH or named by CHECKOV. Where one of the
# last two is missing, its checks are skipped, and that is said last. The module applied for real, against moto: tests/operator.
set -euo pipefail
cd "$(dirname "$0")/../.."

case "${1:-}" in
  '') ;;
  -h | --help)
    sed -n '2,/^[^#]/ { s/^# \{0,1\}//p; }' tests/terraform/run.sh
    exit
    ;;
  *)
    echo "tests/terraform/run.sh takes no arguments: tests/terraform/run.sh --help" >&2
    exit 2
    ;;
esac

checkov=${CHECKOV:-checkov}
skipped=()

# A copy, so that no .terraform folder and no installation's state or settings are in the way.
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
  skipped+=('terraform fmt, validate and test: there is no terraform')
fi

# checkov would ask its maker's server for links to explanations.
if command -v "$checkov" >/dev/null; then
  "$checkov" --directory "$module" --framework terraform --skip-download --quiet --compact
else
  skipped+=("checkov: there is no $checkov")
fi

# A managed policy has at most 6,144 characters, allows no service whole, and hands the function's role to Lambda alone.
jq --exit-status '
  (tojson | length) <= 6144
  and all(.Statement[]; .Effect == "Allow" and ([.Action] | flatten | all(endswith(":*") | not)))
  and ([.Statement[] | select([.Action] | flatten | index("iam:PassRole")) | .Condition.StringEquals["iam:PassedToService"]] == ["lambda.amazonaws.com"])
' "$module/operator-policy.json" >/dev/null || {
  echo 'terraform/operator-policy.json is too long for a managed policy, or allows too much' >&2
  exit 1
}

((${#skipped[@]} == 0)) || printf '!!! SKIPPED: %s\n' "${skipped[@]}" >&2
