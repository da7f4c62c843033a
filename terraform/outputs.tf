# What scripts/ and the operator need to know.

output "name" {
  description = "Name of this installation."
  value       = var.name
}

output "aws_region" {
  description = "Region of everything here."
  value       = var.aws_region
}

output "account_id" {
  description = "Account of everything here."
  value       = local.account_id
}

output "log_bucket" {
  description = "Bucket that CloudFront delivers to."
  value       = aws_s3_bucket.logs.id
}

output "log_bucket_arn" {
  description = "Its ARN: the destination of a delivery."
  value       = aws_s3_bucket.logs.arn
}

output "log_prefix" {
  description = "What the key of every delivered log begins with."
  value       = local.log_prefix
}

output "function_name" {
  description = "The function."
  value       = aws_lambda_function.bootstrap.function_name
}

output "function_arn" {
  description = "Its ARN."
  value       = aws_lambda_function.bootstrap.arn
}

output "log_group_name" {
  description = "Where the function's log lines go."
  value       = aws_cloudwatch_log_group.function.name
}

output "work_queue_url" {
  description = "Queue of the work to do."
  value       = aws_sqs_queue.work.url
}

output "work_queue_arn" {
  description = "Its ARN."
  value       = aws_sqs_queue.work.arn
}

output "dead_letter_queue_url" {
  description = "Queue of the work that was given up."
  value       = aws_sqs_queue.dead_letters.url
}

output "dead_letter_queue_arn" {
  description = "Its ARN."
  value       = aws_sqs_queue.dead_letters.arn
}

output "secret_arn" {
  description = "ARN of the secret that holds the bridge's credentials."
  value       = aws_secretsmanager_secret.bridge.arn
}

output "existing_log_sources" {
  description = "Buckets of others whose logs are read."
  value       = var.existing_log_sources
}

output "log_level" {
  description = "The function's LOG_LEVEL."
  value       = coalesce(var.log_level, "info")
}

output "kms_key_policy_statements" {
  description = "What the policy of the key kms_key_arn must hold: who besides this account's roles uses it, and how. null without such a key."
  value = var.kms_key_arn == null ? null : jsonencode([
    {
      Sid       = "EdgetapLogDelivery"
      Effect    = "Allow"
      Principal = { Service = "delivery.logs.amazonaws.com" }
      Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
      Resource  = "*"
      Condition = {
        StringEquals = { "aws:SourceAccount" = [local.account_id] }
        ArnLike      = { "aws:SourceArn" = [local.delivery_sources] }
      }
    },
    {
      Sid       = "EdgetapWorkQueue"
      Effect    = "Allow"
      Principal = { Service = concat(["s3.amazonaws.com"], length(var.existing_log_sources) > 0 ? ["events.amazonaws.com"] : [], length(var.existing_sns_topics) > 0 ? ["sns.amazonaws.com"] : []) }
      Action    = ["kms:Decrypt", "kms:GenerateDataKey*"]
      Resource  = "*"
    },
  ])
}
