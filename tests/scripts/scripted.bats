#!/usr/bin/env bats
# What moto cannot do, with a scripted AWS CLI and a recorded distribution.

# shellcheck disable=SC2154 # they are of helpers.bash
load helpers.bash

id=E27FO14I29XXXX

setup() {
  setup_clone
  use_script
  arn=arn:aws:cloudfront::$account:distribution/$id
  destination=arn:aws:logs:us-east-1:$account:delivery-destination:edgetap-tap
  answer logs.describe-delivery-sources '{"deliverySources":[]}'
  answer logs.describe-delivery-destinations "{\"deliveryDestinations\":[{\"name\":\"edgetap-tap\",\"arn\":\"$destination\",
    \"deliveryDestinationType\":\"S3\",\"outputFormat\":\"w3c\",\"tags\":{\"edgetap\":\"tap\"},
    \"deliveryDestinationConfiguration\":{\"destinationResourceArn\":\"arn:aws:s3:::tap-logs-$account-us-east-1\"}}]}"
  answer logs.describe-deliveries '{"deliveries":[]}'
  templates "$(fields)"
  answer cloudfront.list-distributions "{\"DistributionList\":{\"Items\":[{\"Id\":\"$id\",\"ARN\":\"$arn\",\"DomainName\":\"d1.cloudfront.net\",\"Aliases\":{\"Quantity\":0}}]}}"
  answer cloudfront.list-tags-for-resource '{"Tags":{"Items":[{"Key":"edgetap-enabled","Value":"true"}]}}'
  answer logs.put-delivery-source '{}'
  answer logs.create-delivery "{\"delivery\":{\"id\":\"new\",\"arn\":\"arn:aws:logs:us-east-1:$account:delivery:new\"}}"
  answer logs.update-delivery-configuration '{}'
  answer logs.tag-resource ''
}

fields() { grep -v '^#' scripts/record-fields.txt | jq -R -s -c 'split("\n") | map(select(. != ""))'; }

# What CloudFront offers.
templates() {
  answer logs.describe-configuration-templates "$(jq -n -c --argjson fields "$1" \
    '{configurationTemplates: [{service: "cloudfront", logType: "ACCESS_LOGS", deliveryDestinationType: "S3",
      allowedFields: ($fields | map({name: ., mandatory: false}))}]}')"
}

# A delivery of ours as CloudWatch Logs describes it: with the path that it made of our suffix. Changed by JSON.
tapped() {
  answer logs.describe-delivery-sources "{\"deliverySources\":[{\"name\":\"edgetap-tap-$id\",\"arn\":\"arn:aws:logs:us-east-1:$account:delivery-source:edgetap-tap-$id\",
    \"resourceArns\":[\"$arn\"],\"service\":\"cloudfront\",\"logType\":\"ACCESS_LOGS\",\"tags\":{\"edgetap\":\"tap\"}}]}"
  jq -n --arg id "$id" --arg account "$account" --arg destination "$destination" --argjson fields "$(fields)" --argjson changes "$1" '
    {deliveries: [{ id: "abc", arn: "arn:aws:logs:us-east-1:\($account):delivery:abc", deliverySourceName: "edgetap-tap-\($id)",
      deliveryDestinationArn: $destination, deliveryDestinationType: "S3", recordFields: $fields, fieldDelimiter: "\t",
      s3DeliveryConfiguration: {suffixPath: "AWSLogs/{account-id}/CloudFront/{DistributionId}/{yyyy}/{MM}/{dd}/{HH}", enableHiveCompatiblePath: false},
      tags: {edgetap: "tap"} } * $changes]}' >"$ANSWERS/logs.describe-deliveries"
}

enable() { run scripts/enable.sh --distribution "$id" --yes "$@"; }

updating='Requested resource is currently being updated. Please try again later.'

