#!/usr/bin/env bats
# enable.sh and disable.sh with the real AWS CLI against moto.

# shellcheck disable=SC2154 # helpers.bash sets variables
load helpers.bash

setup() {
  setup_clone
  use_moto
  legacy='{"Enabled":true,"IncludeCookies":false,"Bucket":"legacy.s3.amazonaws.com","Prefix":"cf/"}'
  none='{"Enabled":false,"IncludeCookies":false,"Bucket":"","Prefix":""}'
  fresh=$(make_distribution fresh "$none")
  cookies_off=$(make_distribution cookies-off "$legacy")
  elsewhere=$(make_distribution elsewhere "$none")
  deliver_elsewhere "$elsewhere"
  moto s3api create-bucket --bucket "tap-logs-$account-us-east-1" >/dev/null
}

# A delivery that the owner of the distribution created before edgetap was installed.
deliver_elsewhere() {
  moto logs put-delivery-source --name CreatedByCloudFront-x --log-type ACCESS_LOGS \
    --resource-arn "arn:aws:cloudfront::$account:distribution/$1" --tags '{"team":"web"}' >/dev/null
  moto logs put-delivery-destination --name theirs --output-format w3c \
    --delivery-destination-configuration '{"destinationResourceArn":"arn:aws:s3:::their-logs/cdn"}' >/dev/null
  moto logs create-delivery --delivery-source-name CreatedByCloudFront-x \
    --delivery-destination-arn "arn:aws:logs:us-east-1:$account:delivery-destination:theirs" >/dev/null
}

# Everything that enabling can change, without IDs that differ between runs.
everything() {
  local id
  moto logs describe-delivery-sources
  moto logs describe-delivery-destinations
  moto logs describe-deliveries | jq 'del(.deliveries[] | .id, .arn)'
  for id in "$fresh" "$cookies_off" "$elsewhere"; do
    moto cloudfront get-distribution-config --id "$id" | jq 'del(.ETag)'
    moto cloudfront list-tags-for-resource --resource "arn:aws:cloudfront::$account:distribution/$id"
  done
}

@test "new distribution is enabled with fields, path and tags" {
  run scripts/enable.sh --distribution "$fresh" --yes
  exits 0
  has "$fresh"
  has 'fresh.example.com'
  has 'enabled'
  has 'four hours'
  moto logs describe-delivery-sources | jq -e --arg id "$fresh" --arg name "edgetap-tap-$fresh" '
    .deliverySources[] | select(.name == $name) | .tags == {edgetap: "tap"} and (.resourceArns[0] | endswith($id)) and .logType == "ACCESS_LOGS"'
  moto logs describe-delivery-destinations | jq -e '.deliveryDestinations[] | select(.name == "edgetap-tap")
    | .tags == {edgetap: "tap"} and .outputFormat == "w3c"
      and .deliveryDestinationConfiguration.destinationResourceArn == "arn:aws:s3:::tap-logs-123456789012-us-east-1"'
  moto logs describe-deliveries | jq -e --arg name "edgetap-tap-$fresh" --rawfile fields scripts/record-fields.txt '
    .deliveries[] | select(.deliverySourceName == $name)
    | .s3DeliveryConfiguration == {suffixPath: "{DistributionId}/{yyyy}/{MM}/{dd}/{HH}", enableHiveCompatiblePath: false}
      and .recordFields == ($fields | split("\n") | map(select(. != "" and (startswith("#") | not))))
      and (.tags | keys == ["edgetap", "edgetap-enabled-at"] and .edgetap == "tap" and (.["edgetap-enabled-at"] | fromdate | now - . | . >= 0 and . < 300))'
  moto cloudfront list-tags-for-resource --resource "arn:aws:cloudfront::$account:distribution/$fresh" \
    | jq -e '.Tags.Items == [{Key: "edgetap-enabled", Value: "true"}]'
}

