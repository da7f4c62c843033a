"""Which call of which service an HTTP request is, by botocore's models: whoever made it, and with whatever SDK."""

import json
import re
from functools import cache
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import botocore.session

# botocore's names of services that sign by another.
SERVICE = {"monitoring": "cloudwatch", "tagging": "resourcegroupstaggingapi"}


class Call(NamedTuple):
    """Made with that access key: an operation, in that region, with these parameters as far as they are told."""

    key: str
    service: str
    operation: str
    region: str
    parameters: dict


def read(method, uri, headers, body):
    """The call that a signed request is; None where it is none. `headers` are in lower case."""
    signed = re.search(r"Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request", headers.get("authorization", ""))
    if not signed:
        return None
    key, region, signing_name = signed.groups()
    service = SERVICE.get(signing_name, signing_name)
    url = urlsplit(uri)
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    if target := headers.get("x-amz-target"):
        return Call(key, service, target.rpartition(".")[2], region, json.loads(body or b"{}"))
    if rpc := re.fullmatch(r"/service/\w+/operation/(\w+)", url.path):
        return Call(key, service, rpc[1], region, {})  # its body is CBOR
    form = query | dict(parse_qsl(body.decode(errors="replace"))) if "form-urlencoded" in headers.get("content-type", "") else query
    if "Action" in form:
        return Call(key, service, form["Action"], region, form)
    operation, labels = by_path(service, method, url.path, query, headers)
    return Call(key, service, operation, region, query | labels)


def by_path(service, method, path, query, headers):
    """The operation whose path and query are most like these, and what stands in its path."""
    found = []
    for wanted in bindings(service):
        matched = wanted.method == method and wanted.path.fullmatch(path.rstrip("/"))
        if matched and all(query.get(name) == value for name, value in wanted.query.items()) and wanted.told <= query.keys() | headers.keys():
            found.append((len(wanted.query) + len(wanted.told), wanted.operation, matched.groupdict()))
    assert found, f"{service} has no operation {method} {path} {query}"
    _, operation, labels = min(found, key=lambda match: (-match[0], len(match[2]), match[1]))
    return operation, {label: unquote(value) for label, value in labels.items()}


class Binding(NamedTuple):
    operation: str
    method: str
    path: re.Pattern
    query: dict
    told: set  # names in query or header without which it would be refused


@cache
def bindings(service):
    model = botocore.session.get_session().get_service_model(service)
    found = []
    for name in model.operation_names:
        operation = model.operation_model(name)
        if operation.deprecated:  # S3 has newer ones with the same path
            continue
        path, _, query = operation.http["requestUri"].partition("?")
        pattern = re.sub(r"\\{(\w+)(\\\+)?\\}", lambda label: f"(?P<{label[1]}>{'.+' if label[2] else '[^/]+'})", re.escape(path.rstrip("/")))
        shape = operation.input_shape
        members = [shape.members[member].serialization for member in shape.required_members] if shape else []
        told = {member["name"] for member in members if member.get("location") == "querystring"}
        told |= {member["name"].lower() for member in members if member.get("location") == "header"}
        query = dict(parse_qsl(query, keep_blank_values=True))
        found.append(Binding(name, operation.http["method"], re.compile(pattern), query, told - query.keys()))
    return found
