"""Tests the operator's whole path against moto: from a clone to transactions at the bridge, and back to an empty account.
The scripts, Terraform, the AWS provider, the AWS CLI and the built function are the real ones.

Usage: PYTHON tests/operator/whole_path.py BOOTSTRAP.zip EDGETAP, where PYTHON has moto[server], with terraform, aws and
jq on the PATH. Takes about ten minutes, most of them Terraform's: creating a queue takes the provider 25 seconds.

The test works on a copy that differs only in moto_override.tf. Every call is recorded and compared with the policies of the
operator and of the function's role. docs/operations.md lists what moto cannot show.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import policy
from bridge import Bridge, different, expected
from cloud import ACCOUNT, FUNCTION, OPERATOR, REGION, SOURCE_ACCOUNT, SOURCE_OPERATOR, SOURCE_TEST, TEST, Cloud
from function import Function
from machine import REPOSITORY, Machine, contains_no_secret, keep_aws_warm

BUCKET, WORK, DEAD_LETTERS = f"edgetap-logs-{ACCOUNT}-{REGION}", "edgetap-work", "edgetap-dead-letters"
BACKFILL, BACKFILL_DEAD_LETTERS = "edgetap-backfill", "edgetap-backfill-dead-letters"
FIRST, SECOND = "first-CANARY-${x}\"'%{y};#z", "second-CANARY"
LOG = REPOSITORY / "tests/fixtures/logs/E27FO14I29XXXX.2026-11-14-20.d740d76b.gz"
SECRET = "terraform/secret.auto.tfvars"
UNEXERCISED = Path(__file__).parent / "unexercised.txt"
# The operators' policies: file, name in unexercised.txt, access key.
POLICIES = [("operator-policy.json", "operator", OPERATOR), ("operator-policy-distributions.json", "distributions", SOURCE_OPERATOR)]
MISSING_CREDENTIALS = "bridge_credentials is not set"


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # runs the exit handlers, which end all processes
    zip_file, edgetap = (Path(argument).resolve() for argument in sys.argv[1:])
    cloud = Cloud()
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        environment = cloud.environment(OPERATOR) | keep_aws_warm(directory)
        bridge = Bridge(edgetap, FIRST)
        whole_path(cloud, bridge, directory, environment, zip_file)
    cloud.stop()


def whole_path(cloud, bridge, directory, environment, zip_file):
    step("zip runs on Amazon Linux 2023")
    runs_anywhere(zip_file)
    distributions, others_distributions = Distributions(cloud), Distributions(cloud, SOURCE_ACCOUNT, SOURCE_TEST)
    before, original = cloud.everything(), distributions.look()
    state = directory / "terraform.tfstate"

    step("clone: terraform init")
    first = Machine(directory / "first", state, environment)

    step("plan without zip, endpoints or credentials fails")
    error = first.terraform_error("plan")
    assert "Run scripts/build-lambda.sh" in error, error
    (first.directory / "target/lambda").mkdir(parents=True)
    for built in (zip_file, zip_file.parent / "architecture"):
        (first.directory / "target/lambda" / built.name).write_bytes(built.read_bytes())
    error = first.terraform_error("plan")
    assert "bridge_auth_endpoint and bridge_edge_endpoint are required" in error, error
    assert MISSING_CREDENTIALS in error, error

    step("first apply creates the installation")
    first.write(".env", env_file(bridge, FIRST))
    first.script("setup-tfvars")
    credentials = (first.directory / SECRET).read_text()
    first.delete(SECRET)
    error = first.terraform_error("apply", "-auto-approve")
    assert MISSING_CREDENTIALS in error, error
    assert cloud.everything() == before
    first.write(SECRET, credentials)
    first.terraform("plan", "-out=planned")
    first.terraform("show", "-json", "planned")

    step("installation of the earlier layout, with a log that waits")
    earlier = Machine(directory / "earlier", state, environment, earlier=True)
    for name in ("target/lambda/bootstrap.zip", "target/lambda/architecture", SECRET, "terraform/edgetap.auto.tfvars"):
        earlier.copy(name, first)
    earlier.terraform("apply", "-auto-approve")
    open_the_bucket(cloud)
    empty = int(waiting(cloud, queue_url(cloud, WORK)))  # but for S3's test message
    waited = put(cloud, log_key(distributions.fresh, "waited"), LOG.read_bytes())

    step("upgrade in place changes no resource, nor does going back")
    first.changes_no_resource()
    first.terraform("apply", "-auto-approve")
    earlier.run("bash", "-euo", "pipefail", "-c", going_back())
    earlier.changes_no_resource()
    first.terraform("apply", "-auto-approve")
    assert int(waiting(cloud, queue_url(cloud, WORK))) == empty + 1

    step("first apply with a source account and a backfill queue")
    first.write("terraform/mine.auto.tfvars", f'source_account_ids = ["{SOURCE_ACCOUNT}"]\nbackfill_concurrency = 2\n')
    first.terraform("apply", "-auto-approve")
    assert bridge_secret(cloud) == {"client_id": "id", "client_secret": FIRST, "bridge_ca": None, "redaction_key": None}
    contains_no_secret(json.dumps(cloud.client("lambda").get_function_configuration(FunctionName="edgetap")["Environment"]))
    every_taggable_resource_is_tagged(first)
    role = json.loads(json.dumps(cloud.client("iam").get_role_policy(RoleName="edgetap-function", PolicyName="edgetap")["PolicyDocument"]))

    step("second plan shows no change, with or without credentials")
    first.shows_no_change()
    first.delete(SECRET)
    first.shows_no_change()
    error = first.terraform_error("plan", "-var=secret_version=2")
    assert MISSING_CREDENTIALS in error, error

    step("enable.sh completes an interrupted run and skips others")
    enable_cookies = ["enable", "--distribution", distributions.cookies, "--include-cookies", "--yes"]
    changes = directory / "changes"
    dying = {"CHANGES": str(changes), "DIE_AFTER": "3", "PATH": f"{REPOSITORY}/tests/scripts/dying:{first.environment['PATH']}"}
    first.script(*enable_cookies, status=-9, environment=dying)
    assert len(changes.read_text().splitlines()) == 3
    first.script(*enable_cookies)
    output = first.script("enable", "--all", "--yes", status=1)
    assert line_of(output, distributions.fresh).endswith("  enabled"), output
    assert line_of(output, distributions.cookies).endswith("  unchanged"), output
    assert "NOT ENABLED" in line_of(output, distributions.elsewhere), output
    assert "arn:aws:s3:::their-logs/cdn" in output, output
    assert "existing_log_sources" in output, output
    enabled = distributions.look()
    assert enabled[distributions.elsewhere] == original[distributions.elsewhere]
    assert enabled[distributions.cookies]["config"]["Logging"] == LEGACY | {"IncludeCookies": True}
    deliveries = {delivery["deliverySourceName"] for delivery in cloud.client("logs").describe_deliveries()["deliveries"]}
    assert deliveries == {"theirs", f"edgetap-edgetap-{distributions.fresh}", f"edgetap-edgetap-{distributions.cookies}"}, deliveries

    step("enable.sh changes nothing the second time")
    after_enabling = cloud.everything()
    output = first.script("enable", "--all", "--include-cookies", "--yes", status=1)
    assert line_of(output, distributions.fresh).endswith("  updated"), output  # cookie logging, this time
    output = first.script("enable", "--distribution", distributions.fresh, "--distribution", distributions.cookies, "--include-cookies", "--yes")
    assert output.count("unchanged") == 2, output
    assert cloud.everything() == after_enabling

    step("paused deliveries stay paused until they are resumed")
    first.script("pause", "--yes")
    first.shows_no_change()
    assert json.loads(first.script("status", "--json"))["queues"]["work"]["paused"]
    output = first.script("verify", status=2)
    assert "deliveries are paused" in output, output
    first.script("pause", "--resume")

    step("uploaded logs reach the bridge through the function")
    (directory / "function").mkdir()
    with Function(cloud, "edgetap", zip_file, directory / "function") as function:
        no_log = deliver(cloud, bridge, function, distributions, waited, first)
        backfills(cloud, bridge, function, distributions, no_log, first)
    assert bridge.stop() == 0, bridge.lines
    contains_no_secret("\n".join(function.lines))
    the_role_is_sufficient(cloud, role)

    step("edgetap find tells which log has a request")
    wanted = json.loads(LOG.with_name(LOG.name + ".expected.json").read_text())["transactions"][-1]["id"]
    output = first.run(bridge.program, "find", wanted, f"s3://{BUCKET}/", "--distribution", distributions.cookies, "--since", "2026-11-14")
    assert f"/{distributions.cookies}." in output, output
    assert "requeued.gz" in output, output

    step("status.sh and redrive.sh show the deliveries")
    status = json.loads(first.script("status", "--json"))
    by_id = {distribution["id"]: distribution for distribution in status["distributions"]}
    assert [by_id[name]["enabled"] for name in distributions.all] == ["yes", "yes", "elsewhere"], status
    assert by_id[distributions.cookies]["cookies"] == {"logged": True, "turned_on_by_edgetap": True}, status
    fresh = by_id[distributions.fresh]
    assert fresh["last_object"]["key"].endswith("no-log.gz"), status
    assert fresh["last_success"]["sent"] == 12, status
    assert fresh["fields"]["lacking"] == [], status
    assert status["queues"]["dead_letters"]["waiting"] == 1, status
    output = first.script("status")
    assert "on, by edgetap" in line_of(output, distributions.cookies), output
    assert "12 sent" in line_of(output, distributions.fresh), output
    output = first.script("redrive", "--dry-run")
    assert "not a supported CloudFront access log" in output, output
    first.script("redrive")  # one by one: moto lacks redrive tasks

    step("account of other distributions taps them without Terraform")
    arn = first.run("terraform", "-chdir=terraform", "output", "-raw", "delivery_destination_arn")
    taps_from_another_account(cloud, arn, Machine(directory / "source", None, environment | {"AWS_ACCESS_KEY_ID": SOURCE_OPERATOR}), others_distributions)

    step("second operator continues with a clone and the state")
    second = Machine(directory / "second", state, environment)
    seen = json.loads(second.script("status", "--json"))
    assert seen["distributions"] == status["distributions"], seen
    assert seen["queues"]["work"]["waiting"] == 1, seen
    output = second.script("enable", "--distribution", distributions.fresh, "--yes")
    assert line_of(output, distributions.fresh).endswith("  unchanged"), output
    second.script("disable", "--distribution", distributions.fresh, "--yes")
    assert distributions.look()[distributions.fresh] == original[distributions.fresh]

    step("disable.sh restores each distribution")
    first.script("disable", "--all", "--yes")
    assert distributions.look() == original
    output = first.script("disable", "--all", "--yes")
    assert "Nothing to remove" in output, output
    assert distributions.look() == original
    logs = ["delivery sources", "delivery destinations", "deliveries"]
    left = cloud.everything()
    left["delivery destinations"] = [kept for kept in left["delivery destinations"] if kept["arn"] != arn]  # Terraform's
    assert [left[kind] for kind in logs] == [before[kind] for kind in logs]

    step("enable.sh applies a changed LOG_LEVEL, and nothing else")
    others = Others(cloud)
    first.write("terraform/options.auto.tfvars.json", json.dumps(others.every_option()))
    first.write(".env", env_file(bridge, SECOND, log_level="debug"))
    enable_unasked = ["enable", "--distribution", distributions.cookies, "--include-cookies", "--yes"]
    output = first.script(*enable_unasked, status=2)
    assert "--yes does not confirm it" in output, output
    assert (bridge_secret(cloud)["client_secret"], log_level(cloud)) == (FIRST, "info")
    first.terraform("apply", "-auto-approve")
    first.terraform("apply", "-auto-approve")  # moto deletes a queue's policy when another attribute is set, here its key
    assert (bridge_secret(cloud)["client_secret"], log_level(cloud)) == (SECOND, "debug")
    every_taggable_resource_is_tagged(first)
    first.shows_no_change()
    first.write(".env", env_file(bridge, SECOND, log_level="trace"))
    output = first.script(*enable_unasked)
    assert "LOG_LEVEL is trace, but the function's log level is debug" in output, output
    assert (bridge_secret(cloud)["client_secret"], log_level(cloud)) == (SECOND, "trace")
    first.shows_no_change()
    # moto accepts the EventBridge element but does not return it, which the script detects.
    output = first.script("watch-bucket", "their-logs", "--yes", status=1)
    assert "differs from what was written" in output, output

    step("disable.sh --destroy without .env and zip leaves nothing")
    output = second.script("disable", "--destroy", "--yes")
    assert re.search("edgetap-work +1 waiting", output), output
    assert "Nothing tagged or named edgetap is left" in output, output
    assert cloud.loops == {"edgetap": "Terminate"}, cloud.loops
    others.delete()
    left = cloud.everything()
    assert left == before, left
    assert distributions.look() == original

    step("two installations: removing one leaves the other")
    first.delete("terraform/options.auto.tfvars.json", "terraform/mine.auto.tfvars")
    neighbor = Machine(directory / "neighbor", directory / "neighbor.tfstate", environment)
    for name in ("target/lambda/bootstrap.zip", "target/lambda/architecture", ".env"):
        neighbor.copy(name, first)
    neighbor.write("terraform/mine.auto.tfvars", 'name = "edgetap-neighbor"\n')
    neighbor.script("setup-tfvars")
    with ThreadPoolExecutor() as pool:
        for applied in [pool.submit(machine.terraform, "apply", "-auto-approve") for machine in (first, neighbor)]:
            applied.result()
    assert bridge_secret(cloud)["client_secret"] == SECOND
    first.shows_no_change()
    neighbor.script("enable", "--distribution", distributions.fresh, "--yes")
    output = first.script("enable", "--distribution", distributions.fresh, "--yes", status=1)
    assert "created by the edgetap installation edgetap-neighbor" in output, output
    enabled = distributions.look()
    output = first.script("disable", "--destroy", "--yes")
    assert "Nothing tagged or named edgetap is left" in output, output
    neighbor.shows_no_change()
    assert distributions.look() == enabled
    output = neighbor.script("disable", "--destroy", "--yes")
    assert "Nothing tagged or named edgetap-neighbor is left" in output, output
    assert cloud.everything() == before
    assert distributions.look() == original

    step("operator's policy allows the calls and nothing unlisted")
    the_operator_policies_are_sufficient(cloud, others)
    unexercised_permissions_are_listed(cloud, role)


def going_back():
    """Returns the commands with which docs/operations.md goes back to the earlier layout."""
    return re.search(r"move the state back .*?```sh\n(.*?)```", (REPOSITORY / "docs/operations.md").read_text(), re.DOTALL)[1]


def runs_anywhere(zip_file):
    """Checks the real zip as tests/scripts/build.bats checks one of stubs: it needs glibc 2.34 at most, and is reproducible."""
    with zipfile.ZipFile(zip_file) as archive:
        (entry,) = archive.infolist()
        program = archive.read(entry)
    assert (entry.filename, entry.external_attr >> 16, entry.date_time) == ("bootstrap", 0o100755, (1980, 1, 1, 0, 0, 0)), entry
    newest = max(int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", program))
    assert newest <= 34, f"the function needs glibc 2.{newest}"
    for place in (f"{REPOSITORY}/src/", f"{os.environ.get('CARGO_HOME', Path.home() / '.cargo')}/registry/"):
        assert place.encode() not in program, f"the function contains the path {place}"


def deliver(cloud, bridge, function, distributions, waited, first):
    """Delivers the log that waited, a log in one invocation, one of another account, one in several invocations, and an object that is not a log."""
    fixture = json.loads(LOG.with_name(LOG.name + ".expected.json").read_text())
    wanted, logs = expected(fixture["transactions"]), 0

    def all_arrive():
        nonlocal logs
        logs += 1
        function.wait_for("the log's last transaction", lambda: len(bridge.transactions()) >= logs * len(wanted))
        assert different(bridge.transactions(), logs * wanted) == []

    all_arrive()
    assert function.reports(waited), function.lines
    put(cloud, "aws-programmatic-access-test-object", b"not under the prefix: no notification")
    whole = put(cloud, log_key(distributions.fresh, "whole"), LOG.read_bytes())
    report = function.wait_for("the summary line of the log", lambda: function.report(whole))
    assert {name: report[name] for name in fixture["counts"]} == fixture["counts"], report
    assert report["level"] == "WARN", report  # one of 17 rows is malformed
    all_arrive()
    put(cloud, log_key("E2SOURCEACCOUNT", "other-account", SOURCE_ACCOUNT), LOG.read_bytes())
    all_arrive()

    # The function keeps 10 s of these in reserve. The other four are too few for six requests of
    # one second each.
    function.time_left = 14
    requeued = put(cloud, log_key(distributions.cookies, "requeued"), LOG.read_bytes())
    all_arrive()
    assert any(report["requeues"] for report in function.reports(requeued)), function.lines
    function.time_left = function.configuration["Timeout"]
    no_log = put(cloud, log_key(distributions.fresh, "no-log"), gzip.compress(b"no access log\n"))
    function.wait_for("the message in the dead-letter queue", lambda: waiting(cloud, queue_url(cloud, DEAD_LETTERS)) == "1")
    function.wait_for("an empty work queue", lambda: waiting(cloud, queue_url(cloud, WORK)) == "0")

    step("verify.sh follows a request to the bridge")
    output = first.script("verify", "--timeout", "240")
    assert "accepted the transaction" in output, output
    assert "The path works" in output, output
    assert "https://edgetap.invalid/edgetap-verify?mark=" in bridge.transactions()[-1], bridge.transactions()[-1]
    return no_log


def backfills(cloud, bridge, function, distributions, no_log, first):
    """Sends the log from before enabling again, and an object that is not a log, whose dead letter is discarded."""
    step("backfill.sh sends logs through a queue of their own")
    wanted = expected(json.loads(LOG.with_name(LOG.name + ".expected.json").read_text())["transactions"])
    program = {"EDGETAP_BINARY": str(bridge.program)}
    before, live = len(bridge.lines), sent_to(cloud, WORK)

    def arrived():
        return [line.strip() for line in bridge.lines[before:] if line.startswith("  ")]

    arguments = ["--distribution", distributions.fresh, "--until", "enabled"]
    first.script("backfill", *arguments, "--dry-run", environment=program)
    assert sent_to(cloud, BACKFILL) == 0
    first.script("backfill", *arguments, "--yes", "--wait", "--look-every", "200", environment=program)
    function.wait_for("the log's last transaction", lambda: len(arrived()) >= len(wanted))
    assert different(arrived(), wanted) == []
    batches = [line for line in bridge.lines[before:] if ", key " in line]
    assert batches and all(line.rstrip().endswith(", repeated") for line in batches), batches
    assert (sent_to(cloud, BACKFILL), sent_to(cloud, WORK)) == (1, live), cloud.calls_of(OPERATOR)[-20:]

    first.script("backfill", "--source", f"{BUCKET}/{no_log}", "--yes", environment=program)
    dead = queue_url(cloud, BACKFILL_DEAD_LETTERS)
    function.wait_for("the backfill's dead letter", lambda: waiting(cloud, dead) == "1")
    assert waiting(cloud, queue_url(cloud, DEAD_LETTERS)) == "1"
    discard = ["redrive", "--queue", "backfill", "--discard", "--object", no_log]
    output = first.script(*discard, status=2)  # no one answers
    assert "not a supported CloudFront access log" in output, output
    first.script(*discard, "--yes")
    assert waiting(cloud, dead) == "0"


def sent_to(cloud, queue):
    """Returns how many messages the operator has sent to the queue; a call can have ten."""
    calls = [call for call in cloud.calls_of(OPERATOR) if call.operation in ("SendMessage", "SendMessageBatch") and call.parameters["QueueUrl"].endswith(f"/{queue}")]
    return sum(len(call.parameters.get("Entries", [None])) for call in calls)


def taps_from_another_account(cloud, arn, machine, distributions):
    """Enables and disables distributions of the source account, with its credentials and the destination's ARN alone."""
    before, original = cloud.everything(SOURCE_TEST), distributions.look()
    to = ["--destination-arn", arn]
    output = machine.script("enable", *to, "--all", "--include-cookies", "--yes", status=1)
    assert line_of(output, distributions.fresh).endswith("  enabled"), output
    assert "NOT ENABLED" in line_of(output, distributions.elsewhere), output
    deliveries = cloud.client("logs", SOURCE_TEST).describe_deliveries()["deliveries"]
    assert [delivery["deliveryDestinationArn"] for delivery in deliveries].count(arn) == 2, deliveries
    output = machine.script("enable", *to, "--distribution", distributions.cookies, "--yes")
    assert line_of(output, distributions.cookies).endswith("  unchanged"), output
    status = json.loads(machine.script("status", *to, "--json"))
    assert [distribution["enabled"] for distribution in status["distributions"]] == ["yes", "yes", "elsewhere"], status
    machine.script("disable", *to, "--all", "--yes")
    assert cloud.everything(SOURCE_TEST) == before
    assert distributions.look() == original


