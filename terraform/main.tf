# The installation that `terraform apply` and the scripts work on: one module and its providers.
# examples/ shows the module in a configuration of your own.

# The module says which versions.
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  region = var.aws_region

  default_tags {
    tags = local.tags
  }
}

provider "aws" {
  alias  = "us_east_1"
  region = "us-east-1"

  default_tags {
    tags = local.tags
  }
}

locals {
  # As the module tags each resource: what the provider tags, the module leaves out.
  tags = merge(var.tags, { edgetap = var.name, managed-by = "terraform" })
}

module "edgetap" {
  source = "./modules/edgetap"

  providers = {
    aws           = aws
    aws.us_east_1 = aws.us_east_1
  }

  name                        = var.name
  tags                        = var.tags
  kms_key_arn                 = var.kms_key_arn
  bridge_auth_endpoint        = var.bridge_auth_endpoint
  bridge_edge_endpoint        = var.bridge_edge_endpoint
  bridge_credentials          = var.bridge_credentials
  secret_version              = var.secret_version
  bridge_auth_method          = var.bridge_auth_method
  bridge_token_parameters     = var.bridge_token_parameters
  bridge_concurrency          = var.bridge_concurrency
  batch_max_transactions      = var.batch_max_transactions
  batch_max_bytes             = var.batch_max_bytes
  static_extensions           = var.static_extensions
  include_paths               = var.include_paths
  exclude_paths               = var.exclude_paths
  redact                      = var.redact
  redact_cookies              = var.redact_cookies
  retry_for                   = var.retry_for
  log_level                   = var.log_level
  lambda_zip                  = var.lambda_zip
  architecture                = var.architecture
  memory_size                 = var.memory_size
  ephemeral_storage           = var.ephemeral_storage
  timeout                     = var.timeout
  batch_size                  = var.batch_size
  batching_window             = var.batching_window
  maximum_concurrency         = var.maximum_concurrency
  backfill_concurrency        = var.backfill_concurrency
  reserved_concurrency        = var.reserved_concurrency
  environment                 = var.environment
  permissions_boundary        = var.permissions_boundary
  vpc                         = var.vpc
  secret_recovery_window_days = var.secret_recovery_window_days
  log_expiration_days         = var.log_expiration_days
  log_retention_days          = var.log_retention_days
  force_destroy               = var.force_destroy
  source_account_ids          = var.source_account_ids
  existing_log_sources        = var.existing_log_sources
  backfill_sources            = var.backfill_sources
  existing_sns_topics         = var.existing_sns_topics
  alarm_topic_arn             = var.alarm_topic_arn
  no_object_alarm_hours       = var.no_object_alarm_hours
}
