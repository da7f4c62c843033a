# Names within AWS's limits, and inputs that are refused.

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

run "the_longest" {
  command = plan

  variables {
    name                 = "a23456789-123456789-1234" # 24
    aws_region           = "ap-southeast-5"           # no region's name is longer
    existing_log_sources = [{ bucket = "theirs" }]
  }

  assert {
    condition     = aws_s3_bucket.logs.bucket == "a23456789-123456789-1234-logs-111122223333-ap-southeast-5" && length(aws_s3_bucket.logs.bucket) <= 63
    error_message = "buckets: 63"
  }

  assert {
    condition     = alltrue([for name in [aws_lambda_function.bootstrap.function_name, aws_iam_role.function.name, aws_cloudwatch_event_rule.existing_logs[0].name] : length(name) <= 64])
    error_message = "functions, roles and rules: 64"
  }

  assert {
    condition     = alltrue([for name in [aws_sqs_queue.work.name, aws_sqs_queue.dead_letters.name] : length(name) <= 80])
    error_message = "queues: 80"
  }
}

run "as_the_scripts_expect_them" {
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
    error_message = "names are part of what the scripts rely on"
  }
}

run "a_name_with_a_dot" {
  command = plan

  variables {
    name = "edge.tap"
  }

  expect_failures = [var.name]
}

run "a_name_that_is_too_long" {
  command = plan

  variables {
    name = "a23456789-123456789-12345"
  }

  expect_failures = [var.name]
}

run "a_bucket_of_another_region" {
  command = plan

  variables {
    existing_log_sources = [{ bucket = "theirs", region = "eu-central-1" }]
  }

  expect_failures = [var.existing_log_sources]
}

run "a_topic_of_another_region" {
  command = plan

  variables {
    existing_sns_topics = ["arn:aws:sns:eu-central-1:111122223333:logs"]
  }

  expect_failures = [var.existing_sns_topics]
}

run "an_alias_for_a_key" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:us-east-1:111122223333:alias/aws/s3"
  }

  expect_failures = [var.kms_key_arn]
}
