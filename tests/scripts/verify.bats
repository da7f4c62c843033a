#!/usr/bin/env bats
# verify.sh with the real AWS CLI against moto, and a fake distribution.

# shellcheck disable=SC2154 # helpers.bash sets variables
load helpers.bash

setup() {
  setup_clone
  use_moto
  make_installation
}

# function_takes LEVEL SENT MESSAGE: plays the function. Waits for the log that verify.sh uploads,
# reads it, writes a log line.
function_takes() {
  local key=''
  for _ in {1..100}; do
    key=$(moto s3api list-objects-v2 --bucket "$bucket" | jq -r '.Contents[0].Key // empty')
    [[ -z $key ]] || break
    sleep 0.1
  done
  moto s3api get-object --bucket "$bucket" --key "$key" "$BATS_TEST_TMPDIR/taken.gz" >/dev/null
  function_logs "$1" "s3://$bucket/$key" "$2" "$3"
}

@test "verify.sh uploads a log, follows it and deletes it" {
  function_takes INFO 1 'successfully sent 1 transactions for distribution EDGETAPVERIFY' &
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh
  exits 0
  has "s3://$bucket/AWSLogs/$account/CloudFront/EDGETAPVERIFY/"
  has 'processed the log in 812 ms'
  has 'accepted the transaction'
  has 'The path works'
  [[ $(moto s3api list-objects-v2 --bucket "$bucket" | jq '.Contents // [] | length') == 0 ]]
  run gzip -dc "$BATS_TEST_TMPDIR/taken.gz"
  [[ ${lines[0]} == '#Version: 1.0' ]]
  [[ $(awk -F ' ' 'NR == 2 { print NF - 1 }' <<<"$output") == $(awk -F '\t' 'NR == 3 { print NF }' <<<"$output") ]]
  if [[ -n ${EDGETAP_BINARY:-} ]]; then
    cp "$BATS_TEST_TMPDIR/taken.gz" "$BATS_TEST_TMPDIR/EDGETAPVERIFY.gz"
    run "$EDGETAP_BINARY" replay "$BATS_TEST_TMPDIR/EDGETAPVERIFY.gz"
    exits 0
    has '"path":"/edgetap-verify"'
  fi
}

@test "verify.sh shows the function's error" {
  function_takes ERROR 0 'sent 0 transactions for distribution EDGETAPVERIFY, but not all rows were delivered: the token endpoint says invalid_client' &
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh
  exits 1
  has 'error: the function did not deliver the log: sent 0 transactions'
  has 'the token endpoint says invalid_client'
  has_not 'The path works'
  has 'note: the log stays, because it was not delivered'
  [[ $(moto s3api list-objects-v2 --bucket "$bucket" | jq '.Contents // [] | length') == 1 ]]
}

@test "verify.sh without a log line shows queue and last error" {
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh --timeout 2
  exits 1
  has 'logged nothing about the uploaded log within 2 s'
  has 'The work queue is empty'
  moto sqs send-message --queue-url "$work" --message-body x --delay-seconds 900 >/dev/null
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh --timeout 1
  has 'The message is in flight'
  moto sqs send-message --queue-url "$work" --message-body x >/dev/null
  moto logs put-log-events --log-group-name "$log_group" --log-stream-name stream \
    --log-events "[{\"timestamp\":$(date +%s)000,\"message\":\"{\\\"level\\\":\\\"ERROR\\\",\\\"message\\\":\\\"invalid configuration\\\",\\\"problems\\\":\\\"missing setting\\\"}\"}]" >/dev/null
  EDGETAP_VERIFY_INTERVAL=1 run scripts/verify.sh --timeout 2
  exits 1
  has 'Messages wait in the work queue'
  has "The function's last ERROR was: invalid configuration: missing setting"
  has 'note: the log stays'
}

@test "verify.sh --dry-run uploads nothing" {
  run scripts/verify.sh --dry-run
  exits 0
  has 'would run: aws s3api put-object'
  has 'read only: aws logs filter-log-events'
  has 'would run: aws s3api delete-object'
  [[ $(moto s3api list-objects-v2 --bucket "$bucket" | jq '.Contents // [] | length') == 0 ]]
}


# --- Through CloudFront ---

# start_distribution [--without-id]: starts a fake distribution. curl reaches it instead of any
# other host.
start_distribution() {
  requests=$BATS_TEST_TMPDIR/requests
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=fake -keyout "$BATS_TEST_TMPDIR/key.pem" -out "$BATS_TEST_TMPDIR/certificate.pem" 2>/dev/null
  cat "$BATS_TEST_TMPDIR/key.pem" >>"$BATS_TEST_TMPDIR/certificate.pem"
  python3 "$repository/tests/scripts/fake_distribution.py" "$BATS_TEST_TMPDIR/certificate.pem" "$requests" "$@" 3>&- &
  fake=$!
  for _ in {1..100}; do
    [[ ! -s $requests ]] || break
    sleep 0.1
  done
  printf 'insecure\nconnect-to = "::127.0.0.1:%s"\n' "$(head -n 1 "$requests")" >"$BATS_TEST_TMPDIR/.curlrc"
  export CURL_HOME=$BATS_TEST_TMPDIR EDGETAP_VERIFY_INTERVAL=1
}

