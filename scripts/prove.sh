#!/usr/bin/env bash
# Proves on a real account what tests without AWS cannot show (docs/operations.md, "Unproven on
# AWS"): makes an installation of its own, runs the steps of --list, removes everything, and reports.
#
# Usage: scripts/prove.sh [--distribution ID] [--skip STEP]… [OPTION]… [--yes] [--dry-run]
#        scripts/prove.sh --list
#        scripts/prove.sh --clean [--yes] [--dry-run]
#
#   --distribution ID          a distribution of this account that delivers no logs to S3 yet
#   --skip STEP                leave out this step; can be repeated
#   --name NAME                name of the installation (default edgetap-prove)
#   --region REGION            its region (default: that of the AWS CLI, or us-east-1)
#   --list                     print the steps, with minutes and what must be seen
#   --clean                    remove what a run left that could not remove it
#   --yes                      skip confirmation
#   --dry-run                  change nothing; show every command
#
# A step that needs more is not tried without:
#
#   --kms-key-arn ARN          a KMS key whose policy has the output kms_key_policy_statements
#   --vpc JSON                 {"subnet_ids": […], "security_group_ids": […]}
#   --arm64-zip FILE           a zip that scripts/build-lambda.sh --arch arm64 built
#   --source-profile PROFILE   a profile of the AWS CLI for another account, with
#   --source-distribution ID   a distribution of that account that delivers no logs to S3 yet
#   --source-bucket BUCKET     a bucket of that account that lets the function's role read
#   --source-topic ARN         the topic that receives the S3 events of that bucket
#
# The script works in a copy, target/prove, with a Terraform state of its own. It reads .env and the
# function's zip, and touches no other installation. The transactions go to the bridge in .env, which
# must be reachable from AWS: not `edgetap bridge` on this machine. With AWS_ENDPOINT_URL, an
# emulator takes the place of AWS; steps that it cannot show are not tried.
#
# The installation is removed after the last step, after a failure and after Ctrl-C. The report and
# all output of the commands are in target/prove-report.txt and target/prove-output.txt.
#
# Exit status: 0 if no step differs from what is expected and nothing is left; 1 otherwise; 2 if
# nothing was made; 130 after Ctrl-C.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/lib-verify.sh
. scripts/lib-verify.sh
# shellcheck source=scripts/lib-prove.sh
. scripts/lib-prove.sh

readonly REPOSITORY=$PWD
readonly COPY=$PWD/target/prove REPORT=$PWD/target/prove-report.txt OUTPUT=$PWD/target/prove-output.txt

name=edgetap-prove aws_region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$GLOBAL}}
clean=0 made=0 installed=0 differ=0
declare -A given=() skipped=() verdict=() reason=() shown=()
tried=()

main() {
  read_arguments "$@"
  need_tools aws jq terraform curl gzip tar
  refuse_on_problems
  need_identity "$aws_region"
  if ((clean)); then
    clean_up
    return
  fi
  check_account
  check_distribution
  check_settings
  refuse_on_problems
  show_plan
  confirm_by_name "$name"
  make_copy
  try_steps
  finish
}

read_arguments() {
  while (($#)); do
    case $1 in
      --distribution | --kms-key-arn | --vpc | --arm64-zip | --source-profile | --source-distribution | --source-bucket | --source-topic)
        [[ -n ${2:-} ]] || usage_error "$1 requires a value"
        key=${1#--}
        given[${key//-/_}]=$2
        shift
        ;;
      --skip)
        [[ " $(step_names) " == *" ${2:-} "* && $2 != install && $2 != remove ]] \
          || usage_error '--skip requires a step of --list, and neither install nor remove'
        skipped[$2]=1
        shift
        ;;
      --name)
        [[ ${2:-} =~ ^[a-z][a-z0-9-]{1,23}$ ]] || usage_error '--name requires 2 to 24 lower-case letters, digits and hyphens'
        name=$2
        shift
        ;;
      --region)
        [[ ${2:-} =~ ^[a-z0-9-]+$ ]] || usage_error '--region requires a region, such as us-east-1'
        aws_region=$2
        shift
        ;;
      --list)
        { printf 'step\tminutes\tneeds\texpected\n' && printf '%s\n' "${STEPS[@]}" | tr '|' '\t'; } | table
        exit
        ;;
      --clean) clean=1 ;;
      --yes) yes=1 ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) usage_error "unknown option: $1" ;;
    esac
    shift
  done
  [[ -z ${given[arm64_zip]:-} ]] || (cd "$CALLER_DIRECTORY" && [[ -f ${given[arm64_zip]} ]]) \
    || usage_error "--arm64-zip: the file ${given[arm64_zip]} does not exist"
}