@test "second run and its dry run change nothing" {
  scripts/enable.sh --distribution "$fresh" --distribution "$cookies_off" --include-cookies --yes
  before=$(everything)
  run scripts/enable.sh --distribution "$fresh" --distribution "$cookies_off" --include-cookies --yes
  exits 0
  has 'unchanged'
  has_not ' enabled'
  [[ $(everything) == "$before" ]]
  run scripts/enable.sh --distribution "$fresh" --distribution "$cookies_off" --include-cookies --dry-run
  exits 0
  has_not 'would run'
}

@test "dry run shows every call and changes nothing" {
  before=$(everything)
  run scripts/enable.sh --all --include-cookies --dry-run
  exits 1 # like the real run: one distribution delivers elsewhere
  [[ $output =~ $elsewhere\ +elsewhere.example.com\ +NOT\ ENABLED ]] || fail_with 'the one that delivers elsewhere'
  has 'would run: aws logs put-delivery-source'
  has 'would run: aws logs put-delivery-destination'
  has 'would run: aws logs create-delivery'
  has 'would run: aws logs tag-resource'
  has 'would run: aws cloudfront update-distribution'
  has 'would run: aws cloudfront tag-resource'
  has 'read only: aws logs describe-deliveries --region us-east-1'
  [[ $output =~ $fresh\ +fresh.example.com\ +would\ be\ enabled ]] || fail_with 'the new distribution'
  [[ ! $output =~ example.com\ +enabled ]] || fail_with 'a dry run enables nothing'
  has_not 'never-shown'
  [[ $(everything) == "$before" ]]
}

@test "delivery to another bucket is kept, with a hint" {
  before=$(everything)
  run scripts/enable.sh --distribution "$elsewhere" --yes
  exits 1
  has 'NOT ENABLED'
  has 'arn:aws:s3:::their-logs/cdn (format w3c, delivery '
  has 'delivery source CreatedByCloudFront-x, created in the CloudFront console'
  has '{ bucket = "their-logs", prefix = "cdn/" }'
  has 'scripts/watch-bucket.sh their-logs'
  has 'or turn on legacy standard logging'
  has 'or ask the owner to delete the delivery'
  has_not 'four hours'
  [[ $(everything) == "$before" ]]
}

@test "existing log source gets no second delivery" {
  outputs '{"existing_log_sources":[{"bucket":"their-logs","prefix":"cdn/"}]}'
  run scripts/enable.sh --distribution "$elsewhere" --yes
  exits 0
  has 'read from their-logs'
}

@test "existing log source with another prefix reads nothing" {
  outputs '{"existing_log_sources":[{"bucket":"their-logs","prefix":"web/"},{"bucket":"another","prefix":""}]}'
  run scripts/enable.sh --distribution "$elsewhere" --yes
  exits 1
  has 'NOT ENABLED'
  has 'edgetap reads that bucket below web/ only'
  has 'add { bucket = "their-logs", prefix = "cdn/" }'
}

@test "legacy logs that edgetap reads get no second delivery" {
  outputs '{"existing_log_sources":[{"bucket":"legacy","prefix":"cf/"}]}'
  run scripts/enable.sh --distribution "$cookies_off" --distribution "$fresh" --yes
  exits 0
  [[ $output =~ $cookies_off\ .*unchanged:\ legacy\ logs\ are\ read\ from\ legacy ]] || fail_with 'the legacy one'
  [[ $output =~ $fresh\ .*\ enabled ]] || fail_with 'the fresh one'
  outputs '{"existing_log_sources":[{"bucket":"legacy","prefix":"other/"}]}'
  run scripts/enable.sh --distribution "$cookies_off" --yes
  has ' enabled'
}

@test "enabling all asks, and says how many" {
  before=$(everything)
  run scripts/enable.sh --all <<<n
  exits 1
  has "Enable 3 distributions of account $account? [y/N]"
  run scripts/enable.sh --all </dev/null
  exits 2
  [[ $(everything) == "$before" ]]
  run scripts/enable.sh --all <<<y
  [[ $(moto logs describe-deliveries | jq '.deliveries | length') == 3 ]]
}

@test "one failed distribution does not stop the others" {
  run scripts/enable.sh --all --yes
  exits 1
  [[ $(grep -c ' enabled$' <<<"$output") == 2 ]]
  [[ $(moto logs describe-deliveries | jq '.deliveries | length') == 3 ]]
}

