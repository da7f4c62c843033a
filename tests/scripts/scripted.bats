#!/usr/bin/env bats
# Cases that moto cannot play, with a scripted AWS CLI and a recorded distribution.

# shellcheck disable=SC2154 # helpers.bash sets variables
load helpers.bash

id=E27FO14I29XXXX

setup() {
  setup_clone
  use_script
  arn=arn:aws:cloudfront::$account:distribution/$id
  destination=arn:aws:logs:us-east-1:$account:delivery-destination:edgetap-tap
  respond logs.describe-delivery-sources '{"deliverySources":[]}'
  respond logs.describe-delivery-destinations "{\"deliveryDestinations\":[{\"name\":\"edgetap-tap\",\"arn\":\"$destination\",
    \"deliveryDestinationType\":\"S3\",\"outputFormat\":\"w3c\",\"tags\":{\"edgetap\":\"tap\"},
    \"deliveryDestinationConfiguration\":{\"destinationResourceArn\":\"arn:aws:s3:::tap-logs-$account-us-east-1\"}}]}"
  respond logs.describe-deliveries '{"deliveries":[]}'
  templates "$(fields)"
  respond cloudfront.list-distributions "{\"DistributionList\":{\"Items\":[{\"Id\":\"$id\",\"ARN\":\"$arn\",\"DomainName\":\"d1.cloudfront.net\",\"Aliases\":{\"Quantity\":0}}]}}"
  respond cloudfront.list-tags-for-resource '{"Tags":{"Items":[{"Key":"edgetap-enabled","Value":"true"}]}}'
  respond logs.put-delivery-source '{}'
  respond logs.create-delivery "{\"delivery\":{\"id\":\"new\",\"arn\":\"arn:aws:logs:us-east-1:$account:delivery:new\"}}"
  respond logs.update-delivery-configuration '{}'
  respond logs.tag-resource ''
  respond logs.list-tags-for-resource '{"tags":{"edgetap":"tap"}}'
}

fields() { grep -v '^#' scripts/record-fields.txt | jq -R -s -c 'split("\n") | map(select(. != ""))'; }

# templates FIELDS: sets the fields that CloudFront offers.
templates() {
  respond logs.describe-configuration-templates "$(jq -n -c --argjson fields "$1" \
    '{configurationTemplates: [{service: "cloudfront", logType: "ACCESS_LOGS", deliveryDestinationType: "S3",
      allowedFields: ($fields | map({name: ., mandatory: false}))}]}')"
}

# enabled CHANGES: the distribution is enabled already. Its delivery is as CloudWatch Logs describes
# it, with the prefix in its path; CHANGES overrides parts of it.
enabled() {
  respond logs.describe-delivery-sources "{\"deliverySources\":[{\"name\":\"edgetap-tap-$id\",\"arn\":\"arn:aws:logs:us-east-1:$account:delivery-source:edgetap-tap-$id\",
    \"resourceArns\":[\"$arn\"],\"service\":\"cloudfront\",\"logType\":\"ACCESS_LOGS\",\"tags\":{\"edgetap\":\"tap\"}}]}"
  jq -n --arg id "$id" --arg account "$account" --arg destination "$destination" --argjson fields "$(fields)" --argjson changes "$1" '
    {deliveries: [{ id: "abc", arn: "arn:aws:logs:us-east-1:\($account):delivery:abc", deliverySourceName: "edgetap-tap-\($id)",
      deliveryDestinationArn: $destination, deliveryDestinationType: "S3", recordFields: $fields, fieldDelimiter: "\t",
      s3DeliveryConfiguration: {suffixPath: "AWSLogs/{account-id}/CloudFront/{DistributionId}/{yyyy}/{MM}/{dd}/{HH}", enableHiveCompatiblePath: false},
      tags: {edgetap: "tap"} } * $changes]}' >"$RESPONSES/logs.describe-deliveries"
}

enable() { run scripts/enable.sh --distribution "$id" --yes "$@"; }

updating='Requested resource is currently being updated. Please try again later.'

@test "conflicting change is retried" {
  respond_error logs.create-delivery.1 ConflictException CreateDelivery "$updating"
  respond_error logs.create-delivery.2 ConflictException CreateDelivery "$updating"
  enable
  exits 0
  has "$id  d1.cloudfront.net  enabled"
  [[ $(calls logs.create-delivery) == 3 ]]
  [[ $(calls logs.put-delivery-source) == 1 ]]
}

@test "conflicting change is reported after eight attempts" {
  respond_error logs.create-delivery ConflictException CreateDelivery "$updating"
  enable
  exits 1
  has FAILED
  has 'currently being updated'
  has 'run this script again in a minute'
  [[ $(calls logs.create-delivery) == 8 ]]
}

@test "cookie logging changes one value, with the current ETag" {
  respond cloudfront.get-distribution-config <"$repository/tests/scripts/distribution-config.json"
  respond cloudfront.update-distribution '{}'
  enable --include-cookies
  exits 0
  called '^cloudfront update-distribution --id E27FO14I29XXXX --if-match E2QWRUHEXAMPLE '
  jq -e --slurpfile sent "$RESPONSES/sent.cloudfront.update-distribution.1" '
    def values: [paths(type | . != "object" and . != "array") as $path | {path: $path, value: getpath($path)}];
    (.DistributionConfig | values) as $was | ($sent[0] | values) as $is
    | ($is - $was) == [{path: ["Logging", "IncludeCookies"], value: true}] and ($was - $is) == [{path: ["Logging", "IncludeCookies"], value: false}]' \
    "$repository/tests/scripts/distribution-config.json"
  has_not never-shown
  run cat "$AWS_LOG"
  has_not never-shown
}

@test "cookie logging is recorded before it is changed" {
  respond cloudfront.get-distribution-config <"$repository/tests/scripts/distribution-config.json"
  respond cloudfront.update-distribution '{}'
  enable --include-cookies
  called '^logs tag-resource --resource-arn arn:aws:logs:us-east-1:123456789012:delivery:new --tags .*edgetap-cookies-before'
  [[ $(grep -n -m 1 '^logs.tag-resource' "$RESPONSES/calls" | cut -d : -f 1) -lt $(grep -n -m 1 '^cloudfront.update-distribution' "$RESPONSES/calls" | cut -d : -f 1) ]]
}

@test "distribution changed in between is read again" {
  respond cloudfront.get-distribution-config <"$repository/tests/scripts/distribution-config.json"
  jq '.ETag = "ENEWER" | .DistributionConfig.Comment = "theirs"' "$repository/tests/scripts/distribution-config.json" \
    >"$RESPONSES/cloudfront.get-distribution-config.4"
  respond_error cloudfront.update-distribution.1 PreconditionFailed UpdateDistribution 'The request failed because it did not meet the preconditions'
  respond cloudfront.update-distribution '{}'
  enable --include-cookies
  exits 0
  called '--if-match ENEWER'
  jq -e '.Comment == "theirs" and .Logging.IncludeCookies' "$RESPONSES/sent.cloudfront.update-distribution.2"
}

