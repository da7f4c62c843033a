#!/usr/bin/env bash
# Tests the path to the bridge with one recognizable request. Without --through-cloudfront it does
# not wait for CloudFront: it uploads a log with that request and follows it, in about a minute.
#
# Usage: scripts/verify.sh [--timeout SECONDS] [--dry-run]
#        scripts/verify.sh --through-cloudfront ID [--domain NAME] [--wait MINUTES] [--timeout SECONDS] [--dry-run]
#
#   --through-cloudfront ID   send the request to this distribution instead, and follow it from
#                             CloudFront into a log and to the bridge
#   --domain NAME             the distribution's own domain name, if the distribution belongs to
#                             another account
#   --wait MINUTES            how long to wait for the log (default 30)
#   --timeout SECONDS         how long to wait for the function (default 180)
#   --dry-run                 change nothing; show every call that would be made
#
# The request of an uploaded log is GET https://edgetap.invalid/edgetap-verify from 192.0.2.1, for
# the distribution EDGETAPVERIFY. You can look for it on your platform. The script deletes the log
# after its delivery. A log that was not delivered stays: the function tries again, as with any log.
#
# With --through-cloudfront the request is GET /etc/passwd?edgetap-verify=MARK, sent to the
# distribution by https. CloudFront and your platform may treat it as an attack; any response is
# fine. `edgetap find` searches the logs for its request ID.
#
# Exit status: 0 if the bridge accepted the request, 1 if it did not (the script shows the last step
# that succeeded), 2 if nothing was uploaded or sent.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/lib-verify.sh
. scripts/lib-verify.sh

readonly INTERVAL=${EDGETAP_VERIFY_INTERVAL:-3}
timeout=180 key='' seen='' distribution='' domain='' wait=''

main() {
  read_arguments "$@"
  need_tools aws jq terraform gzip curl
  need_installation
  refuse_paused
  if [[ -n $distribution ]]; then
    through_cloudfront
    return
  fi
  refuse_on_problems
  make_log 1
  put_log
  if ((dry_run)); then
    summary_line "s3://$log_bucket/$key" "$(since)" >/dev/null
    delete_log
    say 'This was a dry run: nothing was changed.'
    return
  fi
  follow
}

read_arguments() {
  while (($#)); do
    case $1 in
      --through-cloudfront)
        [[ ${2:-} =~ ^[A-Z0-9]+$ ]] || usage_error '--through-cloudfront requires the ID of a distribution, such as E27FO14I29XXXX'
        distribution=$2
        shift
        ;;
      --domain)
        [[ ${2:-} =~ ^[A-Za-z0-9.-]+$ ]] || usage_error '--domain requires a domain name, such as d111111abcdef8.cloudfront.net'
        domain=$2
        shift
        ;;
      --wait)
        [[ ${2:-} =~ ^[1-9][0-9]{0,3}$ ]] || usage_error '--wait requires a number of minutes (1 to 9999)'
        wait=$2
        shift
        ;;
      --timeout)
        [[ ${2:-} =~ ^[1-9][0-9]{0,3}$ ]] || usage_error '--timeout requires a number of seconds (1 to 9999)'
        timeout=$2
        shift
        ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) usage_error "unknown option: $1" ;;
    esac
    shift
  done
  [[ -n $distribution || -z $domain$wait ]] || usage_error '--domain and --wait require --through-cloudfront'
  wait=${wait:-30}
}