@test "delivery source created by others is reused" {
  moto logs put-delivery-source --name CreatedByCloudFront-y --log-type ACCESS_LOGS \
    --resource-arn "arn:aws:cloudfront::$account:distribution/$fresh" --tags '{"team":"web"}' >/dev/null
  before=$(moto logs describe-delivery-sources)
  run scripts/enable.sh --distribution "$fresh" --yes
  exits 0
  [[ $(moto logs describe-delivery-sources) == "$before" ]]
  run scripts/disable.sh --distribution "$fresh" --yes
  exits 0
  [[ $(moto logs describe-delivery-sources) == "$before" ]]
}

@test "disabling restores cookie logging" {
  before=$(everything)
  run scripts/enable.sh --distribution "$cookies_off" --include-cookies --yes
  exits 0
  has 'deploys'
  moto cloudfront get-distribution-config --id "$cookies_off" \
    | jq -e '.DistributionConfig.Logging == {Enabled: true, IncludeCookies: true, Bucket: "legacy.s3.amazonaws.com", Prefix: "cf/"}'
  run scripts/disable.sh --all --yes
  exits 0
  [[ $(everything) == "$before" ]]
}

@test "cookie logging needs confirmation" {
  run scripts/enable.sh --distribution "$cookies_off" --include-cookies <<<n
  exits 1
  has 'Nothing was changed'
  run scripts/enable.sh --distribution "$cookies_off" --include-cookies </dev/null
  exits 2
  has '--yes'
  moto cloudfront get-distribution-config --id "$cookies_off" | jq -e '.DistributionConfig.Logging.IncludeCookies == false'
}

# killed_after N SCRIPT …: kills the script after its N-th change; fails if it makes fewer changes.
killed_after() {
  local changes=$BATS_TEST_TMPDIR/changes
  : >"$changes"
  CHANGES=$changes DIE_AFTER=$1 PATH=$repository/tests/scripts/dying:$PATH "${@:2}" >/dev/null 2>&1 && return 1
  (($(wc -l <"$changes") == $1))
}

# Replaces the moment of enabling, which differs from run to run.
at_any_moment() { sed -E '/"edgetap-enabled-at":/ s/[0-9T:-]+Z/MOMENT/'; }

@test "interrupted enabling is completed by the next run" {
  command=(scripts/enable.sh --distribution "$cookies_off" --include-cookies --yes)
  before=$(everything)
  "${command[@]}"
  wanted=$(everything)
  scripts/disable.sh --all --yes
  for ((after = 1; after <= 6; after++)); do
    killed_after "$after" "${command[@]}"
    [[ $(everything) != "$before" ]]
    "${command[@]}"
    diff <(at_any_moment <<<"$(everything)") <(at_any_moment <<<"$wanted")
    scripts/disable.sh --all --yes
    diff <(everything) <(printf '%s\n' "$before")
  done
  run killed_after 7 "${command[@]}"
  exits 1
}

@test "interrupted enabling is undone by disabling" {
  before=$(everything)
  for after in 1 2 3 5; do
    killed_after "$after" scripts/enable.sh --distribution "$cookies_off" --include-cookies --yes
    scripts/disable.sh --all --yes
    diff <(everything) <(printf '%s\n' "$before")
  done
}

@test "interrupted disabling is completed by the next run" {
  before=$(everything)
  for ((after = 1; after <= 5; after++)); do
    scripts/enable.sh --distribution "$cookies_off" --include-cookies --yes
    killed_after "$after" scripts/disable.sh --all --yes
    scripts/disable.sh --all --yes
    diff <(everything) <(printf '%s\n' "$before")
  done
}

@test "two runs at once give the same result as one" {
  scripts/enable.sh --all --yes >"$BATS_TEST_TMPDIR/one" 2>&1 &
  one=$!
  scripts/enable.sh --all --yes >"$BATS_TEST_TMPDIR/two" 2>&1 &
  two=$!
  wait "$one" || true
  wait "$two" || true
  moto logs describe-delivery-sources | jq -e '[.deliverySources[] | select(.tags.edgetap == "tap")] | length == 2'
  moto logs describe-deliveries | jq -e '[.deliveries[] | select(.tags.edgetap == "tap")] | length == 2'
  run cat "$BATS_TEST_TMPDIR/one" "$BATS_TEST_TMPDIR/two"
  has_not FAILED
}

