#!/usr/bin/env bats
# pause.sh, and what status.sh and verify.sh say of paused deliveries, with the real AWS CLI against
# moto; states in between with a scripted one.

# shellcheck disable=SC2154 # helpers.bash sets variables
load helpers.bash

setup() {
  setup_clone
  export EDGETAP_PAUSE_INTERVAL=0
}

# make_mappings: creates the function, the queues and their mappings in moto, and the outputs.
make_mappings() {
  use_moto
  make_installation
  moto sqs create-queue --queue-name tap-backfill >/dev/null
  moto sqs create-queue --queue-name tap-backfill-dead-letters >/dev/null
  moto iam create-role --role-name tap-function --assume-role-policy-document '{}' >/dev/null
  python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1], "w").writestr("bootstrap", "x")' "$BATS_TEST_TMPDIR/code.zip"
  moto lambda create-function --function-name tap --runtime provided.al2023 --handler bootstrap --role "arn:aws:iam::$account:role/tap-function" \
    --zip-file "fileb://$BATS_TEST_TMPDIR/code.zip" >/dev/null
  work_mapping=$(make_mapping tap-work)
  backfill_mapping=$(make_mapping tap-backfill)
  outputs "{\"event_source_mapping_uuid\":\"$work_mapping\",\"log_expiration_days\":30,\"backfill_concurrency\":2,
    \"backfill_queue_url\":\"$MOTO/$account/tap-backfill\",\"backfill_queue_arn\":\"arn:aws:sqs:us-east-1:$account:tap-backfill\",
    \"backfill_dead_letter_queue_url\":\"$MOTO/$account/tap-backfill-dead-letters\",\"backfill_event_source_mapping_uuid\":\"$backfill_mapping\"}"
}

make_mapping() {
  moto lambda create-event-source-mapping --function-name tap --event-source-arn "arn:aws:sqs:us-east-1:$account:$1" --batch-size 10 | jq -r .UUID
}

state() { moto lambda get-event-source-mapping --uuid "$1" | jq -r .State; }

@test "pausing and resuming change one mapping, once" {
  make_mappings
  run scripts/pause.sh <<<n
  exits 1
  has 'Nothing was changed.'
  [[ $(state "$work_mapping") == Enabled ]]
  run scripts/pause.sh </dev/null
  exits 2
  run scripts/pause.sh --dry-run
  exits 0
  has "would run: aws lambda update-event-source-mapping --uuid $work_mapping --no-enabled"
  [[ $(state "$work_mapping") == Enabled ]]
  run scripts/pause.sh <<<y
  exits 0
  has 'Pause the deliveries from the queue tap-work of account 123456789012, us-east-1? [y/N]'
  has 'Deliveries from the queue tap-work are paused.'
  has '0 messages waiting, 0 in flight or delayed.'
  has 'SQS deletes a message 4 days after it was sent, and the bucket tap-logs-123456789012-us-east-1 deletes a log after 30 days.'
  has 'run scripts/pause.sh --resume'
  [[ "$(state "$work_mapping") $(state "$backfill_mapping")" == 'Disabled Enabled' ]]
  run scripts/pause.sh
  exits 0
  has 'are paused already'
  run scripts/pause.sh --resume
  exits 0
  has 'Deliveries from the queue tap-work are on.'
  has_not 'Resume within'
  [[ $(state "$work_mapping") == Enabled ]]
  run scripts/pause.sh --resume
  exits 0
  has 'are on already'
}

@test "paused backfill is shown by status.sh only" {
  make_mappings
  run scripts/pause.sh --queue backfill --yes
  exits 0
  has 'run scripts/pause.sh --queue backfill --resume'
  [[ "$(state "$work_mapping") $(state "$backfill_mapping")" == 'Enabled Disabled' ]]
  moto sqs send-message --queue-url "$MOTO/$account/tap-backfill-dead-letters" --message-body x >/dev/null
  run scripts/status.sh
  exits 0
  [[ $output =~ work\ +0\ +0\ +0\ +on ]] || fail_with 'the work queue'
  [[ $output =~ backfill\ +0\ +0\ +0\ +paused ]] || fail_with 'the backfill queue'
  [[ $output =~ backfill\ dead-letter\ +1\ +0\ +0\ +- ]] || fail_with "the backfill's dead letters"
  has 'Deliveries from the backfill queue are paused.'
  has 'hint: scripts/pause.sh --queue backfill --resume'
  has 'hint: scripts/redrive.sh --queue backfill --dry-run'
  has_not 'Deliveries from the work queue'
  scripts/status.sh --json >status.json
  [[ $(jq -c '.queues | [.work.paused, .work.mapping, .backfill.paused, .backfill.mapping, .dead_letters.paused]' status.json) == '[false,"Enabled",true,"Disabled",null]' ]]
}

