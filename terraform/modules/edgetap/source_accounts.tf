# Logs of distributions in other accounts (source_account_ids). bucket.tf lets their log deliveries
# write; this file lets them create deliveries, which scripts/enable.sh --destination-arn does.

locals {
  # Without this account, which needs no permission of its own.
  source_accounts = sort(setsubtract(var.source_account_ids, [local.account_id]))
}

data "aws_region" "deliveries" {
  provider = aws.us_east_1
}

resource "aws_cloudwatch_log_delivery_destination" "accounts" {
  count    = length(local.source_accounts) > 0 ? 1 : 0
  provider = aws.us_east_1

  name          = "edgetap-${var.name}-accounts"
  output_format = "w3c"
  tags          = local.tags

  delivery_destination_configuration {
    destination_resource_arn = aws_s3_bucket.logs.arn
  }

  lifecycle {
    precondition {
      condition     = data.aws_region.deliveries.id == "us-east-1"
      error_message = "The provider aws.us_east_1 must be configured for us-east-1, where CloudFront's log deliveries are."
    }
  }

  depends_on = [aws_s3_bucket_policy.logs]
}

# AWS's documented policy for deliveries from other accounts:
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/vended-logs-crossaccount-example.html
resource "aws_cloudwatch_log_delivery_destination_policy" "accounts" {
  count    = length(aws_cloudwatch_log_delivery_destination.accounts)
  provider = aws.us_east_1

  delivery_destination_name = aws_cloudwatch_log_delivery_destination.accounts[0].name

  delivery_destination_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AllowCreateDelivery"
      Effect    = "Allow"
      Principal = { AWS = [for account in local.source_accounts : "arn:aws:iam::${account}:root"] }
      Action    = ["logs:CreateDelivery"]
      Resource  = aws_cloudwatch_log_delivery_destination.accounts[0].arn
    }]
  })
}