@test "a conflict with another change is tried again" {
  refusal logs.create-delivery.1 ConflictException CreateDelivery "$updating"
  refusal logs.create-delivery.2 ConflictException CreateDelivery "$updating"
  enable
  exits 0
  has "$id  d1.cloudfront.net  enabled"
  [[ $(calls logs.create-delivery) == 3 ]]
  [[ $(calls logs.put-delivery-source) == 1 ]]
}

@test "but not for ever, and then it is told" {
  refusal logs.create-delivery ConflictException CreateDelivery "$updating"
  enable
  exits 1
  has FAILED
  has 'currently being updated'
  has 'run this again in a minute'
  [[ $(calls logs.create-delivery) == 8 ]]
}

@test "turning cookies on changes one value of the whole configuration, under the ETag just read" {
  answer cloudfront.get-distribution-config <"$repository/tests/scripts/distribution-config.json"
  answer cloudfront.update-distribution '{}'
  enable --include-cookies
  exits 0
  called '^cloudfront update-distribution --id E27FO14I29XXXX --if-match E2QWRUHEXAMPLE '
  jq -e --slurpfile sent "$ANSWERS/sent.cloudfront.update-distribution.1" '
    def values: [paths(type | . != "object" and . != "array") as $path | {path: $path, value: getpath($path)}];
    (.DistributionConfig | values) as $was | ($sent[0] | values) as $is
    | ($is - $was) == [{path: ["Logging", "IncludeCookies"], value: true}] and ($was - $is) == [{path: ["Logging", "IncludeCookies"], value: false}]' \
    "$repository/tests/scripts/distribution-config.json"
  has_not never-shown
  run cat "$AWS_LOG"
  has_not never-shown
}

@test "what cookie logging was is recorded before it is changed" {
  answer cloudfront.get-distribution-config <"$repository/tests/scripts/distribution-config.json"
  answer cloudfront.update-distribution '{}'
  enable --include-cookies
  called '^logs tag-resource --resource-arn arn:aws:logs:us-east-1:123456789012:delivery:new --tags .*edgetap-cookies-before'
  [[ $(grep -n -m 1 '^logs.tag-resource' "$ANSWERS/calls" | cut -d : -f 1) -lt $(grep -n -m 1 '^cloudfront.update-distribution' "$ANSWERS/calls" | cut -d : -f 1) ]]
}

@test "a distribution that somebody changes meanwhile is read anew" {
  answer cloudfront.get-distribution-config <"$repository/tests/scripts/distribution-config.json"
  jq '.ETag = "ENEWER" | .DistributionConfig.Comment = "theirs"' "$repository/tests/scripts/distribution-config.json" \
    >"$ANSWERS/cloudfront.get-distribution-config.4"
  refusal cloudfront.update-distribution.1 PreconditionFailed UpdateDistribution 'The request failed because it did not meet the preconditions'
  answer cloudfront.update-distribution '{}'
  enable --include-cookies
  exits 0
  called '--if-match ENEWER'
  jq -e '.Comment == "theirs" and .Logging.IncludeCookies' "$ANSWERS/sent.cloudfront.update-distribution.2"
}

@test "a delivery that is as it should be is left alone" {
  tapped '{}'
  enable
  exits 0
  has unchanged
  [[ $(calls logs.update-delivery-configuration) == 0 ]]
}

@test "an older delivery of ours gets today's fields, and nothing else is touched" {
  tapped '{"recordFields":["date","time"]}'
  enable
  exits 0
  has updated
  called '^logs update-delivery-configuration --id abc --record-fields '
  run cat "$AWS_LOG"
  has_not '--s3-delivery-configuration'
  has_not 'delete-delivery'
  has_not 'create-delivery'
}

@test "a path that left the prefix is put back whole: an update does not add the prefix by itself" {
  tapped '{"s3DeliveryConfiguration":{"suffixPath":"{DistributionId}/{yyyy}/{MM}/{dd}/{HH}"}}'
  enable
  exits 0
  called 'update-delivery-configuration --id abc --s3-delivery-configuration .*AWSLogs/\\{account-id\\}/CloudFront/\\{DistributionId\\}/\\{yyyy\\}'
}

