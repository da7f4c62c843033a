# Variables. README.md lists them; tests/suite/terraform.rs generates it.
#
# terraform/variables.tf passes them on. Preconditions of the function (function.tf) require what an
# apply needs and a destroy does not.

# --- The installation ---

variable "name" {
  description = <<-EOT
    Name of the installation, with which the name of every resource begins.
    operator-policy.json covers names that begin with edgetap.
  EOT
  type        = string
  nullable    = false

  validation {
    condition = can(regex("^[a-z0-9][a-z0-9-]{0,22}[a-z0-9]$", var.name))
    error_message = join(" ", [
      "name must be 2 to 24 lower-case letters, digits and hyphens, and must not begin or end with a hyphen.",
      "The log bucket's name begins with it.",
    ])
  }
}

variable "tags" {
  description = "Additional tags of every resource."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "kms_key_arn" {
  description = <<-EOT
    ARN of your own KMS key for the bucket, the queues and the secret.
    null uses the keys of the services.
    The key's policy must contain the statements of the output kms_key_policy_statements.
    `terraform plan` shows them before anything is created.
  EOT
  type        = string
  default     = null

  validation {
    condition = var.kms_key_arn == null || can(regex("^arn:aws:kms:[a-z0-9-]+:[0-9]{12}:key/", var.kms_key_arn))
    error_message = join(" ", [
      "kms_key_arn must be the ARN of a key (arn:aws:kms:REGION:ACCOUNT:key/ID), not of an alias.",
      "Log delivery cannot use an AWS managed key.",
    ])
  }
}

# --- Settings of the function, named as in .env. null keeps the function's default. ---
# tests/suite/settings.rs compares types and validations with src/settings.rs.

variable "bridge_auth_endpoint" {
  description = "BRIDGE_AUTH_ENDPOINT: URL of the token endpoint. Required."
  type        = string
  default     = null

  validation {
    condition     = var.bridge_auth_endpoint == null || can(regex("^\\s*[^/?#\\s\"<>\\\\^`{|}]+([/?#].*)?$", replace(var.bridge_auth_endpoint, "/^\\s*[A-Za-z][A-Za-z0-9+.-]*:[/][/]/", "")))
    error_message = "`bridge_auth_endpoint` must be a URL or a host name."
  }

  validation {
    condition     = !can(regex("://", var.bridge_auth_endpoint)) || can(regex("(?i)^\\s*(https://|http://(localhost|127([.][0-9]+){3}|\\[::1\\])(:[0-9]*)?([/?#]|\\s*$))", var.bridge_auth_endpoint))
    error_message = "`bridge_auth_endpoint` must use https."
  }

  validation {
    condition     = !can(regex("^([^/?#]*://)?[^/?#]*@", var.bridge_auth_endpoint))
    error_message = "`bridge_auth_endpoint` must not contain a user name or password."
  }

  validation {
    condition     = !can(regex("#", var.bridge_auth_endpoint))
    error_message = "`bridge_auth_endpoint` must not contain a fragment."
  }
}

variable "bridge_edge_endpoint" {
  description = "BRIDGE_EDGE_ENDPOINT: URL of the bridge. Required."
  type        = string
  default     = null

  validation {
    condition     = var.bridge_edge_endpoint == null || can(regex("^\\s*[^/?#\\s\"<>\\\\^`{|}]+([/?#].*)?$", replace(var.bridge_edge_endpoint, "/^\\s*[A-Za-z][A-Za-z0-9+.-]*:[/][/]/", "")))
    error_message = "`bridge_edge_endpoint` must be a URL or a host name."
  }

  validation {
    condition     = !can(regex("://", var.bridge_edge_endpoint)) || can(regex("(?i)^\\s*(https://|http://(localhost|127([.][0-9]+){3}|\\[::1\\])(:[0-9]*)?([/?#]|\\s*$))", var.bridge_edge_endpoint))
    error_message = "`bridge_edge_endpoint` must use https."
  }

  validation {
    condition     = !can(regex("^([^/?#]*://)?[^/?#]*@", var.bridge_edge_endpoint))
    error_message = "`bridge_edge_endpoint` must not contain a user name or password."
  }

  validation {
    condition     = !can(regex("#", var.bridge_edge_endpoint))
    error_message = "`bridge_edge_endpoint` must not contain a fragment."
  }
}

variable "bridge_credentials" {
  description = <<-EOT
    OAuth client ID and secret.
    Optionally the certificates (PEM) of BRIDGE_CA_FILE, and the key for hashing cookies.
    Terraform writes them to Secrets Manager only, not to its state or plan.
    Required whenever secret_version changes.
  EOT
  type = object({
    client_id     = string
    client_secret = string
    bridge_ca     = optional(string)
    redaction_key = optional(string)
  })
  default   = null
  ephemeral = true
  sensitive = true

  validation {
    condition     = try(length(base64encode(var.bridge_credentials.redaction_key)), 24) >= 24 # characters of 16 bytes
    error_message = "`bridge_credentials.redaction_key` must have at least 16 bytes."
  }
}

variable "secret_version" {
  description = <<-EOT
    A number to change whenever bridge_credentials change.
    Terraform does not store the credentials and cannot compare them.
    scripts/setup-tfvars.sh uses the time when it first wrote these credentials.
  EOT
  type        = number
  default     = 0
  nullable    = false
}

variable "bridge_auth_method" {
  description = "BRIDGE_AUTH_METHOD: how the client authenticates, client_secret_post or client_secret_basic."
  type        = string
  default     = null

  validation {
    condition     = var.bridge_auth_method == null || contains(["client_secret_post", "client_secret_basic"], coalesce(var.bridge_auth_method, "-"))
    error_message = "`bridge_auth_method` must be `client_secret_post` or `client_secret_basic`."
  }
}

variable "bridge_token_parameters" {
  description = "BRIDGE_TOKEN_PARAMETERS: form parameters of the token request, such as scope=read."
  type        = string
  default     = null

  validation {
    condition     = alltrue([for parameter in regexall("[^&]+", trimspace(coalesce(var.bridge_token_parameters, "&"))) : can(regex("^[A-Za-z0-9._-]+=", parameter))])
    error_message = "parameter ${try(index([for parameter in regexall("[^&]+", trimspace(var.bridge_token_parameters)) : can(regex("^[A-Za-z0-9._-]+=", parameter))], false), 0) + 1} of `bridge_token_parameters` must have the form `name=value`."
  }

  validation {
    condition     = !can(regex("(?i)(^|&)\\s*(grant_type|client_id|client_secret|client_assertion|client_assertion_type)=", var.bridge_token_parameters))
    error_message = "parameter ${try(index([for parameter in regexall("[^&]+", trimspace(var.bridge_token_parameters)) : can(regex("(?i)^(grant_type|client_id|client_secret|client_assertion|client_assertion_type)=", parameter))], true), 0) + 1} of `bridge_token_parameters` has a reserved name."
  }
}

variable "bridge_concurrency" {
  description = "BRIDGE_CONCURRENCY: requests in flight per function instance, 1 to 64; 10 if null."
  type        = number
  default     = null

  validation {
    condition     = try(var.bridge_concurrency >= 1 && var.bridge_concurrency <= 64 && floor(var.bridge_concurrency) == var.bridge_concurrency, var.bridge_concurrency == null)
    error_message = "`bridge_concurrency` must be a whole number from 1 to 64."
  }
}

variable "batch_max_transactions" {
  description = "BATCH_MAX_TRANSACTIONS: transactions per request, 1 to 250."
  type        = number
  default     = null

  validation {
    condition     = try(var.batch_max_transactions >= 1 && var.batch_max_transactions <= 250 && floor(var.batch_max_transactions) == var.batch_max_transactions, var.batch_max_transactions == null)
    error_message = "`batch_max_transactions` must be a whole number from 1 to 250."
  }
}

variable "batch_max_bytes" {
  description = "BATCH_MAX_BYTES: bytes per request, 1000 to 10000000."
  type        = number
  default     = null

  validation {
    condition     = try(var.batch_max_bytes >= 1000 && var.batch_max_bytes <= 10000000 && floor(var.batch_max_bytes) == var.batch_max_bytes, var.batch_max_bytes == null)
    error_message = "`batch_max_bytes` must be a whole number from 1000 to 10000000."
  }
}

variable "static_extensions" {
  description = "STATIC_EXTENSIONS: file extensions of static assets, whose requests are dropped."
  type        = string
  default     = null

  validation {
    condition     = length(distinct([for word in regexall("[^,\\s][^,]*", coalesce(var.static_extensions, ",")) : can(regex("^[+-]", word))])) < 2
    error_message = "`static_extensions` mixes a list (`css,js`) with edits of the built-in list (`+pdf,-svg`)."
  }

  validation {
    condition     = alltrue([for word in regexall("[^,\\s][^,]*", coalesce(var.static_extensions, ",")) : can(regex("^[+-]*[.]*[A-Za-z0-9]{1,16}\\s*$", word))])
    error_message = "extension ${try(index([for word in regexall("[^,\\s][^,]*", var.static_extensions) : can(regex("^[+-]*[.]*[A-Za-z0-9]{1,16}\\s*$", word))], false), 0) + 1} of `static_extensions` is invalid."
  }
}

variable "include_paths" {
  description = "INCLUDE_PATHS: globs of paths whose requests are sent, even those for static assets."
  type        = string
  default     = null

  # The function checks the syntax of each glob.
  validation {
    condition     = alltrue([for glob in regexall("[^,\\s][^,]*", coalesce(var.include_paths, ",")) : startswith(glob, "/")])
    error_message = "glob ${try(index([for glob in regexall("[^,\\s][^,]*", var.include_paths) : startswith(glob, "/")], false), 0) + 1} of `include_paths` must start with `/`."
  }
}

variable "exclude_paths" {
  description = "EXCLUDE_PATHS: globs of paths whose GET, HEAD and OPTIONS requests are dropped."
  type        = string
  default     = null

  # The function checks the syntax of each glob.
  validation {
    condition     = alltrue([for glob in regexall("[^,\\s][^,]*", coalesce(var.exclude_paths, ",")) : startswith(glob, "/")])
    error_message = "glob ${try(index([for glob in regexall("[^,\\s][^,]*", var.exclude_paths) : startswith(glob, "/")], false), 0) + 1} of `exclude_paths` must start with `/`."
  }
}

variable "redact" {
  description = "REDACT: on masks credentials in URLs, on,+name,-name edits the list of parameters, off sends them."
  type        = string
  default     = null

  validation {
    condition     = can(regex("^\\s*(on|off)\\s*(,|$)", coalesce(var.redact, "on"))) && !can(regex("^\\s*off[,\\s]*[^,\\s]", coalesce(var.redact, "on")))
    error_message = "`redact` must be `on` or `off`, or `on,+name,-name` to edit the list."
  }

  validation {
    condition     = alltrue([for name in regexall(",\\s*([^,\\s][^,]*)", coalesce(var.redact, "on")) : can(regex("^([+-][*]?([A-Za-z0-9_][A-Za-z0-9_-]{0,62})?[A-Za-z0-9]|-(?i:x-amz-)[*])\\s*$", name[0]))])
    error_message = "name ${try(index([for name in regexall(",\\s*([^,\\s][^,]*)", var.redact) : can(regex("^([+-][*]?([A-Za-z0-9_][A-Za-z0-9_-]{0,62})?[A-Za-z0-9]|-(?i:x-amz-)[*])\\s*$", name[0]))], false), 0) + 1} of `redact` is invalid."
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

  validation {
    condition     = var.redact_cookies != "hash" || var.bridge_credentials == null || try(var.bridge_credentials.redaction_key, null) != null
    error_message = "`redact_cookies` = `hash` needs `bridge_credentials.redaction_key`."
  }
}

variable "retry_for" {
  description = "RETRY_FOR: how long a log is retried before it goes to the dead-letter queue, 1m to 3d."
  type        = string
  default     = null

  # Only a number with one of these units is compared; the function reads other spellings too.
  validation {
    condition = alltrue([
      for time in regexall("^\\s*([0-9]{1,9})\\s*([smhd])\\s*$", coalesce(var.retry_for, "3d")) :
      tonumber(time[0]) >= { s = 60, m = 1, h = 1, d = 1 }[time[1]] && tonumber(time[0]) <= { s = 259200, m = 4320, h = 72, d = 3 }[time[1]]
    ]) && can(regex("[0-9]", coalesce(var.retry_for, "3d")))
    error_message = "`retry_for` must be a duration from `1m` to `3d`."
  }
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
  description = "Path of the zip that scripts/build-lambda.sh built."
  type        = string
  nullable    = false
}

variable "architecture" {
  description = "Architecture of the zip: x86_64 or arm64."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture must be x86_64 or arm64."
  }
}

variable "memory_size" {
  description = <<-EOT
    Memory of the function in MB.
    Lambda allocates CPU in proportion.
    512 is the smallest size whose CPU is faster than a bridge that takes 100 ms (docs/scaling.md).
    Requests in flight may take half of what is left beyond 64 MB.
  EOT
  type        = number
  default     = 512
  nullable    = false

  # As src/config.rs checks it: a request body can take twice its size, everything else 64 MB.
  # 1 MB = 1048576 bytes. The numbers for null are the defaults of the two settings.
  validation {
    condition = 2 * coalesce(var.bridge_concurrency, 10) * coalesce(var.batch_max_bytes, 1000000) <= (var.memory_size - 64) * 1048576
    error_message = join(" ", [
      "memory_size must be at least ${ceil(64 + 2 * coalesce(var.bridge_concurrency, 10) * coalesce(var.batch_max_bytes, 1000000) / 1048576)} MB",
      "for bridge_concurrency (${coalesce(var.bridge_concurrency, 10)}) requests of batch_max_bytes (${coalesce(var.batch_max_bytes, 1000000)} bytes).",
      "Raise memory_size, or lower one of the two settings.",
    ])
  }
}

variable "ephemeral_storage" {
  description = <<-EOT
    Size of the function's /tmp in MB, 512 to 10240, for logs in Parquet.
    Such a log is copied there while it is read. A larger one goes to the dead-letter queue.
    AWS charges for what is above 512.
  EOT
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.ephemeral_storage >= 512 && var.ephemeral_storage <= 10240 && floor(var.ephemeral_storage) == var.ephemeral_storage
    error_message = "ephemeral_storage must be a whole number from 512 to 10240 (MB)."
  }
}

