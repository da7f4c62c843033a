#!/usr/bin/env bash
# Writes Terraform's variables from .env (ours, or the reference integration's), which is parsed and never sourced.
#
# Usage: scripts/setup-tfvars.sh [--env-file FILE] [--dry-run]
#
#   --env-file FILE   instead of .env beside the scripts' folder
#   --dry-run         write nothing; show what is no secret of what would be written
#
# terraform/edgetap.auto.tfvars holds what is no secret, terraform/secret.auto.tfvars (mode 0600) the credentials, as an ephemeral
# variable: Terraform hands them to Secrets Manager and keeps them nowhere. Run it again after each change of .env, then
# `terraform -chdir=terraform apply`. A variable that the environment sets (TF_VAR_name) is not written, so that it holds.
#
# Exit status: 0 written, 2 something is wrong with the settings; all of it is told at once.

# shellcheck disable=SC2016 # what looks like variables of the shell are jq's
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

env_file=.env
readonly PUBLIC=terraform/edgetap.auto.tfvars SECRET=terraform/secret.auto.tfvars

main() {
  read_arguments "$@"
  need_tools jq
  refuse_on_problems
  check
  refuse_on_problems
  if ((dry_run)); then
    public_variables
    say "and $SECRET: $(is_overridden bridge_credentials && echo nothing, || echo bridge_credentials,) not shown"
    return
  fi
  umask 077
  write "$SECRET" secret_variables
  umask 022
  write "$PUBLIC" public_variables
  say "Written: $PUBLIC and $SECRET. Next: terraform -chdir=terraform apply"
}

read_arguments() {
  while (($#)); do
    case $1 in
      --env-file)
        [[ -n ${2:-} ]] || usage_error '--env-file wants a file'
        env_file=$2
        [[ $env_file == /* ]] || env_file=$CALLER_FOLDER/$env_file
        shift
        ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) usage_error "what is $1?" ;;
    esac
    shift
  done
}

# Everything that is wrong, by the setting's name and never with its value.
check() {
  if [[ ! -f $env_file ]]; then
    [[ $env_file != .env ]] || problem 'there is no .env: cp .env.example .env, and fill it in'
    [[ $env_file == .env ]] || problem "there is no file $env_file"
    return
  fi
  ca_file=$(settings '.settings.BRIDGE_CA_FILE // ""')
  [[ -r $ca_file && -f $ca_file ]] || ca_file=''
  local found what
  found=$(settings 'problems($ca) | .[]')
  while IFS= read -r what; do
    [[ -z $what ]] || problem "$what"
  done <<<"$found"
  if git check-ignore --quiet "$SECRET" 2>/dev/null; then return; fi
  if git rev-parse --git-dir >/dev/null 2>&1; then problem "git does not ignore $SECRET: add it to .gitignore first"; fi
}

# settings [OPTION …] FILTER: asks scripts/settings.jq. Values go from file to file; none is ever on a command line.
settings() {
  local ca=(--argjson ca null)
  [[ -z ${ca_file:-} ]] || ca=(--rawfile ca "$ca_file")
  jq -rRs -L scripts "${ca[@]}" --argjson secret_version "$(secret_version)" --arg architecture "$(architecture)" \
    "${@:1:$#-1}" 'include "settings"; read_settings | '"${!#}" "$env_file"
}

# Terraform cannot see that a secret changed, since it keeps none: the time of the last change stands for it.
secret_version() {
  local newest=0 file time
  for file in "$env_file" "${ca_file:-}"; do
    [[ -f $file ]] || continue
    time=$(date -r "$file" +%s)
    ((time <= newest)) || newest=$time
  done
  echo "$newest"
}

# What build-lambda.sh built for.
architecture() { cat target/lambda/architecture 2>/dev/null || true; }

is_overridden() { printenv "TF_VAR_$1" >/dev/null; }

public_variables() {
  echo '# Written by scripts/setup-tfvars.sh from .env: change that, and run it again.'
  settings 'public_variables($secret_version; $architecture)'
}

secret_variables() {
  echo '# Written by scripts/setup-tfvars.sh from .env. Secret: not for version control.'
  is_overridden bridge_credentials && return
  redaction_key >"$scratch/key"
  settings --rawfile key "$scratch/key" 'secret_variables($ca; $key)'
}

# What hashes cookies: made once, and kept, so that a session keeps its hash.
redaction_key() {
  local kept=''
  [[ ! -f $SECRET ]] || kept=$(sed -n 's/^ *redaction_key = "\([0-9a-f]*\)"$/\1/p' "$SECRET")
  if [[ -n $kept ]]; then printf '%s' "$kept"; else od -A n -N 32 -t x1 /dev/urandom | tr -d ' \n'; fi
}

# Whole or not at all. The temporary name is one that Terraform does not read and git ignores.
write() {
  local new=${1%.auto.tfvars}.new.tfvars
  rm -f "$new"
  "$2" >"$new"
  mv "$new" "$1"
}

main "$@"
