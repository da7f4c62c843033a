#!/usr/bin/env bash
# Brings dead letters back to the work queue, where the function takes them up anew.
#
# Usage: scripts/redrive.sh [--max-per-second N] [--one-by-one] [--dry-run]
#
#   --max-per-second N   bring back at most so many a second, 1 to 500, to spare the bridge
#   --one-by-one         receive, send and delete each message, instead of leaving it to SQS
#   --dry-run            bring nothing back; tell what is there and why it failed, and show every AWS call. Nothing is hidden from
#                        others meanwhile
#
# First mend what made them fail. A log that has expired meanwhile cannot be brought back.
#
# Exit status: 0 all are back in the work queue, or there were none; 1 it failed; 2 nothing was begun.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# A dry run shows so many.
readonly SHOWN=100
# SQS tells a part of a queue at a time: after so many answers without a new message all were seen.
readonly ANSWERS_WITHOUT_NEW=5
readonly INTERVAL=${EDGETAP_REDRIVE_INTERVAL:-2}

max_per_second='' one_by_one=0

main() {
  read_arguments "$@"
  need_tools aws jq terraform
  need_module
  refuse_on_problems
  waiting=$(depth)
  if ((waiting == 0)); then
    say 'There are no dead letters.'
    return
  fi
  if ((dry_run)); then
    show_letters
    start_task || true
    say 'This was a dry run: nothing was brought back.'
    return
  fi
  say "Bringing $waiting dead letters back to the work queue."
  if ((one_by_one)); then
    move_one_by_one
  elif start_task; then
    follow_task
  elif failed_with 'already|in progress'; then
    note 'a task is under way already'
    follow_task
  elif failed_with 'InvalidAction|UnknownOperation|UnsupportedOperation|NotImplemented|\((404|5[0-9]{2})\)'; then
    note "SQS does not do this here ($(why)): one by one then"
    move_one_by_one
  else
    die "$(why)"
  fi
}

read_arguments() {
  while (($#)); do
    case $1 in
      --max-per-second)
        [[ ${2:-} =~ ^([1-9][0-9]?|[1-4][0-9]{2}|500)$ ]] || usage_error '--max-per-second wants a number from 1 to 500'
        max_per_second=$2
        shift
        ;;
      --one-by-one) one_by_one=1 ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) usage_error "what is $1?" ;;
    esac
    shift
  done
}

depth() {
  must_look "$aws_region" sqs get-queue-attributes --queue-url "$dead_letter_queue_url" --attribute-names ApproximateNumberOfMessages \
    >"$scratch/answer"
  jq -r .Attributes.ApproximateNumberOfMessages "$scratch/answer"
}

# The destination is always named: SQS would send what the function dead-lettered itself, and so never was in the work queue,
# back to where it thinks it came from.
start_task() {
  local rate=()
  [[ -z $max_per_second ]] || rate=(--max-number-of-messages-per-second "$max_per_second")
  change "$aws_region" sqs start-message-move-task --source-arn "$dead_letter_queue_arn" --destination-arn "$work_queue_arn" \
    "${rate[@]}" >/dev/null
}

follow_task() {
  local state
  while true; do
    must_look "$aws_region" sqs list-message-move-tasks --source-arn "$dead_letter_queue_arn" --max-results 1 >"$scratch/answer"
    state=$(jq -r '.Results[0].Status // "UNKNOWN"' "$scratch/answer")
    [[ $state == RUNNING || $state == CANCELLING ]] || break
    sleep "$INTERVAL"
  done
  jq -r '.Results[0] | "\(.ApproximateNumberOfMessagesMoved // 0) of \(.ApproximateNumberOfMessagesToMove // "?") brought back."' "$scratch/answer"
  [[ $state == COMPLETED ]] || die "the task is $state: $(jq -r '.Results[0].FailureReason // "SQS gives no reason"' "$scratch/answer")"
}

# Sent before it is deleted: what breaks off in between is there twice, and the bridge knows it by its ids. No more than were
# there at first, so that what fails again at once does not go round and round.
move_one_by_one() {
  local moved=0 idle=0
  while ((moved < waiting && idle < ANSWERS_WITHOUT_NEW)); do
    must_look "$aws_region" sqs receive-message --queue-url "$dead_letter_queue_url" --max-number-of-messages 1 --visibility-timeout 60 \
      --wait-time-seconds 1 --message-attribute-names All >"$scratch/received"
    if ! jq 'has("Messages")' "$scratch/received" | is_true; then
      idle=$((idle + 1))
      continue
    fi
    idle=0
    jq -j '.Messages[0].Body' "$scratch/received" >"$scratch/body"
    jq '.Messages[0].MessageAttributes // {}' "$scratch/received" >"$scratch/attributes"
    change "$aws_region" sqs send-message --queue-url "$work_queue_url" --message-body "file://$scratch/body" \
      --message-attributes "file://$scratch/attributes" >/dev/null || die "after $moved: $(why)"
    change "$aws_region" sqs delete-message --queue-url "$dead_letter_queue_url" \
      --receipt-handle "$(jq -r '.Messages[0].ReceiptHandle' "$scratch/received")" >/dev/null || die "after $moved: $(why)"
    moved=$((moved + 1))
  done
  say "$moved of $waiting brought back."
  ((moved == waiting)) || say 'The rest was not visible: somebody else holds it. Run this again in a minute.'
}

