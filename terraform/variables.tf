# Variables of the module, with the same names. modules/edgetap/README.md describes them, and
# modules/edgetap/variables.tf has their types, defaults and validations: null selects the default.
# A variable without a type also accepts a number as a string, as TF_VAR_… and -var pass it.
#
# scripts/setup-tfvars.sh writes edgetap.auto.tfvars and secret.auto.tfvars from .env. Set the
# others in mine.auto.tfvars. All have defaults, so that `terraform destroy` needs no file.

variable "aws_region" {
  default  = "us-east-1"
  nullable = false
}

variable "name" {
  default  = "edgetap"
  nullable = false
}

variable "tags" {
  type    = any
  default = null
}

variable "kms_key_arn" { default = null }

variable "bridge_auth_endpoint" { default = null }

variable "bridge_edge_endpoint" { default = null }

variable "bridge_credentials" {
  type      = any
  default   = null
  ephemeral = true
  sensitive = true
}

variable "secret_version" { default = null }

variable "bridge_auth_method" { default = null }

variable "bridge_token_parameters" { default = null }

variable "bridge_concurrency" { default = null }

variable "batch_max_transactions" { default = null }

variable "batch_max_bytes" { default = null }

variable "static_extensions" { default = null }

variable "include_paths" { default = null }

variable "exclude_paths" { default = null }

variable "redact" { default = null }

variable "redact_cookies" { default = null }

variable "retry_for" { default = null }

variable "log_level" { default = null }

variable "lambda_zip" {
  default  = "../target/lambda/bootstrap.zip"
  nullable = false
}

variable "architecture" { default = null }

variable "memory_size" { default = null }

variable "ephemeral_storage" { default = null }

variable "timeout" { default = null }

variable "batch_size" { default = null }

variable "batching_window" { default = null }

variable "maximum_concurrency" { default = null }

variable "backfill_concurrency" { default = null }

variable "reserved_concurrency" { default = null }

variable "environment" {
  type    = any
  default = null
}

variable "permissions_boundary" { default = null }

variable "vpc" {
  type    = any
  default = null
}

variable "secret_recovery_window_days" { default = null }

variable "log_expiration_days" { default = null }

variable "log_retention_days" { default = null }

variable "force_destroy" { default = null }

variable "source_account_ids" {
  type    = any
  default = null
}

variable "existing_log_sources" {
  type    = any
  default = null
}

variable "backfill_sources" {
  type    = any
  default = null
}

variable "existing_sns_topics" {
  type    = any
  default = null
}

variable "alarm_topic_arn" { default = null }

variable "no_object_alarm_hours" { default = null }
