#!/usr/bin/env bash
# Sends logs that are in S3 already through a queue of their own, with `edgetap backfill`: fills in
# bucket, prefix, queue, concurrency and the moments of enabling, and checks that the function may
# read the logs.
#
# Usage: scripts/backfill.sh [--source BUCKET[/PREFIX]] [--distribution ID]… [--since TIME]
#                            [--until TIME|enabled] [--enabled-at [ID=]TIME]… [--dry-run]
#                            [--rate N] [--after KEY] [--wait] [--yes] [--json]
#
#   --source BUCKET[/PREFIX]   where the logs are. By default the one bucket of existing_log_sources
#                              or backfill_sources, or edgetap's own bucket without these
#   --distribution ID          send only the logs of this distribution; can be repeated
#   --since TIME               such as 30d or 2026-10-01
#   --until TIME               such as 2026-11-01T12:00:00Z
#   --until enabled            send the logs from before scripts/enable.sh enabled their distribution
#   --enabled-at [ID=]TIME     with --until enabled, for distributions without a recorded moment
#   --dry-run                  send nothing; show what there is, what it takes and costs, and every
#                              AWS call
#
# The other options are passed on; `edgetap backfill --help` explains them.
#
# A dry run needs neither the Terraform variable backfill_concurrency nor backfill_sources. Sending
# needs the first, and for a bucket that edgetap does not read yet the second.
#
# The moment of enabling is that of the delivery, in its tag edgetap-enabled-at. CloudFront can take
# four hours from then until it delivers all logs to edgetap's bucket, so that the end of a backfill
# from another bucket is four hours later. The requests in between may be sent twice, with the same
# transaction IDs; otherwise some would never be sent. For a bucket of existing_log_sources no moment
# is recorded: give a time. If in doubt, later: too late only repeats requests, too early loses some.
#
# Exit status: that of `edgetap backfill`; 1 if a call to AWS failed; 2 if an argument or a
# requirement is invalid and nothing was sent.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# Seconds that CloudFront can take until a new delivery is complete.
readonly DELIVERY_STARTS=14400

source_given='' until=''
ids=() passed=() moments=()
# The --enabled-at that were given: those of a distribution, and the one of all others.
declare -A moment_of=()
moment_of_others=''

main() {
  read_arguments "$@"
  exec 3>&2 # what `edgetap backfill` prints is the output
  need_tools aws jq terraform
  need_edgetap
  need_module
  refuse_on_problems
  choose_source
  refuse_on_problems
  check_queue
  check_permission
  if [[ $until == enabled ]]; then read_moments; fi
  refuse_on_problems
  command=("$edgetap" backfill "s3://$bucket/$prefix")
  if ((backfill_concurrency)); then command+=(--queue "$backfill_queue_url" --concurrency "$backfill_concurrency"); fi
  command+=("${moments[@]}" "${passed[@]}")
  if ((dry_run)); then show_command 'running' "${command[@]}"; fi
  rm -rf "$scratch" # `exec` runs no trap
  AWS_REGION=$aws_region exec "${command[@]}"
}

read_arguments() {
  while (($#)); do
    case $1 in
      --source)
        [[ ${2:-} =~ ^(s3://)?[a-z0-9][a-z0-9.-]+(/.*)?$ ]] || usage_error '--source requires BUCKET or BUCKET/PREFIX'
        source_given=${2#s3://}
        shift
        ;;
      --distribution)
        need_distribution_id "${2:-}"
        ids+=("$2")
        passed+=("$1" "$2")
        shift
        ;;
      --until)
        [[ -n ${2:-} ]] || usage_error '--until requires a time, or the word enabled'
        until=$2
        passed+=("$1" "$2")
        shift
        ;;
      --since | --rate | --after | --look-every)
        [[ -n ${2:-} ]] || usage_error "$1 requires a value"
        passed+=("$1" "$2")
        shift
        ;;
      --enabled-at)
        [[ ${2:-} =~ ^([A-Z0-9]+=)?[0-9] ]] || usage_error '--enabled-at requires TIME or ID=TIME'
        if [[ $2 == *=* ]]; then moment_of[${2%%=*}]=$2; else moment_of_others=$2; fi
        passed+=("$1" "$2")
        shift
        ;;
      --source=* | --distribution=* | --until=* | --since=* | --rate=* | --after=* | --enabled-at=*)
        set -- "${1%%=*}" "${1#*=}" "${@:2}"
        continue
        ;;
      --queue | --queue=* | --concurrency | --concurrency=*)
        usage_error "${1%%=*} is filled in by this script; for another installation, run edgetap backfill"
        ;;
      --dry-run)
        dry_run=1
        passed+=("$1")
        ;;
      --wait | --yes | --json) passed+=("$1") ;;
      -h | --help) print_help ;;
      *) unknown_argument "$1" ;;
    esac
    shift
  done
  [[ $until == enabled || -z ${!moment_of[*]}$moment_of_others ]] || usage_error '--enabled-at requires --until enabled'
}

# --- The source ---

