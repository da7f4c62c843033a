#!/usr/bin/env bash
# Moves the messages of a dead-letter queue back to its queue, where the function retries them, or
# deletes those that cannot be mended.
#
# Usage: scripts/redrive.sh [--queue work|backfill] [--object KEY]… [--reason TEXT]
#                           [--max-per-second N] [--one-by-one] [--dry-run [--json]]
#        scripts/redrive.sh --discard (--object KEY… | --reason TEXT | --all)
#                           [--queue work|backfill] [--yes] [--dry-run [--json]]
#
#   --queue work         the dead letters of fresh logs (default)
#   --queue backfill     those of scripts/backfill.sh
#   --object KEY         only messages about this object: s3://BUCKET/KEY, its key, or the last
#                        part of the key; for a message that cannot be read, the ID that is shown.
#                        Can be repeated
#   --reason TEXT        only messages whose reason contains this text
#   --discard            delete the selected messages, after showing them. Their rows are never sent
#   --all                with --discard: select every message
#   --max-per-second N   move at most N messages per second (1 to 500), to protect the bridge
#   --one-by-one         receive, send and delete each message instead of using SQS's redrive
#                        task. A selection is always moved so
#   --yes                skip confirmation of --discard
#   --dry-run            change nothing; list the messages and why they failed, and show every AWS
#                        call. The messages stay visible to other consumers
#   --json               with --dry-run: list the messages as JSON
#
# Fix the cause first. A log that has expired in the meantime can no longer be delivered. One run
# selects 1,000 messages at most, and hides them from other consumers for 15 minutes at most.
#
# Exit status: 0 if all visible messages, or all selected ones, were moved or deleted, or the queue
# was empty; 1 if a call failed, nothing was selected or you declined; 2 if an argument or a
# requirement is invalid.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/lib-redrive.sh
. scripts/lib-redrive.sh

# After this many responses without a new message, all messages of the queue were seen.
readonly RESPONSES_WITHOUT_NEW=5
readonly INTERVAL=${EDGETAP_REDRIVE_INTERVAL:-2}

max_per_second='' one_by_one=0 queue=work reason='' discard=0 all=0 json=0
keys=()

main() {
  read_arguments "$@"
  if ((json)); then exec 3>&2; fi # keep the calls out of the JSON
  need_tools aws jq terraform
  need_module
  ((${#problems[@]})) || choose_queue "$queue"
  refuse_on_problems
  read_depth
  if ((waiting == 0)); then
    say_empty
  elif ((dry_run)); then
    list
  elif ((discard)) || is_selection; then
    act_on_selection
  else
    move_all
  fi
}

read_arguments() {
  while (($#)); do
    case $1 in
      --queue)
        need_queue_name "${2:-}"
        queue=$2
        shift
        ;;
      --object)
        [[ -n ${2:-} ]] || usage_error '--object requires the key of a log, or the ID of a message'
        keys+=("$2")
        shift
        ;;
      --reason)
        [[ -n ${2:-} ]] || usage_error '--reason requires a part of the reason'
        reason=$2
        shift
        ;;
      --discard) discard=1 ;;
      --all) all=1 ;;
      --max-per-second)
        [[ ${2:-} =~ ^([1-9][0-9]?|[1-4][0-9]{2}|500)$ ]] || usage_error '--max-per-second requires a number from 1 to 500'
        max_per_second=$2
        shift
        ;;
      --one-by-one) one_by_one=1 ;;
      --yes) yes=1 ;;
      --dry-run) dry_run=1 ;;
      --json) json=1 ;;
      -h | --help) print_help ;;
      *) unknown_argument "$1" ;;
    esac
    shift
  done
  ((! discard)) || is_selection || ((all)) || usage_error '--discard requires --object KEY, --reason TEXT or --all'
  ((! all)) || ((discard)) || usage_error '--all requires --discard; without --discard, every message is moved'
  ((! all)) || ! is_selection || usage_error '--all cannot be combined with --object or --reason'
  [[ $discard == 0 || $one_by_one$max_per_second == 0 ]] || usage_error '--discard cannot be combined with --max-per-second or --one-by-one'
  ((! json || dry_run)) || usage_error '--json requires --dry-run'
}

