# The work queue, where every log waits until it is delivered, and the dead-letter queue behind it.
#
# Why a queue, and not the function itself, receives the bucket's events: docs/decisions/queue-before-function.md.

locals {
  # The function retries work for so long, in the long run at intervals of 12 to 15 minutes; then it dead-letters it itself, with the reason.
  retry_for      = 3 * 24 * 60 * 60
  retry_interval = 12 * 60

  visibility        = 6 * var.timeout # AWS's advice for a queue that feeds a function
  retention         = 14 * 24 * 60 * 60
  max_receive_count = 400
}

resource "aws_sqs_queue" "work" {
  name                       = "${var.name}-work"
  visibility_timeout_seconds = local.visibility
  message_retention_seconds  = local.retention

  sqs_managed_sse_enabled = var.kms_key_arn == null ? true : null
  kms_master_key_id       = var.kms_key_arn

  # The last resort, for work that kills the function before it can decide.
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = local.max_receive_count
  })

  lifecycle {
    precondition {
      condition = (
        local.retry_for / local.retry_interval < local.max_receive_count &&
        local.max_receive_count < local.retention / local.visibility
      )
      error_message = join(" ", [
        "Logs could be lost without a word: RETRY_FOR / 12 min < maxReceiveCount < retention / visibility does not hold",
        "(${floor(local.retry_for / local.retry_interval)} < ${local.max_receive_count} < ${floor(local.retention / local.visibility)}).",
        "Below the first, work that only waits for the bridge would count as dead; above the second, SQS would drop a message",
        "before it was received often enough to become a dead letter. The visibility is 6 x timeout:",
        "choose a timeout below ${floor(local.retention / local.max_receive_count / 6)} s.",
      ])
    }
  }
}

resource "aws_sqs_queue_policy" "work" {
  queue_url = aws_sqs_queue.work.url

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(local.work_senders, [merge(local.tls_only, { Resource = aws_sqs_queue.work.arn })])
  })
}

resource "aws_sqs_queue" "dead_letters" {
  name                      = "${var.name}-dead-letters"
  message_retention_seconds = local.retention

  sqs_managed_sse_enabled = var.kms_key_arn == null ? true : null
  kms_master_key_id       = var.kms_key_arn
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.url

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [merge(local.tls_only, { Resource = aws_sqs_queue.dead_letters.arn })]
  })
}

locals {
  # Who may put work into the work queue, besides the function (permissions.tf).
  work_senders = [
    for sender in [
      {
        sid     = "LogBucket"
        service = "s3.amazonaws.com"
        # A bucket's ARN names no account, and a deleted bucket's name is free for anybody.
        condition = { ArnEquals = { "aws:SourceArn" = [aws_s3_bucket.logs.arn] }, StringEquals = { "aws:SourceAccount" = local.account_id } }
      },
      {
        sid       = "ExistingBuckets"
        service   = "events.amazonaws.com"
        condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.existing_logs[*].arn } }
      },
      {
        sid       = "ExistingTopics"
        service   = "sns.amazonaws.com"
        condition = { ArnEquals = { "aws:SourceArn" = var.existing_sns_topics } }
      },
      ] : {
      Sid       = sender.sid
      Effect    = "Allow"
      Principal = { Service = sender.service }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.work.arn
      Condition = sender.condition
    } if length(sender.condition.ArnEquals["aws:SourceArn"]) > 0
  ]

  tls_only = {
    Sid       = "TlsOnly"
    Effect    = "Deny"
    Principal = "*"
    Action    = "sqs:*"
    Condition = { Bool = { "aws:SecureTransport" = "false" } }
  }
}
