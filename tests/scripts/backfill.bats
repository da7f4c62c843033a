#!/usr/bin/env bats
# backfill.sh with the real AWS CLI against moto, and a stub of edgetap that prints its arguments.

# shellcheck disable=SC2154 # helpers.bash sets variables
load helpers.bash

none='{"Enabled":false,"IncludeCookies":false,"Bucket":"","Prefix":""}'

setup() {
  setup_clone
  use_moto
  make_installation
  queue=$MOTO/$account/tap-backfill
  with_backfill '{}'
  export EDGETAP_BINARY=$BATS_TEST_TMPDIR/edgetap
  # shellcheck disable=SC2016 # the stub expands it
  printf '#!/bin/sh\necho "region $AWS_REGION: $*"\nexit ${EXIT:-0}\n' >"$EDGETAP_BINARY"
  chmod +x "$EDGETAP_BINARY"
}

# with_backfill JSON: an installation with a backfill queue; JSON overrides the outputs.
with_backfill() {
  outputs "$(jq -n --arg queue "$queue" --argjson changes "$1" \
    '{backfill_concurrency: 5, backfill_queue_url: $queue, backfill_event_source_mapping_uuid: "uuid-1", backfill_sources: []} + $changes')"
}

own=AWSLogs/$account/CloudFront/

@test "backfill.sh fills in bucket, queue and concurrency" {
  run scripts/backfill.sh --since 30d --rate 20 --wait --yes
  exits 0
  has "region us-east-1: backfill s3://$bucket/$own --queue $queue --concurrency 5 --since 30d --rate 20 --wait --yes"
  has "note: cannot ask IAM whether the function may read s3://$bucket/$own"
  has "comparing with Terraform's outputs instead"
  EXIT=130 run scripts/backfill.sh --distribution E1 --until=2026-11-01
  exits 130
  has "--concurrency 5 --distribution E1 --until 2026-11-01"
  EXIT=1 run scripts/backfill.sh --after "${own}x.gz" --dry-run --json
  exits 1
  has "running: $EDGETAP_BINARY backfill s3://"
  has "--after ${own}x.gz --dry-run --json"
  run scripts/backfill.sh --yes --wait --look-every 200 # as the test of the whole path does
  exits 0
  has '--yes --wait --look-every 200'
  [[ -z $(find "${TMPDIR:-/tmp}" -maxdepth 1 -user "$(id -u)" -name 'tmp.*' -newer "$EDGETAP_BINARY" -type d) ]] || fail_with 'the scratch directory is left'
}

@test "backfill.sh chooses the source, or asks for it" {
  with_backfill '{"backfill_sources":[{"bucket":"history","prefix":"cdn/"}]}'
  run scripts/backfill.sh
  exits 0
  has 'backfill s3://history/cdn/ --queue'
  run scripts/backfill.sh --source "s3://$bucket"
  exits 0
  has "backfill s3://$bucket/$own --queue"
  run scripts/backfill.sh --source history/cdn/E1.2026-10
  exits 0
  has 'backfill s3://history/cdn/E1.2026-10 --queue'
  with_backfill '{"backfill_sources":[{"bucket":"history","prefix":"cdn/"}],"existing_log_sources":[{"bucket":"theirs"}]}'
  run scripts/backfill.sh
  exits 2
  has 'error: there are several places with logs, and --source says which'
  has "hint: pass --source history/cdn/, or pass --source $bucket/$own, or pass --source theirs/"
  run scripts/backfill.sh --source history
  exits 0
  has 'backfill s3://history/cdn/ --queue'
}

@test "backfill.sh refuses what the function may not read" {
  with_backfill '{"backfill_sources":[{"bucket":"history","prefix":"cdn/"}]}'
  for place in another history/other/ history/cd "$bucket/"; do
    run scripts/backfill.sh --source "$place"
    exits 2
    has "error: the function may not read s3://${place%%/*}/"
    has "hint: add { bucket = \"${place%%/*}\", prefix = "
    has_not 'region us-east-1'
  done
  run scripts/backfill.sh --source another --dry-run
  exits 0
  has 'note: the function may not read s3://another/'
  has 'backfill s3://another/ --queue'
}

@test "backfill.sh checks its arguments before anything else" {
  for words in --since '--since=' --until --rate --after '--source .' '--distribution -' 30d --sinc '--enabled-at x' '--enabled-at 2026-11-01'; do
    : >"$TERRAFORM_LOG"
    # shellcheck disable=SC2086 # words
    run scripts/backfill.sh $words
    exits 2
    has 'error: '
    has_not 'region us-east-1'
    [[ ! -s $TERRAFORM_LOG ]] || fail_with 'Terraform was asked'
  done
}