# --- The policies ---


def the_role_is_sufficient(cloud, role):
    made = cloud.calls_of(FUNCTION)
    assert {call.service for call in made} == {"s3", "sqs", "secretsmanager", "logs"}, made
    denied = not_allowed(role, made)
    assert not denied, f"the function's role lacks {denied}"
    every_permission_is_needed(role, made, unexercised("function"))
    unnamed = [call for call in made if policy.resource(call, ACCOUNT) is None]
    assert not unnamed, f"calls without a known resource: {unnamed}"
    elsewhere = [call._replace(parameters=call.parameters | {"Bucket": "another"}) for call in made if call.service == "s3"]
    assert elsewhere, "the function made no calls to S3"
    assert all(not_allowed(role, [call]) for call in elsewhere), "the function's role allows access to another bucket"


def the_operator_policies_are_sufficient(cloud, others):
    for (name, who, key), account, operations in ((POLICIES[0], ACCOUNT, 80), (POLICIES[1], SOURCE_ACCOUNT, 10)):
        given, made = policy_file(name, others), cloud.calls_of(key)
        assert len({call.operation for call in made}) > operations, "the record of calls is incomplete"
        denied = not_allowed(given, made, account)
        assert not denied, f"{name} lacks {denied}"
        every_permission_is_needed(given, made, unexercised(who), account)
        print(f"{name}: {len({(call.service, call.operation) for call in made})} different operations")


