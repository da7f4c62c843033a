# The backfill queue, which scripts/backfill.sh fills with logs that are in S3 already, its
# dead-letter queue, and its event source mapping. Fresh logs never wait behind these logs: the
# function receives from both queues, and each mapping has a concurrency of its own.
#
# A message is an S3 notification, as in the work queue. The function finds both queues by the ARN in
# the event and needs no setting.

locals {
  has_backfill = var.backfill_concurrency > 0

  # Buckets and prefixes that the function may read without receiving their events.
  backfill_locations = [
    for source in var.backfill_sources : { bucket_arn = "arn:aws:s3:::${source.bucket}", prefix = source.prefix } if local.has_backfill
  ]
}

resource "aws_sqs_queue" "backfill" {
  count = local.has_backfill ? 1 : 0

  name                       = "${var.name}-backfill"
  visibility_timeout_seconds = local.visibility
  message_retention_seconds  = local.retention

  sqs_managed_sse_enabled = var.kms_key_arn == null ? true : null
  kms_master_key_id       = var.kms_key_arn
  tags                    = local.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.backfill_dead_letters[0].arn
    maxReceiveCount     = local.max_receive_count
  })
}

resource "aws_sqs_queue" "backfill_dead_letters" {
  count = local.has_backfill ? 1 : 0

  name                      = "${var.name}-backfill-dead-letters"
  message_retention_seconds = local.retention

  sqs_managed_sse_enabled = var.kms_key_arn == null ? true : null
  kms_master_key_id       = var.kms_key_arn
  tags                    = local.tags
}

# The operator sends to the backfill queue, with a policy of the identity.
resource "aws_sqs_queue_policy" "backfill" {
  for_each = { for queue in concat(aws_sqs_queue.backfill, aws_sqs_queue.backfill_dead_letters) : queue.name => queue }

  queue_url = each.value.url

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [merge(local.tls_only, { Resource = each.value.arn })]
  })
}

# The batches are those of the work queue: the function delivers the logs of an invocation side by
# side, within one budget of memory and of requests in flight, and deletes each message that is
# finished. With one log per invocation, each small log would be billed for its own wait.
resource "aws_lambda_event_source_mapping" "backfill" {
  count = local.has_backfill ? 1 : 0

  event_source_arn        = aws_sqs_queue.backfill[0].arn
  function_name           = aws_lambda_function.bootstrap.arn
  function_response_types = ["ReportBatchItemFailures"]

  batch_size                         = var.batch_size
  maximum_batching_window_in_seconds = var.batching_window
  tags                               = local.tags

  scaling_config {
    maximum_concurrency = var.backfill_concurrency
  }

  # scripts/pause.sh disables a mapping. An apply in between must not resume it.
  lifecycle {
    ignore_changes = [enabled]
  }
}
