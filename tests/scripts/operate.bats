#!/usr/bin/env bats
# status.sh and verify.sh with the real AWS CLI against moto.

# shellcheck disable=SC2154 # helpers.bash sets variables
load helpers.bash

setup() {
  setup_clone
  use_moto
  bucket=tap-logs-$account-us-east-1
  work=$MOTO/$account/tap-work
  dead=$MOTO/$account/tap-dead-letters
  log_group=/aws/lambda/tap
  moto s3api create-bucket --bucket "$bucket" >/dev/null
  moto sqs create-queue --queue-name tap-work >/dev/null
  moto sqs create-queue --queue-name tap-dead-letters >/dev/null
  moto logs create-log-group --log-group-name "$log_group"
  moto logs create-log-stream --log-group-name "$log_group" --log-stream-name stream
}

# function_logs LEVEL OBJECT SENT MESSAGE [DISTRIBUTION]: writes a log line like the function's.
function_logs() {
  jq -n -c --arg level "$1" --arg object "$2" --argjson sent "$3" --arg message "$4" --arg distribution "${5:-EDGETAPVERIFY}" \
    '{timestamp: (now | todate), level: $level, message: $message, function: "tap", object: $object, distribution: $distribution, rows: 1, sent: $sent, elapsed_ms: 812}' \
    >"$BATS_TEST_TMPDIR/line"
  jq -n -c --rawfile message "$BATS_TEST_TMPDIR/line" '[{timestamp: (now * 1000 | floor), message: ($message | rtrimstr("\n"))}]' >"$BATS_TEST_TMPDIR/events"
  moto logs put-log-events --log-group-name "$log_group" --log-stream-name stream --log-events "file://$BATS_TEST_TMPDIR/events" >/dev/null
}

# function_takes LEVEL SENT MESSAGE: plays the function. Waits for the log that verify.sh uploads,
# reads it, writes a log line.
function_takes() {
  local key=''
  for _ in {1..100}; do
    key=$(moto s3api list-objects-v2 --bucket "$bucket" | jq -r '.Contents[0].Key // empty')
    [[ -z $key ]] || break
    sleep 0.1
  done
  moto s3api get-object --bucket "$bucket" --key "$key" "$BATS_TEST_TMPDIR/taken.gz" >/dev/null
  function_logs "$1" "s3://$bucket/$key" "$2" "$3"
}

@test "verify.sh uploads a log, follows it and deletes it" {
  function_takes INFO 1 'successfully sent 1 transactions for distribution EDGETAPVERIFY' &
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh
  exits 0
  has "s3://$bucket/AWSLogs/$account/CloudFront/EDGETAPVERIFY/"
  has 'processed the log in 812 ms'
  has 'accepted the transaction'
  has 'The path works'
  [[ $(moto s3api list-objects-v2 --bucket "$bucket" | jq '.Contents // [] | length') == 0 ]]
  run gzip -dc "$BATS_TEST_TMPDIR/taken.gz"
  [[ ${lines[0]} == '#Version: 1.0' ]]
  [[ $(awk -F ' ' 'NR == 2 { print NF - 1 }' <<<"$output") == $(awk -F '\t' 'NR == 3 { print NF }' <<<"$output") ]]
  if [[ -n ${EDGETAP_BINARY:-} ]]; then
    cp "$BATS_TEST_TMPDIR/taken.gz" "$BATS_TEST_TMPDIR/EDGETAPVERIFY.gz"
    run "$EDGETAP_BINARY" replay "$BATS_TEST_TMPDIR/EDGETAPVERIFY.gz"
    exits 0
    has '"path":"/edgetap-verify"'
  fi
}

@test "verify.sh shows the function's error" {
  function_takes ERROR 0 'sent 0 transactions for distribution EDGETAPVERIFY, but not all rows were delivered: the token endpoint says invalid_client' &
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh
  exits 1
  has 'error: the function did not deliver the log: sent 0 transactions'
  has 'the token endpoint says invalid_client'
  has_not 'The path works'
  [[ $(moto s3api list-objects-v2 --bucket "$bucket" | jq '.Contents // [] | length') == 0 ]]
}

@test "verify.sh without a log line shows queue and last error" {
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh --timeout 2
  exits 1
  has 'logged nothing about the uploaded log within 2 s'
  has 'The work queue is empty'
  moto sqs send-message --queue-url "$work" --message-body x --delay-seconds 900 >/dev/null
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh --timeout 1
  has 'The message is in flight'
  moto sqs send-message --queue-url "$work" --message-body x >/dev/null
  moto logs put-log-events --log-group-name "$log_group" --log-stream-name stream \
    --log-events "[{\"timestamp\":$(date +%s)000,\"message\":\"{\\\"level\\\":\\\"ERROR\\\",\\\"message\\\":\\\"invalid configuration\\\",\\\"problems\\\":\\\"missing setting\\\"}\"}]" >/dev/null
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh --timeout 2
  exits 1
  has 'Messages wait in the work queue'
  has "The function's last ERROR was: invalid configuration: missing setting"
  [[ $(moto s3api list-objects-v2 --bucket "$bucket" | jq '.Contents // [] | length') == 0 ]]
}

