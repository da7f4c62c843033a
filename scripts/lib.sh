# shellcheck shell=bash
# Functions that the scripts share: messages and questions, checks before a script starts, AWS
# calls, and the account's log deliveries. Sourced by the scripts, never run.
#
# Globals:
#   yes, dry_run    1 if --yes or --dry-run was given, else 0
#   problems        messages that `problem` collected; refuse_on_problems prints them and exits
#   scratch         temporary directory, deleted at exit; $scratch/error is the stderr of the last
#                   AWS or Terraform call, $scratch/response usually the last AWS response
#   answer          the line that `ask` read
#   outputs         Terraform's outputs as JSON, set by need_module. read_outputs also sets one
#                   variable per output: name, aws_region, account_id, log_bucket …
#   caller_account  account of the AWS credentials, set by need_identity
#   destination_arn ARN of the delivery destination, given with --destination-arn or set by
#                   need_installation
#   central         1 if --destination-arn was given: the installation is in another account, whose
#                   Terraform state, bucket and queues are out of reach
#   model           the account's delivery sources, destinations and deliveries, set by
#                   read_deliveries; deliveries.jq describes the JSON
#
# shellcheck disable=SC2034 # the scripts use these variables

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  printf 'error: bash %s is too old: 4.4 or newer is required\n  hint: on macOS, run brew install bash\n' "$BASH_VERSION" >&2
  exit 2
fi
shopt -s inherit_errexit
readonly CALLER_DIRECTORY=$PWD
unset CDPATH # it would lead `cd` to another clone
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# The region of the APIs of CloudFront and of log deliveries, whatever the module's region is.
readonly GLOBAL=us-east-1
# Oldest AWS CLI of version 1 and of version 2 (October 2024): UpdateDeliveryConfiguration.
readonly AWS_1=1.35.0 AWS_2=2.18.0
# The Terraform program, and the oldest version of Terraform and OpenTofu: write-only arguments and
# ephemeral variables.
readonly TERRAFORM=${EDGETAP_TERRAFORM:-terraform} TERRAFORM_VERSION=1.11.0
# Attempts of a delivery call that conflicts with another one, and the longest pause between two, in
# seconds.
readonly CONFLICT_ATTEMPTS=8 CONFLICT_WAIT_MAX=${EDGETAP_CONFLICT_WAIT_MAX:-20}

export AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off # programs read the output
export AWS_RETRY_MODE="${AWS_RETRY_MODE:-standard}" AWS_MAX_ATTEMPTS="${AWS_MAX_ATTEMPTS:-6}"

yes=0 dry_run=0 central=0
problems=()
scratch=$(mktemp -d) # mode 0700: a distribution's configuration may contain an origin's secrets
cleanup() { :; }     # a script may redefine this
trap 'cleanup; rm -rf "$scratch"' EXIT
# Programs answer Ctrl-C with an exit status of their own, after which bash would go on.
trap 'error interrupted; exit 130' INT
trap 'error interrupted; exit 143' TERM
trap 'error interrupted; exit 129' HUP
exec 3>&1 # `show` prints to 3, because callers often capture the stdout of AWS calls

# --- Messages and questions ---

# Prints the comment at the top of the script.
print_help() {
  sed -n '2,$ { /^#/!q; s/^# \{0,1\}//p; }' "$0"
  exit 0
}

usage_error() {
  error "$*"
  hint "run scripts/${0##*/} --help for usage"
  exit 2
}

# unknown_argument WORD: an ID without its option says which one it needs.
unknown_argument() {
  [[ $1 != -* ]] || usage_error "unknown option: $1"
  error "unexpected argument: $1"
  if [[ $1 =~ ^E[A-Z0-9]+$ ]]; then
    hint "pass --distribution $1"
  else
    hint "run scripts/${0##*/} --help for usage"
  fi
  exit 2
}

