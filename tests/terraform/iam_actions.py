"""Which IAM actions an API call needs, and whether a policy allows them.

IAM knows most calls by their own names; what differs is listed here, as the Service Authorization Reference has it.
"""

import json
from fnmatch import fnmatchcase

PREFIX = {
    "CloudFront": "cloudfront",
    "CloudWatch": "cloudwatch",
    "CloudWatch Logs": "logs",
    "EC2": "ec2",
    "EventBridge": "events",
    "IAM": "iam",
    "KMS": "kms",
    "Lambda": "lambda",
    "Resource Groups Tagging API": "tag",
    "S3": "s3",
    "SNS": "sns",
    "SQS": "sqs",
    "STS": "sts",
    "Secrets Manager": "secretsmanager",
}

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

# What a call asks for besides, with the page that says so (below https://docs.aws.amazon.com/).
ALSO = {
    "iam:CreateRole": ["iam:TagRole"],  # IAM/latest/UserGuide/id_tags_roles.html
    "lambda:CreateEventSourceMapping": ["lambda:TagResource"],  # lambda/latest/dg/configuration-tags.html
    "lambda:CreateFunction": ["iam:PassRole", "lambda:TagResource"],  # IAM/latest/UserGuide/id_roles_use_passrole.html
    "logs:CreateLogGroup": ["logs:TagResource"],  # AmazonCloudWatchLogs/latest/APIReference/API_CreateLogGroup.html
    "logs:PutDeliverySource": [
        "cloudfront:AllowVendedLogDeliveryForResource",  # AmazonCloudFront/latest/DeveloperGuide/standard-logging.html
        "logs:TagResource",
    ],
    "secretsmanager:CreateSecret": ["secretsmanager:TagResource"],  # secretsmanager/latest/apireference/API_CreateSecret.html
    "sqs:CreateQueue": ["sqs:TagQueue"],  # AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
}

# Needs no permission: IAM/latest/UserGuide says that not even a Deny stops it.
FREE = {"sts:GetCallerIdentity"}


def actions(service, call):
    """The IAM actions of one call, such as ("S3", "HeadBucket")."""
    action = f"{PREFIX[service]}:{call}"
    action = OTHER_NAME.get(action, action)
    return {action, *ALSO.get(action, [])} - FREE


def not_allowed(policy_file, wanted):
    """Those of the wanted actions that no statement of the policy allows."""
    with open(policy_file, encoding="utf-8") as file:
        statements = json.load(file)["Statement"]
    allowed = []
    for statement in statements:
        assert statement["Effect"] == "Allow", statement
        action = statement["Action"]
        allowed += [action] if isinstance(action, str) else action
    return sorted(action for action in wanted if not any(fnmatchcase(action.lower(), pattern.lower()) for pattern in allowed))