@test "status.sh adds up the rows of the day" {
  make_mappings
  for metric in rows=12 rows=5 sent=7 static=9 malformed=1; do
    moto cloudwatch put-metric-data --namespace edgetap --metric-data \
      "[{\"MetricName\":\"${metric%=*}\",\"Dimensions\":[{\"Name\":\"function\",\"Value\":\"tap\"}],\"Value\":${metric#*=},\"Timestamp\":\"$(jq -n -r 'now - 600 | todate')\"}]"
  done
  moto cloudwatch put-metric-data --namespace edgetap --metric-data \
    '[{"MetricName":"rows","Dimensions":[{"Name":"function","Value":"another"}],"Value":1000}]'
  run scripts/status.sh
  exits 0
  has 'rows in the last 24 h: 17, of which 7 sent, 9 static, 0 excluded, 1 malformed, 0 rejected'
  [[ $(scripts/status.sh --json | jq -c '.totals | [.rows, .sent, .static, .excluded, .malformed, .rejected, .hours]') == '[17,7,9,0,1,0,24]' ]]
}

@test "verify.sh says that deliveries are paused" {
  make_mappings
  scripts/pause.sh --yes
  run scripts/verify.sh
  exits 2
  has 'error: deliveries are paused: the event source mapping of the work queue is Disabled'
  has 'hint: run scripts/pause.sh --resume'
  [[ $(moto s3api list-objects-v2 --bucket "$bucket" | jq '.KeyCount // 0') == 0 ]]
}

@test "pause waits until Lambda has made each change" {
  use_script
  outputs '{"event_source_mapping_uuid":"uuid-1"}'
  respond lambda.get-event-source-mapping.1 '{"State":"Enabling"}'
  respond lambda.get-event-source-mapping.2 '{"State":"Enabled"}'
  respond lambda.get-event-source-mapping.3 '{"State":"Disabling"}'
  respond lambda.get-event-source-mapping '{"State":"Disabled"}'
  respond lambda.update-event-source-mapping '{}'
  respond sqs.get-queue-attributes '{"Attributes":{"ApproximateNumberOfMessages":"3","ApproximateNumberOfMessagesNotVisible":"1","ApproximateNumberOfMessagesDelayed":"1","MessageRetentionPeriod":"1209600"}}'
  respond cloudwatch.get-metric-data '{"MetricDataResults":[{"Id":"age","Values":[180000.0,5.0]}]}'
  run scripts/pause.sh --yes
  exits 0
  has '3 messages waiting, 2 in flight or delayed; the oldest is 2 days old.'
  has 'Resume within 11 days at most: SQS deletes a message 14 days after it was sent.'
  [[ $(calls lambda.get-event-source-mapping) == 4 ]]
  [[ $(calls lambda.update-event-source-mapping) == 1 ]]
  called '^lambda update-event-source-mapping --uuid uuid-1 --no-enabled '
}

@test "what cannot be paused is refused with a hint" {
  use_script
  run scripts/pause.sh --queue backfill
  exits 2
  has 'error: the installation tap has no backfill queue'
  has 'hint: set backfill_concurrency'
  run scripts/pause.sh
  exits 2
  has 'error: Terraform has no output event_source_mapping_uuid'
  run scripts/pause.sh --queue dead
  exits 2
  has '--queue requires work or backfill'
  outputs '{"event_source_mapping_uuid":"uuid-1"}'
  respond_error lambda.get-event-source-mapping AccessDeniedException GetEventSourceMapping no
  run scripts/pause.sh --yes
  exits 1
  has 'error: cannot read the event source mapping uuid-1: AccessDeniedException from GetEventSourceMapping: no'
}
