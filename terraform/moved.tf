# A state that was made when terraform/ held the resources itself moves without a change.

moved {
  from = aws_cloudwatch_metric_alarm.alarm
  to   = module.edgetap.aws_cloudwatch_metric_alarm.alarm
}

moved {
  from = aws_cloudwatch_metric_alarm.nothing_sent
  to   = module.edgetap.aws_cloudwatch_metric_alarm.nothing_sent
}

moved {
  from = aws_cloudwatch_metric_alarm.no_object
  to   = module.edgetap.aws_cloudwatch_metric_alarm.no_object
}

moved {
  from = aws_s3_bucket.logs
  to   = module.edgetap.aws_s3_bucket.logs
}

moved {
  from = aws_s3_bucket_public_access_block.logs
  to   = module.edgetap.aws_s3_bucket_public_access_block.logs
}

moved {
  from = aws_s3_bucket_ownership_controls.logs
  to   = module.edgetap.aws_s3_bucket_ownership_controls.logs
}

moved {
  from = aws_s3_bucket_server_side_encryption_configuration.logs
  to   = module.edgetap.aws_s3_bucket_server_side_encryption_configuration.logs
}

moved {
  from = aws_s3_bucket_lifecycle_configuration.logs
  to   = module.edgetap.aws_s3_bucket_lifecycle_configuration.logs
}

moved {
  from = aws_s3_bucket_policy.logs
  to   = module.edgetap.aws_s3_bucket_policy.logs
}

moved {
  from = aws_s3_bucket_notification.logs
  to   = module.edgetap.aws_s3_bucket_notification.logs
}

moved {
  from = aws_cloudwatch_dashboard.edgetap
  to   = module.edgetap.aws_cloudwatch_dashboard.edgetap
}

moved {
  from = aws_cloudwatch_event_rule.existing_logs
  to   = module.edgetap.aws_cloudwatch_event_rule.existing_logs
}

moved {
  from = aws_cloudwatch_event_target.existing_logs
  to   = module.edgetap.aws_cloudwatch_event_target.existing_logs
}

moved {
  from = aws_sns_topic_subscription.existing_logs
  to   = module.edgetap.aws_sns_topic_subscription.existing_logs
}

moved {
  from = aws_cloudwatch_log_group.function
  to   = module.edgetap.aws_cloudwatch_log_group.function
}

moved {
  from = aws_lambda_function.bootstrap
  to   = module.edgetap.aws_lambda_function.bootstrap
}

moved {
  from = aws_lambda_function_recursion_config.bootstrap
  to   = module.edgetap.aws_lambda_function_recursion_config.bootstrap
}

moved {
  from = aws_lambda_event_source_mapping.work
  to   = module.edgetap.aws_lambda_event_source_mapping.work
}

moved {
  from = aws_iam_role.function
  to   = module.edgetap.aws_iam_role.function
}

moved {
  from = aws_iam_role_policy.function
  to   = module.edgetap.aws_iam_role_policy.function
}

moved {
  from = aws_sqs_queue.work
  to   = module.edgetap.aws_sqs_queue.work
}

moved {
  from = aws_sqs_queue_policy.work
  to   = module.edgetap.aws_sqs_queue_policy.work
}

moved {
  from = aws_sqs_queue.dead_letters
  to   = module.edgetap.aws_sqs_queue.dead_letters
}

moved {
  from = aws_sqs_queue_policy.dead_letters
  to   = module.edgetap.aws_sqs_queue_policy.dead_letters
}

moved {
  from = aws_secretsmanager_secret.bridge
  to   = module.edgetap.aws_secretsmanager_secret.bridge
}

moved {
  from = aws_secretsmanager_secret_version.bridge
  to   = module.edgetap.aws_secretsmanager_secret_version.bridge
}

moved {
  from = terraform_data.credentials_written
  to   = module.edgetap.terraform_data.credentials_written
}