@test "current delivery is left unchanged" {
  enabled '{}'
  enable
  exits 0
  has unchanged
  [[ $(calls logs.update-delivery-configuration) == 0 ]]
}

@test "delivery without its moment gets it once" {
  enabled '{}'
  respond logs.list-tags-for-resource '{"tags":{"edgetap":"tap"}}'
  run scripts/enable.sh --distribution "$id" --dry-run
  exits 0
  has 'would run: aws logs tag-resource'
  enable
  exits 0
  has unchanged
  called '^logs tag-resource --resource-arn arn:aws:logs:us-east-1:123456789012:delivery:abc --tags .*edgetap-enabled-at.*:[0-9][0-9]Z'
  respond logs.list-tags-for-resource '{"tags":{"edgetap":"tap","edgetap-enabled-at":"2026-01-02T03:04:05Z"}}'
  enable
  exits 0
  enabled '{"tags":{"edgetap-enabled-at":"2026-01-02T03:04:05Z"}}'
  enable
  exits 0
  [[ $(calls logs.tag-resource) == 1 ]]
}

@test "outdated delivery gets the new fields only" {
  enabled '{"recordFields":["date","time"]}'
  enable
  exits 0
  has updated
  called '^logs update-delivery-configuration --id abc --record-fields '
  run cat "$AWS_LOG"
  has_not '--s3-delivery-configuration'
  has_not 'delete-delivery'
  has_not 'create-delivery'
}

@test "path without the prefix is replaced by the whole path" {
  enabled '{"s3DeliveryConfiguration":{"suffixPath":"{DistributionId}/{yyyy}/{MM}/{dd}/{HH}"}}'
  enable
  exits 0
  called 'update-delivery-configuration --id abc --s3-delivery-configuration .*AWSLogs/\\{account-id\\}/CloudFront/\\{DistributionId\\}/\\{yyyy\\}'
}

@test "delimiter other than a tab is corrected" {
  enabled '{"fieldDelimiter":","}'
  enable
  exits 0
  called "update-delivery-configuration --id abc --field-delimiter \\$'\\\\t'"
}

@test "delimiter that may stand in a value is reported" {
  enabled '{"fieldDelimiter":",","tags":{"edgetap":null,"team":"web"}}'
  respond logs.list-tags-for-resource '{"tags":{"team":"web"}}'
  enable
  exits 0
  has 'a value can contain the field delimiter ,.'
  enabled '{"fieldDelimiter":"\\\\","tags":{"edgetap":null,"team":"web"}}'
  enable
  has 'a value can contain the field delimiter'
  enabled '{"fieldDelimiter":" ","tags":{"edgetap":null,"team":"web"}}'
  enable
  has_not 'field delimiter'
}

@test "delivery created by others is not changed" {
  enabled '{"recordFields":["date"],"tags":{"edgetap":null,"team":"web"}}'
  respond logs.list-tags-for-resource '{"tags":{"team":"web"}}'
  respond cloudfront.get-distribution-config <"$repository/tests/scripts/distribution-config.json"
  enable --include-cookies
  exits 0
  has 'not enabled by this script'
  [[ $(calls logs.tag-resource) == 0 ]]
  [[ $(calls cloudfront.tag-resource) == 0 ]]
  [[ $(calls logs.update-delivery-configuration) == 0 ]]
}

@test "unavailable fields are left out, mandatory ones added" {
  respond logs.describe-configuration-templates "$(jq -n -c --argjson fields "$(fields)" '{configurationTemplates: [{
    allowedFields: ($fields - ["c-port"] | map({name: (if . == "DistributionId" then "distributionid" else . end), mandatory: false}) + [{name: "new-one", mandatory: true}])}]}')"
  enable
  exits 0
  has 'does not offer the field c-port'
  called 'logs create-delivery .*distributionid.*new-one'
  run grep create-delivery "$AWS_LOG"
  has_not c-port
}

@test "unreadable field list is reported and enabling continues" {
  respond_error logs.describe-configuration-templates AccessDeniedException DescribeConfigurationTemplates 'no'
  enable
  exits 0
  has "warning: cannot read CloudFront's list of fields"
  called 'logs create-delivery .*c-port'
}

@test "missing CloudFront permission is named" {
  respond_error logs.put-delivery-source AccessDeniedException PutDeliverySource \
    'User: x is not authorized to perform: cloudfront:AllowVendedLogDeliveryForResource on resource: y'
  enable
  exits 1
  has FAILED
  has 'needs the permission cloudfront:AllowVendedLogDeliveryForResource'
}

@test "source created at the same time is used" {
  respond logs.describe-delivery-sources.1 '{"deliverySources":[]}'
  respond logs.describe-delivery-sources "{\"deliverySources\":[{\"name\":\"CreatedByCloudFront-1\",\"arn\":\"a\",\"resourceArns\":[\"$arn\"],\"service\":\"cloudfront\",\"logType\":\"ACCESS_LOGS\"}]}"
  respond_error logs.put-delivery-source ConflictException PutDeliverySource 'This ResourceId has already been used in another Delivery Source in this account.'
  enable
  exits 0
  called 'logs create-delivery --delivery-source-name CreatedByCloudFront-1 '
  [[ $(calls logs.put-delivery-source) == 1 ]]
}

@test "destination of another bucket is rejected with a hint" {
  outputs '{"log_bucket_arn":"arn:aws:s3:::another"}'
  enable
  exits 1
  has 'run scripts/disable.sh --all, then run this script again'
  [[ $(calls logs.create-delivery) == 0 ]]
}

# --- LOG_LEVEL: Terraform plans, and only the log level is applied unasked ---

# plan FILTER: what Terraform plans, as `terraform show -json` prints it. FILTER changes a plan that
# only sets the log level to debug.
plan() {
  export ON_TERRAFORM=$BATS_TEST_TMPDIR/on-terraform PLAN=$BATS_TEST_TMPDIR/plan.json
  jq -n --arg account "$account" '
    { arn: "arn:aws:lambda:us-east-1:\($account):function:tap", function_name: "tap", memory_size: 512, last_modified: "2026-11-14",
      environment: [{variables: {BRIDGE_EDGE_ENDPOINT: "d.example", LOG_LEVEL: "info"}}] } as $function
    | { resource_changes: [
          { address: "module.edgetap.aws_sqs_queue.work", previous_address: "aws_sqs_queue.work", type: "aws_sqs_queue",
            change: {actions: ["no-op"], before: {}, after: {}, after_unknown: {}} },
          { address: "data.aws_caller_identity.current", type: "aws_caller_identity", change: {actions: ["read"]} },
          { address: "module.edgetap.aws_lambda_function.bootstrap", type: "aws_lambda_function",
            change: { actions: ["update"], before: $function, after_unknown: {environment: [{variables: {}}], last_modified: true},
                      after: ($function | del(.last_modified) | .environment[0].variables.LOG_LEVEL = "debug") } } ],
        output_changes: {log_level: {actions: ["update"]}, name: {actions: ["no-op"]}} }
    | '"$1" >"$PLAN"
  printf '#!/bin/sh\ncase $1 in\n  "show -json "*) cat "$PLAN" ;;\n  "show -no-color "*) echo THE PLAN ;;\nesac\n' >"$ON_TERRAFORM"
  chmod +x "$ON_TERRAFORM"
  : >"$TERRAFORM_LOG"
}

