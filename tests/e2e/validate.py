"""Checks each line of standard input, one JSON object, against the JSON Schema named as the only argument."""

import json
import sys

from jsonschema import Draft202012Validator

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
number = 0
for number, line in enumerate(sys.stdin.buffer, 1):
    for error in validator.iter_errors(json.loads(line)):
        sys.exit(f"line {number}, {error.json_path}: {error.message[:400]}")
print(number)
