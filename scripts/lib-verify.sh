# shellcheck shell=bash
# A log of recognizable requests, the function's lines about an object, and
# verify.sh --through-cloudfront: sends a request to a distribution and follows it into a log and to
# the bridge. Sourced by verify.sh and prove.sh.
#
# through_cloudfront uses $distribution (its ID), $domain (empty to look it up), $wait (minutes) and
# $timeout (seconds).
#
# shellcheck disable=SC2153,SC2154,SC2034

# Seconds between two searches for the request in the logs, at least and at most. In between it is a
# tenth of the time waited so far, because each search reads all logs again.
readonly SEARCH_INTERVAL=${EDGETAP_VERIFY_INTERVAL:-15} SEARCH_INTERVAL_MAX=300
# Seconds that this machine's clock may be ahead of CloudFront's.
readonly CLOCK_SKEW=300

request_id='' progress_shown=0

# make_log ROWS: writes $scratch/log.gz as CloudFront writes a log, two header lines and then
# tab-separated rows, and sets $key. The mark is in the key, in the position of CloudFront's unique
# ID.
make_log() {
  local fields values
  unique=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
  key=${log_prefix}EDGETAPVERIFY/$(date -u +%Y/%m/%d/%H)/EDGETAPVERIFY.$(date -u +%Y-%m-%d-%H).$unique.gz
  fields=('timestamp(ms)' date time c-ip cs-method cs-uri-stem cs-uri-query sc-status x-host-header cs-protocol 'cs(User-Agent)'
    x-edge-request-id DistributionId)
  values=("$(date -u +%s)000" "$(date -u +%Y-%m-%d)" "$(date -u +%H:%M:%S)" 192.0.2.1 GET /edgetap-verify "mark=$unique" 200
  edgetap.invalid https edgetap%20verify "edgetap-verify-$unique" EDGETAPVERIFY)
  {
    printf '#Version: 1.0\n#Fields: %s\n' "${fields[*]}"
    # The first request ID has no number.
    (IFS=$'\t' && printf '%s\n' "${values[*]}") | awk -F '\t' -v OFS='\t' -v rows="$1" \
      '{ id = $12; for (row = 0; row < rows; row++) { if (row) $12 = id "-" row; print } }'
  } | gzip >"$scratch/log.gz"
}

through_cloudfront() {
  need_edgetap
  refuse_on_problems
  logs=()
  if [[ -z $domain ]]; then
    find_distribution
    find_logs
    refuse_on_problems
  else
    logs=("s3://$log_bucket/AWSLogs/")
  fi
  trap 'interrupted 130' INT
  trap 'interrupted 143' TERM
  send_probe
  if ((dry_run)); then
    show_command 'would run' "${find[@]}"
    summary_line "s3://$log_bucket/$log_prefix" "$sent_at" >/dev/null
    say 'This was a dry run: nothing was sent.'
    return
  fi
  wait_for_log
  wait_for_delivery
}

# Sets $domain. CloudFront's own name leads to CloudFront whatever the DNS of the aliases says.
find_distribution() {
  must_look "$GLOBAL" cloudfront list-distributions >"$scratch/response"
  local found
  found=$(jq -c --arg id "$distribution" '.DistributionList.Items[]? | select(.Id == $id)' "$scratch/response")
  if [[ -z $found ]]; then
    problem "account $account_id has no distribution $distribution" "if it belongs to another account, pass its domain: --domain d111111abcdef8.cloudfront.net"
  elif [[ $(jq .Enabled <<<"$found") != true ]]; then
    problem "the distribution $distribution is disabled in CloudFront: it answers no requests" 'choose another distribution, or ask its owner to enable it'
  fi
  domain=$(jq -r '.DomainName // empty' <<<"$found")
}

