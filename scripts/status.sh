#!/usr/bin/env bash
# Shows the distributions of the account, whether they are enabled, what edgetap last delivered for
# each, the rows by result, the messages in the queues, and whether deliveries are paused.
#
# Usage: scripts/status.sh [--distribution ID]… [--hours N] [--destination-arn ARN] [--json] [--dry-run]
#
#   --distribution ID   show only this distribution; can be repeated
#   --hours N           how far to look back for logs, rows and the function's log lines (default 24)
#   --destination-arn ARN
#                       show the distributions of this account and whether they deliver to an
#                       installation in another account (see scripts/enable.sh)
#   --json              print JSON
#   --dry-run           also show every AWS call; none of them changes anything
#
# Columns:
#   enabled       yes; no; unread if the logs go to edgetap's bucket in a format or under a prefix that
#                 it does not read; elsewhere if the logs go to another bucket, which edgetap does not read;
#                 external if edgetap reads them from that bucket (existing_log_sources). JSON says
#                 in sends_events whether that bucket sends events, null if that cannot be told
#   fields        number of fields of scripts/record-fields.txt that are logged, in edgetap's bucket or in
#                 one that edgetap reads
#   cookies       whether the distribution logs cookies, and whether edgetap turned that on
#   last object   age of the latest log in the bucket
#   last success  age of the last log that was delivered completely, and the transactions sent
#   deliveries    of a queue: on, paused (scripts/pause.sh), or the state of its event source mapping
#
# The rows are the sums of the function's metrics, for all distributions.
#
# Exit status: 0 if everything was shown, 1 if anything could not be read, 2 if nothing was read.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

hours=24 json=0
ids=()

main() {
  read_arguments "$@"
  if ((json)); then exec 3>&2; fi # keep the calls out of the JSON
  need_tools aws jq
  ((central)) || need_tools terraform
  need_installation
  refuse_on_problems
  must_read_deliveries
  read_distributions
  read_function
  refuse_unknown_distributions
  local id
  for id in "${ids[@]}"; do describe_distribution "$id"; done >"$scratch/rows"
  jq -s --slurpfile queues "$scratch/queues" --slurpfile totals "$scratch/totals" --slurpfile alarms "$scratch/alarms" --slurpfile last_error "$scratch/last_error" --arg name "$name" \
    --arg region "${aws_region:-}" --arg account "${installation_account:-$account_id}" --arg bucket "${log_bucket:-}" '
    { module: {name: $name, region: ($region | if . == "" then null else . end), account: $account, bucket: ($bucket | if . == "" then null else . end)},
      distributions: ., totals: $totals[0], queues: $queues[0], alarms: $alarms[0], last_error: $last_error[0] }' "$scratch/rows" >"$scratch/status"
  if ((json)); then
    cat "$scratch/status"
  else
    local text
    text=$(show_status)
    plain "$text"
  fi
}

read_arguments() {
  while (($#)); do
    case $1 in
      --distribution)
        need_distribution_id "${2:-}"
        ids+=("$2")
        shift
        ;;
      --hours)
        [[ ${2:-} =~ ^[1-9][0-9]{0,3}$ ]] || usage_error '--hours requires a number from 1 to 9999'
        hours=$2
        shift
        ;;
      --destination-arn)
        destination_arn=${2:-} central=1
        (($# == 1)) || shift
        ;;
      --json) json=1 ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) unknown_argument "$1" ;;
    esac
    shift
  done
}

