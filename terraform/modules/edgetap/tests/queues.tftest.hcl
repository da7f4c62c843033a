# Limits that keep messages from being lost silently.

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

run "defaults_match_the_architecture" {
  command = plan

  assert {
    condition     = aws_lambda_function.bootstrap.timeout == 300
    error_message = "docs/architecture.md says: timeout 300 s"
  }

  assert {
    condition     = aws_sqs_queue.work.visibility_timeout_seconds == 1800
    error_message = "docs/architecture.md says: visibility timeout 30 min"
  }

  assert {
    condition     = aws_sqs_queue.work.message_retention_seconds == 1209600
    error_message = "docs/architecture.md says: retention of the work queue 14 days"
  }

  assert {
    condition     = aws_sqs_queue.dead_letters.message_retention_seconds == 1209600
    error_message = "docs/architecture.md says: retention of the dead-letter queue 14 days"
  }

  assert {
    condition = jsondecode(aws_sqs_queue.work.redrive_policy) == {
      deadLetterTargetArn = "arn:aws:sqs:us-east-1:111122223333:DEAD-LETTERS"
      maxReceiveCount     = 400
    }
    error_message = "docs/architecture.md says: maxReceiveCount 400"
  }

  assert {
    condition     = alltrue([for queue in [aws_sqs_queue.work, aws_sqs_queue.dead_letters] : queue.sqs_managed_sse_enabled])
    error_message = "queues must be encrypted"
  }

  assert {
    condition     = [aws_lambda_event_source_mapping.work.batch_size, aws_lambda_event_source_mapping.work.maximum_batching_window_in_seconds] == [10, 0]
    error_message = "an invocation must receive up to ten messages, without waiting for them"
  }

  assert {
    condition     = aws_lambda_function_recursion_config.bootstrap.recursive_loop == "Allow"
    error_message = "Lambda must not stop requeued messages as a loop"
  }

  assert {
    condition     = aws_lambda_event_source_mapping.work.function_response_types == toset(["ReportBatchItemFailures"])
    error_message = "the function must report failed messages"
  }

  assert {
    condition     = aws_lambda_event_source_mapping.work.scaling_config[0].maximum_concurrency == 10
    error_message = "at most ten function instances must run at once"
  }

  assert {
    condition     = aws_s3_bucket_notification.logs.queue[0].events == toset(["s3:ObjectCreated:*"])
    error_message = "the bucket must notify the queue of every new object"
  }

  assert {
    condition     = aws_s3_bucket_notification.logs.queue[0].filter_prefix == output.log_prefix
    error_message = "the bucket must notify the queue of logs only"
  }
}

run "limits_are_inclusive" {
  command = plan

  variables {
    timeout         = 503
    batching_window = 5
    batch_size      = 10000

    log_expiration_days  = 21
    reserved_concurrency = 10
    bridge_concurrency   = 64
    batch_max_bytes      = 3670016
  }

  assert {
    condition     = aws_sqs_queue.work.visibility_timeout_seconds == 6 * 503 + 5
    error_message = "the visibility timeout must be six times the function's timeout plus the batching window"
  }
}

run "timeout_that_could_lose_logs_is_rejected" {
  command = plan

  variables {
    timeout         = 503
    batching_window = 6
  }

  expect_failures = [aws_sqs_queue.work]
}

run "values_beyond_the_limits_are_rejected" {
  command = plan

  variables {
    log_expiration_days  = 20
    reserved_concurrency = 9
    batch_size           = 11 # without a window
    bridge_concurrency   = 64
    batch_max_bytes      = 3670017
    ephemeral_storage    = 511
  }

  expect_failures = [var.log_expiration_days, var.reserved_concurrency, var.batch_size, var.memory_size, var.ephemeral_storage]
}
