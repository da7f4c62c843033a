# Names within AWS's limits, and invalid variables.

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

run "longest_names_fit_the_limits" {
  command = plan

  variables {
    name                 = "a23456789-123456789-1234" # 24
    existing_log_sources = [{ bucket = "theirs" }]
    alarm_topic_arn      = "arn:aws:sns:ap-southeast-5:111122223333:on-call"
  }

  override_data {
    target = data.aws_region.current
    values = { id = "ap-southeast-5" } # the longest name of a region
  }

  assert {
    condition     = aws_s3_bucket.logs.bucket == "a23456789-123456789-1234-logs-111122223333-ap-southeast-5"
    error_message = "the bucket's name consists of name, account and region"
  }

  assert {
    condition     = length(aws_s3_bucket.logs.bucket) <= 63
    error_message = "a bucket's name has at most 63 characters"
  }

  assert {
    condition     = alltrue([for name in [aws_lambda_function.bootstrap.function_name, aws_iam_role.function.name, aws_cloudwatch_event_rule.existing_logs[0].name] : length(name) <= 64])
    error_message = "names of functions, roles and rules have at most 64 characters"
  }

  assert {
    condition     = alltrue([for name in [aws_sqs_queue.work.name, aws_sqs_queue.dead_letters.name] : length(name) <= 80])
    error_message = "a queue's name has at most 80 characters"
  }
}

run "names_match_the_scripts" {
  command = plan

  variables {
    existing_log_sources = [{ bucket = "theirs" }]
  }

  assert {
    condition = [
      aws_s3_bucket.logs.bucket, aws_lambda_function.bootstrap.function_name, aws_sqs_queue.work.name, aws_sqs_queue.dead_letters.name,
      aws_secretsmanager_secret.bridge.name, aws_cloudwatch_log_group.function.name, aws_iam_role.function.name, aws_cloudwatch_event_rule.existing_logs[0].name,
      ] == [
      "edgetap-logs-111122223333-us-east-1", "edgetap", "edgetap-work", "edgetap-dead-letters",
      "edgetap-bridge", "/aws/lambda/edgetap", "edgetap-function", "edgetap-existing-logs",
    ]
    error_message = "the scripts rely on these names"
  }
}

run "name_with_a_dot_and_foreign_resources_are_rejected" {
  command = plan

  variables {
    name                 = "edge.tap"
    existing_log_sources = [{ bucket = "theirs", region = "eu-central-1" }]
    existing_sns_topics  = ["arn:aws:sns:eu-central-1:111122223333:logs"]
    kms_key_arn          = "arn:aws:kms:us-east-1:111122223333:alias/aws/s3"
  }

  expect_failures = [var.name, var.existing_log_sources, var.existing_sns_topics, var.kms_key_arn]
}

run "name_of_25_characters_is_rejected" {
  command = plan

  variables {
    name = "a23456789-123456789-12345"
  }

  expect_failures = [var.name]
}
