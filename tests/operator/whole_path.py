"""The operator's whole path, from a clone to transactions at the bridge and back to nothing: the scripts, Terraform, the AWS
provider, the AWS CLI and the built function, all of them real, against moto.

Usage: PYTHON tests/operator/whole_path.py BOOTSTRAP.zip EDGETAP, where PYTHON has moto[server], with terraform, aws and jq on the
PATH. About ten minutes, most of them Terraform's: a queue alone takes the provider 25 seconds.

Nothing is changed for it but what moto_override.tf says, in the copy that it works on. Every call is noted and looked up in the
policies, of the operator and of the function's role. What moto cannot show stands in docs/operations.md.
"""

import gzip
import json
import os
import re
import signal
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import policy
from bridge import Bridge, expected
from cloud import ACCOUNT, FUNCTION, OPERATOR, REGION, Cloud
from function import Function
from machine import REPOSITORY, Machine, holds_no_canary, keep_aws_warm

BUCKET, DEAD_LETTERS = f"edgetap-logs-{ACCOUNT}-{REGION}", "edgetap-dead-letters"
FIRST, SECOND = "first-CANARY-${x}\"'%{y};#z", "second-CANARY"
LOG = REPOSITORY / "tests/fixtures/logs/E27FO14I29XXXX.2026-11-14-20.d740d76b.gz"
SECRET = "terraform/secret.auto.tfvars"
UNEXERCISED = Path(__file__).parent / "unexercised.txt"


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # so that no process is left behind
    zip_file, edgetap = (Path(argument).resolve() for argument in sys.argv[1:])
    cloud = Cloud()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        environment = cloud.environment(OPERATOR) | keep_aws_warm(folder)
        bridge = Bridge(edgetap, FIRST)
        whole_path(cloud, bridge, folder, environment, zip_file)
    cloud.stop()


