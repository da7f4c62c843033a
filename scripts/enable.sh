#!/usr/bin/env bash
# Lets CloudFront deliver the access logs of distributions to edgetap's bucket (standard logging v2).
#
# Usage: scripts/enable.sh (--distribution ID)… | --all  [--include-cookies] [--no-tag] [--yes] [--dry-run]
#
#   --distribution ID   this distribution; may be given again
#   --all               every distribution of the account
#   --include-cookies   turn on the distribution's cookie logging too. It is one setting for all its logs, the owner's others
#                       among them, and changing it deploys the distribution anew. scripts/disable.sh turns it off again
#   --no-tag            do not tag the distribution edgetap-enabled=true
#   --yes               do not ask
#   --dry-run           change nothing; show every AWS call that would be made
#
# Run it as often as you like: what is there already is left as it is, what was left half-done is completed, and a delivery of
# edgetap's whose fields or path are not today's is brought up to date. What others made is never changed: a distribution whose
# logs already go to another bucket keeps them there, and you are told what to do. Legacy logging is not touched.
#
# Where LOG_LEVEL in .env is not what the function runs at, that is applied first (terraform apply, which asks).
#
# Exit status: 0 every distribution is tapped, 1 some is not, 2 nothing was begun.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

readonly SUFFIX='{DistributionId}/{yyyy}/{MM}/{dd}/{HH}'
# What CloudWatch Logs puts before a suffix when it makes a delivery, and not when it updates one.
readonly PREFIX='AWSLogs/{account-id}/CloudFront/'

all=0 include_cookies=0 no_tag=0
ids=() rows=() findings=() tapped=0

