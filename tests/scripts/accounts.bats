#!/usr/bin/env bats
# Distributions that deliver to an installation in another account, with the real AWS CLI against moto
# and its two accounts.

# shellcheck disable=SC2154 # helpers.bash sets variables
load helpers.bash

others=222222222222
arn=arn:aws:logs:us-east-1:123456789012:delivery-destination:edgetap-tap-accounts

setup() {
  setup_clone
  use_moto
  rm -r terraform # a clone is not needed
  export EDGETAP_TERRAFORM=no-terraform
  moto logs put-delivery-destination --name edgetap-tap-accounts --output-format w3c --tags '{"edgetap":"tap","managed-by":"terraform"}' \
    --delivery-destination-configuration "{\"destinationResourceArn\":\"arn:aws:s3:::tap-logs-$account-us-east-1\"}" >/dev/null
  admit "$others"
  credentials=$(moto sts assume-role --role-arn "arn:aws:iam::$others:role/operator" --role-session-name test)
  AWS_ACCESS_KEY_ID=$(jq -r .Credentials.AccessKeyId <<<"$credentials")
  AWS_SECRET_ACCESS_KEY=$(jq -r .Credentials.SecretAccessKey <<<"$credentials")
  AWS_SESSION_TOKEN=$(jq -r .Credentials.SessionToken <<<"$credentials")
  export AWS_SESSION_TOKEN
  legacy='{"Enabled":true,"IncludeCookies":false,"Bucket":"legacy.s3.amazonaws.com","Prefix":"cf/"}'
  shop=$(make_distribution shop "$legacy")
  api=$(make_distribution api "$legacy")
}

# admit ACCOUNT: the destination's policy lets the account create deliveries.
admit() {
  moto logs put-delivery-destination-policy --delivery-destination-name edgetap-tap-accounts --delivery-destination-policy "$(jq -n -c --arg account "$1" --arg arn "$arn" \
    '{Version: "2012-10-17", Statement: [{Effect: "Allow", Principal: {AWS: [$account]}, Action: "logs:CreateDelivery", Resource: $arn}]}')" >/dev/null
}

in_log_account() { env -u AWS_SESSION_TOKEN AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test "$@"; }

everything() {
  local id
  moto logs describe-delivery-sources
  moto logs describe-deliveries | jq 'del(.deliveries[] | .id, .arn)'
  for id in "$shop" "$api"; do
    moto cloudfront get-distribution-config --id "$id" | jq 'del(.ETag)'
    moto cloudfront list-tags-for-resource --resource "arn:aws:cloudfront::$others:distribution/$id"
  done
}

@test "distributions deliver to the log account, and stop" {
  before=$(everything)
  run scripts/enable.sh --destination-arn "$arn" --all --include-cookies --dry-run
  exits 0
  has 'would be enabled'
  [[ $(everything) == "$before" ]]
  run scripts/enable.sh --destination-arn "$arn" --all --include-cookies --yes
  exits 0
  [[ $(grep -c ' enabled$' <<<"$output") == 2 ]]
  has 'run scripts/verify.sh with the credentials of account 123456789012'
  moto logs describe-deliveries | jq -e --arg arn "$arn" --arg source "edgetap-tap-$shop" '
    .deliveries[] | select(.deliverySourceName == $source) | .deliveryDestinationArn == $arn and .tags.edgetap == "tap"
      and .s3DeliveryConfiguration == {suffixPath: "{DistributionId}/{yyyy}/{MM}/{dd}/{HH}", enableHiveCompatiblePath: false}'
  [[ $(moto logs describe-delivery-destinations | jq '.deliveryDestinations | length') == 0 ]]
  enabled=$(everything)
  run scripts/enable.sh --destination-arn "$arn" --all --include-cookies --yes
  exits 0
  has unchanged
  [[ $(everything) == "$enabled" ]]

  run scripts/status.sh --destination-arn "$arn"
  exits 0
  [[ ${lines[0]} == 'tap in account 123456789012' ]]
  [[ $output =~ $shop\ +shop.example.com\ +yes\ +[0-9]+\ of\ [0-9]+\ +on,\ by\ edgetap\ +-\ +- ]] || fail_with 'the distribution'
  has_not queue
  scripts/status.sh --destination-arn "$arn" --json | jq -e '.module == {name: "tap", region: null, account: "123456789012", bucket: null}
    and .queues == null and .alarms == null and (.distributions | map(.enabled) == ["yes", "yes"] and all(.made_by_edgetap))'

  run scripts/disable.sh --destination-arn "$arn" --distribution "$api" --yes
  exits 0
  [[ $(moto logs describe-deliveries | jq '.deliveries | length') == 1 ]]
  run scripts/disable.sh --destination-arn "$arn" --all --yes
  exits 0
  [[ $(everything) == "$before" ]]
  run in_log_account aws logs describe-delivery-destinations --region us-east-1
  has edgetap-tap-accounts
  run scripts/disable.sh --destination-arn "$arn" --all
  has 'Nothing to remove'
}

