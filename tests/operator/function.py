"""Plays AWS Lambda: polls the queues of the event source mappings, invokes the program from the zip, and stores its output in the log group.

Calls AWS as the function's role does.
"""

import json
import queue
import subprocess
import threading
import time
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloud import FUNCTION, REGION

INVOCATION = "/2018-06-01/runtime/invocation/"
# Seconds to wait for an invocation after its timeout.
GRACE = 30


class Function:
    """Runs the function as it is configured in the account. Use it in a `with` statement."""

    def __init__(self, cloud, name, zip_file, directory):
        self.configuration = cloud.client("lambda").get_function_configuration(FunctionName=name)
        mappings = cloud.client("lambda").list_event_source_mappings()["EventSourceMappings"]
        for mapping in mappings:
            assert mapping["FunctionArn"] == self.configuration["FunctionArn"], mapping
            assert mapping["State"] == "Enabled", mapping
            assert (mapping["BatchSize"], mapping.get("MaximumBatchingWindowInSeconds", 0)) == (10, 0), mapping
            assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"], mapping
        sources = [mapping["EventSourceArn"] for mapping in mappings]
        assert sorted(source.rpartition(":")[2] for source in sources) == [f"{name}-backfill", f"{name}-work"], sources
        assert cloud.loops == {name: "Allow"}, cloud.loops
        self.time_left = self.configuration["Timeout"]
        self.sqs, self.logs = cloud.client("sqs", FUNCTION), cloud.client("logs", FUNCTION)
        self.queues = {source: cloud.client("sqs").get_queue_url(QueueName=source.rpartition(":")[2])["QueueUrl"] for source in sources}
        self.one_at_a_time = threading.Lock()  # an instance of a function has one invocation
        self.stream = {"logGroupName": f"/aws/lambda/{name}", "logStreamName": "2026/11/14/[$LATEST]0123456789abcdef"}
        self.logs.create_log_stream(**self.stream)
        self.lines, self.invocations, self.failure, self.stopping = [], 0, None, False
        self.events, self.responses = queue.Queue(), queue.Queue()
        self.api = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.api.daemon_threads = True
        command, files = [self.unpack(zip_file, directory)], {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(command, cwd=directory, env=self.environment(cloud), **files, text=True)
        tasks = [self.api.serve_forever, self.read_lines, *(partial(self.poll, source) for source in sources)]
        self.threads = [threading.Thread(target=self.guarded, args=(task,), daemon=True) for task in tasks]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.process.kill()
        self.process.wait()
        self.responses.put(("stopped", None))  # ends the wait of an unfinished invocation
        self.api.shutdown()
        for thread in self.threads:
            thread.join()

    def unpack(self, zip_file, directory):
        with zipfile.ZipFile(zip_file) as archive:
            archive.extract("bootstrap", directory)
        (directory / "bootstrap").chmod(0o755)
        return directory / "bootstrap"

    def environment(self, cloud):
        """Returns the function's environment variables and those that Lambda sets, without any of this machine."""
        return (
            self.configuration["Environment"]["Variables"]
            | cloud.environment(FUNCTION)
            | {
                "AWS_EXECUTION_ENV": "AWS_Lambda_provided.al2023",
                "AWS_LAMBDA_FUNCTION_NAME": self.configuration["FunctionName"],
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.configuration["MemorySize"]),
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
                "AWS_LAMBDA_LOG_GROUP_NAME": self.stream["logGroupName"],
                "AWS_LAMBDA_LOG_STREAM_NAME": self.stream["logStreamName"],
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server_port}",
                "AWS_SESSION_TOKEN": "token",
                "LAMBDA_TASK_ROOT": "/var/task",
                "TZ": ":UTC",
                "_HANDLER": self.configuration["Handler"],
            }
        )

    # --- The Runtime API ---

    def handler(self):
        function = self

        class RuntimeApi(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                assert self.path == INVOCATION + "next", self.path
                identity, event = function.events.get()
                deadline = int((time.time() + function.time_left) * 1000)
                self.respond(200, event, {"Lambda-Runtime-Aws-Request-Id": identity, "Lambda-Runtime-Deadline-Ms": str(deadline),
                                         "Lambda-Runtime-Invoked-Function-Arn": function.configuration["FunctionArn"]})  # fmt: skip

            def do_POST(self):
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                function.responses.put((self.path.removeprefix(INVOCATION), content))
                self.respond(202, {"status": "OK"}, {})

            def respond(self, status, content, headers):
                body = json.dumps(content).encode()
                self.send_response(status)
                for name, value in (headers | {"Content-Type": "application/json", "Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return RuntimeApi

    def invoke(self, event):
        self.invocations += 1
        identity = f"{self.invocations:08x}-0000-4000-8000-000000000000"
        self.events.put((identity, event))
        path, content = self.responses.get(timeout=self.time_left + GRACE)
        assert path == f"{identity}/response", (path, content)
        return content

    # --- The event source mappings ---

    def poll(self, source):
        queue = self.queues[source]
        while not self.stopping:
            options = {"MaxNumberOfMessages": 10, "WaitTimeSeconds": 1, "MessageSystemAttributeNames": ["All"]}
            messages = self.sqs.receive_message(QueueUrl=queue, **options).get("Messages", [])
            if not messages:
                continue
            with self.one_at_a_time:
                response = self.invoke({"Records": [self.record(message, source) for message in messages]})
            assert list(response) == ["batchItemFailures"], response
            failed = {failure["itemIdentifier"] for failure in response["batchItemFailures"]}
            for message in messages:
                if message["MessageId"] not in failed:
                    self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

    def record(self, message, source):
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": source,
            "awsRegion": REGION,
        }

    # --- The function's log ---

    def read_lines(self):
        for line in self.process.stdout:
            line = line.rstrip("\n")
            self.lines.append(line)
            # Lambda adds the time when it receives the line.
            self.logs.put_log_events(**self.stream, logEvents=[{"timestamp": int(time.time() * 1000), "message": line}])
        assert self.stopping, "the function ended by itself"

    def guarded(self, task):
        try:
            task()
        except BaseException as failure:  # wait_for raises it
            self.failure = self.failure or failure

    def wait_for(self, description, condition, timeout=240):
        """Waits until `condition` returns a true value, and returns it."""
        started = time.monotonic()
        while not (found := condition()):
            if self.failure:
                raise self.failure
            assert time.monotonic() - started < timeout, "\n".join([f"{description} was not seen in {timeout} s", *self.lines])
            time.sleep(0.1)
        return found

    def reports(self, key):
        """Returns the function's summary lines of the object, one per invocation; they are also its metrics."""
        lines = [json.loads(line) for line in self.lines]
        return [line for line in lines if line.get("object", "").endswith(key) and "_aws" in line]

    def report(self, key):
        """Returns the last summary line of the object, or None."""
        return next(reversed(self.reports(key)), None)
