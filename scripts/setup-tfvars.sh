#!/usr/bin/env bash
# Writes Terraform's variables from the settings in .env and in the environment.
#
# Usage: scripts/setup-tfvars.sh [--env-file FILE] [--dry-run]
#
#   --env-file FILE   read FILE instead of .env at the top of the repository
#   --dry-run         print the non-secret variables without writing any file
#
# Environment variables take precedence over .env, which may be missing. The file may be edgetap's or
# the reference integration's. It is parsed and never sourced.
#
# terraform/edgetap.auto.tfvars receives the variables that are not secret, and
# terraform/secret.auto.tfvars (mode 0600) the credentials, as an ephemeral variable:
# Terraform passes them to Secrets Manager and stores them nowhere. After a change of the settings run
# this script again, then `terraform -chdir=terraform apply`. A variable that the environment sets
# (TF_VAR_name) is not written, so that the environment takes precedence.
#
# Exit status: 0 if the files were written, 2 if they were not; all problems are listed at once.

# shellcheck disable=SC2016 # jq's variables look like the shell's
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

env_file=.env
readonly PUBLIC=terraform/edgetap.auto.tfvars SECRET=terraform/secret.auto.tfvars

main() {
  read_arguments "$@"
  need_tools jq
  refuse_on_problems
  find_files
  check
  refuse_on_problems
  show_warnings
  secret_variables >"$scratch/secret"
  if ((dry_run)); then
    public_variables | without_queries
    if is_overridden bridge_credentials; then
      say "$SECRET would contain no variables: the environment sets TF_VAR_bridge_credentials."
    else
      say "$SECRET would contain bridge_credentials, which are not shown."
    fi
    return
  fi
  public_variables >"$scratch/public"
  umask 077
  write "$SECRET" "$scratch/secret"
  umask 022
  write "$PUBLIC" "$scratch/public"
  local first=''
  is_initialized || first="$TERRAFORM -chdir=terraform init && "
  say "Wrote $PUBLIC and $SECRET. Next: ${first}$TERRAFORM -chdir=terraform apply"
  if is_overridden bridge_credentials && ! is_overridden secret_version; then
    note 'TF_VAR_bridge_credentials sets the credentials: set TF_VAR_secret_version to another number whenever they change'
  fi
  has_alarm_topic || note 'alarms notify no one: alarm_topic_arn is not set (docs/operations.md, Alarms)'
}

read_arguments() {
  while (($#)); do
    case $1 in
      --env-file)
        [[ -n ${2:-} ]] || usage_error '--env-file requires a file name'
        env_file=$2
        [[ $env_file == /* ]] || env_file=$CALLER_DIRECTORY/$env_file
        shift
        ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) usage_error "unknown option: $1" ;;
    esac
    shift
  done
}

# Sets env_text (the file to read, empty without .env), ca_file, and ca_reason (why the file in
# BRIDGE_CA_FILE cannot be read).
find_files() {
  env_text=$env_file ca_file='' ca_reason=''
  if [[ ! -e $env_file ]]; then
    [[ $env_file == .env ]] || problem "$env_file does not exist"
    env_text=/dev/null
  elif [[ ! -f $env_file || ! -r $env_file ]]; then
    problem "$env_file is not a readable file"
    env_text=/dev/null
  fi
  local named
  named=$(settings '.settings.BRIDGE_CA_FILE // ""')
  [[ -n $named ]] || return 0
  if ca_reason=$(LC_ALL=C cat -- "$named" 2>&1 >/dev/null); then ca_file=$named; else ca_reason=${ca_reason##*: }; fi
}

# Lists every problem by the name of the setting, never with its value.
check() {
  if ((${#problems[@]})); then return; fi
  local found message hint
  found=$(settings --arg reason "$ca_reason" 'problems($ca; $reason)[] | "\(.message)\t\(.hint // "")"')
  while IFS=$'\t' read -r message hint; do
    [[ -z $message ]] || problem "$message"
    [[ -z $hint ]] || problem_hint "$hint"
  done <<<"$found"
  if ((${#problems[@]})) && [[ ! -e $env_file ]]; then
    problem 'the file .env does not exist'
    problem_hint 'cp .env.example .env, and fill it in'
  fi
  if git check-ignore --quiet "$SECRET" 2>/dev/null; then return; fi
  if git rev-parse --git-dir >/dev/null 2>&1; then
    problem "git does not ignore $SECRET"
    problem_hint 'add it to .gitignore first'
  fi
}

# Adds what to do to the last problem.
problem_hint() { problems[-1]+=$'\n  hint: '$1; }

show_warnings() {
  settings 'warnings | "warning: \(.message)\n  hint: \(.hint)"' >&2
}

# settings [OPTION …] FILTER: runs scripts/settings.jq. Values go from file to file, and never appear
# on a command line.
settings() {
  local ca=(--argjson ca null)
  [[ -z $ca_file ]] || ca=(--rawfile ca "$ca_file")
  jq -rRs -L scripts "${ca[@]}" --arg file "${env_file#"$PWD"/}" "${@:1:$#-1}" \
    'include "settings"; read_settings($file) | '"${!#}" "$env_text"
}

# Terraform stores no secret, so it cannot see that one changed. It compares this number instead: the
# time when this script last wrote other credentials. The same ones keep their number, so that an
# edit of another setting does not write the secret again.
secret_version() {
  local last=0
  [[ ! -f $PUBLIC ]] || last=$(sed -n 's/^secret_version = \([0-9]\{1,18\}\)$/\1/p' "$PUBLIC")
  if ((${last:-0})) && cmp --quiet "$scratch/secret" "$SECRET"; then
    echo "$last"
  else
    jq -n --argjson last "${last:-0}" '[now | floor, $last + 1] | max'
  fi
}

has_alarm_topic() {
  is_overridden alarm_topic_arn || grep -q -s -E '(^|[{,])[[:space:]]*"?alarm_topic_arn"?[[:space:]]*[=:]' terraform/{terraform.tfvars,*.auto.tfvars}{,.json}
}

# The architecture that build-lambda.sh built for, if any.
architecture() { cat target/lambda/architecture 2>/dev/null || true; }

# A query of an endpoint may hold a key.
without_queries() { sed -E 's/^(bridge_(auth|edge)_endpoint = "[^?]*\?).*"$/\1…"/'; }

is_overridden() { printenv "TF_VAR_$1" >/dev/null; }

public_variables() {
  echo '# Written by scripts/setup-tfvars.sh: change .env or the environment instead, and run it again.'
  settings --argjson secret_version "$(secret_version)" --arg architecture "$(architecture)" \
    'public_variables($secret_version; $architecture)'
}

secret_variables() {
  echo '# Written by scripts/setup-tfvars.sh. Secret: keep it out of version control.'
  is_overridden bridge_credentials && return
  redaction_key >"$scratch/key"
  settings --rawfile key "$scratch/key" 'secret_variables($ca; $key)'
}

# The key that hashes cookies. It is generated once and kept, so that a cookie keeps its hash.
redaction_key() {
  local kept=''
  [[ ! -f $SECRET ]] || kept=$(sed -n 's/^ *redaction_key = "\([0-9a-f]*\)"$/\1/p' "$SECRET")
  if [[ -n $kept ]]; then printf '%s' "$kept"; else od -A n -N 32 -t x1 /dev/urandom | tr -d ' \n'; fi
}

# write FILE FROM: whole or not at all. Terraform does not read the temporary name, and git ignores it.
write() {
  local new=${1%.auto.tfvars}.new.tfvars
  rm -f "$new"
  cat "$2" >"$new"
  mv "$new" "$1"
}

main "$@"