def every_permission_is_needed(document, made, listed, account=ACCOUNT):
    unneeded = {name for name in policy.granted(document) - listed if not not_allowed(policy.without(document, name), made, account)}
    assert not unneeded, f"no call needs the permissions {sorted(unneeded)}"


def unexercised_permissions_are_listed(cloud, role):
    given = {who: (policy_file(name), key) for name, who, key in POLICIES} | {"function": (role, FUNCTION)}
    for who, (document, key) in given.items():
        made = {policy.action(call) for call in cloud.calls_of(key)} - {None}
        found = {name for name in policy.granted(document) if not any(policy.allows(only(name), action, None) for action in made)}
        listed = unexercised(who)
        assert found == listed, f"{UNEXERCISED.name}, {who}: missing {sorted(found - listed)}; to remove {sorted(listed - found)}"


def only(name):
    return {"Statement": [{"Effect": "Allow", "Action": name, "Resource": "*"}]}


def not_allowed(document, made, account=ACCOUNT):
    """Returns the actions, with their resources, that the policy does not allow."""
    wanted = {(policy.action(call), policy.resource(call, account)) for call in made}
    return sorted(f"{action} on {resource}" for action, resource in wanted if action and not policy.allows(document, action, resource))


def policy_file(name, others=None):
    text = (REPOSITORY / "terraform" / name).read_text()
    for placeholder, value in others.names.items() if others else ():
        text = text.replace(placeholder, value)
    assert not others or "NAME-OF" not in text, f"{name} has a placeholder without a value"
    return json.loads(text)