@test "another delimiter than a tab is put right" {
  tapped '{"fieldDelimiter":","}'
  enable
  exits 0
  called "update-delivery-configuration --id abc --field-delimiter \\$'\\\\t'"
}

@test "a delivery to our bucket that somebody else made is not touched" {
  tapped '{"recordFields":["date"],"tags":{"edgetap":null,"team":"web"}}'
  answer logs.list-tags-for-resource '{"tags":{"team":"web"}}'
  answer cloudfront.get-distribution-config <"$repository/tests/scripts/distribution-config.json"
  enable --include-cookies
  exits 0
  has 'not by edgetap'
  [[ $(calls logs.tag-resource) == 0 && $(calls cloudfront.tag-resource) == 0 ]]
  [[ $(calls logs.update-delivery-configuration) == 0 ]]
}

@test "fields that CloudFront does not offer are left out, mandatory ones are not" {
  answer logs.describe-configuration-templates "$(jq -n -c --argjson fields "$(fields)" '{configurationTemplates: [{
    allowedFields: ($fields - ["c-port"] | map({name: (if . == "DistributionId" then "distributionid" else . end), mandatory: false}) + [{name: "new-one", mandatory: true}])}]}')"
  enable
  exits 0
  has 'does not offer the field c-port'
  called 'logs create-delivery .*distributionid.*new-one'
  run grep create-delivery "$AWS_LOG"
  has_not c-port
}

@test "without the list of fields it goes on, and says so" {
  refusal logs.describe-configuration-templates AccessDeniedException DescribeConfigurationTemplates 'no'
  enable
  exits 0
  has "cannot be read"
  called 'logs create-delivery .*c-port'
}

@test "a missing permission of CloudFront is named" {
  refusal logs.put-delivery-source AccessDeniedException PutDeliverySource \
    'User: x is not authorized to perform: cloudfront:AllowVendedLogDeliveryForResource on resource: y'
  enable
  exits 1
  has FAILED
  has 'needs the permission cloudfront:AllowVendedLogDeliveryForResource'
}

@test "a source that appears meanwhile is used" {
  answer logs.describe-delivery-sources.1 '{"deliverySources":[]}'
  answer logs.describe-delivery-sources "{\"deliverySources\":[{\"name\":\"CreatedByCloudFront-1\",\"arn\":\"a\",\"resourceArns\":[\"$arn\"],\"service\":\"cloudfront\",\"logType\":\"ACCESS_LOGS\"}]}"
  refusal logs.put-delivery-source ConflictException PutDeliverySource 'This ResourceId has already been used in another Delivery Source in this account.'
  enable
  exits 0
  called 'logs create-delivery --delivery-source-name CreatedByCloudFront-1 '
  [[ $(calls logs.put-delivery-source) == 1 ]]
}

@test "a destination of another bucket is told, since it cannot be changed" {
  outputs '{"log_bucket_arn":"arn:aws:s3:::another"}'
  enable
  exits 1
  has 'scripts/disable.sh --all, then this again'
  [[ $(calls logs.create-delivery) == 0 ]]
}

@test "a changed LOG_LEVEL is applied by Terraform, which asks by itself" {
  tapped '{}'
  printf 'BRIDGE_CLIENT_ID=a\nBRIDGE_CLIENT_SECRET=b\nBRIDGE_AUTH_ENDPOINT=c.example\nBRIDGE_EDGE_ENDPOINT=d.example\nLOG_LEVEL=DEBUG\n' >.env
  answer lambda.get-function-configuration '{"Environment":{"Variables":{"LOG_LEVEL":"info"}}}'
  run scripts/enable.sh --distribution "$id"
  exits 0
  has 'LOG_LEVEL is debug, and the function runs at info'
  [[ $(<"$TERRAFORM_LOG") == apply ]]
  grep -q '^log_level = "debug"' terraform/edgetap.auto.tfvars
  : >"$TERRAFORM_LOG"
  TF_AUTO_APPROVE=true run scripts/enable.sh --distribution "$id"
  [[ $(<"$TERRAFORM_LOG") == 'apply -input=false -auto-approve' ]]
  : >"$TERRAFORM_LOG"
  answer lambda.get-function-configuration '{"Environment":{"Variables":{"LOG_LEVEL":"debug"}}}'
  run scripts/enable.sh --distribution "$id"
  exits 0
  [[ ! -s $TERRAFORM_LOG ]]
}

