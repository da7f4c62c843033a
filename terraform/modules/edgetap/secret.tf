# The bridge's credentials. They go from an ephemeral variable to Secrets Manager through a
# write-only argument, and so never reach the state, plan, outputs or the function's environment.
# docs/decisions/secret-write-only.md explains why.

resource "aws_secretsmanager_secret" "bridge" {
  #checkov:skip=CKV2_AWS_57:The tenant issues the credentials, so a rotation function cannot replace them. To rotate, edit .env and apply again.
  name                    = "${var.name}-bridge"
  description             = "OAuth client credentials with which edgetap sends to the bridge"
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.secret_recovery_window_days
  tags                    = local.tags
}

resource "aws_secretsmanager_secret_version" "bridge" {
  secret_id                = aws_secretsmanager_secret.bridge.id
  secret_string_wo         = jsonencode(var.bridge_credentials) # written only when the version changes
  secret_string_wo_version = var.secret_version
}

# The time of the plan that last wrote the credentials. If it equals the current plan's time, this
# plan writes them, and the function's precondition requires them. Terraform itself does not expose
# this.
resource "terraform_data" "credentials_written" {
  triggers_replace = [aws_secretsmanager_secret_version.bridge.arn, var.secret_version]
  input            = plantimestamp()

  lifecycle {
    ignore_changes = [input]
  }
}

locals {
  credentials_are_written_now = terraform_data.credentials_written.input == plantimestamp()
}
