#!/usr/bin/env bash
# Ends the delivery of logs to edgetap's bucket: removes what enable.sh made, and only that.
#
# Usage: scripts/disable.sh (--distribution ID)… | --all  [--name NAME] [--yes] [--dry-run]
#        scripts/disable.sh --destroy [--keep-logs] [--yes] [--dry-run]
#
#   --distribution ID   this distribution; may be given again
#   --all               every distribution that edgetap taps
#   --destroy           as --all, then everything that Terraform made, the logs in the bucket too; then it looks whether anything
#                       is left. It asks for the module's name: TF_AUTO_APPROVE does not answer that, --yes does
#   --keep-logs         with --destroy: keep the bucket and the logs in it
#   --name NAME         the module's name, where Terraform's state is not at hand
#   --yes               do not ask
#   --dry-run           change nothing; show every AWS call that would be made
#
# What edgetap made is known by its tags, so that this works from any machine, after an enabling that broke off, and again after
# a disabling that did. Cookie logging that enable.sh turned on is turned off again. What others made stays.
#
# Exit status: 0 all is gone, 1 something is left (it is said what), 2 nothing was begun.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# Logs on their way arrive for hours: how often the bucket is emptied before Terraform is asked to delete it.
readonly EMPTYINGS=5
# The index of tags lags behind what was deleted: how often it is asked, with so many seconds in between.
readonly SEARCHES=6 SEARCH_WAIT=${EDGETAP_SEARCH_WAIT:-10}

all=0 destroy=0 keep_logs=0 given_name=''
ids=() left=()