@test "a LOG_LEVEL that is no longer set goes back to info" {
  tapped '{}'
  printf 'BRIDGE_CLIENT_ID=a\nBRIDGE_CLIENT_SECRET=b\nBRIDGE_AUTH_ENDPOINT=c.example\nBRIDGE_EDGE_ENDPOINT=d.example\n' >.env
  answer lambda.get-function-configuration '{"Environment":{"Variables":{"LOG_LEVEL":"debug"}}}'
  echo 'log_level = "debug"' >terraform/edgetap.auto.tfvars
  enable
  exits 0
  [[ $(<"$TERRAFORM_LOG") == 'apply -input=false -auto-approve' ]]
  run grep log_level terraform/edgetap.auto.tfvars
  exits 1
}

@test "dead letters are left to SQS to bring back, to the work queue by name" {
  answer sqs.get-queue-attributes '{"Attributes":{"ApproximateNumberOfMessages":"3"}}'
  answer sqs.start-message-move-task '{"TaskHandle":"x"}'
  answer sqs.list-message-move-tasks.1 '{"Results":[{"Status":"RUNNING","ApproximateNumberOfMessagesMoved":1,"ApproximateNumberOfMessagesToMove":3}]}'
  answer sqs.list-message-move-tasks '{"Results":[{"Status":"COMPLETED","ApproximateNumberOfMessagesMoved":3,"ApproximateNumberOfMessagesToMove":3}]}'
  EDGETAP_REDRIVE_INTERVAL=0 run scripts/redrive.sh --max-per-second 5
  exits 0
  has '3 of 3 brought back'
  called 'start-message-move-task --source-arn arn:aws:sqs:us-east-1:123456789012:tap-dead-letters --destination-arn arn:aws:sqs:us-east-1:123456789012:tap-work --max-number-of-messages-per-second 5'
  answer sqs.list-message-move-tasks '{"Results":[{"Status":"FAILED","FailureReason":"AccessDenied"}]}'
  EDGETAP_REDRIVE_INTERVAL=0 run scripts/redrive.sh
  exits 1
  has 'FAILED: AccessDenied'
}

@test "a cut-off answer to disabling names what is left" {
  tapped '{}'
  answer logs.list-tags-for-resource '{"tags":{"edgetap":"tap"}}'
  refusal logs.delete-delivery AccessDeniedException DeleteDelivery 'not authorized'
  answer cloudfront.untag-resource ''
  run scripts/disable.sh --all --yes
  exits 1
  has "left: $id: AccessDeniedException from DeleteDelivery: not authorized"
  [[ $(calls logs.delete-delivery-source) == 0 ]]
  [[ $(calls logs.delete-delivery-destination) == 0 ]]
}

@test "of a distribution that is gone the delivery is still removed" {
  tapped '{}'
  answer logs.list-tags-for-resource '{"tags":{"edgetap":"tap","edgetap-cookies-before":"false"}}'
  refusal cloudfront.get-distribution-config NoSuchDistribution GetDistributionConfig 'The specified distribution does not exist.'
  refusal cloudfront.list-tags-for-resource NoSuchResource ListTagsForResource 'The specified resource does not exist.'
  answer logs.delete-delivery ''
  answer logs.delete-delivery-source ''
  answer logs.delete-delivery-destination ''
  run scripts/disable.sh --distribution "$id" --yes
  exits 0
  [[ $(calls logs.delete-delivery) == 1 && $(calls logs.delete-delivery-source) == 1 ]]
}