variable "timeout" {
  description = <<-EOT
    Timeout of an invocation in seconds.
    The function requeues the rows that remain.
    300 is enough for 16 million rows of a log, at a bridge that takes 100 ms (docs/scaling.md).
    The work queue's visibility timeout is six times this, plus batching_window.
  EOT
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.timeout >= 30
    error_message = "timeout must be at least 30 s. The function keeps 10 s in reserve to respond."
  }
}

variable "batch_size" {
  description = <<-EOT
    Messages that one invocation receives at most, 1 to 10, or to 10000 with a batching_window.
    The function processes them side by side.
    10 is the most without a window, and makes small logs ten times as cheap as 1 (docs/scaling.md).
  EOT
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.batch_size >= 1 && var.batch_size <= (var.batching_window < 1 ? 10 : 10000) && floor(var.batch_size) == var.batch_size
    error_message = "batch_size must be a whole number from 1 to 10, or to 10000 if batching_window is at least 1 (Lambda's limits)."
  }
}

variable "batching_window" {
  description = <<-EOT
    Seconds for which Lambda waits until an invocation has batch_size messages, 0 to 300.
    0 makes no log wait for others; where many wait, invocations are full anyway.
  EOT
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.batching_window >= 0 && var.batching_window <= 300 && floor(var.batching_window) == var.batching_window
    error_message = "batching_window must be a whole number from 0 to 300 (Lambda's limits)."
  }
}