def unexercised(who):
    lines = [line.split() for line in UNEXERCISED.read_text().splitlines() if line and not line.startswith("#")]
    assert all(len(line) > 3 and "/" in line[2] for line in lines), f"a line of {UNEXERCISED.name} lacks the page or the purpose"
    return {line[1] for line in lines if line[0] == who}


# --- Resources of the account ---

LEGACY = {"Enabled": True, "IncludeCookies": False, "Bucket": "legacy.s3.amazonaws.com", "Prefix": "cf/"}
NONE = {"Enabled": False, "IncludeCookies": False, "Bucket": "", "Prefix": ""}


class Distributions:
    """Three distributions as their owners created them: without logging, with legacy logging, delivering elsewhere."""

    def __init__(self, cloud, account=ACCOUNT, key=TEST):
        self.cloudfront, self.logs, self.account = cloud.client("cloudfront", key), cloud.client("logs", key), account
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
        return f"arn:aws:cloudfront::{self.account}:distribution/{distribution}"

    def look(self):
        """Returns everything about each distribution that enabling can change, without ETag and times."""
        return {
            name: {
                "config": self.cloudfront.get_distribution_config(Id=name)["DistributionConfig"],
                "tags": self.cloudfront.list_tags_for_resource(Resource=self.arn(name))["Tags"],
            }
            for name in self.all
        }


