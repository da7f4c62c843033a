"""The module applied, changed and destroyed for real: Terraform and the AWS provider, against moto. About five minutes.

Usage: PYTHON tests/terraform/lifecycle.py, where PYTHON has moto[server], with terraform on the PATH.

Nothing of the module is changed but what moto_override.tf says; it is copied to a temporary folder first. What moto cannot show:
whether AWS lets the function do what its role says, and the operator what operator-policy.json says. For the latter every call
that Terraform makes is recorded here and looked up in the policy.
"""

import base64
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import boto3
from iam_actions import actions, not_allowed
from moto.server import ThreadedMotoServer

HERE = Path(__file__).resolve().parent
MODULE = HERE.parent.parent / "terraform"
REGION, ACCOUNT = "us-east-1", "123456789012"  # moto's account
BUCKET = f"edgetap-logs-{ACCOUNT}-{REGION}"
FIRST, SECOND = "first-CANARY-${x}\"'", "second-CANARY"

SETTINGS = {"bridge_auth_endpoint": "https://auth.example", "bridge_edge_endpoint": "https://edge.example", "secret_version": 1}


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    os.environ.pop("AWS_PROFILE", None)
    with tempfile.TemporaryDirectory() as folder:
        lifecycle(Terraform(Path(folder)))
    server.stop()


def lifecycle(terraform):
    before = everything_there()

    step("an apply is refused in words before anything is made")
    refused = terraform.refused("plan")
    assert "run scripts/build-lambda.sh" in refused, refused
    terraform.make_zip()
    refused = terraform.refused("plan")
    assert "endpoint are required: edit .env and run scripts/setup-tfvars.sh" in refused, refused
    assert "credentials, but there are none: edit .env and run scripts/setup-tfvars.sh" in refused, refused
    terraform.write("edgetap", SETTINGS)
    refused = terraform.refused("apply", "-auto-approve")
    assert "credentials, but there are none: edit .env and run scripts/setup-tfvars.sh" in refused, refused
    assert everything_there() == before

    step("the first apply")
    terraform.write_credentials(FIRST)
    terraform.run("plan", "-out=planned")
    terraform.has_no_canary(terraform.run("show", "-json", "planned"))
    terraform.run("apply", "planned")
    assert secret() == {"client_id": "id", "client_secret": FIRST, "bridge_ca": None}
    terraform.has_no_canary(function_environment())
    every_taggable_resource_is_tagged(terraform)
    open_the_bucket()

    step("a new log is told to the work queue; what is no log is not")
    put("aws-programmatic-access-test-object")
    put(f"AWSLogs/{ACCOUNT}/CloudFront/E27FO14I29XXXX/2026/11/14/20/E27FO14I29XXXX.2026-11-14-20.d740d76b.gz")
    told = [record["s3"]["object"]["key"] for message in receive() for record in message.get("Records", [])]
    assert len(told) == 1 and told[0].endswith(".d740d76b.gz"), told

    step("a second plan shows no change, with the credentials at hand and without")
    terraform.shows_no_change()
    terraform.forget_credentials()
    terraform.shows_no_change()
    terraform.write("edgetap", SETTINGS | {"secret_version": 2})
    assert "credentials, but there are none" in terraform.refused("plan")
    assert secret()["client_secret"] == FIRST

    step("other credentials and every option, applied over it")
    terraform.write_credentials(SECOND)
    terraform.write("edgetap", SETTINGS | {"secret_version": 2, "log_level": "debug", **every_option()})
    terraform.run("apply", "-auto-approve")
    terraform.run("apply", "-auto-approve")  # moto forgets a queue's policy when another attribute is set, here its key
    assert secret()["client_secret"] == SECOND
    every_taggable_resource_is_tagged(terraform)
    terraform.shows_no_change()

    step("destroy, without a file of settings; logs are not destroyed unasked")
    terraform.forget_credentials()
    (terraform.folder / "edgetap.auto.tfvars.json").unlink()
    assert "BucketNotEmpty" in terraform.refused("destroy", "-auto-approve")
    empty(BUCKET)
    terraform.run("destroy", "-auto-approve")
    remove_what_others_own()
    left = everything_there()
    assert left == before, left

    step("the operator's policy allows every call that was made")
    calls = terraform.calls()
    missing = not_allowed(MODULE / "operator-policy.json", set().union(*(actions(*call) for call in calls)))
    assert not missing, f"operator-policy.json lacks {missing}"
    print(f"{len(calls)} different calls")