variable "maximum_concurrency" {
  description = "Function instances that can run at once, 2 to 1000. Limits the load on the bridge."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.maximum_concurrency >= 2 && var.maximum_concurrency <= 1000
    error_message = "maximum_concurrency must be 2 to 1000 (Lambda's limits)."
  }
}

variable "backfill_concurrency" {
  description = <<-EOT
    Function instances that can deliver logs of scripts/backfill.sh at once, 2 to 1000.
    They are in addition to maximum_concurrency.
    0 creates no backfill queue, and deletes an existing one with its messages and dead letters.
  EOT
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.backfill_concurrency == 0 || (var.backfill_concurrency >= 2 && var.backfill_concurrency <= 1000 && floor(var.backfill_concurrency) == var.backfill_concurrency)
    error_message = "backfill_concurrency must be 0, or a whole number from 2 to 1000 (Lambda's limits)."
  }
}

variable "reserved_concurrency" {
  description = "Part of the account's concurrency that is reserved for the function. null reserves nothing."
  type        = number
  default     = null

  validation {
    condition = var.reserved_concurrency == null || try(var.reserved_concurrency >= var.maximum_concurrency + var.backfill_concurrency, false)
    error_message = join(" ", [
      "reserved_concurrency must be at least ${var.maximum_concurrency + var.backfill_concurrency}: maximum_concurrency + backfill_concurrency.",
      "Otherwise Lambda polls messages that it then throttles, and each throttled attempt counts toward maxReceiveCount.",
    ])
  }
}

