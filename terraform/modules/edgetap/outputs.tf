# Outputs for the scripts and the operator. terraform/outputs.tf passes them on.

output "name" {
  description = "Name of the installation"
  value       = var.name
}

output "aws_region" {
  description = "Region of the installation"
  value       = local.region
}

output "account_id" {
  description = "ID of the AWS account"
  value       = local.account_id
}

output "log_bucket" {
  description = "Name of the log bucket, to which CloudFront delivers"
  value       = aws_s3_bucket.logs.id
}

output "log_bucket_arn" {
  description = "ARN of the log bucket, the destination of log deliveries"
  value       = aws_s3_bucket.logs.arn
}

output "log_prefix" {
  description = "Prefix of the keys of delivered logs"
  value       = local.log_prefix
}

output "delivery_destination_arn" {
  description = "ARN of the delivery destination for source_account_ids; null without source accounts"
  value       = one(aws_cloudwatch_log_delivery_destination.accounts[*].arn)

  depends_on = [aws_cloudwatch_log_delivery_destination_policy.accounts]
}

output "source_account_ids" {
  description = "Other accounts whose distributions may deliver to the log bucket"
  value       = local.source_accounts
}

output "function_name" {
  description = "Name of the function"
  value       = aws_lambda_function.bootstrap.function_name
}

output "function_arn" {
  description = "ARN of the function"
  value       = aws_lambda_function.bootstrap.arn
}

output "event_source_mapping_uuid" {
  description = "ID of the event source mapping from the work queue to the function"
  value       = aws_lambda_event_source_mapping.work.uuid
}

output "log_group_name" {
  description = "Name of the function's log group"
  value       = aws_cloudwatch_log_group.function.name
}

output "work_queue_url" {
  description = "URL of the work queue, which holds logs to deliver"
  value       = aws_sqs_queue.work.url
}

output "work_queue_arn" {
  description = "ARN of the work queue"
  value       = aws_sqs_queue.work.arn
}

output "dead_letter_queue_url" {
  description = "URL of the dead-letter queue, which holds logs that could not be delivered"
  value       = aws_sqs_queue.dead_letters.url
}

output "dead_letter_queue_arn" {
  description = "ARN of the dead-letter queue"
  value       = aws_sqs_queue.dead_letters.arn
}

output "backfill_concurrency" {
  description = "Function instances that can deliver logs of the backfill queue at once; 0 without backfill queue"
  value       = var.backfill_concurrency
}

output "backfill_queue_url" {
  description = "URL of the backfill queue; null without backfill_concurrency"
  value       = one(aws_sqs_queue.backfill[*].url)
}

output "backfill_queue_arn" {
  description = "ARN of the backfill queue; null without backfill_concurrency"
  value       = one(aws_sqs_queue.backfill[*].arn)
}

output "backfill_dead_letter_queue_url" {
  description = "URL of the backfill's dead-letter queue; null without backfill_concurrency"
  value       = one(aws_sqs_queue.backfill_dead_letters[*].url)
}

output "backfill_dead_letter_queue_arn" {
  description = "ARN of the backfill's dead-letter queue; null without backfill_concurrency"
  value       = one(aws_sqs_queue.backfill_dead_letters[*].arn)
}

output "backfill_event_source_mapping_uuid" {
  description = "ID of the event source mapping from the backfill queue; null without backfill_concurrency"
  value       = one(aws_lambda_event_source_mapping.backfill[*].uuid)
}

output "backfill_sources" {
  description = "More buckets whose logs scripts/backfill.sh may send"
  value       = var.backfill_sources
}

output "log_expiration_days" {
  description = "Days until an access log in the log bucket expires"
  value       = var.log_expiration_days
}

output "secret_arn" {
  description = "ARN of the secret with the bridge's credentials"
  value       = aws_secretsmanager_secret.bridge.arn
}

output "existing_log_sources" {
  description = "Existing buckets from which edgetap reads logs"
  value       = var.existing_log_sources
}

output "existing_sns_topics" {
  description = "SNS topics that carry the events of existing buckets"
  value       = var.existing_sns_topics
}

output "log_level" {
  description = "Log level of the function"
  value       = coalesce(var.log_level, "info")
}

output "kms_key_policy_statements" {
  description = "Statements, as JSON, that the policy of kms_key_arn must contain; null without kms_key_arn"
  value = var.kms_key_arn == null ? null : jsonencode([
    # Log delivery and the senders of messages use the key.
    {
      Sid       = "EdgetapLogDelivery"
      Effect    = "Allow"
      Principal = { Service = "delivery.logs.amazonaws.com" }
      Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
      Resource  = "*"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.log_accounts }
        ArnLike      = { "aws:SourceArn" = local.delivery_sources }
      }
    },
    {
      Sid    = "EdgetapWorkQueue"
      Effect = "Allow"
      Principal = {
        Service = concat(
          ["s3.amazonaws.com"],
          length(var.existing_log_sources) > 0 ? ["events.amazonaws.com"] : [],
          length(var.existing_sns_topics) > 0 ? ["sns.amazonaws.com"] : [],
        )
      }
      Action   = ["kms:Decrypt", "kms:GenerateDataKey*"]
      Resource = "*"
    },
  ])
}
