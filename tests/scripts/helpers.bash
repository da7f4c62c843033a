# shellcheck shell=bash
# shellcheck disable=SC2154 # bats sets `output` and `status`
# Functions that the tests of the scripts share. Each test runs a copy of the scripts next to a
# terraform directory, as in a clone.

readonly repository=${REPOSITORY:?run tests/scripts/run.sh}
readonly account=123456789012

setup_clone() {
  clone=$BATS_TEST_TMPDIR/clone
  mkdir -p "$clone/terraform/.terraform" # initialized
  cp -r "$repository/scripts" "$clone/scripts"
  cd "$clone" || return
  export PATH=$repository/tests/scripts/bin:$PATH
  export OUTPUTS=$BATS_TEST_TMPDIR/outputs.json TERRAFORM_LOG=$BATS_TEST_TMPDIR/terraform.log
  export EDGETAP_CONFLICT_WAIT_MAX=0
  unset EDGETAP_TERRAFORM TF_AUTO_APPROVE TF_DATA_DIR TF_VAR_log_level "${!TF_VAR_@}" "${!BRIDGE_@}" "${!BATCH_MAX_@}" "${!REDACT@}"
  unset STATIC_EXTENSIONS INCLUDE_PATHS EXCLUDE_PATHS RETRY_FOR LOG_LEVEL
  : >"$TERRAFORM_LOG"
  outputs '{}'
}

# outputs JSON: sets the outputs that the stub of Terraform prints; JSON overrides the defaults.
outputs() {
  local queues=${AWS_ENDPOINT_URL:-https://sqs.us-east-1.amazonaws.com}/$account
  jq -n --arg account "$account" --arg queues "$queues" --argjson changes "$1" '
    { name: "tap", aws_region: "us-east-1", account_id: $account,
      log_bucket: "tap-logs-\($account)-us-east-1", log_bucket_arn: "arn:aws:s3:::tap-logs-\($account)-us-east-1",
      log_prefix: "AWSLogs/\($account)/CloudFront/", function_name: "tap", log_group_name: "/aws/lambda/tap",
      function_arn: "arn:aws:lambda:us-east-1:\($account):function:tap",
      work_queue_url: "\($queues)/tap-work", work_queue_arn: "arn:aws:sqs:us-east-1:\($account):tap-work",
      dead_letter_queue_url: "\($queues)/tap-dead-letters", dead_letter_queue_arn: "arn:aws:sqs:us-east-1:\($account):tap-dead-letters",
      secret_arn: "arn:aws:secretsmanager:us-east-1:\($account):secret:tap-x", existing_log_sources: [], log_level: "info" }
    + $changes | map_values({sensitive: false, type: "string", value: .})' >"$OUTPUTS"
}

# Uses the real AWS CLI against an empty moto.
use_moto() {
  : "${MOTO:?run tests/scripts/run.sh}"
  export AWS_ENDPOINT_URL=$MOTO AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1 AWS_PAGER=''
  unset AWS_PROFILE AWS_SESSION_TOKEN
  curl --silent --fail --request POST "$MOTO/moto-api/reset" >/dev/null
}

# Uses a scripted AWS CLI, which prints the responses of the test.
use_script() {
  export RESPONSES=$BATS_TEST_TMPDIR/responses AWS_LOG=$BATS_TEST_TMPDIR/aws.log
  export PATH=$repository/tests/scripts/scripted:$PATH
  mkdir -p "$RESPONSES"
  : >"$AWS_LOG"
  : >"$RESPONSES/calls"
  respond sts.get-caller-identity "{\"Account\":\"$account\"}"
}

# respond SERVICE.OPERATION[.N] [JSON]: sets the response; tests/scripts/scripted/aws explains the
# names.
respond() { printf '%s\n' "${2-$(cat)}" >"$RESPONSES/$1"; }

# respond_error SERVICE.OPERATION[.N] CODE API_OPERATION MESSAGE
respond_error() { printf 'error\n\nAn error occurred (%s) when calling the %s operation: %s\n' "$2" "$3" "$4" >"$RESPONSES/$1"; }

# moto SERVICE …: calls moto with the real AWS CLI.
moto() {
  local endpoint=()
  if [[ $1 == sqs ]]; then endpoint=(--endpoint-url "$MOTO"); fi
  aws "$@" --region us-east-1 --output json "${endpoint[@]}"
}

has() { [[ $output == *"$1"* ]] || fail_with "missing in the output: $1"; }
has_not() { [[ $output != *"$1"* ]] || fail_with "unexpected in the output: $1"; }
exits() { [[ $status == "$1" ]] || fail_with "exit status $status instead of $1"; }

fail_with() {
  printf '%s\n--- output\n%s\n' "$1" "$output" >&2
  return 1
}

# Number of calls of an operation.
calls() { grep -c "^$1\$" "$RESPONSES/calls" || true; }

called() { grep -q -- "$1" "$AWS_LOG" || fail_with "missing in the calls: $1
$(cat "$AWS_LOG")"; }

# make_distribution NAME LOGGING: creates a distribution with an API as its origin and that legacy
# logging.
make_distribution() {
  local reference=$1 logging=$2
  jq --arg reference "$reference" --argjson logging "$logging" '.DistributionConfig | .CallerReference = $reference | .Logging = $logging
    | .Aliases = {Quantity: 1, Items: ["\($reference).example.com"]}' "$repository/tests/scripts/distribution-config.json" \
    >"$BATS_TEST_TMPDIR/distribution.json"
  moto cloudfront create-distribution --distribution-config "file://$BATS_TEST_TMPDIR/distribution.json" | jq -r .Distribution.Id
}

# make_installation: creates the bucket, the queues and the log group of the outputs in moto.
make_installation() {
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
