#!/usr/bin/env bash
# Proves the path from the bucket to the bridge in a minute, without waiting for CloudFront: puts a log of one marked request
# beside the real ones and follows it.
#
# Usage: scripts/verify.sh [--timeout SECONDS] [--dry-run]
#
#   --timeout SECONDS   how long to wait for the function (default 180)
#   --dry-run           change nothing; show every AWS call that would be made
#
# The request is GET https://edgetap.invalid/edgetap-verify from 192.0.2.1, of the distribution EDGETAPVERIFY: look for it at the
# bridge. The log is deleted again in the end.
#
# Exit status: 0 the bridge accepted it, 1 it did not (it is said where it stopped), 2 nothing was begun.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

readonly INTERVAL=${EDGETAP_VERIFY_INTERVAL:-3}
timeout=180 key='' seen=''

main() {
  read_arguments "$@"
  need_tools aws jq terraform gzip
  need_module
  refuse_on_problems
  mark
  write_log
  put_log
  if ((dry_run)); then
    look_for_line || true
    delete_log
    say 'This was a dry run: nothing was changed.'
    return
  fi
  follow
}

read_arguments() {
  while (($#)); do
    case $1 in
      --timeout)
        [[ ${2:-} =~ ^[1-9][0-9]{0,3}$ ]] || usage_error '--timeout wants seconds, 1 to 9999'
        timeout=$2
        shift
        ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) usage_error "what is $1?" ;;
    esac
    shift
  done
}

# The mark is in the object's name, as CloudFront's unique id is.
mark() {
  unique=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
  key=${log_prefix}EDGETAPVERIFY/$(date -u +%Y/%m/%d/%H)/EDGETAPVERIFY.$(date -u +%Y-%m-%d-%H).$unique.gz
}

# As CloudFront writes it: two header lines, then tabs.
write_log() {
  local fields values
  fields=('timestamp(ms)' date time c-ip cs-method cs-uri-stem cs-uri-query sc-status x-host-header cs-protocol 'cs(User-Agent)'
    x-edge-request-id DistributionId)
  values=("$(date -u +%s)000" "$(date -u +%Y-%m-%d)" "$(date -u +%H:%M:%S)" 192.0.2.1 GET /edgetap-verify "mark=$unique" 200
  edgetap.invalid https edgetap%20verify "edgetap-verify-$unique" EDGETAPVERIFY)
  {
    printf '#Version: 1.0\n#Fields: %s\n' "${fields[*]}"
    (IFS=$'\t' && printf '%s\n' "${values[*]}")
  } | gzip >"$scratch/log.gz"
}

put_log() {
  change "$aws_region" s3api put-object --bucket "$log_bucket" --key "$key" --body "$scratch/log.gz" >/dev/null \
    || die "putting the log: $(why)"
  put_at=$SECONDS
  step bucket "s3://$log_bucket/$key"
}

# A step and how long after the putting it was seen.
step() { printf '%4s s  %-9s %s\n' "$((SECONDS - put_at))" "$1" "$2"; }

follow() {
  local line=''
  while ((SECONDS - put_at < timeout)); do
    sleep "$INTERVAL"
    watch_queue
    look_for_line || die "the function's log group $log_group_name: $(why)"
    line=$(last_line)
    [[ -z $line ]] || break
  done
  if [[ -z $line ]]; then
    explain_silence
    delete_log
    exit 1
  fi
  tell "$line"
}

# The notification is often gone before it can be seen: then the function had it.
watch_queue() {
  [[ -z $seen ]] || return 0
  local depth
  depth=$(depth "$work_queue_url")
  [[ $depth != '0 0' ]] || return 0
  seen=1
  step queue "${depth% *} waiting, ${depth#* } in work or postponed (of all logs)"
}

depth() {
  look "$aws_region" sqs get-queue-attributes --queue-url "$1" --attribute-names All >"$scratch/queue" || die "the queue ${1##*/}: $(why)"
  jq -r '.Attributes | "\(.ApproximateNumberOfMessages) \(.ApproximateNumberOfMessagesNotVisible)"' "$scratch/queue"
}

look_for_line() {
  look "$aws_region" logs filter-log-events --log-group-name "$log_group_name" --filter-pattern "\"$unique\"" \
    --start-time "$(($(date +%s) - SECONDS - 60))000" >"$scratch/lines"
}

# The function's line about what became of the object; it is printed at every LOG_LEVEL.
last_line() {
  jq -c --arg object "s3://$log_bucket/$key" '
    [.events[]?.message | fromjson? | select(.object == $object and has("sent"))] | last // empty' "$scratch/lines"
}

tell() {
  local what level sent elapsed
  IFS=$'\t' read -r level sent elapsed what < <(jq -r '[.level, .sent, .elapsed_ms // "?", .message] | @tsv' <<<"$1")
  step function "read the log, and was done with it in $elapsed ms"
  delete_log
  if [[ $level == INFO && $sent == 1 ]]; then
    step token 'got one'
    step bridge 'accepted the transaction'
    say "The path works. Look for /edgetap-verify with mark=$unique at the bridge."
    return
  fi
  error "the function says: $what"
  say 'The work itself is fine up to here. edgetap check, with the same .env, tells more of token endpoint, bridge and certificates.'
  exit 1
}

# Nothing was logged about it: what the queues and the function's other lines say.
explain_silence() {
  error "nothing was heard of it in $timeout s"
  look "$aws_region" logs filter-log-events --log-group-name "$log_group_name" --filter-pattern '"ERROR"' \
    --start-time "$(($(date +%s) - SECONDS - 60))000" >"$scratch/lines" || true
  local last
  last=$(jq -r '[.events[]?.message | . as $text | (fromjson? // {message: $text}) | .message // $text] | last // empty' "$scratch/lines")
  if [[ -n $last ]]; then say "The function's last ERROR: $last"; fi
  case "$(depth "$work_queue_url")" in
    '0 0') say 'The work queue is empty: the bucket does not notify it (terraform -chdir=terraform apply), or the function cannot write its lines.' ;;
    '0 '*) say 'The work is with the function or postponed: see its lines.' ;;
    *) say 'Work waits in the queue: the function is not triggered, or throttled (its event source mapping, its concurrency).' ;;
  esac
}

delete_log() {
  change "$aws_region" s3api delete-object --bucket "$log_bucket" --key "$key" >/dev/null || note "s3://$log_bucket/$key is left: $(why)"
  key=''
}

# Also when it is interrupted.
cleanup() {
  [[ -z $key || -z ${put_at:-} ]] || ((dry_run)) || delete_log
}

main "$@"
