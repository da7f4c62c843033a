# What somebody should hear of. docs/operations.md says what to do about each.

locals {
  # One list of names and units, shared with the code.
  metrics = jsondecode(file("${path.module}/metrics.json"))

  # Whose metrics they are.
  work_queue   = { namespace = "AWS/SQS", dimensions = { QueueName = aws_sqs_queue.work.name } }
  dead_letters = { namespace = "AWS/SQS", dimensions = { QueueName = aws_sqs_queue.dead_letters.name } }
  lambda       = { namespace = "AWS/Lambda", dimensions = { FunctionName = aws_lambda_function.bootstrap.function_name } }
  edgetap      = { namespace = local.metrics.namespace, dimensions = { (local.metrics.dimension) = aws_lambda_function.bootstrap.function_name } }

  # Each begins when the metric was above the threshold in so many periods of five minutes on end.
  alarms = {
    dead-letters = {
      about = "Logs wait in the dead-letter queue. scripts/redrive.sh --dry-run tells which, and why."
      of    = local.dead_letters, metric = "ApproximateNumberOfMessagesVisible", statistic = "Maximum", above = 0, periods = 1
    }
    lost = {
      about = "A log was gone before it was delivered whole."
      of    = local.edgetap, metric = "lost", statistic = "Sum", above = 0, periods = 1
    }
    retry-age = { # SQS's own age of the oldest message does not see work that is received again and again
      about = "Some log has not been delivered for an hour. The function's ERROR lines name the reason."
      of    = local.edgetap, metric = "retry_age", statistic = "Maximum", above = 3600, periods = 1
    }
    errors = {
      about = "The function crashes, or runs out of time or memory."
      of    = local.lambda, metric = "Errors", statistic = "Sum", above = 0, periods = 3
    }
    throttles = {
      about = "The account's concurrency is used up. Each throttled attempt counts as a receive."
      of    = local.lambda, metric = "Throttles", statistic = "Sum", above = 0, periods = 3
    }
    recursion = {
      about = "Lambda took work that was handed over for a loop, and ended it; it is on its way to the dead-letter queue."
      of    = local.lambda, metric = "RecursiveInvocationsDropped", statistic = "Sum", above = 0, periods = 1
    }
    in-flight = {
      about = "The work queue nears SQS's limit of 120,000 messages in flight, postponed ones among them."
      of    = local.work_queue, metric = "ApproximateNumberOfMessagesNotVisible", statistic = "Maximum", above = 100000, periods = 1
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "alarm" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.about
  namespace           = each.value.of.namespace
  dimensions          = each.value.of.dimensions
  metric_name         = each.value.metric
  statistic           = each.value.statistic
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  period              = 300
  evaluation_periods  = each.value.periods
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]
}

resource "aws_cloudwatch_metric_alarm" "nothing_sent" {
  alarm_name          = "${var.name}-nothing-sent"
  alarm_description   = "Logs are read, but for an hour no row of them was sent: all static, or all malformed?"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]

  metric_query {
    id          = "nothing_sent"
    expression  = "IF(rows > 0 AND sent == 0, 1, 0)"
    label       = "rows, but nothing sent"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = toset(["rows", "sent"])

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

  alarm_name          = "${var.name}-no-object"
  alarm_description   = "No log came for ${var.no_object_alarm_hours} hours. scripts/status.sh tells which distributions deliver."
  namespace           = local.work_queue.namespace
  dimensions          = local.work_queue.dimensions
  metric_name         = "NumberOfMessagesSent"
  statistic           = "Sum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 3600
  evaluation_periods  = var.no_object_alarm_hours
  treat_missing_data  = "breaching" # SQS tells nothing of a queue that has long been idle
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]
}
