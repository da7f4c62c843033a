#!/usr/bin/env bats
# redrive.sh with a selection, and --discard, with the real AWS CLI against moto. The redrive task, which
# moto lacks, is in scripted.bats.

# shellcheck disable=SC2154 # helpers.bash sets variables
load helpers.bash
bats_require_minimum_version 1.5.0

setup() {
  setup_clone
  use_moto
  make_installation
  for queue in tap-backfill tap-backfill-dead-letters; do moto sqs create-queue --queue-name "$queue" >/dev/null; done
  backfill=$MOTO/$account/tap-backfill
  outputs "{\"backfill_queue_url\":\"$backfill\",\"backfill_queue_arn\":\"arn:aws:sqs:us-east-1:$account:tap-backfill\",
    \"backfill_dead_letter_queue_url\":\"$backfill-dead-letters\",\"backfill_dead_letter_queue_arn\":\"arn:aws:sqs:us-east-1:$account:tap-backfill-dead-letters\"}"
}

# dead_letter KEY REASON [QUEUE-URL]
dead_letter() {
  moto sqs send-message --queue-url "${3:-$dead}" --message-body "$(jq -n -c --arg key "$1" --arg reason "$2" \
    '{edgetap: 2, object: {bucket: "b", $key}, rows: [[0, null]], since: "2026-11-14T20:00:00Z", $reason, dead_letter: true}')" >/dev/null
}

four_letters() {
  dead_letter photos/photo.jpg 'not a supported CloudFront access log'
  dead_letter logs/a.gz 'the bridge responds with 413 Payload Too Large'
  dead_letter logs/b.gz 'the bridge responds with 403 Forbidden'
  unreadable=$(moto sqs send-message --queue-url "$dead" --message-body 'no { JSON' | jq -r .MessageId)
}

# in_queue QUEUE-URL: what is visible there, one a line.
in_queue() {
  local bodies
  bodies=$(moto sqs receive-message --queue-url "$1" --max-number-of-messages 10 --visibility-timeout 0 | jq -r '.Messages[]?.Body')
  if [[ -n $bodies ]]; then jq -R -r 'fromjson? // {object: {key: .}} | .object.key' <<<"$bodies" | sort | tr '\n' ' '; fi
}

@test "redrive.sh discards what it has shown, after asking" {
  four_letters
  run scripts/redrive.sh --discard --object photo.jpg <<<n
  exits 1
  has 's3://b/photos/photo.jpg'
  has_not a.gz
  has 'Delete 1 message? Their rows are never sent. [y/N]'
  has 'Nothing was changed.'
  run scripts/redrive.sh --discard --object photo.jpg </dev/null
  exits 2
  has_not 'invisible'
  TF_AUTO_APPROVE=true run scripts/redrive.sh --discard --object photo.jpg </dev/null
  exits 2
  [[ $(in_queue "$dead") == 'logs/a.gz logs/b.gz no { JSON photos/photo.jpg ' ]] || fail_with "$(in_queue "$dead")"
  run scripts/redrive.sh --discard --object photo.jpg <<<y
  exits 0
  has 'Messages deleted: 1 of 1.'
  [[ $(in_queue "$dead") == 'logs/a.gz logs/b.gz no { JSON ' ]] || fail_with "$(in_queue "$dead")"
  run scripts/redrive.sh --discard --reason FORBIDDEN --yes
  exits 0
  has 's3://b/logs/b.gz'
  run scripts/redrive.sh --discard --object "$unreadable" --yes
  exits 0
  has "message $unreadable"
  has 'the message is not an S3 event that edgetap reads'
  [[ $(in_queue "$dead") == 'logs/a.gz ' ]]
  run scripts/redrive.sh --discard --all --yes
  exits 0
  run scripts/redrive.sh --discard --all --yes
  exits 0
  has 'The dead-letter queue is empty.'
  [[ $(in_queue "$work") == '' ]]
}

@test "redrive.sh deletes more messages than one call takes" {
  for number in {1..23}; do dead_letter "logs/$number.gz" 'the bridge responds with 413'; done
  dead_letter kept.gz 'the bridge responds with 403'
  run scripts/redrive.sh --discard --reason 413 --yes
  exits 0
  has 'Messages deleted: 23 of 23.'
  [[ $(in_queue "$dead") == 'kept.gz ' ]]
}

