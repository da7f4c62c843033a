# Every variable has its effect. tests/suite/terraform.rs notices a variable that no test sets.

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

run "numbers_and_switches_reach_their_resources" {
  command = plan

  variables {
    architecture                = "arm64"
    memory_size                 = 256
    ephemeral_storage           = 2048
    batch_size                  = 20
    batching_window             = 3
    maximum_concurrency         = 30
    reserved_concurrency        = 40
    secret_recovery_window_days = 7
    log_expiration_days         = 60
    log_retention_days          = 14
    force_destroy               = true
  }

  assert {
    condition = [for name in ["architectures", "memory_size", "reserved_concurrent_executions", "filename"] : jsonencode(aws_lambda_function.bootstrap[name])] == [
      "[\"arm64\"]", "256", "40", "\"versions.tf\"",
    ]
    error_message = "the function does not have architecture, memory_size, reserved_concurrency or lambda_zip"
  }

  assert {
    condition     = aws_lambda_function.bootstrap.ephemeral_storage[0].size == 2048
    error_message = "the function does not have ephemeral_storage"
  }

  assert {
    condition = [
      aws_lambda_event_source_mapping.work.batch_size, aws_lambda_event_source_mapping.work.maximum_batching_window_in_seconds,
      aws_lambda_event_source_mapping.work.scaling_config[0].maximum_concurrency,
    ] == [20, 3, 30]
    error_message = "the mapping does not have batch_size, batching_window or maximum_concurrency"
  }

  assert {
    condition     = aws_secretsmanager_secret.bridge.recovery_window_in_days == 7
    error_message = "the secret does not have secret_recovery_window_days"
  }

  assert {
    condition     = [for rule in aws_s3_bucket_lifecycle_configuration.logs.rule : rule.expiration[0].days] == [60]
    error_message = "the bucket does not have log_expiration_days"
  }

  assert {
    condition     = aws_cloudwatch_log_group.function.retention_in_days == 14
    error_message = "the log group does not have log_retention_days"
  }

  assert {
    condition     = aws_s3_bucket.logs.force_destroy
    error_message = "the bucket does not have force_destroy"
  }
}

run "objects_reach_their_resources" {
  command = plan

  variables {
    kms_key_arn          = "arn:aws:kms:us-east-1:111122223333:key/OWN"
    permissions_boundary = "arn:aws:iam::111122223333:policy/boundary"
    environment          = { HTTPS_PROXY = "http://proxy.example:3128" }
    vpc                  = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
    existing_sns_topics  = ["arn:aws:sns:us-east-1:444455556666:new-logs"]
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.logs.rule).apply_server_side_encryption_by_default).kms_master_key_id == var.kms_key_arn
    error_message = "kms_key_arn must encrypt the bucket"
  }

  assert {
    condition     = aws_iam_role.function.permissions_boundary == var.permissions_boundary
    error_message = "the role does not have permissions_boundary"
  }

  assert {
    condition     = length(aws_lambda_function.bootstrap.environment[0].variables) == 4 && aws_lambda_function.bootstrap.environment[0].variables.HTTPS_PROXY == "http://proxy.example:3128"
    error_message = "the function's environment must contain environment and the three required settings"
  }

  assert {
    condition = [aws_lambda_function.bootstrap.vpc_config[0].subnet_ids, aws_lambda_function.bootstrap.vpc_config[0].security_group_ids] == [
      toset(["subnet-1"]), toset(["sg-1"]),
    ]
    error_message = "the function is not in vpc"
  }

  assert {
    condition     = toset([for subscription in aws_sns_topic_subscription.existing_logs : subscription.topic_arn]) == toset(var.existing_sns_topics)
    error_message = "the work queue does not subscribe to existing_sns_topics"
  }
}

run "every_resource_has_the_tags" {
  command = plan

  variables {
    tags                  = { team = "security" }
    existing_log_sources  = [{ bucket = "theirs" }]
    source_account_ids    = ["222233334444"]
    no_object_alarm_hours = 12
  }

  assert {
    condition = alltrue([
      for resource in concat(values(aws_cloudwatch_metric_alarm.alarm), aws_cloudwatch_metric_alarm.no_object, aws_cloudwatch_event_rule.existing_logs, aws_cloudwatch_log_delivery_destination.accounts, [
        aws_cloudwatch_metric_alarm.nothing_sent, aws_s3_bucket.logs, aws_cloudwatch_log_group.function, aws_lambda_function.bootstrap, aws_lambda_event_source_mapping.work,
        aws_iam_role.function, aws_sqs_queue.work, aws_sqs_queue.dead_letters, aws_secretsmanager_secret.bridge,
      ]) : resource.tags == tomap({ edgetap = "edgetap", managed-by = "terraform", team = "security" })
    ])
    error_message = "the scripts find resources by their tags"
  }
}

# The root's provider sets the tags by itself. The module must not set them too: the plan on the
# state of an earlier layout would change every resource.
run "tags_of_the_provider_are_left_out" {
  command = plan

  variables {
    tags = { team = "security", stage = "production" }
  }

  override_data {
    target = data.aws_default_tags.current
    values = { tags = { edgetap = "edgetap", managed-by = "terraform", team = "another" } }
  }

  assert {
    condition     = aws_sqs_queue.work.tags == tomap({ team = "security", stage = "production" })
    error_message = "only tags that differ from the provider's may be set"
  }
}

run "settings_in_environment_are_rejected" {
  command = plan

  variables {
    environment          = { BRIDGE_CLIENT_SECRET = "secret" }
    permissions_boundary = "boundary"
  }

  expect_failures = [var.environment, var.permissions_boundary]
}

run "log_level_in_environment_is_rejected" {
  command = plan

  variables {
    environment = { LOG_LEVEL = "debug" }
  }

  expect_failures = [var.environment]
}

run "name_that_lambda_reserves_is_rejected" {
  command = plan

  variables {
    environment = { AWS_REGION = "us-east-1" }
  }

  expect_failures = [var.environment]
}

run "name_that_lambda_does_not_accept_is_rejected" {
  command = plan

  variables {
    environment = { NO-PROXY = "example.com" }
  }

  expect_failures = [var.environment]
}
