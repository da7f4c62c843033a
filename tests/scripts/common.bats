#!/usr/bin/env bats
# Behavior that all scripts share.

load helpers.bash

setup() {
  setup_clone
  use_script
}

scripts_with_aws=(enable.sh disable.sh verify.sh status.sh redrive.sh watch-bucket.sh)

@test "--help prints the script's header" {
  for script in "${scripts_with_aws[@]}" setup-tfvars.sh build-lambda.sh; do
    run scripts/"$script" --help
    exits 0
    has "Usage: scripts/$script"
    has 'Exit status'
    has --dry-run
    has_not 'set -euo'
    run scripts/"$script" --nonsense
    exits 2
    has 'error: unknown option: --nonsense'
    has "hint: run scripts/$script --help"
  done
  [[ ! -s $AWS_LOG ]]
}

@test "CDPATH does not lead a script to another clone" {
  mkdir -p "$BATS_TEST_TMPDIR/other/scripts"
  respond logs.describe-delivery-sources '{}'
  respond logs.describe-delivery-destinations '{}'
  respond logs.describe-deliveries '{}'
  export CDPATH=$BATS_TEST_TMPDIR/other
  run bash scripts/disable.sh --all
  exits 0
  has 'Nothing to remove'
}

@test "outdated tools are all reported before any AWS call" {
  export AWS_VERSION=aws-cli/1.20.0
  mkdir "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\necho Terraform v1.9.8\n' >"$BATS_TEST_TMPDIR/bin/terraform"
  chmod +x "$BATS_TEST_TMPDIR/bin/terraform"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH run scripts/enable.sh --all
  exits 2
  has 'error: aws 1.20.0 is too old: 1.35.0 or newer of version 1, or 2.18.0 or newer of version 2'
  has 'error: terraform 1.9.8 is too old: 1.11.0 or newer'
  [[ ! -s $AWS_LOG ]]
}

@test "AWS CLI versions 1 and 2 are accepted" {
  respond logs.describe-delivery-sources '{}'
  respond logs.describe-delivery-destinations '{}'
  respond logs.describe-deliveries '{}'
  for AWS_VERSION in 'aws-cli/1.35.0 Python/3.8' 'aws-cli/2.18.0 Python/3.12 Linux' 'aws-cli/2.27.41 Python/3.13'; do
    export AWS_VERSION
    run scripts/disable.sh --all
    exits 0
  done
  AWS_VERSION='aws-cli/2.17.9 Python/3.12' run scripts/disable.sh --all
  exits 2
}

@test "missing state and credentials are reported together" {
  echo '{}' >"$OUTPUTS"
  respond_error sts.get-caller-identity ExpiredToken GetCallerIdentity 'The security token included in the request is expired'
  run scripts/status.sh
  exits 2
  has 'error: no Terraform outputs found'
  has 'error: no valid AWS credentials: ExpiredToken'
}

# Terraform's message before `terraform init`, as it prints it.
uninitialized() {
  printf '\e[31m╷\e[0m\e[0m\n'
  printf '\e[31m│\e[0m \e[0m\e[1m\e[31mError: \e[0m\e[0m\e[1mRequired plugins are not installed\e[0m\n'
  printf '\e[31m│\e[0m \e[0m\n'
  printf '\e[31m│\e[0m \e[0m\e[0mThe installed provider plugins are not consistent with the packages\n'
  printf '\e[31m│\e[0m \e[0mconfiguration, run:\n\e[31m│\e[0m \e[0m  terraform\n\e[31m│\e[0m \e[0minit\n'
  printf '\e[31m╵\e[0m\e[0m\n'
}

