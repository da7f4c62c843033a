# What the account's delivery sources, destinations and deliveries mean to edgetap.
#
# Input of both: {sources, destinations, deliveries, tags}: what the three describing calls answered, and tags by ARN for
# those whose answer had none.

# What keeps the name that edgetap gives: only its tag tells whether edgetap made it.
def could_be_ours($name):
  (.sources[] | select(.name | startswith("edgetap-\($name)-"))),
  (.destinations[] | select(.name == "edgetap-\($name)")),
  (.deliveries[] | select(.deliveryDestinationArn | endswith(":delivery-destination:edgetap-\($name)")));

def untagged($name): could_be_ours($name) | select(.tags.edgetap == null) | .arn;

# → {destination, taps: one for each distribution that has a delivery source}.
def model($name):
  .tags as $tags | .destinations as $destinations | .deliveries as $deliveries
  | def owner: .tags.edgetap // $tags[.arn].edgetap;
    def delivery:
      .deliveryDestinationArn as $arn | ($destinations | map(select(.arn == $arn)) | first) as $destination
      | { id, arn, owner: owner, type: .deliveryDestinationType,
          to_us: ($arn | endswith(":delivery-destination:edgetap-\($name)")),
          to: ($destination.deliveryDestinationConfiguration.destinationResourceArn // $arn),
          format: $destination.outputFormat, fields: (.recordFields // []), delimiter: .fieldDelimiter,
          suffix: .s3DeliveryConfiguration.suffixPath, hive: (.s3DeliveryConfiguration.enableHiveCompatiblePath // false) };
    def tap:
      .name as $source
      | { distribution: (.resourceArns[0] | split("/") | last), distribution_arn: .resourceArns[0], source: .name, source_arn: .arn, source_owner: owner,
          deliveries: ($deliveries | map(select(.deliverySourceName == $source) | delivery)) };
    { destination: ($destinations | map(select(.name == "edgetap-\($name)")
        | { arn, owner: owner, format: .outputFormat, to: .deliveryDestinationConfiguration.destinationResourceArn }) | first),
      taps: (.sources | map(select(.service == "cloudfront" and .logType == "ACCESS_LOGS") | tap)) };
