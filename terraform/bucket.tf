# The bucket that CloudFront delivers access logs to.

locals {
  # Log delivery puts this before every key when the destination is the bucket itself.
  log_prefix = "AWSLogs/${local.account_id}/CloudFront/"

  # Log delivery is configured in us-east-1, wherever the bucket is.
  delivery_sources = "arn:aws:logs:us-east-1:${local.account_id}:delivery-source:*"
}

resource "aws_s3_bucket" "logs" {
  #checkov:skip=CKV_AWS_18:Logs of reading logs would cost more than they tell; CloudTrail's data events record it where wanted.
  #checkov:skip=CKV_AWS_21:Each object is written once and expires; versions would keep what expiry is to delete.
  #checkov:skip=CKV_AWS_144:Logs on their way through are not replicated.
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
        # To the letter of AWS's documentation: where it is missing, AWS adds it when a delivery is created, and Terraform would take it away.
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
        # The same for a write without an ACL header, as some report of buckets that have no ACLs.
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

  # S3 refuses one of two changes that come at once.
  depends_on = [aws_s3_bucket_public_access_block.logs]
}

# The bucket is ours alone, so nobody else's notification is replaced here. S3 checks that it may send before it accepts this.
resource "aws_s3_bucket_notification" "logs" {
  bucket = aws_s3_bucket.logs.id

  queue {
    id            = "work"
    queue_arn     = aws_sqs_queue.work.arn
    events        = ["s3:ObjectCreated:*"] # Put alone would miss multipart uploads
    filter_prefix = local.log_prefix
  }

  depends_on = [aws_sqs_queue_policy.work]
}
