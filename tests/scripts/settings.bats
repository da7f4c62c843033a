#!/usr/bin/env bats
# Settings → Terraform's variables.

# shellcheck disable=SC2154,SC2016,SC2001 # the first are of helpers.bash
load helpers.bash

setup() {
  setup_clone
  good='BRIDGE_CLIENT_ID=id
BRIDGE_CLIENT_SECRET=canary-5a1c
BRIDGE_AUTH_ENDPOINT=https://auth.example.com
BRIDGE_EDGE_ENDPOINT=edge.example.com'
}

certificate() { printf -- '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n'; }

@test "lines of .env are read as the function reads them" {
  run jq -n -L scripts --slurpfile cases "$repository/tests/fixtures/dotenv/cases.json" '
    include "dotenv"; $cases[0][] | . as $case | (.line | dotenv(".env")) as $read
    | select((.line | assignment.error) != .error or ($read.problems | length) != (if .error then 1 else 0 end)
        or (.error == null and $read.variables != {NAME: .value}))
    | {$case, $read}'
  exits 0
  [[ -z $output ]] || fail_with 'some cases differ'
}

@test "settings are refused as the function refuses them" {
  run env -i PATH="$PATH" jq -n -L scripts --slurpfile cases "$repository/tests/fixtures/dotenv/refusals.json" '
    include "settings"; $cases[0][] | . as $case
    | [.env | read_settings | problems(null; "No such file or directory")[]] | sort_by(.message)
    | select(. != $case.problems) | {env: $case.env, here: ., function: $case.problems}'
  exits 0
  [[ -z $output ]] || fail_with 'some problems differ'
}

@test "a key for hashing cookies is generated once, into the secret" {
  printf '%s\nREDACT_COOKIES=hash\n' "$good" >.env
  run scripts/setup-tfvars.sh
  exits 0
  key=$(grep -oE 'redaction_key = "[0-9a-f]{64}"' terraform/secret.auto.tfvars)
  has_not "$key"
  run scripts/setup-tfvars.sh
  exits 0
  grep -qF "$key" terraform/secret.auto.tfvars
  grep -qF 'redact_cookies = "hash"' terraform/edgetap.auto.tfvars
  ! grep -q redaction_key terraform/edgetap.auto.tfvars || fail_with 'the key is secret'
  printf '%s\nREDACT_COOKIES=hash\nREDACTION_KEY=a-key-of-my-own-making\n' "$good" >.env
  run scripts/setup-tfvars.sh
  grep -qF 'redaction_key = "a-key-of-my-own-making"' terraform/secret.auto.tfvars
  echo "$good" >.env
  run scripts/setup-tfvars.sh
  ! grep -q redaction_key terraform/secret.auto.tfvars || fail_with 'a key is not needed'
}

@test "the secret is in a file that only its owner can read" {
  echo "$good" >.env
  run scripts/setup-tfvars.sh
  exits 0
  has_not canary
  [[ $(stat -c %a terraform/secret.auto.tfvars) == 600 ]]
  grep -q 'client_secret = "canary-5a1c"' terraform/secret.auto.tfvars
  run cat terraform/edgetap.auto.tfvars
  has 'bridge_auth_endpoint = "https://auth.example.com"'
  has 'bridge_edge_endpoint = "edge.example.com"'
  [[ $output =~ secret_version\ =\ 1[0-9]{9} ]] || fail_with 'the version is a time'
  has_not canary
  has_not client_id
  [[ $(ls terraform) == $'edgetap.auto.tfvars\nsecret.auto.tfvars' ]]
}

@test "the secret is on no command line" {
  echo "$good" >.env
  mkdir "$BATS_TEST_TMPDIR/watched"
  for tool in jq sed date mv rm cat; do
    printf '#!/bin/sh\necho "$0 $*" >>%q\nexec %q "$@"\n' "$BATS_TEST_TMPDIR/commands" "$(command -v "$tool")" >"$BATS_TEST_TMPDIR/watched/$tool"
    chmod +x "$BATS_TEST_TMPDIR/watched/$tool"
  done
  PATH=$BATS_TEST_TMPDIR/watched:$PATH scripts/setup-tfvars.sh
  grep -q jq "$BATS_TEST_TMPDIR/commands"
  run grep canary "$BATS_TEST_TMPDIR/commands"
  exits 1
}

