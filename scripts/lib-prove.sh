# shellcheck shell=bash
# The steps of prove.sh. Sourced by prove.sh; uses its variables.
#
# To add a step, add a line to STEPS, a function prove_STEP, and an item to docs/operations.md. The
# function runs commands with `run` or `run_in_copy`, and returns whether they did what the line
# says; `seen` is what it saw. In a dry run, `run` only shows the command, and `expect` and
# `wait_until` succeed.
#
# shellcheck disable=SC2154,SC2034

# Step, minutes at most, what it needs (`aws`: an emulator cannot show it; others: an option of
# prove.sh), and what must be seen.
readonly STEPS=(
  'install|10||Terraform creates everything, and its second plan shows no change'
  'enable|1|distribution|enable.sh enables the distribution, and changes nothing the second time'
  'update-delivery|2|aws distribution|enable.sh removes a field, adds it again in two runs at a time, and then changes nothing'
  'cookies|2|distribution|enable.sh turns on cookie logging'
  'if-match|1|aws distribution|CloudFront refuses a change with an outdated ETag'
  'verify|5|aws|the bridge accepts the request of a log in the bucket'
  'role|10|aws|the function reports a missing log as deleted, not as denied'
  'dead-letters|10|aws|redrive.sh moves the message of an object that is not a log, by a redrive task'
  'pause|5|aws|pause.sh disables the event source mapping, and enables it again'
  'backfill|20|aws|backfill.sh sends a log through the backfill queue, and the function delivers it'
  'batching|15|aws|with a batching window, ten logs at a time are delivered and both queues are empty'
  'recursion|180|aws|a log of 20,000 rows is requeued more than 16 times and delivered whole'
  'outage|150|aws|a log that arrives while the bridge is down for an hour is delivered afterwards'
  'kms|15|aws kms-key-arn|verify.sh succeeds with a KMS key for bucket, queues and secret'
  'vpc|45|aws vpc|verify.sh succeeds with the function in a VPC'
  'arm64|15|aws arm64-zip|verify.sh succeeds with a function for arm64'
  'source-account|320|aws source-profile source-distribution|a distribution of another account delivers to this one'
  'foreign-bucket|15|aws source-profile source-bucket source-topic|a log in a bucket of another account is delivered'
  'log-delivery|320|aws distribution|CloudFront delivers the log of a request, and the function its transactions'
  'disable|2|distribution|disable.sh restores configuration and tags of the distribution'
  'remove|30||disable.sh --destroy leaves nothing'
  'operator-policy|0|aws|an identity that may do no more than operator-policy.json allows was denied nothing'
)

# Rows of the log that is requeued: more than 16 times what one invocation of 20 s can send one by
# one, at 20 ms or more for each.
readonly LONG_LOG=20000
# Invocations in a row after which Lambda stops a loop that it may not run.
readonly LOOP_LIMIT=16
# Minutes that the bridge is down.
readonly OUTAGE=60
# Seconds between two looks at what a step waits for.
readonly POLL_INTERVAL=15
# Commands that restore what the installation's removal does not, one a line, in the copy: they
# outlive a run that is killed.
readonly UNDO=undo
# Name, account and region of what the run made, in the copy, from before Terraform makes anything.
readonly MADE=made.json

