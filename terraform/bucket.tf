# The bucket that CloudFront delivers access logs to.

locals {
  # Log delivery prepends this to every key if the destination is the bucket without a prefix.
  log_prefix = "AWSLogs/${local.account_id}/CloudFront/"

  # Log delivery is configured in us-east-1, wherever the bucket is.
  delivery_sources = "arn:aws:logs:us-east-1:${local.account_id}:delivery-source:*"
}

resource "aws_s3_bucket" "logs" {
  #checkov:skip=CKV_AWS_18:Access logs of the log bucket would cost more than they are worth. Turn on CloudTrail data events if you need them.
  #checkov:skip=CKV_AWS_21:Each object is written once and then expires. Versions would keep expired logs.
  #checkov:skip=CKV_AWS_144:The bucket holds logs only until they are delivered, so replication is not needed.
  bucket        = "${var.name}-logs-${local.account_id}-${var.aws_region}"
  force_destroy = var.force_destroy
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
    Statement = [
      {
        # Must match AWS's documented statement exactly. Otherwise AWS adds its own copy when a
        # delivery is created, and the next terraform apply removes it.
        Sid       = "AWSLogDeliveryWrite"
        Effect    = "Allow"
        Principal = { Service = "delivery.logs.amazonaws.com" }
        Action    = "s3:PutObject"
        Resource  = "${aws_s3_bucket.logs.arn}/AWSLogs/${local.account_id}/*"
        Condition = {
          StringEquals = {
            "s3:x-amz-acl"      = "bucket-owner-full-control"
            "aws:SourceAccount" = [local.account_id]
          }
          ArnLike = { "aws:SourceArn" = [local.delivery_sources] }
        }
      },
      {
        # The same for a write without an ACL header, which some users report for buckets without
        # ACLs.
        Sid       = "LogDeliveryWithoutAcl"
        Effect    = "Allow"
        Principal = { Service = "delivery.logs.amazonaws.com" }
        Action    = "s3:PutObject"
        Resource  = "${aws_s3_bucket.logs.arn}/AWSLogs/${local.account_id}/*"
        Condition = {
          StringEquals         = { "aws:SourceAccount" = [local.account_id] }
          StringEqualsIfExists = { "s3:x-amz-acl" = "bucket-owner-full-control" }
          ArnLike              = { "aws:SourceArn" = [local.delivery_sources] }
        }
      },
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [aws_s3_bucket.logs.arn, "${aws_s3_bucket.logs.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })

  # S3 rejects one of two simultaneous changes.
  depends_on = [aws_s3_bucket_public_access_block.logs]
}

# Replaces the whole notification configuration: the bucket is edgetap's alone. S3 checks its
# permission to send to the queue when this is created, so the queue's policy comes first.
resource "aws_s3_bucket_notification" "logs" {
  bucket = aws_s3_bucket.logs.id

  queue {
    id            = "work"
    queue_arn     = aws_sqs_queue.work.arn
    events        = ["s3:ObjectCreated:*"] # ObjectCreated:Put would miss multipart uploads
    filter_prefix = local.log_prefix
  }

  depends_on = [aws_sqs_queue_policy.work]
}
