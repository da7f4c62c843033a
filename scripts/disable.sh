#!/usr/bin/env bash
# Disables distributions: CloudFront stops delivering their access logs to edgetap's bucket. Removes
# only what enable.sh created.
#
# Usage: scripts/disable.sh (--distribution ID)… | --all  [--name NAME | --destination-arn ARN] [--yes] [--dry-run]
#        scripts/disable.sh --destroy [--keep-logs] [--yes] [--dry-run]
#
#   --distribution ID   disable this distribution; can be repeated
#   --all               disable every distribution that edgetap enabled
#   --destroy           like --all; then delete everything that Terraform created, including the
#                       bucket and its logs, and search for leftovers. The script asks you to type
#                       the installation's name; only --yes skips this question, TF_AUTO_APPROVE
#                       does not
#   --keep-logs         with --destroy: keep the bucket and the logs in it
#   --name NAME         the installation's name, if Terraform's state is not available
#   --destination-arn ARN
#                       disable distributions of this account that deliver to an installation in
#                       another account (see scripts/enable.sh)
#   --yes               skip confirmation
#   --dry-run           change nothing; show every AWS call that would be made
#
# edgetap recognizes its resources by their tags. The script therefore works from any machine, and
# after an interrupted run of enable.sh or of itself. It turns off cookie logging if enable.sh
# turned it on. It does not change resources that others created.
#
# Exit status: 0 if everything was removed, 1 if something is left (the script lists it), 2 if
# nothing was changed.
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
    account_id=${caller_account:-}
    name_destination
  else
    ((central)) || need_tools terraform
    if ((destroy)); then read_saved_outputs; fi
    need_installation
    ((! destroy)) || need_same_variables
  fi
  refuse_on_problems
  must_read_deliveries
  choose_distributions
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
        need_distribution_id "${2:-}"
        ids+=("$2")
        shift
        ;;
      --all) all=1 ;;
      --destroy) destroy=1 ;;
      --keep-logs) keep_logs=1 ;;
      --name)
        [[ -n ${2:-} ]] || usage_error '--name requires the name of an installation'
        given_name=$2
        shift
        ;;
      --destination-arn)
        destination_arn=${2:-} central=1
        (($# == 1)) || shift
        ;;
      --yes) yes=1 ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) unknown_argument "$1" ;;
    esac
    shift
  done
  ((all + destroy + (${#ids[@]} > 0) == 1)) || usage_error 'pass exactly one of --distribution ID, --all and --destroy'
  ((! keep_logs || destroy)) || usage_error '--keep-logs requires --destroy'
  [[ -z $given_name ]] || ((! destroy)) || usage_error '--name cannot be combined with --destroy, which requires the Terraform state'
  ((! central || ! destroy)) || usage_error '--destination-arn cannot be combined with --destroy, which requires the Terraform state'
  ((! central)) || [[ -z $given_name ]] || usage_error '--destination-arn cannot be combined with --name: the ARN contains the name'
}

# Limits $ids to the distributions where edgetap created a delivery source or a delivery.
choose_distributions() {
  local asked id
  asked=$(jq -n -c '$ARGS.positional' --args "${ids[@]}")
  ((${#ids[@]} == 0)) || refuse_unknown_distributions
  for id in "${ids[@]}"; do
    [[ -n $(own_source "$id") ]] || say "$id: edgetap did not enable this distribution; nothing to remove"
  done
  mapfile -t ids < <(jq -r --argjson asked "$asked" '
    .sources[] | select(.ours or any(.deliveries[]; .ours)) | .distribution
    | select($asked == [] or (. as $id | any($asked[]; . == $id)))' <<<"$model")
}

# Refuses IDs that are neither those of the account's distributions nor have something to remove: a
# distribution can be deleted before its delivery source.
refuse_unknown_distributions() {
  local id
  must_look "$GLOBAL" cloudfront list-distributions >"$scratch/response"
  for id in "${ids[@]}"; do
    jq --arg id "$id" 'any(.DistributionList.Items[]?; .Id == $id)' "$scratch/response" | is_true || [[ -n $(own_source "$id") ]] \
      || problem "account $account_id has no distribution $id, and edgetap has no delivery for it"
  done
  refuse_on_problems
}

own_source() { source_of "$1" | jq -c 'select(.ours or any(.deliveries[]; .ours))'; }

ask_to_disable() {
  if ((${#ids[@]} == 0)) && ! has_idle_destination; then
    refuse_unknown_name
    ((! all)) || say 'Nothing to remove: edgetap has no deliveries in this account.'
    exit 0
  fi
  if ((${#ids[@]})); then
    say "edgetap will no longer receive the logs of: ${ids[*]}"
    confirm 'Continue?'
  fi
}

refuse_unknown_name() {
  local others
  [[ -n $given_name ]] || return 0
  others=$(jq -r '[.sources[] | ., .deliveries[] | .owner // empty] | unique | join(", ")' <<<"$model")
  [[ -n $others && ", $others, " != *", $name, "* ]] || return 0
  error "no installation named $name has deliveries in this account"
  hint "these have: $others"
  exit 2
}

has_idle_destination() { jq --arg name "$name" '.destination.owner == $name' <<<"$model" | is_true; }

# Deletes each delivery last: its tags record what to restore, and an interrupted run must find them
# again.
disable() {
  local id=$1 source arn delivery
  source=$(source_of "$id")
  while IFS= read -r delivery; do
    [[ -n $delivery ]] || continue
    arn=$(jq -r .arn <<<"$delivery")
    restore_cookies "$id" "$arn" || return
    untag_distribution "$id" || return
    gone_or change "$GLOBAL" logs delete-delivery --id "$(jq -r .id <<<"$delivery")" || return
    did "$id: deleted the delivery"
  done < <(jq -c '.deliveries[] | select(.ours)' <<<"$source")
  remove_source "$id" "$source"
}

restore_cookies() {
  local id=$1 before
  look "$GLOBAL" logs list-tags-for-resource --resource-arn "$2" >"$scratch/response" || return
  before=$(jq -r --arg key "$COOKIES_TAG" '.tags[$key] // empty' "$scratch/response")
  [[ $before == false ]] || return 0
  gone_or look "$GLOBAL" cloudfront get-distribution-config --id "$id" >"$scratch/response" || return
  [[ $(jq .DistributionConfig.Logging.IncludeCookies "$scratch/response") == true ]] || return 0
  set_cookie_logging "$id" false || return
  did "$id: turned off cookie logging, as it was before"
}

# Another value is the owner's own.
untag_distribution() {
  local arn
  arn=$(jq -r --arg id "$1" '.sources[] | select(.distribution == $id) | .distribution_arn' <<<"$model")
  gone_or look "$GLOBAL" cloudfront list-tags-for-resource --resource "$arn" >"$scratch/response" || return
  jq --arg key "$COURTESY_TAG" 'any(.Tags.Items[]?; .Key == $key and .Value == "true")' "$scratch/response" | is_true || return 0
  change "$GLOBAL" cloudfront untag-resource --resource "$arn" --tag-keys "{\"Items\":[\"$COURTESY_TAG\"]}" >/dev/null
}

# Deletes the delivery source if edgetap created it and no other delivery uses it.
remove_source() {
  local id=$1 others
  [[ $(jq -r .ours <<<"$2") == true ]] || return 0
  others=$(jq -r '[.deliveries[] | select(.ours | not) | "\(.id) to \(.to)"] | join(", ")' <<<"$2")
  if [[ -n $others ]]; then
    warn "$id: kept the delivery source, because deliveries that edgetap did not create use it: $others"
    return 0
  fi
  gone_or change "$GLOBAL" logs delete-delivery-source --name "$(jq -r .name <<<"$2")" || return
}

# Runs a call; a resource that does not exist is not an error.
gone_or() { "$@" || failed_with 'ResourceNotFoundException|NoSuchDistribution|NoSuchResource|\(404\)'; }

# Deletes the delivery destination if no delivery uses it.
remove_destination() {
  has_idle_destination || return 0
  if ((! dry_run)); then must_read_deliveries; fi
  local users
  users=$(jq -r --arg destination "$destination_arn" --arg removed " ${ids[*]} " --argjson dry_run "$dry_run" '
    [.sources[] | select($dry_run == 0 or (.distribution as $id | $removed | contains(" \($id) ") | not))
      | select(any(.deliveries[]; .destination == $destination)) | .distribution] | join(" ")' <<<"$model")
  if [[ -n $users ]]; then
    ((${#ids[@]} == 0)) || say "Kept the delivery destination, which other distributions use: $users"
  else
    gone_or change "$GLOBAL" logs delete-delivery-destination --name "edgetap-$name" >/dev/null \
      || left+=("the delivery destination edgetap-$name: $(why)")
  fi
}

report() {
  if ((${#left[@]})); then
    plain "$(printf 'left: %s\n' "${left[@]}")"
    exit 1
  fi
  if ((dry_run)); then
    say 'This was a dry run: nothing was changed.'
  elif ((destroy)); then
    say "Nothing tagged or named $name is left in account $account_id$( ((keep_logs)) && printf ', except the bucket %s' "$log_bucket")."
    if ((keep_logs)); then
      say "To use the bucket in a later installation, run $TERRAFORM -chdir=terraform import $bucket_address $log_bucket"
    fi
    show_watched_buckets
    if [[ -e .env || -e terraform/secret.auto.tfvars ]]; then
      say 'The files .env and terraform/secret.auto.tfvars on this machine still contain the credentials.'
    fi
  elif ((${#ids[@]})); then
    say 'Logs that CloudFront has already written can still arrive for several hours.'
  fi
}

main "$@"
