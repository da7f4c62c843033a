# Logs in buckets that edgetap does not own. This file sends their events to the work queue;
# permissions.tf lets the function read them. Terraform never manages the notifications of such a
# bucket, because it would replace those of the owner.

# For a bucket that sends its events to EventBridge; scripts/watch-bucket.sh turns that on.
resource "aws_cloudwatch_event_rule" "existing_logs" {
  count = length(var.existing_log_sources) > 0 ? 1 : 0

  name        = "${var.name}-existing-logs"
  description = "Sends events of new logs in existing buckets to edgetap's work queue."
  tags        = local.tags

  event_pattern = jsonencode({
    source      = ["aws.s3"]
    detail-type = ["Object Created"]
    detail = {
      "$or" = [
        for source in var.existing_log_sources : merge(
          { bucket = { name = [source.bucket] } },
          source.prefix == "" ? {} : { object = { key = [{ prefix = source.prefix }] } },
        )
      ]
    }
  })
}

resource "aws_cloudwatch_event_target" "existing_logs" {
  count = length(aws_cloudwatch_event_rule.existing_logs)

  rule      = aws_cloudwatch_event_rule.existing_logs[0].name
  target_id = "work"
  arn       = aws_sqs_queue.work.arn

  depends_on = [aws_sqs_queue_policy.work]
}

# For a bucket that already sends its events to an SNS topic.
resource "aws_sns_topic_subscription" "existing_logs" {
  for_each = toset(var.existing_sns_topics)

  topic_arn = each.value
  protocol  = "sqs"
  endpoint  = aws_sqs_queue.work.arn

  depends_on = [aws_sqs_queue_policy.work]
}
