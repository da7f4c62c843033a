# Mocked AWS of the plan tests: account 111122223333 and the ARNs that AWS would assign. Uses no
# network.

mock_data "aws_caller_identity" {
  defaults = { account_id = "111122223333" }
}

mock_data "aws_region" {
  defaults = { id = "us-east-1" }
}

mock_data "aws_default_tags" {
  defaults = { tags = {} }
}

mock_resource "aws_cloudwatch_log_delivery_destination" {
  defaults = { arn = "arn:aws:logs:us-east-1:111122223333:delivery-destination:DESTINATION" }
}

mock_resource "aws_s3_bucket" {
  defaults = { id = "LOG-BUCKET", arn = "arn:aws:s3:::LOG-BUCKET" }
}

mock_resource "aws_secretsmanager_secret" {
  defaults = { id = "arn:aws:secretsmanager:us-east-1:111122223333:secret:SECRET", arn = "arn:aws:secretsmanager:us-east-1:111122223333:secret:SECRET" }
}

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:us-east-1:111122223333:log-group:LOG-GROUP" }
}

mock_resource "aws_iam_role" {
  defaults = { id = "ROLE", arn = "arn:aws:iam::111122223333:role/ROLE" }
}

mock_resource "aws_lambda_function" {
  defaults = { arn = "arn:aws:lambda:us-east-1:111122223333:function:FUNCTION" }
}

mock_resource "aws_cloudwatch_event_rule" {
  defaults = { arn = "arn:aws:events:us-east-1:111122223333:rule/RULE" }
}

override_resource {
  target = aws_sqs_queue.work
  values = { url = "https://sqs.us-east-1.amazonaws.com/111122223333/WORK", arn = "arn:aws:sqs:us-east-1:111122223333:WORK" }
}

override_resource {
  target = aws_sqs_queue.dead_letters
  values = { url = "https://sqs.us-east-1.amazonaws.com/111122223333/DEAD-LETTERS", arn = "arn:aws:sqs:us-east-1:111122223333:DEAD-LETTERS" }
}

override_resource {
  target = aws_sqs_queue.backfill
  values = { url = "https://sqs.us-east-1.amazonaws.com/111122223333/BACKFILL", arn = "arn:aws:sqs:us-east-1:111122223333:BACKFILL" }
}

override_resource {
  target = aws_sqs_queue.backfill_dead_letters
  values = { url = "https://sqs.us-east-1.amazonaws.com/111122223333/BACKFILL-DEAD-LETTERS", arn = "arn:aws:sqs:us-east-1:111122223333:BACKFILL-DEAD-LETTERS" }
}

mock_resource "aws_lambda_event_source_mapping" {
  defaults = { uuid = "MAPPING" }
}
