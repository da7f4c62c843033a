#!/usr/bin/env bats
# Status, verification, dead letters and other people's buckets, with the real AWS CLI against moto.

# shellcheck disable=SC2154 # they are of helpers.bash
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

# A line of the function, as the code prints it.
function_says() {
  jq -n -c --arg level "$1" --arg object "$2" --argjson sent "$3" --arg message "$4" --arg distribution "${5:-EDGETAPVERIFY}" \
    '{timestamp: (now | todate), level: $level, message: $message, function: "tap", object: $object, distribution: $distribution, rows: 1, sent: $sent, elapsed_ms: 812}' \
    >"$BATS_TEST_TMPDIR/line"
  jq -n -c --rawfile message "$BATS_TEST_TMPDIR/line" '[{timestamp: (now * 1000 | floor), message: ($message | rtrimstr("\n"))}]' >"$BATS_TEST_TMPDIR/events"
  moto logs put-log-events --log-group-name "$log_group" --log-stream-name stream --log-events "file://$BATS_TEST_TMPDIR/events" >/dev/null
}

# What the function would do with the log that verify.sh puts: it waits for it, reads it, and says a line.
function_takes() {
  local key=''
  for _ in {1..100}; do
    key=$(moto s3api list-objects-v2 --bucket "$bucket" | jq -r '.Contents[0].Key // empty')
    [[ -z $key ]] || break
    sleep 0.1
  done
  moto s3api get-object --bucket "$bucket" --key "$key" "$BATS_TEST_TMPDIR/taken.gz" >/dev/null
  function_says "$1" "s3://$bucket/$key" "$2" "$3"
}

@test "verifying puts a log that the function can read, follows it, and removes it" {
  function_takes INFO 1 'successfully sent 1 transactions for distribution EDGETAPVERIFY' &
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh
  exits 0
  has "s3://$bucket/AWSLogs/$account/CloudFront/EDGETAPVERIFY/"
  has 'done with it in 812 ms'
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

@test "what the bridge refuses is told as the function tells it" {
  function_takes ERROR 0 'sent 0 transactions for distribution EDGETAPVERIFY, but not all: the token endpoint says invalid_client' &
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh
  exits 1
  has 'the token endpoint says invalid_client'
  has_not 'The path works'
  [[ $(moto s3api list-objects-v2 --bucket "$bucket" | jq '.Contents // [] | length') == 0 ]]
}

@test "silence is explained by what can be seen" {
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh --timeout 2
  exits 1
  has 'nothing was heard of it in 2 s'
  has 'The work queue is empty'
  moto sqs send-message --queue-url "$work" --message-body x >/dev/null
  moto logs put-log-events --log-group-name "$log_group" --log-stream-name stream \
    --log-events "[{\"timestamp\":$(date +%s)000,\"message\":\"{\\\"level\\\":\\\"ERROR\\\",\\\"message\\\":\\\"edgetap is not configured\\\"}\"}]" >/dev/null
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh --timeout 2
  exits 1
  has 'Work waits in the queue'
  has 'edgetap is not configured'
  [[ $(moto s3api list-objects-v2 --bucket "$bucket" | jq '.Contents // [] | length') == 0 ]]
}

@test "a dry run of verifying puts nothing" {
  run scripts/verify.sh --dry-run
  exits 0
  has 'would run: aws s3api put-object'
  has 'looks at : aws logs filter-log-events'
  has 'would run: aws s3api delete-object'
  [[ $(moto s3api list-objects-v2 --bucket "$bucket" | jq '.Contents // [] | length') == 0 ]]
}

@test "status tells of each distribution and of the queues, for people and for programs" {
  logging='{"Enabled":false,"IncludeCookies":false,"Bucket":"","Prefix":""}'
  tapped=$(make_distribution tapped "$logging")
  not=$(make_distribution not "$logging")
  theirs=$(make_distribution theirs "$logging")
  scripts/enable.sh --distribution "$tapped" --include-cookies --yes
  moto logs put-delivery-source --name s --log-type ACCESS_LOGS --resource-arn "arn:aws:cloudfront::$account:distribution/$theirs" >/dev/null
  moto logs put-delivery-destination --name d --output-format json --delivery-destination-configuration '{"destinationResourceArn":"arn:aws:s3:::their-logs"}' >/dev/null
  moto logs create-delivery --delivery-source-name s --delivery-destination-arn "arn:aws:logs:us-east-1:$account:delivery-destination:d" >/dev/null
  key="AWSLogs/$account/CloudFront/$tapped/$(date -u +%Y/%m/%d/%H)/$tapped.x.gz"
  echo x >x
  moto s3api put-object --bucket "$bucket" --key "$key" --body x >/dev/null
  function_says INFO "s3://$bucket/$key" 7 "successfully sent 7 transactions for distribution $tapped" "$tapped"
  moto sqs send-message --queue-url "$dead" --message-body x >/dev/null

  run scripts/status.sh
  exits 0
  [[ $output =~ $tapped\ +tapped.example.com\ +yes\ +[0-9]+\ of\ [0-9]+\ +on,\ by\ edgetap\ +[0-9]+\ s\ ago\ +[0-9]+\ s\ ago,\ 7\ sent ]] || fail_with 'the tapped one'
  [[ $output =~ $not\ +not.example.com\ +no\  ]] || fail_with 'the other one'
  [[ $output =~ $theirs\ +theirs.example.com\ +elsewhere\  ]] || fail_with 'the one elsewhere'
  [[ $output =~ dead\ letters\ +1 ]] || fail_with 'the dead letter'
  has scripts/redrive.sh

  scripts/status.sh --json >status.json
  jq -e --arg id "$tapped" --arg key "$key" '
    (.distributions[] | select(.id == $id) | .tapped == "yes" and .made_by_edgetap and .fields.lacking == []
      and .cookies == {logged: true, turned_on_by_edgetap: true} and .last_object.key == $key and .last_success.sent == 7)
    and (.distributions | length == 3) and .queues.dead_letters.waiting == 1 and .queues.work.waiting == 0 and .module.name == "tap"' status.json
  run scripts/status.sh --json --dry-run --distribution "$not"
  exits 0
  has 'looks at : aws logs describe-deliveries'
}

@test "status tells where logs are read from another bucket, and which fields are lacking" {
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
  [[ $output =~ $theirs\ +theirs.example.com\ +there\  ]] || fail_with 'the one that is read there'
  [[ $output =~ $old\ +old.example.com\ +yes\ +2\ of\ [0-9]+\ +on\  ]] || fail_with 'the older one'
  has "$old does not log timestamp(ms)"
}