# with_log_level LEVEL: the function logs at info, .env says LEVEL, the distribution is enabled.
with_log_level() {
  enabled '{}'
  printf 'BRIDGE_CLIENT_ID=a\nBRIDGE_CLIENT_SECRET=b\nBRIDGE_AUTH_ENDPOINT=c.example\nBRIDGE_EDGE_ENDPOINT=d.example\nLOG_LEVEL=%s\n' "$1" >.env
  respond lambda.get-function-configuration '{"Environment":{"Variables":{"LOG_LEVEL":"info"}}}'
}

applied() { grep -q '^apply ' "$TERRAFORM_LOG"; }

@test "plan of the log level only is applied unasked" {
  with_log_level DEBUG
  plan .
  run scripts/enable.sh --distribution "$id" </dev/null
  exits 0
  has "LOG_LEVEL is debug, but the function's log level is info"
  has_not 'THE PLAN'
  grep -q '^log_level = "debug"' terraform/edgetap.auto.tfvars
  [[ $(sed 's|/.*/||' "$TERRAFORM_LOG") == 'plan -no-color -input=false -out=plan
show -json plan
apply -input=false plan' ]] || fail_with "$(<"$TERRAFORM_LOG")"
  : >"$TERRAFORM_LOG"
  respond lambda.get-function-configuration '{"Environment":{"Variables":{"LOG_LEVEL":"debug"}}}'
  run scripts/enable.sh --distribution "$id"
  exits 0
  [[ ! -s $TERRAFORM_LOG ]]
}

@test "any other plan is shown and confirmed by a person only" {
  with_log_level debug
  function='(.resource_changes[] | select(.type == "aws_lambda_function") | .change)'
  for other in "$function.actions = [\"delete\", \"create\"]" "$function.after.memory_size = 128" "$function.after_unknown.role = true" \
    "$function.after.environment[0].variables.EXCLUDE_PATHS = \"/**\"" "$function.after_unknown.environment[0].variables.LOG_LEVEL = true" \
    "$function.after.environment[0].variables.LOG_LEVEL = \"trace\"" "$function.importing = {id: \"tap\"}" \
    "$function.before.arn |= sub(\"us-east-1\"; \"us-west-2\")" "$function.before.arn |= sub(\"tap$\"; \"tap-two\")" \
    '.resource_changes[0].change.actions = ["update"]' '.resource_changes[0].change.actions = ["delete"]' '.resource_changes[0].change.actions = ["forget"]' \
    '.resource_changes += [.resource_changes[2]]' '.output_changes.name.actions = ["update"]'; do
    plan "$other"
    TF_AUTO_APPROVE=true run scripts/enable.sh --distribution "$id" --yes </dev/null
    exits 2
    has 'THE PLAN'
    has 'error: no input available to confirm the plan above'
    ! applied || fail_with "applied: $other"
    run scripts/enable.sh --distribution "$id" --yes <<<n
    exits 1
    has 'Nothing was applied, and no distribution was enabled.'
    has 'scripts/setup-tfvars.sh has written the settings to terraform/'
    has_not 'Nothing was changed'
    ! applied || fail_with "applied: $other"
  done
  run scripts/enable.sh --distribution "$id" --yes <<<y
  exits 0
  applied
}

@test "log level is applied after every question and check" {
  with_log_level debug
  plan .
  run scripts/enable.sh --all <<<n
  exits 1
  has 'Nothing was changed.'
  run scripts/enable.sh --distribution ENONE --yes
  exits 2
  outputs '{"log_bucket_arn":"arn:aws:s3:::another"}'
  enable
  exits 1
  [[ ! -s $TERRAFORM_LOG && ! -e terraform/edgetap.auto.tfvars ]] || fail_with 'Terraform ran'
}

@test "arguments that escape the comparison are refused" {
  with_log_level debug
  plan .
  for arguments in -var=name=prod '-lock=false -var-file=x' --destroy "'-target=a'" -state=x -replace=a; do
    TF_CLI_ARGS_plan=$arguments run scripts/enable.sh --distribution "$id" --yes
    exits 2
    has 'error: TF_CLI_ARGS_plan has the argument -'
    has 'hint: unset TF_CLI_ARGS_plan'
    [[ ! -s $TERRAFORM_LOG ]]
  done
  TF_CLI_ARGS_apply='-parallelism=1 -no-color' run scripts/enable.sh --distribution "$id" --yes
  exits 0
  applied
}

@test "plan that leaves the log level is reported" {
  with_log_level debug
  plan '.resource_changes = []'
  enable
  exits 1
  has 'Terraform plans no change of the log level'
  ! applied
}

@test "failed plan is shown" {
  with_log_level debug
  plan .
  printf '#!/bin/sh\nprintf "╷\\n│ Error: Invalid value\\n╵\\n" >&2\nexit 1\n' >"$ON_TERRAFORM"
  enable
  exits 1
  has 'error: terraform plan failed: Invalid value'
  has_not 'copy them'
  ! applied
  printf '#!/bin/sh\nprintf "╷\\n│ Error: Resource precondition failed\\n╵\\n" >&2\nexit 1\n' >"$ON_TERRAFORM"
  enable
  exits 1
  has "hint: if this machine lacks the installation's .tfvars files, copy them; or unset LOG_LEVEL"
  echo 'LOG_LEVEL=debug' >.env
  enable
  exits 1
  has 'error: scripts/setup-tfvars.sh failed'
  has 'copy them; or unset LOG_LEVEL'
}

@test "log level of another installation is not planned" {
  with_log_level debug
  plan .
  VARIABLES='{"name":"edgetap","aws_region":"us-east-1"}' run scripts/enable.sh --distribution "$id" --yes
  exits 2
  has "Terraform's variable name is \"edgetap\" here"
  [[ ! -s $TERRAFORM_LOG ]]
  [[ ! -e terraform/edgetap.auto.tfvars ]]
}

@test "removed LOG_LEVEL goes back to info" {
  with_log_level ''
  respond lambda.get-function-configuration '{"Environment":{"Variables":{"LOG_LEVEL":"debug"}}}'
  echo 'log_level = "debug"' >terraform/edgetap.auto.tfvars
  plan '.resource_changes[2].change |= (del(.after.environment[0].variables.LOG_LEVEL) | .before.environment[0].variables.LOG_LEVEL = "debug")'
  enable
  exits 0
  applied
  run grep log_level terraform/edgetap.auto.tfvars
  exits 1
}

@test "TF_VAR_log_level works without .env" {
  enabled '{}'
  respond lambda.get-function-configuration '{"Environment":{"Variables":{}}}'
  plan .
  TF_VAR_log_level=debug run scripts/enable.sh --distribution "$id" </dev/null
  exits 0
  applied
  [[ -z $(ls terraform) ]]
}

@test "dry run shows that Terraform would plan and apply" {
  with_log_level debug
  plan .
  run scripts/enable.sh --distribution "$id" --dry-run
  exits 0
  has 'would run: scripts/setup-tfvars.sh'
  has 'would run: terraform -chdir=terraform plan'
  has 'would run: terraform -chdir=terraform apply'
  [[ ! -s $TERRAFORM_LOG ]]
}

to_work="\"DestinationArn\":\"arn:aws:sqs:us-east-1:$account:tap-work\""

@test "redrive task names the work queue as its destination" {
  respond sqs.get-queue-attributes '{"Attributes":{"ApproximateNumberOfMessages":"3"}}'
  respond sqs.start-message-move-task '{"TaskHandle":"x"}'
  respond sqs.list-message-move-tasks.1 '{"Results":[{"Status":"RUNNING",'"$to_work"',"ApproximateNumberOfMessagesMoved":1,"ApproximateNumberOfMessagesToMove":3}]}'
  respond sqs.list-message-move-tasks '{"Results":[{"Status":"COMPLETED",'"$to_work"',"ApproximateNumberOfMessagesMoved":3,"ApproximateNumberOfMessagesToMove":3}]}'
  EDGETAP_REDRIVE_INTERVAL=0 run scripts/redrive.sh --max-per-second 5
  exits 0
  has 'Messages moved to the work queue: 3 of 3.'
  called 'start-message-move-task --source-arn arn:aws:sqs:us-east-1:123456789012:tap-dead-letters --destination-arn arn:aws:sqs:us-east-1:123456789012:tap-work --max-number-of-messages-per-second 5'
  respond sqs.list-message-move-tasks '{"Results":[{"Status":"FAILED",'"$to_work"',"FailureReason":"AccessDenied"}]}'
  EDGETAP_REDRIVE_INTERVAL=0 run scripts/redrive.sh
  exits 1
  has 'FAILED: AccessDenied'
}

@test "redrive task to another queue is a failure" {
  respond sqs.get-queue-attributes '{"Attributes":{"ApproximateNumberOfMessages":"3"}}'
  respond_error sqs.start-message-move-task UnsupportedOperation StartMessageMoveTask 'There is already a task running.'
  respond sqs.list-message-move-tasks '{"Results":[{"Status":"COMPLETED","DestinationArn":"arn:aws:sqs:us-east-1:1:elsewhere","ApproximateNumberOfMessagesMoved":3}]}'
  run scripts/redrive.sh
  exits 1
  has 'error: this script moved nothing: another redrive task moves the messages to arn:aws:sqs:us-east-1:1:elsewhere'
  has_not 'Messages moved'
}

@test "messages in flight do not make an empty queue" {
  respond sqs.get-queue-attributes '{"Attributes":{"ApproximateNumberOfMessages":"0","ApproximateNumberOfMessagesNotVisible":"2"}}'
  run scripts/redrive.sh
  exits 0
  has 'In flight: 2'
  has_not 'is empty'
}

@test "--max-per-second paces messages moved one by one" {
  respond sqs.get-queue-attributes '{"Attributes":{"ApproximateNumberOfMessages":"2"}}'
  respond sqs.receive-message '{"Messages":[{"Body":"x","ReceiptHandle":"r"}]}'
  respond sqs.send-message '{}'
  respond sqs.delete-message ''
  mkdir "$BATS_TEST_TMPDIR/slept"
  printf '#!/bin/sh\necho "$1" >>"%s"\n' "$BATS_TEST_TMPDIR/pauses" >"$BATS_TEST_TMPDIR/slept/sleep"
  chmod +x "$BATS_TEST_TMPDIR/slept/sleep"
  PATH=$BATS_TEST_TMPDIR/slept:$PATH run scripts/redrive.sh --one-by-one --max-per-second 5
  exits 0
  [[ $(<"$BATS_TEST_TMPDIR/pauses") == $'0.2\n0.2' ]]
}

@test "redrive.sh --dry-run lists messages with their reasons" {
  respond sqs.get-queue-attributes '{"Attributes":{"ApproximateNumberOfMessages":"4"}}'
  respond sqs.receive-message "$(jq -n '
    {object: {bucket: "b", key: "k1.gz"}, rows: [[902, null]], since: "2026-11-14T20:00:00Z", reason: "rejected by the bridge", edgetap: 1} as $requeued
    | {edgetap: 2, object: {bucket: "b", key: "k3.gz", etag: "e", version: "v", size: 9}, since: "2026-11-15T20:00:00Z", hops: 7, attempts: 2,
       reason: "returned 403", rules: "r", dead_letter: true} as $letter
    | {Records: [{s3: {bucket: {name: "b"}, object: {key: "k2.gz"}}}]} as $notification
    | {Messages: ([$requeued, $notification, $letter + {rows: [range(2000) | [8000 + . * 2, 8001 + . * 2]]}, $letter + {rows: [[0, 5], [9, null]]}]
        | to_entries | map({MessageId: "\(.key)", Body: (.value | tojson),
        Attributes: {ApproximateReceiveCount: "3", SentTimestamp: "1763150400000"}}))}')"
  respond logs.filter-log-events "$(jq -n '
    {object: "s3://b/k2.gz", level: "ERROR", message: "cannot read the object", error: "AccessDenied"} | {events: [{message: tojson}]}')"
  run scripts/redrive.sh --dry-run
  exits 0
  [[ $output =~ s3://b/k1.gz\ +902-end\ +3\ +2026-11-14T20:00:00Z\ +rejected\ by\ the\ bridge ]] || fail_with 'the requeued rows'
  [[ $output =~ s3://b/k2.gz\ +all\ +3\ +2025-11-14T20:00:00Z\ +cannot\ read\ the\ object:\ AccessDenied ]] || fail_with 'the notification'
  [[ $output =~ s3://b/k3.gz\ +2\ ranges,\ first\ 0-5\ +3\ +2026-11-15T20:00:00Z\ +returned\ 403.*s3://b/k3.gz\ +2000\ ranges,\ first\ 8000-8001\  ]] \
    || fail_with 'the two dead letters of one object, in the order of their rows'
  has 'This was a dry run: nothing was moved'
}

@test "delivery that cannot be deleted is listed as left" {
  enabled '{}'
  respond logs.list-tags-for-resource '{"tags":{"edgetap":"tap"}}'
  respond_error logs.delete-delivery AccessDeniedException DeleteDelivery 'not authorized'
  respond cloudfront.untag-resource ''
  run scripts/disable.sh --all --yes
  exits 1
  has "left: $id: AccessDeniedException from DeleteDelivery: not authorized"
  [[ $(calls logs.delete-delivery-source) == 0 ]]
  [[ $(calls logs.delete-delivery-destination) == 0 ]]
}

@test "delivery of a deleted distribution is removed" {
  enabled '{}'
  respond logs.list-tags-for-resource '{"tags":{"edgetap":"tap","edgetap-cookies-before":"false"}}'
  respond_error cloudfront.get-distribution-config NoSuchDistribution GetDistributionConfig 'The specified distribution does not exist.'
  respond_error cloudfront.list-tags-for-resource NoSuchResource ListTagsForResource 'The specified resource does not exist.'
  respond logs.delete-delivery ''
  respond logs.delete-delivery-source ''
  respond logs.delete-delivery-destination ''
  respond cloudfront.list-distributions ''
  run scripts/disable.sh --distribution "$id" --yes
  exits 0
  [[ $(calls logs.delete-delivery) == 1 ]]
  [[ $(calls logs.delete-delivery-source) == 1 ]]
}

# --- Deliveries of others ---

# theirs FORMAT HIVE [DELIVERY CHANGES]: the distribution delivers to a bucket of its owner.
theirs() {
  respond logs.describe-delivery-sources "{\"deliverySources\":[{\"name\":\"web\",\"arn\":\"a\",\"resourceArns\":[\"$arn\"],\"service\":\"cloudfront\",\"logType\":\"ACCESS_LOGS\"}]}"
  respond logs.describe-delivery-destinations "{\"deliveryDestinations\":[{\"name\":\"theirs\",\"arn\":\"theirs\",\"outputFormat\":\"$1\",
    \"deliveryDestinationConfiguration\":{\"destinationResourceArn\":\"arn:aws:s3:::athena-logs\"}}]}"
  jq -n --argjson hive "$2" --argjson changes "${3:-{\}}" '{deliveries: [{ id: "xyz", arn: "d", deliverySourceName: "web", deliveryDestinationArn: "theirs",
    deliveryDestinationType: "S3", tags: {team: "web"},
    s3DeliveryConfiguration: {suffixPath: "{DistributionId}/{yyyy}/{MM}/{dd}/{HH}", enableHiveCompatiblePath: $hive} } * $changes]}' \
    >"$RESPONSES/logs.describe-deliveries"
  respond s3api.get-bucket-location '{"LocationConstraint":null}'
  respond cloudfront.get-distribution-config '{"ETag":"E","DistributionConfig":{"Logging":{"Enabled":false,"IncludeCookies":false,"Bucket":"","Prefix":""}}}'
}

@test "delivery in JSON with Hive-compatible paths can be read" {
  theirs json true
  enable
  exits 1
  has 'NOT ENABLED'
  has 'format json, delivery xyz of the delivery source web, tags team=web'
  has "{ bucket = \"athena-logs\", prefix = \"AWSLogs/aws-account-id=$account/CloudFront/\" }"
  [[ $(calls logs.create-delivery) == 0 ]]
  theirs raw true
  enable
  has 'edgetap reads the formats w3c, json and parquet; ask the owner'
}

@test "delivery in Parquet can be read where it is" {
  nothing_happened
  theirs parquet true '{"recordFields":["timestamp(ms)","cs-method","cs-uri-stem","sc-status"]}'
  enable
  exits 1
  has 'format parquet, delivery xyz of the delivery source web, tags team=web'
  has "{ bucket = \"athena-logs\", prefix = \"AWSLogs/aws-account-id=$account/CloudFront/\" }"
  has 'scripts/watch-bucket.sh athena-logs'
  [[ $(calls logs.create-delivery) == 0 ]]
  outputs '{"existing_log_sources":[{"bucket":"athena-logs","prefix":"AWSLogs/"}]}'
  respond s3api.get-bucket-notification-configuration '{"EventBridgeConfiguration":{}}'
  enable
  exits 0
  has 'unchanged: read from athena-logs (existing_log_sources)'
  run scripts/status.sh
  exits 0
  [[ $output =~ $id\ +d1.cloudfront.net\ +external\ +4\ of\ [0-9]+\  ]] || fail_with 'the row'
  has "$id does not log date, time, "
  has 'hint: ask the owner of the delivery xyz to add them'
}

@test "delivery without the fields that edgetap needs is not to be read" {
  local fields lacks
  while IFS='|' read -r fields lacks; do
    theirs parquet true "{\"recordFields\":[$fields]}"
    enable
    exits 1
    has "the delivery does not log $lacks, which edgetap needs"
    has_not 'hint: to read the logs from that bucket'
  done <<END
"date","time","c-ip"|cs-method, cs-uri-stem
"date","cs-method","cs-uri-stem"|timestamp(ms)
END
}

# No log lines, alarms and messages, for status.sh.
nothing_happened() {
  respond logs.filter-log-events '{}'
  respond cloudwatch.describe-alarms '{}'
  respond sqs.get-queue-attributes '{"Attributes":{"ApproximateNumberOfMessages":"0","ApproximateNumberOfMessagesNotVisible":"0","ApproximateNumberOfMessagesDelayed":"0"}}'
}

@test "existing bucket that sends no events is reported" {
  nothing_happened
  theirs w3c false
  local events=s3api.get-bucket-notification-configuration topic='{"TopicConfigurations":[{"TopicArn":"arn:topic"}]}'
  while IFS='|' read -r topics response code finding; do
    outputs "{\"existing_log_sources\":[{\"bucket\":\"athena-logs\",\"prefix\":\"\"}]${topics:+,\"existing_sns_topics\":$topics}}"
    respond "$events" "$response"
    enable
    exits "$code"
    if [[ -n $finding ]]; then has "$finding"; else has_not events; fi
    run scripts/status.sh
    exits 0
    has external
    if [[ -n $finding ]]; then has "${finding#the }"; else has_not events; fi
  done <<END
[]||1|the bucket athena-logs sends no events
[]|$topic|1|the bucket athena-logs sends no events
["arn:topic"]|$topic|0|
|$topic|0|
["arn:topic"]|{}|1|hint: run scripts/watch-bucket.sh athena-logs
[]|{"EventBridgeConfiguration":{}}|0|
END
  respond_error "$events" AccessDenied GetBucketNotificationConfiguration 'Access Denied'
  enable
  exits 0
  has 'unchanged: read from athena-logs'
  has "$id: cannot tell whether the bucket athena-logs sends events: AccessDenied from GetBucketNotificationConfiguration: Access Denied"
  run scripts/status.sh
  exits 0
  has 'Cannot tell whether the bucket athena-logs sends events: AccessDenied'
  has 'hint: your identity needs s3:GetBucketNotification'
}

@test "status.sh refuses a distribution that nothing knows" {
  nothing_happened
  run scripts/status.sh --distribution E0NOTTHEREXXXX
  exits 1
  has "error: account $account has no distribution E0NOTTHEREXXXX"
  has_not domain
  line='{"message":"successfully sent 1 transactions","distribution":"E0NOTTHEREXXXX","sent":1}'
  respond logs.filter-log-events "$(jq -n -c --arg line "$line" '{events: [{timestamp: 1763150400000, message: $line}]}')"
  run scripts/status.sh --distribution E0NOTTHEREXXXX
  exits 0
  has 'not in this account'
}

@test "prefix of the existing source decides whether it is read" {
  nothing_happened
  respond s3api.get-bucket-notification-configuration '{"EventBridgeConfiguration":{}}'
  while read -r hive prefix enabled; do
    theirs w3c "$hive"
    outputs "{\"existing_log_sources\":[{\"bucket\":\"athena-logs\",\"prefix\":\"$prefix\"}]}"
    enable
    if [[ $enabled == external ]]; then
      exits 0
      has 'unchanged: read from athena-logs (existing_log_sources)'
    else
      exits 1
      has "edgetap reads that bucket below $prefix only"
    fi
    scripts/status.sh --json | jq -e --arg enabled "$enabled" '.distributions[0].enabled == $enabled' >/dev/null || fail_with "$hive $prefix"
  done <<END
false AWSLogs/$account/CloudFront/ external
false AWSLogs/$account/CloudFront/$id/ external
false AWSLogs/$account/CloudFront/E0OTHER/ elsewhere
false AWSLogs/aws-account-id=$account/ elsewhere
true AWSLogs/$account/CloudFront/ elsewhere
true AWSLogs/aws-account-id=$account/CloudFront/ external
true AWSLogs/aws-account-id=$account/CloudFront/DistributionId=$id/ external
true AWSLogs/ external
END
}

@test "bucket of another account is recognized" {
  theirs w3c false
  respond_error s3api.get-bucket-location.1 AccessDenied GetBucketLocation 'Access Denied'
  enable
  exits 1
  has 'athena-logs belongs to another account'
  has 'ask its owner for an SNS topic'
  has "or install edgetap in the bucket's account"
  has 'source_account_ids'
  has_not 'watch-bucket.sh athena-logs'
  called 's3api get-bucket-location --bucket athena-logs --expected-bucket-owner 123456789012 '
}

@test "destination of another account is named" {
  theirs w3c false '{"deliveryDestinationArn":"arn:aws:logs:us-east-1:999999999999:delivery-destination:central"}'
  enable
  exits 1
  has 'the destination belongs to account 999999999999'
}

@test "dry run predicts a delivery elsewhere" {
  theirs w3c false
  enable
  real=$(grep "^$id" <<<"$output")
  run scripts/enable.sh --distribution "$id" --dry-run
  exits 1
  [[ $(grep "^$id" <<<"$output") == "$real" ]]
  has_not 'would run: aws logs create-delivery'
}

@test "delivery that Terraform manages is not edgetap's to change" {
  enabled '{"recordFields":["date"],"tags":{"managed-by":"terraform"}}'
  jq '.deliverySources[0].tags["managed-by"] = "terraform"' "$RESPONSES/logs.describe-delivery-sources" >sources
  mv sources "$RESPONSES/logs.describe-delivery-sources"
  enable
  exits 0
  has 'not enabled by this script'
  run scripts/disable.sh --distribution "$id" --yes
  has 'edgetap did not enable this distribution'
  [[ $(calls logs.delete-delivery) == 0 ]]
}

@test "delivery outside the watched prefix is reported" {
  enabled '{"s3DeliveryConfiguration":{"suffixPath":"{DistributionId}/{yyyy}","enableHiveCompatiblePath":true},"tags":{"edgetap":null,"team":"web"}}'
  respond logs.list-tags-for-resource '{"tags":{"team":"web"}}'
  respond logs.filter-log-events '{}'
  respond cloudwatch.describe-alarms '{}'
  respond cloudfront.get-distribution-config <"$repository/tests/scripts/distribution-config.json"
  respond s3api.list-objects-v2 '{}'
  respond sqs.get-queue-attributes '{"Attributes":{"ApproximateNumberOfMessages":"0","ApproximateNumberOfMessagesNotVisible":"0","ApproximateNumberOfMessagesDelayed":"0"}}'
  is_unread() {
    enable
    exits 1
    has "NOT READ"
    has "edgetap does not read it: $1"
    run scripts/status.sh
    exits 0
    [[ $output =~ $id\ +d1.cloudfront.net\ +unread ]] || fail_with 'the row'
    has "edgetap does not read them: $1"
    has 'hint: ask the owner of the delivery abc to change it'
    has_not 'hint: run scripts/enable.sh'
  }
  is_unread "its keys begin with AWSLogs/aws-account-id=$account/CloudFront/, but edgetap reads AWSLogs/$account/CloudFront/ only"
  enabled '{"deliveryDestinationArn":"theirs","tags":{"edgetap":null,"team":"web"}}'
  for format in plain raw; do
    respond logs.describe-delivery-destinations "{\"deliveryDestinations\":[{\"name\":\"theirs\",\"arn\":\"theirs\",\"outputFormat\":\"$format\",
      \"deliveryDestinationConfiguration\":{\"destinationResourceArn\":\"arn:aws:s3:::tap-logs-$account-us-east-1\"}}]}"
    is_unread "its format is $format, but edgetap reads w3c, json and parquet only"
  done
}

@test "refused cookie logging leaves a delivery that is reported" {
  respond cloudfront.get-distribution-config <"$repository/tests/scripts/distribution-config.json"
  respond_error cloudfront.update-distribution IllegalUpdate UpdateDistribution 'the distribution belongs to a continuous deployment policy'
  respond logs.untag-resource ''
  respond cloudfront.list-tags-for-resource '{"Tags":{"Items":[]}}'
  respond cloudfront.tag-resource ''
  enable --include-cookies
  exits 1
  has 'enabled, without cookies'
  has 'the logs are delivered, but cookie logging was not turned on: IllegalUpdate'
  has 'four hours'
  has_not FAILED
  called '^logs untag-resource --resource-arn arn:aws:logs:us-east-1:123456789012:delivery:new --tag-keys edgetap-cookies-before '
  called '^cloudfront tag-resource '
}

@test "staging and multi-tenant distributions are named" {
  jq -n --arg arn "$arn" '{DistributionList: {Items: [
    {Id: "E1", ARN: $arn, DomainName: "one"}, {Id: "E2", ARN: $arn, DomainName: "two", Staging: true, ConnectionMode: "direct"},
    {Id: "E3", ARN: $arn, DomainName: "three", Staging: false, ConnectionMode: "tenant-only"}]}}' >"$RESPONSES/cloudfront.list-distributions"
  run scripts/enable.sh --all <<<y
  exits 0
  has "Enable 3 distributions of account $account (1 multi-tenant: E3; 1 staging: E2)? [y/N]"
  has 'two (staging)'
  has 'three (multi-tenant)'
}

@test "status.sh shows alarms of this installation and the last error" {
  respond logs.filter-log-events.1 '{}'
  respond logs.filter-log-events "$(jq -n '{events: [{timestamp: 1763150400000, message: ({level: "ERROR", message: "delivery failed", error: "returned 503", object: "s3://b/k"} | tojson)},
    {timestamp: 1763150300000, message: ({level: "ERROR", message: "older"} | tojson)}, {timestamp: 1763150500000, message: "no JSON, ERROR"}]}')"
  respond cloudwatch.describe-alarms '{"MetricAlarms":[{"AlarmArn":"arn:aws:cloudwatch:us-east-1:1:alarm:tap-lost","StateValue":"OK"},
    {"AlarmArn":"arn:aws:cloudwatch:us-east-1:1:alarm:tap-two-errors","StateValue":"ALARM"},{"AlarmArn":"arn:aws:cloudwatch:us-east-1:1:alarm:tap-dead-letters","StateValue":"ALARM"}]}'
  respond cloudwatch.list-tags-for-resource.1 '{"Tags":[{"Key":"edgetap","Value":"tap-two"}]}'
  respond cloudwatch.list-tags-for-resource '{"Tags":[{"Key":"edgetap","Value":"tap"}]}'
  respond sqs.get-queue-attributes '{"Attributes":{"ApproximateNumberOfMessages":"0","ApproximateNumberOfMessagesNotVisible":"0","ApproximateNumberOfMessagesDelayed":"0"}}'
  run scripts/status.sh
  exits 0
  [[ $output == *$'\nin alarm: dead-letters\n'* ]] || fail_with 'the alarm'
  has_not two-errors
  has 'last error, at 2025-11-14T20:00:00Z: delivery failed: returned 503 (s3://b/k)'
  called 'cloudwatch describe-alarms --alarm-name-prefix tap- --state-value ALARM '
}

