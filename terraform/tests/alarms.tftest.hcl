# Alarms and the dashboard speak of metrics that exist, by the names that the code writes.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  lambda_zip           = "versions.tf" # any file: a plan uploads none
  bridge_auth_endpoint = "https://auth.example"
  bridge_edge_endpoint = "https://edge.example"
  bridge_credentials   = { client_id = "id", client_secret = "secret" }
}

run "of_these" {
  command = plan

  assert {
    condition = { for alarm in aws_cloudwatch_metric_alarm.alarm : alarm.alarm_name => "${alarm.namespace} ${alarm.metric_name}" } == {
      edgetap-dead-letters = "AWS/SQS ApproximateNumberOfMessagesVisible"
      edgetap-lost         = "edgetap lost"
      edgetap-retry-age    = "edgetap retry_age"
      edgetap-errors       = "AWS/Lambda Errors"
      edgetap-throttles    = "AWS/Lambda Throttles"
      edgetap-recursion    = "AWS/Lambda RecursiveInvocationsDropped"
      edgetap-in-flight    = "AWS/SQS ApproximateNumberOfMessagesNotVisible"
    }
    error_message = "docs/operations.md has a section on each"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.no_object) == 0 && length(aws_cloudwatch_metric_alarm.nothing_sent.alarm_actions) == 0
    error_message = "nobody is told unasked"
  }
}

run "metrics_have_the_names_of_the_code" {
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
    error_message = "the dashboard shows the metrics of metrics.json, all of them"
  }

  assert {
    condition = alltrue(flatten([
      for widget in jsondecode(aws_cloudwatch_dashboard.edgetap.dashboard_body).widgets : [
        for metric in widget.properties.metrics : slice(metric, 2, 4) == ["function", "edgetap"] if metric[0] == "edgetap"
      ]
    ]))
    error_message = "by their dimension: the function's name"
  }
}

run "told_to_a_topic" {
  command = plan

  variables {
    alarm_topic_arn       = "arn:aws:sns:us-east-1:111122223333:on-call"
    no_object_alarm_hours = 12
  }

  assert {
    condition = alltrue([
      for alarm in concat(values(aws_cloudwatch_metric_alarm.alarm), [aws_cloudwatch_metric_alarm.nothing_sent], aws_cloudwatch_metric_alarm.no_object) :
      alarm.alarm_actions == toset([var.alarm_topic_arn]) && alarm.ok_actions == toset([var.alarm_topic_arn])
    ])
    error_message = "every alarm, when it begins and when it ends"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.no_object[0].evaluation_periods == 12 && aws_cloudwatch_metric_alarm.no_object[0].treat_missing_data == "breaching"
    error_message = "no news is the alarm"
  }
}
