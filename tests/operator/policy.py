"""What IAM makes of calls: the action and the resource of each, and whether a policy allows it.

IAM knows most calls by their own names; what differs is listed here, as the Service Authorization Reference has it. Conditions are
passed over: whether AWS finds them met, only AWS can show.
"""

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
}

# Needs no permission: IAM/latest/UserGuide says that not even a Deny stops it.
FREE = {"sts:GetCallerIdentity"}

# Parameters that name what a call is about by its ARN, in lower case.
NAMED_BY_ARN = {"functionname", "resource", "resourcearn", "secretid", "subscriptionarn", "topicarn"}


def action(call):
    """Such as s3:ListBucket for S3's HeadBucket; None where none is needed."""
    name = f"{PREFIX.get(call.service, call.service)}:{call.operation}"
    name = OTHER_NAME.get(name, name)
    return None if name in FREE else name


def resource(call, account):
    """The ARN of what the call is about; None where its parameters do not name it, as in lists."""
    told = call.parameters
    name = {
        "cloudfront": told.get("Id") and f"distribution/{told.get('Id')}",
        "events": told.get("Rule", told.get("Name")) and f"rule/{told.get('Rule', told.get('Name'))}",
        "iam": told.get("RoleName") and f"role/{told.get('RoleName')}",
        "lambda": told.get("FunctionName") and f"function:{told.get('FunctionName')}",
        "logs": log_resource(call),
        "s3": s3_resource(call),
        "secretsmanager": told.get("SecretId", told.get("Name")) and f"secret:{told.get('SecretId', told.get('Name'))}",
        "sqs": (told.get("QueueUrl") or told.get("QueueName") or told.get("SourceArn", "").replace(":", "/")).rpartition("/")[2] or None,
    }.get(call.service)
    # Whose logs a delivery source is about is another permission's matter: cloudfront:AllowVendedLogDeliveryForResource.
    told = {key: value for key, value in told.items() if call.operation != "PutDeliverySource" or key != "resourceArn"}
    arns = [value for key, value in told.items() if key.lower() in NAMED_BY_ARN and str(value).startswith("arn:")]
    if arns or name is None:
        return arns[0] if arns else None
    if call.service == "s3":
        return f"arn:aws:s3:::{name}"
    region = "" if call.service in ("cloudfront", "iam") else call.region
    return f"arn:aws:{call.service}:{region}:{account}:{name}"


def s3_resource(call):
    key = "some object" if call.operation == "DeleteObjects" else call.parameters.get("Key")  # its body names them
    return "/".join(filter(None, [call.parameters.get("Bucket"), key])) or None


def log_resource(call):
    told = call.parameters
    if "logGroupName" in told:
        stream = f":log-stream:{told['logStreamName']}" if "logStreamName" in told else ""
        return f"log-group:{told['logGroupName']}{stream}"
    kind = {"DeliverySource": "delivery-source", "DeliveryDestination": "delivery-destination", "Delivery": "delivery"}
    name = told.get("name") or told.get("id")
    return name and f"{kind[call.operation.removeprefix('Put').removeprefix('Delete').removeprefix('Get').removeprefix('Create')]}:{name}"


def listed(value):
    return [value] if isinstance(value, str) else value


def allows(policy, wanted, about):
    """Whether a statement allows that action, on that resource if one is given."""
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow", statement
        named = any(fnmatchcase(wanted.lower(), pattern.lower()) for pattern in listed(statement["Action"]))
        if named and (about is None or any(fnmatchcase(about, pattern) for pattern in listed(statement["Resource"]))):
            return True
    return False


def granted(policy):
    """Every action that the policy names, patterns as they stand there."""
    return {name for statement in policy["Statement"] for name in listed(statement["Action"])}


def without(policy, name):
    """The policy as it would be had that action been forgotten."""
    statements = [statement | {"Action": [other for other in listed(statement["Action"]) if other != name]} for statement in policy["Statement"]]
    return policy | {"Statement": statements}
