#!/usr/bin/env bash
# Shows what is tapped and what comes of it: a line for each distribution, and how much waits in the queues.
#
# Usage: scripts/status.sh [--distribution ID]… [--hours N] [--json] [--dry-run]
#
#   --distribution ID   only this one; may be given again
#   --hours N           how far to look back for logs and for the function's lines (default 24)
#   --json              the same for programs
#   --dry-run           show every AWS call too; none changes anything
#
#   tapped        yes; no; elsewhere (its logs go to another bucket); there (they are read from another bucket)
#   fields        how many of scripts/record-fields.txt are logged
#   cookies       whether the distribution logs them; and whether edgetap turned that on
#   last object   the youngest log in the bucket, by the hour in its path
#   last success  the function's last line about a log that was delivered whole
#
# Exit status: 0 shown, 1 something could not be read, 2 nothing was begun.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

hours=24 json=0
ids=()

main() {
  read_arguments "$@"
  if ((json)); then exec 3>&2; fi # calls are shown beside the JSON, not in it
  need_tools aws jq terraform
  need_module
  refuse_on_problems
  must_read_deliveries
  read_distributions
  read_successes
  local id
  for id in "${ids[@]}"; do describe_distribution "$id"; done >"$scratch/rows"
  jq -s --argjson queues "$(describe_queues)" --arg name "$name" --arg region "$aws_region" --arg account "$account_id" \
    --arg bucket "$log_bucket" \
    '{module: {name: $name, region: $region, account: $account, bucket: $bucket}, distributions: ., queues: $queues}' \
    "$scratch/rows" >"$scratch/status"
  if ((json)); then cat "$scratch/status"; else show_status; fi
}

read_arguments() {
  while (($#)); do
    case $1 in
      --distribution)
        [[ ${2:-} =~ ^[A-Z0-9]+$ ]] || usage_error '--distribution wants the ID of a distribution, such as E27FO14I29XXXX'
        ids+=("$2")
        shift
        ;;
      --hours)
        [[ ${2:-} =~ ^[1-9][0-9]{0,3}$ ]] || usage_error '--hours wants a number from 1 to 9999'
        hours=$2
        shift
        ;;
      --json) json=1 ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) usage_error "what is $1?" ;;
    esac
    shift
  done
}

