# The backfill queue: nothing without backfill_concurrency, and otherwise as safe as the work queue.

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
  backfill_sources     = [{ bucket = "history", prefix = "cdn/", kms_key_arn = "arn:aws:kms:us-east-1:111122223333:key/THEIRS" }]
}

run "without_concurrency_nothing_is_made" {
  command = plan

  assert {
    condition = sum([for made in [
      aws_sqs_queue.backfill, aws_sqs_queue.backfill_dead_letters, aws_sqs_queue_policy.backfill, aws_lambda_event_source_mapping.backfill,
    ] : length(made)]) == 0
    error_message = "backfill_concurrency = 0 must make nothing"
  }

  assert {
    condition     = length(regexall("history|THEIRS|BACKFILL", aws_iam_role_policy.function.policy)) == 0
    error_message = aws_iam_role_policy.function.policy
  }

  assert {
    condition = output.backfill_concurrency == 0 && alltrue([for value in [
      output.backfill_queue_url, output.backfill_queue_arn, output.backfill_dead_letter_queue_url, output.backfill_dead_letter_queue_arn,
      output.backfill_event_source_mapping_uuid,
    ] : value == null])
    error_message = "the outputs must be 0 and null"
  }

  assert {
    condition     = !strcontains(aws_cloudwatch_dashboard.edgetap.dashboard_body, "edgetap-backfill")
    error_message = "the dashboard must not show a queue that does not exist"
  }
}

run "backfill_queue_matches_the_work_queue" {
  command = plan

  variables {
    backfill_concurrency = 2
    batch_size           = 7
    kms_key_arn          = "arn:aws:kms:us-east-1:111122223333:key/OWN"
  }

  assert {
    condition = alltrue([for name in ["visibility_timeout_seconds", "message_retention_seconds", "sqs_managed_sse_enabled", "kms_master_key_id", "tags"] :
      aws_sqs_queue.backfill[0][name] == aws_sqs_queue.work[name]
    ])
    error_message = "visibility, retention and encryption must be those of the work queue"
  }

  assert {
    condition = alltrue([for name in ["message_retention_seconds", "sqs_managed_sse_enabled", "kms_master_key_id", "tags"] :
      aws_sqs_queue.backfill_dead_letters[0][name] == aws_sqs_queue.dead_letters[name]
    ])
    error_message = "retention and encryption must be those of the dead-letter queue"
  }

  assert {
    condition     = [aws_sqs_queue.backfill[0].name, aws_sqs_queue.backfill_dead_letters[0].name] == ["edgetap-backfill", "edgetap-backfill-dead-letters"]
    error_message = "the queues' names must begin with the installation's name"
  }

  assert {
    condition = jsondecode(aws_sqs_queue.backfill[0].redrive_policy) == {
      deadLetterTargetArn = "arn:aws:sqs:us-east-1:111122223333:BACKFILL-DEAD-LETTERS"
      maxReceiveCount     = 400
    }
    error_message = "the backfill queue must have a dead-letter queue of its own"
  }

  assert {
    condition = { for name, queue in aws_sqs_queue_policy.backfill : name => jsondecode(queue.policy).Statement } == {
      for name, arn in { edgetap-backfill = "BACKFILL", edgetap-backfill-dead-letters = "BACKFILL-DEAD-LETTERS" } : name => [{
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
        Resource  = "arn:aws:sqs:us-east-1:111122223333:${arn}"
      }]
    }
    error_message = "the queues must deny requests without TLS, and let no service send"
  }

  assert {
    condition     = aws_lambda_event_source_mapping.backfill[0].event_source_arn == "arn:aws:sqs:us-east-1:111122223333:BACKFILL"
    error_message = "the mapping must be that of the backfill queue"
  }

  assert {
    condition     = aws_lambda_event_source_mapping.backfill[0].function_response_types == toset(["ReportBatchItemFailures"])
    error_message = "the function must report failed messages"
  }

  assert {
    condition     = aws_lambda_event_source_mapping.backfill[0].batch_size == 7
    error_message = "batch_size must hold for both mappings"
  }

  assert {
    condition     = aws_lambda_event_source_mapping.backfill[0].scaling_config[0].maximum_concurrency == 2
    error_message = "backfill_concurrency must limit the backfill"
  }

  assert {
    condition     = aws_lambda_event_source_mapping.work.scaling_config[0].maximum_concurrency == 10
    error_message = "the concurrency of fresh logs must stay"
  }

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.function.policy).Statement : statement.Sid => statement.Resource if !contains(["OwnLogGroup", "ReadCredentials"], statement.Sid) } == {
      ReadLogs           = ["arn:aws:s3:::LOG-BUCKET/AWSLogs/111122223333/CloudFront/*", "arn:aws:s3:::history/cdn/*"]
      ReportMissingLogs  = ["arn:aws:s3:::LOG-BUCKET", "arn:aws:s3:::history"]
      Work               = ["arn:aws:sqs:us-east-1:111122223333:WORK", "arn:aws:sqs:us-east-1:111122223333:BACKFILL"]
      DeadLetters        = ["arn:aws:sqs:us-east-1:111122223333:DEAD-LETTERS", "arn:aws:sqs:us-east-1:111122223333:BACKFILL-DEAD-LETTERS"]
      OwnKey             = ["arn:aws:kms:us-east-1:111122223333:key/OWN"]
      KeysOfExistingLogs = ["arn:aws:kms:us-east-1:111122223333:key/THEIRS"]
    }
    error_message = aws_iam_role_policy.function.policy
  }

  assert {
    condition     = length(aws_cloudwatch_event_rule.existing_logs) == 0
    error_message = "backfill_sources must not be watched"
  }
}