@test "account that the installation does not name is refused" {
  before=$(everything)
  (
    export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
    unset AWS_SESSION_TOKEN
    admit 333333333333
  )
  run scripts/enable.sh --destination-arn "$arn" --distribution "$shop" --yes
  exits 1
  has FAILED
  has "hint: account $others must be in source_account_ids of the installation tap in account 123456789012"
  scripts/disable.sh --destination-arn "$arn" --all --yes
  [[ $(everything) == "$before" ]]
}

@test "an installation of the same name in this account is apart" {
  scripts/enable.sh --destination-arn "$arn" --distribution "$shop" --yes
  central=$(everything)
  run scripts/disable.sh --all --name tap --yes
  exits 0
  has 'Nothing to remove'
  [[ $(everything) == "$central" ]]
  own=arn:aws:logs:us-east-1:$others:delivery-destination:edgetap-tap
  moto logs put-delivery-destination --name edgetap-tap --output-format w3c --tags '{"edgetap":"tap"}' \
    --delivery-destination-configuration '{"destinationResourceArn":"arn:aws:s3:::own"}' >/dev/null
  moto logs put-delivery-source --name "edgetap-tap-$api" --log-type ACCESS_LOGS --tags '{"edgetap":"tap"}' \
    --resource-arn "arn:aws:cloudfront::$others:distribution/$api" >/dev/null
  moto logs create-delivery --delivery-source-name "edgetap-tap-$api" --delivery-destination-arn "$own" --tags '{"edgetap":"tap"}' >/dev/null
  run scripts/enable.sh --destination-arn "$arn" --distribution "$api" --yes
  exits 1
  has 'created by the edgetap installation tap'
  scripts/disable.sh --destination-arn "$arn" --all --yes
  moto logs describe-deliveries | jq -e --arg own "$own" '.deliveries | map(.deliveryDestinationArn) == [$own]'
  moto logs describe-delivery-destinations | jq -e '.deliveryDestinations | length == 1'
}

@test "hints name the destination of this run" {
  moto logs put-delivery-destination --name theirs --output-format w3c \
    --delivery-destination-configuration '{"destinationResourceArn":"arn:aws:s3:::theirs"}' >/dev/null
  moto logs put-delivery-source --name web --log-type ACCESS_LOGS --resource-arn "arn:aws:cloudfront::$others:distribution/$shop" >/dev/null
  moto logs create-delivery --delivery-source-name web --delivery-destination-arn "arn:aws:logs:us-east-1:$others:delivery-destination:theirs" >/dev/null
  run scripts/enable.sh --destination-arn "$arn" --distribution "$shop" --yes
  exits 1
  has "then run scripts/enable.sh --destination-arn $arn --distribution $shop again"
  run scripts/status.sh --destination-arn "$arn" --distribution "$shop"
  exits 0
  has "hint: scripts/enable.sh --destination-arn $arn --distribution $shop --dry-run"
}

@test "malformed or own destinations are refused" {
  for bad in '' x arn:aws:s3:::bucket "${arn/us-east-1/eu-west-1}" "${arn%-accounts}" "${arn/123456789012/1}" "${arn}x"; do
    for script in enable disable status; do
      options=(--all)
      [[ $script != status ]] || options=()
      run "scripts/$script.sh" "${options[@]}" --destination-arn "$bad"
      exits 2
      has 'error: --destination-arn requires the ARN of an installation'
      has 'output delivery_destination_arn prints it'
    done
  done
  for script in enable disable status; do
    options=(--all)
    [[ $script != status ]] || options=()
    run in_log_account "scripts/$script.sh" "${options[@]}" --destination-arn "$arn"
    exits 2
    has 'error: the AWS credentials belong to account 123456789012, in which edgetap is installed'
    has 'omit --destination-arn'
  done
  run scripts/disable.sh --destroy --destination-arn "$arn"
  exits 2
  run scripts/disable.sh --all --name tap --destination-arn "$arn"
  exits 2
}