@test "verify.sh --dry-run uploads nothing" {
  run scripts/verify.sh --dry-run
  exits 0
  has 'would run: aws s3api put-object'
  has 'read only: aws logs filter-log-events'
  has 'would run: aws s3api delete-object'
  [[ $(moto s3api list-objects-v2 --bucket "$bucket" | jq '.Contents // [] | length') == 0 ]]
}

@test "status.sh shows distributions and queues, also as JSON" {
  logging='{"Enabled":false,"IncludeCookies":false,"Bucket":"","Prefix":""}'
  enabled=$(make_distribution enabled "$logging")
  not=$(make_distribution not "$logging")
  theirs=$(make_distribution theirs "$logging")
  scripts/enable.sh --distribution "$enabled" --include-cookies --yes
  moto logs put-delivery-source --name s --log-type ACCESS_LOGS --resource-arn "arn:aws:cloudfront::$account:distribution/$theirs" >/dev/null
  moto logs put-delivery-destination --name d --output-format json --delivery-destination-configuration '{"destinationResourceArn":"arn:aws:s3:::their-logs"}' >/dev/null
  moto logs create-delivery --delivery-source-name s --delivery-destination-arn "arn:aws:logs:us-east-1:$account:delivery-destination:d" >/dev/null
  key="AWSLogs/$account/CloudFront/$enabled/$(date -u +%Y/%m/%d/%H)/$enabled.x.gz"
  echo x >x
  moto s3api put-object --bucket "$bucket" --key "$key" --body x >/dev/null
  function_logs INFO "s3://$bucket/$key" 7 "successfully sent 7 transactions for distribution $enabled" "$enabled"
  moto sqs send-message --queue-url "$dead" --message-body x >/dev/null

  run scripts/status.sh
  exits 0
  [[ $output =~ $enabled\ +enabled.example.com\ +yes\ +[0-9]+\ of\ [0-9]+\ +on,\ by\ edgetap\ +[0-9]+\ s\ ago\ +[0-9]+\ s\ ago,\ 7\ sent ]] || fail_with 'the enabled one'
  [[ $output =~ $not\ +not.example.com\ +no\  ]] || fail_with 'the other one'
  [[ $output =~ $theirs\ +theirs.example.com\ +elsewhere\  ]] || fail_with 'the one elsewhere'
  [[ $output =~ dead-letter\ +1\ +0\ +0 ]] || fail_with 'the message in the dead-letter queue'
  has scripts/redrive.sh

  scripts/status.sh --json >status.json
  jq -e --arg id "$enabled" --arg key "$key" '
    .distributions[] | select(.id == $id) | .enabled == "yes" and .made_by_edgetap and .fields.lacking == []
      and .cookies == {logged: true, turned_on_by_edgetap: true} and .last_object.key == $key and .last_success.sent == 7' status.json
  [[ $(jq -r '.distributions | map(.enabled) | sort | join(" ")' status.json) == 'elsewhere no yes' ]]
  [[ $(jq -c '.queues | [.work.waiting, .dead_letters.waiting]' status.json) == '[0,1]' ]]
  [[ $(jq -r .module.name status.json) == tap ]]
  run scripts/status.sh --json --dry-run --distribution "$not"
  exits 0
  has 'read only: aws logs describe-deliveries'
}

@test "status.sh shows external sources and lacking fields" {
  outputs '{"existing_log_sources":[{"bucket":"their-logs","prefix":""}]}'
  logging='{"Enabled":false,"IncludeCookies":true,"Bucket":"","Prefix":""}'
  theirs=$(make_distribution theirs "$logging")
  old=$(make_distribution old "$logging")
  moto logs put-delivery-source --name s --log-type ACCESS_LOGS --resource-arn "arn:aws:cloudfront::$account:distribution/$theirs" >/dev/null
  moto logs put-delivery-destination --name d --output-format w3c --delivery-destination-configuration '{"destinationResourceArn":"arn:aws:s3:::their-logs"}' >/dev/null
  moto logs create-delivery --delivery-source-name s --delivery-destination-arn "arn:aws:logs:us-east-1:$account:delivery-destination:d" >/dev/null
  moto logs put-delivery-source --name "edgetap-tap-$old" --log-type ACCESS_LOGS --resource-arn "arn:aws:cloudfront::$account:distribution/$old" --tags '{"edgetap":"tap"}' >/dev/null
  moto logs put-delivery-destination --name edgetap-tap --output-format w3c --delivery-destination-configuration "{\"destinationResourceArn\":\"arn:aws:s3:::$bucket\"}" --tags '{"edgetap":"tap"}' >/dev/null
  moto logs create-delivery --delivery-source-name "edgetap-tap-$old" --delivery-destination-arn "arn:aws:logs:us-east-1:$account:delivery-destination:edgetap-tap" \
    --record-fields '["date","time"]' --tags '{"edgetap":"tap"}' >/dev/null
  run scripts/status.sh
  exits 0
  [[ $output =~ $theirs\ +theirs.example.com\ +external\  ]] || fail_with 'the external one'
  [[ $output =~ $old\ +old.example.com\ +yes\ +2\ of\ [0-9]+\ +on\  ]] || fail_with 'the older one'
  has "$old does not log timestamp(ms)"
}
