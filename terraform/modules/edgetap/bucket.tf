# The bucket that CloudFront delivers access logs to.

locals {
  # The accounts whose distributions deliver: this one first.
  log_accounts = concat([local.account_id], local.source_accounts)

  # Log delivery prepends this to every key if the destination is the bucket without a prefix.
  log_prefixes = [for account in local.log_accounts : "AWSLogs/${account}/CloudFront/"]
  log_prefix   = local.log_prefixes[0]

  # Log delivery is configured in us-east-1, wherever the bucket is.
  delivery_sources = [for account in local.log_accounts : "arn:aws:logs:us-east-1:${account}:delivery-source:*"]

  # This account's statements do not change when source accounts are added.
  log_writers = concat(
    [{
      suffix   = ""
      accounts = [local.account_id]
      sources  = slice(local.delivery_sources, 0, 1)
      keys     = "${aws_s3_bucket.logs.arn}/AWSLogs/${local.account_id}/*"
    }],
    [for accounts in [local.source_accounts] : {
      suffix   = "SourceAccounts"
      accounts = accounts
      sources  = slice(local.delivery_sources, 1, length(local.delivery_sources))
      keys     = [for account in accounts : "${aws_s3_bucket.logs.arn}/AWSLogs/${account}/*"]
    } if length(accounts) > 0],
  )
}

resource "aws_s3_bucket" "logs" {
  #checkov:skip=CKV_AWS_18:Access logs of the log bucket would cost more than they are worth. Turn on CloudTrail data events if you need them.
  #checkov:skip=CKV_AWS_21:Each object is written once and then expires. Versions would keep expired logs.
  #checkov:skip=CKV_AWS_144:The bucket holds logs only until they are delivered, so replication is not needed.
  bucket        = "${var.name}-logs-${local.account_id}-${local.region}"
  force_destroy = var.force_destroy
  tags          = local.tags
}

resource "aws_s3_bucket_public_access_block" "logs" {
  bucket                  = aws_s3_bucket.logs.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "logs" {
  bucket = aws_s3_bucket.logs.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "logs" {
  bucket = aws_s3_bucket.logs.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "logs" {
  bucket = aws_s3_bucket.logs.id

  rule {
    id     = "expire"
    status = "Enabled"

    filter {}

    expiration {
      days = var.log_expiration_days
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

resource "aws_s3_bucket_policy" "logs" {
  bucket = aws_s3_bucket.logs.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      flatten([for writer in local.log_writers : [
        {
          # Must match AWS's documented statement exactly. Otherwise AWS adds its own copy when a
          # delivery is created, and the next terraform apply removes it.
          Sid       = "AWSLogDeliveryWrite${writer.suffix}"
          Effect    = "Allow"
          Principal = { Service = "delivery.logs.amazonaws.com" }
          Action    = "s3:PutObject"
          Resource  = writer.keys
          Condition = {
            StringEquals = {
              "s3:x-amz-acl"      = "bucket-owner-full-control"
              "aws:SourceAccount" = writer.accounts
            }
            ArnLike = { "aws:SourceArn" = writer.sources }
          }
        },
        {
          # The same for a write without an ACL header, which some users report for buckets without
          # ACLs.
          Sid       = "LogDeliveryWithoutAcl${writer.suffix}"
          Effect    = "Allow"
          Principal = { Service = "delivery.logs.amazonaws.com" }
          Action    = "s3:PutObject"
          Resource  = writer.keys
          Condition = {
            StringEquals         = { "aws:SourceAccount" = writer.accounts }
            StringEqualsIfExists = { "s3:x-amz-acl" = "bucket-owner-full-control" }
            ArnLike              = { "aws:SourceArn" = writer.sources }
          }
        },
      ]]),
      [{
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [aws_s3_bucket.logs.arn, "${aws_s3_bucket.logs.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
    )
  })

  # S3 rejects one of two simultaneous changes.
  depends_on = [aws_s3_bucket_public_access_block.logs]
}

# Replaces the whole notification configuration: the bucket is edgetap's alone. S3 checks its
# permission to send to the queue when this is created, so the queue's policy comes first.
resource "aws_s3_bucket_notification" "logs" {
  bucket = aws_s3_bucket.logs.id

  dynamic "queue" {
    for_each = local.log_prefixes

    content {
      id            = queue.key == 0 ? "work" : "work-${local.log_accounts[queue.key]}"
      queue_arn     = aws_sqs_queue.work.arn
      events        = ["s3:ObjectCreated:*"] # ObjectCreated:Put would miss multipart uploads
      filter_prefix = queue.value
    }
  }

  depends_on = [aws_sqs_queue_policy.work]
}