teardown() { [[ -z ${fake:-} ]] || kill "$fake"; }

# cloudfront_logs BUCKET PREFIX: waits for the request, and delivers the log that has it.
cloudfront_logs() {
  local path query
  for _ in {1..100}; do
    [[ $(wc -l <"$requests") == 1 ]] || break
    sleep 0.1
  done
  IFS=$'\t' read -r request_id path query < <(tail -n 1 "$requests")
  key=$2$id.$(date -u +%Y-%m-%d-%H).0123abcd.gz
  {
    printf '#Version: 1.0\n#Fields: date time c-ip cs-method x-host-header cs-uri-stem cs-uri-query sc-status x-edge-request-id\n'
    printf '%s\t' "$(date -u +%Y-%m-%d)" "$(date -u +%H:%M:%S)" 192.0.2.1 GET d.cloudfront.net "$path" "$query" 403
    printf '%s\n' "$request_id"
  } | gzip >"$BATS_TEST_TMPDIR/log.gz"
  moto s3api put-object --bucket "$1" --key "$key" --body "$BATS_TEST_TMPDIR/log.gz" >/dev/null
}

need_edgetap() { [[ -n ${EDGETAP_BINARY:-} ]] || skip 'EDGETAP_BINARY is not set'; }

disabled='{"Enabled":false,"IncludeCookies":false,"Bucket":"","Prefix":""}'

