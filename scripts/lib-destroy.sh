# shellcheck shell=bash
# The second half of disable.sh --destroy, after the deliveries: deletes the logs and everything
# that Terraform created, then searches for leftovers. Sourced by disable.sh; uses its variables.
#
# shellcheck disable=SC2154,SC2034

# Attempts to empty the bucket: logs that CloudFront has already written arrive for hours.
readonly EMPTY_ATTEMPTS=5
# Searches by tag, and the seconds between them: the tag index lists deleted resources for a while.
readonly SEARCHES=6 SEARCH_WAIT=${EDGETAP_SEARCH_WAIT:-10}
# Terraform's outputs, saved while the installation is destroyed. Git ignores the directory.
readonly SAVED_OUTPUTS=terraform/.terraform/edgetap-outputs.json

ask_to_destroy() {
  local queue
  say "This deletes the installation $name in account $account_id, $aws_region:"
  {
    for queue in $(queue_urls); do
      printf '  %s\t%s\n' "${queue##*/}" "$(queue_depth "$queue")"
    done
    printf '  %s\t%s\n' "$log_bucket" "$( ((keep_logs)) && echo 'is kept with its logs' || echo 'is deleted with its logs')"
    printf '  deliveries\t%s\n' "${ids[*]:-none}"
  } | table
  name_watched_buckets
  name_source_accounts
  say 'Messages in the queues will not be delivered. To deliver those of a dead-letter queue first, run scripts/redrive.sh.'
  confirm_by_name "$name"
}

# The deliveries of other accounts cannot be seen from here. They would go on, to a bucket that is gone.
name_source_accounts() {
  [[ -n $accounts_destination_arn ]] || return 0
  say "Distributions of $(jq -r 'if . == null then "other accounts" else join(", ") end' <<<"${source_account_ids:-null}") may deliver here: run scripts/disable.sh --destination-arn $accounts_destination_arn --all with the credentials of each account first."
}

# Nothing records who turned on the EventBridge notifications of a bucket: its owner may have used them
# before edgetap did. So they are named and left.
name_watched_buckets() {
  local bucket
  watched=()
  while IFS= read -r bucket; do
    if ! look "$aws_region" s3api get-bucket-notification-configuration --bucket "$bucket" >"$scratch/response"; then
      warn "cannot read whether the bucket $bucket sends events: $(why)"
    elif jq 'has("EventBridgeConfiguration")' "$scratch/response" | is_true; then
      watched+=("$bucket")
    fi
  done < <(jq -r '.[].bucket' <<<"${existing_log_sources:-[]}" | sort -u)
  show_watched_buckets
}

show_watched_buckets() {
  local bucket
  for bucket in "${watched[@]}"; do
    say "The bucket $bucket keeps sending events to EventBridge. If scripts/watch-bucket.sh turned that on and no one else uses it, run scripts/watch-bucket.sh $bucket --undo."
  done
}

queue_depth() {
  if look "$aws_region" sqs get-queue-attributes --queue-url "$1" --attribute-names All >"$scratch/response"; then
    jq -r '.Attributes | "\(.ApproximateNumberOfMessages) waiting, \(.ApproximateNumberOfMessagesNotVisible) in flight, \(.ApproximateNumberOfMessagesDelayed) delayed"' \
      "$scratch/response"
  else
    why
  fi
}

