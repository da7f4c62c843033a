# Permissions of the function, of senders to the queues, and of writers to the bucket.

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

run "function_has_exactly_these_permissions" {
  command = plan

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.function.policy).Statement : statement.Sid => [statement.Effect, statement.Action, statement.Resource] } == {
      ReadLogs          = ["Allow", ["s3:GetObject", "s3:GetObjectVersion"], ["arn:aws:s3:::LOG-BUCKET/AWSLogs/111122223333/CloudFront/*"]]
      ReportMissingLogs = ["Allow", ["s3:ListBucket"], ["arn:aws:s3:::LOG-BUCKET"]]
      ReadCredentials   = ["Allow", ["secretsmanager:GetSecretValue"], ["arn:aws:secretsmanager:us-east-1:111122223333:secret:SECRET"]]
      Work              = ["Allow", ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility", "sqs:SendMessage"], ["arn:aws:sqs:us-east-1:111122223333:WORK"]]
      DeadLetters       = ["Allow", ["sqs:SendMessage"], ["arn:aws:sqs:us-east-1:111122223333:DEAD-LETTERS"]]
      OwnLogGroup       = ["Allow", ["logs:CreateLogStream", "logs:PutLogEvents"], ["arn:aws:logs:us-east-1:111122223333:log-group:LOG-GROUP:*"]]
    }
    error_message = aws_iam_role_policy.function.policy
  }

  assert {
    condition = jsondecode(aws_iam_role.function.assume_role_policy).Statement == [
      { Effect = "Allow", Principal = { Service = "lambda.amazonaws.com" }, Action = "sts:AssumeRole" }
    ]
    error_message = "only Lambda can assume the function's role: ${aws_iam_role.function.assume_role_policy}"
  }
}

run "options_add_their_permissions_only" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:us-east-1:111122223333:key/OWN"
    vpc         = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
    existing_log_sources = [
      { bucket = "theirs", prefix = "cloudfront/", kms_key_arn = "arn:aws:kms:us-east-1:111122223333:key/THEIRS" },
      { bucket = "theirs", prefix = "more/" },
      { bucket = "others", region = "us-east-1" },
    ]
  }

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.function.policy).Statement : statement.Sid => statement.Resource } == {
      ReadLogs           = ["arn:aws:s3:::LOG-BUCKET/AWSLogs/111122223333/CloudFront/*", "arn:aws:s3:::theirs/cloudfront/*", "arn:aws:s3:::theirs/more/*", "arn:aws:s3:::others/*"]
      ReportMissingLogs  = ["arn:aws:s3:::LOG-BUCKET", "arn:aws:s3:::theirs", "arn:aws:s3:::others"]
      ReadCredentials    = ["arn:aws:secretsmanager:us-east-1:111122223333:secret:SECRET"]
      Work               = ["arn:aws:sqs:us-east-1:111122223333:WORK"]
      DeadLetters        = ["arn:aws:sqs:us-east-1:111122223333:DEAD-LETTERS"]
      OwnLogGroup        = ["arn:aws:logs:us-east-1:111122223333:log-group:LOG-GROUP:*"]
      OwnKey             = ["arn:aws:kms:us-east-1:111122223333:key/OWN"]
      KeysOfExistingLogs = ["arn:aws:kms:us-east-1:111122223333:key/THEIRS"]
      Vpc                = ["*"]
    }
    error_message = aws_iam_role_policy.function.policy
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.function.policy).Statement : statement.Action if statement.Sid == "KeysOfExistingLogs"] == [["kms:Decrypt"]]
    error_message = "keys of existing logs must allow decryption only"
  }

  assert {
    condition     = alltrue([for queue in [aws_sqs_queue.work, aws_sqs_queue.dead_letters] : queue.kms_master_key_id == var.kms_key_arn])
    error_message = "kms_key_arn must encrypt the queues too"
  }

  assert {
    condition     = aws_secretsmanager_secret.bridge.kms_key_id == var.kms_key_arn
    error_message = "kms_key_arn must encrypt the secret too"
  }

  assert {
    condition = alltrue([
      for service in ["delivery.logs.amazonaws.com", "events.amazonaws.com"] : strcontains(output.kms_key_policy_statements, service)
    ])
    error_message = "kms_key_policy_statements must name log delivery and EventBridge"
  }
}

