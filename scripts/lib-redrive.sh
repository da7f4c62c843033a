# shellcheck shell=bash
# The messages of a dead-letter queue: what they are about, why they are there, and which are selected.
# Sourced by redrive.sh; uses its variables.
#
# Files in $scratch:
#   messages      the messages as SQS returned them
#   held          those of them that no other consumer receives now, and that are in the queue still
#   dead_letters  {id, objects, object, rows, first, received, since, reason} for each selected message
#
# shellcheck disable=SC2154,SC2034

# Messages that a listing shows, and that one run can select, at most.
readonly SHOWN=100 SELECTED=1000
# Seconds for which selected messages are kept from other consumers: the time to look at them, answer
# and act. Nothing is moved or deleted in the last minute of it.
readonly HOLD=${EDGETAP_REDRIVE_HOLD:-900}
# Messages per call of SQS's batch operations, at most.
readonly SQS_BATCH=10

# read_messages SECONDS LIMIT: reads up to LIMIT messages, which are hidden from other consumers for that
# time. SQS returns a sample of the queue, and with 0 seconds the same messages again.
read_messages() {
  local known=0 before idle=0
  echo '[]' >"$scratch/messages"
  while ((idle < RESPONSES_WITHOUT_NEW && known < $2 && known < waiting)); do
    must_look "$aws_region" sqs receive-message --queue-url "$dead_letters_url" --max-number-of-messages 10 --visibility-timeout "$1" \
      --wait-time-seconds 1 --attribute-names All --message-attribute-names All >"$scratch/received"
    [[ -s $scratch/received ]] || echo '{}' >"$scratch/received"
    before=$known
    jq -s '.[0] + (.[1].Messages // []) | unique_by(.MessageId)' "$scratch/messages" "$scratch/received" >"$scratch/messages.new"
    mv "$scratch/messages.new" "$scratch/messages"
    (($1 == 0)) || cp "$scratch/messages" "$scratch/held"
    known=$(jq length "$scratch/messages")
    if ((known == before)); then idle=$((idle + 1)); else idle=0; fi
  done
}