read_distributions() {
  must_look "$GLOBAL" cloudfront list-distributions >"$scratch/answer"
  jq '.DistributionList.Items // []' "$scratch/answer" >"$scratch/distributions"
  ((${#ids[@]})) || mapfile -t ids < <(jq -r '.[].Id' "$scratch/distributions")
}

# One look at the function's lines for all distributions.
read_successes() {
  local since
  since=$(jq -n --argjson hours "$hours" 'now - $hours * 3600 | floor * 1000')
  must_look "$aws_region" logs filter-log-events --log-group-name "$log_group_name" --start-time "$since" \
    --filter-pattern '"successfully sent"' >"$scratch/answer"
  jq '[.events[]? | (.message | fromjson? // {}) as $line | select($line.message // "" | startswith("successfully sent"))
        | {at: .timestamp, sent: $line.sent, id: $line.distribution}]
      | group_by(.id) | map(max_by(.at) | {(.id): {at, sent}}) | add // {}' "$scratch/answer" >"$scratch/successes"
}

describe_distribution() {
  local id=$1 tap object=null cookies=null turned_on=false delivery_arn
  tap=$(tap_of "$id")
  delivery_arn=$(jq -r 'first(.deliveries[] | select(.to_us)) | .arn' <<<"$tap")
  if [[ -n $delivery_arn ]]; then
    must_look "$GLOBAL" cloudfront get-distribution-config --id "$id" >"$scratch/answer"
    cookies=$(jq .DistributionConfig.Logging.IncludeCookies "$scratch/answer")
    must_look "$GLOBAL" logs list-tags-for-resource --resource-arn "$delivery_arn" >"$scratch/answer"
    turned_on=$(jq --arg key "$COOKIES_TAG" '.tags[$key] == "false"' "$scratch/answer")
    object=$(youngest_object "$id")
  fi
  jq -n --arg id "$id" --arg name "$name" --argjson tap "${tap:-null}" --argjson object "$object" --argjson cookies "$cookies" \
    --argjson turned_on "$turned_on" --argjson existing "${existing_log_sources:-[]}" --rawfile wanted_fields scripts/record-fields.txt \
    --slurpfile distributions "$scratch/distributions" --slurpfile successes "$scratch/successes" '
      ($distributions[0] | map(select(.Id == $id)) | first) as $distribution
      | ([$tap.deliveries[]? | select(.to_us)] | first) as $ours
      | ([$tap.deliveries[]? | select(.type == "S3" and (.to_us | not))] | first) as $theirs
      | ($theirs.to // "" | split(":::")[1] // "" | split("/")[0]) as $bucket
      | ($wanted_fields | split("\n") | map(select(. != "" and (startswith("#") | not)))) as $wanted_fields
      | { id: $id, domain: ($distribution.Aliases.Items[0] // $distribution.DomainName // "not in this account"),
          tapped: (if $ours then "yes" elif $theirs == null then "no"
                   elif any($existing[]; .bucket == $bucket) then "there" else "elsewhere" end),
          delivery: $ours.id, made_by_edgetap: ($ours != null and $ours.owner == $name), elsewhere: $theirs.to,
          fields: (if $ours then { logged: ($wanted_fields - ($wanted_fields - $ours.fields) | length), wanted: ($wanted_fields | length),
                                   lacking: ($wanted_fields - $ours.fields) } else null end),
          cookies: (if $ours then {logged: $cookies, turned_on_by_edgetap: $turned_on} else null end),
          last_object: $object, last_success: $successes[0][$id] }'
}

# The path tells the hour, so that it is enough to list from there on.
youngest_object() {
  local prefix=$log_prefix$1/ from
  from=$(jq -n -r --argjson hours "$hours" 'now - $hours * 3600 | strftime("%Y/%m/%d/%H")')
  must_look "$aws_region" s3api list-objects-v2 --bucket "$log_bucket" --prefix "$prefix" --start-after "$prefix$from" >"$scratch/answer"
  jq '.Contents // [] | max_by(.LastModified) | if . then {key: .Key, at: .LastModified, size: .Size} else null end' "$scratch/answer"
}

describe_queues() {
  local queue
  for queue in "work $work_queue_url" "dead_letters $dead_letter_queue_url"; do
    must_look "$aws_region" sqs get-queue-attributes --queue-url "${queue#* }" --attribute-names All >"$scratch/answer"
    jq --arg queue "${queue%% *}" '.Attributes | {($queue): { waiting: (.ApproximateNumberOfMessages | tonumber),
      in_work_or_postponed: (.ApproximateNumberOfMessagesNotVisible | tonumber), delayed: (.ApproximateNumberOfMessagesDelayed | tonumber) }}' \
      "$scratch/answer"
  done | jq -s add
}

show_status() {
  jq -r '"\(.module.name) in account \(.module.account), \(.module.region), bucket \(.module.bucket)\n"' "$scratch/status"
  {
    printf 'distribution\tdomain\ttapped\tfields\tcookies\tlast object\tlast success\n'
    jq -r --arg hours "$hours" '
      def ago: (now - .) as $s | if $s < 120 then "\($s | floor) s ago" elif $s < 7200 then "\($s / 60 | floor) min ago" else "\($s / 3600 | floor) h ago" end;
      def instant: sub("\\.[0-9]+"; "") | sub("(Z|\\+00:00)$"; "Z") | fromdate;
      .distributions[] | . as $it
      | [ .id, .domain, (if .tapped == "yes" and (.made_by_edgetap | not) then "yes, not by edgetap" else .tapped end),
          (.fields | if . then "\(.logged) of \(.wanted)" else "-" end),
          (.cookies | if . == null then "-" elif .logged then (if .turned_on_by_edgetap then "on, by edgetap" else "on" end)
                      elif .turned_on_by_edgetap then "off, wanted on" else "off" end),
          (if .tapped != "yes" then "-" elif .last_object then .last_object.at | instant | ago else "none in \($hours) h" end),
          (.last_success | if . then "\(.at / 1000 | ago), \(.sent // "?") sent" elif $it.tapped == "no" then "-" else "none in \($hours) h" end) ]
      | @tsv' "$scratch/status"
  } | table
  jq -r '.distributions[] | select(.fields.lacking // [] | length > 0)
    | "\n\(.id) does not log \(.fields.lacking | join(", ")): scripts/enable.sh --distribution \(.id)"' "$scratch/status"
  jq -r '.distributions[] | select(.tapped == "elsewhere") | "\n\(.id) delivers to \(.elsewhere): scripts/enable.sh --distribution \(.id) tells what to do"' "$scratch/status"
  say
  {
    printf 'queue\twaiting\tin work or postponed\n'
    jq -r '.queues | to_entries[] | [(.key | gsub("_"; " ")), .value.waiting, .value.in_work_or_postponed] | @tsv' "$scratch/status"
  } | table
  if jq '.queues.dead_letters.waiting > 0' "$scratch/status" | is_true; then
    printf '\nDead letters: scripts/redrive.sh --dry-run tells why, and without --dry-run brings them back.\n'
  fi
}

main "$@"