@test "tag that enable.sh did not set stays" {
  enabled '{}'
  respond cloudfront.list-tags-for-resource '{"Tags":{"Items":[{"Key":"edgetap-enabled","Value":"by the web team"}]}}'
  respond logs.list-tags-for-resource '{"tags":{"edgetap":"tap"}}'
  respond logs.delete-delivery ''
  respond logs.delete-delivery-source ''
  respond logs.delete-delivery-destination ''
  run scripts/disable.sh --all --yes
  exits 0
  [[ $(calls cloudfront.untag-resource) == 0 ]]
}

@test "mistyped name is refused with the names that exist" {
  enabled '{}'
  run scripts/disable.sh --name tab --all --yes
  exits 2
  has 'error: no installation named tab has deliveries in this account'
  has 'hint: these have: tap'
  [[ $(calls logs.delete-delivery) == 0 ]]
}

# leftovers_of SECRET: what a finished destroy finds. The account also delivers to an installation of
# the same name in another account.
leftovers_of() {
  enabled '{"deliveryDestinationArn":"arn:aws:logs:us-east-1:210987654321:delivery-destination:edgetap-tap-accounts"}'
  respond logs.describe-delivery-destinations '{}'
  respond resourcegroupstaggingapi.get-resources "{\"ResourceTagMappingList\":[{\"ResourceARN\":\"arn:aws:logs:us-east-1:$account:delivery:abc\"},
    {\"ResourceARN\":\"arn:aws:logs:us-east-1:$account:delivery-source:edgetap-tap-$id\"},
    {\"ResourceARN\":\"arn:aws:secretsmanager:us-east-1:$account:secret:tap-x\"}]}"
  respond secretsmanager.describe-secret "$1"
  for call in s3api.list-object-versions s3api.get-bucket-location; do respond_error "$call" NoSuchBucket Call no; done
  respond_error sqs.get-queue-attributes QueueDoesNotExist GetQueueAttributes no
  respond_error lambda.get-function ResourceNotFoundException GetFunction no
  respond_error iam.get-role NoSuchEntity GetRole no
  for call in logs.describe-log-groups cloudwatch.list-dashboards cloudwatch.describe-alarms; do respond "$call" '{}'; done
  EDGETAP_SEARCH_WAIT=0 run scripts/disable.sh --destroy --yes
}

@test "leftovers are those of this installation only" {
  leftovers_of '{"Name":"tap","DeletedDate":"2026-11-14T20:00:00Z"}'
  exits 0
  has "Nothing tagged or named tap is left"
  leftovers_of '{"Name":"tap"}'
  exits 1
  [[ $(grep -c '^left: ' <<<"$output") == 1 ]]
  has "left: secret arn:aws:secretsmanager:us-east-1:$account:secret:tap-x"
}

@test "escape sequences do not reach the terminal" {
  escape=$'\e]0;title\a\e[31m'
  respond sqs.get-queue-attributes '{"Attributes":{"ApproximateNumberOfMessages":"1","ApproximateNumberOfMessagesNotVisible":"0","ApproximateNumberOfMessagesDelayed":"0"}}'
  respond sqs.receive-message "$(jq -n --arg escape "$escape" '{Messages: [{MessageId: "1", Attributes: {ApproximateReceiveCount: "1", SentTimestamp: "1763150400000"},
    Body: ({edgetap: 1, object: {bucket: "b", key: "k"}, rows: [[0, 1]], since: "2026-11-14T20:00:00Z", reason: "no\($escape)\u009bé"} | tojson)}]}')"
  run scripts/redrive.sh --dry-run
  exits 0
  has 'no]0;title[31mé'
  respond logs.filter-log-events "$(jq -n --arg escape "$escape" '{events: [{timestamp: 1763150400000, message: ({level: "ERROR", message: "failed\($escape)"} | tojson)}]}')"
  respond cloudwatch.describe-alarms '{}'
  jq --arg escape "$escape" '.DistributionList.Items[0].DomainName = "d\($escape)"' "$RESPONSES/cloudfront.list-distributions" >list
  mv list "$RESPONSES/cloudfront.list-distributions"
  run scripts/status.sh
  exits 0
  has 'failed]0;title[31m'
  [[ $output != *$'\e'* && $output != *$'\a'* ]]
  theirs w3c false "$(jq -n --arg escape "$escape" '{tags: {team: "web\($escape)"}}')"
  enable
  has 'team=web]0;title[31m'
  [[ $output != *$'\e'* ]]
}

