# A plan of Terraform, as `terraform show -json` prints it.

# Every change of a resource, an import and a forgotten resource too; not a moved address.
def changes: [.resource_changes[]? | select((.change.actions - ["no-op", "read"]) != [] or .change.importing != null) | .change + {type}];

def changed_outputs: [.output_changes // {} | to_entries[] | select(.value.actions != ["no-op"]) | .key];

# Whether the plan's one change is the log level of that function. AWS computes last_modified.
def changes_log_level_only($function; $level):
  def others: del(.last_modified, .environment[0].variables.LOG_LEVEL);
  (changed_outputs - ["log_level"]) == []
  and (changes | length == 1 and (first
    | .type == "aws_lambda_function" and .actions == ["update"] and .importing == null
      and .before.arn == $function
      and (.after.environment[0].variables.LOG_LEVEL // "info") == $level
      and ([.after_unknown | del(.last_modified) | .. | select(. == true)] == [])
      and (.before | others) == (.after | others)));
