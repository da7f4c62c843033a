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
# shellcheck source=scripts/lib-destroy.sh
. scripts/lib-destroy.sh

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
    if ((destroy)); then need_module_or_its_rest; else need_module; fi
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
    did "$id: delivery removed"
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
  did "$id: cookie logging is off again, as before"
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
    if [[ -e .env || -e terraform/secret.auto.tfvars ]]; then
      say 'On this machine, .env and terraform/secret.auto.tfvars still hold the credentials.'
    fi
  else
    say 'Logs that CloudFront has already written may still arrive for some hours.'
  fi
}

main "$@"