# --- watch-bucket.sh: moto forgets the EventBridge element ---

notification='{"QueueConfigurations":[{"Id":"theirs","QueueArn":"arn:aws:sqs:us-east-1:999:q","Events":["s3:ObjectCreated:*"],
  "Filter":{"Key":{"FilterRules":[{"Name":"Prefix","Value":"x/"}]}}}],"LambdaFunctionConfigurations":[{"Id":"l","LambdaFunctionArn":"arn:aws:lambda:x","Events":["s3:ObjectRemoved:*"]}]}'

watch_bucket() {
  outputs '{"existing_log_sources":[{"bucket":"their-logs","prefix":""}]}'
  respond s3api.get-bucket-location '{"LocationConstraint":null}'
  respond s3api.put-bucket-notification-configuration ''
  run scripts/watch-bucket.sh their-logs "$@"
}

get=s3api.get-bucket-notification-configuration

@test "watching a bucket adds the EventBridge element only" {
  respond "$get" "$notification"
  respond "$get.3" "$(jq '.EventBridgeConfiguration = {}' <<<"$notification")"
  watch_bucket --yes
  exits 0
  has '+  "EventBridgeConfiguration": {},'
  has 'EventBridge notifications are on'
  called 's3api put-bucket-notification-configuration --bucket their-logs --expected-bucket-owner 123456789012 --skip-destination-validation '
  called 's3api get-bucket-notification-configuration --bucket their-logs --expected-bucket-owner 123456789012 '
  jq -e --argjson was "$notification" 'del(.EventBridgeConfiguration) == $was and .EventBridgeConfiguration == {}' "$RESPONSES/sent.s3api.put-bucket-notification-configuration.1"
}

