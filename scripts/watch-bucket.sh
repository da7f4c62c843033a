#!/usr/bin/env bash
# Turns on EventBridge notifications of a bucket that receives logs but is not edgetap's. edgetap's
# rule (Terraform variable existing_log_sources) then receives an event for each new log.
#
# Usage: scripts/watch-bucket.sh BUCKET [--undo] [--yes] [--dry-run]
#
#   --undo      turn the notifications off again. Other EventBridge rules for this bucket then
#               receive no events either. It works after the installation was removed too
#   --yes       skip confirmation
#   --dry-run   change nothing; show every AWS call that would be made
#
# S3 can only replace the whole notification configuration. The script therefore reads it, changes
# this one element, shows the difference, and writes all of it back, without S3's test messages to
# the other targets. Then it reads the configuration again and compares.
#
# Exit status: 0 if the notifications are on (or off, with --undo), 1 if a call failed or you
# declined, 2 if nothing was changed.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

bucket='' undo=0

main() {
  read_arguments "$@"
  need_tools aws jq
  if ((undo)); then
    refuse_on_problems
    aws_region=$GLOBAL # S3 finds the bucket from any region
    need_identity "$aws_region"
    account_id=${caller_account:-}
  else
    need_tools terraform
    need_module
  fi
  if ((! undo)) && [[ $bucket == "${log_bucket:-}" ]]; then
    problem "$bucket is edgetap's own bucket, whose events go to the work queue already: with EventBridge too, each log could be delivered twice"
  fi
  refuse_on_problems
  check_bucket
  refuse_on_problems

  read_configuration >"$scratch/was"
  local filter='.EventBridgeConfiguration = {}'
  if ((undo)); then filter='del(.EventBridgeConfiguration)'; fi
  jq -S "$filter" "$scratch/was" >"$scratch/wanted"
  if same was wanted; then
    say "$bucket: EventBridge notifications are already $(state). Nothing to do."
    return
  fi
  say "The notification configuration of $bucket will change as follows:"
  diff --label current --label new -u "$scratch/was" "$scratch/wanted" || true
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
      -*) usage_error "unknown option: $1" ;;
      *)
        [[ -z $bucket ]] || usage_error "unexpected argument: $1 (pass one bucket only)"
        bucket=$1
        ;;
    esac
    shift
  done
  [[ -n $bucket ]] || usage_error 'missing argument: BUCKET'
}

check_bucket() {
  local region
  if ! look "$aws_region" s3api get-bucket-location --bucket "$bucket" --expected-bucket-owner "$account_id" >"$scratch/response"; then
    local reason
    reason=$(why)
    if failed_with "$FORBIDDEN" && look "$aws_region" s3api get-bucket-location --bucket "$bucket" >/dev/null; then
      problem "the bucket $bucket does not belong to account $account_id, so edgetap's rule cannot see its events"$'\n'"$(foreign_bucket_ways)"
    elif failed_with "$FORBIDDEN"; then
      problem "cannot access the bucket $bucket: $reason" 'your identity lacks s3:GetBucketLocation, or the bucket belongs to another account'
    else
      problem "cannot access the bucket $bucket: $reason"
    fi
    return
  fi
  region=$(jq -r '.LocationConstraint // "us-east-1" | if . == "EU" then "eu-west-1" else . end' "$scratch/response")
  if ((undo)); then
    aws_region=$region
  elif [[ $region != "$aws_region" ]]; then
    problem "the bucket $bucket is in $region, but edgetap is in $aws_region: EventBridge delivers events within a region only" \
      "install edgetap in $region too, under another name"
  fi
  if ((! undo)) && ! jq --arg bucket "$bucket" 'any(.[]; .bucket == $bucket)' <<<"${existing_log_sources:-[]}" | is_true; then
    warn "$bucket is not in existing_log_sources: edgetap receives its events only after you add it and run terraform apply"
  fi
}

read_configuration() {
  local response
  response=$(must_look "$aws_region" s3api get-bucket-notification-configuration --bucket "$bucket" --expected-bucket-owner "$account_id")
  [[ -n $response ]] || response='{}' # the CLI prints nothing for an empty configuration
  jq -S . <<<"$response"
}

put_configuration() {
  read_configuration >"$scratch/now"
  same was now || die "someone else just changed the configuration of $bucket. Nothing was changed; run this script again"
  change "$aws_region" s3api put-bucket-notification-configuration --bucket "$bucket" --expected-bucket-owner "$account_id" --skip-destination-validation \
    --notification-configuration "file://$scratch/wanted" || die "cannot change the notification configuration of $bucket: $(why)"
  if ((dry_run)); then
    say 'This was a dry run: nothing was changed.'
    return
  fi
  read_configuration >"$scratch/now"
  if ! same wanted now; then
    diff --label written --label read -u "$scratch/wanted" "$scratch/now" || true
    error "the configuration of $bucket differs from what was written"
    hint 'compare the two above, and restore what is missing'
    exit 1
  fi
  say "$bucket: EventBridge notifications are $(state). S3 can take several minutes to apply the change."
}

# Compares two configurations; S3 can return lists in another order.
same() {
  jq -n --slurpfile one "$scratch/$1" --slurpfile other "$scratch/$2" \
    'def sorted: walk(if type == "array" then sort else . end); ($one[0] | sorted) == ($other[0] | sorted)' | is_true
}

state() { if ((undo)); then printf off; else printf on; fi; }

main "$@"