@test "redrive.sh moves a selection only" {
  four_letters
  run scripts/redrive.sh --object s3://b/logs/a.gz --object logs/b.gz --reason 'responds with 403'
  exits 0
  has 'Messages moved to the work queue: 1 of 1.'
  [[ $(in_queue "$work") == 'logs/b.gz ' ]]
  [[ $(in_queue "$dead") == 'logs/a.gz no { JSON photos/photo.jpg ' ]] || fail_with "$(in_queue "$dead")"
  run scripts/redrive.sh --object nothing.gz
  exits 1
  has 'error: none of 3 messages of the dead-letter queue is selected'
  has 'hint: run scripts/redrive.sh --dry-run'
}

@test "redrive.sh moves the backfill's dead letters to its queue" {
  dead_letter logs/c.gz 'the bridge responds with 413' "$backfill-dead-letters"
  dead_letter logs/d.gz 'the bridge responds with 413' "$backfill-dead-letters"
  run scripts/redrive.sh --queue backfill --object c.gz
  exits 0
  has 'Messages moved to the backfill queue: 1 of 1.'
  run scripts/redrive.sh --queue backfill --one-by-one
  exits 0
  has 'Messages moved to the backfill queue: 1 of 1.'
  [[ $(in_queue "$backfill") == 'logs/c.gz logs/d.gz ' ]]
  [[ $(in_queue "$work") == '' ]]
}

@test "--object is a whole key or its last part" {
  for key in cdn/a.gz backup/cdn/a.gz aa.gz; do dead_letter "$key" 'the bridge responds with 413'; done
  run scripts/redrive.sh --dry-run --object cdn/a.gz
  exits 0
  has '(1 of 3 messages)'
  has 's3://b/cdn/a.gz'
  has_not backup
  run scripts/redrive.sh --dry-run --object a.gz
  has '(2 of 3 messages)'
  has_not aa.gz
  run scripts/redrive.sh --dry-run --object dn/a.gz
  has '(0 of 3 messages)'
}

@test "redrive.sh discards no object that is not named" {
  local record='{s3: {bucket: {name: "logs"}, object: {$key}}}'
  # shellcheck disable=SC2016 # jq's variables look like the shell's
  moto sqs send-message --queue-url "$dead" --message-body "$(jq -n -c '{Records: [("x/a.gz", "y/keep.gz") as $key | '"$record"', {s3: {}}]}' | jq -c '.Records |= unique')" >/dev/null
  run scripts/redrive.sh --discard --object x/a.gz --yes
  exits 1
  has 'error: nothing was deleted: --object does not name every object of these messages'
  has 'about s3://logs/y/keep.gz'
  run scripts/redrive.sh --discard --reason 'not an S3 event' --yes
  exits 1
  [[ -n $(in_queue "$dead") ]]
  run scripts/redrive.sh --discard --object a.gz --object y/keep.gz --yes
  exits 0
  has 'Messages deleted: 1 of 1.'
}

@test "redrive.sh acts only while it holds the messages" {
  four_letters
  export EDGETAP_REDRIVE_HOLD=60 # its last minute
  run scripts/redrive.sh --object a.gz
  exits 1
  has 'error: moved 0 messages, then the 1 minutes ended for which the selected messages are held.'
  run scripts/redrive.sh --discard --all --yes
  exits 1
  has 'error: deleted 0 messages, then'
  [[ $(in_queue "$dead") == 'logs/a.gz logs/b.gz no { JSON photos/photo.jpg ' ]] || fail_with "$(in_queue "$dead")"
  [[ $(in_queue "$work") == '' ]]
}

@test "redrive.sh lists messages as JSON and changes nothing" {
  four_letters
  run --separate-stderr scripts/redrive.sh --dry-run --json
  exits 0
  [[ $(jq -c 'map([.objects[0], .rows]) | sort' <<<"$output") == '[[null,"all"],["s3://b/logs/a.gz","0-end"],["s3://b/logs/b.gz","0-end"],["s3://b/photos/photo.jpg","0-end"]]' ]]
  [[ $stderr == *'read only: aws sqs receive-message'* ]]
  run scripts/redrive.sh --discard --reason 413 --dry-run
  exits 0
  has '(1 of 4 messages)'
  has 'would run: aws sqs delete-message-batch'
  has 'This was a dry run: nothing was deleted.'
  [[ $(in_queue "$dead") == 'logs/a.gz logs/b.gz no { JSON photos/photo.jpg ' ]]
}

@test "redrive.sh refuses a selection that may not be meant" {
  for words in '--discard' '--all' '--discard --all --object x' '--queue dead' '--json' '--reason' 'photo.jpg' '--discard --all --one-by-one' '--discard --all --max-per-second 5'; do
    # shellcheck disable=SC2086 # words
    run scripts/redrive.sh $words
    exits 2
    has 'error: '
  done
}
