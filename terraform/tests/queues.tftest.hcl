# The numbers that keep work from being lost without a word.

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

run "by_default" {
  command = plan

  assert {
    condition = (
      aws_lambda_function.bootstrap.timeout == 300 &&
      aws_sqs_queue.work.visibility_timeout_seconds == 1800 &&
      aws_sqs_queue.work.message_retention_seconds == 1209600 &&
      aws_sqs_queue.dead_letters.message_retention_seconds == 1209600 &&
      jsondecode(aws_sqs_queue.work.redrive_policy) == { deadLetterTargetArn = "arn:aws:sqs:us-east-1:111122223333:DEAD-LETTERS", maxReceiveCount = 400 }
    )
    error_message = "the numbers of docs/architecture.md"
  }

  assert {
    condition     = aws_sqs_queue.work.sqs_managed_sse_enabled && aws_sqs_queue.dead_letters.sqs_managed_sse_enabled
    error_message = "queues are encrypted"
  }

  assert {
    condition = (
      aws_lambda_event_source_mapping.work.batch_size == 1 &&
      aws_lambda_event_source_mapping.work.function_response_types == toset(["ReportBatchItemFailures"]) &&
      aws_lambda_event_source_mapping.work.scaling_config[0].maximum_concurrency == 10
    )
    error_message = "one log an invocation, each succeeding or failing by itself, ten at once"
  }

  assert {
    condition = (
      aws_s3_bucket_notification.logs.queue[0].events == toset(["s3:ObjectCreated:*"]) &&
      aws_s3_bucket_notification.logs.queue[0].filter_prefix == output.log_prefix
    )
    error_message = "every new log is told, and nothing else"
  }
}

run "the_longest_timeout" {
  command = plan

  variables {
    timeout = 503
  }

  assert {
    condition     = aws_sqs_queue.work.visibility_timeout_seconds >= 6 * aws_lambda_function.bootstrap.timeout
    error_message = "a message stays invisible for six timeouts, as AWS advises"
  }
}

run "a_timeout_that_would_lose_work" {
  command = plan

  variables {
    timeout = 504
  }

  expect_failures = [aws_sqs_queue.work]
}

run "logs_outlive_retries_and_dead_letters" {
  command = plan

  variables {
    log_expiration_days = 16
  }

  expect_failures = [var.log_expiration_days]
}

run "reserved_concurrency_below_the_maximum" {
  command = plan

  variables {
    reserved_concurrency = 9
  }

  expect_failures = [var.reserved_concurrency]
}
