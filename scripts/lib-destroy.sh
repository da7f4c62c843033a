# shellcheck shell=bash
# What disable.sh --destroy does when the deliveries are gone: the logs, what Terraform made, and a search for what is left.
# Sourced by disable.sh, whose variables these are.
#
# shellcheck disable=SC2154

# How often the bucket is emptied, since logs on their way arrive for hours.
readonly EMPTYINGS=5
# The index of tags lags behind what was deleted: how often it is asked, with so many seconds in between.
readonly SEARCHES=6 SEARCH_WAIT=${EDGETAP_SEARCH_WAIT:-10}
# The module's outputs, while it is being destroyed. Git ignores the folder.
readonly REST=terraform/.terraform/edgetap-outputs.json

ask_to_destroy() {
  local queue
  say "This removes all of the module $name in account $account_id, $aws_region:"
  {
    for queue in "$work_queue_url" "$dead_letter_queue_url"; do
      printf '  %s\t%s\n' "${queue##*/}" "$(queue_depth "$queue")"
    done
    printf '  %s\t%s\n' "$log_bucket" "$( ((keep_logs)) && echo 'is kept, with the logs in it' || echo 'with the logs in it')"
    printf '  deliveries\t%s\n' "${ids[*]:-none}"
  } | table
  say 'What waits in the queues is not delivered any more: scripts/redrive.sh brings dead letters back first.'
  confirm_by_name "$name"
}

queue_depth() {
  if look "$aws_region" sqs get-queue-attributes --queue-url "$1" --attribute-names All >"$scratch/answer"; then
    jq -r '.Attributes | "\(.ApproximateNumberOfMessages) waiting, \(.ApproximateNumberOfMessagesNotVisible) in work or postponed"' "$scratch/answer"
  else
    why
  fi
}

