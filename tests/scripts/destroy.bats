#!/usr/bin/env bats
# disable.sh --destroy with the real AWS CLI against moto. A stub of Terraform deletes the resources
# of $destroy_all.

# shellcheck disable=SC2154,SC2016 # helpers.bash sets variables; the stub expands the others
load helpers.bash

setup() {
  setup_clone
  use_moto
  bucket=tap-logs-$account-us-east-1
  work=$MOTO/$account/tap-work
  dead=$MOTO/$account/tap-dead-letters
  moto s3api create-bucket --bucket "$bucket" >/dev/null
  moto s3api put-bucket-tagging --bucket "$bucket" --tagging '{"TagSet":[{"Key":"edgetap","Value":"tap"}]}'
  moto s3api put-bucket-versioning --bucket "$bucket" --versioning-configuration Status=Enabled
  moto sqs create-queue --queue-name tap-work --tags '{"edgetap":"tap"}' >/dev/null
  for queue in tap-dead-letters tap-backfill tap-backfill-dead-letters; do moto sqs create-queue --queue-name "$queue" >/dev/null; done
  outputs "{\"backfill_queue_url\":\"$MOTO/$account/tap-backfill\",\"backfill_dead_letter_queue_url\":\"$MOTO/$account/tap-backfill-dead-letters\"}"
  moto logs create-log-group --log-group-name /aws/lambda/tap --tags '{"edgetap":"tap"}'
  for key in one two two; do moto s3api put-object --bucket "$bucket" --key "AWSLogs/$key.gz" --body "$OUTPUTS" >/dev/null; done
  moto s3api delete-object --bucket "$bucket" --key AWSLogs/one.gz >/dev/null
  distribution=$(make_distribution shop '{"Enabled":false,"IncludeCookies":false,"Bucket":"","Prefix":""}')
  export EDGETAP_SEARCH_WAIT=0
  terraform_does <<<"$destroy_all"
}

# shellcheck disable=SC2016 # the stub expands variables
destroy_all='case $1 in
  "destroy "*)
    if aws logs describe-deliveries --region us-east-1 | grep -q edgetap-tap; then echo "deliveries are still there" && exit 1; fi
    aws s3api delete-bucket --bucket "$bucket" --region us-east-1 || exit 1
    for queue in tap-work tap-dead-letters tap-backfill tap-backfill-dead-letters; do aws sqs delete-queue --queue-url "$MOTO/123456789012/$queue" --endpoint-url "$MOTO" --region us-east-1; done
    aws logs delete-log-group --log-group-name /aws/lambda/tap --region us-east-1
    ;;
  "state list") printf "module.edgetap.%s\n" aws_lambda_function.bootstrap aws_s3_bucket.logs aws_s3_bucket_notification.logs aws_s3_bucket_policy.logs aws_sqs_queue.work ;;
esac'

terraform_does() {
  export ON_TERRAFORM=$BATS_TEST_TMPDIR/on-terraform bucket
  { printf '#!/usr/bin/env bash\n' && cat; } >"$ON_TERRAFORM"
  chmod +x "$ON_TERRAFORM"
}

bucket_is_there() { moto s3api get-bucket-location --bucket "$bucket" >/dev/null 2>&1; }

@test "destroy deletes deliveries, logs and resources" {
  scripts/enable.sh --distribution "$distribution" --include-cookies --yes
  run scripts/disable.sh --destroy --yes
  exits 0
  has 'Nothing tagged or named tap is left'
  has 'turned off cookie logging'
  [[ $(<"$TERRAFORM_LOG") == 'destroy -input=false -auto-approve' ]]
  run bucket_is_there
  exits 255
  [[ $(moto logs describe-delivery-sources | jq '.deliverySources | length') == 0 ]]
  [[ $(moto logs describe-delivery-destinations | jq '.deliveryDestinations | length') == 0 ]]
}

@test "destroy names a queue of the backfill that is left" {
  terraform_does <<<"${destroy_all/ tap-backfill / }"
  run scripts/disable.sh --destroy --yes
  exits 1
  has "left: queue $MOTO/$account/tap-backfill"
  has_not 'tap-backfill-dead-letters (cannot'
  [[ $(grep -c '^left: ' <<<"$output") == 1 ]] || fail_with 'one is left'
}

@test "destroy shows undelivered messages and asks for the name" {
  moto sqs send-message --queue-url "$MOTO/$account/tap-backfill" --message-body x >/dev/null
  moto sqs send-message --queue-url "$work" --message-body x >/dev/null
  moto sqs send-message --queue-url "$dead" --message-body x >/dev/null
  moto sqs send-message --queue-url "$dead" --message-body y >/dev/null
  export TF_AUTO_APPROVE=true
  run scripts/disable.sh --destroy </dev/null
  exits 2
  [[ $output =~ tap-work\ +1\ waiting ]] || fail_with 'the work queue'
  [[ $output =~ tap-dead-letters\ +2\ waiting ]] || fail_with 'the dead-letter queue'
  [[ $output =~ tap-backfill\ +1\ waiting ]] || fail_with 'the backfill queue'
  run scripts/disable.sh --destroy <<<yes
  exits 1
  has 'The name does not match tap. Nothing was changed'
  bucket_is_there
  [[ ! -s $TERRAFORM_LOG ]]
  run scripts/disable.sh --destroy <<<tap
  exits 0
}

