#!/usr/bin/env bats
# prove.sh with the real AWS CLI against moto, and a stub of Terraform that makes the installation.

# shellcheck disable=SC2154 # helpers.bash sets variables
load helpers.bash

setup() {
  setup_clone
  use_moto
  export bucket=edgetap-prove-logs-$account-us-east-1 MOTO
  queues=$MOTO/$account/edgetap-prove
  outputs "{\"name\":\"edgetap-prove\",\"log_bucket\":\"$bucket\",\"log_bucket_arn\":\"arn:aws:s3:::$bucket\",
    \"work_queue_url\":\"$queues-work\",\"dead_letter_queue_url\":\"$queues-dead-letters\",
    \"function_name\":\"edgetap-prove\",\"log_group_name\":\"/aws/lambda/edgetap-prove\"}"
  mkdir -p target/lambda
  echo zip >target/lambda/bootstrap.zip
  printf '%s\n' BRIDGE_AUTH_ENDPOINT=https://auth.example.com/token BRIDGE_EDGE_ENDPOINT=https://bridge.example.com/x?code=hidden \
    BRIDGE_CLIENT_ID=id BRIDGE_CLIENT_SECRET=the-secret >.env
  export ON_TERRAFORM=$BATS_TEST_TMPDIR/on-terraform EDGETAP_BINARY=true
  cat >"$ON_TERRAFORM" <<'END'
#!/usr/bin/env bash
set -euo pipefail
moto() { aws "$@" --region us-east-1; }
case $1 in
  init*)
    mkdir -p terraform/.terraform
    echo '{"backend":{"type":"local","config":{"path":null,"workspace_dir":null}}}' >terraform/.terraform/terraform.tfstate
    ;;
  'show -json') echo "${STATE:-{\}}" ;;
  apply*)
    moto s3api create-bucket --bucket "$bucket" >/dev/null
    for queue in work dead-letters; do moto sqs create-queue --endpoint-url "$MOTO" --queue-name "edgetap-prove-$queue" >/dev/null; done
    moto logs create-log-group --log-group-name /aws/lambda/edgetap-prove
    [[ -z ${APPLY_FAILS:-} ]] || { printf '╷\n│ Error: no more today\n╵\n' >&2 && exit 1; }
    ;;
  plan*) echo 'No changes. Your infrastructure matches the configuration.' ;;
  destroy*)
    moto s3api delete-bucket --bucket "$bucket"
    for queue in work dead-letters; do moto sqs delete-queue --endpoint-url "$MOTO" --queue-url "$MOTO/123456789012/edgetap-prove-$queue"; done
    moto logs delete-log-group --log-group-name /aws/lambda/edgetap-prove
    ;;
esac
END
  chmod +x "$ON_TERRAFORM"
  disabled='{"Enabled":false,"IncludeCookies":false,"Bucket":"","Prefix":""}'
  id=$(make_distribution proven "$disabled")
  before=$(everything)
}

everything() {
  moto s3api list-buckets | jq -c '.Buckets // [] | map(.Name)'
  moto sqs list-queues
  moto logs describe-log-groups | jq -c .logGroups
  for kind in delivery-sources delivery-destinations deliveries; do moto logs "describe-$kind"; done
  moto cloudfront get-distribution-config --id "$id" | jq -c .DistributionConfig
  moto cloudfront list-tags-for-resource --resource "arn:aws:cloudfront::$account:distribution/$id"
}

nothing_is_left() {
  diff <(printf '%s\n' "$before") <(everything) || fail_with 'the account is not as before'
  [[ ! -e target/prove ]] || fail_with 'target/prove is left'
}

# step_is NAME TEXT: how the line of a step in the report begins.
step_is() { grep -q "^$1: $2" target/prove-report.txt || fail_with "$1 is not $2: $(grep "^$1: " target/prove-report.txt)"; }

@test "prove.sh reports each step and leaves nothing" {
  EDGETAP_SEARCH_WAIT=0 run scripts/prove.sh --distribution "$id" --yes
  exits 0
  for step in install enable cookies disable remove; do step_is "$step" proven; done
  for step in update-delivery if-match verify role dead-letters pause backfill batching recursion outage log-delivery operator-policy; do
    step_is "$step" 'not tried (AWS_ENDPOINT_URL is set'
  done
  has '5 proven'
  has '0 differs'
  has '17 not tried'
  has "command:  scripts/enable.sh --distribution $id --yes --include-cookies"
  has 'seen:     configuration and tags are as before'
  has 'the bridge https://bridge.example.com/x.'
  has_not hidden
  has_not the-secret
  [[ $(grep -c ': ' target/prove-report.txt) -gt 20 ]]
  grep -q 'exit status 0' target/prove-output.txt
  nothing_is_left
}