main() {
  read_arguments "$@"
  need_tools aws jq
  if [[ -n $given_name ]]; then
    name=$given_name
    refuse_on_problems
    need_identity "$GLOBAL"
  else
    need_tools terraform
    need_module
  fi
  refuse_on_problems
  must_read_deliveries
  choose_taps
  if ((destroy)); then
    ask_to_destroy
  else
    ask_to_disable
  fi
  local id
  for id in "${ids[@]}"; do
    disable "$id" || left+=("$id: $(why)")
  done
  remove_destination
  if ((destroy)); then destroy_module; fi
  report
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
      --destroy) destroy=1 ;;
      --keep-logs) keep_logs=1 ;;
      --name)
        [[ -n ${2:-} ]] || usage_error '--name wants the name of the module'
        given_name=$2
        shift
        ;;
      --yes) yes=1 ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) usage_error "what is $1?" ;;
    esac
    shift
  done
  ((all + destroy + (${#ids[@]} > 0) == 1)) || usage_error 'one of --distribution ID, --all and --destroy'
  ((! keep_logs || destroy)) || usage_error '--keep-logs goes with --destroy'
  [[ -z $given_name ]] || ((! destroy)) || usage_error '--destroy needs the state of Terraform: --name does not go with it'
}

# Of the distributions asked for, those where anything is edgetap's.
choose_taps() {
  local asked id
  asked=$(jq -n -c '$ARGS.positional' --args "${ids[@]}")
  for id in "${ids[@]}"; do
    [[ -n $(ours "$id") ]] || note "$id: nothing there is of edgetap's making"
  done
  mapfile -t ids < <(jq -r --argjson asked "$asked" --arg name "$name" '
    .taps[] | select(.source_owner == $name or any(.deliveries[]; .owner == $name)) | .distribution
    | select($asked == [] or (. as $id | any($asked[]; . == $id)))' <<<"$model")
}

ours() { tap_of "$1" | jq -c --arg name "$name" 'select(.source_owner == $name or any(.deliveries[]; .owner == $name))'; }

ask_to_disable() {
  if ((${#ids[@]} == 0)) && ! has_idle_destination; then
    say 'There is nothing of edgetap'"'"'s to remove.'
    exit 0
  fi
  if ((${#ids[@]})); then
    say "These are no longer tapped: ${ids[*]}"
    confirm 'Go on?'
  fi
}

has_idle_destination() { jq --arg name "$name" '.destination.owner == $name' <<<"$model" | is_true; }

# First what only the delivery remembers, then the delivery; so that a second run finds it, were this one to break off.
disable() {
  local id=$1 tap arn delivery
  tap=$(tap_of "$id")
  while IFS= read -r delivery; do
    [[ -n $delivery ]] || continue
    arn=$(jq -r .arn <<<"$delivery")
    restore_cookies "$id" "$arn" || return
    untag_distribution "$id" || return
    gone_or change "$GLOBAL" logs delete-delivery --id "$(jq -r .id <<<"$delivery")" || return
    say "$id: delivery removed"
  done < <(jq -c --arg name "$name" '.deliveries[] | select(.owner == $name)' <<<"$tap")
  remove_source "$id" "$tap"
}

restore_cookies() {
  local id=$1 before
  look "$GLOBAL" logs list-tags-for-resource --resource-arn "$2" >"$scratch/answer" || return
  before=$(jq -r --arg key "$COOKIES_TAG" '.tags[$key] // empty' "$scratch/answer")
  [[ $before == false ]] || return 0
  gone_or look "$GLOBAL" cloudfront get-distribution-config --id "$id" >"$scratch/answer" || return
  [[ $(jq .DistributionConfig.Logging.IncludeCookies "$scratch/answer") == true ]] || return 0
  set_cookie_logging "$id" false || return
  say "$id: cookie logging is off again, as before"
}

untag_distribution() {
  local arn
  arn=$(jq -r --arg id "$1" '.taps[] | select(.distribution == $id) | .distribution_arn' <<<"$model")
  gone_or look "$GLOBAL" cloudfront list-tags-for-resource --resource "$arn" >"$scratch/answer" || return
  jq --arg key "$COURTESY_TAG" 'any(.Tags.Items[]?; .Key == $key)' "$scratch/answer" | is_true || return 0
  change "$GLOBAL" cloudfront untag-resource --resource "$arn" --tag-keys "{\"Items\":[\"$COURTESY_TAG\"]}" >/dev/null
}

# Ours only, and only when nobody else delivers from it.
remove_source() {
  local id=$1 others
  [[ $(jq -r .source_owner <<<"$2") == "$name" ]] || return 0
  others=$(jq -r --arg name "$name" '[.deliveries[] | select(.owner != $name) | "\(.id) to \(.to)"] | join(", ")' <<<"$2")
  if [[ -n $others ]]; then
    note "$id: the delivery source is kept, since somebody else delivers from it: $others"
    return 0
  fi
  gone_or change "$GLOBAL" logs delete-delivery-source --name "$(jq -r .source <<<"$2")" || return
}

# What is gone already was removed.
gone_or() { "$@" || failed_with 'ResourceNotFoundException|NoSuchDistribution|NoSuchResource|\(404\)'; }

# Last, and only when nothing is delivered to it any more.
remove_destination() {
  has_idle_destination || return 0
  if ((! dry_run)); then must_read_deliveries; fi
  local users
  users=$(jq -r --arg removed " ${ids[*]} " --argjson dry_run "$dry_run" '
    [.taps[] | select($dry_run == 0 or (.distribution as $id | $removed | contains(" \($id) ") | not))
      | select(any(.deliveries[]; .to_us)) | .distribution] | join(" ")' <<<"$model")
  if [[ -n $users ]]; then
    say "The delivery destination stays: still tapped: $users"
  else
    gone_or change "$GLOBAL" logs delete-delivery-destination --name "edgetap-$name" >/dev/null \
      || left+=("the delivery destination edgetap-$name: $(why)")
  fi
}

# --- Everything ---

ask_to_destroy() {
  local queue
  say "This removes all of the module $name in account $account_id, $aws_region:"
  {
    for queue in "$work_queue_url" "$dead_letter_queue_url"; do
      printf '  %s\t%s\n' "${queue##*/}" "$(queue_depth "$queue")"
    done
    printf '  %s\t%s\n' "$log_bucket" "$( ((keep_logs)) && echo 'is kept, with the logs in it' || echo 'with the logs in it')"
    printf '  deliveries\t%s\n' "${ids[*]:-none}"
  } | table
  say 'What waits in the queues is not delivered any more: scripts/redrive.sh brings dead letters back first.'
  confirm_by_name "$name"
}

queue_depth() {
  if look "$aws_region" sqs get-queue-attributes --queue-url "$1" --attribute-names All >"$scratch/answer"; then
    jq -r '.Attributes | "\(.ApproximateNumberOfMessages) waiting, \(.ApproximateNumberOfMessagesNotVisible) in work or postponed"' "$scratch/answer"
  else
    why
  fi
}

destroy_module() {
  ((${#left[@]} == 0)) || return 0 # a delivery that is left would keep writing into nothing
  local attempt
  if ((keep_logs)); then forget_bucket; fi
  for ((attempt = 1; attempt <= EMPTYINGS; attempt++)); do
    ((keep_logs)) || empty_bucket
    # The region and the name are the provider's; without the operator's variables they would be the defaults.
    if run terraform -chdir=terraform destroy -input=false -auto-approve -var "name=$name" -var "aws_region=$aws_region"; then break; fi
    ((attempt < EMPTYINGS)) && note 'Terraform could not remove all. Logs on their way arrive for hours: emptying the bucket and trying again.'
  done
  if ((attempt > EMPTYINGS)); then
    left+=('what Terraform could not remove (above). Logs may still be arriving: run this again in some hours')
  fi
  ((dry_run)) || search
}

run() {
  if ((dry_run)); then show_command 'would run' "$@"; else "$@"; fi
}

# Terraform no longer knows the bucket and what protects it, so that it leaves them alone.
forget_bucket() {
  local kept
  mapfile -t kept < <(terraform -chdir=terraform state list | grep -E '^aws_s3_bucket[._]' | grep -v '^aws_s3_bucket_notification')
  ((${#kept[@]} == 0)) || run terraform -chdir=terraform state rm "${kept[@]}" || die 'terraform state rm fails'
}

# A thousand at a time: that is what one request deletes. Versions too, should the owner have turned them on.
empty_bucket() {
  local count total=0
  while true; do
    if ! look "$aws_region" s3api list-object-versions --bucket "$log_bucket" --max-items 1000 >"$scratch/answer"; then
      failed_with NoSuchBucket || note "emptying $log_bucket: $(why)"
      return 0
    fi
    jq '{Objects: [(.Versions, .DeleteMarkers)[]? | {Key, VersionId}][:1000], Quiet: true}' "$scratch/answer" >"$scratch/doomed"
    count=$(jq '.Objects | length' "$scratch/doomed")
    ((count)) || break
    change "$aws_region" s3api delete-objects --bucket "$log_bucket" --delete "file://$scratch/doomed" >"$scratch/answer" || {
      note "emptying $log_bucket: $(why)"
      return 0
    }
    ((dry_run)) && return 0
    total=$((total + count))
    if jq 'has("Errors")' "$scratch/answer" | is_true; then
      note "emptying $log_bucket: $(jq -r '.Errors[0] | "\(.Code) for \(.Key)"' "$scratch/answer")"
      return 0
    fi
  done
  if ((total)); then say "$log_bucket: $total objects deleted"; fi
}

# By tag and by name, since the index of tags knows neither every kind of resource nor at once.
search() {
  local attempt found
  for ((attempt = 1; attempt <= SEARCHES; attempt++)); do
    found=$(remains) || die "the search for what is left: $(why)"
    [[ -n $found ]] || break
    ((attempt < SEARCHES)) && sleep "$SEARCH_WAIT"
  done
  [[ -z $found ]] || while IFS= read -r arn; do left+=("$arn"); done <<<"$found"
}

remains() {
  {
    tagged "$aws_region" && { [[ $aws_region == "$GLOBAL" ]] || tagged "$GLOBAL"; } && named
  } >"$scratch/remains" || return
  sort -u "$scratch/remains" | if ((keep_logs)); then grep -v -x -F "arn:aws:s3:::$log_bucket" || true; else cat; fi
}

tagged() {
  look "$1" resourcegroupstaggingapi get-resources --tag-filters "Key=$TAG,Values=$name" >"$scratch/answer" || return
  jq -r '.ResourceTagMappingList[]?.ResourceARN' "$scratch/answer"
}

named() {
  read_deliveries || return
  jq -r --arg name "$name" '.destination.arn // empty, (.taps[] | select(.source_owner == $name) | .source_arn),
    (.taps[].deliveries[] | select(.owner == $name) | .arn)' <<<"$model"
  exists "function $function_name" lambda get-function --function-name "$function_name"
  exists "secret $secret_arn" secretsmanager describe-secret --secret-id "$secret_arn"
  exists "queue $work_queue_url" sqs get-queue-attributes --queue-url "$work_queue_url"
  exists "queue $dead_letter_queue_url" sqs get-queue-attributes --queue-url "$dead_letter_queue_url"
  ((keep_logs)) || exists "arn:aws:s3:::$log_bucket" s3api get-bucket-location --bucket "$log_bucket"
  listed 'log group' "$log_group_name" '.logGroups[]?.logGroupName' logs describe-log-groups --log-group-name-prefix "$log_group_name" \
    && listed alarm "$name-*" '.MetricAlarms[]?.AlarmName' cloudwatch describe-alarms --alarm-name-prefix "$name-" \
    && listed dashboard "$name" '.DashboardEntries[]?.DashboardName' cloudwatch list-dashboards --dashboard-name-prefix "$name" \
    && exists "role $name-function" iam get-role --role-name "$name-function"
}

# exists WHAT SERVICE OPERATION …: says it, unless it is not found.
exists() {
  local what=$1
  shift
  if look "$aws_region" "$@" >/dev/null; then
    printf '%s\n' "$what"
  elif ! failed_with 'NotFound|NoSuch|NonExistentQueue|DoesNotExist'; then
    printf '%s (perhaps: %s)\n' "$what" "$(why)"
  fi
}

# listed WHAT PATTERN FILTER SERVICE OPERATION …: says those of the list whose names are of that pattern.
listed() {
  local what=$1 pattern=$2 filter=$3 found
  shift 3
  look "$aws_region" "$@" >"$scratch/answer" || return
  while IFS= read -r found; do
    # shellcheck disable=SC2053 # a pattern is meant
    if [[ $found == $pattern ]]; then printf '%s %s\n' "$what" "$found"; fi
  done < <(jq -r "$filter" "$scratch/answer")
}

report() {
  if ((${#left[@]})); then
    printf 'left: %s\n' "${left[@]}"
    exit 1
  fi
  if ((dry_run)); then
    say 'This was a dry run: nothing was changed.'
  elif ((destroy)); then
    say "Nothing tagged or named $name is left in account $account_id$( ((keep_logs)) && printf ', but the bucket %s' "$log_bucket")."
    if ((keep_logs)); then
      say "To use it in a later installation: terraform -chdir=terraform import aws_s3_bucket.logs $log_bucket"
    fi
    say 'On this machine, .env and terraform/secret.auto.tfvars still hold the credentials.'
  else
    say 'Logs that CloudFront has already written may still arrive for some hours.'
  fi
}

main "$@"
