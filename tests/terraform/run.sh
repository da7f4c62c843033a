#!/usr/bin/env bash
# Checks Terraform without AWS: fmt and validate, the module's tests, a plan of each example, a plan
# on the state of an earlier layout, checkov, and the limits of the operator's policy.
#
# Usage: tests/terraform/run.sh [--help]
#
# Requires jq and python3. Also uses terraform, which may download its AWS provider, and checkov (on
# the PATH, or named by CHECKOV). If one of these two is missing, its checks are skipped and
# reported at the end. tests/operator applies the root against moto.
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
done < <(git ls-files -z --cached --others --exclude-standard terraform scripts/record-fields.txt)
root=$copy/terraform module=$copy/terraform/modules/edgetap
tests=$PWD/tests/terraform

# An empty zip, as when earlier.tfstate was made.
mkdir -p "$copy/target/lambda"
printf 'PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' >"$copy/target/lambda/bootstrap.zip"

# initialize DIRECTORY: with the provider that the root's lock file names.
initialize() {
  [[ $1 == "$root" ]] || cp "$root/.terraform.lock.hcl" "$1"
  terraform -chdir="$1" init -no-color -backend=false -input=false -lockfile=readonly >/dev/null
}

plan_example() {
  local example=$1 credentials='{client_id="id",client_secret="secret"}' region
  region=$(sed -n '/^  region *= /{ s/.*"\(.*\)"/\1/p; q; }' "$example/main.tf")
  sed "s/REGION\"/$region\"/" "$tests/example.tftest.hcl" >"$example/example.tftest.hcl"
  initialize "$example"
  terraform -chdir="$example" validate -no-color
  if [[ $example == */several-installations ]]; then
    credentials="{edgetap-production=$credentials,edgetap-staging=$credentials}"
  fi
  TF_VAR_bridge_credentials=$credentials terraform -chdir="$example" test -no-color
}

# earlier.tfstate is the state of an installation with every option whose resources were in
# terraform/ itself. moto made it; logging_config and redrive_policy, which moto does not return,
# were filled in. Every resource must move into the module, and none may change.
plan_earlier_state() {
  cp "$tests/earlier.tfstate" "$root/terraform.tfstate"
  cp "$tests/earlier.tfvars.json" "$root/terraform.tfvars.json"
  local url
  coproc sts { exec python3 "$tests/sts.py" 123456789012; } # ends when this script does
  read -r url <&"${sts[0]}"
  AWS_ENDPOINT_URL=$url AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_EC2_METADATA_DISABLED=true \
    terraform -chdir="$root" plan -no-color -input=false -refresh=false -out=planned >"$copy/plan"
  terraform -chdir="$root" show -json planned >"$copy/plan.json"
  jq --exit-status --argjson changed_since "$changed_since" --slurpfile state "$tests/earlier.tfstate" '
    def is_moved: .address == "module.edgetap.\(.previous_address)";
    [$state[0].resources[] | select(.mode == "managed").instances[]] as $before
    | (.resource_changes | map(select(.previous_address != null))) as $after
    | ($after | length) == ($before | length) and all($after[]; is_moved)
    and all(.resource_changes[]; .change.actions == ["no-op"] or IN(.address; $changed_since[]))
    and all(.output_changes[]; .actions == ["no-op"] or .actions == ["create"])
  ' "$copy/plan.json" >/dev/null || {
    cat "$copy/plan"
    echo 'error: the state of the earlier layout does not move into the module without a change' >&2
    echo '  hint: if the change is meant, add its address to changed_since in tests/terraform/run.sh' >&2
    exit 1
  }
}

# Addresses of resources that were changed on purpose after earlier.tfstate was made, as JSON.
changed_since='[]'

if command -v terraform >/dev/null; then
  # One download for all of them.
  export TF_PLUGIN_CACHE_DIR=${TF_PLUGIN_CACHE_DIR:-$copy/.terraform}
  mkdir -p "$TF_PLUGIN_CACHE_DIR"
  terraform fmt -no-color -check -diff -recursive "$root"
  terraform fmt -no-color -check -diff tests
  initialize "$root"
  terraform -chdir="$root" validate -no-color
  plan_earlier_state
  initialize "$module"
  terraform -chdir="$module" test -no-color
  for example in "$root"/examples/*; do plan_example "$example"; done
else
  skipped+=('terraform fmt, validate and test: terraform is not installed')
fi

# --skip-download: do not ask the vendor's server for links to explanations.
if command -v "$checkov" >/dev/null; then
  "$checkov" --directory "$root" --framework terraform --skip-download --quiet --compact
else
  skipped+=("checkov: $checkov is not installed")
fi

# IAM limits a managed policy to 6,144 characters. The policy must not allow all actions of a
# service, and must let the operator pass the role to Lambda only.
jq --exit-status '
  (tojson | length) <= 6144
  and all(.Statement[]; .Effect == "Allow" and ([.Action] | flatten | all(endswith(":*") | not)))
  and ([.Statement[] | select([.Action] | flatten | index("iam:PassRole")) | .Condition.StringEquals["iam:PassedToService"]] == ["lambda.amazonaws.com"])
' "$root/operator-policy.json" >/dev/null || {
  echo 'error: terraform/operator-policy.json is too long for a managed policy, or allows too much' >&2
  exit 1
}

((${#skipped[@]} == 0)) || printf '!!! SKIPPED: %s\n' "${skipped[@]}" >&2
