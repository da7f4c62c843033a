"""IAM's view of calls: the action and the resource of each call, and whether a policy allows it.

Most actions have the name of the operation. The exceptions are listed here, from the Service Authorization Reference.
Conditions are ignored: only AWS can show whether they are met.
"""

import re
from fnmatch import fnmatchcase

PREFIX = {"resourcegroupstaggingapi": "tag"}

OTHER_NAME = {
    "s3:DeleteBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
    "s3:DeleteBucketOwnershipControls": "s3:PutBucketOwnershipControls",
    "s3:DeleteBucketTagging": "s3:PutBucketTagging",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:DeletePublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:GetBucketAccelerateConfiguration": "s3:GetAccelerateConfiguration",
    "s3:GetBucketCors": "s3:GetBucketCORS",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:GetBucketNotificationConfiguration": "s3:GetBucketNotification",
    "s3:GetBucketReplication": "s3:GetReplicationConfiguration",
    "s3:GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListBuckets": "s3:ListAllMyBuckets",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:PutBucketNotificationConfiguration": "s3:PutBucketNotification",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:SendMessageBatch": "sqs:SendMessage",
}

# Needs no permission: according to the IAM User Guide, even a Deny does not block it.
FREE = {"sts:GetCallerIdentity"}

# Parameters that can contain the resource's ARN, in lower case.
NAMED_BY_ARN = {"functionname", "resource", "resourcearn", "secretid", "subscriptionarn", "topicarn"}


def action(call):
    """Returns the action of a call, such as s3:ListBucket for HeadBucket of S3, or None if it needs no permission."""
    name = f"{PREFIX.get(call.service, call.service)}:{call.operation}"
    name = OTHER_NAME.get(name, name)
    if name == "s3:GetObject" and "versionId" in call.parameters:
        name = "s3:GetObjectVersion"
    return None if name in FREE else name


def resource(call, account):
    """Returns the ARN of the call's resource, or None if the parameters do not name it, as in list calls."""
    parameters = call.parameters
    name = {
        "cloudfront": (identity := parameters.get("Id")) and f"distribution/{identity}",
        "events": (rule := parameters.get("Rule", parameters.get("Name"))) and f"rule/{rule}",
        "iam": (role := parameters.get("RoleName")) and f"role/{role}",
        "lambda": (function := parameters.get("FunctionName")) and f"function:{function}",
        "logs": log_resource(call),
        "s3": s3_resource(call),
        "secretsmanager": (secret := parameters.get("SecretId", parameters.get("Name"))) and f"secret:{secret}",
        "sqs": queue_name(parameters),
    }.get(call.service)
    # The distribution of a delivery source has a permission of its own:
    # cloudfront:AllowVendedLogDeliveryForResource.
    ignored = {"resourceArn"} if call.operation == "PutDeliverySource" else set()
    named = [value for key, value in parameters.items() if key.lower() in NAMED_BY_ARN and key not in ignored]
    arns = [value for value in named if str(value).startswith("arn:")]
    if arns or name is None:
        return arns[0] if arns else None
    if call.service == "s3":
        return f"arn:aws:s3:::{name}"
    region = "" if call.service in ("cloudfront", "iam") else call.region
    return f"arn:aws:{call.service}:{region}:{account}:{name}"


def queue_name(parameters):
    queue = parameters.get("QueueUrl") or parameters.get("QueueName") or parameters.get("SourceArn", "").replace(":", "/")
    return queue.rpartition("/")[2] or None


def s3_resource(call):
    # The body of DeleteObjects names the objects.
    key = "some object" if call.operation == "DeleteObjects" else call.parameters.get("Key")
    return "/".join(filter(None, [call.parameters.get("Bucket"), key])) or None


def log_resource(call):
    parameters = call.parameters
    if "logGroupName" in parameters:
        stream = f":log-stream:{parameters['logStreamName']}" if "logStreamName" in parameters else ""
        return f"log-group:{parameters['logGroupName']}{stream}"
    kind = {"DeliverySource": "delivery-source", "DeliveryDestination": "delivery-destination", "Delivery": "delivery"}
    name = parameters.get("name") or parameters.get("id")
    return name and f"{kind[re.sub('^(Put|Delete|Get|Create)', '', call.operation)]}:{name}"


def listed(value):
    return [value] if isinstance(value, str) else value


def allows(policy, wanted, resource_arn):
    """Returns whether a statement allows the action, on the resource if one is given."""
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow", statement
        named = any(fnmatchcase(wanted.lower(), pattern.lower()) for pattern in listed(statement["Action"]))
        if named and (resource_arn is None or any(fnmatchcase(resource_arn, pattern) for pattern in listed(statement["Resource"]))):
            return True
    return False


def granted(policy):
    """Returns the actions that the policy names; patterns are not expanded."""
    return {name for statement in policy["Statement"] for name in listed(statement["Action"])}


def without(policy, name):
    """Returns a copy of the policy without that action."""
    statements = [statement | {"Action": [other for other in listed(statement["Action"]) if other != name]} for statement in policy["Statement"]]
    return policy | {"Statement": statements}
