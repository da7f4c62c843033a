#!/usr/bin/env bats
# From .env to Terraform's variables.

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

@test "each case of the table is read as the function reads it" {
  run jq -r -n -L scripts --slurpfile cases "$repository/tests/fixtures/dotenv/cases.json" '
    include "dotenv"; $cases[0][] | . as $case | (.line | dotenv) as $read
    | if $case.error then select($read.problems | length != 1 or (.[0] | contains($case.error) | not))
      else select($read != {variables: {NAME: $case.value}, problems: []}) end
    | "\($case) is read as \($read)"'
  exits 0
  [[ -z $output ]] || fail_with 'some case differs'
}

@test "every setting of .env.example is known, and nothing else that looks like one" {
  sed 's/^#\([A-Z_]*=\)/\1/' "$repository/.env.example" | grep -o '^[A-Z_]*=' | tr -d = | sort >"$BATS_TEST_TMPDIR/documented"
  jq -r -n -L scripts 'include "settings"; settings[].name' | sort >"$BATS_TEST_TMPDIR/known"
  diff "$BATS_TEST_TMPDIR/documented" "$BATS_TEST_TMPDIR/known"
}

@test "names and spellings are those of the configuration in Rust" {
  grep -oE '^ +(setting\()?"[A-Z_]+",$|setting\("[A-Z_]+"' "$repository/src/config.rs" | grep -oE '[A-Z_]{3,}' | sort -u >"$BATS_TEST_TMPDIR/rust"
  jq -r -n -L scripts 'include "settings"; settings[].name' | sort >"$BATS_TEST_TMPDIR/ours"
  diff "$BATS_TEST_TMPDIR/rust" "$BATS_TEST_TMPDIR/ours"
  grep -oE 'Some\("CEQUENCE_[A-Z_]+"' "$repository/src/config.rs" | grep -oE 'CEQUENCE_[A-Z_]+' | sort >"$BATS_TEST_TMPDIR/rust"
  jq -r -n -L scripts 'include "settings"; settings[].vendor // empty' | sort >"$BATS_TEST_TMPDIR/ours"
  diff "$BATS_TEST_TMPDIR/rust" "$BATS_TEST_TMPDIR/ours"
}

@test "a key for hashing cookies is made once, and goes with the secret" {
  printf '%s\nREDACT_COOKIES=hash\n' "$good" >.env
  run scripts/setup-tfvars.sh
  exits 0
  key=$(grep -oE 'redaction_key = "[0-9a-f]{64}"' terraform/secret.auto.tfvars)
  has_not "$key"
  run scripts/setup-tfvars.sh
  exits 0
  grep -qF "$key" terraform/secret.auto.tfvars
  grep -qF 'redact_cookies = "hash"' terraform/edgetap.auto.tfvars
  ! grep -q redaction_key terraform/edgetap.auto.tfvars || fail_with 'the key is no public setting'
  printf '%s\nREDACT_COOKIES=hash\nREDACTION_KEY=a-key-of-my-own-making\n' "$good" >.env
  run scripts/setup-tfvars.sh
  grep -qF 'redaction_key = "a-key-of-my-own-making"' terraform/secret.auto.tfvars
  echo "$good" >.env
  run scripts/setup-tfvars.sh
  ! grep -q redaction_key terraform/secret.auto.tfvars || fail_with 'no key is needed'
}

@test "the secret goes to a file of its own, which only its owner can read" {
  echo "$good" >.env
  run scripts/setup-tfvars.sh
  exits 0
  has_not canary
  [[ $(stat -c %a terraform/secret.auto.tfvars) == 600 ]]
  grep -q 'client_secret = "canary-5a1c"' terraform/secret.auto.tfvars
  run cat terraform/edgetap.auto.tfvars
  has 'bridge_auth_endpoint = "https://auth.example.com"'
  has 'bridge_edge_endpoint = "edge.example.com"'
  has "secret_version = $(stat -c %Y .env)"
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

@test "a secret may hold any character" {
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

@test "every problem is told at once, by name and without its value" {
  printf 'BRIDGE_CLIENT_ID=canary\nBRIDGE_EDGE_ENDPOINT=http://canary.example\nBRIDGE_AUTH_ENDPOINT=https://u:canary@h\nLOG_LEVEL=canary\nBATCH_MAX_BYTES=1\nBRIDGE_CONCURRENCY=canary\nBRIDGE_CA_FILE=canary.pem\nBRIDGE_NONSENSE=canary\nREDACT=canary\nREDACT_COOKIES=canary\nREDACTION_KEY=canary\nEXCLUDE_PATHS=canary\nRETRY_FOR=30d\nSTATIC_EXTENSIONS=+a,canary\nBRIDGE_AUTH_METHOD=canary\nBRIDGE_SECRET_ARN=canary\ncequence_client_id=x\nX="canary\n' >.env
  run scripts/setup-tfvars.sh
  exits 2
  for what in 'BRIDGE_CLIENT_ID is set twice' 'BRIDGE_CLIENT_SECRET is not set' 'BRIDGE_EDGE_ENDPOINT is not https' \
    'BRIDGE_AUTH_ENDPOINT holds credentials' 'LOG_LEVEL is none of' 'BATCH_MAX_BYTES is not a number from 1000' \
    'BRIDGE_CONCURRENCY is not a number' 'BRIDGE_CA_FILE names a file that cannot be read' 'BRIDGE_NONSENSE is no setting' \
    'REDACT is neither on nor off' 'REDACT_COOKIES is none of keep, drop, hash' 'REDACTION_KEY is shorter' 'EXCLUDE_PATHS has a glob' 'RETRY_FOR is not a time' 'STATIC_EXTENSIONS mixes' 'BRIDGE_AUTH_METHOD is neither' \
    'BRIDGE_SECRET_ARN is for a function' 'line 18 has a double quote that is not closed'; do
    has "$what"
  done
  has_not '=canary'
  has_not 'canary.example'
  [[ -z $(ls terraform) ]]
}

@test "without .env it says what to do" {
  run scripts/setup-tfvars.sh
  exits 2
  has 'cp .env.example .env'
}

@test "what the environment sets is not written, so that it holds" {
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

@test "certificates for the bridge travel with the credentials, and renew the secret" {
  printf '%s\nBRIDGE_CA_FILE=ca.pem\n' "$good" >.env
  certificate >ca.pem
  touch -d @1700000000 .env
  touch -d @1800000000 ca.pem
  scripts/setup-tfvars.sh
  grep -qF 'bridge_ca     = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"' terraform/secret.auto.tfvars
  grep -q '^secret_version = 1800000000$' terraform/edgetap.auto.tfvars
  run grep -r CERTIFICATE terraform/edgetap.auto.tfvars
  exits 1
  printf -- '-----BEGIN PRIVATE KEY-----\n' >>ca.pem
  run scripts/setup-tfvars.sh
  exits 2
  has 'holds a private key'
}

@test "a secret that git would take is refused" {
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
}

@test "another file than .env, from another folder" {
  echo "$good" >"$BATS_TEST_TMPDIR/other.env"
  cd "$BATS_TEST_TMPDIR"
  "$clone/scripts/setup-tfvars.sh" --env-file other.env
  grep -q canary "$clone/terraform/secret.auto.tfvars"
}

@test "what was built for is told to Terraform" {
  echo "$good" >.env
  mkdir -p target/lambda
  echo arm64 >target/lambda/architecture
  scripts/setup-tfvars.sh
  grep -q '^architecture = "arm64"$' terraform/edgetap.auto.tfvars
}