def whole_path(cloud, bridge, folder, environment, zip_file):
    step("the zip")
    runs_anywhere(zip_file)
    distributions = Distributions(cloud)
    before, untouched = cloud.everything(), distributions.look()
    state = folder / "terraform.tfstate"

    step("a clone")
    first = Machine(folder / "first", state, environment)

    step("an apply is refused in words before anything is made")
    refused = first.refused("plan")
    assert "run scripts/build-lambda.sh" in refused, refused
    (first.folder / "target/lambda").mkdir(parents=True)
    for built in (zip_file, zip_file.parent / "architecture"):
        (first.folder / "target/lambda" / built.name).write_bytes(built.read_bytes())
    refused = first.refused("plan")
    assert "endpoint are required: edit .env and run scripts/setup-tfvars.sh" in refused, refused
    assert "credentials, but there are none: edit .env and run scripts/setup-tfvars.sh" in refused, refused

    step("the first apply: .env, setup-tfvars.sh, terraform")
    first.write(".env", env_file(bridge, FIRST))
    first.script("setup-tfvars")
    credentials = (first.folder / SECRET).read_text()
    first.forget(SECRET)
    refused = first.refused("apply", "-auto-approve")
    assert "credentials, but there are none: edit .env and run scripts/setup-tfvars.sh" in refused, refused
    assert cloud.everything() == before
    first.write(SECRET, credentials)
    first.terraform("plan", "-out=planned")
    first.terraform("show", "-json", "planned")
    first.terraform("apply", "planned")
    assert bridge_secret(cloud) == {"client_id": "id", "client_secret": FIRST, "bridge_ca": None, "redaction_key": None}
    holds_no_canary(json.dumps(cloud.client("lambda").get_function_configuration(FunctionName="edgetap")["Environment"]))
    every_taggable_resource_is_tagged(first)
    role = json.loads(json.dumps(cloud.client("iam").get_role_policy(RoleName="edgetap-function", PolicyName="edgetap")["PolicyDocument"]))
    open_the_bucket(cloud)

    step("a second plan shows no change, with the credentials at hand and without")
    first.shows_no_change()
    first.forget(SECRET)
    first.shows_no_change()
    refused = first.refused("plan", "-var=secret_version=2")
    assert "credentials, but there are none" in refused, refused

    step("enable.sh: a fresh distribution, one without cookies, one that delivers elsewhere")
    enable_cookies = ["enable", "--distribution", distributions.cookies, "--include-cookies", "--yes"]
    changes = folder / "changes"
    dying = {"CHANGES": str(changes), "DIE_AFTER": "3", "PATH": f"{REPOSITORY}/tests/scripts/dying:{first.environment['PATH']}"}
    first.script(*enable_cookies, status=-9, environment=dying)
    assert len(changes.read_text().splitlines()) == 3
    first.script(*enable_cookies)
    told = first.script("enable", "--all", "--yes", status=1)
    assert line_of(told, distributions.fresh).endswith("enabled") and line_of(told, distributions.cookies).endswith("unchanged"), told
    assert "NOT ENABLED" in line_of(told, distributions.elsewhere) and "arn:aws:s3:::their-logs/cdn" in told and "existing_log_sources" in told, told
    enabled = distributions.look()
    assert enabled[distributions.elsewhere] == untouched[distributions.elsewhere]
    assert enabled[distributions.cookies]["config"]["Logging"] == LEGACY | {"IncludeCookies": True}
    deliveries = {delivery["deliverySourceName"] for delivery in cloud.client("logs").describe_deliveries()["deliveries"]}
    assert deliveries == {"theirs", f"edgetap-edgetap-{distributions.fresh}", f"edgetap-edgetap-{distributions.cookies}"}, deliveries

    step("enabled twice: no change")
    there = cloud.everything()
    told = first.script("enable", "--all", "--include-cookies", "--yes", status=1)
    assert line_of(told, distributions.fresh).endswith("updated"), told  # its cookies, this time
    told = first.script("enable", "--distribution", distributions.fresh, "--distribution", distributions.cookies, "--include-cookies", "--yes")
    assert told.count("unchanged") == 2, told
    assert cloud.everything() == there

    step("a log is put, and its transactions arrive at the bridge; the function is the zip's")
    (folder / "function").mkdir()
    with Function(cloud, "edgetap", zip_file, folder / "function") as function:
        deliver(cloud, bridge, function, distributions, first)
    told = bridge.stop()
    assert "0 posts not in the wire format" in told, told
    assert not [line for line in function.lines if "CANARY" in line], "a secret is told"
    the_role_is_sufficient(cloud, role)

    step("status.sh")
    status = json.loads(first.script("status", "--json"))
    of = {told["id"]: told for told in status["distributions"]}
    assert [of[name]["tapped"] for name in distributions.all] == ["yes", "yes", "elsewhere"], status
    assert of[distributions.cookies]["cookies"] == {"logged": True, "turned_on_by_edgetap": True}, status
    fresh = of[distributions.fresh]
    assert fresh["last_object"]["key"].endswith("no-log.gz") and fresh["last_success"]["sent"] == 12, status
    assert fresh["fields"]["lacking"] == [] and status["queues"]["dead_letters"]["waiting"] == 1, status
    told = first.script("status")
    assert "on, by edgetap" in line_of(told, distributions.cookies) and "12 sent" in line_of(told, distributions.fresh), told
    told = first.script("redrive", "--dry-run")
    assert "is not a CloudFront" in told, told
    first.script("redrive")  # one by one: moto has no tasks that move messages

    step("a second operator, with nothing but a clone and the state, sees it and goes on")
    second = Machine(folder / "second", state, environment)
    seen = json.loads(second.script("status", "--json"))
    assert seen["distributions"] == status["distributions"] and seen["queues"]["work"]["waiting"] == 1, seen
    told = second.script("enable", "--distribution", distributions.fresh, "--yes")
    assert line_of(told, distributions.fresh).endswith("unchanged"), told
    second.script("disable", "--distribution", distributions.fresh, "--yes")
    assert distributions.look()[distributions.fresh] == untouched[distributions.fresh]

    step("disable.sh: each distribution is what it was; a second time nothing changes")
    first.script("disable", "--all", "--yes")
    assert distributions.look() == untouched
    told = first.script("disable", "--all", "--yes")
    assert "nothing of edgetap" in told, told
    assert distributions.look() == untouched
    logs = ["delivery sources", "delivery destinations", "deliveries"]
    assert [cloud.everything()[kind] for kind in logs] == [before[kind] for kind in logs]

    step("other credentials, another LOG_LEVEL and every option, applied by enable.sh")
    others = Others(cloud)
    first.write("terraform/options.auto.tfvars.json", json.dumps(others.every_option()))
    first.write(".env", env_file(bridge, SECOND, log_level="debug"))
    told = first.script("enable", "--distribution", distributions.cookies, "--include-cookies", "--yes")
    assert "LOG_LEVEL is debug, and the function runs at info" in told, told
    first.terraform("apply", "-auto-approve")  # moto forgets a queue's policy when another attribute is set, here its key
    assert bridge_secret(cloud)["client_secret"] == SECOND
    every_taggable_resource_is_tagged(first)
    first.shows_no_change()
    # moto takes EventBridge into a bucket's notifications and does not tell it again, which the script notices.
    told = first.script("watch-bucket", "their-logs", "--yes", status=1)
    assert "the configuration is not what was put" in told, told

    step("disable.sh --destroy, without .env, settings and zip: nothing is left")
    told = second.script("disable", "--destroy", "--yes")
    assert re.search("edgetap-work +1 waiting", told) and "Nothing tagged or named edgetap is left" in told, told
    others.leave()
    left = cloud.everything()
    assert left == before, left
    assert distributions.look() == untouched

    step("applied again after destroy, and destroyed again: nothing is left again")
    first.forget("terraform/options.auto.tfvars.json")
    first.terraform("apply", "-auto-approve")
    assert bridge_secret(cloud)["client_secret"] == SECOND
    first.shows_no_change()
    told = first.script("disable", "--destroy", "--yes")
    assert "Nothing tagged or named edgetap is left" in told, told
    assert cloud.everything() == before

    step("the operator's policy allows every call that was made, and is no longer than its reasons")
    the_operator_policy_is_sufficient(cloud, others)
    what_was_not_exercised_is_listed(cloud, role)