read_distributions() {
  must_look "$GLOBAL" cloudfront list-distributions >"$scratch/response"
  jq '.DistributionList.Items // []' "$scratch/response" >"$scratch/distributions"
  ((${#ids[@]})) || mapfile -t ids < <(jq -r '.[].Id' "$scratch/distributions")
}

# An ID that nothing here knows: neither this account, nor a delivery, nor the function's log lines, in
# which the distributions of other accounts stand.
refuse_unknown_distributions() {
  local id unknown=()
  for id in "${ids[@]}"; do
    jq -n --arg id "$id" --slurpfile distributions "$scratch/distributions" --slurpfile successes "$scratch/successes" \
      'any($distributions[0][]; .Id == $id) or ($successes[0] // {} | has($id))' | is_true || [[ -n $(source_of "$id") ]] || unknown+=("$id")
  done
  ((${#unknown[@]})) || return 0
  for id in "${unknown[@]}"; do error "account $account_id has no distribution $id"; done
  ((central)) || hint 'for a distribution of another account, run scripts/status.sh --destination-arn ARN with its credentials'
  exit 1
}

# What the function logged, its alarms and its queues. An installation in another account shows none.
read_function() {
  local file
  for file in successes last_error alarms queues totals; do echo null >"$scratch/$file"; done
  ((! central)) || return 0
  log_lines '"successfully sent"'
  jq '[.events[]? | (.message | fromjson? // {}) as $line | select($line.message // "" | startswith("successfully sent"))
        | {at: .timestamp, sent: $line.sent, id: $line.distribution}]
      | group_by(.id) | map(max_by(.at) | {(.id): {at, sent}}) | add // {}' "$scratch/response" >"$scratch/successes"
  log_lines '"ERROR"'
  jq '[.events[]? | (.message | fromjson? // {}) as $line | select($line.level == "ERROR")
        | {at: .timestamp, message: $line.message, reason: ($line.problems // $line.error // $line.reason), object: $line.object}]
      | max_by(.at)' "$scratch/response" >"$scratch/last_error"
  read_alarms >"$scratch/alarms"
  describe_queues >"$scratch/queues"
  read_totals
}

# The rows of the last hours by result: the sums of metrics, which add up to `rows`.
read_totals() {
  local queries
  queries=$(jq -n -c --arg function "$function_name" '["rows", "sent", "static", "excluded", "malformed", "rejected", "foreign"]
    | map({ Id: ., MetricStat: { Stat: "Sum", Period: 3600,
        Metric: {Namespace: "edgetap", MetricName: ., Dimensions: [{Name: "function", Value: $function}]} } })')
  if ! look "$aws_region" cloudwatch get-metric-data --metric-data-queries "$queries" \
    --start-time "$(jq -n -r --argjson hours "$hours" 'now - $hours * 3600 | todate')" --end-time "$(jq -n -r 'now | todate')" >"$scratch/response"; then
    warn "cannot read the function's metrics: $(why)"
    return
  fi
  jq --argjson hours "$hours" '[.MetricDataResults[]? | {key: .Id, value: (.Values | add // 0)}] | from_entries + {$hours}' "$scratch/response" >"$scratch/totals"
}

# log_lines PATTERN: the function's log lines of the last hours, for all distributions.
log_lines() {
  must_look "$aws_region" logs filter-log-events --log-group-name "$log_group_name" --filter-pattern "$1" \
    --start-time "$(jq -n --argjson hours "$hours" 'now - $hours * 3600 | floor * 1000')" >"$scratch/response"
}

# The names of the alarms that are on. The name of another installation may begin with this one's, so
# the tag decides.
read_alarms() {
  local arn
  must_look "$aws_region" cloudwatch describe-alarms --alarm-name-prefix "$name-" --state-value ALARM >"$scratch/response"
  while IFS= read -r arn; do
    must_look "$aws_region" cloudwatch list-tags-for-resource --resource-arn "$arn" >"$scratch/tags"
    jq --arg tag "$TAG" --arg name "$name" --arg arn "$arn" 'select(any(.Tags[]?; .Key == $tag and .Value == $name))
      | $arn | split(":alarm:")[1] | ltrimstr("\($name)-")' "$scratch/tags"
  done < <(jq -r '.MetricAlarms[]? | select(.StateValue == "ALARM") | .AlarmArn' "$scratch/response") | jq -s .
}

describe_distribution() {
  local id=$1 source object=null cookies=null turned_on=false legacy=null events=null delivery_arn bucket
  source=$(source_of "$id")
  delivery_arn=$(jq -r 'first(.deliveries[] | select(.to_edgetap)) | .arn' <<<"$source")
  if [[ -n $delivery_arn ]]; then
    must_look "$GLOBAL" cloudfront get-distribution-config --id "$id" >"$scratch/response"
    cookies=$(jq .DistributionConfig.Logging.IncludeCookies "$scratch/response")
    must_look "$GLOBAL" logs list-tags-for-resource --resource-arn "$delivery_arn" >"$scratch/response"
    turned_on=$(jq --arg key "$COOKIES_TAG" '.tags[$key] == "false"' "$scratch/response")
    ((central)) || object=$(latest_object "$id")
  elif [[ ${existing_log_sources:-[]} != '[]' ]]; then
    must_look "$GLOBAL" cloudfront get-distribution-config --id "$id" >"$scratch/response"
    legacy=$(legacy_source "$id" "$scratch/response")
    bucket=$(jq -n -r --argjson source "${source:-null}" --argjson legacy "${legacy:-null}" \
      'first($source.deliveries[]?.read_from | values) // $legacy | .bucket // empty')
    if [[ -n $bucket ]]; then
      read_events "$bucket"
      case ${events_of[$bucket]} in
        on) events=true ;;
        off) events=false ;;
      esac
    fi
  fi
  jq -n --arg id "$id" --arg name "$name" --argjson source "${source:-null}" --argjson object "$object" --argjson cookies "$cookies" \
    --argjson turned_on "$turned_on" --argjson legacy "${legacy:-null}" --argjson events "$events" --rawfile wanted_fields scripts/record-fields.txt \
    --slurpfile distributions "$scratch/distributions" --slurpfile successes "$scratch/successes" '
      ($distributions[0] | map(select(.Id == $id)) | first) as $distribution
      | ([$source.deliveries[]? | select(.to_edgetap)] | first) as $own
      | ([$source.deliveries[]? | select(.type == "S3" and (.to_edgetap | not))] | first) as $theirs
      | ($own // ($theirs | select(.read_from and .fields != [])) // null) as $read
      | ($wanted_fields | split("\n") | map(select(. != "" and (startswith("#") | not)))) as $wanted_fields
      | { id: $id, domain: ($distribution.Aliases.Items[0] // $distribution.DomainName // "not in this account"),
          enabled: (if $own.unread then "unread" elif $own then "yes" elif $theirs.read_from or $legacy then "external" elif $theirs then "elsewhere" else "no" end),
          delivery: $read.id, unread: $own.unread, unsafe_delimiter: ($own // $theirs | .unsafe_delimiter),
          made_by_edgetap: ($own != null and $own.ours), elsewhere: $theirs.to, read_from: ($theirs.read_from // $legacy), sends_events: $events,
          fields: (if $read then { logged: ($wanted_fields - ($wanted_fields - $read.fields) | length), wanted: ($wanted_fields | length),
                                   lacking: ($wanted_fields - $read.fields) } else null end),
          cookies: (if $own then {logged: $cookies, turned_on_by_edgetap: $turned_on} else null end),
          last_object: $object, last_success: $successes[0][$id] }'
}

# Keys contain the hour, so the listing starts at the first hour of interest.
latest_object() {
  local prefix=$log_prefix$1/ from
  from=$(jq -n -r --argjson hours "$hours" 'now - $hours * 3600 | strftime("%Y/%m/%d/%H")')
  must_look "$aws_region" s3api list-objects-v2 --bucket "$log_bucket" --prefix "$prefix" --start-after "$prefix$from" >"$scratch/response"
  jq '.Contents // [] | max_by(.LastModified) | if . then {key: .Key, at: .LastModified, size: .Size} else null end' "$scratch/response"
}

describe_queues() {
  local queue url uuid state
  while read -r queue url uuid; do
    [[ -n $url ]] || continue
    state=''
    [[ -z $uuid ]] || state=$(mapping_state "$uuid") || die "cannot read the event source mapping $uuid: $(why)"
    must_look "$aws_region" sqs get-queue-attributes --queue-url "$url" --attribute-names All >"$scratch/response"
    jq --arg queue "$queue" --arg state "$state" '.Attributes | {($queue): ({ waiting: (.ApproximateNumberOfMessages | tonumber),
      in_flight: (.ApproximateNumberOfMessagesNotVisible | tonumber), delayed: (.ApproximateNumberOfMessagesDelayed | tonumber) }
      + if $state == "" then {} else {mapping: $state, paused: ($state | IN("Disabled", "Disabling"))} end)}' "$scratch/response"
  done <<END | jq -s add
work $work_queue_url $event_source_mapping_uuid
dead_letters $dead_letter_queue_url
backfill $backfill_queue_url $backfill_event_source_mapping_uuid
backfill_dead_letters $backfill_dead_letter_queue_url
END
}

# The buckets whose logs do not arrive, or may not.
show_silent_buckets() {
  local bucket lacking
  while IFS= read -r bucket; do
    lacking=$(about_events "$bucket")
    printf '\n%s\n' "${lacking^}"
  done < <(jq -r '[.distributions[] | select(.enabled == "external" and .sends_events != true) | .read_from.bucket] | unique[]' "$scratch/status")
}

show_status() {
  jq -r '.module | "\(.name) in account \(.account)\(if .region then ", \(.region), bucket \(.bucket)" else "" end)\n"' "$scratch/status"
  {
    printf 'distribution\tdomain\tenabled\tfields\tcookies\tlast object\tlast success\n'
    jq -r --arg hours "$hours" --argjson central "$central" '
      def ago: (now - .) as $s | if $s < 120 then "\($s | floor) s ago" elif $s < 7200 then "\($s / 60 | floor) min ago" else "\($s / 3600 | floor) h ago" end;
      def instant: sub("\\.[0-9]+"; "") | sub("(Z|\\+00:00)$"; "Z") | fromdate;
      .distributions[] | . as $it
      | [ .id, .domain, (if .enabled == "yes" and (.made_by_edgetap | not) then "yes, not by edgetap" else .enabled end),
          (.fields | if . then "\(.logged) of \(.wanted)" else "-" end),
          (.cookies | if . == null then "-" elif .logged then (if .turned_on_by_edgetap then "on, by edgetap" else "on" end)
                      elif .turned_on_by_edgetap then "off, was turned on by edgetap" else "off" end),
          (if .enabled != "yes" or $central == 1 then "-" elif .last_object then .last_object.at | instant | ago else "none in \($hours) h" end),
          (.last_success | if . then "\(.at / 1000 | ago), \(.sent // "?") sent" elif $it.enabled == "no" or $central == 1 then "-" else "none in \($hours) h" end) ]
      | @tsv' "$scratch/status"
  } | table
  jq -r --arg options "$(same_installation)" '.distributions[] | select(.fields.lacking // [] | length > 0)
    | "\n\(.id) does not log \(.fields.lacking | join(", ")).\n  hint: "
      + (if .made_by_edgetap then "run scripts/enable.sh \($options)--distribution \(.id)" else "ask the owner of the delivery \(.delivery) to add them" end)' "$scratch/status"
  jq -r --arg options "$(same_installation)" '.distributions[] | select(.unread)
    | "\n\(.id) delivers its logs to edgetap\u0027s bucket, but edgetap does not read them: \(.unread).\n  hint: "
      + (if .made_by_edgetap then "run scripts/enable.sh \($options)--distribution \(.id)" else "ask the owner of the delivery \(.delivery) to change it" end)' "$scratch/status"
  jq -r '.distributions[] | select(.unsafe_delimiter and .enabled != "elsewhere")
    | "\n\(.id): a value can contain the field delimiter \(.unsafe_delimiter). edgetap cannot read such rows.\n  hint: set the delivery\u0027s field delimiter to a tab"' "$scratch/status"
  jq -r --arg options "$(same_installation)" '.distributions[] | select(.enabled == "elsewhere")
    | "\n\(.id) delivers its logs to \(.elsewhere).\n  hint: scripts/enable.sh \($options)--distribution \(.id) --dry-run shows what to do"' "$scratch/status"
  show_silent_buckets
  ((! central)) || return 0
  say
  {
    printf 'queue\twaiting\tin flight\tdelayed\tdeliveries\n'
    jq -r '.queues | {work, "dead-letter": .dead_letters, backfill, "backfill dead-letter": .backfill_dead_letters} | to_entries[] | select(.value)
      | [.key, .value.waiting, .value.in_flight, .value.delayed,
         (.value.mapping | if . == null then "-" elif . == "Enabled" then "on" elif . == "Disabled" then "paused" else ascii_downcase end)]
      | @tsv' "$scratch/status"
  } | table
  show_totals
  printf '\nin alarm: %s\n' "$(jq -r '.alarms | if . == [] then "none" else join(", ") end' "$scratch/status")"
  jq -r '.last_error | select(.) | "last error, at \(.at / 1000 | floor | todate): \(.message)\(if .reason then ": \(.reason)" else "" end)\(if .object then " (\(.object))" else "" end)"' "$scratch/status"
  show_advice
}

show_totals() {
  jq -r '.totals | select(.) | "\nrows in the last \(.hours) h: \(.rows // 0), of which \(.sent // 0) sent, \(.static // 0) static, \(.excluded // 0) excluded, \(.malformed // 0) malformed, \(.rejected // 0) rejected"
    + (if (.foreign // 0) > 0 then ", \(.foreign) foreign" else "" end)' "$scratch/status"
}

# What to do about paused deliveries and dead letters.
show_advice() {
  jq -r '.queues | {work, backfill} | to_entries[] | select(.value.paused)
    | "\nDeliveries from the \(.key) queue are paused.\n  hint: scripts/pause.sh \(if .key == "backfill" then "--queue backfill " else "" end)--resume goes on"' "$scratch/status"
  jq -r '.queues | {"": .dead_letters, "--queue backfill ": .backfill_dead_letters} | to_entries[] | select(.value.waiting > 0)
    | "\nThe \(if .key == "" then "" else "backfill\u0027s " end)dead-letter queue has messages.\n  hint: scripts/redrive.sh \(.key)--dry-run shows why; without --dry-run it moves them back; --discard drops them"' "$scratch/status"
}

main "$@"
