# The bridge's credentials. They go from an ephemeral variable to Secrets Manager by a write-only argument:
# neither state, plan, output nor the function's environment holds them. Why so: docs/decisions/secret-write-only.md.

resource "aws_secretsmanager_secret" "bridge" {
  #checkov:skip=CKV2_AWS_57:The tenant issues the credentials; no function of ours could rotate them. Edit .env and apply again.
  name                    = "${var.name}-bridge"
  description             = "edgetap: OAuth client of the bridge"
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.secret_recovery_window_days
}

resource "aws_secretsmanager_secret_version" "bridge" {
  secret_id                = aws_secretsmanager_secret.bridge.id
  secret_string_wo         = jsonencode(var.bridge_credentials) # written when the version changes, and only then
  secret_string_wo_version = var.secret_version
}

# When the credentials were last written: the time of planning, kept until they are written again. So a plan knows whether it writes
# them, which Terraform itself does not tell; only then the function's precondition demands them.
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
