# The account's delivery sources, destinations and deliveries, by distribution.
#
# Input of `untagged` and `model`: {sources, destinations, deliveries, tags, installation}. The first
# three are the lists of the describe calls; `tags` maps an ARN to its tags, for resources described
# without tags. `installation` is {name, destination, bucket, existing, prefix}: the ARNs of its delivery
# destination and of its bucket, existing_log_sources, and the prefix of the bucket that it reads. For
# an installation in another account, bucket, existing and prefix are unknown.

# Resources with a name that edgetap gives. Only the tag proves that edgetap created them.
def could_be_ours:
  .installation as $edgetap
  | (.sources[] | select(.name | startswith("edgetap-\($edgetap.name)-"))),
    (.destinations[] | select(.arn == $edgetap.destination)),
    (.deliveries[] | select(.deliveryDestinationArn == $edgetap.destination));

def untagged: could_be_ours | select(.tags.edgetap == null) | .arn;

# An S3 ARN such as arn:aws:s3:::bucket/prefix → {bucket, prefix}, "" if absent.
def place: (split(":::")[1] // "" | split("/")) | {bucket: (.[0] // ""), prefix: (.[1:] | join("/"))};

# A delivery to S3 → the beginning of its keys as a template, such as
# AWSLogs/{account-id}/CloudFront/{DistributionId}/{yyyy}/…. CloudWatch Logs puts its own prefix
# before the suffix path, unless the bucket's ARN has one or the path was updated.
def key_template:
  (.suffix // "" | ltrimstr("/")) as $suffix
  | (.to | place.prefix | rtrimstr("/")) as $prefix
  | if $prefix != "" then "\($prefix)/\($suffix)"
    elif $suffix | startswith("AWSLogs/") then $suffix
    else "AWSLogs/{account-id}/CloudFront/\($suffix)" end;

# The part of a template before the first folder that varies. Hive-compatible paths name the account
# (aws-account-id=123456789012).
def key_start($account; $hive):
  gsub("\\{account-id\\}"; (if $hive then "aws-account-id=" else "" end) + $account) | capture("^(?<fixed>([^{]*/)?)").fixed // "";

# Whether all keys begin with that prefix. Of the folders that vary, only the distribution's is known;
# its hive-compatible name has been seen in both cases.
def is_below($prefix; $distribution):
  .key_start as $fixed
  | ["", if .by_distribution then "\($distribution)/", "DistributionId=\($distribution)/", "distributionid=\($distribution)/" else empty end]
  | any(.[]; $fixed + . | startswith($prefix));

# Whether edgetap reads logs of an output format.
def is_read: IN("w3c", "json", "parquet");

# The fields without which edgetap refuses a log and that a delivery does not log. null if its fields are unknown.
def lacks:
  def has($name): index($name) != null;
  if . == [] then null
  else (["cs-method", "cs-uri-stem"] - .)
    + (if has("timestamp(ms)") or has("timestamp") or (has("date") and has("time")) then [] else ["timestamp(ms)"] end) end;

# Returns {destination, sources}: edgetap's delivery destination, and one entry per distribution
# that has a delivery source.
#
#   owner             name of the installation whose scripts created the resource, or null
#   ours              whether it was created by the scripts for this installation
#   to_edgetap        whether the delivery goes to this installation's bucket
#   tags              the delivery's tags, such as edgetap-enabled-at
#   key_prefix        prefix of all keys, for people: that of the bucket's ARN if it has one
#   read_from         element of existing_log_sources that covers the delivery's keys, or null
#   unread            why edgetap does not read the delivery to its bucket, or null
#   lacks             names of the fields that edgetap needs and the delivery does not log, null if unknown
#   unsafe_delimiter  the delimiter if a viewer can write it into a value: edgetap then cannot read
#                     the row
def model:
  .installation as $edgetap | .tags as $tags | .destinations as $destinations | .deliveries as $deliveries
  | def tags: .tags // $tags[.arn] // {};
    def owner: tags | if .["managed-by"] == "terraform" then null else .edgetap end;
    def delivery($distribution):
      .deliveryDestinationArn as $arn | ($destinations | map(select(.arn == $arn)) | first) as $destination
      | ($destination.deliveryDestinationConfiguration.destinationResourceArn // $arn) as $to
      | { id, arn, owner: owner, ours: (owner == $edgetap.name and $arn == $edgetap.destination), type: .deliveryDestinationType,
          to_edgetap: ($arn == $edgetap.destination or $to == $edgetap.bucket), to: $to, destination: $arn,
          tags: tags, format: $destination.outputFormat, fields: (.recordFields // []), lacks: (.recordFields // [] | lacks), delimiter: .fieldDelimiter,
          unsafe_delimiter: (if $destination.outputFormat == "w3c" and (.fieldDelimiter // "" | test("^[,;!$*@|\\\\]+$")) then .fieldDelimiter else null end),
          suffix: .s3DeliveryConfiguration.suffixPath, hive: (.s3DeliveryConfiguration.enableHiveCompatiblePath // false) }
      | . + ($to | place | {bucket})
      | .by_distribution = (key_template | test("^[^{]*(\\{account-id\\}[^{]*)?\\{DistributionId\\}"; "i"))
      | .key_start = (if .bucket == "" then "" else .hive as $hive | key_template | key_start($distribution | split(":")[4]; $hive) end)
      | .key_prefix = (if .to | place.prefix == "" then .key_start else "\(.to | place.prefix | rtrimstr("/"))/" end)
      | . as $it
      | .read_from = (if .type != "S3" or .to_edgetap or .bucket == "" then null
          else first($edgetap.existing[]? | select(.bucket == $it.bucket and (.prefix as $prefix | $it | is_below($prefix; $distribution | split("/") | last)))) // null end)
      | .unread = (if .to_edgetap | not then null
          elif .format != null and (.format | is_read | not) then "its format is \(.format), but edgetap reads w3c, json and parquet only"
          elif .bucket != "" and (is_below($edgetap.prefix; $distribution | split("/") | last) | not)
          then "its keys begin with \(.key_start), but edgetap reads \($edgetap.prefix) only" else null end);
    def source:
      .name as $source | .resourceArns[0] as $distribution
      | ($deliveries | map(select(.deliverySourceName == $source) | delivery($distribution))) as $deliveries
      | { distribution: ($distribution | split("/") | last), distribution_arn: $distribution, name, arn, owner: owner,
          ours: (owner == $edgetap.name and all($deliveries[]; .owner != $edgetap.name or .ours)), deliveries: $deliveries };
    { destination: ($destinations | map(select(.arn == $edgetap.destination)
        | { arn, owner: owner, format: .outputFormat, to: .deliveryDestinationConfiguration.destinationResourceArn }) | first),
      sources: (.sources | map(select(.service == "cloudfront" and .logType == "ACCESS_LOGS") | source)) };
