"""A CloudFront distribution on a free loopback port, by https.

Usage: fake_distribution.py CERTIFICATE.pem FILE [--without-id]

Responds to each request with 403 and an X-Amz-Cf-Id header (unless --without-id), and appends the request ID, the path
and the query to FILE, separated by tabs. The first line of FILE is the port.
"""

import base64
import os
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Distribution(BaseHTTPRequestHandler):
    def do_GET(self):
        identity = base64.b64encode(os.urandom(40), b"-_").decode()
        record("\t".join([identity, *self.path.split("?")]))
        self.send_response(403)
        if "--without-id" not in sys.argv:
            self.send_header("X-Amz-Cf-Id", identity)
        self.end_headers()

    def log_message(self, *_):
        pass


def record(line):
    with open(sys.argv[2], "a") as file:
        file.write(f"{line}\n")


server = HTTPServer(("127.0.0.1", 0), Distribution)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
server.socket = context.wrap_socket(server.socket, server_side=True)
record(server.server_port)
server.serve_forever()
