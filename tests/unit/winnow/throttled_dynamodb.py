"""DynamoDB that takes so many write units a second, by a clock of its own: moto and the emulator take any number."""

from __future__ import annotations

import threading
from itertools import count
from typing import Any

from botocore.exceptions import ClientError

from tests.unit.winnow.registers import TABLE

REQUEST_SECONDS = 0.005
"""That a request takes; eight in parallel, of 40 ms each."""


class ThrottledDynamoDB:
    """The register's table. A refusal comes in each of the ways that DynamoDB has, in turn."""

    def __init__(self, units_per_second: float, *, keys_per_read: int = 100) -> None:
        self.units_per_second = units_per_second
        self.keys_per_read = keys_per_read
        self.items: dict[str, Any] = {}
        self.sizes: list[int] = []
        """Of the transactions that were taken."""
        self.throttled = 0
        self.now = 0.0
        self._units = units_per_second
        self._lock = threading.Lock()
        self._ways = count()

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._pass(seconds)

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        self._units = min(self.units_per_second, self._units + seconds * self.units_per_second)

    def batch_get_item(self, *, RequestItems: Any) -> Any:  # noqa: N803  boto3's name
        with self._lock:
            self._pass(REQUEST_SECONDS)
            keys = RequestItems[TABLE]["Keys"]
            read, unread = keys[: self.keys_per_read], keys[self.keys_per_read :]
            found = [self.items[key["sk"]["S"]] for key in read if key["sk"]["S"] in self.items]
            left = {TABLE: {"Keys": unread}} if unread else {}
            return {"Responses": {TABLE: found}, "UnprocessedKeys": left}

    def transact_write_items(self, *, TransactItems: list[Any]) -> None:  # noqa: N803
        puts = [each["Put"] for each in TransactItems]
        with self._lock:
            self._pass(REQUEST_SECONDS)
            if not self._has_units(2 * len(puts)):
                raise self._throttling(len(puts))
            holds = [self._holds(put) for put in puts]
            if not all(holds):
                raise cancelled(["None" if each else "ConditionalCheckFailed" for each in holds])
            self.sizes.append(len(puts))
            self.items |= {put["Item"]["sk"]["S"]: put["Item"] for put in puts}

    def put_item(self, **put: Any) -> None:
        with self._lock:
            self._pass(REQUEST_SECONDS)
            if not self._has_units(1):
                raise refused("ProvisionedThroughputExceededException")
            if not self._holds(put):
                raise refused("ConditionalCheckFailedException")
            self.items[put["Item"]["sk"]["S"]] = put["Item"]

    def _has_units(self, units: int) -> bool:
        if units > self._units:
            self.throttled += 1
            return False
        self._units -= units
        return True

    def _holds(self, put: dict[str, Any]) -> bool:
        there = self.items.get(put["Item"]["sk"]["S"])
        if put["ConditionExpression"].startswith("attribute_not_exists"):
            return there is None
        return there is not None and there["version"] == put["ExpressionAttributeValues"][":version"]

    def _throttling(self, entries: int) -> ClientError:
        match next(self._ways) % 4:
            case 0:
                return cancelled(["None"] * (entries - 1) + ["ThrottlingError"])
            case 1:
                return cancelled(["ProvisionedThroughputExceeded"] * entries)
            case 2:
                return refused("ProvisionedThroughputExceededException")
        return refused("ThrottlingException")


def refused(code: str, **more: Any) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": ""},
        "ResponseMetadata": {"HTTPStatusCode": 400},
        **more,
    }
    return ClientError(response, "Operation")


def cancelled(reasons: list[str]) -> ClientError:
    return refused("TransactionCanceledException", CancellationReasons=[{"Code": each} for each in reasons])
