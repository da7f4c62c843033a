# Outputs of the module, with the same names. modules/edgetap/outputs.tf describes them.

output "name" { value = module.edgetap.name }

output "aws_region" { value = module.edgetap.aws_region }

output "account_id" { value = module.edgetap.account_id }

output "log_bucket" { value = module.edgetap.log_bucket }

output "log_bucket_arn" { value = module.edgetap.log_bucket_arn }

output "log_prefix" { value = module.edgetap.log_prefix }

output "delivery_destination_arn" { value = module.edgetap.delivery_destination_arn }

output "source_account_ids" { value = module.edgetap.source_account_ids }

output "function_name" { value = module.edgetap.function_name }

output "function_arn" { value = module.edgetap.function_arn }

output "event_source_mapping_uuid" { value = module.edgetap.event_source_mapping_uuid }

output "log_group_name" { value = module.edgetap.log_group_name }

output "work_queue_url" { value = module.edgetap.work_queue_url }

output "work_queue_arn" { value = module.edgetap.work_queue_arn }

output "dead_letter_queue_url" { value = module.edgetap.dead_letter_queue_url }

output "dead_letter_queue_arn" { value = module.edgetap.dead_letter_queue_arn }

output "backfill_concurrency" { value = module.edgetap.backfill_concurrency }

output "backfill_queue_url" { value = module.edgetap.backfill_queue_url }

output "backfill_queue_arn" { value = module.edgetap.backfill_queue_arn }

output "backfill_dead_letter_queue_url" { value = module.edgetap.backfill_dead_letter_queue_url }

output "backfill_dead_letter_queue_arn" { value = module.edgetap.backfill_dead_letter_queue_arn }

output "backfill_event_source_mapping_uuid" { value = module.edgetap.backfill_event_source_mapping_uuid }

output "backfill_sources" { value = module.edgetap.backfill_sources }

output "log_expiration_days" { value = module.edgetap.log_expiration_days }

output "secret_arn" { value = module.edgetap.secret_arn }

output "existing_log_sources" { value = module.edgetap.existing_log_sources }

output "existing_sns_topics" { value = module.edgetap.existing_sns_topics }

output "log_level" { value = module.edgetap.log_level }

output "kms_key_policy_statements" { value = module.edgetap.kms_key_policy_statements }