@test "backfill.sh asks IAM where it answers" {
  use_script
  respond iam.simulate-principal-policy '{"EvaluationResults":[{"EvalDecision":"allowed"}]}'
  respond lambda.get-event-source-mapping '{"State":"Enabled"}'
  run scripts/backfill.sh --source another/logs/
  exits 0
  has 'backfill s3://another/logs/ --queue'
  has_not note
  called "^iam simulate-principal-policy --policy-source-arn arn:aws:iam::$account:role/tap-function --action-names s3:GetObject --resource-arns arn:aws:s3:::another/logs/a-log.gz "
  respond iam.simulate-principal-policy '{"EvaluationResults":[{"EvalDecision":"implicitDeny"}]}'
  run scripts/backfill.sh --yes
  exits 2
  has "error: the function may not read s3://tap-logs-$account-us-east-1/$own"
  respond iam.simulate-principal-policy '{"EvaluationResults":[{"EvalDecision":"allowed"}]}'
  respond lambda.get-event-source-mapping '{"State":"Disabled"}'
  run scripts/backfill.sh --yes
  exits 0
  has 'note: deliveries from the backfill queue are paused'
  run scripts/backfill.sh --yes --wait
  exits 2
  has 'error: deliveries from the backfill queue are paused, so that --wait would not end'
}

@test "backfill.sh without a queue sends nothing" {
  outputs '{}'
  run scripts/backfill.sh --since 30d
  exits 2
  has 'error: the backfill queue does not exist: backfill_concurrency is 0'
  has 'hint: set backfill_concurrency, such as 5, in terraform/mine.auto.tfvars'
  has_not 'region us-east-1'
  run scripts/backfill.sh --since 30d --dry-run
  exits 0
  has "backfill s3://$bucket/$own --since 30d --dry-run"
  run scripts/backfill.sh --queue "$queue"
  exits 2
  has '--queue is filled in by this script'
  EDGETAP_BINARY=/nothing/edgetap run scripts/backfill.sh
  exits 2
  has 'error: the program /nothing/edgetap is not there'
}

@test "--until enabled takes the moments from the tags" {
  one=$(make_distribution one "$none")
  two=$(make_distribution two "$none")
  scripts/enable.sh --distribution "$one" --distribution "$two" --yes
  moment() { moto logs describe-deliveries | jq -r --arg id "$1" '.deliveries[] | select(.deliverySourceName | endswith($id)) | .arn' \
    | xargs -I{} aws logs list-tags-for-resource --resource-arn {} | jq -r '.tags["edgetap-enabled-at"]'; }
  moment=$(moment "$one")
  [[ $(jq -n --arg at "$moment" '$at | fromdate | now - . | . >= 0 and . < 120') == true ]] || fail_with "the moment is $moment"
  run scripts/backfill.sh --until enabled
  exits 0
  has "--concurrency 5 --enabled-at "
  has "--enabled-at $one=$moment "
  has "--enabled-at $two=$(moment "$two") "
  with_backfill '{"backfill_sources":[{"bucket":"history","prefix":""}]}'
  run scripts/backfill.sh --until enabled --distribution "$one"
  exits 0
  has "backfill s3://history/ --queue $queue --concurrency 5 --enabled-at $one=$(jq -n -r --arg at "$moment" '$at | fromdate + 4 * 3600 | todate') --until enabled --distribution $one"
}

@test "--until enabled without a moment is refused" {
  one=$(make_distribution one "$none")
  run scripts/backfill.sh --until enabled
  exits 2
  has 'error: edgetap has no deliveries in this account'
  run scripts/backfill.sh --until enabled --distribution "$one"
  exits 2
  has "error: no moment of enabling is recorded for: $one"
  has 'hint: pass --enabled-at ID=TIME, or --until with a time'
  for moment in "$one=2026-11-01" 2026-11-01; do
    run scripts/backfill.sh --until enabled --distribution "$one" --enabled-at "$moment"
    exits 0
    has "--until enabled --distribution $one --enabled-at $moment"
  done
  with_backfill '{"existing_log_sources":[{"bucket":"theirs","prefix":""}]}'
  run scripts/backfill.sh --until enabled --distribution "$one"
  exits 2
  has 'error: nothing records since when the bucket theirs sends events to edgetap'
  has 'hint: pass --until or --enabled-at with the time of scripts/watch-bucket.sh'
  run scripts/backfill.sh --until enabled --enabled-at "$one=2026-11-01"
  exits 0
  has "--until enabled --enabled-at $one=2026-11-01"
}