@test "prove.sh with a failing step exits with 1 and cleans up" {
  mkdir "$BATS_TEST_TMPDIR/failing"
  cat >"$BATS_TEST_TMPDIR/failing/aws" <<'END'
#!/usr/bin/env bash
PATH=${PATH//$(dirname "$0"):/}
[[ ${2:-} != update-distribution ]] || { printf '\nAn error occurred (AccessDenied) when calling the UpdateDistribution operation: no\n' >&2 && exit 254; }
exec aws "$@"
END
  chmod +x "$BATS_TEST_TMPDIR/failing/aws"
  PATH=$BATS_TEST_TMPDIR/failing:$PATH EDGETAP_SEARCH_WAIT=0 run scripts/prove.sh --distribution "$id" --yes
  exits 1
  step_is cookies differs
  has 'AccessDenied from UpdateDistribution'
  step_is disable proven
  step_is remove proven
  nothing_is_left
}

@test "prove.sh whose installation fails removes what was made" {
  APPLY_FAILS=1 run scripts/prove.sh --yes
  exits 1
  step_is install differs
  has 'no more today'
  step_is enable 'not tried (pass --distribution)'
  step_is remove proven
  nothing_is_left
}

@test "prove.sh interrupted removes what was made" {
  printf '#!/bin/sh\n[ "$1" != "plan -input=false -detailed-exitcode" ] || kill -INT "$(cat "%s")"\nexec "%s" "$1"\n' \
    "$BATS_TEST_TMPDIR/pid" "$ON_TERRAFORM" >"$BATS_TEST_TMPDIR/interrupting"
  chmod +x "$BATS_TEST_TMPDIR/interrupting"
  ON_TERRAFORM=$BATS_TEST_TMPDIR/interrupting EDGETAP_SEARCH_WAIT=0 \
    run env --default-signal=INT bash -c "echo \$\$ >'$BATS_TEST_TMPDIR/pid'; exec scripts/prove.sh --distribution $id --yes"
  exits 130
  has 'note: interrupted; removing the installation edgetap-prove'
  step_is enable 'not tried (interrupted)'
  step_is remove proven
  nothing_is_left
}

@test "prove.sh --clean removes what a killed run left" {
  printf '#!/bin/sh\n[ "$1" != "plan -input=false -detailed-exitcode" ] || kill -KILL "$(cat "%s")"\nexec "%s" "$1"\n' \
    "$BATS_TEST_TMPDIR/pid" "$ON_TERRAFORM" >"$BATS_TEST_TMPDIR/killing"
  chmod +x "$BATS_TEST_TMPDIR/killing"
  ON_TERRAFORM=$BATS_TEST_TMPDIR/killing run bash -c "echo \$\$ >'$BATS_TEST_TMPDIR/pid'; exec scripts/prove.sh --yes"
  exits 137
  run scripts/prove.sh --yes
  exits 2
  has 'error: an earlier run was not removed: target/prove exists'
  has 'hint: run scripts/prove.sh --clean'
  EDGETAP_SEARCH_WAIT=0 run scripts/prove.sh --clean --yes
  exits 0
  has 'Removed the installation edgetap-prove.'
  nothing_is_left
  run scripts/prove.sh --clean
  exits 0
  has 'Nothing to remove'
}

@test "prove.sh uses no state but its own" {
  export TF_CLI_ARGS_plan=-var=name=prod TF_CLI_ARGS='-state=prod.tfstate'
  printf 'terraform {\n  backend "s3" {}\n}\n' >terraform/zzz_backend_override.tf
  cat >"$BATS_TEST_TMPDIR/looking" <<END
#!/bin/bash
printf '%s ' "\${!TF_CLI_ARGS@}" terraform/*.tf >"$BATS_TEST_TMPDIR/seen"
exec "$ON_TERRAFORM" "\$@"
END
  chmod +x "$BATS_TEST_TMPDIR/looking"
  ON_TERRAFORM=$BATS_TEST_TMPDIR/looking EDGETAP_SEARCH_WAIT=0 run scripts/prove.sh --yes
  exits 0
  [[ $(<"$BATS_TEST_TMPDIR/seen") == 'terraform/zz_prove_override.tf ' ]] || fail_with "$(<"$BATS_TEST_TMPDIR/seen")"
  nothing_is_left
}

@test "prove.sh neither applies nor destroys what is not its own" {
  refuses() {
    : >"$TERRAFORM_LOG"
    run scripts/prove.sh --yes
    exits 1
    step_is install differs
    has "$1"
    ! grep -E '^(apply|destroy)' "$TERRAFORM_LOG" || fail_with "Terraform changed something where $1"
    nothing_is_left
  }
  STATE='{"values":{}}' refuses 'the state of the copy is not empty, so nothing was made'
  VARIABLES='{"name":"prod","aws_region":"us-east-1"}' refuses "Terraform's variables in the copy are those of another installation"
  sed -i.before 's/"type":"local"/"type":"s3"/' "$ON_TERRAFORM"
  refuses 'the Terraform backend of the copy is not the local one that prove.sh wrote'
}

@test "prove.sh --clean needs the account of the run" {
  mkdir -p target/prove/terraform/.terraform
  run scripts/prove.sh --clean --yes
  exits 0
  has 'Removed target/prove: the run had made nothing.'
  mkdir -p target/prove/terraform/.terraform
  echo '{"name":"edgetap-prove","account":"210987654321","region":"eu-west-1"}' >target/prove/made.json
  run scripts/prove.sh --clean --yes
  exits 1
  has "error: the AWS credentials belong to account $account, but the installation edgetap-prove is in account 210987654321"
  [[ -f target/prove/made.json && ! -s $TERRAFORM_LOG ]]
}

@test "prove.sh --dry-run shows every command and makes nothing" {
  unset AWS_ENDPOINT_URL
  export AWS_ENDPOINT_URL_STS=$MOTO AWS_ENDPOINT_URL_CLOUDFRONT=$MOTO AWS_ENDPOINT_URL_CLOUDWATCH_LOGS=$MOTO \
    AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API=$MOTO
  run scripts/prove.sh --dry-run --distribution "$id" --kms-key-arn arn:aws:kms:us-east-1:1:key/k --vpc '{"subnet_ids":[]}' \
    --arm64-zip target/lambda/bootstrap.zip --source-profile other --source-distribution E2 --source-bucket theirs --source-topic arn:aws:sns:us-east-1:1:t
  exits 0
  for command in 'terraform -chdir=terraform apply -input=false -auto-approve' "scripts/enable.sh --distribution $id --yes --include-cookies" \
    'scripts/redrive.sh' "aws cloudfront update-distribution --id $id --if-match EOUTDATED00000" 'scripts/verify.sh --through-cloudfront E2 --domain DOMAIN' \
    'AWS_PROFILE=other scripts/enable.sh --distribution E2 --destination-arn DESTINATION-ARN --yes' 'scripts/disable.sh --destroy --yes' 'aws iam list-users'; do
    has "$command"
  done
  has 'with the variables: '
  has_not 'not tried'
  has 'This was a dry run: nothing was made.'
  export AWS_ENDPOINT_URL=$MOTO
  [[ ! -s $TERRAFORM_LOG ]]
  nothing_is_left
}

@test "prove.sh asks for the name and refuses what it must not touch" {
  run scripts/prove.sh --distribution "$id" <<<no
  exits 1
  has 'Type the name of the installation (edgetap-prove)'
  has 'Nothing was changed.'
  theirs=$(make_distribution theirs "$disabled")
  moto logs put-delivery-source --name s --log-type ACCESS_LOGS --resource-arn "arn:aws:cloudfront::$account:distribution/$theirs" >/dev/null
  moto logs put-delivery-destination --name d --output-format w3c --delivery-destination-configuration '{"destinationResourceArn":"arn:aws:s3:::their-logs"}' >/dev/null
  moto logs create-delivery --delivery-source-name s --delivery-destination-arn "arn:aws:logs:us-east-1:$account:delivery-destination:d" >/dev/null
  run scripts/prove.sh --distribution "$theirs" --yes
  exits 2
  has "error: the distribution $theirs already delivers its logs to S3"
  run scripts/prove.sh --distribution ENONE --yes
  exits 2
  has "error: account $account has no distribution ENONE"
  moto sqs create-queue --queue-name edgetap-prove-work --tags edgetap=edgetap-prove >/dev/null
  run scripts/prove.sh --yes
  exits 2
  has "error: an installation named edgetap-prove exists in account $account"
  rm target/lambda/bootstrap.zip .env
  run scripts/prove.sh --name edgetap-other --yes
  exits 2
  has 'error: target/lambda/bootstrap.zip does not exist'
  has 'error: the settings are not complete: '
  [[ ! -s $TERRAFORM_LOG ]]
}

@test "prove.sh refuses a bridge on this machine, but for an emulator" {
  echo BRIDGE_EDGE_ENDPOINT=http://127.0.0.1:8790/x >edge
  sed -i.before "s|^BRIDGE_EDGE_ENDPOINT=.*|$(<edge)|" .env
  unset AWS_ENDPOINT_URL
  export AWS_ENDPOINT_URL_STS=$MOTO AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API=$MOTO
  run scripts/prove.sh --dry-run
  exits 2
  has 'error: BRIDGE_EDGE_ENDPOINT is on this machine'
  AWS_ENDPOINT_URL=$MOTO run scripts/prove.sh --dry-run
  exits 0
}

# An account that shows what is expected of it: a scripted AWS CLI, and stubs of the scripts that
# prove.sh calls.
script_everything() {
  unset AWS_ENDPOINT_URL
  export LIED=
  outputs "{\"name\":\"edgetap-prove\",\"delivery_destination_arn\":\"arn:destination\"}"
  jq 'map_values(.value)' "$OUTPUTS" >"$BATS_TEST_TMPDIR/plain.json"
  mkdir -p "$BATS_TEST_TMPDIR/scripted"
  cat >"$BATS_TEST_TMPDIR/scripted/aws" <<'END'
#!/usr/bin/env bash
fails() { printf '\nAn error occurred (%s) when calling it: no\n' "$1" >&2 && exit 254; }
lines() { jq -n -c --argjson line "$1" --argjson times "$2" '{events: [range($times) | {timestamp: 1e12, message: ($line | tojson)}]}'; }
case "$LIED $1 $2" in
  *--version*) echo aws-cli/2.27.41 ;;
  *' sts get-caller-identity') if [[ $* == *--query* ]]; then echo 210987654321; else echo '{"Account":"123456789012"}'; fi ;;
  *' cloudfront list-distributions')
    if [[ $* == *--query* ]]; then echo d2.cloudfront.net; else echo '{"DistributionList":{"Items":[{"Id":"E1","Enabled":true}]}}'; fi
    ;;
  *' cloudfront get-distribution-config') printf '{\n"ETag": "E", "DistributionConfig": {"Logging": {\n"IncludeCookies": true\n}}}\n' ;;
  *if-match*' cloudfront update-distribution') echo '{}' ;;
  *' cloudfront update-distribution') fails PreconditionFailed ;;
  *recursion*' lambda get-function-recursion-config') echo '{"RecursiveLoop": "Terminate"}' ;;
  *' lambda get-function-recursion-config') echo '{"RecursiveLoop": "Allow"}' ;;
  'operator-policy sqs send-message') fails AccessDenied ;;
  'administrator iam list-users') echo '{"Users": []}' ;;
  *' iam list-users') fails AccessDenied ;;
  *' logs filter-log-events')
    object=$(grep -o 's3://[^"]*' <<<"$*")
    text='object was deleted before it was read'
    [[ $LIED != *role* ]] || text='cannot read the object: AccessDenied'
    if [[ $object == *missing.gz ]]; then
      lines "{\"level\":\"WARN\",\"object\":\"$object\",\"message\":\"$text\"}" 1
    else
      lines "{\"object\":\"$object\",\"sent\":1000,\"message\":\"successfully sent 1000 transactions\"}" 20
    fi
    ;;
  *' sqs get-queue-attributes')
    waiting=0
    [[ $* != *dead-letters* ]] || waiting=1
    echo "{\"Attributes\":{\"ApproximateNumberOfMessages\":\"$waiting\",\"ApproximateNumberOfMessagesNotVisible\":\"0\",\"ApproximateNumberOfMessagesDelayed\":\"0\"}}"
    ;;
  *) echo '{}' ;;
esac
END
  cat >scripts/enable.sh <<'END'
#!/usr/bin/env bash
result=updated
cmp -s scripts/record-fields.txt fields && result=unchanged
[[ -e fields && $2 == E1 ]] || result=enabled
[[ $2 != E1 ]] || cp scripts/record-fields.txt fields
echo "$2  example.com  $result"
END
  cat >scripts/verify.sh <<'END'
#!/usr/bin/env bash
if grep -q edgetap.invalid terraform/prove.auto.tfvars.json; then
  bucket=tap-logs-123456789012-us-east-1
  printf 'error: the function did not deliver the log: no\nnote: the log stays (s3://%s/x.gz)\n' "$bucket" && exit 1
fi
[[ $LIED != *batching* || $(jq .batching_window terraform/prove.auto.tfvars.json) != 20 ]] || mkdir once 2>/dev/null || exit 1
echo 'The path works.'
END
  printf '#!/bin/sh\necho "Messages moved to the work queue: 1 of 1."\ncase "$LIED" in *dead-letters*) echo note: moving the messages one by one ;; esac\n' >scripts/redrive.sh
  printf '#!/bin/sh\ncase "$LIED $1" in *pause*--resume) echo Deliveries are paused. ;; *--resume) echo Deliveries are on. ;; *) echo Deliveries are paused. ;; esac\n' >scripts/pause.sh
  printf '#!/bin/sh\necho 1 object\n' >scripts/backfill.sh
  printf '#!/bin/sh\necho Nothing tagged or named edgetap-prove is left\n' >scripts/disable.sh
  sed -i.before -e 's/^readonly OUTAGE=.*/readonly OUTAGE=0/' -e 's/^readonly POLL_INTERVAL=.*/readonly POLL_INTERVAL=0/' scripts/lib-prove.sh
  printf '#!/bin/sh\ncase $1 in init*) mkdir -p terraform/.terraform; echo "{\\"backend\\":{\\"type\\":\\"local\\"}}" >terraform/.terraform/terraform.tfstate ;; show*) echo {} ;; plan*) echo No changes. ;; output*) echo arn:destination ;; esac\n' >"$ON_TERRAFORM"
  every_option=(--distribution E1 --kms-key-arn arn:key --vpc '{"subnet_ids":["s"]}' --arm64-zip target/lambda/bootstrap.zip
    --source-profile other --source-distribution E2 --source-bucket theirs --source-topic arn:topic)
  chmod +x "$BATS_TEST_TMPDIR/scripted/aws"
  export PATH=$BATS_TEST_TMPDIR/scripted:$PATH
}

@test "prove.sh proves each step where all is as expected" {
  script_everything
  run scripts/prove.sh "${every_option[@]}" --yes
  exits 0
  has '22 proven'
  has '0 not tried'
  has '20000 transactions of the log were sent, 20 invocations'
  has '10 of 10 were delivered'
  [[ ! -e target/prove ]]
}

@test "prove.sh says which step differs from what is expected" {
  script_everything
  local lies=(if-match role dead-letters pause batching recursion)
  LIED=${lies[*]} run scripts/prove.sh "${every_option[@]}" --yes
  exits 1
  for step in "${lies[@]}"; do step_is "$step" differs; done
  has '16 proven'
  LIED=operator-policy run scripts/prove.sh "${every_option[@]}" --yes
  exits 1
  for step in operator-policy role; do step_is "$step" differs; done
  LIED=administrator run scripts/prove.sh "${every_option[@]}" --yes
  exits 0
  step_is operator-policy 'not tried (this identity may do more than operator-policy.json allows'
}

@test "each step of prove.sh has a function" {
  run bash -c 'set -u; . scripts/lib-prove.sh; for step in "${STEPS[@]%%|*}"; do declare -F "prove_${step//-/_}" || exit; done'
  exits 0
  [[ ${#lines[@]} -ge 20 ]]
  run scripts/prove.sh --list
  exits 0
  has 'expected'
  has 'log-delivery'
  run scripts/prove.sh --help
  exits 0
  has 'Usage: scripts/prove.sh'
  has_not 'set -euo'
  for option in --nonsense '--skip install' '--name x' '--arm64-zip missing'; do
    # shellcheck disable=SC2086 # options are separate words
    run scripts/prove.sh $option
    exits 2
    has 'hint: run scripts/prove.sh --help for usage'
  done
}
