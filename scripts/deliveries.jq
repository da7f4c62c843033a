# The account's delivery sources, destinations and deliveries, by distribution.
#
# Input of `untagged` and `model`: {sources, destinations, deliveries, tags}. The first three are
# the lists of the describe calls; `tags` maps an ARN to its tags, for resources described without
# tags.

# Resources with a name that edgetap gives. Only the tag proves that edgetap created them.
def could_be_ours($name):
  (.sources[] | select(.name | startswith("edgetap-\($name)-"))),
  (.destinations[] | select(.name == "edgetap-\($name)")),
  (.deliveries[] | select(.deliveryDestinationArn | endswith(":delivery-destination:edgetap-\($name)")));

def untagged($name): could_be_ours($name) | select(.tags.edgetap == null) | .arn;

# Returns {destination, sources}: edgetap's delivery destination, and one entry per distribution
# that has a delivery source. `owner` is the name of the installation that created the resource, or
# null. `unsafe_delimiter` is the delimiter if a viewer can write it into a value: edgetap then cannot
# read the row.
def model($name):
  .tags as $tags | .destinations as $destinations | .deliveries as $deliveries
  | def owner: .tags.edgetap // $tags[.arn].edgetap;
    def delivery:
      .deliveryDestinationArn as $arn | ($destinations | map(select(.arn == $arn)) | first) as $destination
      | { id, arn, owner: owner, type: .deliveryDestinationType,
          to_edgetap: ($arn | endswith(":delivery-destination:edgetap-\($name)")),
          to: ($destination.deliveryDestinationConfiguration.destinationResourceArn // $arn),
          format: $destination.outputFormat, fields: (.recordFields // []), delimiter: .fieldDelimiter,
          unsafe_delimiter: (if $destination.outputFormat == "w3c" and (.fieldDelimiter // "" | test("^[,;!$*@|\\\\]+$")) then .fieldDelimiter else null end),
          suffix: .s3DeliveryConfiguration.suffixPath, hive: (.s3DeliveryConfiguration.enableHiveCompatiblePath // false) };
    def source:
      .name as $source
      | { distribution: (.resourceArns[0] | split("/") | last), distribution_arn: .resourceArns[0], name, arn, owner: owner,
          deliveries: ($deliveries | map(select(.deliverySourceName == $source) | delivery)) };
    { destination: ($destinations | map(select(.name == "edgetap-\($name)")
        | { arn, owner: owner, format: .outputFormat, to: .deliveryDestinationConfiguration.destinationResourceArn }) | first),
      sources: (.sources | map(select(.service == "cloudfront" and .logType == "ACCESS_LOGS") | source)) };
