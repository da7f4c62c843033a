# Settings are refused as the function refuses them. tests/suite/settings.rs compares the messages.

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

run "unusual_forms_are_accepted" {
  command = plan

  variables {
    bridge_auth_endpoint    = " auth.example:8443/token "
    bridge_edge_endpoint    = "HTTP://[::1]:8080/x?y=z@"
    bridge_token_parameters = " scope=a+b&audience=https://api.example/?client_id=c& "
    bridge_credentials      = { client_id = "id", client_secret = "secret", redaction_key = "0123456789abcdef" }
    redact                  = " on , +pin, -*_token,"
    redact_cookies          = "hash"
    static_extensions       = " +pdf , -.svg,"
    include_paths           = ""
    exclude_paths           = ""
    retry_for               = "1d 12h"
    bridge_concurrency      = 1
    batch_max_bytes         = 1000
  }
}

run "first_kind_of_mistakes_is_rejected" {
  command = plan

  variables {
    bridge_auth_endpoint    = "ftp://auth.example"
    bridge_edge_endpoint    = "http://bridge.internal/x"
    bridge_auth_method      = "basic"
    bridge_token_parameters = "scope=a&b"
    bridge_concurrency      = 2.5
    batch_max_transactions  = 251
    batch_max_bytes         = 999
    static_extensions       = "css,+pdf"
    include_paths           = "users/*"
    exclude_paths           = "/health,metrics"
    redact                  = "ON"
    redact_cookies          = "none"
    retry_for               = "7d"
    log_level               = "warning"
  }

  expect_failures = [
    var.bridge_auth_endpoint, var.bridge_edge_endpoint, var.bridge_auth_method, var.bridge_concurrency,
    var.batch_max_transactions, var.batch_max_bytes, var.static_extensions, var.include_paths, var.exclude_paths,
    var.redact, var.redact_cookies,
    var.retry_for, var.log_level, var.bridge_token_parameters,
  ]
}

run "second_kind_of_mistakes_is_rejected" {
  command = plan

  variables {
    bridge_auth_endpoint    = "https://user:password@auth.example"
    bridge_edge_endpoint    = "https://"
    bridge_concurrency      = 0
    bridge_token_parameters = "scope=a&Client_ID=b"
    static_extensions       = "css,a-b"
    redact                  = "on,+pin,code"
    redact_cookies          = "hash"
    retry_for               = "59s"
  }

  expect_failures = [
    var.bridge_auth_endpoint, var.bridge_edge_endpoint, var.bridge_concurrency, var.static_extensions, var.redact, var.redact_cookies,
    var.retry_for, var.bridge_token_parameters,
  ]
}

run "third_kind_of_mistakes_is_rejected" {
  command = plan

  variables {
    bridge_auth_endpoint = "auth.example/#x"
    bridge_edge_endpoint = "https://a b.example"
    bridge_credentials   = { client_id = "id", client_secret = "secret", redaction_key = "0123456789abcde" }
    static_extensions    = "abcdefghijklmnopq"
    retry_for            = "a while"
    batching_window      = 301
  }

  expect_failures = [var.bridge_auth_endpoint, var.bridge_edge_endpoint, var.bridge_credentials, var.static_extensions, var.retry_for, var.batching_window]
}