def runs_anywhere(zip_file):
    """On Amazon Linux 2023, and with the same bytes wherever it is built: as tests/scripts/build.bats has it, but of the real one."""
    with zipfile.ZipFile(zip_file) as archive:
        (entry,) = archive.infolist()
        program = archive.read(entry)
    assert (entry.filename, entry.external_attr >> 16, entry.date_time) == ("bootstrap", 0o100755, (1980, 1, 1, 0, 0, 0)), entry
    newest = max(int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", program))
    assert newest <= 34, f"it needs glibc 2.{newest}"
    for place in (f"{REPOSITORY}/src/", f"{os.environ.get('CARGO_HOME', Path.home() / '.cargo')}/registry/"):
        assert place.encode() not in program, f"it tells of {place}"


def deliver(cloud, bridge, function, distributions, first):
    """One log whole, one with a time limit that makes the function hand over the rest, and one that is no log."""
    told = json.loads(LOG.with_name(LOG.name + ".expected.json").read_text())
    wanted = expected(told["transactions"])
    put(cloud, "aws-programmatic-access-test-object", b"not under the prefix: no notification")
    whole = put(cloud, log_key(distributions.fresh, "whole"), LOG.read_bytes())
    report = function.wait_for("the log's line", lambda: function.report(whole))
    assert {name: report[name] for name in told["counts"]} == told["counts"] and report["level"] == "WARN", report  # one of 17 rows is malformed
    function.wait_for("its transactions", lambda: len(bridge.transactions()) >= len(wanted))
    assert [shown[: len(line)] for shown, line in zip(bridge.transactions(), wanted, strict=True)] == wanted, bridge.transactions()

    function.time_left = 14  # of which the function keeps ten: too few for six posts of a second each
    put(cloud, log_key(distributions.cookies, "handed-over"), LOG.read_bytes())
    function.wait_for("all of its transactions", lambda: len(bridge.transactions()) >= 2 * len(wanted))
    assert any("handed over" in line for line in function.lines), function.lines
    function.time_left = function.configuration["Timeout"]
    assert [shown[: len(line)] for shown, line in zip(bridge.transactions(), wanted + wanted, strict=True)] == wanted + wanted
    put(cloud, log_key(distributions.fresh, "no-log"), gzip.compress(b"no access log\n"))
    dead = cloud.client("sqs").get_queue_url(QueueName=DEAD_LETTERS)["QueueUrl"]
    function.wait_for("the dead letter", lambda: waiting(cloud, dead) == "1")
    function.wait_for("an empty work queue", lambda: waiting(cloud, function.queue) == "0")

    step("verify.sh")
    told = first.script("verify", "--timeout", "240")
    assert "accepted the transaction" in told and "The path works" in told, told
    assert "https://edgetap.invalid/edgetap-verify?mark=" in bridge.transactions()[-1], bridge.transactions()[-1]


# --- The policies ---


def the_role_is_sufficient(cloud, role):
    made = cloud.calls_of(FUNCTION)
    assert {call.service for call in made} == {"s3", "sqs", "secretsmanager", "logs"}, made
    refused = not_allowed(role, made)
    assert not refused, f"the function's role lacks {refused}"
    nothing_is_granted_unnoticed(role, made, unexercised("function"))
    unnamed = [call for call in made if policy.resource(call, ACCOUNT) is None]
    assert not unnamed, f"the resource is not known of {unnamed}"
    elsewhere = [call._replace(parameters=call.parameters | {"Bucket": "another"}) for call in made if call.service == "s3"]
    assert elsewhere and all(not_allowed(role, [call]) for call in elsewhere), "another bucket goes unnoticed"


def the_operator_policy_is_sufficient(cloud, others):
    given, made = operator_policy(others), cloud.calls_of(OPERATOR)
    assert len({call.operation for call in made}) > 80, "the record of calls is not what it was"
    refused = not_allowed(given, made)
    assert not refused, f"operator-policy.json lacks {refused}"
    nothing_is_granted_unnoticed(given, made, unexercised("operator"))
    print(f"{len({(call.service, call.operation) for call in made})} different calls")


def nothing_is_granted_unnoticed(document, made, listed):
    for name in policy.granted(document) - listed:
        assert not_allowed(policy.without(document, name), made), f"{name} could be left out and nobody would notice"


def what_was_not_exercised_is_listed(cloud, role):
    given = {"operator": (operator_policy(), OPERATOR), "function": (role, FUNCTION)}
    for who, (document, key) in given.items():
        made = {policy.action(call) for call in cloud.calls_of(key)} - {None}
        found = {name for name in policy.granted(document) if not any(policy.allows(only(name), action, None) for action in made)}
        listed = unexercised(who)
        assert found == listed, f"{UNEXERCISED.name}, {who}: not listed {sorted(found - listed)}; listed in vain {sorted(listed - found)}"


def only(name):
    return {"Statement": [{"Effect": "Allow", "Action": name, "Resource": "*"}]}


def not_allowed(document, made):
    """Those actions, with their resources, that no statement of the policy allows."""
    wanted = {(policy.action(call), policy.resource(call, ACCOUNT)) for call in made}
    return sorted(f"{action} on {about}" for action, about in wanted if action and not policy.allows(document, action, about))


def operator_policy(others=None):
    text = (REPOSITORY / "terraform/operator-policy.json").read_text()
    for placeholder, name in others.names.items() if others else ():
        assert placeholder in text, placeholder
        text = text.replace(placeholder, name)
    return json.loads(text)


def unexercised(who):
    lines = [line.split() for line in UNEXERCISED.read_text().splitlines() if line and not line.startswith("#")]
    assert all(len(line) > 3 and "/" in line[2] for line in lines), "each has the page that demands it, and says for what"
    return {line[1] for line in lines if line[0] == who}


# --- What is in the account ---

LEGACY = {"Enabled": True, "IncludeCookies": False, "Bucket": "legacy.s3.amazonaws.com", "Prefix": "cf/"}
NONE = {"Enabled": False, "IncludeCookies": False, "Bucket": "", "Prefix": ""}


class Distributions:
    """Three, as their owners made them."""

    def __init__(self, cloud):
        self.cloudfront, self.logs = cloud.client("cloudfront"), cloud.client("logs")
        self.recorded = json.loads((REPOSITORY / "tests/scripts/distribution-config.json").read_text())["DistributionConfig"]
        self.fresh, self.cookies, self.elsewhere = self.all = [self.make("fresh", NONE), self.make("cookies", LEGACY), self.make("elsewhere", NONE)]
        theirs = self.logs.put_delivery_source(name="theirs", logType="ACCESS_LOGS", resourceArn=self.arn(self.elsewhere))
        assert theirs["deliverySource"]["name"] == "theirs"
        destination = self.logs.put_delivery_destination(
            name="theirs", outputFormat="w3c", deliveryDestinationConfiguration={"destinationResourceArn": "arn:aws:s3:::their-logs/cdn"}
        )
        self.logs.create_delivery(deliverySourceName="theirs", deliveryDestinationArn=destination["deliveryDestination"]["arn"])

    def make(self, name, logging):
        aliases = {"Quantity": 1, "Items": [f"{name}.example.com"]}
        config = self.recorded | {"CallerReference": name, "Logging": logging, "Aliases": aliases}
        return self.cloudfront.create_distribution(DistributionConfig=config)["Distribution"]["Id"]

    def arn(self, distribution):
        return f"arn:aws:cloudfront::{ACCOUNT}:distribution/{distribution}"

    def look(self):
        """All that tapping could change of each, ETag and times aside."""
        return {
            name: {
                "config": self.cloudfront.get_distribution_config(Id=name)["DistributionConfig"],
                "tags": self.cloudfront.list_tags_for_resource(Resource=self.arn(name))["Tags"],
            }
            for name in self.all
        }


class Others:
    """What somebody else owns and the module's options name."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.topics = {name: cloud.client("sns").create_topic(Name=name)["TopicArn"] for name in ("on-call", "their-events")}
        cloud.client("s3").create_bucket(Bucket="their-logs")
        self.key = cloud.client("kms").create_key()["KeyMetadata"]
        # What an operator puts in the place of the policy's placeholders.
        self.names = {"NAME-OF-AN-EXISTING-BUCKET": "their-logs", "NAME-OF-AN-EXISTING-TOPIC": "their-events", "ID-OF-YOUR-KEY": self.key["KeyId"]}

    def every_option(self):
        ec2 = self.cloud.client("ec2")
        subnet = ec2.describe_subnets()["Subnets"][0]
        group = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [subnet["VpcId"]]}])["SecurityGroups"][0]
        return {
            "kms_key_arn": self.key["Arn"],
            "vpc": {"subnet_ids": [subnet["SubnetId"]], "security_group_ids": [group["GroupId"]]},
            "alarm_topic_arn": self.topics["on-call"],
            "no_object_alarm_hours": 12,
            "existing_log_sources": [{"bucket": "their-logs", "prefix": "cloudfront/"}],
            "existing_sns_topics": [self.topics["their-events"]],
            "reserved_concurrency": 20,
            "maximum_concurrency": 20,
            "log_retention_days": 7,
            "log_expiration_days": 60,
            "memory_size": 256,
        }

    def leave(self):
        self.cloud.client("s3").delete_bucket(Bucket="their-logs")
        for topic in self.topics.values():
            self.cloud.client("sns").delete_topic(TopicArn=topic)


def open_the_bucket(cloud):
    """The delivery policy stands; moto_override.tf says why another takes its place."""
    s3 = cloud.client("s3")
    applied = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])
    assert [statement["Sid"] for statement in applied["Statement"]] == ["AWSLogDeliveryWrite", "LogDeliveryWithoutAcl", "TlsOnly"]
    all_may = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [all_may]}))


def log_key(distribution, unique):
    now = time.gmtime()
    return time.strftime(f"AWSLogs/{ACCOUNT}/CloudFront/{distribution}/%Y/%m/%d/%H/{distribution}.%Y-%m-%d-%H.{unique}.gz", now)


def put(cloud, key, content):
    cloud.client("s3").put_object(Bucket=BUCKET, Key=key, Body=content)
    return key


def waiting(cloud, queue):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = cloud.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return str(sum(int(told[name]) for name in names))


def bridge_secret(cloud):
    return json.loads(cloud.client("secretsmanager").get_secret_value(SecretId="edgetap-bridge")["SecretString"])


def every_taggable_resource_is_tagged(machine):
    taggable = {resource["address"]: resource["values"]["tags_all"] for resource in machine.resources() if "tags_all" in resource["values"]}
    assert len(taggable) >= 15, taggable
    for address, tags in taggable.items():
        assert tags == {"edgetap": "edgetap", "managed-by": "terraform"}, (address, tags)


def env_file(bridge, secret, log_level="info"):
    """Small batches, one after the other: a log takes several."""
    settings = bridge.settings | {"BRIDGE_CLIENT_SECRET": secret, "BRIDGE_CONCURRENCY": 1, "BATCH_MAX_TRANSACTIONS": 2, "LOG_LEVEL": log_level}
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def line_of(table, distribution):
    (line,) = [line for line in table.splitlines() if line.startswith(f"{distribution} ")]
    return line


began = time.monotonic()


def step(name):
    print(f"{time.monotonic() - began:4.0f} s  {name}", flush=True)


if __name__ == "__main__":
    main()
    step("done")
