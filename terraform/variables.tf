# What the operator may choose. scripts/setup-tfvars.sh writes edgetap.auto.tfvars and secret.auto.tfvars from .env.
#
# Every variable has a default, so that `terraform destroy` needs no file; what an apply cannot do without is required by
# the preconditions of the function (function.tf).

# --- The installation ---

variable "name" {
  description = "Name of this installation; every resource's name begins with it. operator-policy.json is for names that begin with edgetap."
  type        = string
  default     = "edgetap"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,22}[a-z0-9]$", var.name))
    error_message = "name: 2 to 24 lower-case letters, digits and hyphens, without a hyphen at either end (it begins the log bucket's name)."
  }
}

variable "aws_region" {
  description = "Region of everything here. CloudFront's log delivery is configured in us-east-1 whatever this is."
  type        = string
  default     = "us-east-1"
  nullable    = false
}

variable "tags" {
  description = "Further tags of every resource."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "kms_key_arn" {
  description = "A KMS key of your own for the bucket, the queues and the secret, instead of the services' keys. Its key policy must hold the statements of the output kms_key_policy_statements: `terraform plan` shows them before anything is made."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws:kms:[a-z0-9-]+:[0-9]{12}:key/", var.kms_key_arn))
    error_message = "kms_key_arn: the ARN of a key (arn:aws:kms:REGION:ACCOUNT:key/ID), not of an alias; an AWS-managed key does not let log delivery write."
  }
}

# --- Settings of the function, by their names in .env. With null, the function uses its default. ---
# tests/suite/settings.rs compares types and validations with src/settings.rs.

variable "bridge_auth_endpoint" {
  description = "BRIDGE_AUTH_ENDPOINT: OAuth 2.0 token endpoint. Required."
  type        = string
  default     = null
}

variable "bridge_edge_endpoint" {
  description = "BRIDGE_EDGE_ENDPOINT: the bridge: the endpoint that receives the transactions. Required."
  type        = string
  default     = null
}

variable "bridge_credentials" {
  description = "The OAuth client, and where needed a PEM of certificates to trust for the bridge's host and the key that hashes cookies. Goes to Secrets Manager only: into no state, plan or environment. Required whenever secret_version changes."
  type = object({
    client_id     = string
    client_secret = string
    bridge_ca     = optional(string)
    redaction_key = optional(string)
  })
  default   = null
  ephemeral = true
  sensitive = true
}

variable "secret_version" {
  description = "Any number that changes when bridge_credentials do: Terraform does not remember them, so it cannot compare. scripts/setup-tfvars.sh takes the time .env was last changed."
  type        = number
  default     = 0
  nullable    = false
}

variable "bridge_auth_method" {
  description = "BRIDGE_AUTH_METHOD: how the client authenticates at the token endpoint, client_secret_post or client_secret_basic."
  type        = string
  default     = null

  validation {
    condition     = var.bridge_auth_method == null || contains(["client_secret_post", "client_secret_basic"], coalesce(var.bridge_auth_method, "-"))
    error_message = "`bridge_auth_method` must be `client_secret_post` or `client_secret_basic`."
  }
}

variable "bridge_concurrency" {
  description = "BRIDGE_CONCURRENCY: requests in flight, 1 to 64, for each of maximum_concurrency functions."
  type        = number
  default     = null

  validation {
    condition     = coalesce(var.bridge_concurrency, 1) >= 1 && coalesce(var.bridge_concurrency, 1) <= 64
    error_message = "`bridge_concurrency` must be a whole number from 1 to 64."
  }
}

variable "batch_max_transactions" {
  description = "BATCH_MAX_TRANSACTIONS: transactions per request, 1 to 250."
  type        = number
  default     = null

  validation {
    condition     = coalesce(var.batch_max_transactions, 1) >= 1 && coalesce(var.batch_max_transactions, 1) <= 250
    error_message = "`batch_max_transactions` must be a whole number from 1 to 250."
  }
}

variable "batch_max_bytes" {
  description = "BATCH_MAX_BYTES: bytes per request, 1000 to 10000000."
  type        = number
  default     = null

  validation {
    condition     = coalesce(var.batch_max_bytes, 1000) >= 1000 && coalesce(var.batch_max_bytes, 1000) <= 10000000
    error_message = "`batch_max_bytes` must be a whole number from 1000 to 10000000."
  }
}

variable "static_extensions" {
  description = "STATIC_EXTENSIONS: extensions of static assets, whose requests are dropped."
  type        = string
  default     = null
}

variable "exclude_paths" {
  description = "EXCLUDE_PATHS: globs of paths whose requests are dropped."
  type        = string
  default     = null
}

variable "redact" {
  description = "REDACT: on masks credentials in URLs, off sends them."
  type        = string
  default     = null

  validation {
    condition     = var.redact == null || contains(["on", "off"], coalesce(var.redact, "-"))
    error_message = "`redact` must be `on` or `off`."
  }
}

variable "redact_cookies" {
  description = "REDACT_COOKIES: keep, drop or hash; hash needs bridge_credentials.redaction_key."
  type        = string
  default     = null

  validation {
    condition     = var.redact_cookies == null || contains(["keep", "drop", "hash"], coalesce(var.redact_cookies, "-"))
    error_message = "`redact_cookies` must be `keep`, `drop` or `hash`."
  }
}