run "only_the_log_bucket_sends_to_the_queue" {
  command = plan

  assert {
    condition = [for statement in jsondecode(aws_sqs_queue_policy.work.policy).Statement : [statement.Principal, statement.Action, statement.Condition] if statement.Effect == "Allow"] == [[
      { Service = "s3.amazonaws.com" }, "sqs:SendMessage",
      { ArnEquals = { "aws:SourceArn" = ["arn:aws:s3:::LOG-BUCKET"] }, StringEquals = { "aws:SourceAccount" = "111122223333" } },
    ]]
    error_message = aws_sqs_queue_policy.work.policy
  }

  assert {
    condition     = length(aws_cloudwatch_event_rule.existing_logs) + length(aws_sns_topic_subscription.existing_logs) == 0
    error_message = "existing sources must not be watched by default"
  }
}

run "existing_sources_send_to_the_queue" {
  command = plan

  variables {
    existing_log_sources = [{ bucket = "theirs", prefix = "cloudfront/" }, { bucket = "others" }]
    existing_sns_topics  = ["arn:aws:sns:us-east-1:444455556666:new-logs"]
  }

  assert {
    condition = { for statement in jsondecode(aws_sqs_queue_policy.work.policy).Statement : statement.Sid => try(statement.Condition.ArnEquals["aws:SourceArn"], null) if statement.Effect == "Allow" } == {
      LogBucket       = ["arn:aws:s3:::LOG-BUCKET"]
      ExistingBuckets = ["arn:aws:events:us-east-1:111122223333:rule/RULE"]
      ExistingTopics  = ["arn:aws:sns:us-east-1:444455556666:new-logs"]
    }
    error_message = aws_sqs_queue_policy.work.policy
  }

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.existing_logs[0].event_pattern) == {
      source      = ["aws.s3"]
      detail-type = ["Object Created"]
      detail = { "$or" = [
        { bucket = { name = ["theirs"] }, object = { key = [{ prefix = "cloudfront/" }] } },
        { bucket = { name = ["others"] } },
      ] }
    }
    error_message = aws_cloudwatch_event_rule.existing_logs[0].event_pattern
  }
}

run "requests_without_tls_are_denied" {
  command = plan

  assert {
    condition = alltrue([
      for policy in [aws_s3_bucket_policy.logs.policy, aws_sqs_queue_policy.work.policy, aws_sqs_queue_policy.dead_letters.policy] : anytrue([
        for statement in jsondecode(policy).Statement :
        statement.Effect == "Deny" && statement.Principal == "*" && try(statement.Condition.Bool["aws:SecureTransport"], null) == "false"
      ])
    ])
    error_message = "bucket and queues must deny requests without TLS"
  }
}

run "only_log_delivery_of_the_account_writes" {
  command = plan

  # AWS's documented statement, and one that allows a write without an ACL header.
  assert {
    condition = [for statement in jsondecode(aws_s3_bucket_policy.logs.policy).Statement : [statement.Principal, statement.Action, statement.Resource, statement.Condition] if statement.Effect == "Allow"] == [
      [
        { Service = "delivery.logs.amazonaws.com" }, "s3:PutObject", "arn:aws:s3:::LOG-BUCKET/AWSLogs/111122223333/*",
        {
          StringEquals = { "s3:x-amz-acl" = "bucket-owner-full-control", "aws:SourceAccount" = ["111122223333"] }
          ArnLike      = { "aws:SourceArn" = ["arn:aws:logs:us-east-1:111122223333:delivery-source:*"] }
        },
      ],
      [
        { Service = "delivery.logs.amazonaws.com" }, "s3:PutObject", "arn:aws:s3:::LOG-BUCKET/AWSLogs/111122223333/*",
        {
          StringEquals         = { "aws:SourceAccount" = ["111122223333"] }
          StringEqualsIfExists = { "s3:x-amz-acl" = "bucket-owner-full-control" }
          ArnLike              = { "aws:SourceArn" = ["arn:aws:logs:us-east-1:111122223333:delivery-source:*"] }
        },
      ],
    ]
    error_message = aws_s3_bucket_policy.logs.policy
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.logs.block_public_acls, aws_s3_bucket_public_access_block.logs.block_public_policy,
      aws_s3_bucket_public_access_block.logs.ignore_public_acls, aws_s3_bucket_public_access_block.logs.restrict_public_buckets,
    ])
    error_message = "the bucket must not be public"
  }
}

run "destroy_keeps_logs_and_frees_the_secret_name" {
  command = plan

  assert {
    condition     = !aws_s3_bucket.logs.force_destroy
    error_message = "terraform destroy must fail while the bucket has logs"
  }

  assert {
    condition     = aws_secretsmanager_secret.bridge.recovery_window_in_days == 0
    error_message = "the secret must be deleted at once, which frees its name"
  }
}