# select_messages LIMIT: writes the selected messages, with their reasons, and at most that many.
select_messages() {
  describe_messages
  # shellcheck disable=SC2016 # jq's variables look like the shell's
  keep ".id == \$key or any(.objects[]; $IS_KEY)" "${keys[@]}"
  ((! discard || ! ${#keys[@]})) || refuse_part
  add_reasons
  [[ -z $reason ]] || note_unknown
  # shellcheck disable=SC2016
  keep '.reason // "" | ascii_downcase | contains($key | ascii_downcase)' ${reason:+"$reason"}
  jq --argjson limit "$1" '.[:$limit]' "$scratch/dead_letters" >"$scratch/selected"
  mv "$scratch/selected" "$scratch/dead_letters"
}

# Whether $key means an object: the whole of it, its key, or the last part of its key.
# shellcheck disable=SC2016
readonly IS_KEY='(. == $key or if ($key | contains("/")) then sub("^s3://[^/]*/"; "") == $key else (split("/") | last) == $key end)'

# What is deleted must be asked for: refuses messages that are about other objects too.
refuse_part() {
  local part
  part=$(jq -r '$ARGS.positional as $keys | .[] | select(.id | IN($keys[]) | not) | .id as $id
    | first(.objects[] | select(any($keys[] as $key | '"$IS_KEY"'; .) | not)) | "\($id), about \(.)"' --args "${keys[@]}" <"$scratch/dead_letters")
  [[ -z $part ]] || die "nothing was deleted: --object does not name every object of these messages; to delete one anyway, pass --object with its ID: $part"
}

# Reasons in the function's log are looked up for the first objects only.
note_unknown() {
  local unknown
  unknown=$(jq 'map(select(.reason == null)) | length' "$scratch/dead_letters")
  ((unknown == 0)) || note "not selected, because the reason was not looked up: $(count "$unknown" message); --object selects them"
}

# need_hold WORDS: ends the script if other consumers receive the held messages soon.
need_hold() {
  ((SECONDS - held_at < HOLD - 60)) || die "$1, then the $((HOLD / 60)) minutes ended for which the selected messages are held. Run this script again"
}

# keep CONDITION KEY…: keeps the messages that meet the condition for one of the keys; all without keys.
keep() {
  (($# > 1)) || return 0
  jq 'map(select(any($ARGS.positional[] as $key | ('"$1"'); .)))' --args "${@:2}" <"$scratch/dead_letters" >"$scratch/selected"
  mv "$scratch/selected" "$scratch/dead_letters"
}

describe_messages() {
  jq '
    # S3 notifications encode keys like form fields; the keys of logs are ASCII.
    def digit: ascii_downcase | explode[0] | if . >= 97 then . - 87 else . - 48 end;
    def plain_key: gsub("\\+"; " ") | gsub("%(?<high>[2-7])(?<low>[0-9A-Fa-f])"; [(.high | digit) * 16 + (.low | digit)] | implode);
    def unwrapped: if .Type == "Notification" and (.Message | type) == "string" then .Message | fromjson | unwrapped else . end;
    def s3_object: "s3://\(.s3.bucket.name)/\(.s3.object.key | plain_key)";
    # Rows of a continuation, of which a dead letter can have thousands of ranges.
    def range: "\(.[0])-\(.[1] // "end")";
    def ranges: if length == 1 then .[0] | range else "\(length) ranges, first \(.[0] | range)" end;
    def summary:
      .Body | fromjson | unwrapped
      | if .edgetap then { objects: ["s3://\(.object.bucket)/\(.object.key)"], since, reason, rows: (.rows | ranges), first: .rows[0][0] }
        elif .Records then {objects: [.Records[] | try s3_object catch empty]}
        else {objects: ["s3://\(.detail.bucket.name)/\(.detail.object.key | strings)"]} end;
    map(. as $message
      | (try summary catch {objects: []}) | if .objects == [] then .reason = "the message is not an S3 event that edgetap reads" else . end
      | .object = (if .objects == [] then "message \($message.MessageId)" else .objects | join(" ") end)
      | { id: $message.MessageId, objects, object, rows: (.rows // "all"), first, received: $message.Attributes.ApproximateReceiveCount,
          since: (.since // ($message.Attributes.SentTimestamp | tonumber / 1000 | floor | todate)), reason })
    | sort_by(.since, .object, .first)' "$scratch/messages" >"$scratch/dead_letters"
}

# A message that SQS moved to the dead-letter queue contains no reason; the function's last log line
# about the object does. One call per object, so for the first ones only.
add_reasons() {
  local object
  while IFS= read -r object; do
    [[ -n $object ]] || continue
    look "$aws_region" logs filter-log-events --log-group-name "$log_group_name" --filter-pattern "\"${object//\"/\\\"}\"" >"$scratch/response" || {
      warn "cannot read the function's log for reasons: $(why)"
      return 0
    }
    jq --arg object "$object" --slurpfile response "$scratch/response" '
      ([$response[0].events[]?.message | fromjson? | select(.object == $object and (.level == "ERROR" or .level == "WARN"))
          | .message + (.reason // .error // "" | if . == "" then . else ": \(.)" end)] | last
       // "moved by SQS after too many receives; the function'"'"'s log lines have expired") as $reason
      | map(if .object == $object and .reason == null then .reason = $reason else . end)' "$scratch/dead_letters" >"$scratch/dead_letters.new"
    mv "$scratch/dead_letters.new" "$scratch/dead_letters"
  done < <(jq -r --argjson shown "$SHOWN" '[.[] | select(.reason == null) | .object] | unique | .[:$shown][]' "$scratch/dead_letters")
}

show_messages() {
  {
    printf 'object\trows\treceived\tsince\treason\n'
    jq -r '.[] | [.object, .rows, .received, .since, .reason] | @tsv' "$scratch/dead_letters"
  } | table
}

# in_batches FUNCTION: calls it with the entries of each batch of the selected messages (SQS_BATCH), as
# JSON. An entry has the number of the message as its Id.
in_batches() {
  local entries
  while IFS= read -r entries; do
    "$1" "$entries" || return
  done < <(jq -c --argjson size "$SQS_BATCH" --slurpfile selected "$scratch/dead_letters" '
    ($selected[0] | map(.id)) as $ids | map(select(.MessageId | IN($ids[]))) | to_entries | map({Id: "\(.key)", ReceiptHandle: .value.ReceiptHandle})
    | range(0; length; $size) as $at | .[$at:$at + $size]' "$scratch/held")
}

# let_go HANDLE…: these messages are in the queue no more.
let_go() {
  jq '[.[] | select(.ReceiptHandle | IN($ARGS.positional[]) | not)]' --args "$@" <"$scratch/held" >"$scratch/held.new"
  mv "$scratch/held.new" "$scratch/held"
}

# Shows the messages that are still held to other consumers again, at once instead of after HOLD.
release_messages() {
  [[ -s $scratch/held ]] || return 0
  local entries
  while IFS= read -r entries; do
    change "$aws_region" sqs change-message-visibility-batch --queue-url "$dead_letters_url" --entries "$entries" >/dev/null || {
      note "messages that were looked at are invisible for up to $((HOLD / 60)) minutes: $(why)"
      break
    }
  done < <(jq -c --argjson size "$SQS_BATCH" 'to_entries | map({Id: "\(.key)", ReceiptHandle: .value.ReceiptHandle, VisibilityTimeout: 0})
    | range(0; length; $size) as $at | .[$at:$at + $size]' "$scratch/held")
  rm -f "$scratch/held"
}
