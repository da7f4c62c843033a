#!/usr/bin/env bash
# Lets a bucket that somebody else owns tell EventBridge of its new objects, which edgetap's rule (existing_log_sources) waits for.
#
# Usage: scripts/watch-bucket.sh BUCKET [--undo] [--yes] [--dry-run]
#
#   --undo      turn it off again. Rules of others for this bucket then hear nothing either
#   --yes       do not ask
#   --dry-run   change nothing; show every AWS call that would be made
#
# S3 knows only the whole notification configuration: it is read, this one element is added, the difference is shown, and all of
# it is put back, without S3's test messages to the other targets. Then it is read again and compared.
#
# Exit status: 0 done, or nothing to do; 1 it failed; 2 nothing was begun.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

bucket='' undo=0

main() {
  read_arguments "$@"
  need_tools aws jq terraform
  need_module
  refuse_on_problems
  check_bucket
  refuse_on_problems

  read_configuration >"$scratch/was"
  local filter='.EventBridgeConfiguration = {}'
  if ((undo)); then filter='del(.EventBridgeConfiguration)'; fi
  jq -S "$filter" "$scratch/was" >"$scratch/wanted"
  if same was wanted; then
    say "$bucket: EventBridge is $(state) already, nothing to do."
    return
  fi
  say "The notification configuration of $bucket would change so:"
  diff --label now --label 'then' -u "$scratch/was" "$scratch/wanted" || true
  confirm 'Change it?'
  put_configuration
}

read_arguments() {
  while (($#)); do
    case $1 in
      --undo) undo=1 ;;
      --yes) yes=1 ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      -*) usage_error "what is $1?" ;;
      *)
        [[ -z $bucket ]] || usage_error 'one bucket at a time'
        bucket=$1
        ;;
    esac
    shift
  done
  [[ -n $bucket ]] || usage_error 'which bucket?'
}

check_bucket() {
  local region
  if ! look "$aws_region" s3api get-bucket-location --bucket "$bucket" >"$scratch/answer"; then
    problem "the bucket $bucket: $(why)"
    return
  fi
  region=$(jq -r '.LocationConstraint // "us-east-1" | if . == "EU" then "eu-west-1" else . end' "$scratch/answer")
  if [[ $region != "$aws_region" ]]; then
    problem "$bucket is in $region, and the module in $aws_region: EventBridge's events stay in their region. Apply the module there, under another name"
  fi
  if ((! undo)) && ! jq --arg bucket "$bucket" 'any(.[]; .bucket == $bucket)' <<<"${existing_log_sources:-[]}" | is_true; then
    note "$bucket is not in existing_log_sources yet: until it is, and Terraform is applied, nobody hears its events"
  fi
}

read_configuration() {
  local answer
  answer=$(must_look "$aws_region" s3api get-bucket-notification-configuration --bucket "$bucket")
  [[ -n $answer ]] || answer='{}' # that is how the CLI says that there is none
  jq -S . <<<"$answer"
}

put_configuration() {
  read_configuration >"$scratch/now"
  same was now || die 'somebody else changed the configuration just now: nothing was changed, run this again'
  change "$aws_region" s3api put-bucket-notification-configuration --bucket "$bucket" --skip-destination-validation \
    --notification-configuration "file://$scratch/wanted" || die "$bucket: $(why)"
  if ((dry_run)); then
    say 'This was a dry run: nothing was changed.'
    return
  fi
  read_configuration >"$scratch/now"
  if ! same wanted now; then
    diff --label wanted --label now -u "$scratch/wanted" "$scratch/now" || true
    die "$bucket: the configuration is not what was put. Compare, and put right what is missing"
  fi
  say "$bucket: EventBridge is $(state). It may take S3 some minutes to begin."
}

# S3 may tell it in another order.
same() {
  jq -n --slurpfile one "$scratch/$1" --slurpfile other "$scratch/$2" \
    'def sorted: walk(if type == "array" then sort else . end); ($one[0] | sorted) == ($other[0] | sorted)' | is_true
}

state() { if ((undo)); then printf off; else printf on; fi; }

main "$@"
