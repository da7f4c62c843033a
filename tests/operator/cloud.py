"""moto plays two AWS accounts. Every call is recorded with its caller."""

import io
import json
import logging
import threading
from urllib.parse import urlsplit

import boto3
import calls
import cross_account
from moto.awslambda.models import LambdaBackend
from moto.cloudfront import models as cloudfront
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

REGION, ACCOUNT = "us-east-1", "123456789012"  # moto's account
# An account whose distributions deliver to the installation in ACCOUNT.
SOURCE_ACCOUNT = "210987654321"
# Access keys, which identify the caller.
OPERATOR, FUNCTION, TEST = "operator", "function", "test"
SOURCE_OPERATOR, SOURCE_TEST = "source-operator", "source-test"

LISTINGS = {
    "buckets": ("s3", "list_buckets", "Buckets"),
    "queues": ("sqs", "list_queues", "QueueUrls"),
    "functions": ("lambda", "list_functions", "Functions"),
    "mappings": ("lambda", "list_event_source_mappings", "EventSourceMappings"),
    "secrets": ("secretsmanager", "list_secrets", "SecretList"),
    "roles": ("iam", "list_roles", "Roles"),
    "policies": ("iam", "list_policies", "Policies"),
    "log groups": ("logs", "describe_log_groups", "logGroups"),
    "delivery sources": ("logs", "describe_delivery_sources", "deliverySources"),
    "delivery destinations": ("logs", "describe_delivery_destinations", "deliveryDestinations"),
    "deliveries": ("logs", "describe_deliveries", "deliveries"),
    "alarms": ("cloudwatch", "describe_alarms", "MetricAlarms"),
    "dashboards": ("cloudwatch", "list_dashboards", "DashboardEntries"),
    "rules": ("events", "list_rules", "Rules"),
    "topics": ("sns", "list_topics", "Topics"),
    "subscriptions": ("sns", "list_subscriptions", "Subscriptions"),
}


class Cloud:
    """moto on a free loopback port."""

    def __init__(self):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        # moto would run the function in Docker as soon as its queue has a message; function.py runs
        # it instead.
        LambdaBackend.send_sqs_batch = lambda *_: False
        # edgetap recognizes the ID of a distribution in a key by its first letter, which on AWS is
        # E.
        cloudfront.random_id = lambda uppercase=True, draw=cloudfront.random_id: ("E" if uppercase else "") + draw(uppercase)
        cross_account.patch()
        self.calls, self.loops = [], {}
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.server = make_server("127.0.0.1", 0, self.record, threaded=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def record(self, environ, start_response):
        headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
        headers["content-type"] = environ.get("CONTENT_TYPE", "")
        body = b""
        if headers["content-type"].startswith(("application/json", "application/x-amz-json", "application/x-www-form-urlencoded")):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
        uri = urlsplit(environ["REQUEST_URI"])
        if call := calls.read(environ["REQUEST_METHOD"], f"{uri.path}?{uri.query}", headers, body):
            self.calls.append(call)
            if call.key in (SOURCE_OPERATOR, SOURCE_TEST):
                environ["HTTP_X_MOTO_ACCOUNT_ID"] = SOURCE_ACCOUNT
            if call.operation in ("GetFunctionRecursionConfig", "PutFunctionRecursionConfig"):
                return self.recursion_config(call, body, start_response)
        try:
            return self.moto(environ, start_response)
        except NotImplementedError:  # moto lacks the operation
            start_response("501 Not Implemented", [("Content-Length", "0")])
            return []

    def recursion_config(self, call, body, start_response):
        """Plays the recursive-loop setting of functions, which moto lacks. Terminate is Lambda's default."""
        function = call.parameters["FunctionName"]
        if call.operation == "PutFunctionRecursionConfig":
            self.loops[function] = json.loads(body)["RecursiveLoop"]
        response = json.dumps({"RecursiveLoop": self.loops.get(function, "Terminate")}).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(response)))])
        return [response]

    def environment(self, key):
        """Returns the environment variables that make an AWS client call moto with that access key."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": "awsSecretCANARY",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service, key=TEST):
        return boto3.client(service, REGION, endpoint_url=self.endpoint, aws_access_key_id=key, aws_secret_access_key="-")

    def calls_of(self, key):
        return [call for call in self.calls if call.key == key]

    def everything(self, key=TEST):
        """Returns all resources of the caller's account by kind."""
        return {kind: getattr(self.client(service, key), call)().get(result) or [] for kind, (service, call, result) in LISTINGS.items()}

    def stop(self):
        self.server.shutdown()