main() {
  read_arguments "$@"
  need_tools aws jq terraform
  need_module
  refuse_on_problems
  apply_log_level
  read_record_fields
  must_read_deliveries
  read_distributions
  refuse_on_problems
  ask_about_cookies
  ensure_destination
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
        [[ ${2:-} =~ ^[A-Z0-9]+$ ]] || usage_error '--distribution wants the ID of a distribution, such as E27FO14I29XXXX'
        ids+=("$2")
        shift
        ;;
      --all) all=1 ;;
      --include-cookies) include_cookies=1 ;;
      --no-tag) no_tag=1 ;;
      --yes) yes=1 ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) usage_error "what is $1?" ;;
    esac
    shift
  done
  ((all == (${#ids[@]} == 0))) || usage_error 'either --distribution ID, or --all'
}

# Terraform shows what it would change and asks. The function's level is Terraform's: changed elsewhere, it would change back.
apply_log_level() {
  local wanted actual
  wanted=$(setting LOG_LEVEL)
  if [[ -z $wanted ]] && grep -q '^log_level' terraform/edgetap.auto.tfvars 2>/dev/null; then
    wanted=info # it was set before, and is no more
  fi
  wanted=${TF_VAR_log_level:-$wanted}
  [[ -n $wanted ]] || return 0
  must_look "$aws_region" lambda get-function-configuration --function-name "$function_name" >"$scratch/function"
  actual=$(jq -r '.Environment.Variables.LOG_LEVEL // "info"' "$scratch/function")
  [[ ${wanted,,} != "$actual" ]] || return 0

  say "LOG_LEVEL is ${wanted,,}, and the function runs at $actual: applying the change."
  local approve=()
  if ((yes)) || auto_approved; then approve=(-input=false -auto-approve); fi
  run scripts/setup-tfvars.sh
  run terraform -chdir=terraform apply "${approve[@]}"
}

run() {
  if ((dry_run)); then show_command 'would run' "$@"; else "$@" || die "$1 fails"; fi
}

# The fields we want and CloudFront has; those CloudFront insists on are never left out.
read_record_fields() {
  local templates
  wanted_fields=$(jq -R -s -c 'split("\n") | map(select(. != "" and (startswith("#") | not)))' scripts/record-fields.txt)
  templates=$(AWS_MAX_ATTEMPTS=2 look "$GLOBAL" logs describe-configuration-templates --service cloudfront \
    --log-types ACCESS_LOGS --delivery-destination-types S3) || true
  allowed_fields=$(jq -c '.configurationTemplates[0].allowedFields // empty' <<<"${templates:-null}")
  if [[ -z $allowed_fields ]]; then
    note "CloudFront's list of fields cannot be read, so that of scripts/record-fields.txt goes unchecked: $(why)"
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
  jq -r '.unknown[]' <<<"$plan" | while IFS= read -r field; do note "CloudFront does not offer the field $field: left out"; done
}

read_distributions() {
  must_look "$GLOBAL" cloudfront list-distributions >"$scratch/answer"
  jq '.DistributionList.Items // [] | map({id: .Id, arn: .ARN, domain: (.Aliases.Items[0] // .DomainName)})' "$scratch/answer" \
    >"$scratch/distributions"
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

ask_about_cookies() {
  ((include_cookies)) || return 0
  local id off=()
  for id in "${ids[@]}"; do
    must_look "$GLOBAL" cloudfront get-distribution-config --id "$id" >"$scratch/answer"
    [[ $(jq .DistributionConfig.Logging.IncludeCookies "$scratch/answer") == true ]] || off+=("$id")
  done
  ((${#off[@]})) || return 0
  say "Cookie logging is off at: ${off[*]}"
  say 'Turning it on affects every log of the distribution, the legacy one and those that its owner sends elsewhere, and deploys'
  say 'the distribution anew (some minutes, without interruption). Where the owner keeps it in code, that code may turn it off again.'
  confirm 'Turn it on?'
}

ensure_destination() {
  destination_arn=${log_bucket_arn%%:s3:*}:logs:$GLOBAL:$account_id:delivery-destination:edgetap-$name
  local found
  found=$(jq -c '.destination // empty' <<<"$model")
  if [[ -z $found ]]; then
    make_destination && return
    failed_with ConflictException || die "the delivery destination edgetap-$name: $(why)"
    must_read_deliveries # somebody else made it just now
    found=$(jq -c '.destination // empty' <<<"$model")
  fi
  if [[ $(jq -r .owner <<<"$found") != "$name" ]]; then
    die "there is a delivery destination edgetap-$name that edgetap did not make (it has no tag $TAG=$name): rename or delete it"
  fi
  if [[ $(jq -r '"\(.format) \(.to)"' <<<"$found") != "w3c $log_bucket_arn" ]]; then
    die "the delivery destination edgetap-$name is of another bucket or format, and neither can be changed:" \
      'scripts/disable.sh --all, then this again'
  fi
}

make_destination() {
  change "$GLOBAL" logs put-delivery-destination --name "edgetap-$name" --output-format w3c \
    --delivery-destination-configuration "{\"destinationResourceArn\":\"$log_bucket_arn\"}" --tags "{\"$TAG\":\"$name\"}" >/dev/null
}

# One distribution. A conflict means that somebody else was faster, or that its logs go elsewhere: what is there then tells.
enable() {
  local id=$1 result=unchanged
  enable_once "$id" && return
  if failed_with ConflictException && ! failed_with 'being updated'; then
    cp "$scratch/error" "$scratch/conflict"
    must_read_deliveries
    if goes_elsewhere "$id"; then return 1; fi
    cp "$scratch/conflict" "$scratch/error"
    enable_once "$id" && return
  fi
  finding "$id" FAILED "$(why)$(hint)"
  return 1
}

enable_once() {
  local id=$1 tap source_name delivery
  tap=$(tap_of "$id")
  if reads_existing_logs "$id" "$tap"; then return; fi
  source_name=$(jq -r '.source // empty' <<<"$tap")
  if [[ -z $source_name ]]; then
    source_name=edgetap-$name-$id
    change "$GLOBAL" logs put-delivery-source --name "$source_name" --resource-arn "$(distribution "$id" arn)" --log-type ACCESS_LOGS \
      --tags "{\"$TAG\":\"$name\"}" >/dev/null || return
    result=enabled
  fi
  delivery=$(jq -c 'first(.deliveries[] | select(.to_us)) // empty' <<<"$tap")
  if [[ -z $delivery ]]; then
    make_delivery "$source_name" || return
  elif [[ $(jq -r .owner <<<"$delivery") == "$name" ]]; then
    update_delivery "$delivery" || return
  else
    row "$id" "delivers to our bucket, but not by edgetap (no tag $TAG=$name): left as it is"
    return
  fi
  log_cookies "$id" "$(jq -r .arn <<<"$delivery")" || return
  tag_distribution "$id" || return
  row "$id" "$result"
  tapped=1
}

# CloudWatch Logs puts PREFIX before this suffix by itself.
make_delivery() {
  local answer
  answer=$(change "$GLOBAL" logs create-delivery --delivery-source-name "$1" --delivery-destination-arn "$destination_arn" \
    --record-fields "$wanted_fields" --s3-delivery-configuration "$(s3_configuration "$SUFFIX")" --tags "{\"$TAG\":\"$name\"}") || return
  delivery=$(jq -c '.delivery // empty' <<<"$answer")
  ((dry_run)) && delivery='{"arn":"the-new-delivery"}'
  result=enabled
}

s3_configuration() { jq -n -c --arg suffix "$1" '{suffixPath: $suffix, enableHiveCompatiblePath: false}'; }

# An update replaces the whole path, so here the prefix must be given: without it the logs would leave the folder that the
# bucket's policy and notification are about. Only where templates are known is it certain how a path is kept.
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

# What it was is written down before it is changed.
log_cookies() {
  local id=$1 delivery_arn=$2
  ((include_cookies)) || return 0
  look "$GLOBAL" cloudfront get-distribution-config --id "$id" >"$scratch/answer" || return
  [[ $(jq .DistributionConfig.Logging.IncludeCookies "$scratch/answer") != true ]] || return 0
  change "$GLOBAL" logs tag-resource --resource-arn "$delivery_arn" --tags "{\"$COOKIES_TAG\":\"false\"}" >/dev/null || return
  set_cookie_logging "$id" true || return
  [[ $result == enabled ]] || result=updated
}

tag_distribution() {
  ((no_tag)) && return
  local arn
  arn=$(distribution "$1" arn)
  look "$GLOBAL" cloudfront list-tags-for-resource --resource "$arn" >"$scratch/answer" || return
  jq --arg key "$COURTESY_TAG" 'any(.Tags.Items[]?; .Key == $key)' "$scratch/answer" | is_true && return
  change "$GLOBAL" cloudfront tag-resource --resource "$arn" --tags "{\"Items\":[{\"Key\":\"$COURTESY_TAG\",\"Value\":\"true\"}]}" >/dev/null || return
  [[ $result == enabled ]] || result=updated
}

# Whether its logs already reach edgetap where they are: then a second delivery would bring every request twice.
reads_existing_logs() {
  local id=$1 bucket
  bucket=$(jq -r --argjson existing "${existing_log_sources:-[]}" '
    first(.deliveries[]? | select(.type == "S3" and (.to_us | not)) | .to | split(":::")[1] // "" | split("/")[0]
      | select(. as $bucket | any($existing[]; .bucket == $bucket))) // empty' <<<"${2:-null}")
  [[ -n $bucket ]] && row "$id" "read from $bucket (existing_log_sources)"
}

# Whether it delivers to another bucket, and not to ours: CloudWatch Logs refused a second one. What that is, and what to do.
goes_elsewhere() {
  local id=$1 theirs
  theirs=$(tap_of "$id" | jq -c 'select(any(.deliveries[]; .to_us) | not) | first(.deliveries[] | select(.type == "S3")) // empty')
  [[ -n $theirs ]] || return
  finding "$id" 'NOT ENABLED' "$(jq -r --arg account "$account_id" --arg name "$name" '
    (.to | split(":::")[1] // "") as $place | ($place | split("/")[0]) as $bucket
    | (($place | split("/")[1:] | join("/")) as $prefix | if $prefix == "" then "AWSLogs/\($account)/CloudFront/" else $prefix + "/" end) as $prefix
    | "its logs already go to \(.to) (delivery \(.id), format \(.format // "unknown")"
      + (if .owner then ", made by the edgetap module \(.owner)" else "" end)
      + "), and CloudWatch Logs keeps one delivery to S3 for each distribution. It is left exactly as it is.\n  "
      + (if .owner then "To move it: scripts/disable.sh of that module."
         elif $bucket == "" then "The destination is another account'"'"'s: ask its owner."
         elif .format == "w3c" then
           "To read those logs where they are: add { bucket = \"\($bucket)\", prefix = \"\($prefix)\" } to existing_log_sources,\n"
           + "  terraform -chdir=terraform apply, then scripts/watch-bucket.sh \($bucket)"
         else "edgetap reads the format w3c only: ask its owner whether the format can change." end)' <<<"$theirs")"
}

hint() {
  if failed_with AllowVendedLogDeliveryForResource; then
    printf '\n  Your identity needs the permission cloudfront:AllowVendedLogDeliveryForResource (terraform/operator-policy.json).'
  elif failed_with 'being updated'; then
    printf '\n  Another change is going on: run this again in a minute.'
  fi
}

row() { rows+=("$1"$'\t'"$(distribution "$1" domain)"$'\t'"$2"); }

finding() {
  row "$1" "$2"
  findings+=("$1: $3")
}

report() {
  { printf 'distribution\tdomain\tresult\n' && printf '%s\n' "${rows[@]}"; } | table
  if ((${#findings[@]})); then printf '\n%s\n' "${findings[@]}"; fi
  if ((dry_run)); then
    printf '\nThis was a dry run: nothing was changed.\n'
  elif ((tapped)); then
    printf '\nCloudFront may take up to four hours until it delivers reliably. scripts/verify.sh proves the rest of the path now.\n'
  fi
}

main "$@"
