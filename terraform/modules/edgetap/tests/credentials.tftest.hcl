# Applies that require the bridge's credentials, and applies that do not.

mock_provider "aws" {
  source = "./tests/mocks"
}

mock_provider "aws" {
  alias  = "us_east_1"
  source = "./tests/mocks"
}

variables {
  name                 = "edgetap"
  lambda_zip           = "versions.tf" # any existing file: the mock does not upload it
  bridge_auth_endpoint = "https://auth.example"
  bridge_edge_endpoint = "https://edge.example"
  bridge_credentials   = { client_id = "id", client_secret = "secret" }
  secret_version       = 1
  alarm_topic_arn      = "arn:aws:sns:us-east-1:111122223333:on-call"
}

run "first_plan_without_credentials_fails" {
  command = plan

  variables {
    bridge_credentials = null
  }

  expect_failures = [aws_lambda_function.bootstrap]
}

run "first_apply_with_credentials_succeeds" {
  command = apply
}

run "new_version_without_credentials_fails" {
  command = plan

  variables {
    bridge_credentials = null
    secret_version     = 2
  }

  expect_failures = [aws_lambda_function.bootstrap]
}

run "new_version_with_credentials_is_written" {
  command = plan

  variables {
    secret_version = 2
  }

  assert {
    condition     = local.credentials_are_written_now
    error_message = "a new version must be written"
  }

  assert {
    condition     = aws_secretsmanager_secret_version.bridge.secret_string_wo_version == 2
    error_message = "the secret must have the new version"
  }
}

# This run comes last: runs are distinguished by their time in seconds.
run "same_version_without_credentials_succeeds" {
  command = plan

  variables {
    bridge_credentials = null
    alarm_topic_arn    = null # no warning: check.alarms_notify_someone would fail this run
  }

  assert {
    condition     = !local.credentials_are_written_now
    error_message = "an unchanged version must not be written"
  }
}