class Others:
    """Resources of other owners, which the module's options name."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.topics = {name: cloud.client("sns").create_topic(Name=name)["TopicArn"] for name in ("on-call", "their-events")}
        cloud.client("s3").create_bucket(Bucket="their-logs")
        self.key = cloud.client("kms").create_key()["KeyMetadata"]
        # Values for the placeholders of the operator's policy.
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
            "backfill_sources": [{"bucket": "their-logs", "prefix": "history/"}],
            "existing_sns_topics": [self.topics["their-events"]],
            "reserved_concurrency": 22,  # the sum of both mappings
            "maximum_concurrency": 20,
            "log_retention_days": 7,
            "log_expiration_days": 60,
            "memory_size": 256,
            "batch_size": 5,
            "batching_window": 5,
            "permissions_boundary": "arn:aws:iam::aws:policy/PowerUserAccess",
            "environment": {"HTTPS_PROXY": "http://proxy.example.com:3128"},
        }

    def delete(self):
        self.cloud.client("s3").delete_bucket(Bucket="their-logs")
        for topic in self.topics.values():
            self.cloud.client("sns").delete_topic(TopicArn=topic)


def open_the_bucket(cloud):
    """Checks the bucket's policy, then replaces it; moto_override.tf explains why."""
    s3 = cloud.client("s3")
    applied = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])
    assert [statement["Sid"] for statement in applied["Statement"]] == ["AWSLogDeliveryWrite", "LogDeliveryWithoutAcl", "TlsOnly"]
    all_may = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [all_may]}))