is_selection() { [[ ${#keys[@]} != 0 || -n $reason ]]; }

read_depth() {
  must_look "$aws_region" sqs get-queue-attributes --queue-url "$dead_letters_url" \
    --attribute-names ApproximateNumberOfMessages ApproximateNumberOfMessagesNotVisible >"$scratch/response"
  waiting=$(jq -r .Attributes.ApproximateNumberOfMessages "$scratch/response")
  in_flight=$(jq -r '.Attributes.ApproximateNumberOfMessagesNotVisible // 0' "$scratch/response")
}

say_empty() {
  if ((json)); then
    echo '[]'
  elif ((in_flight == 0)); then
    say 'The dead-letter queue is empty.'
  else
    say "No message of the dead-letter queue is visible. In flight: $in_flight, which another consumer has received. Run this script again in a minute."
  fi
}

# --- Listing ---

list() {
  local limit=$SHOWN shown
  if is_selection || ((discard)); then limit=$SELECTED; fi
  read_messages 0 "$limit"
  select_messages "$limit"
  if ((json)); then
    jq 'map(del(.first))' "$scratch/dead_letters"
    return
  fi
  show_messages
  shown=$(jq length "$scratch/dead_letters")
  if is_selection || ((shown < waiting)); then say "($shown of $(count "$waiting" message))"; fi
  if ((discard)); then
    show_command 'would run' aws sqs delete-message-batch --queue-url "$dead_letters_url" --entries '…' --region "$aws_region"
    say 'This was a dry run: nothing was deleted.'
  else
    is_selection || start_task || true
    say 'This was a dry run: nothing was moved.'
  fi
}

# --- A selection ---

# Holds the queue's messages, so that what is shown is what is moved or deleted.
act_on_selection() {
  local selected held_at=$SECONDS
  read_messages "$HOLD" "$SELECTED"
  select_messages "$SELECTED"
  selected=$(jq length "$scratch/dead_letters")
  if ((selected == 0)); then
    error "none of $(count "$(jq length "$scratch/messages")" message) of the dead-letter queue is selected"
    hint "run scripts/redrive.sh $queue_option--dry-run to see their objects and reasons"
    exit 1
  fi
  show_messages
  if ((discard)); then
    confirm_person "Delete $(count "$selected" message)? Their rows are never sent."
    done_count=0
    in_batches discard_batch || die "deleted $(count "$done_count" message), then a call failed: $(why)"
    say "Messages deleted: $done_count of $selected."
  else
    move_selected "$selected"
  fi
  ((waiting <= SELECTED)) || say "The queue has more messages: this run looked at $SELECTED of $waiting. Run this script again."
}

# What is deleted is lost, so TF_AUTO_APPROVE does not answer.
confirm_person() {
  ((! yes)) || return 0
  ask "$1 [y/N]"
  [[ ${answer,,} == y || ${answer,,} == yes ]] || declined
}

# discard_batch ENTRIES
discard_batch() {
  local deleted=()
  need_hold "deleted $(count "$done_count" message)"
  change "$aws_region" sqs delete-message-batch --queue-url "$dead_letters_url" --entries "$1" >"$scratch/response" || return
  [[ -s $scratch/response ]] || echo '{}' >"$scratch/response"
  mapfile -t deleted < <(jq -r --argjson entries "$1" '[.Failed[]?.Id] as $failed | $entries[] | select(.Id | IN($failed[]) | not) | .ReceiptHandle' "$scratch/response")
  let_go "${deleted[@]}"
  done_count=$((done_count + ${#deleted[@]}))
  jq -r '.Failed[0] // empty | "\(.Code) from DeleteMessageBatch: \(.Message // "")"' "$scratch/response" >"$scratch/error"
  [[ ! -s $scratch/error ]]
}

move_selected() {
  local message moved=0
  while IFS= read -r message; do
    need_hold "moved $(count "$moved" message)"
    printf '%s\n' "$message" >"$scratch/message"
    move_message "$moved"
    let_go "$(jq -r .ReceiptHandle "$scratch/message")"
    moved=$((moved + 1))
  done < <(jq -c --slurpfile selected "$scratch/dead_letters" '($selected[0] | map(.id)) as $ids | .[] | select(.MessageId | IN($ids[]))' "$scratch/held")
  say "Messages moved to the $queue queue: $moved of $1."
}

# Held messages that were neither moved nor deleted stay in the dead-letter queue.
cleanup() { release_messages || true; }

# --- Every message ---

move_all() {
  say "Moving $(count "$waiting" message) from the dead-letter queue to the $queue queue."
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

# Always names the destination. By default SQS moves a message back to its source queue, but the
# messages that the function sent to the dead-letter queue never were in another queue.
start_task() {
  local rate=()
  [[ -z $max_per_second ]] || rate=(--max-number-of-messages-per-second "$max_per_second")
  change "$aws_region" sqs start-message-move-task --source-arn "$dead_letters_arn" --destination-arn "$queue_arn" \
    "${rate[@]}" >/dev/null
}

# Someone else's task may move the messages to another queue.
follow_task() {
  local state destination
  while true; do
    must_look "$aws_region" sqs list-message-move-tasks --source-arn "$dead_letters_arn" --max-results 1 >"$scratch/response"
    destination=$(jq -r '.Results[0].DestinationArn // "the queues that the messages came from"' "$scratch/response")
    [[ $destination == "$queue_arn" ]] \
      || die "this script moved nothing: another redrive task moves the messages to $destination, not to the $queue queue"
    state=$(jq -r '.Results[0].Status // "UNKNOWN"' "$scratch/response")
    [[ $state == RUNNING || $state == CANCELLING ]] || break
    sleep "$INTERVAL"
  done
  jq -r --arg queue "$queue" '.Results[0] | "Messages moved to the \($queue) queue: \(.ApproximateNumberOfMessagesMoved // 0) of \(.ApproximateNumberOfMessagesToMove // "?")."' "$scratch/response"
  [[ $state == COMPLETED ]] || die "the redrive task ended as $state: $(jq -r '.Results[0].FailureReason // "SQS gave no reason"' "$scratch/response")"
}

# Moves no more messages than were there at first, because one that fails again soon returns.
move_one_by_one() {
  local moved=0 idle=0
  while ((moved < waiting && idle < RESPONSES_WITHOUT_NEW)); do
    must_look "$aws_region" sqs receive-message --queue-url "$dead_letters_url" --max-number-of-messages 1 --visibility-timeout 60 \
      --wait-time-seconds 1 --message-attribute-names All >"$scratch/received"
    if ! jq 'has("Messages")' "$scratch/received" | is_true; then
      idle=$((idle + 1))
      continue
    fi
    idle=0
    jq '.Messages[0]' "$scratch/received" >"$scratch/message"
    move_message "$moved"
    moved=$((moved + 1))
  done
  say "Messages moved to the $queue queue: $moved of $waiting."
  ((moved == waiting)) || say 'The remaining messages are in flight: another consumer has received them. Run this script again in a minute.'
}

# move_message MOVED: moves the message in $scratch/message. Sends it before deleting it: an interruption
# can duplicate a message but not lose one.
move_message() {
  jq -j .Body "$scratch/message" >"$scratch/body"
  jq '.MessageAttributes // {}' "$scratch/message" >"$scratch/attributes"
  change "$aws_region" sqs send-message --queue-url "$queue_url" --message-body "file://$scratch/body" \
    --message-attributes "file://$scratch/attributes" >/dev/null || die "moved $(count "$1" message), then a call failed: $(why)"
  change "$aws_region" sqs delete-message --queue-url "$dead_letters_url" \
    --receipt-handle "$(jq -r .ReceiptHandle "$scratch/message")" >/dev/null || die "moved $(count "$1" message), then a call failed: $(why)"
  [[ -z $max_per_second ]] || sleep "$(jq -n --argjson rate "$max_per_second" '1 / $rate')"
}

main "$@"