@test "bucket without notifications can be watched" {
  respond "$get" ''
  respond "$get.3" '{"EventBridgeConfiguration":{}}'
  watch_bucket --yes
  exits 0
  jq -e '. == {EventBridgeConfiguration: {}}' "$RESPONSES/sent.s3api.put-bucket-notification-configuration.1"
}

@test "watched bucket is left unchanged" {
  respond "$get" "$(jq '.EventBridgeConfiguration = {}' <<<"$notification")"
  watch_bucket --yes
  exits 0
  has 'already on. Nothing to do'
  [[ $(calls s3api.put-bucket-notification-configuration) == 0 ]]
}

@test "undo removes the EventBridge element only" {
  respond "$get" "$(jq '.EventBridgeConfiguration = {}' <<<"$notification")"
  respond "$get.3" "$notification"
  watch_bucket --undo --yes
  exits 0
  jq -e --argjson was "$notification" '. == $was' "$RESPONSES/sent.s3api.put-bucket-notification-configuration.1"
}

@test "declined, dry or conflicting change writes nothing" {
  respond "$get" "$notification"
  watch_bucket <<<n
  exits 1
  watch_bucket --dry-run
  exits 0
  has 'would run: aws s3api put-bucket-notification-configuration'
  respond "$get.5" '{}'
  watch_bucket --yes
  exits 1
  has 'someone else just changed the configuration'
  [[ $(calls s3api.put-bucket-notification-configuration) == 0 ]]
}

