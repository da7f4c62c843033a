# shellcheck shell=bash
# What the scripts share; sourced by them, never run. In reading order: what a script says and asks, what it needs before it
# starts, how it calls AWS, and what stands in the account.
#
# shellcheck disable=SC2034 # what is set here is used by the scripts

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "edgetap's scripts need bash 4.4 or newer, and this is $BASH_VERSION (macOS: brew install bash)" >&2
  exit 2
fi
shopt -s inherit_errexit
readonly CALLER_FOLDER=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# CloudFront and its log deliveries have their API in us-east-1, whatever the module's region is.
readonly GLOBAL=us-east-1
# The releases of October 2024: the first round ones that know UpdateDeliveryConfiguration.
readonly AWS_1=1.35.0 AWS_2=2.18.0
# Write-only arguments and ephemeral variables.
readonly TERRAFORM=1.11.0
# How often a delivery call that meets another one is made, and how many seconds pass at most in between.
readonly CONFLICT_ATTEMPTS=8 CONFLICT_WAIT_MAX=${EDGETAP_CONFLICT_WAIT_MAX:-20}

export AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off # answers are read by programs
export AWS_RETRY_MODE="${AWS_RETRY_MODE:-standard}" AWS_MAX_ATTEMPTS="${AWS_MAX_ATTEMPTS:-6}"

yes=0 dry_run=0
problems=()
scratch=$(mktemp -d) # of mode 0700: what AWS answers may hold an origin's secrets
cleanup() { :; }     # a script may have more to tidy up
trap 'cleanup; rm -rf "$scratch"' EXIT
exec 3>&1 # where calls are shown: the output of a function that makes one is often captured

# --- What a script says and asks ---

# The comment at the top of the script is its help.
print_help() {
  sed -n '2,$ { /^#/!q; s/^# \{0,1\}//p; }' "$0"
  exit 0
}

usage_error() {
  printf '%s: %s\n%s --help tells how it is used.\n' "${0##*/}" "$*" "${0##*/}" >&2
  exit 2
}

say() { printf '%s\n' "$*"; }
# What was done; a dry run does nothing.
did() { ((dry_run)) || say "$@"; }
note() { printf 'note: %s\n' "$*" >&2; }
error() { printf 'error: %s\n' "$*" >&2; }

die() {
  error "$*"
  exit 1
}

# Lines of tab-separated cells, as a table.
table() {
  awk -F '\t' '
    { for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } cells[NR] = NF }
    END {
      for (row = 1; row <= NR; row++) {
        line = ""
        for (i = 1; i < cells[row]; i++) line = line sprintf("%-" (width[i] + 2) "s", cell[row, i])
        print line cell[row, i]
      }
    }'
}

# Asks before something that somebody may miss.
confirm() {
  if ((yes || dry_run)) || auto_approved; then return; fi
  ask "$1 [y/N]"
  [[ ${answer,,} == y || ${answer,,} == yes ]] || declined
}

# Asks before something that cannot be undone. TF_AUTO_APPROVE does not answer this.
confirm_by_name() {
  if ((yes || dry_run)); then return; fi
  ask "Type its name, $1, to go on:"
  [[ $answer == "$1" ]] || declined
}

ask() {
  printf '%s ' "$1" >&2
  if ! read -r answer; then
    printf '\n' >&2
    error 'nobody answers: --yes answers for you'
    exit 2
  fi
}

declined() {
  say 'Nothing was changed.'
  exit 1
}

auto_approved() {
  local approve=${TF_AUTO_APPROVE:-}
  [[ -n $approve ]] || approve=$(setting TF_AUTO_APPROVE)
  [[ ${approve,,} == true ]]
}

# A setting, from the environment or else from `.env`; empty if it is not set. setup-tfvars.sh reports problems with them.
setting() {
  local file=.env
  [[ -f $file ]] || file=/dev/null
  jq -rRs -L scripts --arg name "$1" 'include "settings"; read_settings.settings[$name] // ""' "$file"
}

# jq … | is_true. The AWS CLI says nothing where there is nothing, and `jq -e` would take that for true.
is_true() { [[ $(cat) == true ]]; }

# --- What a script needs before it starts ---

problem() { problems+=("$*"); }

