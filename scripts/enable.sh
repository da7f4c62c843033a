#!/usr/bin/env bash
# Enables distributions: CloudFront then delivers their access logs to edgetap's bucket (standard
# logging v2).
#
# Usage: scripts/enable.sh (--distribution ID)… | --all  [--include-cookies] [--no-tag] [--yes] [--dry-run]
#        scripts/enable.sh --destination-arn ARN (--distribution ID)… | --all  […]
#
#   --distribution ID   enable this distribution; can be repeated
#   --all               enable every distribution of the account, after a question
#   --destination-arn ARN
#                       deliver to an installation in another account: ARN is its Terraform output
#                       delivery_destination_arn. Run it with the credentials of the distributions'
#                       account; Terraform is not needed
#   --include-cookies   also turn on the distribution's cookie logging. CloudFront has one cookie
#                       setting for all logs of a distribution, so the owner's other logs change
#                       too, and CloudFront redeploys the distribution. scripts/disable.sh turns
#                       cookie logging off again
#   --no-tag            do not tag the distribution edgetap-enabled=true
#   --yes               skip confirmation, except for a Terraform plan that changes more than the log
#                       level
#   --dry-run           change nothing; show every AWS call that would be made
#
# The script can be run again at any time. It leaves finished deliveries as they are, completes a
# run that was interrupted, and updates edgetap's deliveries if their fields or path are outdated.
# It never changes resources that others created: if a distribution's logs already go to another
# bucket, the script leaves them there and shows what to do. Legacy logging is not changed.
#
# If LOG_LEVEL (in the environment of your shell or in .env) or TF_VAR_log_level differs from the
# function's log level, the script first runs scripts/setup-tfvars.sh and plans the change with
# Terraform. It applies a plan that changes only the log level. Any other plan is shown, and applied
# only after you confirm it; --yes does not.
#
# Exit status: 0 if every distribution is enabled; 1 if any is not, a call to AWS failed or you
# declined; 2 if an argument or a requirement is invalid.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

readonly SUFFIX='{DistributionId}/{yyyy}/{MM}/{dd}/{HH}'
# CloudWatch Logs prepends this to the suffix when it creates a delivery, but not when it updates
# one.
readonly PREFIX='AWSLogs/{account-id}/CloudFront/'

all=0 include_cookies=0 no_tag=0
ids=() rows=() findings=() any_enabled=0 destination_is_there=0

main() {
  read_arguments "$@"
  need_tools aws jq
  ((central)) || need_tools terraform
  need_installation
  refuse_on_problems
  read_record_fields
  must_read_deliveries
  read_distributions
  refuse_on_problems
  ask_about_all
  ask_about_cookies
  ((central)) || check_destination
  ((central)) || apply_log_level
  local id status=0
  for id in "${ids[@]}"; do
    enable "$id" || status=1
  done
  report
  exit "$status"
}

