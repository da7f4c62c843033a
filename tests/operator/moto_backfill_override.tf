# Overrides for moto, placed in a copy of the module that has a backfill queue.

# moto returns the policy with other white space.
resource "aws_sqs_queue" "backfill" {
  lifecycle {
    ignore_changes = [redrive_policy]
  }
}