@test "a secret may contain any character" {
  secret='a"b\c${x}%{y}$${z}%%{v}`id`$(touch /tmp/x) '"'"'# &;|<>*?!~€🔑'
  printf '%s\nBRIDGE_CLIENT_SECRET="%s"\n' "$(grep -v SECRET <<<"$good")" "$(sed 's/[\\"$`]/\\&/g' <<<"$secret")" >.env
  scripts/setup-tfvars.sh
  run grep -F 'client_secret = "a\"b\\c$${x}%%{y}$$${z}%%%{v}`id`$(touch /tmp/x) '"'"'# &;|<>*?!~€🔑"' terraform/secret.auto.tfvars
  exits 0
}

@test "a file of the reference integration works unchanged" {
  printf 'cequence_client_id=id\ncequence_client_secret=s\ncequence_auth_endpoint=auth.example.com\ncequence_edge_endpoint=edge.example.com\ncequence_log_level=DEBUG\nTF_AUTO_APPROVE=true\n' >.env
  scripts/setup-tfvars.sh
  grep -q '^log_level = "debug"$' terraform/edgetap.auto.tfvars
  grep -q 'client_id     = "id"' terraform/secret.auto.tfvars
}

@test "all problems are reported at once, by name and without values" {
  printf 'BRIDGE_CLIENT_ID=canary\nBRIDGE_EDGE_ENDPOINT=http://canary.example\nBRIDGE_AUTH_ENDPOINT=https://u:canary@h\nLOG_LEVEL=canary\nBATCH_MAX_BYTES=1\nBRIDGE_CONCURRENCY=canary\nBRIDGE_CA_FILE=canary.pem\nBRIDGE_NONSENSE=canary\nREDACT=canary\nREDACT_COOKIES=canary\nREDACTION_KEY=canary\nEXCLUDE_PATHS=canary\nRETRY_FOR=30d\nSTATIC_EXTENSIONS=+a,canary\nBRIDGE_AUTH_METHOD=canary\nBRIDGE_TOKEN_PARAMETERS=canary\nBRIDGE_SECRET_ARN=canary\ncequence_client_id=x\nX="canary\nBRIDGE_CONCURRENT=canary\n' >.env
  run scripts/setup-tfvars.sh
  exits 2
  for what in '`BRIDGE_CLIENT_ID` is set to different values' 'missing setting `BRIDGE_CLIENT_SECRET`' '`BRIDGE_EDGE_ENDPOINT` must use https' \
    '`BRIDGE_AUTH_ENDPOINT` must not contain a user name or password' '`LOG_LEVEL` must be `error`, `warn`' '`BATCH_MAX_BYTES` must be a whole number from 1000' \
    '`BRIDGE_CONCURRENCY` must be a whole number' 'cannot read the file in `BRIDGE_CA_FILE`: No such file' 'unknown setting `BRIDGE_NONSENSE`' \
    '`REDACT` must be `on` or `off`' '`REDACT_COOKIES` must be `keep`, `drop` or `hash`' '`REDACTION_KEY` must have at least 16 bytes' \
    'glob 1 of `EXCLUDE_PATHS` must start with `/`' '`RETRY_FOR` must be a duration from `1m` to `3d`' '`STATIC_EXTENSIONS` mixes' \
    '`BRIDGE_AUTH_METHOD` must be' 'parameter 1 of `BRIDGE_TOKEN_PARAMETERS` must have' '`BRIDGE_SECRET_ARN` cannot be set here' 'line 19 of .env has a double quote that is not closed' \
    'hint: did you mean `BRIDGE_CONCURRENCY`?'; do
    has "$what"
  done
  has_not '=canary'
  has_not 'canary.example'
  [[ -z $(ls terraform) ]]
}

@test "without .env and settings, the hint says how to create it" {
  run scripts/setup-tfvars.sh
  exits 2
  has 'cp .env.example .env'
  run scripts/setup-tfvars.sh --env-file nowhere.env
  exits 2
  has 'nowhere.env does not exist'
  has_not 'missing setting'
}

@test "settings of the environment suffice, and take precedence over .env" {
  export BRIDGE_CLIENT_ID=id BRIDGE_CLIENT_SECRET=canary-1 BRIDGE_AUTH_ENDPOINT=auth.example.com bridge_edge_endpoint=edge.example.com
  run scripts/setup-tfvars.sh
  exits 0
  has_not canary
  grep -q 'client_secret = "canary-1"' terraform/secret.auto.tfvars
  grep -q 'bridge_edge_endpoint = "edge.example.com"' terraform/edgetap.auto.tfvars
  sed -i 's/^secret_version = .*/secret_version = 7/' terraform/edgetap.auto.tfvars
  run scripts/setup-tfvars.sh
  exits 0
  grep -q '^secret_version = 7$' terraform/edgetap.auto.tfvars # the same secret has the same version
  printf '%s\nBRIDGE_CONCURRENCY=9\n' "$good" >.env
  BRIDGE_CLIENT_SECRET=canary-2 run scripts/setup-tfvars.sh
  exits 0
  grep -q 'client_secret = "canary-2"' terraform/secret.auto.tfvars
  grep -q '^bridge_concurrency = 9$' terraform/edgetap.auto.tfvars
  run grep '^secret_version = 7$' terraform/edgetap.auto.tfvars
  exits 1
}

@test "a loopback endpoint is a warning" {
  printf '%s\nBRIDGE_EDGE_ENDPOINT=http://127.0.0.1:8790\n' "$(grep -v EDGE <<<"$good")" >.env
  run scripts/setup-tfvars.sh
  exits 0
  has 'warning: `BRIDGE_EDGE_ENDPOINT` is a loopback address'
}

@test "the next command is init where Terraform was not initialized" {
  rmdir terraform/.terraform
  echo "$good" >.env
  run scripts/setup-tfvars.sh
  has 'Next: terraform -chdir=terraform init && terraform -chdir=terraform apply'
  mkdir terraform/.terraform
  run scripts/setup-tfvars.sh
  has 'Next: terraform -chdir=terraform apply'
}

@test "a variable that TF_VAR_ sets is not written" {
  echo "$good" | grep -v CLIENT >.env
  export TF_VAR_bridge_credentials='{"client_id":"x","client_secret":"y"}' TF_VAR_bridge_edge_endpoint=z TF_VAR_secret_version=7
  echo 'bridge_credentials = { client_id = "old" }' >terraform/secret.auto.tfvars
  run scripts/setup-tfvars.sh
  exits 0
  run cat terraform/edgetap.auto.tfvars terraform/secret.auto.tfvars
  has bridge_auth_endpoint
  has_not bridge_edge_endpoint
  has_not secret_version
  has_not bridge_credentials
}

version() { sed -n 's/^secret_version = //p' terraform/edgetap.auto.tfvars; }

@test "only another secret has another version" {
  echo "$good" >.env
  scripts/setup-tfvars.sh
  first=$(version)
  printf '%s\nLOG_LEVEL=debug\nEXCLUDE_PATHS=/health\n' "$good" >.env
  touch -d @1900000000 .env
  scripts/setup-tfvars.sh
  [[ $(version) == "$first" ]] || fail_with 'the secret is the same'
  sed -i 's/canary-5a1c/canary-6b2d/' .env
  scripts/setup-tfvars.sh
  (($(version) > first)) || fail_with 'the secret is another'
  second=$(version)
  echo "secret_version = 9000000000" >terraform/edgetap.auto.tfvars # a clock that was ahead
  echo "$good" >.env
  scripts/setup-tfvars.sh
  (($(version) == 9000000001)) || fail_with 'a number never comes twice'
  rm terraform/*.tfvars
  scripts/setup-tfvars.sh
  (($(version) >= second)) || fail_with 'without the files, the time'
}

@test "certificates are a part of the secret, and change its version" {
  echo "$good" >.env
  scripts/setup-tfvars.sh
  first=$(version)
  printf '%s\nBRIDGE_CA_FILE=ca.pem\n' "$good" >.env
  certificate >ca.pem
  scripts/setup-tfvars.sh
  grep -qF 'bridge_ca     = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"' terraform/secret.auto.tfvars
  (($(version) > first)) || fail_with 'the version'
  run grep -r CERTIFICATE terraform/edgetap.auto.tfvars
  exits 1
  printf -- '-----BEGIN PRIVATE KEY-----\n' >>ca.pem
  run scripts/setup-tfvars.sh
  exits 2
  has 'contains a private key'
}

@test "nothing is written where git does not ignore the secret" {
  echo "$good" >.env
  git init --quiet .
  run scripts/setup-tfvars.sh
  exits 2
  has 'git does not ignore terraform/secret.auto.tfvars'
  cp "$repository/terraform/.gitignore" terraform/
  run scripts/setup-tfvars.sh
  exits 0
}

@test "a dry run writes nothing and shows no secret" {
  echo "$good" >.env
  run scripts/setup-tfvars.sh --dry-run
  exits 0
  has 'bridge_auth_endpoint = "https://auth.example.com"'
  has_not canary
  [[ -z $(ls terraform) ]]
  printf '%s\nBRIDGE_EDGE_ENDPOINT=edge.example.com/in?code=canary&x="y"\n' "$(grep -v EDGE <<<"$good")" >.env
  run scripts/setup-tfvars.sh --dry-run
  exits 0
  has 'bridge_edge_endpoint = "edge.example.com/in?…"'
  has_not canary
  has_not 'x='
}

@test "an alarm topic that is set nowhere is noted" {
  echo "$good" >.env
  run scripts/setup-tfvars.sh
  has 'note: alarms notify no one: alarm_topic_arn is not set'
  TF_VAR_alarm_topic_arn=x run scripts/setup-tfvars.sh
  has_not 'no one'
  echo '{"alarm_topic_arn": "x"}' >terraform/mine.auto.tfvars.json
  run scripts/setup-tfvars.sh
  has_not 'no one'
  rm terraform/mine.auto.tfvars.json
  echo 'alarm_topic_arn = "x"' >terraform/mine.auto.tfvars
  run scripts/setup-tfvars.sh
  has_not 'no one'
}

@test "--env-file is relative to the current directory" {
  echo "$good" >"$BATS_TEST_TMPDIR/other.env"
  cd "$BATS_TEST_TMPDIR"
  "$clone/scripts/setup-tfvars.sh" --env-file other.env
  grep -q canary "$clone/terraform/secret.auto.tfvars"
}

@test "the architecture of the build is passed to Terraform" {
  echo "$good" >.env
  mkdir -p target/lambda
  echo arm64 >target/lambda/architecture
  scripts/setup-tfvars.sh
  grep -q '^architecture = "arm64"$' terraform/edgetap.auto.tfvars
}