class Terraform:
    """A copy of the module, turned to moto."""

    def __init__(self, folder):
        self.folder = folder / "terraform"
        self.log = folder / "provider.log"
        shutil.copytree(MODULE, self.folder, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfvars*", "tests"))
        shutil.copy(HERE / "moto_override.tf", self.folder)
        self.run("init", "-lockfile=readonly")

    def call(self, verb, *arguments):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_VAR_")}
        environment |= {"TF_LOG_PROVIDER": "debug", "TF_LOG_PATH": str(self.log)}
        options = ["-no-color"] if verb == "show" else ["-no-color", "-input=false"]
        command = ["terraform", f"-chdir={self.folder}", verb, *options, *arguments]
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    def run(self, *arguments):
        done = self.call(*arguments)
        assert done.returncode == 0, done.stdout
        self.has_no_canary(done.stdout)
        if (self.folder / "terraform.tfstate").exists():
            self.has_no_canary((self.folder / "terraform.tfstate").read_text())
        return done.stdout

    def refused(self, *arguments):
        done = self.call(*arguments)
        assert done.returncode == 1, done.stdout
        self.has_no_canary(done.stdout)
        return " ".join(done.stdout.split())

    def shows_no_change(self):
        done = self.call("plan", "-detailed-exitcode")
        assert done.returncode == 0, done.stdout

    def has_no_canary(self, text):
        assert "CANARY" not in text, "a secret is told"

    def make_zip(self):
        target = self.folder.parent / "target" / "lambda"
        target.mkdir(parents=True)
        with zipfile.ZipFile(target / "bootstrap.zip", "w") as file:
            file.writestr("bootstrap", "no program: moto does not run it")

    def write(self, name, values):
        (self.folder / f"{name}.auto.tfvars.json").write_text(json.dumps(values))

    def write_credentials(self, client_secret):
        self.write("secret", {"bridge_credentials": {"client_id": "id", "client_secret": client_secret}})

    def forget_credentials(self):
        (self.folder / "secret.auto.tfvars.json").unlink()

    def calls(self):
        found = set()
        for line in self.log.read_text(errors="replace").splitlines():
            service, call = (re.search(rf'rpc\.{key}=(?:"([^"]+)"|(\S+))', line) for key in ("service", "method"))
            if service and call:
                found.add((service[1] or service[2], call[1] or call[2]))
        assert len(found) > 50, "the provider's log is not what it was"
        return found


def every_taggable_resource_is_tagged(terraform):
    state = json.loads(terraform.run("show", "-json"))
    resources = state["values"]["root_module"]["resources"]
    taggable = {resource["address"]: resource["values"]["tags_all"] for resource in resources if "tags_all" in resource["values"]}
    assert len(taggable) >= 15, taggable
    for address, tags in taggable.items():
        assert tags == {"edgetap": "edgetap", "managed-by": "terraform"}, (address, tags)


def every_option():
    """Variables that need something that is there already, and those that change what is made."""
    topic = boto3.client("sns").create_topic(Name="on-call")["TopicArn"]
    events = boto3.client("sns").create_topic(Name="their-events")["TopicArn"]
    boto3.client("s3").create_bucket(Bucket="their-logs")
    subnet = boto3.client("ec2").describe_subnets()["Subnets"][0]
    group = boto3.client("ec2").describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [subnet["VpcId"]]}])["SecurityGroups"][0]
    return {
        "kms_key_arn": boto3.client("kms").create_key()["KeyMetadata"]["Arn"],
        "vpc": {"subnet_ids": [subnet["SubnetId"]], "security_group_ids": [group["GroupId"]]},
        "alarm_topic_arn": topic,
        "no_object_alarm_hours": 12,
        "existing_log_sources": [{"bucket": "their-logs", "prefix": "cloudfront/"}],
        "existing_sns_topics": [events],
        "reserved_concurrency": 20,
        "maximum_concurrency": 20,
        "log_retention_days": 7,
        "log_expiration_days": 60,
        "memory_size": 256,
    }


def remove_what_others_own():
    boto3.client("s3").delete_bucket(Bucket="their-logs")
    for topic in boto3.client("sns").list_topics()["Topics"]:
        boto3.client("sns").delete_topic(TopicArn=topic["TopicArn"])


def everything_there():
    """All that the account holds, by kind."""
    listings = {
        "buckets": ("s3", "list_buckets", "Buckets"),
        "queues": ("sqs", "list_queues", "QueueUrls"),
        "functions": ("lambda", "list_functions", "Functions"),
        "mappings": ("lambda", "list_event_source_mappings", "EventSourceMappings"),
        "secrets": ("secretsmanager", "list_secrets", "SecretList"),
        "roles": ("iam", "list_roles", "Roles"),
        "log groups": ("logs", "describe_log_groups", "logGroups"),
        "alarms": ("cloudwatch", "describe_alarms", "MetricAlarms"),
        "dashboards": ("cloudwatch", "list_dashboards", "DashboardEntries"),
        "rules": ("events", "list_rules", "Rules"),
        "topics": ("sns", "list_topics", "Topics"),
        "subscriptions": ("sns", "list_subscriptions", "Subscriptions"),
    }
    return {kind: getattr(boto3.client(service), call)().get(key) or [] for kind, (service, call, key) in listings.items()}


def secret():
    return json.loads(boto3.client("secretsmanager").get_secret_value(SecretId="edgetap-bridge")["SecretString"])


def function_environment():
    return json.dumps(boto3.client("lambda").get_function_configuration(FunctionName="edgetap")["Environment"])


def open_the_bucket():
    """The delivery policy stands; moto_override.tf says why another takes its place."""
    s3 = boto3.client("s3")
    applied = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])
    assert [statement["Sid"] for statement in applied["Statement"]] == ["AWSLogDeliveryWrite", "LogDeliveryWithoutAcl", "TlsOnly"]
    all_may = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [all_may]}))


def put(key):
    boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=base64.b64decode("H4sIAAAAAAAAAwMAAAAAAAAAAAA="))


def receive():
    sqs = boto3.client("sqs")
    messages = sqs.receive_message(QueueUrl=sqs.get_queue_url(QueueName="edgetap-work")["QueueUrl"], MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(message["Body"]) for message in messages]


def empty(bucket):
    for found in boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", []):
        boto3.client("s3").delete_object(Bucket=bucket, Key=found["Key"])


began = time.monotonic()


def step(name):
    print(f"{time.monotonic() - began:4.0f} s  {name}", flush=True)


if __name__ == "__main__":
    main()
    step("done")
    sys.exit()