# While deliveries are paused, the function receives nothing, and nothing else is wrong.
refuse_paused() {
  local state
  ((${#problems[@]} == 0)) && [[ -n $event_source_mapping_uuid ]] || return 0
  state=$(mapping_state "$event_source_mapping_uuid") || return 0 # without the permission to look
  ! is_paused "$state" || problem "deliveries are paused: the event source mapping of the work queue is $state" 'run scripts/pause.sh --resume'
}

put_log() {
  change "$aws_region" s3api put-object --bucket "$log_bucket" --key "$key" --body "$scratch/log.gz" >/dev/null \
    || die "cannot upload s3://$log_bucket/$key: $(why)"
  put_at=$SECONDS
  step bucket "s3://$log_bucket/$key"
}

# step NAME TEXT: prints a step with the seconds since the upload.
step() { printf '%4s s  %-9s %s\n' "$((SECONDS - put_at))" "$1" "$2"; }

follow() {
  local line=''
  while ((SECONDS - put_at < timeout)); do
    sleep "$INTERVAL"
    watch_queue
    line=$(summary_line "s3://$log_bucket/$key" "$(since)")
    [[ -z $line ]] || break
  done
  if [[ -z $line ]]; then
    explain_silence
    exit 1
  fi
  report "$line"
}

# A minute before the script started, because clocks differ.
since() { echo "$(($(date +%s) - SECONDS - 60))"; }

# Often the function receives the notification before this sees it.
watch_queue() {
  [[ -z $seen ]] || return 0
  local depth
  depth=$(depth "$work_queue_url")
  [[ $depth != '0 0' ]] || return 0
  seen=1
  step queue "${depth% *} waiting, ${depth#* } in flight or delayed (messages of all logs)"
}

depth() {
  look "$aws_region" sqs get-queue-attributes --queue-url "$1" --attribute-names All >"$scratch/queue" || die "cannot read the queue ${1##*/}: $(why)"
  jq -r '.Attributes
    | "\(.ApproximateNumberOfMessages) \([.ApproximateNumberOfMessagesNotVisible, .ApproximateNumberOfMessagesDelayed | tonumber] | add)"' "$scratch/queue"
}

report() {
  local message level sent elapsed
  IFS=$'\t' read -r level sent elapsed message < <(jq -r '[.level, .sent, .elapsed_ms // "?", .message] | @tsv' <<<"$1")
  step function "processed the log in $elapsed ms"
  if [[ $level == INFO && $sent == 1 ]]; then
    delete_log
    step token 'received'
    step bridge 'accepted the transaction'
    say "The path works. Look for /edgetap-verify?mark=$unique on your platform."
    return
  fi
  error "the function did not deliver the log: $message"
  hint 'bucket, queue and function work; to test the token endpoint, the bridge and certificates, run edgetap check with the same .env'
  exit 1
}

# Without a log line about the object, shows the function's last error and what the queue suggests.
explain_silence() {
  error "the function logged nothing about the uploaded log within $timeout s"
  look "$aws_region" logs filter-log-events --log-group-name "$log_group_name" --filter-pattern '"ERROR"' \
    --start-time "$(since)000" >"$scratch/lines" || true
  local last
  last=$(jq -r '[.events[]?.message | . as $text | (fromjson? // {message: $text})
    | (.message // $text) + (.problems // .error // .reason // "" | if . == "" then . else ": \(.)" end)] | last // empty' "$scratch/lines")
  if [[ -n $last ]]; then say "The function's last ERROR was: $last"; fi
  case "$(depth "$work_queue_url")" in
    '0 0')
      say 'The work queue is empty: the bucket does not notify the queue, or the function cannot write its log.'
      hint "run $TERRAFORM -chdir=terraform plan; it should show no changes"
      ;;
    '0 '*)
      say 'The message is in flight: the function is processing it, or it is delayed for a retry.'
      hint "read the function's log ($log_group_name), or pass a longer --timeout"
      ;;
    *)
      say 'Messages wait in the work queue: the function is not triggered, or it is throttled.'
      hint "check the function's event source mapping and its concurrency"
      ;;
  esac
}

delete_log() {
  change "$aws_region" s3api delete-object --bucket "$log_bucket" --key "$key" >/dev/null \
    || warn "cannot delete s3://$log_bucket/$key: $(why)"
  key=''
}

# Deleting a log that waits for the function would make the function report it as deleted.
cleanup() {
  [[ -z $key || -z ${put_at:-} ]] || ((dry_run)) || note "the log stays, because it was not delivered: the function tries again (s3://$log_bucket/$key)"
}

main "$@"
