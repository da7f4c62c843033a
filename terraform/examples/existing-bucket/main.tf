# An installation in eu-central-1 that reads the logs which distributions already deliver to a bucket
# there. S3 sends the bucket's events to EventBridge.

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

  existing_log_sources = [{ bucket = "their-logs", prefix = "cloudfront/" }]

  alarm_topic_arn = "arn:aws:sns:eu-central-1:111122223333:on-call"
}

# Replaces the bucket's whole notification configuration. If the bucket has one, add `eventbridge =
# true` where it is managed, or run scripts/watch-bucket.sh, which keeps the rest.
resource "aws_s3_bucket_notification" "their_logs" {
  bucket      = "their-logs"
  eventbridge = true
}