# The buckets and prefixes that Terraform lets the function read, as JSON; edgetap's own come first.
readable() {
  jq -n -c --arg bucket "$log_bucket" --arg prefix "$log_prefix" --arg account "$account_id" --argjson accounts "${source_account_ids:-[]}" \
    --argjson existing "${existing_log_sources:-[]}" --argjson backfill "${backfill_sources:-[]}" --argjson concurrency "$backfill_concurrency" '
    [{$bucket, $prefix, kind: "own"}] + ($accounts | map({$bucket, prefix: "AWSLogs/\(.)/CloudFront/", kind: "own"}))
    + ($existing | map({bucket, prefix: (.prefix // ""), kind: "existing"}))
    + ($backfill | map({bucket, prefix: (.prefix // ""), kind: (if $concurrency > 0 then "backfill" else "unread" end)}))'
}

# Sets bucket and prefix.
choose_source() {
  backfill_concurrency=${backfill_concurrency:-0}
  locations=$(readable)
  local candidates
  if [[ $source_given == */* ]]; then
    bucket=${source_given%%/*} prefix=${source_given#*/}
    return
  fi
  candidates=$(jq -c --arg bucket "$source_given" '
    if $bucket != "" then map(select(.bucket == $bucket)) elif all(.kind == "own") then .[:1] else map(select(.kind != "own")) end
    | map({bucket, prefix}) | unique' <<<"$locations")
  case $(jq length <<<"$candidates") in
    0) bucket=$source_given prefix='' ;;
    1) IFS=$'\t' read -r bucket prefix < <(jq -r '.[0] | [.bucket, .prefix] | @tsv' <<<"$candidates") ;;
    *)
      problem 'there are several places with logs, and --source says which' \
        "$(jq -r --arg own "$log_bucket/$log_prefix" '[.[] | "\(.bucket)/\(.prefix)"] + [$own] | unique | map("pass --source \(.)") | join(", or ")' <<<"$candidates")"
      ;;
  esac
}

check_queue() {
  if ((backfill_concurrency == 0)); then
    local message='the backfill queue does not exist: backfill_concurrency is 0'
    local hint="set backfill_concurrency, such as 5, in terraform/mine.auto.tfvars, and run $TERRAFORM -chdir=terraform apply"
    if ((dry_run)); then note "$message"$'\n'"  hint: $hint"; else problem "$message" "$hint"; fi
    return
  fi
  local state
  state=$(mapping_state "$backfill_event_source_mapping_uuid") || return 0
  is_paused "$state" || return 0
  if [[ " ${passed[*]} " == *' --wait '* ]]; then
    problem 'deliveries from the backfill queue are paused, so that --wait would not end' \
      'run scripts/pause.sh --queue backfill --resume, or leave out --wait'
  else
    note 'deliveries from the backfill queue are paused: messages wait until scripts/pause.sh --queue backfill --resume'
  fi
}

# --- The permission of the function's role ---

# Asks IAM about a key below the prefix. IAM does not know the policy of another account's bucket, so
# only a denial is certain.
check_permission() {
  local decision
  decision=$(AWS_MAX_ATTEMPTS=2 look "$aws_region" iam simulate-principal-policy --policy-source-arn "arn:$caller_partition:iam::$account_id:role/$name-function" \
    --action-names s3:GetObject --resource-arns "arn:$caller_partition:s3:::$bucket/${prefix}a-log.gz" \
    | jq -r '.EvaluationResults[0].EvalDecision // empty') || decision=''
  case $decision in
    allowed) return ;;
    '') note "cannot ask IAM whether the function may read s3://$bucket/$prefix ($(why)); comparing with Terraform's outputs instead" ;;
  esac
  if [[ -z $decision ]] && jq --arg bucket "$bucket" --arg prefix "$prefix" \
    'any(.[]; .kind != "unread" and .bucket == $bucket and (.prefix as $allowed | $prefix | startswith($allowed)))' <<<"$locations" | is_true; then
    return
  fi
  local message="the function may not read s3://$bucket/$prefix"
  local hint="add { bucket = \"$bucket\", prefix = \"$prefix\" } to backfill_sources in terraform/mine.auto.tfvars, and run $TERRAFORM -chdir=terraform apply"
  if ((dry_run)); then note "$message"$'\n'"  hint: $hint"; else problem "$message" "$hint"; fi
}

# --- The moments of enabling ---

# Sets moments: --enabled-at ID=TIME for each distribution that is asked for, or that edgetap enabled.
read_moments() {
  local lacking='' id delivery moment later=$DELIVERY_STARTS
  [[ -z $moment_of_others ]] || return 0
  if jq --arg bucket "$bucket" 'any(.[]; .kind == "existing" and .bucket == $bucket)' <<<"$locations" | is_true; then
    ((${#moment_of[@]} == 0)) || return 0
    problem "nothing records since when the bucket $bucket sends events to edgetap" \
      'pass --until or --enabled-at with the time of scripts/watch-bucket.sh; if in doubt, later'
    return
  fi
  name_destination
  must_read_deliveries
  [[ $bucket != "$log_bucket" ]] || later=0 # each log that is in edgetap's bucket has sent its event
  ((${#ids[@]})) || mapfile -t ids < <(jq -r '.sources[] | select(any(.deliveries[]; .to_edgetap)) | .distribution' <<<"$model")
  for id in "${ids[@]}"; do
    [[ -z ${moment_of[$id]:-} ]] || continue
    delivery=$(source_of "$id" | jq -c 'first(.deliveries[] | select(.to_edgetap)) // empty')
    moment=''
    [[ -z $delivery ]] || moment=$(enabled_at "$delivery") || die "cannot read the tags of the delivery of $id: $(why)"
    moment=$(jq -n -r --arg at "$moment" --argjson later "$later" '$at | fromdate? + $later | todate')
    if [[ -n $moment ]]; then moments+=(--enabled-at "$id=$moment"); else lacking+=" $id"; fi
  done
  [[ -z $lacking ]] || problem "no moment of enabling is recorded for:$lacking" \
    'pass --enabled-at ID=TIME, or --until with a time; scripts/enable.sh records the moment from now on'
  ((${#ids[@]} + ${#moment_of[@]})) || problem 'edgetap has no deliveries in this account, so no moment of enabling is recorded' 'pass --until with a time instead'
}

main "$@"
