"""Recognizes the AWS operation of an HTTP request from botocore's models, whichever SDK sent it."""

import json
import re
from functools import cache
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import botocore.session

# Signing name -> botocore's name of the service, where they differ.
SERVICE = {"monitoring": "cloudwatch", "tagging": "resourcegroupstaggingapi"}


class Call(NamedTuple):
    """An operation with the caller's access key, the region, and the parameters that the request shows."""

    key: str
    service: str
    operation: str
    region: str
    parameters: dict


def read(method, uri, headers, body):
    """Returns the call of a signed request, or None if the request is not signed. `headers` are in lower case."""
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
    """Returns the operation that matches path and query most closely, and the parameters in the path."""
    found = []
    for wanted in bindings(service):
        matched = wanted.method == method and wanted.path.fullmatch(path.rstrip("/"))
        if matched and all(query.get(name) == value for name, value in wanted.query.items()) and wanted.required <= query.keys() | headers.keys():
            found.append((len(wanted.query) + len(wanted.required), wanted.operation, matched.groupdict()))
    assert found, f"{service} has no operation for {method} {path} {query}"
    _, operation, labels = min(found, key=lambda match: (-match[0], len(match[2]), match[1]))
    return operation, {label: unquote(value) for label, value in labels.items()}


class Binding(NamedTuple):
    operation: str
    method: str
    path: re.Pattern
    query: dict
    required: set  # names of required parameters in the query or headers


@cache
def bindings(service):
    model = botocore.session.get_session().get_service_model(service)
    found = []
    for name in model.operation_names:
        operation = model.operation_model(name)
        if operation.deprecated:  # S3 has newer operations with the same path
            continue
        path, _, query = operation.http["requestUri"].partition("?")
        pattern = re.sub(r"\\{(\w+)(\\\+)?\\}", lambda label: f"(?P<{label[1]}>{'.+' if label[2] else '[^/]+'})", re.escape(path.rstrip("/")))
        shape = operation.input_shape
        members = [shape.members[member].serialization for member in shape.required_members] if shape else []
        required = {member["name"] for member in members if member.get("location") == "querystring"}
        required |= {member["name"].lower() for member in members if member.get("location") == "header"}
        query = dict(parse_qsl(query, keep_blank_values=True))
        found.append(Binding(name, operation.http["method"], re.compile(pattern), query, required - query.keys()))
    return found
