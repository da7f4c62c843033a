# An installation per bridge. Their names differ, and the name begins that of each resource.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  region = "us-east-1"
}

locals {
  installations = {
    edgetap-production = { edge = "https://edge.example.com", topic = "on-call" }
    edgetap-staging    = { edge = "https://edge.staging.example.com", topic = "staging" }
  }
}

variable "bridge_credentials" {
  description = "OAuth client ID and secret by name of the installation."
  type        = map(object({ client_id = string, client_secret = string }))
  default     = {}
  ephemeral   = true
  sensitive   = true
}

module "edgetap" {
  source   = "../../modules/edgetap"
  for_each = local.installations

  providers = {
    aws           = aws
    aws.us_east_1 = aws
  }

  name       = each.key
  lambda_zip = "../../../target/lambda/bootstrap.zip"

  bridge_auth_endpoint = "https://auth.example.com/oauth2/token"
  bridge_edge_endpoint = each.value.edge
  bridge_credentials   = lookup(var.bridge_credentials, each.key, null)
  secret_version       = 1

  alarm_topic_arn = "arn:aws:sns:us-east-1:111122223333:${each.value.topic}"
}

output "log_bucket_arns" {
  value = { for name, installation in module.edgetap : name => installation.log_bucket_arn }
}
