# Versions of Terraform and the AWS provider. This is a root module, which the scripts run directly.
#
# Tested with Terraform 1.11.4 and provider 5.100.0 on x86_64 Linux. Write-only arguments need
# Terraform 1.11.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

provider "aws" {
  region = var.aws_region

  # scripts/disable.sh finds leftovers by these tags.
  default_tags {
    tags = merge(var.tags, { edgetap = var.name, managed-by = "terraform" })
  }
}

data "aws_caller_identity" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
}
