# What the function is given, and when an apply is refused before anything is made.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  lambda_zip           = "versions.tf" # any file: a plan uploads none
  bridge_auth_endpoint = "https://auth.example"
  bridge_edge_endpoint = "https://edge.example"
  bridge_credentials   = { client_id = "id-CANARY", client_secret = "secret-CANARY" }
}

run "the_environment_holds_no_secret" {
  command = plan

  assert {
    condition = aws_lambda_function.bootstrap.environment[0].variables == tomap({
      BRIDGE_AUTH_ENDPOINT = "https://auth.example"
      BRIDGE_EDGE_ENDPOINT = "https://edge.example"
      BRIDGE_SECRET_ARN    = "arn:aws:secretsmanager:us-east-1:111122223333:secret:SECRET"
    })
    error_message = "without further settings the environment holds these three, so that the defaults are the function's own"
  }
}

run "every_setting_reaches_the_function" {
  command = plan

  variables {
    bridge_auth_method     = "client_secret_basic"
    bridge_concurrency     = 8
    batch_max_transactions = 100
    batch_max_bytes        = 50000
    static_extensions      = "+pdf"
    exclude_paths          = "/health"
    redact                 = "off"
    redact_cookies         = "drop"
    retry_for              = "12h"
    log_level              = "debug"
  }

  assert {
    condition = aws_lambda_function.bootstrap.environment[0].variables == tomap({
      BRIDGE_AUTH_ENDPOINT   = "https://auth.example"
      BRIDGE_EDGE_ENDPOINT   = "https://edge.example"
      BRIDGE_SECRET_ARN      = "arn:aws:secretsmanager:us-east-1:111122223333:secret:SECRET"
      BRIDGE_AUTH_METHOD     = "client_secret_basic"
      BRIDGE_CONCURRENCY     = "8"
      BATCH_MAX_TRANSACTIONS = "100"
      BATCH_MAX_BYTES        = "50000"
      STATIC_EXTENSIONS      = "+pdf"
      EXCLUDE_PATHS          = "/health"
      REDACT                 = "off"
      REDACT_COOKIES         = "drop"
      RETRY_FOR              = "12h"
      LOG_LEVEL              = "debug"
    })
    error_message = "settings keep their names"
  }

  assert {
    condition     = output.log_level == "debug"
    error_message = "scripts/enable.sh compares this with .env"
  }
}

run "lambda_passes_every_line" {
  command = plan

  assert {
    condition     = aws_lambda_function.bootstrap.logging_config[0].log_format == "JSON" && aws_lambda_function.bootstrap.logging_config[0].application_log_level == "TRACE"
    error_message = "Lambda's own filter would drop metric lines"
  }

  assert {
    condition     = aws_lambda_function.bootstrap.logging_config[0].log_group == aws_cloudwatch_log_group.function.name
    error_message = "the log group that has a retention is the function's"
  }
}

run "without_the_zip" {
  command = plan

  variables {
    lambda_zip = "missing.zip"
  }

  expect_failures = [aws_lambda_function.bootstrap] # tests/terraform/lifecycle.sh reads the words
}

run "without_endpoints" {
  command = plan

  variables {
    bridge_edge_endpoint = null
  }

  expect_failures = [aws_lambda_function.bootstrap]
}