# Sets $logs: where edgetap reads the logs of the distribution.
find_logs() {
  [[ -n $domain ]] || return 0
  must_read_deliveries
  local source
  source=$(source_of "$distribution")
  if jq 'any(.deliveries[]?; .to_edgetap)' <<<"${source:-null}" | is_true; then
    logs=("s3://$log_bucket/$log_prefix")
    return
  fi
  must_look "$GLOBAL" cloudfront get-distribution-config --id "$distribution" >"$scratch/response"
  mapfile -t logs < <(jq -r --argjson legacy "$(legacy_source "$distribution" "$scratch/response")" '
    (.deliveries[]?.read_from, $legacy) | values | "s3://\(.bucket)/\(.prefix // "")"' <<<"${source:-null}")
  ((${#logs[@]})) || problem "the distribution $distribution is not enabled: its logs do not come to edgetap" \
    "run scripts/enable.sh --distribution $distribution"
}

# Any status is fine: CloudFront also logs requests that a web ACL blocks.
send_probe() {
  local mark url command status
  mark=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
  url="https://$domain/etc/passwd?edgetap-verify=$mark"
  command=(curl --silent --show-error --max-time 30 --user-agent edgetap-verify --output /dev/null --dump-header "$scratch/headers" "$url")
  sent_at=$(date +%s)
  if ((dry_run)); then
    show_command 'would run' "${command[@]}"
    find_command REQUEST-ID
    return
  fi
  if ! "${command[@]}" 2>"$scratch/error"; then
    error "cannot send a request to $domain: $(why)"
    hint 'a new distribution has no DNS name for some minutes; if this machine needs a proxy, set HTTPS_PROXY'
    exit 1
  fi
  # A proxy may have sent a response of its own before CloudFront's.
  read -r request_id status < <(tr -d '\r' <"$scratch/headers" \
    | awk '/^HTTP\// { status = $2 } tolower($1) == "x-amz-cf-id:" && id == "" { id = $2; print id, status }') || true
  if [[ -z $request_id ]]; then
    error "the response from $domain has no X-Amz-Cf-Id header: it does not come from CloudFront"
    hint 'a proxy or firewall between this machine and CloudFront responded, or the DNS name does not lead to CloudFront yet; try another network, or in some minutes'
    exit 1
  fi
  find_command "$request_id"
  milestone sent "$sent_at" '' "GET $url, status $status, request ID $request_id"
}

find_command() {
  find=("$edgetap" find "$1" "${logs[@]}" --since "$(instant "$((sent_at - CLOCK_SKEW))")" --distribution "$distribution")
}

wait_for_log() {
  local started=$SECONDS waited told='' status interval
  while true; do
    waited=$((SECONDS - started))
    progress "waiting for the log: $((waited / 60)) of $wait min"
    status=0
    AWS_REGION=$aws_region "${find[@]}" --json >"$scratch/found" 2>"$scratch/error" || status=$?
    ((status != 2)) || die "edgetap find failed: $(why)"
    [[ ! -s $scratch/found ]] || break
    [[ -n $told ]] || complain
    if ((waited >= wait * 60)); then
      end_progress
      error "no log contains the request after $wait min"
      hint 'after a distribution was enabled, CloudFront can take up to four hours, and some logs arrive up to a day late'
      go_on
      exit 1
    fi
    interval=$((waited / 10))
    ((interval > SEARCH_INTERVAL)) || interval=$SEARCH_INTERVAL
    ((interval < SEARCH_INTERVAL_MAX)) || interval=$SEARCH_INTERVAL_MAX
    sleep "$interval"
  done
  end_progress
  read_hit
}

# Shows once why `edgetap find` could not read a log.
complain() {
  told=$(grep -v -E '^error: the request is in none of |: no objects under this prefix' "$scratch/error" | grep -E -m 1 '^error: | WARN ') || return 0
  end_progress
  warn "edgetap find: ${told#error: }"
}

# The request can stand in several logs, if CloudFront delivers to several buckets.
read_hit() {
  local hit verdict reason line bucket
  hit=$(jq -s -c '(map(select(.verdict == "sent")) + .)[0]' "$scratch/found")
  IFS=$'\t' read -r object line verdict reason < <(jq -r '[.object, .line, .verdict, .reason // ""] | @tsv' <<<"$hit")
  bucket=${object#s3://}
  must_look "$aws_region" s3api list-objects-v2 --bucket "${bucket%%/*}" --prefix "${bucket#*/}" --max-items 1 >"$scratch/response"
  logged_at=$(jq -r '.Contents[0].LastModified | sub("\\.[0-9]+"; "") | sub("(Z|\\+00:00)$"; "Z") | fromdate' "$scratch/response")
  milestone logged "$logged_at" "$sent_at" "$object, line $line"
  [[ $verdict != sent ]] || return 0
  error "edgetap does not send the request: it is $verdict${reason:+ ($reason)}"
  hint "this is what the settings on this machine say; ${find[*]} shows the row"
  exit 1
}

wait_for_delivery() {
  local started=$SECONDS line=''
  while true; do
    progress "waiting for the function: $((SECONDS - started)) of $timeout s"
    line=$(summary_line "$object" "$sent_at")
    if is_delivered "$line" || ((SECONDS - started >= timeout)); then break; fi
    sleep "$INTERVAL"
  done
  end_progress
  if ! is_delivered "$line"; then
    local message
    message=$(jq -r '.message // empty' <<<"${line:-null}")
    error "the function did not deliver the log within $timeout s${message:+: $message}"
    hint "run scripts/verify.sh, which says where the path ends; the function tries again, and logs the object in $log_group_name"
    exit 1
  fi
  milestone delivered "$(jq '.at / 1000 | floor' <<<"$line")" "$sent_at" "$(jq .sent <<<"$line") transactions of this log"
  say "The path works. Look for /etc/passwd with the request ID $request_id on your platform."
}

is_delivered() { jq '(.message // "" | startswith("successfully sent")) and .sent > 0' <<<"${1:-null}" | is_true; }

# milestone NAME TIME SINCE TEXT: prints a step with its time, and with the time since SINCE.
milestone() {
  local lag=''
  [[ -z $3 ]] || lag="after $(duration "$(($2 - $3))")"
  printf '%-9s  %s  %-16s  %s\n' "$1" "$(instant "$2")" "$lag" "$4"
}

duration() {
  local seconds=$(($1 > 0 ? $1 : 0))
  if ((seconds < 60)); then printf '%s s' "$seconds"; else printf '%s min %s s' "$((seconds / 60))" "$((seconds % 60))"; fi
}

instant() { jq -n -r "$1 | todate"; }

progress() {
  [[ -t 2 ]] || return 0
  printf '\r%-50s' "$1" >&2
  progress_shown=1
}

end_progress() {
  if ((progress_shown)); then printf '\r%50s\r' '' >&2; fi
  progress_shown=0
}

interrupted() {
  end_progress
  [[ -z $request_id ]] || go_on
  exit "$1"
}

go_on() { hint "to look for the request later, run ${find[*]}"; }

# summary_line OBJECT SINCE: prints the function's last summary line of the object since that time,
# with its time in milliseconds as `at`. The function writes it at every LOG_LEVEL.
summary_line() {
  look "$aws_region" logs filter-log-events --log-group-name "$log_group_name" --filter-pattern "\"$1\"" \
    --start-time "${2}000" >"$scratch/lines" || die "cannot read the log group $log_group_name: $(why)"
  jq -c --arg object "$1" '
    [.events[]? | .timestamp as $at | .message | fromjson? | select(.object == $object and has("sent")) | . + {at: $at}] | last // empty' \
    "$scratch/lines"
}
