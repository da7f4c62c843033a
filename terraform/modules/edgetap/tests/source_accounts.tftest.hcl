# Logs of distributions in other accounts.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

mock_provider "aws" {
  alias           = "us_east_1"
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name                 = "edgetap"
  lambda_zip           = "versions.tf" # any existing file: a plan does not upload it
  bridge_auth_endpoint = "https://auth.example"
  bridge_edge_endpoint = "https://edge.example"
  bridge_credentials   = { client_id = "id", client_secret = "secret" }
  alarm_topic_arn      = "arn:aws:sns:us-east-1:111122223333:on-call"
}

run "without_source_accounts_there_is_no_destination" {
  command = plan

  assert {
    condition     = length(aws_cloudwatch_log_delivery_destination.accounts) == 0 && output.delivery_destination_arn == null
    error_message = "a destination must exist for source accounts only"
  }
}

run "source_accounts_may_deliver" {
  command = plan

  variables {
    source_account_ids = ["333344445555", "222233334444", "111122223333", "222233334444"] # with this account, and one twice
    kms_key_arn        = "arn:aws:kms:us-east-1:111122223333:key/OWN"
  }

  # permissions.tftest.hcl compares this account's statements, which come first.
  assert {
    condition     = [for statement in jsondecode(aws_s3_bucket_policy.logs.policy).Statement : statement.Sid] == ["AWSLogDeliveryWrite", "LogDeliveryWithoutAcl", "AWSLogDeliveryWriteSourceAccounts", "LogDeliveryWithoutAclSourceAccounts", "TlsOnly"]
    error_message = aws_s3_bucket_policy.logs.policy
  }

  assert {
    condition = [for statement in jsondecode(aws_s3_bucket_policy.logs.policy).Statement : [statement.Principal, statement.Action, statement.Resource, statement.Condition] if endswith(statement.Sid, "SourceAccounts")] == [
      [
        { Service = "delivery.logs.amazonaws.com" }, "s3:PutObject", ["arn:aws:s3:::LOG-BUCKET/AWSLogs/222233334444/*", "arn:aws:s3:::LOG-BUCKET/AWSLogs/333344445555/*"],
        {
          StringEquals = { "s3:x-amz-acl" = "bucket-owner-full-control", "aws:SourceAccount" = ["222233334444", "333344445555"] }
          ArnLike      = { "aws:SourceArn" = ["arn:aws:logs:us-east-1:222233334444:delivery-source:*", "arn:aws:logs:us-east-1:333344445555:delivery-source:*"] }
        },
      ],
      [
        { Service = "delivery.logs.amazonaws.com" }, "s3:PutObject", ["arn:aws:s3:::LOG-BUCKET/AWSLogs/222233334444/*", "arn:aws:s3:::LOG-BUCKET/AWSLogs/333344445555/*"],
        {
          StringEquals         = { "aws:SourceAccount" = ["222233334444", "333344445555"] }
          StringEqualsIfExists = { "s3:x-amz-acl" = "bucket-owner-full-control" }
          ArnLike              = { "aws:SourceArn" = ["arn:aws:logs:us-east-1:222233334444:delivery-source:*", "arn:aws:logs:us-east-1:333344445555:delivery-source:*"] }
        },
      ],
    ]
    error_message = aws_s3_bucket_policy.logs.policy
  }

  assert {
    condition     = [for queue in aws_s3_bucket_notification.logs.queue : [queue.id, queue.filter_prefix]] == [["work", "AWSLogs/111122223333/CloudFront/"], ["work-222233334444", "AWSLogs/222233334444/CloudFront/"], ["work-333344445555", "AWSLogs/333344445555/CloudFront/"]]
    error_message = "the bucket must notify the queue of every account's logs"
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.function.policy).Statement : statement.Resource if statement.Sid == "ReadLogs"] == [[for account in ["111122223333", "222233334444", "333344445555"] : "arn:aws:s3:::LOG-BUCKET/AWSLogs/${account}/CloudFront/*"]]
    error_message = aws_iam_role_policy.function.policy
  }

  assert {
    condition = jsondecode(output.kms_key_policy_statements)[0].Condition == {
      StringEquals = { "aws:SourceAccount" = ["111122223333", "222233334444", "333344445555"] }
      ArnLike      = { "aws:SourceArn" = [for account in ["111122223333", "222233334444", "333344445555"] : "arn:aws:logs:us-east-1:${account}:delivery-source:*"] }
    }
    error_message = output.kms_key_policy_statements
  }

  assert {
    condition     = [for name in ["name", "output_format"] : aws_cloudwatch_log_delivery_destination.accounts[0][name]] == ["edgetap-edgetap-accounts", "w3c"]
    error_message = "scripts/enable.sh reads the installation's name from the destination's"
  }

  assert {
    condition     = aws_cloudwatch_log_delivery_destination.accounts[0].delivery_destination_configuration[0].destination_resource_arn == "arn:aws:s3:::LOG-BUCKET"
    error_message = "the destination must be the log bucket"
  }

  # AWS's documented policy.
  assert {
    condition = jsondecode(aws_cloudwatch_log_delivery_destination_policy.accounts[0].delivery_destination_policy).Statement == [{
      Sid       = "AllowCreateDelivery"
      Effect    = "Allow"
      Principal = { AWS = ["arn:aws:iam::222233334444:root", "arn:aws:iam::333344445555:root"] }
      Action    = ["logs:CreateDelivery"]
      Resource  = "arn:aws:logs:us-east-1:111122223333:delivery-destination:DESTINATION"
    }]
    error_message = aws_cloudwatch_log_delivery_destination_policy.accounts[0].delivery_destination_policy
  }

  assert {
    condition     = output.delivery_destination_arn == "arn:aws:logs:us-east-1:111122223333:delivery-destination:DESTINATION"
    error_message = "the output must be the destination's ARN"
  }

  assert {
    condition     = output.source_account_ids == tolist(["222233334444", "333344445555"])
    error_message = "scripts/disable.sh --destroy names the other accounts"
  }
}

run "fifty_accounts_fit_the_limits" {
  command = plan

  variables {
    source_account_ids = [for index in range(50) : format("%012d", index)]
  }

  # LOG-BUCKET has 53 characters less than the longest name of a bucket. The bucket's policy has it
  # twice for each account and four times more, the role's once for each and twice more.
  assert {
    condition     = length(aws_s3_bucket_policy.logs.policy) + 53 * (2 * 50 + 4) <= 20480
    error_message = "a bucket's policy has at most 20 KB"
  }

  assert {
    condition     = length(aws_iam_role_policy.function.policy) + 53 * (50 + 2) <= 10240
    error_message = "a role's inline policies have at most 10,240 characters"
  }
}

run "destination_in_another_region_is_rejected" {
  command = plan

  variables {
    source_account_ids = ["222233334444"]
  }

  override_data {
    target = data.aws_region.deliveries
    values = { id = "eu-central-1" }
  }

  expect_failures = [aws_cloudwatch_log_delivery_destination.accounts]
}

run "account_name_is_rejected" {
  command = plan

  variables {
    source_account_ids = ["production"]
  }

  expect_failures = [var.source_account_ids]
}

run "fifty_one_accounts_are_rejected" {
  command = plan

  variables {
    source_account_ids = [for index in range(51) : format("%012d", index)]
  }

  expect_failures = [var.source_account_ids]
}