@test "missing terraform init is reported with Terraform's reason" {
  export OUTPUT_ERROR=$BATS_TEST_TMPDIR/error
  uninitialized >"$OUTPUT_ERROR"
  for command in 'enable.sh --all' 'disable.sh --all' 'disable.sh --destroy' verify.sh status.sh redrive.sh 'watch-bucket.sh b'; do
    # shellcheck disable=SC2086 # options are separate words
    run scripts/$command
    exits 2
    [[ $output == "error: terraform is not initialized in this clone: Required plugins are not installed
  hint: run terraform -chdir=terraform init" ]] || fail_with "$command"
    has_not $'\e'
    has_not '╷'
  done
}

@test "warnings before Terraform's error are skipped" {
  export OUTPUT_ERROR=$BATS_TEST_TMPDIR/error
  {
    printf 'There are some problems with the CLI configuration:\n'
    printf '╷\n│ Warning: Unable to open CLI configuration file\n│\n│ The CLI configuration file at "/x" does not exist.\n╵\n\n'
    uninitialized
  } >"$OUTPUT_ERROR"
  run scripts/status.sh
  exits 2
  has 'in this clone: Required plugins are not installed'
}

@test "clone without terraform init says so, and nothing else" {
  rmdir terraform/.terraform
  respond_error sts.get-caller-identity ExpiredToken GetCallerIdentity 'The security token included in the request is expired'
  for command in 'enable.sh --all' 'disable.sh --all' 'disable.sh --destroy' verify.sh status.sh redrive.sh 'watch-bucket.sh b'; do
    # shellcheck disable=SC2086 # options are separate words
    run scripts/$command
    exits 2
    [[ $output == 'error: terraform is not initialized in this clone
  hint: run terraform -chdir=terraform init' ]] || fail_with "$command"
  done
  mkdir "$BATS_TEST_TMPDIR/data"
  TF_DATA_DIR=$BATS_TEST_TMPDIR/data run scripts/status.sh
  has_not 'not initialized'
}

@test "other failures of terraform output are shown" {
  export OUTPUT_ERROR=$BATS_TEST_TMPDIR/error
  printf '╷\n│ Error: Error acquiring the state lock\n╵\n' >"$OUTPUT_ERROR"
  run scripts/status.sh
  exits 2
  has "error: cannot read Terraform's outputs: Error acquiring the state lock"
  has_not 'not initialized'
}

@test "EDGETAP_TERRAFORM names the Terraform program" {
  mkdir "$BATS_TEST_TMPDIR/bin"
  tofu=$BATS_TEST_TMPDIR/bin/tofu
  printf '#!/bin/sh\nif [ "$*" = version ]; then echo OpenTofu v$TOFU; else exec %q "$@"; fi\n' "$repository/tests/scripts/bin/terraform" >"$tofu"
  chmod +x "$tofu"
  mkdir "$BATS_TEST_TMPDIR/tools"
  for tool in bash env jq sed awk grep dirname mktemp rm cat sort tr mkdir cut head tail basename date; do
    ln -s "$(command -v "$tool")" "$BATS_TEST_TMPDIR/tools/$tool"
  done
  PATH=$BATS_TEST_TMPDIR/tools:$repository/tests/scripts/scripted # no terraform
  export EDGETAP_TERRAFORM=$tofu
  respond logs.describe-delivery-sources '{}'
  respond logs.describe-delivery-destinations '{}'
  respond logs.describe-deliveries '{}'
  TOFU=1.11.0 run scripts/disable.sh --all
  exits 0
  has 'Nothing to remove'
  TOFU=1.10.6 run scripts/disable.sh --all
  exits 2
  has "error: $tofu 1.10.6 is too old: 1.11.0 or newer"
  EDGETAP_TERRAFORM=tofu run scripts/disable.sh --all
  exits 2
  has 'error: tofu is not installed'
}

@test "other variables than those of the state are refused" {
  for command in 'disable.sh --destroy --yes' 'disable.sh --destroy --dry-run'; do
    # shellcheck disable=SC2086 # options are separate words
    VARIABLES='{"name":"edgetap","aws_region":"us-west-2"}' run scripts/$command
    exits 2
    has "error: Terraform's variable name is \"edgetap\" here, but the state is that of \"tap\""
    has 'hint: set name = "tap" in terraform/mine.auto.tfvars'
    has "error: Terraform's variable aws_region is \"us-west-2\" here, but the state is that of \"us-east-1\""
    [[ ! -s $TERRAFORM_LOG ]]
    [[ $(grep -c . "$AWS_LOG") == 1 ]] || fail_with 'only the caller was asked for'
    : >"$AWS_LOG"
  done
  CONSOLE_ERROR='Invalid value for variable' run scripts/disable.sh --destroy --yes
  exits 2
  has "error: cannot read Terraform's variables: Invalid value for variable"
}

@test "missing argument is named" {
  for script in enable disable status; do
    run "scripts/$script.sh" E27FO14I29XXXX
    exits 2
    has 'error: unexpected argument: E27FO14I29XXXX'
    has 'hint: pass --distribution E27FO14I29XXXX'
  done
  run scripts/watch-bucket.sh
  exits 2
  has 'error: missing argument: BUCKET'
  run scripts/verify.sh --timeout
  exits 2
  has 'error: --timeout requires a number of seconds (1 to 9999)'
}

@test "credentials of another account are rejected" {
  respond sts.get-caller-identity '{"Account":"999999999999"}'
  run scripts/status.sh
  exits 2
  has 'account 999999999999, but edgetap is installed in account 123456789012'
}

@test "delivery calls go to us-east-1, others to the chosen region" {
  outputs '{"aws_region":"eu-central-1"}'
  respond logs.describe-delivery-sources '{}'
  respond logs.describe-delivery-destinations '{}'
  respond logs.describe-deliveries '{}'
  respond cloudfront.list-distributions '{}'
  respond logs.filter-log-events '{}'
  respond cloudwatch.describe-alarms '{}'
  respond sqs.get-queue-attributes '{"Attributes":{"ApproximateNumberOfMessages":"0","ApproximateNumberOfMessagesNotVisible":"0","ApproximateNumberOfMessagesDelayed":"0"}}'
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

@test "the policies fit IAM, and one contains the other" {
  for policy in operator-policy operator-policy-distributions; do
    (($(jq -c . "$repository/terraform/$policy.json" | tr -d '[:space:]' | wc -c) <= 6144)) || fail_with "$policy is too long for a managed policy"
  done
  run jq -n --slurpfile all "$repository/terraform/operator-policy.json" --slurpfile some "$repository/terraform/operator-policy-distributions.json" '
    def pairs: [.Statement[] | .Action as $action | .Resource as $resource | ([$action] | flatten[]) + " on " + ([$resource] | flatten[])];
    ($some[0] | pairs) - ($all[0] | pairs)'
  [[ $output == '[]' ]] || fail_with 'only in the policy for distributions'
}