destroy_module() {
  ((${#left[@]} == 0)) || return 0 # a delivery that is left would keep writing into nothing
  local attempt=1
  if ((keep_logs)); then forget_bucket; fi
  remember_outputs
  ((keep_logs)) || empty_bucket
  until terraform_destroy; do
    if ((keep_logs || attempt == EMPTYINGS)) || ! has_logs; then
      left+=('what Terraform could not remove (above): run this again, in some hours if logs are still arriving')
      break
    fi
    note 'Logs on their way arrive for hours, and some came just now: emptying the bucket again.'
    empty_bucket
    attempt=$((attempt + 1))
  done
  ((dry_run)) || search
  if ((${#left[@]} == 0 && ! dry_run)); then rm -f "$REST"; fi
}

# Without the operator's variables these two would be the defaults, and the provider looks into the wrong region.
terraform_destroy() {
  run terraform -chdir=terraform destroy -input=false -auto-approve -var "name=$name" -var "aws_region=$aws_region"
}

# A destroying that breaks off has deleted the outputs first: they are kept for the next run of this.
remember_outputs() {
  ((dry_run)) && return
  mkdir -p "${REST%/*}"
  printf '%s\n' "$outputs" >"$REST"
}

need_module_or_its_rest() {
  local saved
  if [[ -f $REST ]] && ! terraform -chdir=terraform output -json 2>/dev/null | jq 'has("name")' | is_true; then
    saved=$(<"$REST")
  fi
  need_module "${saved:-}"
}

run() {
  if ((dry_run)); then show_command 'would run' "$@"; else "$@"; fi
}

# Terraform no longer knows the bucket and what protects it, so that it leaves them alone.
forget_bucket() {
  local kept
  mapfile -t kept < <(terraform -chdir=terraform state list | grep -E '^aws_s3_bucket[._]' | grep -v '^aws_s3_bucket_notification')
  ((${#kept[@]} == 0)) || run terraform -chdir=terraform state rm "${kept[@]}" || die 'terraform state rm fails'
}

# A thousand at a time: that is what one request deletes. Versions too, should the owner have turned them on.
empty_bucket() {
  local count total=0
  while true; do
    if ! look "$aws_region" s3api list-object-versions --bucket "$log_bucket" --max-items 1000 >"$scratch/answer"; then
      failed_with NoSuchBucket || note "emptying $log_bucket: $(why)"
      return 0
    fi
    jq '{Objects: [(.Versions, .DeleteMarkers)[]? | {Key, VersionId}][:1000], Quiet: true}' "$scratch/answer" >"$scratch/doomed"
    count=$(jq '.Objects | length' "$scratch/doomed")
    ((count)) || break
    change "$aws_region" s3api delete-objects --bucket "$log_bucket" --delete "file://$scratch/doomed" >"$scratch/answer" || {
      note "emptying $log_bucket: $(why)"
      return 0
    }
    ((dry_run)) && return 0
    total=$((total + count))
    if jq 'has("Errors")' "$scratch/answer" | is_true; then
      note "emptying $log_bucket: $(jq -r '.Errors[0] | "\(.Code) for \(.Key)"' "$scratch/answer")"
      return 0
    fi
  done
  if ((total)); then say "$log_bucket: $total objects deleted"; fi
}

has_logs() {
  look "$aws_region" s3api list-object-versions --bucket "$log_bucket" --max-items 1 >"$scratch/answer" && jq 'has("Versions") or has("DeleteMarkers")' "$scratch/answer" | is_true
}

# By tag and by name, since the index of tags knows neither every kind of resource nor at once.
search() {
  local attempt found
  for ((attempt = 1; attempt <= SEARCHES; attempt++)); do
    found=$(remains) || die "the search for what is left: $(why)"
    [[ -n $found ]] || break
    ((attempt < SEARCHES)) && sleep "$SEARCH_WAIT"
  done
  [[ -z $found ]] || while IFS= read -r arn; do left+=("$arn"); done <<<"$found"
}

remains() {
  {
    tagged "$aws_region" && { [[ $aws_region == "$GLOBAL" ]] || tagged "$GLOBAL"; } && named
  } >"$scratch/remains" || return
  sort -u "$scratch/remains" | if ((keep_logs)); then grep -v -x -F "arn:aws:s3:::$log_bucket" || true; else cat; fi
}

tagged() {
  look "$1" resourcegroupstaggingapi get-resources --tag-filters "Key=$TAG,Values=$name" >"$scratch/answer" || return
  jq -r '.ResourceTagMappingList[]?.ResourceARN' "$scratch/answer"
}

named() {
  read_deliveries || return
  jq -r --arg name "$name" '.destination.arn // empty, (.taps[] | select(.source_owner == $name) | .source_arn),
    (.taps[].deliveries[] | select(.owner == $name) | .arn)' <<<"$model"
  exists "function $function_name" lambda get-function --function-name "$function_name"
  exists "secret $secret_arn" secretsmanager describe-secret --secret-id "$secret_arn"
  exists "queue $work_queue_url" sqs get-queue-attributes --queue-url "$work_queue_url"
  exists "queue $dead_letter_queue_url" sqs get-queue-attributes --queue-url "$dead_letter_queue_url"
  ((keep_logs)) || exists "arn:aws:s3:::$log_bucket" s3api get-bucket-location --bucket "$log_bucket"
  listed 'log group' "$log_group_name" '.logGroups[]?.logGroupName' logs describe-log-groups --log-group-name-prefix "$log_group_name" \
    && alarms \
    && listed dashboard "$name" '.DashboardEntries[]?.DashboardName' cloudwatch list-dashboards --dashboard-name-prefix "$name" \
    && exists "role $name-function" iam get-role --role-name "$name-function"
}

# exists WHAT SERVICE OPERATION …: says it, unless it is not found.
exists() {
  local what=$1
  shift
  if look "$aws_region" "$@" >/dev/null; then
    printf '%s\n' "$what"
  elif ! failed_with 'NotFound|NoSuch|NonExistentQueue|DoesNotExist'; then
    printf '%s (perhaps: %s)\n' "$what" "$(why)"
  fi
}

# listed WHAT NAME FILTER SERVICE OPERATION …: says it, if the list has it: those are asked for by the beginning of a name.
listed() {
  local what=$1 wanted=$2 filter=$3
  shift 3
  look "$aws_region" "$@" >"$scratch/answer" || return
  jq -r --arg what "$what" --arg wanted "$wanted" "$filter | select(. == \$wanted) | \"\(\$what) \(.)\"" "$scratch/answer"
}

# Another module's name may begin with this one's.
alarms() {
  local arn
  look "$aws_region" cloudwatch describe-alarms --alarm-name-prefix "$name-" >"$scratch/answer" || return
  while IFS= read -r arn; do
    look "$aws_region" cloudwatch list-tags-for-resource --resource-arn "$arn" >"$scratch/tags" || return
    if jq --arg tag "$TAG" --arg name "$name" 'any(.Tags[]?; .Key == $tag and .Value == $name)' "$scratch/tags" | is_true; then
      printf '%s\n' "$arn"
    fi
  done < <(jq -r '.MetricAlarms[]?.AlarmArn' "$scratch/answer")
}
