#!/usr/bin/env bash
# Pauses deliveries, such as during maintenance of the bridge, and resumes them: disables and enables
# the function's event source mapping. Logs keep arriving and wait in the queue.
#
# Usage: scripts/pause.sh [--queue work|backfill] [--resume] [--yes] [--dry-run]
#
#   --queue work       pause the deliveries of fresh logs (default)
#   --queue backfill   pause those of scripts/backfill.sh
#   --resume           go on; does not ask
#   --yes              skip confirmation
#   --dry-run          change nothing; show every AWS call
#
# The script waits until the change is made, and says what waits and for how long it may. Invocations
# that have begun finish. `terraform apply` leaves a paused mapping as it is. A bridge that is down
# needs no pause: the function delays messages and delivers them later.
#
# Exit status: 0 if deliveries are paused (or on, with --resume), 1 if a call failed or you declined,
# 2 if nothing was changed.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# Seconds between two looks at the mapping, and looks at most: Lambda takes up to some minutes.
readonly INTERVAL=${EDGETAP_PAUSE_INTERVAL:-3} LOOKS=200

queue=work resume=0

main() {
  read_arguments "$@"
  need_tools aws jq terraform
  need_module
  ((${#problems[@]})) || choose_queue "$queue"
  ((${#problems[@]})) || [[ -n $mapping ]] || problem 'Terraform has no output event_source_mapping_uuid' "run $TERRAFORM -chdir=terraform apply"
  refuse_on_problems
  local target=Disabled
  ((! resume)) || target=Enabled
  follow 'Enabled|Disabled'
  if [[ $state == "$target" ]]; then
    say "Deliveries from the queue ${queue_url##*/} are $(state_word) already."
  else
    ((resume)) || confirm "Pause the deliveries from the queue ${queue_url##*/} of account $account_id, $aws_region?"
    switch
    if ((dry_run)); then
      show_waiting
      say 'This was a dry run: nothing was changed.'
      return
    fi
    follow "$target"
    say "Deliveries from the queue ${queue_url##*/} are $(state_word)."
  fi
  show_waiting
}

read_arguments() {
  while (($#)); do
    case $1 in
      --queue)
        need_queue_name "${2:-}"
        queue=$2
        shift
        ;;
      --resume) resume=1 ;;
      --yes) yes=1 ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) usage_error "unknown option: $1" ;;
    esac
    shift
  done
}

state_word() { if ((resume)); then printf on; else printf paused; fi; }

# follow STATES: waits until the mapping is in one of these states; sets state. Lambda refuses a change
# while it makes another one.
follow() {
  local look
  for ((look = 0; look < LOOKS; look++)); do
    state=$(mapping_state "$mapping") || die "cannot read the event source mapping $mapping: $(why)"
    [[ ! $state =~ ^($1)$ ]] || return 0
    sleep "$INTERVAL"
  done
  error "the event source mapping $mapping is $state after $((LOOKS * INTERVAL)) s"
  hint 'run this script again; if the state stays, look at the mapping in the Lambda console'
  exit 1
}

switch() {
  local to=--no-enabled
  ((! resume)) || to=--enabled
  change "$aws_region" lambda update-event-source-mapping --uuid "$mapping" "$to" >/dev/null \
    || die "cannot change the event source mapping $mapping: $(why)"
}

# What waits in the queue, and while deliveries are paused, for how long it may.
show_waiting() {
  must_look "$aws_region" sqs get-queue-attributes --queue-url "$queue_url" --attribute-names All >"$scratch/queue"
  local waiting hidden retention age
  IFS=$'\t' read -r waiting hidden retention < <(jq -r '.Attributes | [ .ApproximateNumberOfMessages,
    ([.ApproximateNumberOfMessagesNotVisible, .ApproximateNumberOfMessagesDelayed | tonumber] | add), .MessageRetentionPeriod // 1209600 ] | @tsv' "$scratch/queue")
  age=$(oldest_age)
  local oldest=''
  if ((waiting)) && [[ -n $age ]]; then oldest="; the oldest is $(span "$age") old"; fi
  say "$(count "$waiting" message) waiting, $hidden in flight or delayed$oldest."
  ((! resume)) || return 0
  say "Resume within $(span "$((retention - ${age:-0}))") at most: SQS deletes a message $(span "$retention") after it was sent$(expiry)."
  say 'Rows that were tried before the pause become dead letters if they are older than RETRY_FOR when you resume; redrive them.'
  say "To go on, run scripts/pause.sh $queue_option--resume."
}

expiry() {
  [[ -z $log_expiration_days ]] || printf ', and the bucket %s deletes a log after %s' "$log_bucket" "$(count "$log_expiration_days" day)"
}

# Seconds, or nothing: SQS writes no metric for a queue that was idle for hours.
oldest_age() {
  look "$aws_region" cloudwatch get-metric-data --start-time "$(jq -n -r 'now - 900 | todate')" --end-time "$(jq -n -r 'now | todate')" \
    --metric-data-queries "$(jq -n -c --arg queue "${queue_url##*/}" '[{ Id: "age", MetricStat: { Stat: "Maximum", Period: 60,
      Metric: {Namespace: "AWS/SQS", MetricName: "ApproximateAgeOfOldestMessage", Dimensions: [{Name: "QueueName", Value: $queue}]} } }]')" \
    >"$scratch/response" || return 0
  jq -r '.MetricDataResults[0].Values[0] // empty | floor' "$scratch/response"
}

# span SECONDS: such as "14 days" or "3 h".
span() {
  if (($1 >= 172800)); then
    count "$(($1 / 86400))" day
  elif (($1 >= 7200)); then
    printf '%s h' "$(($1 / 3600))"
  else
    printf '%s min' "$(($1 / 60))"
  fi
}

main "$@"