# --- Somebody else's bucket: moto forgets EventBridge's element ---

notification='{"QueueConfigurations":[{"Id":"theirs","QueueArn":"arn:aws:sqs:us-east-1:999:q","Events":["s3:ObjectCreated:*"],
  "Filter":{"Key":{"FilterRules":[{"Name":"Prefix","Value":"x/"}]}}}],"LambdaFunctionConfigurations":[{"Id":"l","LambdaFunctionArn":"arn:aws:lambda:x","Events":["s3:ObjectRemoved:*"]}]}'

watch_bucket() {
  outputs '{"existing_log_sources":[{"bucket":"their-logs","prefix":""}]}'
  answer s3api.get-bucket-location '{"LocationConstraint":null}'
  answer s3api.put-bucket-notification-configuration ''
  run scripts/watch-bucket.sh their-logs "$@"
}

get=s3api.get-bucket-notification-configuration

@test "watching a bucket adds that one element to what is there" {
  answer "$get" "$notification"
  answer "$get.3" "$(jq '.EventBridgeConfiguration = {}' <<<"$notification")"
  watch_bucket --yes
  exits 0
  has '+  "EventBridgeConfiguration": {},'
  has 'EventBridge is on'
  called 's3api put-bucket-notification-configuration --bucket their-logs --skip-destination-validation '
  jq -e --argjson was "$notification" 'del(.EventBridgeConfiguration) == $was and .EventBridgeConfiguration == {}' "$ANSWERS/sent.s3api.put-bucket-notification-configuration.1"
}

@test "a bucket without any notification is watched too" {
  answer "$get" ''
  answer "$get.3" '{"EventBridgeConfiguration":{}}'
  watch_bucket --yes
  exits 0
  jq -e '. == {EventBridgeConfiguration: {}}' "$ANSWERS/sent.s3api.put-bucket-notification-configuration.1"
}

@test "one that is watched already is left alone" {
  answer "$get" "$(jq '.EventBridgeConfiguration = {}' <<<"$notification")"
  watch_bucket --yes
  exits 0
  has 'on already, nothing to do'
  [[ $(calls s3api.put-bucket-notification-configuration) == 0 ]]
}

@test "undoing takes that one element away" {
  answer "$get" "$(jq '.EventBridgeConfiguration = {}' <<<"$notification")"
  answer "$get.3" "$notification"
  watch_bucket --undo --yes
  exits 0
  jq -e --argjson was "$notification" '. == $was' "$ANSWERS/sent.s3api.put-bucket-notification-configuration.1"
}

@test "nothing is put without a yes, in a dry run, or over somebody's change" {
  answer "$get" "$notification"
  watch_bucket <<<n
  exits 1
  watch_bucket --dry-run
  exits 0
  has 'would run: aws s3api put-bucket-notification-configuration'
  answer "$get.5" '{}'
  watch_bucket --yes
  exits 1
  has 'somebody else changed the configuration just now'
  [[ $(calls s3api.put-bucket-notification-configuration) == 0 ]]
}

@test "what is not there after putting is told" {
  answer "$get" "$notification"
  watch_bucket --yes
  exits 1
  has 'is not what was put'
}

@test "a bucket of another region, one that is not read yet, and one that is not there" {
  answer "$get" ''
  answer s3api.get-bucket-location '{"LocationConstraint":"eu-central-1"}'
  run scripts/watch-bucket.sh far --yes
  exits 2
  has 'far is in eu-central-1, and the module in us-east-1'
  has 'not in existing_log_sources'
  refusal s3api.get-bucket-location NoSuchBucket GetBucketLocation 'The specified bucket does not exist'
  run scripts/watch-bucket.sh nowhere --yes
  exits 2
  has NoSuchBucket
}