# --- What is there, and why ---

show_letters() {
  read_letters
  add_reasons
  {
    printf 'object\trows\treceived\tsince\twhy\n'
    jq -r '.[] | [.object, .rows, .received, .since, .why] | @tsv' "$scratch/letters"
  } | table
  ((waiting <= SHOWN)) || say "(the first $SHOWN of $waiting)"
}

# With a visibility of 0 a message that is read stays there for everybody.
read_letters() {
  local known=0 before idle=0
  echo '[]' >"$scratch/messages"
  while ((idle < ANSWERS_WITHOUT_NEW && known < SHOWN && known < waiting)); do
    must_look "$aws_region" sqs receive-message --queue-url "$dead_letter_queue_url" --max-number-of-messages 10 --visibility-timeout 0 \
      --attribute-names All >"$scratch/received"
    [[ -s $scratch/received ]] || echo '{}' >"$scratch/received"
    before=$known
    jq -s '.[0] + (.[1].Messages // []) | unique_by(.MessageId)' "$scratch/messages" "$scratch/received" >"$scratch/messages.new"
    mv "$scratch/messages.new" "$scratch/messages"
    known=$(jq length "$scratch/messages")
    if ((known == before)); then idle=$((idle + 1)); else idle=0; fi
  done
  jq --argjson shown "$SHOWN" '
    # S3 notifications encode keys as forms do; the keys of logs are ASCII.
    def digit: ascii_downcase | explode[0] | if . >= 97 then . - 87 else . - 48 end;
    def plain_key: gsub("\\+"; " ") | gsub("%(?<high>[2-7])(?<low>[0-9A-Fa-f])"; [(.high | digit) * 16 + (.low | digit)] | implode);
    def unwrapped: if .Type == "Notification" and (.Message | type) == "string" then .Message | fromjson | unwrapped else . end;
    def s3_object: "s3://\(.s3.bucket.name)/\(.s3.object.key | plain_key)";
    def letter:
      (.Body | fromjson? // null) as $body
      | (if $body == null then {object: "not JSON"} else $body | unwrapped
         | if .edgetap then { object: "s3://\(.object.bucket)/\(.object.key)", since, why: .reason,
                              rows: ([.rows[] | "\(.[0])-\(.[1] // "end")"] | join(",")) }
           elif .Records then {object: ([.Records[] | s3_object] | join(" "))}
           elif .detail then {object: "s3://\(.detail.bucket.name)/\(.detail.object.key)"}
           else {object: "an event that edgetap does not know: \(keys | join(", "))"} end end)
      + {received: .Attributes.ApproximateReceiveCount, sent: .Attributes.SentTimestamp};
    [.[:$shown][] | letter | {object, rows: (.rows // "all"), received, why,
      since: (.since // (.sent | tonumber / 1000 | floor | todate))}] | sort_by(.since)' "$scratch/messages" >"$scratch/letters"
}

# What SQS moved has no reason with it: the function's last line about the object has.
add_reasons() {
  local object
  while IFS= read -r object; do
    [[ -n $object ]] || continue
    look "$aws_region" logs filter-log-events --log-group-name "$log_group_name" --filter-pattern "\"$object\"" >"$scratch/answer" || {
      note "the function's lines: $(why)"
      return 0
    }
    jq --arg object "$object" --slurpfile answer "$scratch/answer" '
      ([$answer[0].events[]?.message | fromjson? | select(.object == $object and (.level == "ERROR" or .level == "WARN")) | .message] | last
       // "given up by SQS after the receives shown; the function'"'"'s lines about it are gone") as $why
      | map(if .object == $object and .why == null then .why = $why else . end)' "$scratch/letters" >"$scratch/letters.new"
    mv "$scratch/letters.new" "$scratch/letters"
  done < <(jq -r '[.[] | select(.why == null) | .object] | unique | .[]' "$scratch/letters")
}

main "$@"