@test "configuration that reads back differently is reported" {
  respond "$get" "$notification"
  watch_bucket --yes
  exits 1
  has 'differs from what was written'
}

@test "bucket in another region or missing is rejected" {
  respond "$get" ''
  respond s3api.get-bucket-location '{"LocationConstraint":"eu-central-1"}'
  run scripts/watch-bucket.sh far --yes
  exits 2
  has 'far is in eu-central-1, but edgetap is in us-east-1'
  has 'not in existing_log_sources'
  respond_error s3api.get-bucket-location NoSuchBucket GetBucketLocation 'The specified bucket does not exist'
  run scripts/watch-bucket.sh nowhere --yes
  exits 2
  has NoSuchBucket
}

@test "bucket of another account is not watched" {
  respond s3api.get-bucket-location '{"LocationConstraint":null}'
  respond_error s3api.get-bucket-location.1 AccessDenied GetBucketLocation 'Access Denied'
  run scripts/watch-bucket.sh archive --yes
  exits 2
  has "error: the bucket archive does not belong to account $account"
  has 'hint: S3 sends events to EventBridge in the account of the bucket only; ask its owner for an SNS topic'
  has 'existing_sns_topics'
  has 'source_account_ids'
  respond_error s3api.get-bucket-location AccessDenied GetBucketLocation 'Access Denied'
  run scripts/watch-bucket.sh archive --yes
  exits 2
  has 'hint: your identity lacks s3:GetBucketLocation, or the bucket belongs to another account'
  [[ $(calls "$get") == 0 ]]
}