# Refuses once, with everything that is missing.
refuse_on_problems() {
  ((${#problems[@]})) || return 0
  {
    printf '%s cannot start:\n' "${0##*/}"
    printf -- '- %s\n' "${problems[@]}"
  } >&2
  exit 2
}

declare -A install_hint=(
  [aws]=': https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html'
  [jq]=': https://jqlang.org/download'
  [terraform]=': https://developer.hashicorp.com/terraform/install'
)

need_tools() {
  local tool
  for tool; do
    if ! command -v "$tool" >/dev/null; then
      problem "$tool is not installed${install_hint[$tool]:-}"
    elif [[ $tool == aws || $tool == jq || $tool == terraform ]]; then
      "need_$tool"
    fi
  done
}

need_aws() {
  local version wanted=$AWS_1
  version=$(aws --version 2>&1) || true
  version=${version#aws-cli/}
  version=${version%% *}
  [[ $version == 1.* ]] || wanted=$AWS_2
  is_at_least "$version" "$wanted" || problem "aws is version $version: $AWS_1 (of version 1) or $AWS_2 (of version 2) or newer is needed"
}

need_jq() {
  local version
  version=$(jq --version) || true
  is_at_least "${version#jq-}" 1.6 || problem "jq is version ${version#jq-}: 1.6 or newer is needed"
}

need_terraform() {
  local version
  version=$(terraform version 2>/dev/null) || true
  version=${version%%$'\n'*}
  is_at_least "${version#Terraform v}" "$TERRAFORM" || problem "terraform is version ${version#Terraform v}: $TERRAFORM or newer is needed"
}

is_at_least() {
  local have wanted i
  IFS=. read -ra have <<<"${1//[!0-9.]/}"
  IFS=. read -ra wanted <<<"$2"
  for i in "${!wanted[@]}"; do
    ((10#${have[i]:-0} == 10#${wanted[i]})) || return $((10#${have[i]:-0} < 10#${wanted[i]}))
  done
}

# The module's outputs, as variables of the same names (or those given), and who the caller is. A tool that is missing comes first.
need_module() {
  ((${#problems[@]} == 0)) || return 0
  outputs=${1:-}
  if [[ -z $outputs ]] && ! outputs=$(terraform -chdir=terraform output -json 2>"$scratch/error"); then
    problem "terraform output fails: $(why)"
  elif ! jq 'has("name")' <<<"$outputs" | is_true; then
    problem 'Terraform has made nothing yet, or keeps its state elsewhere: terraform -chdir=terraform init, and apply'
  else
    read_outputs "$outputs"
  fi
  need_identity "${aws_region:-$GLOBAL}"
  if [[ -n ${caller_account:-} && -n ${account_id:-} && $caller_account != "$account_id" ]]; then
    problem "these credentials are of account $caller_account, and the module is in $account_id: check AWS_PROFILE"
  fi
}

need_identity() {
  local caller
  if caller=$(aws_in "$1" sts get-caller-identity); then
    caller_account=$(jq -r .Account <<<"$caller")
  else
    problem "AWS does not know you (aws configure, aws sso login, AWS_PROFILE): $(why)"
  fi
}

read_outputs() {
  local separator=$'\x1f' # not white space, of which `read` makes one of several
  IFS=$separator read -r name aws_region account_id log_bucket log_bucket_arn log_prefix function_name log_group_name work_queue_url \
    work_queue_arn dead_letter_queue_url dead_letter_queue_arn secret_arn existing_log_sources < <(
      jq -r --arg separator "$separator" '[ .name, .aws_region, .account_id, .log_bucket, .log_bucket_arn, .log_prefix, .function_name,
        .log_group_name, .work_queue_url, .work_queue_arn, .dead_letter_queue_url, .dead_letter_queue_arn, .secret_arn,
        .existing_log_sources | .value // "" | if type == "string" then . else tojson end ] | join($separator)' <<<"$1"
    )
}

# --- How it calls AWS ---

# look REGION SERVICE OPERATION …: a call that changes nothing. It is made in a dry run too: what would be done depends on it.
look() {
  show 'looks at ' "$@"
  aws_in "$@"
}

# As `look`, where nothing else makes sense without the answer.
must_look() {
  look "$@" || die "aws $2 $3: $(why)"
}

# change REGION SERVICE OPERATION …: a call that changes something; a dry run only shows it. CloudWatch Logs makes one change of
# a delivery at a time, and tells others to come again.
change() {
  show 'would run' "$@"
  ((dry_run)) && return
  local attempt wait=1
  for ((attempt = 1; attempt <= CONFLICT_ATTEMPTS; attempt++)); do
    aws_in "$@" && return
    failed_with 'ConflictException.*being updated' || return 1
    sleep "$((wait < CONFLICT_WAIT_MAX ? wait : CONFLICT_WAIT_MAX))"
    wait=$((wait * 2))
  done
  return 1
}

aws_in() {
  local region=$1 endpoint=()
  shift
  if [[ $1 == sqs && -n ${AWS_ENDPOINT_URL_SQS:-${AWS_ENDPOINT_URL:-}} ]]; then
    endpoint=(--endpoint-url "${AWS_ENDPOINT_URL_SQS:-$AWS_ENDPOINT_URL}") # version 1 passes over these for SQS
  fi
  aws "$@" --region "$region" --output json "${endpoint[@]}" 2>"$scratch/error"
}

# In a dry run, the call as a shell would take it.
show() {
  ((dry_run)) || return 0
  local what=$1 region=$2
  shift 2
  show_command "$what" aws "$@" --region "$region"
}

show_command() {
  local what=$1 words=() word
  shift
  for word; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@+-]+$ ]] || word=${word@Q}
    words+=("$word")
  done
  printf '%s: %s\n' "$what" "${words[*]}" >&3
}

# Why the last call failed, in one line.
why() {
  local text='s/^An error occurred \(([^)]*)\) when calling the ([A-Za-z0-9]+) operation( \([^)]*\))?: (.*)/\1 from \2: \4/'
  sed -n -E "/[^[:space:]]/ { $text; p; q; }" "$scratch/error"
}

failed_with() { grep -q -E -- "$1" "$scratch/error"; }

# --- What stands in the account ---

# The tag on all that edgetap made; its value is the module's name.
readonly TAG=edgetap
# On a delivery: what cookie logging was before edgetap changed it. Kept there so that any machine can restore it.
readonly COOKIES_TAG=edgetap-cookies-before
# On a distribution, for whoever looks at it.
readonly COURTESY_TAG=edgetap-enabled

# Reads the delivery sources, destinations and deliveries into $model (deliveries.jq says what is in it). An answer may leave
# tags out: of what could be edgetap's they are then asked for.
read_deliveries() {
  local arn
  describe delivery-sources deliverySources || return
  describe delivery-destinations deliveryDestinations || return
  describe deliveries deliveries || return
  : >"$scratch/tags"
  for arn in $(modelled untagged); do
    look "$GLOBAL" logs list-tags-for-resource --resource-arn "$arn" >"$scratch/answer" || return
    jq --arg arn "$arn" '{($arn): (.tags // {})}' "$scratch/answer" >>"$scratch/tags"
  done
  model=$(modelled model)
}

describe() {
  look "$GLOBAL" logs "describe-$1" >"$scratch/answer" || return
  jq --arg kind "$2" '.[$kind] // []' "$scratch/answer" >"$scratch/$1"
}

modelled() {
  jq -n -r -c -L scripts --arg name "$name" --slurpfile sources "$scratch/delivery-sources" \
    --slurpfile destinations "$scratch/delivery-destinations" --slurpfile deliveries "$scratch/deliveries" --slurpfile tags "$scratch/tags" \
    'include "deliveries"; {sources: $sources[0], destinations: $destinations[0], deliveries: $deliveries[0], tags: ($tags | add)}
      | '"$1"'($name)'
}

must_read_deliveries() {
  read_deliveries || die "reading the deliveries: $(why)"
}

# The part of the model about one distribution; empty where it has no delivery source.
tap_of() { jq -c --arg id "$1" '.taps[] | select(.distribution == $id)' <<<"$model"; }

# set_cookie_logging ID true|false: the whole configuration goes back with the ETag it came with, one value changed. Another
# change in between makes the ETag old: then it is read anew.
set_cookie_logging() {
  local id=$1 value=$2 config=$scratch/distribution changed=$scratch/changed attempt
  for attempt in 1 2 3; do
    look "$GLOBAL" cloudfront get-distribution-config --id "$id" >"$config" || return
    jq --argjson value "$value" '.DistributionConfig | .Logging.IncludeCookies = $value' "$config" >"$changed"
    differs_in_cookies_only "$config" "$changed" || return
    ((dry_run)) && printf '# the configuration as it was read, with Logging.IncludeCookies %s:\n' "$value" >&3
    change "$GLOBAL" cloudfront update-distribution --id "$id" --if-match "$(jq -r .ETag "$config")" \
      --distribution-config "file://$changed" >/dev/null && return
    failed_with 'PreconditionFailed|InvalidIfMatchVersion' || return
  done
  return 1
}

differs_in_cookies_only() {
  jq --slurpfile changed "$2" '.DistributionConfig as $was | $was.Logging.Enabled != null
    and ($changed[0] | .Logging.IncludeCookies = $was.Logging.IncludeCookies) == $was' "$1" | is_true && return
  echo 'the configuration that would be sent differs in more than Logging.IncludeCookies' >"$scratch/error"
  return 1
}