# run COMMAND …: runs a command and keeps its output and its exit status.
run() {
  local words
  words=$(show_command '' "$@" 3>&1)
  words=${words#: }
  commands+=("$words")
  if ((dry_run)); then
    show_command 'would run' "$@"
    return
  fi
  say "    $words"
  ran=0
  "$@" </dev/null >"$scratch/colored" 2>&1 || ran=$?
  sed -E $'s/\e\\[[0-9;]*m//g' "$scratch/colored" >"$scratch/printed"
  { printf '$ %s\n' "$words" && cat "$scratch/printed" && printf 'exit status %s\n\n' "$ran"; } >>"$OUTPUT"
}

# expect STATUS [PATTERN]: whether the last command ended with that status and printed the pattern.
expect() {
  ((dry_run)) && return
  seen=''
  if ((ran == $1)); then
    [[ -n ${2:-} ]] || return 0
    seen=$(grep -E -m 1 -- "$2" "$scratch/printed") && return
  fi
  seen="exit status $ran: $(grep -v '^ *$' "$scratch/printed" | tail -n 3 | tr '\n' ' ')"
  return 1
}

# wait_until MINUTES COMMAND …
wait_until() {
  ((dry_run)) && return
  local minutes=$1 started=$SECONDS
  shift
  until "$@"; do
    ((SECONDS - started < minutes * 60)) || return 1
    progress "waiting: $(((SECONDS - started) / 60)) of at most $minutes min"
    sleep "$POLL_INTERVAL"
  done
  end_progress
}

terraform_run() { run "$TERRAFORM" -chdir=terraform "$@"; }

apply_with() {
  set_variables "$1"
  ((! dry_run)) || show_command 'with the variables' "$1"
  is_own_installation || return
  terraform_run apply -input=false -auto-approve && expect 0
}

# run_aws REGION SERVICE …
run_aws() {
  local region=$1
  shift
  run aws "$@" --region "$region" --output json
}

# Runs a command as the other account. Static credentials would take precedence over the profile.
as_source() { run env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY -u AWS_SESSION_TOKEN "AWS_PROFILE=${given[source_profile]}" "$@"; }

undo_as_source() {
  local words
  ((dry_run)) && return
  printf -v words ' %q' env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY -u AWS_SESSION_TOKEN "AWS_PROFILE=${given[source_profile]}" "$@"
  printf '%s\n' "${words# }" >>"$UNDO"
}

undo_all() {
  local command
  [[ -f $UNDO ]] || return 0
  while IFS= read -r command; do run bash -c "$command"; done <"$UNDO"
}

# --- Steps ---

prove_install() {
  run scripts/setup-tfvars.sh
  expect 0 || return
  terraform_run init -input=false -lockfile=readonly
  expect 0 || return
  begin_installation || return
  apply_with '{}' || return
  read_installation || return
  terraform_run plan -input=false -detailed-exitcode
  expect 0 'No changes'
}

# Refuses a state that has anything in it, and records what --clean must find again.
begin_installation() {
  ((dry_run)) && return
  is_own_installation || return
  if ! terraform_in show -json 2>"$scratch/error" | jq '.values == null' | is_true; then
    seen="the state of the copy is not empty, so nothing was made: $(why)"
    return 1
  fi
  jq -n --arg name "$name" --arg account "$caller_account" --arg region "$aws_region" '{$name, $account, $region}' >"$MADE"
}

# Whether Terraform in the copy has the backend that prove.sh wrote, the name and the region of the
# run, and its account: it applies and destroys unasked.
is_own_installation() {
  ((dry_run)) && return
  if ! jq '.backend | .type == "local" and .config.path == null and .config.workspace_dir == null' terraform/.terraform/terraform.tfstate 2>/dev/null | is_true; then
    seen='the Terraform backend of the copy is not the local one that prove.sh wrote'
    return 1
  fi
  local used
  used=$(variables_here) || {
    seen="cannot read Terraform's variables: $(why)"
    return 1
  }
  if ! jq --arg name "$name" --arg region "$aws_region" '.name == $name and .aws_region == $region' <<<"$used" | is_true; then
    seen="Terraform's variables in the copy are those of another installation: $used"
    return 1
  fi
  is_same_account
}

# Whether the credentials are still those of the account of the installation.
is_same_account() {
  local account=$caller_account identity
  [[ ! -f $MADE ]] || account=$(jq -r .account "$MADE")
  identity=$(look "$aws_region" sts get-caller-identity | jq -r .Account) || {
    seen="no valid AWS credentials: $(why)"
    return 1
  }
  [[ $identity == "$account" ]] && return
  seen="the AWS credentials belong to account $identity, but the installation $name is in account $account"
  return 1
}

read_installation() {
  if ((dry_run)); then
    log_bucket=LOG-BUCKET log_prefix=PREFIX/ function_name=$name log_group_name=/aws/lambda/$name
    work_queue_url=WORK-QUEUE dead_letter_queue_url=DEAD-LETTER-QUEUE
    return
  fi
  outputs=$(terraform_in output -json 2>"$scratch/error") || return
  jq 'has("secret_arn") and has("function_name")' <<<"$outputs" | is_true || return
  read_outputs "$outputs"
  installed=1
}

prove_enable() {
  enable_distribution && expect 0 "${given[distribution]} .* enabled$" || return
  enable_distribution && expect 0 "${given[distribution]} .* unchanged$"
}

enable_distribution() { run scripts/enable.sh --distribution "${given[distribution]}" --yes "$@"; }

prove_update_delivery() {
  run cp scripts/record-fields.txt record-fields.txt
  run sed -i.before '$d' scripts/record-fields.txt
  enable_distribution
  expect 0 "${given[distribution]} .* updated$" || return
  run mv record-fields.txt scripts/record-fields.txt
  local enable="scripts/enable.sh --distribution ${given[distribution]} --yes"
  run bash -c "$enable & first=\$!; $enable && wait \$first"
  expect 0 || return
  enable_distribution
  expect 0 "${given[distribution]} .* unchanged$" || return
  ((dry_run)) || ! grep -q "^warning: cannot read CloudFront's list of fields" "$scratch/printed" || {
    seen=$(grep -m 1 '^warning' "$scratch/printed")
    return 1
  }
}

prove_cookies() {
  enable_distribution --include-cookies
  expect 0 "${given[distribution]} .* (updated|unchanged)$" || return
  run_aws "$GLOBAL" cloudfront get-distribution-config --id "${given[distribution]}"
  expect 0 '"IncludeCookies": true'
}

# The configuration is the current one, so that a change that is not refused changes nothing.
prove_if_match() {
  ((dry_run)) || must_look "$GLOBAL" cloudfront get-distribution-config --id "${given[distribution]}" | jq .DistributionConfig >configuration.json
  run_aws "$GLOBAL" cloudfront update-distribution --id "${given[distribution]}" --if-match EOUTDATED00000 --distribution-config file://configuration.json
  expect "${ran:-}" 'PreconditionFailed|InvalidIfMatchVersion'
}

prove_verify() {
  run scripts/verify.sh --timeout 300
  expect 0 'The path works'
}

prove_role() {
  local missing=${log_prefix}EDGETAPVERIFY/missing.gz message
  message=$(jq -n -c --arg bucket "$log_bucket" --arg key "$missing" --arg region "$aws_region" '
    {Records: [{eventVersion: "2.1", eventSource: "aws:s3", awsRegion: $region, eventName: "ObjectCreated:Put",
      s3: {bucket: {name: $bucket}, object: {key: $key, size: 1}}}]}')
  run_aws "$aws_region" sqs send-message --queue-url "$work_queue_url" --message-body "$message"
  expect 0 || return
  wait_until 8 function_says "s3://$log_bucket/$missing" || {
    seen='the function logged nothing about the missing log'
    return 1
  }
  ((dry_run)) || [[ $seen == *'deleted before it was read'* ]]
}

# function_says OBJECT: sets seen to the message of the function's first WARN or ERROR about it.
function_says() {
  must_look "$aws_region" logs filter-log-events --log-group-name "$log_group_name" --filter-pattern "\"$1\"" >"$scratch/lines"
  seen=$(jq -r --arg object "$1" '[.events[]?.message | fromjson? | select(.object == $object and (.level == "WARN" or .level == "ERROR"))
    | .message][0] // empty' "$scratch/lines")
  [[ -n $seen ]]
}

prove_dead_letters() {
  put_object 'no access log' || return
  wait_until 5 has_depth "$dead_letter_queue_url" '1 0' || {
    seen='no message in the dead-letter queue'
    return 1
  }
  run scripts/redrive.sh
  expect 0 'Messages moved to the work queue: [1-9]' || return
  ! grep -q 'one by one' "$scratch/printed" || {
    seen=$(grep -m 1 'one by one' "$scratch/printed")
    return 1
  }
}

prove_pause() {
  run scripts/pause.sh --yes
  expect 0 'are paused\.' || return
  run scripts/pause.sh --resume
  expect 0 'are on\.'
}

# The log is delivered twice: when it arrives, and again by the backfill.
prove_backfill() {
  apply_with '{"backfill_concurrency":2}' || return
  make_log 1
  local object=s3://$log_bucket/$key
  started=$(date +%s)
  run_aws "$aws_region" s3api put-object --bucket "$log_bucket" --key "$key" --body "$scratch/log.gz"
  expect 0 || return
  wait_until 8 object_is_delivered "$object" || return
  started=$(($(date +%s) + 1))
  run scripts/backfill.sh --source "$log_bucket/$key" --yes --wait
  expect 0 || return
  wait_until 8 object_is_delivered "$object" || return
  ((dry_run)) || [[ $seen == *'successfully sent'* ]]
}

# has_depth QUEUE-URL 'WAITING HIDDEN': whether the queue has that many messages.
has_depth() { [[ $(queue_depths "$1") == "$2" ]]; }

queue_depths() {
  must_look "$aws_region" sqs get-queue-attributes --queue-url "$1" --attribute-names All | jq -r '.Attributes
    | "\(.ApproximateNumberOfMessages) \([.ApproximateNumberOfMessagesNotVisible, .ApproximateNumberOfMessagesDelayed | tonumber] | add)"'
}

# put_object TEXT: uploads an object with that text under the key of a log.
put_object() {
  make_log 1
  gzip <<<"$1" >"$scratch/log.gz"
  run_aws "$aws_region" s3api put-object --bucket "$log_bucket" --key "$key" --body "$scratch/log.gz"
  expect 0
}

prove_batching() {
  apply_with '{"batching_window":20}' || return
  run bash -c 'for n in {1..10}; do scripts/verify.sh --timeout 300 & done; wait'
  expect 0 'The path works' || return
  ((dry_run)) && return
  seen="$(grep -c 'The path works' "$scratch/printed") of 10 were delivered"
  [[ $seen == 10* ]] || return
  wait_until 5 has_depth "$work_queue_url" '0 0' || seen+=", work queue: $(queue_depths "$work_queue_url")"
  must_look "$aws_region" cloudwatch describe-alarms --alarm-name-prefix "$name-errors" >"$scratch/response"
  ! jq 'any(.MetricAlarms[]?; .StateValue == "ALARM")' "$scratch/response" | is_true || seen+=', the alarm errors is on'
  [[ $seen == '10 of 10 were delivered' ]]
}

prove_recursion() {
  run_aws "$aws_region" lambda get-function-recursion-config --function-name "$function_name"
  expect 0 '"RecursiveLoop": "Allow"' || return
  apply_with '{"timeout":30,"bridge_concurrency":1,"batch_max_transactions":1}' || return
  make_log "$LONG_LOG"
  long=s3://$log_bucket/$key started=$(date +%s)
  run_aws "$aws_region" s3api put-object --bucket "$log_bucket" --key "$key" --body "$scratch/log.gz"
  expect 0 || return
  wait_until 150 long_log_is_delivered || return
  ((dry_run)) || [[ $seen =~ ^$LONG_LOG\ .*,\ ([0-9]+)\ invocations && ${BASH_REMATCH[1]} -gt $LOOP_LIMIT ]]
}

# Rows of an invocation that Lambda killed arrive again.
long_log_is_delivered() {
  must_look "$aws_region" logs filter-log-events --log-group-name "$log_group_name" --filter-pattern "\"$long\"" --start-time "${started}000" \
    >"$scratch/lines"
  seen=$(jq -r --arg object "$long" '[.events[]?.message | fromjson? | select(.object == $object and has("sent"))]
    | "\(map(.sent) | add // 0) transactions of the log were sent, \(length) invocations"' "$scratch/lines")
  ((${seen%% *} >= LONG_LOG))
}

prove_outage() {
  apply_with '{"bridge_edge_endpoint":"https://edgetap.invalid/down"}' || return
  local object
  run scripts/verify.sh --timeout 300
  expect 1 'did not deliver the log|logged nothing about' || return
  ((dry_run)) || object=$(grep -o -m 1 "s3://$log_bucket/[^ )]*" "$scratch/printed" | head -n 1)
  wait_until "$OUTAGE" false || true
  apply_with '{}' || return
  started=$(date +%s)
  wait_until 60 object_is_delivered "${object:-}" || seen="not delivered an hour after the outage; work queue: $(queue_depths "$work_queue_url")"
  ((dry_run)) || [[ $seen == *'successfully sent'* ]]
}

object_is_delivered() {
  local line
  line=$(summary_line "$1" "$started")
  seen=$(jq -r '.message // empty' <<<"${line:-null}")
  is_delivered "$line"
}

prove_kms() {
  apply_with "$(jq -n -c --arg key "${given[kms_key_arn]}" '{kms_key_arn: $key}')" && prove_verify
}

prove_vpc() {
  apply_with "$(jq -n -c --argjson vpc "${given[vpc]}" '{vpc: $vpc}')" && prove_verify
}

prove_arm64() {
  local zip=${given[arm64_zip]}
  [[ $zip == /* ]] || zip=$CALLER_DIRECTORY/$zip
  apply_with "$(jq -n -c --arg zip "$zip" '{architecture: "arm64", lambda_zip: $zip}')" && prove_verify
}

prove_source_account() {
  local id=${given[source_distribution]} source_account=SOURCE-ACCOUNT destination=DESTINATION-ARN domain=DOMAIN
  as_source aws sts get-caller-identity --query Account --output text
  expect 0 || return
  ((dry_run)) || source_account=$(<"$scratch/printed")
  as_source aws cloudfront list-distributions --query "DistributionList.Items[?Id=='$id'].DomainName" --output text
  expect 0 '[a-z]' || return
  ((dry_run)) || domain=$(<"$scratch/printed")
  apply_with "$(jq -n -c --arg account "$source_account" '{source_account_ids: [$account]}')" || return
  ((dry_run)) || destination=$(terraform_in output -raw delivery_destination_arn)
  undo_as_source scripts/disable.sh --distribution "$id" --destination-arn "$destination" --yes
  as_source scripts/enable.sh --distribution "$id" --destination-arn "$destination" --yes
  expect 0 "$id .* enabled$" || return
  run scripts/verify.sh --through-cloudfront "$id" --domain "$domain" --wait 300
  expect 0 'The path works' || return
  as_source scripts/disable.sh --distribution "$id" --destination-arn "$destination" --yes
  expect 0
}

prove_foreign_bucket() {
  local bucket=${given[source_bucket]}
  apply_with "$(jq -n -c --arg bucket "$bucket" --arg topic "${given[source_topic]}" \
    '{existing_log_sources: [{bucket: $bucket, prefix: "edgetap-prove/"}], existing_sns_topics: [$topic]}')" || return
  make_log 1
  key=edgetap-prove/${key##*/} started=$(date +%s)
  undo_as_source aws s3api delete-object --bucket "$bucket" --key "$key"
  as_source aws s3api put-object --bucket "$bucket" --key "$key" --body "$scratch/log.gz"
  expect 0 || return
  wait_until 8 object_is_delivered "s3://$bucket/$key"
}

prove_log_delivery() {
  run scripts/verify.sh --through-cloudfront "${given[distribution]}" --wait 300
  expect 0 'The path works'
}

prove_disable() {
  run scripts/disable.sh --distribution "${given[distribution]}" --yes
  expect 0 || return
  ((dry_run)) && return
  distribution_now "${given[distribution]}" >"$scratch/distribution-after"
  diff "$scratch/distribution-before" "$scratch/distribution-after" >"$scratch/printed" || {
    seen="the distribution differs from before: $(tr '\n' ' ' <"$scratch/printed")"
    return 1
  }
  seen='configuration and tags are as before'
}

# Without all outputs, the installation is not complete and has no logs.
prove_remove() {
  ((dry_run)) || [[ -f $MADE ]] || return 0 # nothing was made
  is_own_installation || return
  if ((installed || dry_run)) || [[ -f terraform/.terraform/edgetap-outputs.json ]]; then
    run scripts/disable.sh --destroy --yes
    expect 0 'Nothing tagged or named'
    return
  fi
  terraform_run destroy -input=false -auto-approve
  expect 0 || return
  run_aws "$aws_region" resourcegroupstaggingapi get-resources --tag-filters "Key=$TAG,Values=$name"
  expect 0 && jq '(.ResourceTagMappingList // []) == []' "$scratch/printed" | is_true
}

# Lists users, which the policy does not allow, to learn whether the identity may do more.
prove_operator_policy() {
  local denied=''
  ((dry_run)) || denied=$(grep -E -m 1 'AccessDenied|UnauthorizedOperation|not authorized' "$OUTPUT") || true
  run_aws "$aws_region" iam list-users --max-items 1
  ((dry_run)) && return
  if ((ran == 0)); then
    untried='this identity may do more than operator-policy.json allows: it may list users'
    return
  fi
  seen=$denied
  [[ -z $seen ]]
}