@test "edgetap's own bucket is not watched" {
  run scripts/watch-bucket.sh "tap-logs-$account-us-east-1" --yes
  exits 2
  has "tap-logs-$account-us-east-1 is edgetap's own bucket"
  [[ $(calls "$get") == 0 ]]
}

@test "undo needs no installation, and finds the region" {
  echo '{}' >"$OUTPUTS"
  rmdir terraform/.terraform
  respond s3api.get-bucket-location '{"LocationConstraint":"eu-central-1"}'
  respond s3api.put-bucket-notification-configuration ''
  respond "$get" '{"EventBridgeConfiguration":{}}'
  respond "$get.3" ''
  run scripts/watch-bucket.sh their-logs --undo --yes
  exits 0
  has 'EventBridge notifications are off'
  called 's3api put-bucket-notification-configuration .*--region eu-central-1 '
}

@test "destroying names watched buckets and leaves them" {
  respond sqs.get-queue-attributes '{"Attributes":{}}'
  respond "$get" ''
  respond_error "$get.1" AccessDenied GetBucketNotificationConfiguration 'Access Denied'
  respond "$get.2" ''
  respond "$get.3" '{"EventBridgeConfiguration":{}}'
  outputs '{"existing_log_sources":[{"bucket":"a-secret","prefix":""},{"bucket":"quiet","prefix":"x"},{"bucket":"their-logs","prefix":""}]}'
  run scripts/disable.sh --destroy <<<no
  exits 1
  has_not 'may deliver here'
  has 'warning: cannot read whether the bucket a-secret sends events'
  has 'The bucket their-logs keeps sending events to EventBridge.'
  has 'run scripts/watch-bucket.sh their-logs --undo.'
  has_not 'bucket quiet'
  [[ $(calls s3api.put-bucket-notification-configuration) == 0 ]]
}

@test "destroying names the accounts that may deliver" {
  respond sqs.get-queue-attributes '{"Attributes":{}}'
  outputs '{"source_account_ids":["210987654321","345678901234"],"delivery_destination_arn":"arn:d"}'
  run scripts/disable.sh --destroy <<<no
  exits 1
  has 'Distributions of 210987654321, 345678901234 may deliver here: run scripts/disable.sh --destination-arn arn:d --all with'
  outputs '{"delivery_destination_arn":"arn:d"}'
  run scripts/disable.sh --destroy <<<no
  has 'Distributions of other accounts may deliver here'
}