read_arguments() {
  while (($#)); do
    case $1 in
      --distribution)
        need_distribution_id "${2:-}"
        ids+=("$2")
        shift
        ;;
      --all) all=1 ;;
      --destination-arn)
        destination_arn=${2:-} central=1
        (($# == 1)) || shift
        ;;
      --include-cookies) include_cookies=1 ;;
      --no-tag) no_tag=1 ;;
      --yes) yes=1 ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) unknown_argument "$1" ;;
    esac
    shift
  done
  ((all == (${#ids[@]} == 0))) || usage_error 'pass either --distribution ID or --all'
}

# Terraform manages the function's log level and would revert a change made any other way.
apply_log_level() {
  local wanted actual
  wanted=$(setting LOG_LEVEL)
  if [[ -z $wanted ]] && grep -q '^log_level' terraform/edgetap.auto.tfvars 2>/dev/null; then
    wanted=info # the setting was removed from .env
  fi
  wanted=${TF_VAR_log_level:-$wanted}
  [[ -n $wanted ]] || return 0
  wanted=${wanted,,}
  must_look "$aws_region" lambda get-function-configuration --function-name "$function_name" >"$scratch/function"
  actual=$(jq -r '.Environment.Variables.LOG_LEVEL // "info"' "$scratch/function")
  [[ $wanted != "$actual" ]] || return 0
  need_same_variables
  refuse_on_problems

  say "LOG_LEVEL is $wanted, but the function's log level is $actual. Planning the change with Terraform."
  if [[ -z ${TF_VAR_log_level:-} ]]; then write_tfvars; fi
  plan_changes
  ((dry_run)) || confirm_plan "$wanted"
  terraform_change apply -input=false "$scratch/plan" || die "$TERRAFORM apply failed"
}

# A second operator's clone has the state, and .env may be another one.
hint_about_files() {
  hint "if this machine lacks the installation's .tfvars files, copy them; or unset LOG_LEVEL (.env) and TF_VAR_log_level to enable without a plan"
}

write_tfvars() {
  if ((dry_run)); then
    show_command 'would run' scripts/setup-tfvars.sh
  elif ! scripts/setup-tfvars.sh; then
    error 'scripts/setup-tfvars.sh failed'
    hint_about_files
    exit 1
  fi
}

# Plans to a file, so that what is applied is what was looked at.
plan_changes() {
  terraform_change plan -no-color -input=false -out="$scratch/plan" >/dev/null 2>"$scratch/error" || {
    cat "$scratch/error" >&2
    error "$TERRAFORM plan failed: $(why)"
    failed_with 'precondition failed' && hint_about_files
    exit 1
  }
  ((dry_run)) || terraform_in show -json "$scratch/plan" >"$scratch/plan.json" || die "$TERRAFORM show failed"
}

# confirm_plan LEVEL: a plan that does more than set the log level is shown and asked about. Neither
# --yes nor TF_AUTO_APPROVE answers, because they were given before anyone saw the plan.
confirm_plan() {
  local arn=arn:$caller_partition:lambda:$aws_region:$account_id:function:$function_name
  # shellcheck disable=SC2016 # jq's variables look like the shell's
  if about_plan --arg function "$arn" --arg level "$1" 'changes_log_level_only($function; $level)' | is_true; then return; fi
  terraform_in show -no-color "$scratch/plan"
  if about_plan 'changes == []' | is_true; then
    error 'Terraform plans no change of the log level: another .tfvars file or the environment sets log_level too'
    hint "set it in one place only; terraform/edgetap.auto.tfvars has that of .env"
    exit 1
  fi
  note 'this plan does not only set the log level; --yes does not confirm it'
  ask 'Apply all of it? [y/N]' "no input available to confirm the plan above"$'\n'"  hint: if all of it is right, run $TERRAFORM -chdir=terraform apply; if not, this machine lacks the installation's .tfvars files or settings"
  [[ ${answer,,} == y || ${answer,,} == yes ]] && return
  say 'Nothing was applied, and no distribution was enabled.'
  [[ -n ${TF_VAR_log_level:-} ]] || say 'scripts/setup-tfvars.sh has written the settings to terraform/, for the next plan.'
  exit 1
}

about_plan() { jq -L scripts "${@:1:$#-1}" 'include "plan"; '"${!#}" "$scratch/plan.json"; }

# Selects the fields of record-fields.txt that CloudFront offers, plus those that CloudFront
# requires.
read_record_fields() {
  local templates
  wanted_fields=$(jq -R -s -c 'split("\n") | map(select(. != "" and (startswith("#") | not)))' scripts/record-fields.txt)
  templates=$(AWS_MAX_ATTEMPTS=2 look "$GLOBAL" logs describe-configuration-templates --service cloudfront \
    --log-types ACCESS_LOGS --delivery-destination-types S3) || true
  allowed_fields=$(jq -c '.configurationTemplates[0].allowedFields // empty' <<<"${templates:-null}")
  if [[ -z $allowed_fields ]]; then
    warn "cannot read CloudFront's list of fields, so scripts/record-fields.txt is used unchecked: $(why)"
    return
  fi
  local plan
  plan=$(jq -c -n --argjson wanted "$wanted_fields" --argjson allowed "$allowed_fields" '
    def has_name($name): any(.[]; ascii_downcase == ($name | ascii_downcase));
    ($allowed | map(.name)) as $names
    | { fields: ([$wanted[] as $field | $names[] | select(ascii_downcase == ($field | ascii_downcase))]
                 + [$allowed[] | select(.mandatory) | .name | select(. as $name | $wanted | has_name($name) | not)]),
        unknown: [$wanted[] | select(. as $name | $names | has_name($name) | not)] }')
  wanted_fields=$(jq -c .fields <<<"$plan")
  jq -r '.unknown[]' <<<"$plan" | while IFS= read -r field; do warn "CloudFront does not offer the field $field; it is not logged"; done
}

read_distributions() {
  must_look "$GLOBAL" cloudfront list-distributions >"$scratch/response"
  jq '.DistributionList.Items // [] | map({ id: .Id, arn: .ARN, domain: (.Aliases.Items[0] // .DomainName),
      kind: (if .Staging then "staging" elif .ConnectionMode == "tenant-only" then "multi-tenant" else null end) }
    | if .kind then .domain += " (\(.kind))" else . end)' "$scratch/response" >"$scratch/distributions"
  if ((all)); then
    mapfile -t ids < <(jq -r '.[].id' "$scratch/distributions")
    ((${#ids[@]})) || problem "account $account_id has no distributions"
  fi
  local id
  for id in "${ids[@]}"; do
    [[ -n $(distribution "$id" arn) ]] || problem "account $account_id has no distribution $id"
  done
}

distribution() { jq -r --arg id "$1" --arg key "$2" '.[] | select(.id == $id) | .[$key]' "$scratch/distributions"; }

ask_about_all() {
  ((all)) || return 0
  local others
  others=$(jq -r 'map(select(.kind)) | group_by(.kind) | map("\(length) \(.[0].kind): \(map(.id) | join(" "))") | join("; ")' "$scratch/distributions")
  confirm "Enable $(count "${#ids[@]}" distribution) of account $account_id${others:+ ($others)}?"
}

ask_about_cookies() {
  ((include_cookies)) || return 0
  local id off=()
  for id in "${ids[@]}"; do
    must_look "$GLOBAL" cloudfront get-distribution-config --id "$id" >"$scratch/response"
    [[ $(jq .DistributionConfig.Logging.IncludeCookies "$scratch/response") == true ]] || off+=("$id")
  done
  ((${#off[@]})) || return 0
  say "Cookie logging is off for: ${off[*]}"
  say 'Turning it on affects all logs of a distribution: legacy logs, and logs that its owner delivers to other buckets.'
  say 'CloudFront redeploys the distribution, which takes several minutes and interrupts nothing.'
  say 'If the owner manages the distribution with code, that code may turn cookie logging off again.'
  confirm 'Turn on cookie logging?'
}

# Checks the delivery destination, if there is one.
check_destination() {
  local found
  found=$(jq -c '.destination // empty' <<<"$model")
  [[ -n $found ]] || return 0
  if [[ $(jq -r .owner <<<"$found") != "$name" ]]; then
    error "the delivery destination edgetap-$name was not created by edgetap: it lacks the tag $TAG=$name"
    hint "delete it, or install edgetap under another name"
    exit 1
  fi
  if [[ $(jq -r '"\(.format) \(.to)"' <<<"$found") != "w3c $log_bucket_arn" ]]; then
    error "the delivery destination edgetap-$name has another bucket or format, and neither can be changed"
    hint 'run scripts/disable.sh --all, then run this script again'
    exit 1
  fi
}

# Creates the delivery destination before the first delivery. If another run creates it at the same
# time, `enable` reads the deliveries again.
ensure_destination() {
  if ((central || destination_is_there)) || jq '.destination != null' <<<"$model" | is_true; then return; fi
  change "$GLOBAL" logs put-delivery-destination --name "edgetap-$name" --output-format w3c \
    --delivery-destination-configuration "{\"destinationResourceArn\":\"$log_bucket_arn\"}" --tags "{\"$TAG\":\"$name\"}" >/dev/null || return
  destination_is_there=1
}

# Enables one distribution. A conflict means that another process created a resource first, or that
# the logs go to another bucket: the deliveries, read again, show which.
enable() {
  local id=$1 result=unchanged reported=0
  enable_once "$id" && return
  if ((! reported)) && failed_with ConflictException && ! failed_with 'being updated'; then
    must_read_deliveries
    ((central)) || check_destination
    enable_once "$id" && return
  fi
  ((reported)) || finding "$id" FAILED "$(why)$(hint_about_failure)"
  return 1
}

enable_once() {
  local id=$1 source source_name delivery
  source=$(source_of "$id")
  if reads_existing_logs "$id" "$source"; then return "$reported"; fi
  delivery=$(jq -c 'first(.deliveries[] | select(.to_edgetap)) // empty' <<<"$source")
  if [[ -z $delivery ]]; then
    if reads_legacy_logs "$id"; then return "$reported"; fi
    if goes_elsewhere "$id"; then return 1; fi
  fi
  source_name=$(jq -r '.name // empty' <<<"$source")
  if [[ -z $source_name ]]; then
    source_name=edgetap-$name-$id
    change "$GLOBAL" logs put-delivery-source --name "$source_name" --resource-arn "$(distribution "$id" arn)" --log-type ACCESS_LOGS \
      --tags "{\"$TAG\":\"$name\"}" >/dev/null || return
    result=enabled
  fi
  if [[ -z $delivery ]]; then
    ensure_destination || return
    make_delivery "$source_name" || return
  elif [[ $(jq -r .ours <<<"$delivery") == true ]]; then
    update_delivery "$delivery" || return
    record_moment "$delivery" || return
  elif [[ $(jq -r .unread <<<"$delivery") != null ]]; then
    finding "$id" 'NOT READ' "$(jq -r '"the delivery \(.id) goes to edgetap\u0027s bucket, but edgetap does not read it: \(.unread)."' <<<"$delivery")
  hint: ask the delivery's owner to change it, or to delete it, then run scripts/enable.sh --distribution $id again"
    return 1
  else
    row "$id" "unchanged: delivers to edgetap's bucket, but was not enabled by this script (no tag $TAG=$name)"
    find_unsafe_delimiter "$id" "$delivery"
    return
  fi
  any_enabled=1
  tag_distribution "$id" || return
  if ! log_cookies "$id" "$(jq -r .arn <<<"$delivery")"; then
    finding "$id" "$(planned), without cookies" "the logs are delivered, but cookie logging was not turned on: $(why)"
    return 1
  fi
  row "$id" "$(planned)"
}

# The result, as a dry run says it.
planned() { if ((dry_run)) && [[ $result != unchanged ]]; then say "would be $result"; else say "$result"; fi; }

# CloudWatch Logs prepends PREFIX to this suffix.
make_delivery() {
  local response tags
  tags=$(jq -n -c --arg tag "$TAG" --arg name "$name" --arg moment "$ENABLED_AT_TAG" '{($tag): $name, ($moment): (now | todate)}')
  response=$(change "$GLOBAL" logs create-delivery --delivery-source-name "$1" --delivery-destination-arn "$destination_arn" \
    --record-fields "$wanted_fields" --s3-delivery-configuration "$(s3_configuration "$SUFFIX")" --tags "$tags") || return
  delivery=$(jq -c '.delivery // empty' <<<"$response")
  ((dry_run)) && delivery='{"arn":"the-new-delivery"}'
  result=enabled
}

# Records the moment in a delivery of an earlier version, which has none. A moment that is too late
# lets a backfill send logs twice; one that is too early would leave logs out.
record_moment() {
  local at
  at=$(enabled_at "$1") || return
  [[ -z $at ]] || return 0
  change "$GLOBAL" logs tag-resource --resource-arn "$(jq -r .arn <<<"$1")" \
    --tags "$(jq -n -c --arg moment "$ENABLED_AT_TAG" '{($moment): (now | todate)}')" >/dev/null
}

s3_configuration() { jq -n -c --arg suffix "$1" '{suffixPath: $suffix, enableHiveCompatiblePath: false}'; }

# An update replaces the whole path, so it must include PREFIX: the bucket's policy and notification
# cover only that prefix. has_path accepts a path without PREFIX if the field list could not be
# read: how CloudWatch Logs stores paths is then uncertain.
update_delivery() {
  local arguments=() delimiter
  if [[ $(jq -c .fields <<<"$1") != "$wanted_fields" ]]; then arguments+=(--record-fields "$wanted_fields"); fi
  delimiter=$(jq -r '.delimiter // ""' <<<"$1")
  if [[ -n $delimiter && $delimiter != $'\t' && $delimiter != '\t' ]]; then arguments+=(--field-delimiter $'\t'); fi
  if ! has_path "$1"; then arguments+=(--s3-delivery-configuration "$(s3_configuration "$PREFIX$SUFFIX")"); fi
  ((${#arguments[@]})) || return 0
  change "$GLOBAL" logs update-delivery-configuration --id "$(jq -r .id <<<"$1")" "${arguments[@]}" >/dev/null || return
  result=updated
}

has_path() {
  jq --arg full "$PREFIX$SUFFIX" --arg bare "$SUFFIX" --arg strict "$allowed_fields" '
    (.suffix // "" | ltrimstr("/")) as $path | (.hive | not) and ($path == $full or ($strict == "" and $path == $bare))' <<<"$1" | is_true
}

# Records the previous setting in a tag before changing it. If CloudFront refuses the change, the tag
# goes, so that disabling does not turn off what the owner turns on later.
log_cookies() {
  local id=$1 delivery_arn=$2
  ((include_cookies)) || return 0
  look "$GLOBAL" cloudfront get-distribution-config --id "$id" >"$scratch/response" || return
  [[ $(jq .DistributionConfig.Logging.IncludeCookies "$scratch/response") != true ]] || return 0
  change "$GLOBAL" logs tag-resource --resource-arn "$delivery_arn" --tags "{\"$COOKIES_TAG\":\"false\"}" >/dev/null || return
  if ! set_cookie_logging "$id" true; then
    cp "$scratch/error" "$scratch/refusal"
    change "$GLOBAL" logs untag-resource --resource-arn "$delivery_arn" --tag-keys "$COOKIES_TAG" >/dev/null || true
    cp "$scratch/refusal" "$scratch/error"
    return 1
  fi
  [[ $result == enabled ]] || result=updated
}

tag_distribution() {
  ((no_tag)) && return
  local arn
  arn=$(distribution "$1" arn)
  look "$GLOBAL" cloudfront list-tags-for-resource --resource "$arn" >"$scratch/response" || return
  jq --arg key "$COURTESY_TAG" 'any(.Tags.Items[]?; .Key == $key)' "$scratch/response" | is_true && return
  change "$GLOBAL" cloudfront tag-resource --resource "$arn" --tags "{\"Items\":[{\"Key\":\"$COURTESY_TAG\",\"Value\":\"true\"}]}" >/dev/null || return
  [[ $result == enabled ]] || result=updated
}

# Whether edgetap already reads the distribution's logs from another bucket. A second delivery would
# send every request twice.
reads_existing_logs() {
  local id=$1 delivery bucket
  delivery=$(jq -c 'first(.deliveries[]? | select(.read_from)) // empty' <<<"${2:-null}")
  [[ -n $delivery ]] || return
  bucket=$(jq -r .bucket <<<"$delivery")
  external_row "$id" "$bucket" "read from $bucket (existing_log_sources)"
  find_unsafe_delimiter "$id" "$delivery"
}

reads_legacy_logs() {
  local bucket
  [[ ${existing_log_sources:-[]} != '[]' ]] || return
  must_look "$GLOBAL" cloudfront get-distribution-config --id "$1" >"$scratch/response"
  bucket=$(legacy_source "$1" "$scratch/response" | jq -r '.bucket // empty')
  [[ -n $bucket ]] || return
  external_row "$1" "$bucket" "legacy logs are read from $bucket (existing_log_sources)"
}

# external_row ID BUCKET RESULT: the result, unless the bucket's logs cannot arrive.
external_row() {
  local lacking
  read_events "$2"
  lacking=$(about_events "$2")
  if [[ ${events_of[$2]} == off ]]; then
    finding "$1" 'NOT READ' "$lacking"
  else
    row "$1" "unchanged: $3"
    [[ -z $lacking ]] || findings+=("$1: $lacking")
  fi
}

# Adds a finding if a viewer can write the delimiter of a delivery into a value.
find_unsafe_delimiter() {
  local delimiter
  delimiter=$(jq -r '.unsafe_delimiter // empty' <<<"$2")
  [[ -z $delimiter ]] || findings+=("$1: a value can contain the field delimiter $delimiter. edgetap cannot read such rows, and sends them to the dead-letter queue."$'\n'"  hint: ask the delivery's owner to set its field delimiter to a tab")
}

# Whether the logs go to another bucket and not to edgetap's. CloudWatch Logs rejects a second
# delivery to S3. Adds a finding with the other delivery, whose it is and what to do.
goes_elsewhere() {
  local id=$1 theirs bucket
  theirs=$(source_of "$id" | jq -c 'select(any(.deliveries[]; .to_edgetap) | not) | . as $source
    | first(.deliveries[] | select(.type == "S3")) // empty | .source = $source.name')
  [[ -n $theirs ]] || return
  bucket=$(jq -r .bucket <<<"$theirs")
  finding "$id" 'NOT ENABLED' "$(jq -r --argjson existing "${existing_log_sources:-[]}" '
    (.tags | to_entries | map("\(.key)=\(.value)") | join(", ")) as $tags
    | "the logs already go to \(.to) (format \(.format // "unknown"), delivery \(.id) of the delivery source \(.source)"
      + (if .owner then ", created by the edgetap installation \(.owner)"
         elif .source | startswith("CreatedByCloudFront") then ", created in the CloudFront console" else "" end)
      + (if $tags != "" then ", tags \($tags)" else "" end)
      + "). CloudWatch Logs allows one delivery to S3 per distribution. The existing delivery was not changed."
      + (.bucket as $bucket | [$existing[] | select(.bucket == $bucket) | .prefix] | join(" and ")
         | if . != "" then " edgetap reads that bucket below \(.) only." else "" end)' <<<"$theirs")
$(ways_out "$id" "$theirs" "$bucket")"
}

# ways_out ID DELIVERY BUCKET: what can be done about a delivery to another bucket, as hints.
ways_out() {
  local owner
  owner=$(jq -r '.owner // empty' <<<"$2")
  if [[ -n $owner ]]; then
    printf '  hint: to move the logs, run scripts/disable.sh of that installation first\n'
    return
  fi
  if [[ -z $3 ]]; then
    printf '  hint: the destination belongs to account %s; ask its owner for the bucket and the format\n' "$(jq -r '.destination | split(":")[4]' <<<"$2")"
  elif ! jq '.format | IN("w3c", "json", "parquet")' <<<"$2" | is_true; then
    printf '  hint: edgetap reads the formats w3c, json and parquet; ask the owner whether the format can be changed\n'
  elif jq '(.lacks // []) != []' <<<"$2" | is_true; then
    jq -r '"  hint: the delivery does not log \(.lacks | join(", ")), which edgetap needs; ask the owner to add the fields of scripts/record-fields.txt"' <<<"$2"
  elif ((central)); then
    printf '  hint: to read the logs from that bucket, install edgetap in its account, with existing_log_sources\n'
  elif bucket_is_foreign "$3"; then
    printf '  hint: %s belongs to another account, so watch-bucket.sh cannot turn on its events\n' "$3"
    foreign_bucket_ways
  else
    jq -r --arg terraform "$TERRAFORM" '"  hint: to read the logs from that bucket, add { bucket = \"\(.bucket)\", prefix = \"\(.key_prefix)\" } to the\n"
      + "  Terraform variable existing_log_sources, run \($terraform) -chdir=terraform apply, then scripts/watch-bucket.sh \(.bucket)"' <<<"$2"
  fi
  printf '  hint: or turn on legacy standard logging beside it, to a bucket with ACLs, and read that one (docs/operations.md)\n'
  printf '  hint: or ask the owner to delete the delivery, then run scripts/enable.sh %s--distribution %s again\n' "$(same_installation)" "$1"
}

hint_about_failure() {
  if failed_with AllowVendedLogDeliveryForResource; then
    printf '\n  hint: your identity needs the permission cloudfront:AllowVendedLogDeliveryForResource (%s)' \
      "terraform/operator-policy$( ((central)) && printf -- -distributions).json"
  elif ((central)) && failed_with 'CreateDelivery operation'; then
    printf '\n  hint: account %s must be in source_account_ids of the installation %s in account %s, and applied there' \
      "$account_id" "$name" "$installation_account"
  elif failed_with 'being updated'; then
    printf '\n  hint: another change is in progress; run this script again in a minute'
  fi
}

row() { rows+=("$1"$'\t'"$(distribution "$1" domain)"$'\t'"$2"); }

finding() {
  reported=1
  row "$1" "$2"
  findings+=("$1: $3")
}

report() {
  { printf 'distribution\tdomain\tresult\n' && printf '%s\n' "${rows[@]}"; } | table
  if ((${#findings[@]})); then plain "$(printf '\n%s\n' "${findings[@]}")"; fi
  if ((dry_run)); then
    printf '\nThis was a dry run: nothing was changed.\n'
  elif ((any_enabled)); then
    printf '\nCloudFront can take up to four hours to start delivering logs. To test the path from the bucket to the bridge now, run scripts/verify.sh%s.\n' \
      "$( ((central)) && printf ' with the credentials of account %s' "$installation_account")"
  fi
}

main "$@"
