#!/usr/bin/env bats
# status.sh with the real AWS CLI against moto.

# shellcheck disable=SC2154 # helpers.bash sets variables
load helpers.bash

setup() {
  setup_clone
  use_moto
  make_installation
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
