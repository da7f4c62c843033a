# Put beside a copy of the module, this turns it to moto; the module itself is not changed for a test. Endpoint and made-up
# credentials come from the environment: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.

provider "aws" {
  s3_use_path_style = true # moto answers at an address, which has no subdomains
}

# moto takes it and does not tell it again: each plan would show it as a change.
resource "aws_lambda_function" "bootstrap" {
  lifecycle {
    ignore_changes = [logging_config]
  }
}

# moto tells it with other white space.
resource "aws_sqs_queue" "work" {
  lifecycle {
    ignore_changes = [redrive_policy]
  }
}

# moto takes each statement's condition for one that is not met, and that for a denial: with this policy nobody can put or delete
# an object. It is applied as it stands; then a test that needs objects puts another in its place (put-bucket-policy).
resource "aws_s3_bucket_policy" "logs" {
  lifecycle {
    ignore_changes = [policy]
  }
}
