"""The real AWS CLI, kept warm.

A call of the AWS CLI takes a second, most of it for imports and service models, and the tests make 2,000 calls.
`serve SOCKET` does that part once, then forks a child per call with the caller's arguments, environment, working
directory and files. Any other arguments are such a call, which is sent to the socket $WARM_AWS.
"""

import array
import json
import os
import signal
import socket
import sys
import traceback


def call(arguments):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.connect(os.environ["WARM_AWS"])
        request = json.dumps({"arguments": arguments, "environment": dict(os.environ), "directory": os.getcwd()}).encode()
        files = array.array("i", [0, 1, 2])
        server.sendmsg([len(request).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        server.sendall(request)
        status = server.recv(1)
    return status[0] if status else 70


def serve(path):
    import botocore.session
    from awscli import clidriver

    loader = clidriver.create_clidriver().session.get_component("data_loader")
    for service in ("cloudfront", "cloudwatch", "iam", "lambda", "logs", "resourcegroupstaggingapi", "s3", "secretsmanager", "sqs", "sts"):
        for kind in ("service-2", "paginators-1", "waiters-2", "endpoint-rule-set-1"):
            try:
                loader.load_service_model(service, kind)
            except Exception:  # some services lack some kinds
                pass
    for name in ("endpoints", "partitions", "_retry", "sdk-default-configuration"):
        loader.load_data(name)
    botocore.session.create_loader = lambda *_: loader

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(64)
        while True:
            client, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                serve_one(client, clidriver)
            client.close()


def serve_one(client, clidriver):
    status = 70
    try:
        length, ancillary, _, _ = client.recvmsg(4, socket.CMSG_SPACE(3 * array.array("i").itemsize))
        files = array.array("i", ancillary[0][2])
        request = json.loads(client.makefile("rb").read(int.from_bytes(length, "big")))
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(request["directory"])
        os.environ.clear()
        os.environ.update(request["environment"])
        try:
            status = clidriver.create_clidriver().main(request["arguments"])
        except SystemExit as exit:
            status = exit.code if isinstance(exit.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        client.sendall(bytes([(status or 0) & 255]))
        os._exit(0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
    else:
        sys.exit(call(sys.argv[1:]))