destroy_module() {
  ((${#left[@]} == 0)) || return 0 # a remaining delivery would keep writing to the deleted bucket
  local attempt=1
  if ((keep_logs)); then forget_bucket; fi
  save_outputs
  ((keep_logs)) || empty_bucket
  until terraform_change destroy -input=false -auto-approve; do
    if ((keep_logs || attempt == EMPTY_ATTEMPTS)) || ! has_logs; then
      left+=('resources that Terraform could not delete (see above). Run this script again; if logs are still arriving, in a few hours')
      break
    fi
    note 'more logs have arrived; emptying the bucket again'
    empty_bucket
    attempt=$((attempt + 1))
  done
  ((dry_run)) || search
  if ((${#left[@]} == 0 && ! dry_run)); then rm -f "$SAVED_OUTPUTS"; fi
}

# terraform destroy deletes the outputs first. They are saved for the next run, in case this one is
# interrupted.
save_outputs() {
  ((dry_run)) && return
  mkdir -p "${SAVED_OUTPUTS%/*}"
  printf '%s\n' "$outputs" >"$SAVED_OUTPUTS"
}

# Sets saved_outputs if an interrupted run left them and Terraform has none.
read_saved_outputs() {
  if [[ -f $SAVED_OUTPUTS ]] && ! terraform_in output -json 2>/dev/null | jq 'has("name")' | is_true; then
    saved_outputs=$(<"$SAVED_OUTPUTS")
  fi
}

# Removes the bucket, its policy and its settings from Terraform's state, so that terraform destroy
# keeps them.
forget_bucket() {
  local listed kept
  listed=$(terraform_in state list) || die "$TERRAFORM state list failed"
  mapfile -t kept < <(grep -E '(^|\.)aws_s3_bucket[._]' <<<"$listed" | grep -v 'aws_s3_bucket_notification')
  bucket_address=$(grep -E '(^|\.)aws_s3_bucket\.' <<<"$listed") || bucket_address=module.edgetap.aws_s3_bucket.logs # forgotten before
  ((${#kept[@]} == 0)) || terraform_change state rm "${kept[@]}" || die "$TERRAFORM state rm failed"
}

# Deletes all objects, at most 1,000 per request (S3's limit), and all versions in case versioning
# was turned on.
empty_bucket() {
  local count total=0
  while true; do
    if ! look "$aws_region" s3api list-object-versions --bucket "$log_bucket" --max-items 1000 >"$scratch/response"; then
      failed_with NoSuchBucket || warn "cannot empty the bucket $log_bucket: $(why)"
      return 0
    fi
    jq '{Objects: [(.Versions, .DeleteMarkers)[]? | {Key, VersionId}][:1000], Quiet: true}' "$scratch/response" >"$scratch/doomed"
    count=$(jq '.Objects | length' "$scratch/doomed")
    ((count)) || break
    change "$aws_region" s3api delete-objects --bucket "$log_bucket" --delete "file://$scratch/doomed" >"$scratch/response" || {
      warn "cannot empty the bucket $log_bucket: $(why)"
      return 0
    }
    ((dry_run)) && return 0
    total=$((total + count))
    if jq 'has("Errors")' "$scratch/response" | is_true; then
      warn "cannot empty the bucket $log_bucket: $(jq -r '.Errors[0] | "\(.Code) for \(.Key)"' "$scratch/response")"
      return 0
    fi
  done
  if ((total)); then say "$log_bucket: deleted $(count "$total" object)"; fi
}

has_logs() {
  look "$aws_region" s3api list-object-versions --bucket "$log_bucket" --max-items 1 >"$scratch/response" \
    && jq 'has("Versions") or has("DeleteMarkers")' "$scratch/response" | is_true
}

# Searches by tag and by name: the tag index does not cover every kind of resource, and lags.
search() {
  local attempt found
  for ((attempt = 1; attempt <= SEARCHES; attempt++)); do
    found=$(leftovers) || die "cannot search for leftovers: $(why)"
    [[ -n $found ]] || break
    ((attempt < SEARCHES)) && sleep "$SEARCH_WAIT"
  done
  [[ -z $found ]] || while IFS= read -r arn; do left+=("$arn"); done <<<"$found"
}

leftovers() {
  {
    read_deliveries && tagged "$aws_region" && { [[ $aws_region == "$GLOBAL" ]] || tagged "$GLOBAL"; } && named
  } >"$scratch/leftovers" || return
  sort -u "$scratch/leftovers" | if ((keep_logs)); then grep -v -x -F "arn:aws:s3:::$log_bucket" || true; else cat; fi
}

tagged() {
  look "$1" resourcegroupstaggingapi get-resources --tag-filters "Key=$TAG,Values=$name" >"$scratch/response" || return
  # `named` asks about the secret, which is listed until its deletion. Deliveries of this account may
  # belong to an installation of the same name in another account.
  jq -r --arg secret "$secret_arn" --argjson model "$model" '
    [$secret, ($model.sources[] | ., .deliveries[] | select(.ours | not) | .arn)] as $others
    | .ResourceTagMappingList[]?.ResourceARN | select(. as $arn | all($others[]; . != $arn))' "$scratch/response"
}

named() {
  local queue
  jq -r '.destination.arn // empty, (.sources[] | ., .deliveries[] | select(.ours) | .arn)' <<<"$model"
  exists "function $function_name" lambda get-function --function-name "$function_name"
  secret
  for queue in $(queue_urls); do
    exists "queue $queue" sqs get-queue-attributes --queue-url "$queue"
  done
  ((keep_logs)) || exists "arn:aws:s3:::$log_bucket" s3api get-bucket-location --bucket "$log_bucket"
  listed 'log group' "$log_group_name" '.logGroups[]?.logGroupName' logs describe-log-groups --log-group-name-prefix "$log_group_name" \
    && alarms \
    && listed dashboard "$name" '.DashboardEntries[]?.DashboardName' cloudwatch list-dashboards --dashboard-name-prefix "$name" \
    && exists "role $name-function" iam get-role --role-name "$name-function"
}

# exists RESOURCE SERVICE OPERATION …: prints RESOURCE unless the call reports that it does not
# exist.
exists() {
  local resource=$1
  shift
  if look "$aws_region" "$@" >"$scratch/response"; then
    printf '%s\n' "$resource"
  elif ! failed_with 'NotFound|NoSuch|NonExistentQueue|DoesNotExist'; then
    printf '%s (cannot check: %s)\n' "$resource" "$(why)"
  fi
}

# A secret with a recovery window is described until then.
secret() {
  exists "secret $secret_arn" secretsmanager describe-secret --secret-id "$secret_arn" >"$scratch/secret"
  jq 'has("DeletedDate")' "$scratch/response" | is_true || cat "$scratch/secret"
}

# listed KIND NAME FILTER SERVICE OPERATION …: prints KIND and NAME if the list contains exactly
# that name. The calls list by prefix.
listed() {
  local kind=$1 wanted=$2 filter=$3
  shift 3
  look "$aws_region" "$@" >"$scratch/response" || return
  jq -r --arg kind "$kind" --arg wanted "$wanted" "$filter | select(. == \$wanted) | \"\(\$kind) \(.)\"" "$scratch/response"
}

# Checks each alarm's tag: another installation's name may begin with this one's.
alarms() {
  local arn
  look "$aws_region" cloudwatch describe-alarms --alarm-name-prefix "$name-" >"$scratch/response" || return
  while IFS= read -r arn; do
    look "$aws_region" cloudwatch list-tags-for-resource --resource-arn "$arn" >"$scratch/tags" || return
    if jq --arg tag "$TAG" --arg name "$name" 'any(.Tags[]?; .Key == $tag and .Value == $name)' "$scratch/tags" | is_true; then
      printf '%s\n' "$arn"
    fi
  done < <(jq -r '.MetricAlarms[]?.AlarmArn' "$scratch/response")
}
