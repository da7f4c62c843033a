# The function, its log group, its recursive-loop setting, and the event source mapping from the
# work queue. backfill.tf has that of the backfill queue.

locals {
  # Environment variables of the function. src/config.rs reads them.
  settings = {
    BRIDGE_SECRET_ARN       = aws_secretsmanager_secret.bridge.arn
    BRIDGE_AUTH_ENDPOINT    = var.bridge_auth_endpoint
    BRIDGE_EDGE_ENDPOINT    = var.bridge_edge_endpoint
    BRIDGE_AUTH_METHOD      = var.bridge_auth_method
    BRIDGE_TOKEN_PARAMETERS = var.bridge_token_parameters
    BRIDGE_CONCURRENCY      = var.bridge_concurrency
    BATCH_MAX_TRANSACTIONS  = var.batch_max_transactions
    BATCH_MAX_BYTES         = var.batch_max_bytes
    STATIC_EXTENSIONS       = var.static_extensions
    INCLUDE_PATHS           = var.include_paths
    EXCLUDE_PATHS           = var.exclude_paths
    REDACT                  = var.redact
    REDACT_COOKIES          = var.redact_cookies
    RETRY_FOR               = var.retry_for
    LOG_LEVEL               = var.log_level
  }
}

# Created here because Lambda would create a log group that never expires. The role therefore does
# not need logs:CreateLogGroup.
resource "aws_cloudwatch_log_group" "function" {
  #checkov:skip=CKV_AWS_158:CloudWatch Logs encrypts the log group. The lines contain neither secrets nor content of access logs.
  #checkov:skip=CKV_AWS_338:The lines report deliveries, and CloudWatch keeps the metrics derived from them for 15 months. log_retention_days sets the retention.
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  tags              = local.tags
}

resource "aws_lambda_function" "bootstrap" {
  #checkov:skip=CKV_AWS_50:Traces would add a cost per log and show only what the metrics show.
  #checkov:skip=CKV_AWS_116:The function is never invoked asynchronously. The work queue has a dead-letter queue.
  #checkov:skip=CKV_AWS_173:The environment does not contain secrets.
  #checkov:skip=CKV_AWS_272:The operator builds the zip from this repository, so a publisher's signature does not exist.
  function_name    = var.name
  description      = "Sends CloudFront access logs to the bridge as HTTP transactions."
  role             = aws_iam_role.function.arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  filename         = var.lambda_zip
  source_code_hash = fileexists(var.lambda_zip) ? filebase64sha256(var.lambda_zip) : null

  memory_size                    = var.memory_size
  timeout                        = var.timeout
  reserved_concurrent_executions = var.reserved_concurrency
  tags                           = local.tags

  ephemeral_storage {
    size = var.ephemeral_storage
  }

  environment {
    variables = merge(var.environment, { for name, value in local.settings : name => tostring(value) if value != null })
  }

  # The function filters by LOG_LEVEL. Lambda's own filter would drop metric lines below its level;
  # they must pass at every LOG_LEVEL.
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
      error_message = "The file ${var.lambda_zip} does not exist. Run scripts/build-lambda.sh, or set lambda_zip."
    }

    precondition {
      condition = var.bridge_auth_endpoint != null && var.bridge_edge_endpoint != null
      error_message = join(" ", [
        "bridge_auth_endpoint and bridge_edge_endpoint are required. Edit .env and run scripts/setup-tfvars.sh.",
        "In Terraform of your own, set both variables of the module.",
      ])
    }

    precondition {
      condition = var.bridge_credentials != null || !local.credentials_are_written_now
      error_message = join(" ", [
        "This apply would write the bridge's credentials, but bridge_credentials is not set.",
        "Edit .env and run scripts/setup-tfvars.sh.",
        "In Terraform of your own, set bridge_credentials of the module, such as with TF_VAR_bridge_credentials of the root.",
        "An apply with an unchanged secret_version does not need the credentials.",
      ])
    }
  }
}

# The function requeues remaining rows to the queue that invokes it. Lambda's loop detection would
# stop that after about 16 passes. Each requeued message has fewer rows than the one before it, so the
# loop ends by itself.
resource "aws_lambda_function_recursion_config" "bootstrap" {
  function_name  = aws_lambda_function.bootstrap.function_name
  recursive_loop = "Allow"
}

resource "aws_lambda_event_source_mapping" "work" {
  event_source_arn        = aws_sqs_queue.work.arn
  function_name           = aws_lambda_function.bootstrap.arn
  function_response_types = ["ReportBatchItemFailures"]

  batch_size                         = var.batch_size
  maximum_batching_window_in_seconds = var.batching_window
  tags                               = local.tags

  scaling_config {
    maximum_concurrency = var.maximum_concurrency
  }

  # scripts/pause.sh disables a mapping. An apply in between must not resume it.
  lifecycle {
    ignore_changes = [enabled]
  }
}
