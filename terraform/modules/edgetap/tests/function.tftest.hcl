# The function's environment and logging, and plans that fail before anything is created.

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
  bridge_credentials   = { client_id = "id-CANARY", client_secret = "secret-CANARY" }
  alarm_topic_arn      = "arn:aws:sns:us-east-1:111122223333:on-call"
}

run "environment_contains_no_secret" {
  command = plan

  assert {
    condition = aws_lambda_function.bootstrap.environment[0].variables == tomap({
      BRIDGE_AUTH_ENDPOINT = "https://auth.example"
      BRIDGE_EDGE_ENDPOINT = "https://edge.example"
      BRIDGE_SECRET_ARN    = "arn:aws:secretsmanager:us-east-1:111122223333:secret:SECRET"
    })
    error_message = "the environment must contain these three settings only, so that the function's own defaults apply"
  }
}

run "every_setting_reaches_the_function" {
  command = plan

  variables {
    bridge_auth_method      = "client_secret_basic"
    bridge_concurrency      = 8
    bridge_token_parameters = "scope=a"
    batch_max_transactions  = 100
    batch_max_bytes         = 50000
    static_extensions       = "+pdf"
    include_paths           = "/users/*/id-card.jpg"
    exclude_paths           = "/health"
    redact                  = "off"
    redact_cookies          = "drop"
    retry_for               = "3d"
    log_level               = "debug"
  }

  assert {
    condition = aws_lambda_function.bootstrap.environment[0].variables == tomap({
      BRIDGE_AUTH_ENDPOINT    = "https://auth.example"
      BRIDGE_EDGE_ENDPOINT    = "https://edge.example"
      BRIDGE_SECRET_ARN       = "arn:aws:secretsmanager:us-east-1:111122223333:secret:SECRET"
      BRIDGE_AUTH_METHOD      = "client_secret_basic"
      BRIDGE_CONCURRENCY      = "8"
      BRIDGE_TOKEN_PARAMETERS = "scope=a"
      BATCH_MAX_TRANSACTIONS  = "100"
      BATCH_MAX_BYTES         = "50000"
      STATIC_EXTENSIONS       = "+pdf"
      INCLUDE_PATHS           = "/users/*/id-card.jpg"
      EXCLUDE_PATHS           = "/health"
      REDACT                  = "off"
      REDACT_COOKIES          = "drop"
      RETRY_FOR               = "3d"
      LOG_LEVEL               = "debug"
    })
    error_message = "a setting is missing in the environment or has another name"
  }

  assert {
    condition     = output.log_level == "debug"
    error_message = "the output log_level must be that of the function"
  }
}

run "lambda_passes_every_line" {
  command = plan

  assert {
    condition     = aws_lambda_function.bootstrap.logging_config[0].log_format == "JSON"
    error_message = "the log format must be JSON"
  }

  assert {
    condition     = aws_lambda_function.bootstrap.logging_config[0].application_log_level == "TRACE"
    error_message = "Lambda must not filter log lines: it would drop metric lines"
  }

  assert {
    condition     = aws_lambda_function.bootstrap.logging_config[0].log_group == aws_cloudwatch_log_group.function.name
    error_message = "the function must write to the log group that has a retention"
  }
}

run "missing_zip_fails" {
  command = plan

  variables {
    lambda_zip = "missing.zip"
  }

  expect_failures = [aws_lambda_function.bootstrap] # tests/operator/whole_path.py checks the message
}

run "missing_endpoint_fails" {
  command = plan

  variables {
    bridge_edge_endpoint = null
  }

  expect_failures = [aws_lambda_function.bootstrap]
}