step_names() { printf '%s ' "${STEPS[@]%%|*}"; }

is_emulator() { [[ -n ${AWS_ENDPOINT_URL:-} ]]; }

# --- Before anything is made ---

check_account() {
  ((${#problems[@]} == 0)) || return 0
  if [[ -e $COPY ]]; then
    problem 'an earlier run was not removed: target/prove exists' 'run scripts/prove.sh --clean'
    return
  fi
  must_look "$aws_region" resourcegroupstaggingapi get-resources --tag-filters "Key=$TAG,Values=$name" >"$scratch/response"
  jq '(.ResourceTagMappingList // []) == []' "$scratch/response" | is_true \
    || problem "an installation named $name exists in account $caller_account, $aws_region" 'choose another name with --name'
}

check_distribution() {
  local id=${given[distribution]:-}
  ((${#problems[@]} == 0)) && [[ -n $id ]] || return 0
  must_look "$GLOBAL" cloudfront list-distributions >"$scratch/response"
  if ! jq --arg id "$id" 'any(.DistributionList.Items[]?; .Id == $id and .Enabled)' "$scratch/response" | is_true; then
    problem "account $caller_account has no distribution $id that is enabled in CloudFront"
    return
  fi
  account_id=$caller_account
  name_destination
  must_read_deliveries
  if source_of "$id" | jq -s 'any(.[].deliveries[]; .type == "S3")' | is_true; then
    problem "the distribution $id already delivers its logs to S3, and a second delivery is not possible" 'choose another distribution'
  fi
  distribution_now "$id" >"$scratch/distribution-before"
}

# Everything of a distribution that enabling can change.
distribution_now() {
  must_look "$GLOBAL" cloudfront get-distribution-config --id "$1" | jq -S .DistributionConfig
  must_look "$GLOBAL" cloudfront list-tags-for-resource --resource "arn:aws:cloudfront::$caller_account:distribution/$1" \
    | jq -S '.Tags.Items // [] | sort_by(.Key)'
}

check_settings() {
  need_edgetap
  [[ -f target/lambda/bootstrap.zip ]] || problem 'target/lambda/bootstrap.zip does not exist' 'run scripts/build-lambda.sh'
  bridge=$(setting BRIDGE_EDGE_ENDPOINT)
  if [[ $bridge =~ ^https?://(localhost|127\.|\[::1\]) ]] && ! is_emulator; then
    problem "BRIDGE_EDGE_ENDPOINT is on this machine ($bridge), which the function in AWS cannot reach" 'use the bridge of an installation'
  fi
  # A relative path would lead nowhere from the copy.
  local ca
  ca=$(setting BRIDGE_CA_FILE)
  [[ -z $ca || $ca == /* ]] || export BRIDGE_CA_FILE=$PWD/$ca
  scripts/setup-tfvars.sh --dry-run >/dev/null 2>"$scratch/error" || problem "the settings are not complete: $(why)" 'run scripts/setup-tfvars.sh --dry-run'
}

show_plan() {
  local step minutes needs expected total=0 rows=()
  for step in "${STEPS[@]}"; do
    IFS='|' read -r step minutes needs expected <<<"$step"
    reason[$step]=$(why_not "$step" "$needs")
    if [[ -n ${reason[$step]} ]]; then
      expected="not tried: ${reason[$step]}" minutes=-
    else
      total=$((total + minutes))
    fi
    rows+=("$step"$'\t'"$minutes"$'\t'"$expected")
  done
  say "This makes the installation $name in account $caller_account, $aws_region, and removes it afterwards."
  { printf 'step\tminutes\texpected\n' && printf '%s\n' "${rows[@]}"; } | table
  say "It takes up to $((total / 60)) h $((total % 60)) min, and costs about a dollar at list prices."
  say "It sends transactions, all labeled edgetap-verify, to the bridge ${bridge%%\?*}."
  [[ -n ${reason[recursion]} ]] || say "The step recursion alone sends $LONG_LOG; --skip recursion leaves it out."
  if [[ -n ${given[distribution]:-} ]]; then
    say "It enables the distribution ${given[distribution]} and turns on its cookie logging (CloudFront redeploys it); both are restored."
  fi
}

# why_not STEP NEEDS: prints why the step cannot be tried, or nothing.
why_not() {
  local need
  if [[ -n ${skipped[$1]:-} ]]; then
    echo '--skip'
    return
  fi
  for need in $2; do
    if [[ $need == aws ]]; then
      if is_emulator; then echo 'AWS_ENDPOINT_URL is set: an emulator does not show this' && return; fi
    elif [[ -z ${given[${need//-/_}]:-} ]]; then
      echo "pass --$need" && return
    fi
  done
}

# --- The run ---

# Terraform's environment of the operator, which can lead to another state or installation.
forget_environment() {
  unset TF_WORKSPACE TF_DATA_DIR "${!TF_CLI_ARGS@}"
  unset TF_VAR_name TF_VAR_aws_region TF_VAR_existing_log_sources TF_VAR_existing_sns_topics TF_VAR_alarm_topic_arn
}

# Copies scripts and configuration, but no state, backend, variables or workspace of the operator.
make_copy() {
  if ((dry_run)); then
    variables='{}'
    return
  fi
  forget_environment
  export EDGETAP_BINARY=${edgetap:-}
  [[ $EDGETAP_BINARY != */* ]] || EDGETAP_BINARY=$(cd "$(dirname "$EDGETAP_BINARY")" && pwd)/${EDGETAP_BINARY##*/}
  mkdir -p target
  (umask 077 && mkdir -p "$COPY/target" && : >"$OUTPUT")
  made=1
  trap 'interrupted 130' INT
  trap 'interrupted 143' TERM HUP
  tar --exclude=.terraform --exclude='*.tfvars' --exclude='*.tfvars.json' --exclude='*.tfstate*' --exclude=tests --exclude=examples \
    --exclude='override.tf*' --exclude='*_override.tf*' --exclude='override.tofu*' --exclude='*_override.tofu*' \
    -cf - scripts terraform | tar -C "$COPY" -xf -
  cp -R target/lambda "$COPY/target/lambda"
  [[ ! -f .env ]] || cp -p .env "$COPY/.env"
  cd "$COPY"
  # The only override: it replaces a backend or cloud block of the operator.
  printf 'terraform {\n  backend "local" {}\n}\n' >terraform/zz_prove_override.tf
  set_variables '{}'
}

# set_variables JSON: the Terraform variables of the next apply.
set_variables() {
  variables=$1
  ((dry_run)) || jq -n --arg name "$name" --arg region "$aws_region" --argjson more "$1" '{name: $name, aws_region: $region} + $more' \
    >terraform/prove.auto.tfvars.json
}

try_steps() {
  local step
  for step in "${STEPS[@]%%|*}"; do
    case $step in remove | operator-policy) continue ;; esac
    try "$step"
    # The next step begins with the default variables.
    [[ $variables == '{}' ]] || apply_with '{}' || differ=1
  done
}

# try STEP: runs the function of a step, and records its commands, verdict and what was seen.
try() {
  local step=$1 status=0
  commands=() seen='' untried=''
  if [[ -z ${reason[$step]} && $step != install && $step != remove ]] && ((! installed && ! dry_run)); then reason[$step]='install failed'; fi
  if [[ -n ${reason[$step]} ]]; then
    verdict[$step]='not tried'
    return
  fi
  tried+=("$step")
  say "--- $step"
  ran=''
  "prove_${step//-/_}" || status=$?
  end_progress
  shown[$step]=$(printf '  command:  %s\n' "${commands[@]}")$'\n'"  seen:     ${seen:-nothing that differs}"
  if [[ -n $untried ]]; then
    verdict[$step]='not tried' reason[$step]=$untried
  elif ((status)); then
    verdict[$step]=differs differ=1
  else
    verdict[$step]=proven
  fi
  ((dry_run)) || say "${verdict[$step]}${seen:+: $seen}"
}

# Ends the run in any case: undoes, removes, reports.
finish() {
  trap '' INT TERM HUP
  made=0
  commands=()
  undo_all
  try remove
  try operator-policy
  if ((dry_run)); then
    say 'This was a dry run: nothing was made.'
    return
  fi
  cd "$REPOSITORY"
  if [[ ${verdict[remove]} == proven ]]; then rm -rf "$COPY"; fi
  report | tee "$REPORT"
  say "This report is in ${REPORT#"$PWD"/}, and what the commands printed is in ${OUTPUT#"$PWD"/}."
  if [[ ${verdict[remove]} != proven ]]; then
    error "parts of the installation $name are left"
    hint 'run scripts/prove.sh --clean'
  fi
  return "$differ"
}

report() {
  local step expected word
  printf '\nAccount %s, %s, %s, %s\n\n' "$caller_account" "$aws_region" "$(instant "$(date +%s)")" \
    "$(is_emulator && echo 'an emulator (AWS_ENDPOINT_URL)' || echo AWS)"
  while IFS='|' read -r step _ _ expected; do
    printf '%s: %s%s\n  expected: %s\n' "$step" "${verdict[$step]:-not tried}" "${reason[$step]:+ (${reason[$step]})}" "$expected"
    [[ -z ${shown[$step]:-} ]] || printf '%s\n' "${shown[$step]}"
  done < <(printf '%s\n' "${STEPS[@]}")
  printf '\n'
  for word in proven differs 'not tried'; do
    printf '%s %s\n' "$(printf '%s\n' "${verdict[@]}" | grep -c -x "$word")" "$word"
  done
}

interrupted() {
  end_progress
  note "interrupted; removing the installation $name, which takes some minutes"
  for step in "${STEPS[@]%%|*}"; do [[ -n ${verdict[$step]:-} ]] || reason[$step]=${reason[$step]:-interrupted}; done
  reason[remove]=''
  finish || true
  exit "$1"
}

# Removes the installation if the script ends in any other way.
cleanup() {
  ((made)) || return 0
  finish || true
}

clean_up() {
  refuse_on_problems
  if [[ ! -d $COPY ]]; then
    say 'Nothing to remove: target/prove does not exist.'
    return
  fi
  cd "$COPY"
  forget_environment
  if [[ ! -f $MADE ]]; then
    [[ ! -f terraform/terraform.tfstate ]] || die 'target/prove has a Terraform state, but not the account that it belongs to (made.json)'
    ((dry_run)) || rm -rf "$COPY"
    did 'Removed target/prove: the run had made nothing.'
    return
  fi
  name=$(jq -r .name "$MADE")
  aws_region=$(jq -r .region "$MADE")
  is_same_account || die "$seen"
  confirm_by_name "$name"
  commands=() seen=''
  undo_all
  read_installation || true
  if prove_remove; then
    ((dry_run)) || rm -rf "$COPY"
    did "Removed the installation $name."
    return
  fi
  error "cannot remove the installation $name: $seen"
  hint 'target/prove has its Terraform state; the commands printed are in target/prove-output.txt'
  exit 1
}

main "$@"
