# The function's role. The only wildcards are the part of a log's key after the prefix, the streams
# of its own log group, and the network interfaces of a VPC.

locals {
  # Bucket and prefix of all logs; edgetap's own bucket comes first.
  log_locations = concat(
    [for prefix in local.log_prefixes : { bucket_arn = aws_s3_bucket.logs.arn, prefix = prefix }],
    [for source in var.existing_log_sources : { bucket_arn = "arn:aws:s3:::${source.bucket}", prefix = source.prefix }],
    local.backfill_locations,
  )

  # KMS keys of objects, messages and the secret.
  own_key = var.kms_key_arn[*]
  existing_keys = distinct([
    for source in concat(var.existing_log_sources, local.has_backfill ? var.backfill_sources : []) : source.kms_key_arn if source.kms_key_arn != null
  ])

  function_permissions = [
    {
      # A notification of a bucket with versioning names the version to read.
      Sid      = "ReadLogs"
      Action   = ["s3:GetObject", "s3:GetObjectVersion"]
      Resource = [for location in local.log_locations : "${location.bucket_arn}/${location.prefix}*"]
    },
    {
      # Lets S3 respond to GetObject of an expired log with 404 instead of 403. GetObject requests
      # have no s3:prefix key, so a condition on the prefix would never be met.
      Sid      = "ReportMissingLogs"
      Action   = ["s3:ListBucket"]
      Resource = distinct(local.log_locations[*].bucket_arn)
    },
    {
      Sid      = "ReadCredentials"
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = [aws_secretsmanager_secret.bridge.arn]
    },
    {
      # The event source mappings poll with the first three. The function itself deletes each message
      # that is finished, reads the redrive policy, delays messages and requeues rows.
      Sid      = "Work"
      Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility", "sqs:SendMessage"]
      Resource = concat([aws_sqs_queue.work.arn], aws_sqs_queue.backfill[*].arn)
    },
    {
      Sid      = "DeadLetters"
      Action   = ["sqs:SendMessage"]
      Resource = concat([aws_sqs_queue.dead_letters.arn], aws_sqs_queue.backfill_dead_letters[*].arn)
    },
    {
      Sid      = "OwnLogGroup"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = ["${aws_cloudwatch_log_group.function.arn}:*"]
    },
    {
      # Sending to the queues needs GenerateDataKey.
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
      # From AWSLambdaVPCAccessExecutionRole, without its logs actions. The network interfaces have
      # no ARN before Lambda creates them.
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
  name                 = "${var.name}-function"
  description          = "Role of the edgetap function ${var.name}"
  tags                 = local.tags
  permissions_boundary = var.permissions_boundary

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
    Version = "2012-10-17"
    Statement = [
      for permission in local.function_permissions :
      merge({ Effect = "Allow" }, permission) if length(permission.Resource) > 0
    ]
  })
}
