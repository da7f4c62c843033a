# An installation in a log account, for the distributions of other accounts.
#
# In each of those accounts, run with its credentials:
#   scripts/enable.sh --destination-arn ARN --distribution ID
# ARN is the output delivery_destination_arn.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
  region = "eu-central-1"
}

# CloudFront's log deliveries are configured in us-east-1.
provider "aws" {
  alias  = "us_east_1"
  region = "us-east-1"
}

variable "bridge_credentials" {
  description = "OAuth client ID and secret. Written to Secrets Manager whenever secret_version changes."
  type        = object({ client_id = string, client_secret = string })
  default     = null
  ephemeral   = true
  sensitive   = true
}

module "edgetap" {
  source = "../../modules/edgetap"

  providers = {
    aws           = aws
    aws.us_east_1 = aws.us_east_1
  }

  name       = "edgetap"
  lambda_zip = "../../../target/lambda/bootstrap.zip"

  bridge_auth_endpoint = "https://auth.example.com/oauth2/token"
  bridge_edge_endpoint = "https://edge.example.com"
  bridge_credentials   = var.bridge_credentials
  secret_version       = 1

  source_account_ids   = ["222233334444", "333344445555"]
  permissions_boundary = "arn:aws:iam::111122223333:policy/boundary"
  environment          = { HTTPS_PROXY = "http://proxy.internal.example.com:3128" }
  tags                 = { team = "security" }

  alarm_topic_arn = "arn:aws:sns:eu-central-1:111122223333:on-call"
}

output "delivery_destination_arn" {
  value = module.edgetap.delivery_destination_arn
}