# Prints text without control characters but tab and newline: logs, tags and names can hold the escape
# sequences of a terminal.
plain() (
  LC_ALL=C text=$*
  text=${text//[$'\001'-$'\010'$'\013'-$'\037'$'\177']/}
  printf '%s\n' "${text//$'\302'[$'\200'-$'\237']/}" # U+0080 to U+009F
)

say() { plain "$*"; }
# Reports a change that was made; prints nothing in a dry run.
did() { ((dry_run)) || say "$@"; }
note() { plain "note: $*" >&2; }
warn() { plain "warning: $*" >&2; }
error() { plain "error: $*" >&2; }
hint() { plain "  hint: $*" >&2; }

# count NUMBER SINGULAR: such as "1 message" or "3 messages".
count() {
  if [[ $1 == 1 ]]; then printf '1 %s' "$2"; else printf '%s %ss' "$1" "$2"; fi
}

die() {
  error "$*"
  exit 1
}

# Aligns lines of tab-separated cells.
table() {
  plain "$(cat)" | awk -F '\t' '
    { for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } cells[NR] = NF }
    END {
      for (row = 1; row <= NR; row++) {
        line = ""
        for (i = 1; i < cells[row]; i++) line = line sprintf("%-" (width[i] + 2) "s", cell[row, i])
        print line cell[row, i]
      }
    }'
}

# Asks before a change that someone else may notice.
confirm() {
  if ((yes || dry_run)) || auto_approved; then return; fi
  ask "$1 [y/N]"
  [[ ${answer,,} == y || ${answer,,} == yes ]] || declined
}

# Asks before a change that cannot be undone. TF_AUTO_APPROVE does not skip this question.
confirm_by_name() {
  if ((yes || dry_run)); then return; fi
  ask "Type the name of the installation ($1) to continue:"
  [[ $answer == "$1" ]] || declined "The name does not match $1."
}

# ask QUESTION [ERROR]: exits at the end of the input.
ask() {
  printf '%s ' "$1" >&2
  if ! read -r answer; then
    printf '\n' >&2
    error "${2:-no input available; pass --yes to skip confirmation}"
    exit 2
  fi
}

declined() {
  say "${1:+$1 }Nothing was changed."
  exit 1
}

auto_approved() {
  local approve=${TF_AUTO_APPROVE:-}
  [[ -n $approve ]] || approve=$(setting TF_AUTO_APPROVE)
  [[ ${approve,,} == true ]]
}

# Prints a setting from the environment or .env, or nothing if it is not set. setup-tfvars.sh
# validates the settings.
setting() {
  local file=.env
  [[ -f $file ]] || file=/dev/null
  jq -rRs -L scripts --arg name "$1" 'include "settings"; read_settings.settings[$name] // ""' "$file"
}

# jq … | is_true. For an empty list the AWS CLI prints nothing, and `jq -e` succeeds on empty input.
is_true() { [[ $(cat) == true ]]; }

# --- Checks before a script starts ---

# problem MESSAGE [HINT]
problem() { problems+=("$1${2:+$'\n'  hint: $2}"); }

