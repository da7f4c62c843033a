# When an apply needs the credentials, and when it does without.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  lambda_zip           = "versions.tf" # any file: nothing is uploaded to a mock
  bridge_auth_endpoint = "https://auth.example"
  bridge_edge_endpoint = "https://edge.example"
  bridge_credentials   = { client_id = "id", client_secret = "secret" }
  secret_version       = 1
}

run "not_given_at_first" {
  command = plan

  variables {
    bridge_credentials = null
  }

  expect_failures = [aws_lambda_function.bootstrap]
}

run "given" {
  command = apply
}

run "not_given_though_changed" {
  command = plan

  variables {
    bridge_credentials = null
    secret_version     = 2
  }

  expect_failures = [aws_lambda_function.bootstrap]
}

run "given_anew" {
  command = plan

  variables {
    secret_version = 2
  }

  assert {
    condition     = local.credentials_are_written_now && aws_secretsmanager_secret_version.bridge.secret_string_wo_version == 2
    error_message = "another version is written"
  }
}

# Last: what tells one run from another is the time in seconds.
run "not_given_and_not_changed" {
  command = plan

  variables {
    bridge_credentials = null
  }

  assert {
    condition     = !local.credentials_are_written_now
    error_message = "what is not written is not required"
  }
}
