# CloudWatch alarms. docs/operations.md describes each one and what to do.

locals {
  # Names and units of edgetap's metrics. The function's code reads the same file.
  metrics = jsondecode(file("${path.module}/metrics.json"))

  # Sources of the metrics.
  work_queue = {
    namespace  = "AWS/SQS"
    dimensions = { QueueName = aws_sqs_queue.work.name }
  }
  dead_letters = {
    namespace  = "AWS/SQS"
    dimensions = { QueueName = aws_sqs_queue.dead_letters.name }
  }
  backfill_queue = [for queue in aws_sqs_queue.backfill : {
    namespace  = "AWS/SQS"
    dimensions = { QueueName = queue.name }
  }]
  backfill_dead_letters = [for queue in aws_sqs_queue.backfill_dead_letters : {
    namespace  = "AWS/SQS"
    dimensions = { QueueName = queue.name }
  }]
  lambda = {
    namespace  = "AWS/Lambda"
    dimensions = { FunctionName = aws_lambda_function.bootstrap.function_name }
  }
  edgetap = {
    namespace  = local.metrics.namespace
    dimensions = { (local.metrics.dimension) = aws_lambda_function.bootstrap.function_name }
  }

  # An alarm starts when the statistic was above the threshold in this many consecutive periods, or
  # in `breaching` of them. A period has five minutes, or `seconds`.
  # The backfill queue has no alarm on its age: its messages wait for hours as a matter of course.
  alarms = merge(local.live_alarms, { for source in local.backfill_dead_letters : "backfill-dead-letters" => {
    description = join(" ", [
      "The backfill's dead-letter queue has messages: logs, or rows of them, were not delivered.",
      "Run scripts/redrive.sh --queue backfill --dry-run to see which logs and why.",
      "Fix the cause, then run scripts/redrive.sh --queue backfill.",
    ])
    source    = source
    metric    = "ApproximateNumberOfMessagesVisible"
    statistic = "Maximum"
    threshold = 0
    periods   = 1
  } })

  live_alarms = {
    unconfigured = {
      description = join(" ", [
        "The function refuses its configuration and fails every message: nothing is delivered.",
        "The field problems of its ERROR line names the settings and what to change.",
        "Correct .env, run scripts/setup-tfvars.sh, then terraform apply.",
      ])
      source    = local.edgetap
      metric    = "unconfigured"
      statistic = "Sum"
      threshold = 0
      # A failed message returns after the visibility timeout at the latest. The alarm starts within
      # minutes of the first failure, and stays on until then.
      seconds   = 60
      breaching = 1
      periods   = ceil(local.visibility / 60) + 5
    }
    dead-letters = {
      description = join(" ", [
        "The dead-letter queue has messages: logs, or rows of them, were not delivered.",
        "Run scripts/redrive.sh --dry-run to see which logs and why.",
        "Fix the cause, then run scripts/redrive.sh.",
      ])
      source    = local.dead_letters
      metric    = "ApproximateNumberOfMessagesVisible"
      statistic = "Maximum"
      threshold = 0
      periods   = 1
    }
    lost = {
      description = join(" ", [
        "A log expired or was deleted after a part of it was delivered. Logs of which nothing was delivered are not counted: the function logs a WARN.",
        "The function's ERROR lines name the log and the missing rows.",
        "Increase log_expiration_days, or find out who deletes logs.",
      ])
      source    = local.edgetap
      metric    = "lost"
      statistic = "Sum"
      threshold = 0
      periods   = 1
    }
    # The metric leaves out messages that were received three times. A message that only waits for the
    # bridge is received that often within three delays of 15 minutes (one as a requeued message, two
    # for retry) and two invocations.
    queue-age = {
      description = join(" ", [
        "A message has waited in the work queue for about an hour, and was received twice at most.",
        "The event source mapping is disabled, Lambda cannot use the queue's KMS key, or the concurrency is used up.",
        "Run the command for alarm queue-age in docs/operations.md, which shows the mapping's state.",
      ])
      source    = local.work_queue
      metric    = "ApproximateAgeOfOldestMessage"
      statistic = "Maximum"
      threshold = 3 * (900 + var.timeout + var.batching_window)
      periods   = 1
    }
    # For the messages that queue-age leaves out.
    retry-age = {
      description = join(" ", [
        "A log has not been delivered for more than an hour.",
        "The function's latest WARN and ERROR lines name the reason; usually the bridge is unavailable or rejects the credentials.",
        "Run edgetap check.",
      ])
      source    = local.edgetap
      metric    = "retry_age"
      statistic = "Maximum"
      threshold = 3600
      periods   = 1
    }
    errors = {
      description = join(" ", [
        "The function crashed, ran out of memory or timed out in each of the last three 5-minute periods.",
        "Its log shows the memory used and the duration of each invocation.",
        "Increase memory_size or timeout.",
      ])
      source    = local.lambda
      metric    = "Errors"
      statistic = "Sum"
      threshold = 0
      periods   = 3
    }
    throttles = {
      description = join(" ", [
        "Lambda throttled the function in each of the last three 5-minute periods: the account's concurrency is used up.",
        "Each throttled attempt counts toward maxReceiveCount.",
        "Lower maximum_concurrency, or raise the account's limit.",
      ])
      source    = local.lambda
      metric    = "Throttles"
      statistic = "Sum"
      threshold = 0
      periods   = 3
    }
    in-flight = {
      description = join(" ", [
        "The work queue has more than 100,000 messages in flight, delayed ones included; SQS's limit is 120,000.",
        "Check that the bridge accepts requests.",
        "If it can take more of them, increase maximum_concurrency.",
      ])
      source    = local.work_queue
      metric    = "ApproximateNumberOfMessagesNotVisible"
      statistic = "Maximum"
      threshold = 100000
      periods   = 1
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "alarm" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.source.namespace
  dimensions          = each.value.source.dimensions
  metric_name         = each.value.metric
  statistic           = each.value.statistic
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = try(each.value.seconds, 300)
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = try(each.value.breaching, each.value.periods)
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "nothing_sent" {
  alarm_name = "${var.name}-nothing-sent"
  alarm_description = join(" ", [
    "For an hour, the function read rows but sent none.",
    "Its log has one line per access log, which counts static, excluded, malformed and rejected rows.",
    "WARN lines name the reason for malformed rows.",
  ])
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]
  tags                = local.tags

  metric_query {
    id          = "nothing_sent"
    expression  = "IF(rows > foreign AND sent == 0, 1, 0)"
    label       = "rows read, none sent"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = toset(["rows", "sent", "foreign"])

    content {
      id = metric_query.key

      metric {
        namespace   = local.edgetap.namespace
        dimensions  = local.edgetap.dimensions
        metric_name = metric_query.key
        stat        = "Sum"
        period      = 3600
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "no_object" {
  count = var.no_object_alarm_hours == null ? 0 : 1

  alarm_name = "${var.name}-no-object"
  alarm_description = join(" ", [
    "No new log has arrived for ${var.no_object_alarm_hours} hours.",
    "Run scripts/status.sh to see which distributions deliver logs.",
  ])
  namespace           = local.work_queue.namespace
  dimensions          = local.work_queue.dimensions
  metric_name         = "NumberOfMessagesSent"
  statistic           = "Sum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 3600
  evaluation_periods  = var.no_object_alarm_hours
  treat_missing_data  = "breaching" # SQS sends no metrics for a queue that has been idle for hours
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]
  tags                = local.tags
}

# Says it when an installation is made, and again when credentials are written: a warning at every
# plan would bother those who want no notifications.
check "alarms_notify_someone" {
  assert {
    condition     = var.alarm_topic_arn != null || !local.credentials_are_written_now
    error_message = "No one is notified of alarms, because alarm_topic_arn is not set. Set it to the ARN of an SNS topic in the installation's region."
  }
}