@test "logs that arrive late are deleted too" {
  export late=$BATS_TEST_TMPDIR/late
  terraform_does <<END
if [[ \$1 == destroy* && ! -e \$late ]]; then
  touch "\$late"
  aws s3api put-object --bucket "\$bucket" --key late.gz --body "\$late" --region us-east-1 >/dev/null
fi
$destroy_all
END
  run scripts/disable.sh --destroy --yes
  exits 0
  has 'more logs have arrived'
  [[ $(wc -l <"$TERRAFORM_LOG") == 2 ]]
}

@test "--keep-logs keeps the bucket and its policy" {
  terraform_does <<<"${destroy_all/aws s3api delete-bucket/true}"
  run scripts/disable.sh --destroy --keep-logs --yes
  exits 0
  has "except the bucket $bucket"
  has 'terraform -chdir=terraform import module.edgetap.aws_s3_bucket.logs'
  grep -q '^state rm module.edgetap.aws_s3_bucket.logs module.edgetap.aws_s3_bucket_policy.logs$' "$TERRAFORM_LOG"
  [[ $(moto s3api list-object-versions --bucket "$bucket" | jq '.Versions | length') == 3 ]]
}

@test "leftovers are listed" {
  terraform_does <<<"${destroy_all/aws logs delete-log-group/true}"
  moto sqs create-queue --queue-name stray --tags '{"edgetap":"tap"}' >/dev/null
  for module in tap tap-two; do
    moto cloudwatch put-metric-alarm --alarm-name "$module-errors" --evaluation-periods 1 --comparison-operator GreaterThanThreshold \
      --metric-name m --namespace n --period 60 --statistic Sum --threshold 1 --tags "Key=edgetap,Value=$module"
  done
  run scripts/disable.sh --destroy --yes
  exits 1
  has 'left: log group /aws/lambda/tap'
  has 'left: arn:aws:sqs:us-east-1:123456789012:stray'
  has 'alarm:tap-errors'
  has_not tap-two
  has_not 'Nothing tagged'
}

@test "failed terraform destroy is completed by the next run" {
  terraform_does <<<'echo "{}" >"$OUTPUTS"; exit 1'
  run scripts/disable.sh --destroy --yes
  exits 1
  has 'left: resources that Terraform could not delete'
  [[ $(wc -l <"$TERRAFORM_LOG") == 1 ]]

  # Terraform deletes the outputs first: the second run uses the saved ones.
  terraform_does <<<"$destroy_all"
  run scripts/disable.sh --destroy --yes
  exits 0
  has 'Nothing tagged or named tap is left'
  run scripts/disable.sh --destroy --yes
  exits 2
}

@test "destroy --dry-run shows every call and deletes nothing" {
  scripts/enable.sh --distribution "$distribution" --yes
  run scripts/disable.sh --destroy --dry-run
  exits 0
  has 'would run: aws logs delete-delivery '
  has 'would run: aws s3api delete-objects'
  has 'would run: terraform -chdir=terraform destroy'
  bucket_is_there
  [[ ! -s $TERRAFORM_LOG ]]
  [[ $(moto logs describe-deliveries | jq '.deliveries | length') == 1 ]]
}

@test "interrupted destroy stops before Terraform" {
  scripts/enable.sh --distribution "$distribution" --yes
  mkdir "$BATS_TEST_TMPDIR/interrupting"
  cat >"$BATS_TEST_TMPDIR/interrupting/aws" <<'END'
#!/usr/bin/env bash
PATH=${PATH//$(dirname "$0"):/}
[[ ${2:-} != delete-objects ]] || { kill -s "$SIGNAL" "$(<"$PID_FILE")" && exit 130; }
exec aws "$@"
END
  chmod +x "$BATS_TEST_TMPDIR/interrupting/aws"
  export SIGNAL PID_FILE=$BATS_TEST_TMPDIR/pid
  while read -r SIGNAL code; do
    PATH=$BATS_TEST_TMPDIR/interrupting:$PATH \
      run env --default-signal="$SIGNAL" bash -c "echo \$\$ >'$PID_FILE'; exec scripts/disable.sh --destroy --yes"
    exits "$code"
    has 'error: interrupted'
    [[ ! -s $TERRAFORM_LOG ]] || fail_with "Terraform ran after $SIGNAL"
  done <<<$'INT 130\nTERM 143\nHUP 129'
  bucket_is_there
}
