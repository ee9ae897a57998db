"""A failure register in memory, for tests, and the real one on moto."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import botocore.session
from moto import mock_aws

from winnow.register.entry import Status
from winnow.register.table import (
    OWED_INDEX,
    SUMMARY_ATTRIBUTES,
    Change,
    Owed,
    RegisterTable,
    RegisterUnavailable,
    RunMark,
    Summary,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from winnow.register.entry import Entry

TABLE = "register"
REGION = "eu-west-1"


class MemoryRegister(RegisterTable):
    """The same promises in a dict; refuses every change when told to."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str, str], Entry] = {}
        self.marks: list[tuple[str, RunMark]] = []
        self.refuses = False
        self.writes_left: float = float("inf")
        """Entries that are still taken before the table is throttled."""

    def apply(self, pipeline: str, stage: str, record_ids: Iterable[str], change: Change) -> int:
        written = 0
        for record_id in dict.fromkeys(record_ids):
            if self.refuses or self.writes_left <= 0:
                raise RegisterUnavailable("throttled")
            entry = change(record_id, self.entries.get((pipeline, stage, record_id)))
            if entry is not None:
                self.entries[pipeline, stage, record_id] = entry
                written += 1
                self.writes_left -= 1
        return written

    def read(self, pipeline: str, stage: str, record_ids: Sequence[str]) -> dict[str, Entry]:
        found = {i: self.entries.get((pipeline, stage, i)) for i in record_ids}
        return {i: entry for i, entry in found.items() if entry}

    def mark_run(self, pipeline: str, stage: str, mark: RunMark) -> None:  # noqa: ARG002
        self.marks.append((stage, mark))

    def runs_after(self, pipeline: str, stage: str, settled_at: str) -> Iterator[RunMark]:  # noqa: ARG002
        found = {mark for where, mark in self.marks if where == stage and mark.settled_at > settled_at}
        yield from sorted(found, key=lambda mark: mark.settled_at)

    def owed(self, pipeline: str, stage: str) -> Iterator[Summary]:
        if self.refuses:
            raise RegisterUnavailable("throttled")
        yield from [each for each in self.all(pipeline, stage) if each.status is not Status.RESOLVED]

    def owing(self, pipeline: str, stage: str) -> Iterator[Owed]:
        for each in self.owed(pipeline, stage):
            yield Owed(
                record_id=each.record_id,
                status=each.status,
                first_seen=each.first_seen,
                replay_id=each.replay_id,
            )

    def all(self, pipeline: str, stage: str) -> Iterator[Summary]:
        for key, entry in list(self.entries.items()):
            if key[:2] == (pipeline, stage):
                yield Summary.of_entry(entry)

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
