"""Runs the function on an emulated CPU without AVX2, where it has to say so and end, and on one with it, where it has to poll.

Usage: old_cpu.py QEMU BOOTSTRAP, where QEMU is qemu-x86_64 for user programs.
"""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

# The longest wait in seconds for a program that starts in one.
TIMEOUT = 60
# The first of Intel's CPUs with AES, and the first with AVX2.
OLD, NEW = "Westmere", "Haswell"


class RuntimeApi(BaseHTTPRequestHandler):
    """Notes the path of a poll and answers none."""

    def do_GET(self):
        self.server.polled = self.path

    def log_message(self, *_):
        pass


def command(cpu):
    qemu, bootstrap = sys.argv[1:]
    return [qemu, "-cpu", cpu, bootstrap]


def check_old():
    run = subprocess.run(command(OLD), capture_output=True, text=True, timeout=TIMEOUT, env={})
    assert run.returncode == 1, f"exit status {run.returncode} on {OLD}: {run.stderr}"
    lines = run.stdout.splitlines()
    assert len(lines) == 1, f"{len(lines)} lines on {OLD}: {run.stdout}"
    line = json.loads(lines[0])
    assert line["level"] == "ERROR" and "lacks AVX2" in line["message"], line


def check_new():
    with HTTPServer(("127.0.0.1", 0), RuntimeApi) as server:
        server.polled, server.timeout = None, TIMEOUT
        environment = {
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_FUNCTION_NAME": "edgetap",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_LOG_GROUP_NAME": "group",
            "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}",
        }
        with subprocess.Popen(command(NEW), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as running:
            server.handle_request()
            running.kill()
        assert server.polled == "/2018-06-01/runtime/invocation/next", f"polled {server.polled} on {NEW}"


check_old()
check_new()
print(f"the function ends with a reason on {OLD} and polls on {NEW}")
