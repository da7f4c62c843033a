# What the function may do. Nothing here is a wildcard but the rest of a log's key.

locals {
  # Bucket and prefix of all logs, ours first.
  log_locations = concat(
    [{ bucket_arn = aws_s3_bucket.logs.arn, prefix = local.log_prefix }],
    [for source in var.existing_log_sources : { bucket_arn = "arn:aws:s3:::${source.bucket}", prefix = source.prefix }],
  )

  # Keys with which something that the function reads or sends is encrypted.
  own_key       = var.kms_key_arn[*]
  existing_keys = distinct([for source in var.existing_log_sources : source.kms_key_arn if source.kms_key_arn != null])

  function_permissions = [
    {
      Sid      = "ReadLogs"
      Action   = ["s3:GetObject"]
      Resource = [for location in local.log_locations : "${location.bucket_arn}/${location.prefix}*"]
    },
    {
      # So that a log that expired is told as 404, not as 403. A GetObject names no prefix: no condition on one may stand here.
      Sid      = "TellMissingLogs"
      Action   = ["s3:ListBucket"]
      Resource = distinct(local.log_locations[*].bucket_arn)
    },
    {
      Sid      = "ReadCredentials"
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = [aws_secretsmanager_secret.bridge.arn]
    },
    {
      # The first three are what the mapping polls with; the others postpone work and hand it over.
      Sid      = "Work"
      Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility", "sqs:SendMessage"]
      Resource = [aws_sqs_queue.work.arn]
    },
    {
      Sid      = "DeadLetters"
      Action   = ["sqs:SendMessage"]
      Resource = [aws_sqs_queue.dead_letters.arn]
    },
    {
      Sid      = "OwnLogGroup"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = ["${aws_cloudwatch_log_group.function.arn}:*"]
    },
    {
      # GenerateDataKey: to send to the queues.
      Sid      = "OwnKey"
      Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource = local.own_key
    },
    {
      Sid      = "KeysOfExistingLogs"
      Action   = ["kms:Decrypt"]
      Resource = local.existing_keys
    },
    {
      # Of AWSLambdaVPCAccessExecutionRole, without its logs:*. These actions know no resource that could be named beforehand.
      Sid = "Vpc"
      Action = [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
      ]
      Resource = var.vpc == null ? [] : ["*"]
    },
  ]
}

resource "aws_iam_role" "function" {
  name        = "${var.name}-function"
  description = "edgetap: what the function ${var.name} may do"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "function" {
  name = "edgetap"
  role = aws_iam_role.function.id

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [for permission in local.function_permissions : merge({ Effect = "Allow" }, permission) if length(permission.Resource) > 0]
  })
}
