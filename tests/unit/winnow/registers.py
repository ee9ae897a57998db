"""A failure register that can be made to fail, and the real one on moto."""

from __future__ import annotations

from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any

import botocore.session
from moto import mock_aws

from winnow.register.item import SUMMARY_ATTRIBUTES
from winnow.register.table import OWED_INDEX, RegisterUnavailable
from winnow.testing import MemoryRegister

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from winnow.register.entry import Entry
    from winnow.register.item import Summary
    from winnow.register.table import Change

TABLE = "register"
REGION = "eu-west-1"


class FailingRegister(MemoryRegister):
    """Refuses changes when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses = False
        self.writes_left: float = float("inf")
        """Entries that are still taken before the table is throttled."""

    def apply(
        self,
        pipeline: str,
        stage: str,
        record_ids: Iterable[str],
        change: Change,
        *,
        deadline: float = inf,
    ) -> int:
        def change_unless_throttled(record_id: str, found: Entry | None) -> Entry | None:
            if self.refuses or self.writes_left <= 0:
                raise RegisterUnavailable("throttled")
            changed = change(record_id, found)
            self.writes_left -= changed is not None
            return changed

        return super().apply(pipeline, stage, record_ids, change_unless_throttled, deadline=deadline)

    def unresolved(self, pipeline: str, stage: str) -> Iterator[Summary]:
        if self.refuses:
            raise RegisterUnavailable("throttled")
        return super().unresolved(pipeline, stage)

    def statuses(self, stage: str) -> dict[str, str]:
        return {each.record_id: each.status.value for each in self.all("catalogue", stage)}


@contextmanager
def dynamodb() -> Iterator[Any]:
    """A client of moto's DynamoDB, with the table as the stack makes it."""
    with mock_aws():
        made: Any = botocore.session.get_session().create_client(
            "dynamodb", region_name=REGION, aws_access_key_id="x", aws_secret_access_key="x"
        )
        create_table(made)
        yield made


def create_table(client: Any) -> None:
    client.create_table(
        TableName=TABLE,
        KeySchema=_keys("pk"),
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "owed")],
        GlobalSecondaryIndexes=[
            {
                "IndexName": OWED_INDEX,
                "KeySchema": _keys("owed"),
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(SUMMARY_ATTRIBUTES)},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def _keys(partition: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": partition, "KeyType": "HASH"},
        {"AttributeName": "sk", "KeyType": "RANGE"},
    ]
