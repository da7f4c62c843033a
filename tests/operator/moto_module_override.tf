# Overrides for moto, placed in a copy of the module.

# moto does not return logging_config, so each plan would show a change.
resource "aws_lambda_function" "bootstrap" {
  lifecycle {
    ignore_changes = [logging_config]
  }
}

# moto returns the policy with other white space.
resource "aws_sqs_queue" "work" {
  lifecycle {
    ignore_changes = [redrive_policy]
  }
}

# moto treats every condition as not met and denies all requests, so with this policy no caller can put
# or delete an object. The test applies the policy, then replaces it with put-bucket-policy.
resource "aws_s3_bucket_policy" "logs" {
  lifecycle {
    ignore_changes = [policy]
  }
}
