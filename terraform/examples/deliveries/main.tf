# Log deliveries managed by Terraform instead of scripts/enable.sh, which leaves them alone: they do
# not have the tag edgetap. All are in us-east-1, wherever the bucket is.
#
# For a distribution of another account, its Terraform needs the source and the delivery only, with
# the output delivery_destination_arn of the log account (source_account_ids).

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

variable "distributions" {
  description = "IDs of distributions of this account."
  type        = set(string)
  default     = ["E27FO14I29XXXX"]
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

  alarm_topic_arn = "arn:aws:sns:eu-central-1:111122223333:on-call"
}

data "aws_caller_identity" "current" {}

locals {
  fields = [for line in split("\n", file("${path.module}/../../../scripts/record-fields.txt")) : line if line != "" && !startswith(line, "#")]
}

resource "aws_cloudwatch_log_delivery_destination" "edgetap" {
  provider = aws.us_east_1

  name          = "edgetap-${module.edgetap.name}"
  output_format = "w3c"

  delivery_destination_configuration {
    destination_resource_arn = module.edgetap.log_bucket_arn
  }
}

resource "aws_cloudwatch_log_delivery_source" "distribution" {
  for_each = var.distributions
  provider = aws.us_east_1

  name         = "edgetap-${module.edgetap.name}-${each.key}"
  log_type     = "ACCESS_LOGS"
  resource_arn = "arn:aws:cloudfront::${data.aws_caller_identity.current.account_id}:distribution/${each.key}"
}

# When a delivery is created, AWS puts AWSLogs/ACCOUNT/CloudFront/ before suffix_path: edgetap reads
# keys with this prefix only. An update would remove it, so a change of fields replaces the delivery.
resource "aws_cloudwatch_log_delivery" "distribution" {
  for_each = aws_cloudwatch_log_delivery_source.distribution
  provider = aws.us_east_1

  delivery_source_name     = each.value.name
  delivery_destination_arn = aws_cloudwatch_log_delivery_destination.edgetap.arn
  record_fields            = local.fields

  s3_delivery_configuration = [{
    suffix_path                 = "{DistributionId}/{yyyy}/{MM}/{dd}/{HH}"
    enable_hive_compatible_path = false
  }]

  lifecycle {
    replace_triggered_by = [terraform_data.fields]
  }
}

resource "terraform_data" "fields" {
  input = local.fields
}