variable "environment" {
  description = <<-EOT
    More environment variables of the function, such as HTTPS_PROXY.
    They must not hold secrets.
    Terraform stores them in its state, and anyone who may read the function's configuration sees them.
    The settings of edgetap have variables of their own.
  EOT
  type        = map(string)
  default     = {}
  nullable    = false

  # Lambda's names: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
  validation {
    condition = alltrue([for name in keys(var.environment) : can(regex("^[A-Za-z][A-Za-z0-9_]+$", name)) && !can(regex(
      "^(AWS_(DEFAULT_REGION|REGION|EXECUTION_ENV|ACCESS_KEY|ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|LAMBDA_.*)|LAMBDA_(TASK_ROOT|RUNTIME_DIR))$", name
    ))])
    error_message = "environment has a name that Lambda reserves or does not accept: it must begin with a letter and consist of letters, digits and underscores."
  }

  validation {
    condition     = length(setintersection(keys(var.environment), concat(keys(local.settings), ["BRIDGE_CA_FILE", "BRIDGE_CLIENT_ID", "BRIDGE_CLIENT_SECRET", "REDACTION_KEY"]))) == 0
    error_message = "environment must not contain a setting of edgetap. Set the variable of the same name in lower case, or bridge_credentials."
  }
}

variable "permissions_boundary" {
  description = "ARN of a policy that limits the function's role."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:aws:iam::([0-9]{12}|aws):policy/", var.permissions_boundary))
    error_message = "permissions_boundary must be the ARN of a policy (arn:aws:iam::ACCOUNT:policy/NAME)."
  }
}