# Prints all problems and exits, if there are any.
refuse_on_problems() {
  ((${#problems[@]})) || return 0
  printf 'error: %s\n' "${problems[@]}" >&2
  exit 2
}

declare -A install_hint=(
  [aws]='see https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html'
  [jq]='see https://jqlang.org/download'
  [terraform]='see https://developer.hashicorp.com/terraform/install; EDGETAP_TERRAFORM names another program, such as tofu'
)

# need_distribution_id VALUE: checks the argument of --distribution.
need_distribution_id() {
  [[ $1 =~ ^[A-Z0-9]+$ ]] || usage_error '--distribution requires the ID of a distribution, such as E27FO14I29XXXX'
}

# need_tools TOOL…: `terraform` is the program that EDGETAP_TERRAFORM names.
need_tools() {
  local tool program
  for tool; do
    program=$tool
    [[ $tool != terraform ]] || program=$TERRAFORM
    if ! command -v "$program" >/dev/null; then
      problem "$program is not installed" "${install_hint[$tool]:-}"
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
  is_at_least "$version" "$wanted" || problem "aws $version is too old: $AWS_1 or newer of version 1, or $AWS_2 or newer of version 2 is required"
}

need_jq() {
  local version
  version=$(jq --version) || true
  is_at_least "${version#jq-}" 1.6 || problem "jq ${version#jq-} is too old: 1.6 or newer is required"
}

need_terraform() {
  local version
  version=$("$TERRAFORM" version 2>/dev/null) || true
  version=${version%%$'\n'*} # `Terraform v1.11.4` or `OpenTofu v1.11.4`
  version=${version##* v}
  is_at_least "$version" "$TERRAFORM_VERSION" || problem "$TERRAFORM $version is too old: $TERRAFORM_VERSION or newer is required"
}

# is_at_least VERSION MINIMUM
is_at_least() {
  local have wanted i
  IFS=. read -ra have <<<"${1//[!0-9.]/}"
  IFS=. read -ra wanted <<<"$2"
  for i in "${!wanted[@]}"; do
    ((10#${have[i]:-0} == 10#${wanted[i]})) || return $((10#${have[i]:-0} < 10#${wanted[i]}))
  done
}

# need_module [OUTPUTS]: reads Terraform's outputs, unless they are given, and the caller's account.
# Does nothing if a tool is missing.
need_module() {
  ((${#problems[@]} == 0)) || return 0
  if ! is_initialized; then
    problem "$TERRAFORM is not initialized in this clone" "run $TERRAFORM -chdir=terraform init"
    return
  fi
  outputs=${1:-}
  if [[ -z $outputs ]] && ! outputs=$(terraform_in output -json 2>"$scratch/error"); then
    if asks_for_init; then
      problem "$TERRAFORM is not initialized in this clone: $(why)" "run $TERRAFORM -chdir=terraform init"
      return
    fi
    problem "cannot read Terraform's outputs: $(why)" "see the whole message with $TERRAFORM -chdir=terraform output"
  elif ! jq 'has("name")' <<<"$outputs" | is_true; then
    problem 'no Terraform outputs found: edgetap is not installed, or the state is in another backend' \
      "run $TERRAFORM -chdir=terraform apply, or configure the backend"
  else
    read_outputs "$outputs"
  fi
  need_identity "${aws_region:-$GLOBAL}"
  if [[ -n ${caller_account:-} && -n ${account_id:-} && $caller_account != "$account_id" ]]; then
    problem "the AWS credentials belong to account $caller_account, but edgetap is installed in account $account_id" 'check AWS_PROFILE'
  fi
}

# Checks, after need_module has compared the accounts, that Terraform here would use the name and the
# region of the installation that the state describes. With others it would replace every resource,
# and a clone without the installer's .tfvars files has the defaults. Every script that runs plan,
# apply or destroy calls this first.
need_same_variables() {
  ((${#problems[@]} == 0)) || return 0
  need_plain_arguments
  local used variable here installed
  if ! used=$(variables_here); then
    problem "cannot read Terraform's variables: $(why)" "see the whole message with $TERRAFORM -chdir=terraform plan"
    return
  fi
  while IFS=$'\t' read -r variable here installed; do
    [[ $here == "$installed" ]] || problem "Terraform's variable $variable is \"$here\" here, but the state is that of \"$installed\"" \
      "set $variable = \"$installed\" in terraform/mine.auto.tfvars, get the .tfvars files of who installed it, or select another workspace"
  done < <(jq -r --arg name "$name" --arg aws_region "$aws_region" \
    '["name", .name, $name], ["aws_region", .aws_region, $aws_region] | @tsv' <<<"$used")
}

# Arguments in TF_CLI_ARGS_plan, _apply or _destroy escape the comparison of the variables, or change
# what the command does.
need_plain_arguments() {
  local variable pattern='(^|[[:space:]])["'\'']?--?(var|target|exclude|replace|destroy|refresh-only|state)[a-z-]*(["'\''=[:space:]]|$)'
  for variable in "${!TF_CLI_ARGS@}"; do
    if [[ ${!variable} =~ $pattern ]]; then
      problem "$variable has the argument -${BASH_REMATCH[2]}, which this script cannot take into account" \
        "unset $variable; Terraform reads variables from terraform/mine.auto.tfvars too"
    fi
  done
}

# The values that a plan would use, from .tfvars files, TF_VAR_… and defaults, as JSON. Terraform
# prints warnings and errors before the value, to stdout.
variables_here() {
  local printed
  printed=$(terraform_in console 2>"$scratch/error" <<<'jsonencode({ name = var.name, aws_region = var.aws_region })') \
    && jq -e fromjson <<<"${printed##*$'\n'}" 2>/dev/null && return
  printf '%s\n' "$printed" >>"$scratch/error"
  return 1
}

# Runs Terraform on the configuration in terraform/. The only place that runs it, but for its version.
terraform_in() { "$TERRAFORM" -chdir=terraform "$@"; }

# The same for a command that changes something; a dry run only shows it.
terraform_change() {
  if ((dry_run)); then show_command 'would run' "$TERRAFORM" -chdir=terraform "$@"; else terraform_in "$@"; fi
}

is_initialized() { (cd terraform && [[ -d ${TF_DATA_DIR:-.terraform} ]]); }

# Whether the last error is one that `terraform init` mends. Terraform breaks its lines anywhere.
asks_for_init() { plain_error | tr -s '[:space:]' ' ' | grep -q -E '(terraform|tofu) init\b'; }

# need_installation: reads Terraform's outputs, or what the ARN of --destination-arn says.
need_installation() {
  if ((! central)); then
    need_module "${saved_outputs:-}"
    name_destination
    return
  fi
  local pattern="^arn:aws[a-z-]*:logs:$GLOBAL:([0-9]{12}):delivery-destination:edgetap-([a-z0-9][a-z0-9-]*[a-z0-9])-accounts\$"
  if ! [[ $destination_arn =~ $pattern ]]; then
    problem "--destination-arn requires the ARN of an installation's destination for other accounts (arn:aws:logs:$GLOBAL:ACCOUNT:delivery-destination:edgetap-NAME-accounts)" \
      "in the installation's clone, $TERRAFORM -chdir=terraform output delivery_destination_arn prints it; source_account_ids creates it"
    return
  fi
  installation_account=${BASH_REMATCH[1]} name=${BASH_REMATCH[2]}
  ((${#problems[@]} == 0)) || return 0
  need_identity "$GLOBAL"
  account_id=${caller_account:-}
  [[ $account_id != "$installation_account" ]] || problem "the AWS credentials belong to account $account_id, in which edgetap is installed" \
    'omit --destination-arn for the distributions of this account, or set AWS_PROFILE to the account of the distributions'
}

# The options that a hint's command needs, to be about the same installation as this run.
same_installation() { ((! central)) || printf -- '--destination-arn %s ' "$destination_arn"; }

name_destination() { destination_arn=arn:${caller_partition:-aws}:logs:$GLOBAL:${account_id:-}:delivery-destination:edgetap-${name:-}; }

need_identity() {
  local caller
  if caller=$(aws_in "$1" sts get-caller-identity); then
    caller_account=$(jq -r .Account <<<"$caller")
    caller_partition=$(jq -r '.Arn // "" | split(":")[1] // "aws"' <<<"$caller")
  else
    problem "no valid AWS credentials: $(why)" 'run aws configure or aws sso login, or set AWS_PROFILE'
  fi
}

read_outputs() {
  local separator=$'\x1f' # `read` would merge adjacent white space, and with it empty values
  IFS=$separator read -r name aws_region account_id log_bucket log_bucket_arn log_prefix function_name log_group_name work_queue_url \
    work_queue_arn dead_letter_queue_url dead_letter_queue_arn secret_arn existing_log_sources existing_sns_topics \
    source_account_ids accounts_destination_arn event_source_mapping_uuid log_expiration_days backfill_concurrency backfill_queue_url \
    backfill_queue_arn backfill_dead_letter_queue_url backfill_dead_letter_queue_arn backfill_event_source_mapping_uuid backfill_sources < <(
      jq -r --arg separator "$separator" '[ .name, .aws_region, .account_id, .log_bucket, .log_bucket_arn, .log_prefix, .function_name,
        .log_group_name, .work_queue_url, .work_queue_arn, .dead_letter_queue_url, .dead_letter_queue_arn, .secret_arn,
        .existing_log_sources, .existing_sns_topics, .source_account_ids, .delivery_destination_arn, .event_source_mapping_uuid,
        .log_expiration_days, .backfill_concurrency, .backfill_queue_url, .backfill_queue_arn, .backfill_dead_letter_queue_url,
        .backfill_dead_letter_queue_arn, .backfill_event_source_mapping_uuid, .backfill_sources
        | .value // "" | if type == "string" then . else tojson end ] | join($separator)' <<<"$1"
    )
}

# --- Queues ---

# The URLs of the installation's queues, one a line.
queue_urls() { printf '%s\n' "$work_queue_url" "$dead_letter_queue_url" "$backfill_queue_url" "$backfill_dead_letter_queue_url" | grep .; }

# choose_queue work|backfill: sets queue_url, queue_arn, dead_letters_url, dead_letters_arn, mapping (the
# ID of the event source mapping) and queue_option, which is what a hint's command needs.
choose_queue() {
  if [[ $1 == backfill ]]; then
    queue_url=$backfill_queue_url queue_arn=$backfill_queue_arn mapping=$backfill_event_source_mapping_uuid queue_option='--queue backfill '
    dead_letters_url=$backfill_dead_letter_queue_url dead_letters_arn=$backfill_dead_letter_queue_arn
    [[ -n $queue_url ]] || problem "the installation $name has no backfill queue" \
      "set backfill_concurrency in terraform/mine.auto.tfvars, and run $TERRAFORM -chdir=terraform apply"
  else
    queue_url=$work_queue_url queue_arn=$work_queue_arn mapping=$event_source_mapping_uuid queue_option=''
    dead_letters_url=$dead_letter_queue_url dead_letters_arn=$dead_letter_queue_arn
  fi
}

# need_queue_name VALUE: checks the argument of --queue.
need_queue_name() { [[ $1 == work || $1 == backfill ]] || usage_error '--queue requires work or backfill'; }

# mapping_state UUID: prints the state of an event source mapping, such as Enabled, Disabling or
# Disabled.
mapping_state() { look "$aws_region" lambda get-event-source-mapping --uuid "$1" | jq -r '.State // "unknown"'; }

is_paused() { [[ $1 == Disabled || $1 == Disabling ]]; }

# --- The program edgetap ---

# Finds the program edgetap, which reads logs.
need_edgetap() {
  edgetap=${EDGETAP_BINARY:-target/release/edgetap}
  [[ -n ${EDGETAP_BINARY:-} || -x $edgetap ]] || edgetap=edgetap
  command -v "$edgetap" >/dev/null \
    || problem "the program $edgetap is not there" 'run cargo build --release, or set EDGETAP_BINARY to the path of edgetap'
}

# --- AWS calls ---

# look REGION SERVICE OPERATION …: a read-only call. A dry run makes it too, because later calls
# depend on it.
look() {
  show 'read only' "$@"
  aws_in "$@"
}

# Like `look`, but exits if the call fails.
must_look() {
  look "$@" || die "aws $2 $3 failed: $(why)"
}

# change REGION SERVICE OPERATION …: a call that changes something; a dry run only shows it.
# CloudWatch Logs makes one change to deliveries at a time and rejects others, which are retried
# here. In the handler of EXIT, a `return` without a status would return that of the script.
change() {
  show 'would run' "$@"
  ((! dry_run)) || return 0
  local attempt wait=1
  for ((attempt = 1; attempt <= CONFLICT_ATTEMPTS; attempt++)); do
    aws_in "$@" && return 0
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
    endpoint=(--endpoint-url "${AWS_ENDPOINT_URL_SQS:-$AWS_ENDPOINT_URL}") # version 1 ignores these variables for SQS
  fi
  aws "$@" --region "$region" --output json "${endpoint[@]}" 2>"$scratch/error"
}

# In a dry run, prints the call in shell syntax.
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

# The reason of the last failed call, in one line. Terraform prints it in a colored box, after any
# warnings:
#   ╷
#   │ Error: Required plugins are not installed
why() {
  local aws='s/^An error occurred \(([^)]*)\) when calling the ([A-Za-z0-9]+) operation( \([^)]*\))?: (.*)/\1 from \2: \4/'
  plain_error \
    | awk '/^Error: / && error == "" { error = substr($0, 8) }
        /[^[:space:]]/ && first == "" { first = $0 }
        END { print (error != "" ? error : first) }' \
    | sed -E "$aws"
}

plain_error() { sed -E -e $'s/\e\\[[0-9;]*m//g' -e 's/^(╷|│|╵) ?//' "$scratch/error"; }

failed_with() { grep -q -E -- "$1" "$scratch/error"; }

# --- Log deliveries of the account ---

# Key of the tag on every resource that edgetap created; its value is the installation's name.
readonly TAG=edgetap
# Tag on a delivery: the cookie logging before edgetap changed it, so that any machine can restore
# it.
readonly COOKIES_TAG=edgetap-cookies-before
# Tag on a distribution, for its owner's information.
readonly COURTESY_TAG=edgetap-enabled
# Tag on a delivery: when enable.sh made it, or first found it without this tag, in UTC.
readonly ENABLED_AT_TAG=edgetap-enabled-at

# Reads the delivery sources, destinations and deliveries into $model. Asks for the tags that the
# descriptions lack, if the resource has a name that edgetap gives.
read_deliveries() {
  local arn
  describe delivery-sources deliverySources || return
  describe delivery-destinations deliveryDestinations || return
  describe deliveries deliveries || return
  : >"$scratch/tags"
  for arn in $(filter_deliveries untagged); do
    look "$GLOBAL" logs list-tags-for-resource --resource-arn "$arn" >"$scratch/response" || return
    jq --arg arn "$arn" '{($arn): (.tags // {})}' "$scratch/response" >>"$scratch/tags"
  done
  model=$(filter_deliveries model)
}

describe() {
  look "$GLOBAL" logs "describe-$1" >"$scratch/response" || return
  jq --arg kind "$2" '.[$kind] // []' "$scratch/response" >"$scratch/$1"
}

filter_deliveries() {
  jq -n -r -c -L scripts --arg name "$name" --arg destination "$destination_arn" --arg bucket "${log_bucket_arn:-}" \
    --argjson existing "${existing_log_sources:-[]}" --arg prefix "${log_prefix:-}" --slurpfile sources "$scratch/delivery-sources" \
    --slurpfile destinations "$scratch/delivery-destinations" --slurpfile deliveries "$scratch/deliveries" --slurpfile tags "$scratch/tags" \
    'include "deliveries"; { sources: $sources[0], destinations: $destinations[0], deliveries: $deliveries[0], tags: ($tags | add),
        installation: {$name, $destination, $bucket, $existing, $prefix} } | '"$1"
}

must_read_deliveries() {
  read_deliveries || die "cannot read the log deliveries: $(why)"
}

# legacy_source ID FILE: the element of existing_log_sources that covers the distribution's legacy
# logs, from its configuration in FILE, or null. Their keys are PREFIX/ID.DATE.UNIQUE.gz.
legacy_source() {
  jq -c --arg id "$1" --argjson existing "${existing_log_sources:-[]}" '
    (.DistributionConfig.Logging | select(.Enabled)) as $legacy
    | ($legacy.Bucket | split(".s3")[0]) as $bucket
    | (($legacy.Prefix // "" | rtrimstr("/") | if . == "" then . else . + "/" end) + $id + ".") as $keys
    | first($existing[] | select(.bucket == $bucket and (.prefix as $prefix | $keys | startswith($prefix)))) // null' "$2"
}

# What S3 says without the permission, and if another account than the expected one owns the bucket.
readonly FORBIDDEN='AccessDenied|\(403\)'

# bucket_is_foreign BUCKET: S3 says that another account owns the bucket. Without the permission to
# look, nothing is known.
bucket_is_foreign() {
  look "$aws_region" s3api get-bucket-location --bucket "$1" --expected-bucket-owner "$account_id" >/dev/null && return 1
  failed_with "$FORBIDDEN" && look "$aws_region" s3api get-bucket-location --bucket "$1" >/dev/null
}

# Whether S3 sends edgetap an event for each log in an existing bucket: on, off, or the reason why that
# cannot be told.
declare -A events_of=()

# read_events BUCKET: sets events_of[BUCKET]. Without the output existing_sns_topics, which an
# installation from before it lacks, any topic may be one of them.
read_events() {
  [[ -z ${events_of[$1]:-} ]] || return 0
  if ! look "$aws_region" s3api get-bucket-notification-configuration --bucket "$1" --expected-bucket-owner "$account_id" >"$scratch/response"; then
    events_of[$1]=$(why)
  elif jq --argjson topics "${existing_sns_topics:-null}" 'has("EventBridgeConfiguration")
      or any(.TopicConfigurations[]?.TopicArn; $topics == null or IN($topics[]))' "$scratch/response" | is_true; then
    events_of[$1]=on
  else
    events_of[$1]=off
  fi
}

# about_events BUCKET: what keeps edgetap from learning of the logs in the bucket, with a hint, or
# nothing. Requires read_events.
about_events() {
  case ${events_of[$1]} in
    on) ;;
    off)
      printf '%s\n' "the bucket $1 sends no events, so edgetap does not learn of its logs." \
        "  hint: run scripts/watch-bucket.sh $1, or set existing_sns_topics if the events go to a topic"
      ;;
    *)
      printf '%s\n' "cannot tell whether the bucket $1 sends events: ${events_of[$1]}" \
        "  hint: your identity needs s3:GetBucketNotification on it (terraform/operator-policy.json)"
      ;;
  esac
}

# How edgetap can receive the logs in a bucket of another account, as hints.
foreign_bucket_ways() {
  printf '  hint: %s\n' \
    'S3 sends events to EventBridge in the account of the bucket only; ask its owner for an SNS topic with its events, and set existing_sns_topics' \
    "or install edgetap in the bucket's account" \
    "or let the distributions' account deliver to edgetap: set source_account_ids, and run scripts/enable.sh --destination-arn with its credentials"
}

# The delivery source of a distribution in the model, or nothing.
source_of() { jq -c --arg id "$1" '.sources[] | select(.distribution == $id)' <<<"$model"; }

# enabled_at DELIVERY: prints the moment that a delivery of the model has in its tag, or nothing. Asks
# for tags that were added later, which the description may lack.
enabled_at() {
  local at
  at=$(jq -r --arg tag "$ENABLED_AT_TAG" '.tags[$tag] // empty' <<<"$1")
  if [[ -z $at ]]; then
    look "$GLOBAL" logs list-tags-for-resource --resource-arn "$(jq -r .arn <<<"$1")" >"$scratch/response" || return
    at=$(jq -r --arg tag "$ENABLED_AT_TAG" '.tags[$tag] // empty' "$scratch/response")
  fi
  printf '%s' "$at"
}

# set_cookie_logging ID true|false: sends the whole configuration back with its ETag, one value
# changed. If the distribution was changed in between, its ETag is outdated, and the configuration
# is read again.
set_cookie_logging() {
  local id=$1 value=$2 config=$scratch/distribution changed=$scratch/changed attempt
  for attempt in 1 2 3; do
    look "$GLOBAL" cloudfront get-distribution-config --id "$id" >"$config" || return
    jq --argjson value "$value" '.DistributionConfig | .Logging.IncludeCookies = $value' "$config" >"$changed"
    differs_in_cookies_only "$config" "$changed" || return
    ((dry_run)) && printf '# the current configuration with Logging.IncludeCookies set to %s:\n' "$value" >&3
    change "$GLOBAL" cloudfront update-distribution --id "$id" --if-match "$(jq -r .ETag "$config")" \
      --distribution-config "file://$changed" >/dev/null && return
    failed_with 'PreconditionFailed|InvalidIfMatchVersion' || return
  done
  return 1
}

differs_in_cookies_only() {
  jq --slurpfile changed "$2" '.DistributionConfig as $was | $was.Logging.Enabled != null
    and ($changed[0] | .Logging.IncludeCookies = $was.Logging.IncludeCookies) == $was' "$1" | is_true && return
  echo 'the new configuration would differ in more than Logging.IncludeCookies' >"$scratch/error"
  return 1
}
