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
  init*) mkdir -p terraform/.terraform ;;
  apply*)
    moto s3api create-bucket --bucket "$bucket" >/dev/null
    for queue in work dead-letters; do moto sqs create-queue --endpoint-url "$MOTO" --queue-name "edgetap-prove-$queue" >/dev/null; done
    moto logs create-log-group --log-group-name /aws/lambda/edgetap-prove
    [[ -z ${APPLY_FAILS:-} ]] || { printf '╷\n│ Error: no more today\n╵\n' >&2 && exit 1; }
    ;;
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
  for step in update-delivery if-match verify role dead-letters batching recursion outage log-delivery operator-policy; do
    step_is "$step" 'not tried (AWS_ENDPOINT_URL is set'
  done
  has '5 proven'
  has '0 differs'
  has '15 not tried'
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
    run bash -c "echo \$\$ >'$BATS_TEST_TMPDIR/pid'; exec scripts/prove.sh --distribution $id --yes"
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

@test "each step of prove.sh has a function" {
  run bash -c 'set -u; . scripts/lib-prove.sh; for step in "${STEPS[@]%%|*}"; do declare -F "prove_${step//-/_}" || exit; done'
  exits 0
  [[ ${#lines[@]} -ge 20 ]]
  run scripts/prove.sh --list
  exits 0
  has 'expected'
  has 'log-delivery'
}
