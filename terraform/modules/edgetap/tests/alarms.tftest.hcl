# Alarms and the dashboard use metrics that the function writes.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

mock_provider "aws" {
  alias           = "us_east_1"
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name                 = "edgetap"
  lambda_zip           = "versions.tf" # any existing file: a plan does not upload it
  bridge_auth_endpoint = "https://auth.example"
  bridge_edge_endpoint = "https://edge.example"
  bridge_credentials   = { client_id = "id", client_secret = "secret" }
  alarm_topic_arn      = "arn:aws:sns:us-east-1:111122223333:on-call"
}

run "alarms_watch_these_metrics" {
  command = plan

  variables {
    alarm_topic_arn = null
  }

  expect_failures = [check.alarms_notify_someone]

  assert {
    condition = { for alarm in aws_cloudwatch_metric_alarm.alarm : alarm.alarm_name => "${alarm.namespace} ${alarm.metric_name}" } == {
      edgetap-unconfigured = "edgetap unconfigured"
      edgetap-dead-letters = "AWS/SQS ApproximateNumberOfMessagesVisible"
      edgetap-lost         = "edgetap lost"
      edgetap-queue-age    = "AWS/SQS ApproximateAgeOfOldestMessage"
      edgetap-retry-age    = "edgetap retry_age"
      edgetap-errors       = "AWS/Lambda Errors"
      edgetap-throttles    = "AWS/Lambda Throttles"
      edgetap-in-flight    = "AWS/SQS ApproximateNumberOfMessagesNotVisible"
    }
    error_message = "the alarms differ from those that docs/operations.md describes"
  }

  assert {
    condition     = [for name in ["period", "datapoints_to_alarm", "evaluation_periods"] : aws_cloudwatch_metric_alarm.alarm["unconfigured"][name]] == [60, 1, 35]
    error_message = "unconfigured must start within minutes and stay on for the visibility timeout of 30 minutes"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.alarm["queue-age"].threshold == 3600
    error_message = "docs/operations.md says: queue-age starts after an hour"
  }

  assert {
    condition     = alltrue([for name, alarm in aws_cloudwatch_metric_alarm.alarm : alarm.period == 300 && alarm.datapoints_to_alarm == alarm.evaluation_periods if name != "unconfigured"])
    error_message = "the other alarms must evaluate consecutive periods of five minutes"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.no_object) == 0
    error_message = "no_object must not exist by default"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.nothing_sent.alarm_actions) == 0
    error_message = "alarms must not notify anyone by default"
  }
}

run "metrics_match_the_code" {
  command = plan

  assert {
    condition = length(setsubtract(
      concat(
        [for alarm in aws_cloudwatch_metric_alarm.alarm : alarm.metric_name if alarm.namespace == "edgetap"],
        flatten([for query in aws_cloudwatch_metric_alarm.nothing_sent.metric_query : query.metric[*].metric_name]),
      ),
      keys(jsondecode(file("metrics.json")).metrics),
    )) == 0
    error_message = "an alarm watches a metric that is not in metrics.json"
  }

  assert {
    condition = toset([
      for metric in flatten([for widget in jsondecode(aws_cloudwatch_dashboard.edgetap.dashboard_body).widgets : [for metric in widget.properties.metrics : join(" ", slice(metric, 0, 2))]]) :
      trimprefix(metric, "edgetap ") if startswith(metric, "edgetap ")
    ]) == toset(keys(jsondecode(file("metrics.json")).metrics))
    error_message = "the dashboard must show every metric of metrics.json and no other"
  }

  assert {
    condition = alltrue(flatten([
      for widget in jsondecode(aws_cloudwatch_dashboard.edgetap.dashboard_body).widgets : [
        for metric in widget.properties.metrics : slice(metric, 2, 4) == ["function", "edgetap"] if metric[0] == "edgetap"
      ]
    ]))
    error_message = "a metric on the dashboard lacks the dimension function"
  }
}

run "alarms_notify_the_topic" {
  command = plan

  variables {
    no_object_alarm_hours = 12
  }

  assert {
    condition = alltrue([
      for alarm in concat(values(aws_cloudwatch_metric_alarm.alarm), [aws_cloudwatch_metric_alarm.nothing_sent], aws_cloudwatch_metric_alarm.no_object) :
      alarm.alarm_actions == toset([var.alarm_topic_arn]) && alarm.ok_actions == toset([var.alarm_topic_arn])
    ])
    error_message = "an alarm does not notify the topic when it starts and ends"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.no_object[0].evaluation_periods == 12
    error_message = "no_object must evaluate no_object_alarm_hours periods of an hour"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.no_object[0].treat_missing_data == "breaching"
    error_message = "no_object must alarm on missing data"
  }
}

run "topic_in_another_region_is_rejected" {
  command = plan

  variables {
    alarm_topic_arn = "arn:aws:sns:eu-central-1:111122223333:on-call"
  }

  expect_failures = [var.alarm_topic_arn]
}

run "name_of_a_topic_is_rejected" {
  command = plan

  variables {
    alarm_topic_arn = "on-call"
  }

  expect_failures = [var.alarm_topic_arn]
}

run "subscription_to_a_topic_is_rejected" {
  command = plan

  variables {
    alarm_topic_arn = "arn:aws:sns:us-east-1:111122223333:on-call:6b0e71bd-7e97-4d97-80ce-4a0994e55286"
  }

  expect_failures = [var.alarm_topic_arn]
}

run "topic_in_another_partition_is_accepted" {
  command = plan

  variables {
    alarm_topic_arn = "arn:aws-us-gov:sns:us-gov-west-1:111122223333:on-call"
  }

  override_data {
    target = data.aws_region.current
    values = { id = "us-gov-west-1" }
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.nothing_sent.alarm_actions == toset([var.alarm_topic_arn])
    error_message = "an alarm does not notify a topic of another partition"
  }
}
