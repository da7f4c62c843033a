#!/usr/bin/env bash
# Moves the messages of the dead-letter queue back to the work queue, where the function retries
# them.
#
# Usage: scripts/redrive.sh [--max-per-second N] [--one-by-one] [--dry-run]
#
#   --max-per-second N   move at most N messages per second (1 to 500), to protect the bridge
#   --one-by-one         receive, send and delete each message instead of using SQS's redrive task
#   --dry-run            move nothing; list the messages and why they failed, and show every AWS
#                        call. The messages stay visible to other consumers
#
# Fix the cause first. A log that has expired in the meantime can no longer be delivered.
#
# Exit status: 0 if all visible messages were moved or the queue was empty, 1 if a call failed, 2 if
# nothing was moved.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# Messages that a dry run lists at most.
readonly SHOWN=100
# SQS returns a sample of the queue. After this many responses without a new message, all were seen.
readonly RESPONSES_WITHOUT_NEW=5
readonly INTERVAL=${EDGETAP_REDRIVE_INTERVAL:-2}

max_per_second='' one_by_one=0

main() {
  read_arguments "$@"
  need_tools aws jq terraform
  need_module
  refuse_on_problems
  read_depth
  if ((waiting == 0)); then
    if ((in_flight == 0)); then
      say 'The dead-letter queue is empty.'
    else
      say "No message of the dead-letter queue is visible. In flight: $in_flight, which another consumer has received. Run this script again in a minute."
    fi
    return
  fi
  if ((dry_run)); then
    show_messages
    start_task || true
    say 'This was a dry run: nothing was moved.'
    return
  fi
  say "Moving $(count "$waiting" message) from the dead-letter queue to the work queue."
  if ((one_by_one)); then
    move_one_by_one
  elif start_task; then
    follow_task
  elif failed_with 'already|in progress'; then
    note 'a redrive task is already running'
    follow_task
  elif failed_with 'InvalidAction|UnknownOperation|UnsupportedOperation|NotImplemented|\((404|5[0-9]{2})\)'; then
    note "SQS does not support redrive tasks here ($(why)); moving the messages one by one"
    move_one_by_one
  else
    die "cannot start the redrive task: $(why)"
  fi
}

read_arguments() {
  while (($#)); do
    case $1 in
      --max-per-second)
        [[ ${2:-} =~ ^([1-9][0-9]?|[1-4][0-9]{2}|500)$ ]] || usage_error '--max-per-second requires a number from 1 to 500'
        max_per_second=$2
        shift
        ;;
      --one-by-one) one_by_one=1 ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) usage_error "unknown option: $1" ;;
    esac
    shift
  done
}

read_depth() {
  must_look "$aws_region" sqs get-queue-attributes --queue-url "$dead_letter_queue_url" \
    --attribute-names ApproximateNumberOfMessages ApproximateNumberOfMessagesNotVisible >"$scratch/response"
  waiting=$(jq -r .Attributes.ApproximateNumberOfMessages "$scratch/response")
  in_flight=$(jq -r '.Attributes.ApproximateNumberOfMessagesNotVisible // 0' "$scratch/response")
}

# Always names the destination. By default SQS moves a message back to its source queue, but the
# messages that the function sent to the dead-letter queue never were in another queue.
start_task() {
  local rate=()
  [[ -z $max_per_second ]] || rate=(--max-number-of-messages-per-second "$max_per_second")
  change "$aws_region" sqs start-message-move-task --source-arn "$dead_letter_queue_arn" --destination-arn "$work_queue_arn" \
    "${rate[@]}" >/dev/null
}

# Someone else's task may move the messages to another queue.
follow_task() {
  local state destination
  while true; do
    must_look "$aws_region" sqs list-message-move-tasks --source-arn "$dead_letter_queue_arn" --max-results 1 >"$scratch/response"
    destination=$(jq -r '.Results[0].DestinationArn // "the queues that the messages came from"' "$scratch/response")
    [[ $destination == "$work_queue_arn" ]] \
      || die "this script moved nothing: another redrive task moves the messages to $destination, not to the work queue"
    state=$(jq -r '.Results[0].Status // "UNKNOWN"' "$scratch/response")
    [[ $state == RUNNING || $state == CANCELLING ]] || break
    sleep "$INTERVAL"
  done
  jq -r '.Results[0] | "Messages moved to the work queue: \(.ApproximateNumberOfMessagesMoved // 0) of \(.ApproximateNumberOfMessagesToMove // "?")."' "$scratch/response"
  [[ $state == COMPLETED ]] || die "the redrive task ended as $state: $(jq -r '.Results[0].FailureReason // "SQS gave no reason"' "$scratch/response")"
}

