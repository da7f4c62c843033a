"""Lets moto's log deliveries go to a destination of another account, if the destination's policy allows it.

moto looks for the destination in the account of the caller only.
"""

import json

from moto.logs import models
from moto.logs.exceptions import LogsClientError


def patch():
    own = models.LogsBackend.create_delivery

    def create_delivery(self, delivery_source_name, delivery_destination_arn, *arguments, **named):
        owner, name = delivery_destination_arn.split(":")[4], delivery_destination_arn.split(":")[-1]
        if owner == self.account_id:
            return own(self, delivery_source_name, delivery_destination_arn, *arguments, **named)
        destination = models.logs_backends[owner][self.region_name].delivery_destinations.get(name)
        if destination is None or not allows(destination.policy, self.account_id):
            raise LogsClientError("AccessDeniedException", "Access denied for creating a delivery with this delivery destination.")
        key = f"{owner}/{name}"
        self.delivery_destinations[key] = destination
        try:
            return own(self, delivery_source_name, delivery_destination_arn, *arguments, **named)
        finally:
            del self.delivery_destinations[key]

    models.LogsBackend.create_delivery = create_delivery


def allows(policy, account):
    statements = json.loads(policy)["Statement"] if policy else []
    principals = {f"{account}", f"arn:aws:iam::{account}:root"}
    return any(
        statement["Effect"] == "Allow" and "logs:CreateDelivery" in listed(statement["Action"]) and principals & set(listed(statement["Principal"]["AWS"]))
        for statement in statements
    )


def listed(value):
    return [value] if isinstance(value, str) else value
