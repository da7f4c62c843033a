"""The wire format read by somebody else: it shares nothing with edgetap's encoder, nor with its embedded bridge.

Standard input: request bodies of the bridge, one a line. Each is checked against the JSON Schema named as the only
argument. Standard output: their transactions, in order, as one JSON array in HTTP's words (tests/fixtures/README.md).
"""

import base64
import json
import sys

from jsonschema import Draft202012Validator


def once(pairs):
    """An object, none of whose names may stand twice."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"a name stands twice in {sorted(names)}")
    return dict(pairs)


def headers(fields):
    """Name → value. A value that is not UTF-8 fails: no fixture has one."""
    decoded = {}
    for field in fields:
        name, value = field.split(":", 1)
        if name in decoded:
            raise ValueError(f"{name} twice")
        decoded[name] = base64.b64decode(value, validate=True).decode("utf-8")
    return decoded


def neutral(transaction):
    request, response = transaction["request"], transaction["response"]
    connection, source = request["connection"], transaction["txn-meta-data"]["source_info"]
    response_headers = headers(response["headers"])
    length = response["body"]["length"]
    told = length > 0 or "Content-Length" in response_headers
    told_twice = int(response_headers.get("Content-Length", length))
    if told_twice != length:
        raise ValueError(f"the response's length is {length} and {told_twice}")
    request_headers, client = headers(request["headers"]), connection["connection-ip"]
    if client != "0.0.0.0" and request_headers.get("X-Forwarded-For", "").split(", ")[-1] != client:
        raise ValueError(f"X-Forwarded-For does not end with {client}")
    decoded = {
        "id": transaction["transaction-id"],
        "timestamp": transaction["timestamp"],
        "method": request["http-method"],
        "target": request["uri-query-fragment"],
        "scheme": request.get("http-scheme"),
        "http_version": request.get("http-version"),
        "host": request.get("host"),
        "client_ip": client,
        "client_port": connection.get("connection-port"),
        "request_headers": request_headers,
        "status": response.get("status-code"),
        "response_headers": response_headers,
        "response_length": length if told else None,
        "pool_id": source.get("pool_id"),
        "instance_id": source.get("instance_id"),
    }
    return {name: value for name, value in decoded.items() if value is not None}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    transactions = []
    for number, line in enumerate(sys.stdin.buffer, 1):
        body = json.loads(line, object_pairs_hook=once)
        for error in validator.iter_errors(body):
            sys.exit(f"body {number}, {error.json_path}: {error.message[:400]}")
        transactions.extend(neutral(transaction) for transaction in body["data"])
    print(json.dumps(transactions))


main()