run "alarms_leave_the_backfill_alone" {
  command = plan

  variables {
    backfill_concurrency = 2
  }

  assert {
    condition = { for name, alarm in aws_cloudwatch_metric_alarm.alarm : name => alarm.metric_name if strcontains(try(alarm.dimensions.QueueName, ""), "backfill") } == {
      backfill-dead-letters = "ApproximateNumberOfMessagesVisible"
    }
    error_message = "the backfill must have an alarm for its dead letters, and none for its age"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.alarm["queue-age"].dimensions == tomap({ QueueName = "edgetap-work" })
    error_message = "queue-age must watch the work queue only"
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.alarm : alarm.metric_name != "delivery_lag"])
    error_message = "an alarm on delivery_lag would start with each backfill"
  }

  assert {
    condition     = length(regexall("\"edgetap-backfill(?:-dead-letters)?\"", aws_cloudwatch_dashboard.edgetap.dashboard_body)) == 3
    error_message = "the dashboard must show the messages in both queues, and those in flight"
  }

  assert {
    condition     = [output.backfill_concurrency, output.backfill_event_source_mapping_uuid] == [2, "MAPPING"]
    error_message = "the outputs must name the backfill"
  }
}

run "concurrency_of_both_fits_into_the_reserve" {
  command = plan

  variables {
    backfill_concurrency = 5
    reserved_concurrency = 15
  }

  assert {
    condition     = aws_lambda_function.bootstrap.reserved_concurrent_executions == 15
    error_message = "the sum of both must be accepted"
  }
}

run "reserve_below_the_sum_is_rejected" {
  command = plan

  variables {
    backfill_concurrency = 5
    reserved_concurrency = 14
  }

  expect_failures = [var.reserved_concurrency]
}

run "concurrency_of_one_is_rejected" {
  command = plan

  variables {
    backfill_concurrency = 1
  }

  expect_failures = [var.backfill_concurrency]
}

run "source_in_another_region_is_rejected" {
  command = plan

  variables {
    backfill_sources = [{ bucket = "far", region = "eu-central-1" }]
  }

  expect_failures = [var.backfill_sources]
}