def queue_url(cloud, name):
    return cloud.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]


def log_key(distribution, unique, account=ACCOUNT):
    now = time.gmtime()
    return time.strftime(f"AWSLogs/{account}/CloudFront/{distribution}/%Y/%m/%d/%H/{distribution}.%Y-%m-%d-%H.{unique}.gz", now)


def put(cloud, key, content):
    cloud.client("s3").put_object(Bucket=BUCKET, Key=key, Body=content)
    return key


def waiting(cloud, queue):
    names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
    attributes = cloud.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return str(sum(int(attributes[name]) for name in names))


def bridge_secret(cloud):
    return json.loads(cloud.client("secretsmanager").get_secret_value(SecretId="edgetap-bridge")["SecretString"])


def log_level(cloud):
    return cloud.client("lambda").get_function_configuration(FunctionName="edgetap")["Environment"]["Variables"]["LOG_LEVEL"]


def every_taggable_resource_is_tagged(machine):
    taggable = {resource["address"]: resource["values"]["tags_all"] for resource in machine.resources() if "tags_all" in resource["values"]}
    assert len(taggable) >= 15, taggable
    for address, tags in taggable.items():
        assert tags == {"edgetap": "edgetap", "managed-by": "terraform"}, (address, tags)


def env_file(bridge, secret, log_level="info"):
    """Returns a .env file with small batches and one request at a time, so that a log takes several requests."""
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