variable "vpc" {
  description = <<-EOT
    Subnets and security groups of the function, if it must reach the bridge through a VPC.
    S3, SQS, Secrets Manager and the bridge must be reachable from the subnets (endpoints or NAT).
  EOT
  type = object({
    subnet_ids         = list(string)
    security_group_ids = list(string)
  })
  default = null
}

variable "secret_recovery_window_days" {
  description = <<-EOT
    Days for which a deleted secret can be restored: 0, or 7 to 30.
    With 0 the secret is deleted and its name can be reused at once.
  EOT
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.secret_recovery_window_days == 0 || (var.secret_recovery_window_days >= 7 && var.secret_recovery_window_days <= 30)
    error_message = "secret_recovery_window_days must be 0, or 7 to 30."
  }
}

# --- Logs ---

variable "log_expiration_days" {
  description = "Days until an access log in the bucket expires, at least 21."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition = var.log_expiration_days >= 21
    error_message = join(" ", [
      "log_expiration_days must be at least 21: 1 + 3 + 3 + 14.",
      "A log may wait for a day before its first attempt. It is retried for up to 3 days (RETRY_FOR),",
      "for another 3 days while rows of it are still accepted, and its dead letter is kept for 14 days.",
      "Its log must exist until then, or it can no longer be redelivered.",
    ])
  }
}

variable "log_retention_days" {
  description = "Days for which CloudWatch keeps the function's log. 7 lets you look back over a weekend."
  type        = number
  default     = 1
  nullable    = false
}

