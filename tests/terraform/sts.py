#!/usr/bin/env python3
"""Plays AWS STS: answers every request as GetCallerIdentity. Prints the URL, then serves until its input ends.

Usage: sts.py ACCOUNT-ID
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

ANSWER = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::{0}:user/operator</Arn><UserId>AIDAEXAMPLE</UserId><Account>{0}</Account>
</GetCallerIdentityResult></GetCallerIdentityResponse>""".format(sys.argv[1]).encode()


class Sts(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Sts)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
