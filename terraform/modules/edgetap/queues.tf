# The work queue, which holds every log until it is delivered, and its dead-letter queue.
#
# docs/decisions/queue-before-function.md explains why the bucket notifies a queue and not the
# function.

locals {
  # Seconds. The longest RETRY_FOR, and the shortest retry delay after the first attempts. When
  # RETRY_FOR is over, the function itself sends the message to the dead-letter queue, with the
  # reason.
  retry_for      = 3 * 24 * 60 * 60
  retry_interval = 12 * 60

  # Seconds. AWS recommends a visibility timeout of six times the function's timeout plus the
  # batching window.
  visibility        = 6 * var.timeout + var.batching_window
  retention         = 14 * 24 * 60 * 60
  max_receive_count = 400
}

resource "aws_sqs_queue" "work" {
  name                       = "${var.name}-work"
  visibility_timeout_seconds = local.visibility
  message_retention_seconds  = local.retention

  sqs_managed_sse_enabled = var.kms_key_arn == null ? true : null
  kms_master_key_id       = var.kms_key_arn
  tags                    = local.tags

  # The last resort, for a message that crashes the function before it can send it to the
  # dead-letter queue.
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
        "timeout is too long: choose a timeout below ${ceil((local.retention / local.max_receive_count - var.batching_window) / 6)} s, or logs could be lost silently.",
        "The queue requires RETRY_FOR / 12 min < maxReceiveCount < retention / visibility timeout, which is now",
        "${floor(local.retry_for / local.retry_interval)} < ${local.max_receive_count} < ${floor(local.retention / local.visibility)}.",
        "The visibility timeout is 6 x timeout + batching_window. With a smaller maxReceiveCount, SQS would move messages that only wait for the bridge",
        "to the dead-letter queue. With a longer visibility timeout, a message would expire before it reaches maxReceiveCount.",
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
  tags                    = local.tags
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.url

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [merge(local.tls_only, { Resource = aws_sqs_queue.dead_letters.arn })]
  })
}

locals {
  # Senders to the work queue, in addition to the function (permissions.tf). A sender without
  # sources gets no statement.
  senders = [
    {
      sid     = "LogBucket"
      service = "s3.amazonaws.com"
      # A bucket's ARN does not contain the account, and anyone can reuse the name of a deleted
      # bucket.
      condition = {
        ArnEquals    = { "aws:SourceArn" = [aws_s3_bucket.logs.arn] }
        StringEquals = { "aws:SourceAccount" = local.account_id }
      }
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
  ]

  work_senders = [
    for sender in local.senders : {
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