variable "retry_for" {
  description = "RETRY_FOR: how long an object is retried before its message goes to the dead-letter queue, 1m to 3d."
  type        = string
  default     = null
}

variable "log_level" {
  description = "LOG_LEVEL: error, warn, info, debug or trace."
  type        = string
  default     = null

  validation {
    condition     = var.log_level == null || contains(["error", "warn", "info", "debug", "trace"], coalesce(var.log_level, "-"))
    error_message = "`log_level` must be `error`, `warn`, `info`, `debug` or `trace`."
  }
}

# --- The function ---

variable "lambda_zip" {
  description = "The zip that scripts/build-lambda.sh made."
  type        = string
  default     = "../target/lambda/bootstrap.zip"
  nullable    = false
}

variable "architecture" {
  description = "What the zip was built for: x86_64 or arm64."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture: x86_64 or arm64."
  }
}

variable "memory_size" {
  description = "Memory of the function, MB. The CPU grows with it."
  type        = number
  default     = 512
  nullable    = false
}

variable "timeout" {
  description = "Seconds an invocation may take. What does not fit is handed over to the next. The work queue's visibility follows from it."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.timeout >= 30
    error_message = "timeout: at least 30 s; the function keeps 10 s in reserve."
  }
}

variable "maximum_concurrency" {
  description = "How many functions may work at once, 2 to 1000: the brake that spares the bridge."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.maximum_concurrency >= 2 && var.maximum_concurrency <= 1000
    error_message = "maximum_concurrency: 2 to 1000 (Lambda's limits)."
  }
}

variable "reserved_concurrency" {
  description = "Concurrency set aside for this function out of the account's. null: none."
  type        = number
  default     = null

  validation {
    condition     = coalesce(var.reserved_concurrency, var.maximum_concurrency) >= var.maximum_concurrency
    error_message = "reserved_concurrency: not less than maximum_concurrency; else the queue is polled for work that is then throttled, and each throttling eats a receive."
  }
}

variable "vpc" {
  description = "Subnets and security groups, when the bridge is reached through a VPC. S3, SQS, Secrets Manager and the bridge must be reachable from there (endpoints or NAT)."
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null
}

variable "secret_recovery_window_days" {
  description = "Days a deleted secret can be brought back: 0, or 7 to 30. With 0 nothing is left, and the name is free at once."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.secret_recovery_window_days == 0 || (var.secret_recovery_window_days >= 7 && var.secret_recovery_window_days <= 30)
    error_message = "secret_recovery_window_days: 0, or 7 to 30."
  }
}

# --- Logs ---

variable "log_expiration_days" {
  description = "Days until an access log is deleted from the bucket."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.log_expiration_days >= 17
    error_message = "log_expiration_days: at least 17. Work is retried for 3 days, then kept as a dead letter for 14: its log must outlive both, or bringing it back loses it."
  }
}

variable "log_retention_days" {
  description = "Days the function's own log lines are kept. 7 lets you look back over a weekend."
  type        = number
  default     = 1
  nullable    = false
}

variable "force_destroy" {
  description = "Whether destroying deletes the access logs that are still in the bucket. scripts/disable.sh --destroy empties it after asking."
  type        = bool
  default     = false
  nullable    = false
}

# --- Logs that somebody else's bucket receives ---

variable "existing_log_sources" {
  description = "Buckets that already receive the logs: edgetap may read them, and takes the events that they send to EventBridge (scripts/watch-bucket.sh turns that on). kms_key_arn: the key they are encrypted with."
  type = list(object({
    bucket      = string
    prefix      = optional(string, "")
    region      = optional(string)
    kms_key_arn = optional(string)
  }))
  default  = []
  nullable = false

  validation {
    condition     = alltrue([for source in var.existing_log_sources : coalesce(source.region, var.aws_region) == var.aws_region])
    error_message = "existing_log_sources: a bucket of another region sends its events to EventBridge there, out of reach. Install edgetap once more in that region: another name, aws_region, and state (terraform workspace new)."
  }
}

variable "existing_sns_topics" {
  description = "Topics that already carry the S3 events of those buckets: the work queue subscribes. Name the buckets in existing_log_sources too, so that they can be read; turn EventBridge on in none of them, or each log is delivered twice."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for topic in var.existing_sns_topics : can(regex("^arn:aws:sns:${var.aws_region}:[0-9]{12}:", topic))])
    error_message = "existing_sns_topics: ARNs of topics in aws_region. For a topic of another region, install edgetap once more there: another name, aws_region, and state (terraform workspace new)."
  }
}

# --- Alarms ---

variable "alarm_topic_arn" {
  description = "SNS topic that is told when an alarm begins and ends. null: alarms only show."
  type        = string
  default     = null
}

variable "no_object_alarm_hours" {
  description = "Alarm when no log came for so many hours, 1 to 168. null: no such alarm (quiet sites write no logs)."
  type        = number
  default     = null

  validation {
    condition     = coalesce(var.no_object_alarm_hours, 1) >= 1 && coalesce(var.no_object_alarm_hours, 1) <= 168
    error_message = "no_object_alarm_hours: 1 to 168 (CloudWatch looks back a week at most)."
  }
}