variable "force_destroy" {
  description = <<-EOT
    Whether terraform destroy deletes access logs that are still in the bucket.
    scripts/disable.sh --destroy empties the bucket after asking.
  EOT
  type        = bool
  default     = false
  nullable    = false
}

# --- Logs of other accounts ---

variable "source_account_ids" {
  description = <<-EOT
    IDs of other accounts whose distributions deliver their logs to this installation's bucket.
    scripts/enable.sh --destination-arn ARN, run with their credentials, enables them.
    ARN is the output delivery_destination_arn.
  EOT
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for account in var.source_account_ids : can(regex("^[0-9]{12}$", account))])
    error_message = "source_account_ids must be IDs of accounts, of 12 digits each."
  }

  validation {
    condition     = length(var.source_account_ids) <= 50
    error_message = "source_account_ids must be 50 accounts at most: the bucket's policy has at most 20 KB. Install edgetap twice, with different names."
  }
}

# --- Logs in existing buckets ---

variable "existing_log_sources" {
  description = <<-EOT
    Existing buckets that already receive logs.
    edgetap reads the logs and receives the events that the buckets send to EventBridge.
    scripts/watch-bucket.sh turns that on.
    kms_key_arn is the key with which a bucket is encrypted.
  EOT
  type = list(object({
    bucket      = string
    prefix      = optional(string, "")
    region      = optional(string)
    kms_key_arn = optional(string)
  }))
  default  = []
  nullable = false

  validation {
    condition = alltrue([for source in var.existing_log_sources : coalesce(source.region, local.region) == local.region])
    error_message = join(" ", [
      "existing_log_sources must be in the installation's region, because EventBridge delivers events within a region only.",
      "For a bucket in another region, install edgetap there too, with another name, region and state (terraform workspace new).",
    ])
  }
}

variable "backfill_sources" {
  description = <<-EOT
    More buckets whose logs scripts/backfill.sh may send.
    With backfill_concurrency, the function may read them; their events are not received.
    kms_key_arn is the key with which a bucket is encrypted.
  EOT
  type = list(object({
    bucket      = string
    prefix      = optional(string, "")
    region      = optional(string)
    kms_key_arn = optional(string)
  }))
  default  = []
  nullable = false

  validation {
    condition     = alltrue([for source in var.backfill_sources : coalesce(source.region, local.region) == local.region])
    error_message = "backfill_sources must be in the installation's region, in which the function reads logs. Copy the logs to a bucket there."
  }
}

variable "existing_sns_topics" {
  description = <<-EOT
    ARNs of SNS topics that already carry the S3 events of existing buckets.
    The work queue subscribes to them.
    List the buckets in existing_log_sources too, so that edgetap can read them.
    Do not turn on EventBridge for these buckets, or each log is delivered twice.
  EOT
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([for topic in var.existing_sns_topics : can(regex("^arn:aws:sns:${local.region}:[0-9]{12}:", topic))])
    error_message = join(" ", [
      "existing_sns_topics must be ARNs of topics in the installation's region.",
      "For a topic in another region, install edgetap there too, with another name, region and state (terraform workspace new).",
    ])
  }
}

# --- Alarms ---

variable "alarm_topic_arn" {
  description = "ARN of an SNS topic that is notified when an alarm starts and ends. null sends no notifications."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_topic_arn == null || can(regex("^arn:aws[a-z-]*:sns:${local.region}:[0-9]{12}:[A-Za-z0-9_-]+$", var.alarm_topic_arn))
    error_message = "alarm_topic_arn must be the ARN of a topic in the installation's region (arn:aws:sns:${local.region}:ACCOUNT:NAME)."
  }
}

variable "no_object_alarm_hours" {
  description = <<-EOT
    Alarm when no new log has arrived for this number of hours, 1 to 168.
    null creates no such alarm: a site without requests writes no logs.
  EOT
  type        = number
  default     = null

  validation {
    condition     = coalesce(var.no_object_alarm_hours, 1) >= 1 && coalesce(var.no_object_alarm_hours, 1) <= 168
    error_message = "no_object_alarm_hours must be 1 to 168. CloudWatch evaluates at most one week."
  }
}
