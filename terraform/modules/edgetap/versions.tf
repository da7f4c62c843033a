# Versions of Terraform and the AWS provider, and the providers that the caller configures.
#
# Tested with Terraform 1.11.4 and provider 5.100.0 on x86_64 Linux. Write-only arguments need
# Terraform 1.11. With providers 6.22 to 6.39 each plan changes the bucket's encryption: they remove
# blocked_encryption_types, which AWS sets again. Earlier providers do not know this argument, and
# later ones keep it, so it cannot be set here.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"

      # CloudFront's log deliveries are configured in us-east-1, wherever the installation is. With
      # aws in this list too, a caller who passes only one of the two gets an error.
      configuration_aliases = [aws, aws.us_east_1]
    }
  }
}

data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

data "aws_default_tags" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  region     = data.aws_region.current.id

  # Tags of every resource, without those that the provider sets by itself (default_tags). The
  # scripts find resources by the tag edgetap.
  all_tags = merge(var.tags, { edgetap = var.name, managed-by = "terraform" })
  tags     = { for key, value in local.all_tags : key => value if lookup(data.aws_default_tags.current.tags, key, null) != value }
}
