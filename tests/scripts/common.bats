#!/usr/bin/env bats
# What every script does alike.

load helpers.bash

setup() {
  setup_clone
  use_script
}

scripts_with_aws=(enable.sh disable.sh verify.sh status.sh redrive.sh watch-bucket.sh)

@test "--help prints the comment at the top of the script" {
  for script in "${scripts_with_aws[@]}" setup-tfvars.sh build-lambda.sh; do
    run scripts/"$script" --help
    exits 0
    has "Usage: scripts/$script"
    has 'Exit status'
    has --dry-run
    has_not 'set -euo'
    run scripts/"$script" --nonsense
    exits 2
    has "$script --help"
  done
  [[ ! -s $AWS_LOG ]]
}

@test "everything that is missing is told at once, and nothing is begun" {
  export AWS_VERSION=aws-cli/1.20.0
  mkdir "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\necho Terraform v1.9.8\n' >"$BATS_TEST_TMPDIR/bin/terraform"
  chmod +x "$BATS_TEST_TMPDIR/bin/terraform"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH run scripts/enable.sh --all
  exits 2
  has 'aws is version 1.20.0: 1.35.0 (of version 1) or 2.18.0 (of version 2)'
  has 'terraform is version 1.9.8: 1.11.0 or newer'
  [[ ! -s $AWS_LOG ]]
}

@test "both versions of the AWS CLI will do" {
  answer logs.describe-delivery-sources '{}'
  answer logs.describe-delivery-destinations '{}'
  answer logs.describe-deliveries '{}'
  for AWS_VERSION in 'aws-cli/1.35.0 Python/3.8' 'aws-cli/2.18.0 Python/3.12 Linux' 'aws-cli/2.27.41 Python/3.13'; do
    export AWS_VERSION
    run scripts/disable.sh --all
    exits 0
  done
  AWS_VERSION='aws-cli/2.17.9 Python/3.12' run scripts/disable.sh --all
  exits 2
}

@test "no state and no identity are told together" {
  echo '{}' >"$OUTPUTS"
  refusal sts.get-caller-identity ExpiredToken GetCallerIdentity 'The security token included in the request is expired'
  run scripts/status.sh
  exits 2
  has 'Terraform has made nothing yet'
  has 'AWS does not know you'
  has 'ExpiredToken'
}

@test "credentials of another account are refused" {
  answer sts.get-caller-identity '{"Account":"999999999999"}'
  run scripts/status.sh
  exits 2
  has 'account 999999999999, and the module is in 123456789012'
}

@test "calls about deliveries go to us-east-1, the others to the module's region" {
  outputs '{"aws_region":"eu-central-1"}'
  answer logs.describe-delivery-sources '{}'
  answer logs.describe-delivery-destinations '{}'
  answer logs.describe-deliveries '{}'
  answer cloudfront.list-distributions '{}'
  answer logs.filter-log-events '{}'
  answer sqs.get-queue-attributes '{"Attributes":{"ApproximateNumberOfMessages":"0","ApproximateNumberOfMessagesNotVisible":"0","ApproximateNumberOfMessagesDelayed":"0"}}'
  run scripts/status.sh
  exits 0
  while read -r call; do
    case $call in
      *' describe-deliver'* | cloudfront*) [[ $call == *'--region us-east-1 '* ]] ;;
      *) [[ $call == *'--region eu-central-1 '* ]] ;;
    esac || fail_with "$call"
  done <"$AWS_LOG"
  run cat "$AWS_LOG"
  has_not no-paginate
}