@test "verify.sh follows a request from CloudFront to the bridge" {
  need_edgetap
  start_distribution
  id=$(make_distribution through "$disabled")
  scripts/enable.sh --distribution "$id" --yes
  prefix=AWSLogs/$account/CloudFront/$id/$(date -u +%Y/%m/%d/%H)/
  {
    cloudfront_logs "$bucket" "$prefix"
    sleep 2
    function_logs INFO "s3://$bucket/$key" 1 "successfully sent 1 transactions for distribution $id" "$id"
  } 3>&- &
  run scripts/verify.sh --through-cloudfront "$id"
  exits 0
  IFS=$'\t' read -r request_id path query < <(tail -n 1 "$requests")
  [[ $path == /etc/passwd && $query == edgetap-verify=* ]] || fail_with "the request was $path?$query"
  [[ $output =~ sent\ .*\ GET\ https://.*/etc/passwd\?$query,\ status\ 403,\ request\ ID\ $request_id ]] || fail_with 'sent'
  [[ $output =~ logged\ .*\ after\ [0-9]+\ s\ +s3://$bucket/$prefix.*,\ line\ 3 ]] || fail_with 'logged'
  [[ $output =~ delivered\ .*\ after\ [0-9]+\ s\ +1\ transactions ]] || fail_with 'delivered'
  has 'The path works'
}

@test "verify.sh finds the request in an external bucket" {
  need_edgetap
  start_distribution
  outputs '{"existing_log_sources":[{"bucket":"their-logs","prefix":"cdn/"}]}'
  moto s3api create-bucket --bucket their-logs >/dev/null
  id=$(make_distribution external '{"Enabled":true,"IncludeCookies":false,"Bucket":"their-logs.s3.amazonaws.com","Prefix":"cdn/"}')
  echo 'not a log' >bad
  moto s3api put-object --bucket their-logs --key "cdn/$id.bad" --body bad >/dev/null
  {
    cloudfront_logs their-logs cdn/
    function_logs INFO "s3://their-logs/$key" 3 "successfully sent 3 transactions for distribution $id" "$id"
  } 3>&- &
  run scripts/verify.sh --through-cloudfront "$id"
  exits 0
  has 's3://their-logs/cdn/'
  has '3 transactions'
}

@test "verify.sh says that a request is logged but not sent" {
  need_edgetap
  start_distribution
  id=$(make_distribution excluded "$disabled")
  scripts/enable.sh --distribution "$id" --yes
  cloudfront_logs "$bucket" "AWSLogs/$account/CloudFront/$id/$(date -u +%Y/%m/%d/%H)/" 3>&- &
  EXCLUDE_PATHS=/etc/** run scripts/verify.sh --through-cloudfront "$id"
  exits 1
  has 'error: edgetap does not send the request: it is excluded'
  has_not 'The path works'
}

@test "verify.sh says that the function did not deliver" {
  need_edgetap
  start_distribution
  id=$(make_distribution undelivered "$disabled")
  scripts/enable.sh --distribution "$id" --yes
  {
    cloudfront_logs "$bucket" "AWSLogs/$account/CloudFront/$id/$(date -u +%Y/%m/%d/%H)/"
    function_logs ERROR "s3://$bucket/$key" 0 'sent 0 transactions, but not all rows were delivered: the bridge responds with 503'
  } 3>&- &
  run scripts/verify.sh --through-cloudfront "$id" --timeout 4
  exits 1
  has 'logged '
  has 'did not deliver the log within 4 s: sent 0 transactions, but not all rows were delivered: the bridge responds with 503'
}

@test "verify.sh interrupted says how to go on" {
  need_edgetap
  start_distribution
  id=$(make_distribution interrupted "$disabled")
  scripts/enable.sh --distribution "$id" --yes
  echo 'not a log' >bad
  moto s3api put-object --bucket "$bucket" --key "AWSLogs/$account/CloudFront/$id.bad" --body bad >/dev/null
  printf '#!/bin/sh\necho >>"%s"\nexec "%s" "$@"\n' "$BATS_TEST_TMPDIR/searching" "$EDGETAP_BINARY" >"$BATS_TEST_TMPDIR/edgetap"
  chmod +x "$BATS_TEST_TMPDIR/edgetap"
  export EDGETAP_BINARY=$BATS_TEST_TMPDIR/edgetap
  {
    for _ in {1..300}; do
      [[ ! -e $BATS_TEST_TMPDIR/searching || $(wc -l <"$BATS_TEST_TMPDIR/searching") -lt 2 ]] || break
      sleep 0.1
    done
    kill -INT "$(<"$BATS_TEST_TMPDIR/pid")"
  } 3>&- &
  run env --default-signal=INT bash -c "echo \$\$ >'$BATS_TEST_TMPDIR/pid'; exec scripts/verify.sh --through-cloudfront $id"
  exits 130
  has "hint: to look for the request later, run $EDGETAP_BINARY find "
  has "s3://$bucket/AWSLogs/$account/CloudFront/ --since "
  has "--distribution $id"
  [[ $(grep -c "^warning: edgetap find: s3://.*$id.bad: not a supported" <<<"$output") == 1 ]] || fail_with 'one warning'
}

@test "verify.sh refuses distributions that it cannot follow" {
  need_edgetap
  export CURL_HOME=$BATS_TEST_TMPDIR
  printf 'resolve = "*:443:127.0.0.1"\nconnect-to = "::127.0.0.1:1"\n' >"$CURL_HOME/.curlrc"
  run scripts/verify.sh --through-cloudfront ENOTHERE
  exits 2
  has 'error: account 123456789012 has no distribution ENOTHERE'
  has 'hint: if it belongs to another account, pass its domain'
  id=$(make_distribution refused "$disabled")
  run scripts/verify.sh --through-cloudfront "$id"
  exits 2
  has "error: the distribution $id is not enabled"
  has "hint: run scripts/enable.sh --distribution $id"
  scripts/enable.sh --distribution "$id" --yes
  run scripts/verify.sh --through-cloudfront "$id" --dry-run
  exits 0
  has 'would run: curl '
  has ' find REQUEST-ID '
  has 'read only: aws logs filter-log-events'
  has 'This was a dry run: nothing was sent.'
  run scripts/verify.sh --through-cloudfront "$id"
  exits 1
  has 'error: cannot send a request to '
  has 'hint: a new distribution has no DNS name for some minutes'
  EDGETAP_BINARY=/nothing/edgetap run scripts/verify.sh --through-cloudfront "$id"
  exits 2
  has 'error: the program /nothing/edgetap is not there'
  has 'hint: run cargo build --release'
  run scripts/verify.sh --wait 3
  exits 2
  has '--domain and --wait require --through-cloudfront'
}

@test "verify.sh refuses a response that is not CloudFront's" {
  need_edgetap
  start_distribution --without-id
  run scripts/verify.sh --through-cloudfront E2 --domain d2.cloudfront.net
  exits 1
  has 'error: the response from d2.cloudfront.net has no X-Amz-Cf-Id header'
  has 'hint: a proxy or firewall'
}

@test "verify.sh searches all accounts' logs for a domain" {
  need_edgetap
  start_distribution
  id=E2OTHER
  {
    cloudfront_logs "$bucket" "AWSLogs/210987654321/CloudFront/$id/$(date -u +%Y/%m/%d/%H)/"
    function_logs INFO "s3://$bucket/$key" 1 "successfully sent 1 transactions for distribution $id" "$id"
  } 3>&- &
  run scripts/verify.sh --through-cloudfront "$id" --domain d2.cloudfront.net
  exits 0
  has 'AWSLogs/210987654321/CloudFront/'
  has 'The path works'
}
