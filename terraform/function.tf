# The function, its log group, and the mapping that brings it work.

locals {
  # By their names in .env; src/config.rs reads them.
  settings = {
    BRIDGE_SECRET_ARN      = aws_secretsmanager_secret.bridge.arn
    BRIDGE_AUTH_ENDPOINT   = var.bridge_auth_endpoint
    BRIDGE_EDGE_ENDPOINT   = var.bridge_edge_endpoint
    BRIDGE_AUTH_METHOD     = var.bridge_auth_method
    BRIDGE_CONCURRENCY     = var.bridge_concurrency
    BATCH_MAX_TRANSACTIONS = var.batch_max_transactions
    BATCH_MAX_BYTES        = var.batch_max_bytes
    STATIC_EXTENSIONS      = var.static_extensions
    EXCLUDE_PATHS          = var.exclude_paths
    REDACT                 = var.redact
    REDACT_COOKIES         = var.redact_cookies
    RETRY_FOR              = var.retry_for
    LOG_LEVEL              = var.log_level
  }
}

# Made here, before the function would make one that is kept for ever; so the role needs no logs:CreateLogGroup.
resource "aws_cloudwatch_log_group" "function" {
  #checkov:skip=CKV_AWS_158:Encrypted by CloudWatch Logs; the lines hold neither secrets nor log content.
  #checkov:skip=CKV_AWS_338:The lines tell how delivery went; the metrics made of them are kept for 15 months. log_retention_days chooses.
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_lambda_function" "bootstrap" {
  #checkov:skip=CKV_AWS_50:Tracing would cost per log and tell what the metrics tell.
  #checkov:skip=CKV_AWS_116:The function is never invoked asynchronously; the work queue has the dead-letter queue.
  #checkov:skip=CKV_AWS_173:The environment holds no secret.
  #checkov:skip=CKV_AWS_272:The zip is built from this repository by the operator himself; there is no publisher to check.
  function_name    = var.name
  description      = "edgetap: CloudFront access logs to the bridge"
  role             = aws_iam_role.function.arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  filename         = var.lambda_zip
  source_code_hash = fileexists(var.lambda_zip) ? filebase64sha256(var.lambda_zip) : null

  memory_size                    = var.memory_size
  timeout                        = var.timeout
  reserved_concurrent_executions = var.reserved_concurrency

  environment {
    variables = { for name, value in local.settings : name => tostring(value) if value != null }
  }

  # LOG_LEVEL is the filter. Lambda's own would drop metric lines, which have no level.
  logging_config {
    log_group             = aws_cloudwatch_log_group.function.name
    log_format            = "JSON"
    application_log_level = "TRACE"
    system_log_level      = "INFO"
  }

  dynamic "vpc_config" {
    for_each = var.vpc[*]

    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  depends_on = [aws_iam_role_policy.function]

  lifecycle {
    precondition {
      condition     = fileexists(var.lambda_zip)
      error_message = "There is no ${var.lambda_zip}: run scripts/build-lambda.sh, or set lambda_zip."
    }

    precondition {
      condition     = var.bridge_auth_endpoint != null && var.bridge_edge_endpoint != null
      error_message = "bridge_auth_endpoint and bridge_edge_endpoint are required: edit .env and run scripts/setup-tfvars.sh."
    }

    precondition {
      condition     = var.bridge_credentials != null || !local.credentials_are_written_now
      error_message = "This would write the bridge's credentials, but there are none: edit .env and run scripts/setup-tfvars.sh. (An apply that leaves secret_version as it was needs none.)"
    }
  }
}

resource "aws_lambda_event_source_mapping" "work" {
  event_source_arn        = aws_sqs_queue.work.arn
  function_name           = aws_lambda_function.bootstrap.arn
  batch_size              = 1
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = var.maximum_concurrency
  }
}
