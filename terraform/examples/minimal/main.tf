# One installation, with the settings that every installation needs. In us-east-1 both providers of
# the module are the same.
#
# The first apply needs the credentials, for example from the environment:
#   TF_VAR_bridge_credentials='{client_id="…",client_secret="…"}'

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

provider "aws" {
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
    aws.us_east_1 = aws
  }

  name       = "edgetap"
  lambda_zip = "../../../target/lambda/bootstrap.zip"

  bridge_auth_endpoint = "https://auth.example.com/oauth2/token"
  bridge_edge_endpoint = "https://edge.example.com"
  bridge_credentials   = var.bridge_credentials
  secret_version       = 1

  alarm_topic_arn = "arn:aws:sns:us-east-1:111122223333:on-call"
}

output "log_bucket_arn" {
  value = module.edgetap.log_bucket_arn
}