# Sends each message before deleting it: an interruption can duplicate a message but not lose one.
# Moves no more messages than were there at first, because one that fails again soon returns.
move_one_by_one() {
  local moved=0 idle=0
  while ((moved < waiting && idle < RESPONSES_WITHOUT_NEW)); do
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
      --message-attributes "file://$scratch/attributes" >/dev/null || die "moved $(count "$moved" message), then a call failed: $(why)"
    change "$aws_region" sqs delete-message --queue-url "$dead_letter_queue_url" \
      --receipt-handle "$(jq -r '.Messages[0].ReceiptHandle' "$scratch/received")" >/dev/null || die "moved $(count "$moved" message), then a call failed: $(why)"
    moved=$((moved + 1))
    [[ -z $max_per_second ]] || sleep "$(jq -n --argjson rate "$max_per_second" '1 / $rate')"
  done
  say "Messages moved to the work queue: $moved of $waiting."
  ((moved == waiting)) || say 'The remaining messages are in flight: another consumer has received them. Run this script again in a minute.'
}

# --- Messages in the queue, and their reasons ---

show_messages() {
  read_messages
  add_reasons
  {
    printf 'object\trows\treceived\tsince\treason\n'
    jq -r '.[] | [.object, .rows, .received, .since, .reason] | @tsv' "$scratch/dead_letters"
  } | table
  ((waiting <= SHOWN)) || say "(the first $SHOWN of $waiting messages)"
}

# With a visibility timeout of 0, a received message stays visible to other consumers.
read_messages() {
  local known=0 before idle=0
  echo '[]' >"$scratch/messages"
  while ((idle < RESPONSES_WITHOUT_NEW && known < SHOWN && known < waiting)); do
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
    # S3 notifications encode keys like form fields; the keys of logs are ASCII.
    def digit: ascii_downcase | explode[0] | if . >= 97 then . - 87 else . - 48 end;
    def plain_key: gsub("\\+"; " ") | gsub("%(?<high>[2-7])(?<low>[0-9A-Fa-f])"; [(.high | digit) * 16 + (.low | digit)] | implode);
    def unwrapped: if .Type == "Notification" and (.Message | type) == "string" then .Message | fromjson | unwrapped else . end;
    def s3_object: "s3://\(.s3.bucket.name)/\(.s3.object.key | plain_key)";
    # Rows of a continuation, of which a dead letter can have thousands of ranges.
    def range: "\(.[0])-\(.[1] // "end")";
    def ranges: if length == 1 then .[0] | range else "\(length) ranges, first \(.[0] | range)" end;
    def summary:
      (.Body | fromjson? // null) as $body
      | (if $body == null then {object: "not JSON"} else $body | unwrapped
         | if .edgetap then { object: "s3://\(.object.bucket)/\(.object.key)", since, reason,
                              rows: (.rows | ranges), first: .rows[0][0] }
           elif .Records then {object: ([.Records[] | s3_object] | join(" "))}
           elif .detail then {object: "s3://\(.detail.bucket.name)/\(.detail.object.key)"}
           else {object: "unrecognized event with keys \(keys | join(", "))"} end end)
      + {received: .Attributes.ApproximateReceiveCount, sent: .Attributes.SentTimestamp};
    [.[:$shown][] | summary | {object, rows: (.rows // "all"), first, received, reason,
      since: (.since // (.sent | tonumber / 1000 | floor | todate))}] | sort_by(.since, .object, .first)' "$scratch/messages" >"$scratch/dead_letters"
}

# A message that SQS moved to the dead-letter queue contains no reason; the function's last log line
# about the object does.
add_reasons() {
  local object
  while IFS= read -r object; do
    [[ -n $object ]] || continue
    look "$aws_region" logs filter-log-events --log-group-name "$log_group_name" --filter-pattern "\"$object\"" >"$scratch/response" || {
      warn "cannot read the function's log for reasons: $(why)"
      return 0
    }
    jq --arg object "$object" --slurpfile response "$scratch/response" '
      ([$response[0].events[]?.message | fromjson? | select(.object == $object and (.level == "ERROR" or .level == "WARN"))
          | .message + (.reason // .error // "" | if . == "" then . else ": \(.)" end)] | last
       // "moved by SQS after too many receives; the function'"'"'s log lines have expired") as $reason
      | map(if .object == $object and .reason == null then .reason = $reason else . end)' "$scratch/dead_letters" >"$scratch/dead_letters.new"
    mv "$scratch/dead_letters.new" "$scratch/dead_letters"
  done < <(jq -r '[.[] | select(.reason == null) | .object] | unique | .[]' "$scratch/dead_letters")
}

main "$@"