@test "second disabling changes nothing" {
  scripts/enable.sh --distribution "$fresh" --yes
  scripts/disable.sh --all --yes
  before=$(everything)
  run scripts/disable.sh --all --yes
  exits 0
  has 'Nothing to remove'
  [[ $(everything) == "$before" ]]
}

@test "disabling one distribution keeps the other" {
  scripts/enable.sh --distribution "$fresh" --distribution "$cookies_off" --yes
  run scripts/disable.sh --distribution "$fresh" --yes
  exits 0
  moto logs describe-deliveries | jq -e --arg id "$cookies_off" '[.deliveries[] | select(.tags.edgetap == "tap") | .deliverySourceName] == ["edgetap-tap-\($id)"]'
  moto logs describe-delivery-destinations | jq -e 'any(.deliveryDestinations[]; .name == "edgetap-tap")'
}

@test "disabling works without Terraform's state" {
  before=$(everything)
  scripts/enable.sh --distribution "$fresh" --yes
  echo '{}' >"$OUTPUTS"
  run scripts/disable.sh --all --name tap --yes
  exits 0
  [[ $(everything) == "$before" ]]
}

@test "disabling asks, and its dry run changes nothing" {
  scripts/enable.sh --distribution "$fresh" --yes
  before=$(everything)
  run scripts/disable.sh --all <<<no
  exits 1
  run scripts/disable.sh --all --dry-run
  exits 0
  has 'would run: aws logs delete-delivery '
  has 'would run: aws logs delete-delivery-source'
  has 'would run: aws logs delete-delivery-destination'
  [[ $(everything) == "$before" ]]
  TF_AUTO_APPROVE=true run scripts/disable.sh --all
  exits 0
}

@test "delivery source used by others is kept" {
  scripts/enable.sh --distribution "$fresh" --yes
  moto logs put-delivery-destination --name watch --delivery-destination-configuration \
    "{\"destinationResourceArn\":\"arn:aws:logs:us-east-1:$account:log-group:watch\"}" >/dev/null
  moto logs create-delivery --delivery-source-name "edgetap-tap-$fresh" \
    --delivery-destination-arn "arn:aws:logs:us-east-1:$account:delivery-destination:watch" >/dev/null
  run scripts/disable.sh --all --yes
  exits 0
  has 'kept the delivery source'
  moto logs describe-deliveries | jq -e '[.deliveries[].deliverySourceName] | contains(["edgetap-tap-"])'
}

@test "unknown distribution is reported before any change" {
  run scripts/enable.sh --distribution E0NOTTHEREXXXX --distribution E0NORTHISXXXXX --yes
  exits 2
  has 'no distribution E0NOTTHEREXXXX'
  has 'no distribution E0NORTHISXXXXX'
  [[ $(moto logs describe-delivery-destinations | jq '.deliveryDestinations | length') == 1 ]]
}

@test "disabling a mistyped distribution is refused" {
  scripts/enable.sh --distribution "$fresh" --yes
  before=$(everything)
  run scripts/disable.sh --distribution "$fresh" --distribution E0NOTTHEREXXXX --yes
  exits 2
  has "account $account has no distribution E0NOTTHEREXXXX, and edgetap has no delivery for it"
  [[ $(everything) == "$before" ]]
  for id in "$elsewhere" "$cookies_off"; do
    run scripts/disable.sh --distribution "$id" --yes
    exits 0
    [[ $output == "$id: edgetap did not enable this distribution; nothing to remove" ]] || fail_with "$id"
  done
  scripts/disable.sh --all --yes
  run scripts/disable.sh --distribution "$fresh" --yes
  exits 0
  [[ $output == "$fresh: edgetap did not enable this distribution; nothing to remove" ]] || fail_with 'without a destination'
}
