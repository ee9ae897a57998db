"""The failure register in DynamoDB.

A partition is a sixteenth of a stage's failures, so that a hundred thousand of them are not one hot key. Unresolved entries are
in the sparse index `owed`: a query costs the entries that are unresolved, not all that ever failed.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from winnow.core.errors import WinnowError
from winnow.register.entry import Entry
from winnow.register.item import (
    UNRESOLVED_ATTRIBUTES,
    Summary,
    UnresolvedEntry,
    entry_of,
    item_of,
    partition,
    partitions,
    summary_of,
    unresolved_of,
)

T = TypeVar("T")

OWED_INDEX = "owed"
BATCH = 100
"""Keys in one BatchGetItem and changes in one TransactWriteItems, DynamoDB's limit for both."""
MAX_TRANSACTION_BYTES = 3_000_000
"""DynamoDB's limit is 4 MB; what is left covers the keys and what JSON does not count."""
LANES = 8
"""Batches in progress at once."""
ATTEMPTS = 8
"""Of a batch after a write conflict or throttling."""

Change = Callable[[str, Entry | None], Entry | None]
"""From a record id and its entry to the entry to write; None to leave it. Called again after a write conflict."""


class RegisterUnavailable(WinnowError):
    """The register could not be changed; the ledger has what it should say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMark:
    """A stage run whose successes have resolved entries."""

    settled_at: str
    run_id: str


class RegisterTable:
    """The register of all pipelines that share a table."""

    def __init__(self, table: str, dynamodb: Any, *, lanes: int = LANES) -> None:
        self._table = table
        self._dynamodb = dynamodb
        self._lanes = lanes

    def apply(self, pipeline: str, stage: str, record_ids: Iterable[str], change: Change) -> int:
        """Change entries. A change is written only over the version that it was made from; after a write conflict it is made again.

        Returns:
            Entries written.

        Raises:
            RegisterUnavailable: throttling, a refusal, or too many write conflicts. Some entries may have been written.
        """
        ids = iter(dict.fromkeys(record_ids))
        batches = iter(lambda: list(islice(ids, BATCH)), [])
        given_up = threading.Event()

        def apply_unless_given_up(some: list[str]) -> int:
            if given_up.is_set():
                return 0
            try:
                return self._apply(pipeline, stage, some, change)
            except BaseException:  # the batches that wait would fail too, each after as long a time
                given_up.set()
                raise

        written = 0
        with ThreadPoolExecutor(max_workers=self._lanes) as pool:
            while window := list(islice(batches, 4 * self._lanes)):
                written += sum(pool.map(apply_unless_given_up, window))
        return written

    def _apply(self, pipeline: str, stage: str, record_ids: list[str], change: Change) -> int:
        left = record_ids
        written = 0
        for attempt in range(ATTEMPTS):
            try:
                found = self.read(pipeline, stage, left)
                changed = {i: new for i in left if (new := change(i, found.get(i))) is not None}
                lost = self._write(changed, found)
            except (ClientError, BotoCoreError) as error:
                if attempt + 1 == ATTEMPTS or not _passing(error):
                    raise RegisterUnavailable(f"the failure register cannot be changed: {error}") from error
                lost = left
            else:
                written += len(changed) - len(lost)
            if not lost:
                return written
            left = lost
            time.sleep(random.random() * 0.05 * 2**attempt)  # noqa: S311
        raise RegisterUnavailable(
            f"{len(left)} entries of the failure register are contended for, e.g. {left[0]!r}"
        )

    def _write(self, entries: Mapping[str, Entry], found: Mapping[str, Entry]) -> list[str]:
        """Write entries of one batch; returns the ids with a write conflict."""
        if not entries:
            return []
        puts = {i: self._put(entry, found.get(i)) for i, entry in entries.items()}
        return [i for some in _transactions(puts) for i in self._write_some(some)]

    def _write_some(self, puts: Mapping[str, dict[str, Any]]) -> list[str]:
        try:
            self._dynamodb.transact_write_items(TransactItems=[{"Put": put} for put in puts.values()])
        except ClientError as error:
            if error.response["Error"]["Code"] != "TransactionCanceledException":
                raise
        else:
            return []
        # One of a hundred has a conflict: write them one by one, so that the others are written.
        return [i for i, put in puts.items() if not self._put_one(put)]

    def _put_one(self, put: dict[str, Any]) -> bool:
        try:
            self._dynamodb.put_item(**put)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True

    def _put(self, entry: Entry, found: Entry | None) -> dict[str, Any]:
        put: dict[str, Any] = {"TableName": self._table, "Item": item_of(entry)}
        if found is None:
            put["ConditionExpression"] = "attribute_not_exists(pk)"
        else:
            put["ConditionExpression"] = "#version = :version"
            put["ExpressionAttributeNames"] = {"#version": "version"}
            put["ExpressionAttributeValues"] = {":version": {"N": str(found.version)}}
        return put

    def read(self, pipeline: str, stage: str, record_ids: Sequence[str]) -> dict[str, Entry]:
        """Entries of up to `BATCH` records."""
        keys = [{"pk": {"S": partition(pipeline, stage, i)}, "sk": {"S": i}} for i in record_ids]
        entries: dict[str, Entry] = {}
        for attempt in range(ATTEMPTS):
            if not keys:
                return entries
            if attempt:
                time.sleep(random.random() * 0.05 * 2**attempt)  # noqa: S311
            answer = self._dynamodb.batch_get_item(
                RequestItems={self._table: {"Keys": keys, "ConsistentRead": True}}
            )
            for item in answer["Responses"].get(self._table, ()):
                entry = entry_of(item)
                entries[entry.record_id] = entry
            keys = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
        raise RegisterUnavailable(f"{len(keys)} entries of the failure register could not be read: throttled")

    def find(self, pipeline: str, stage: str, record_id: str) -> Entry | None:
        """One record's entry."""
        return self.read(pipeline, stage, [record_id]).get(record_id)

    def mark_run(self, pipeline: str, stage: str, mark: RunMark) -> None:
        """Remember a finished stage run, so that a run that is registered late finds those that were settled after it."""
        item = {"pk": {"S": f"{pipeline}#{stage}#runs"}, "sk": {"S": f"{mark.settled_at}#{mark.run_id}"}}
        self._dynamodb.put_item(TableName=self._table, Item=item)

    def runs_after(self, pipeline: str, stage: str, settled_at: str) -> Iterator[RunMark]:
        """Stage runs that were settled later, oldest first."""
        start: dict[str, Any] = {}
        while True:
            page = self._dynamodb.query(
                TableName=self._table,
                KeyConditionExpression="pk = :pk AND sk > :sk",
                # After every mark of the same moment: all characters of an id sort before it.
                ExpressionAttributeValues={
                    ":pk": {"S": f"{pipeline}#{stage}#runs"},
                    ":sk": {"S": f"{settled_at}#\x7f"},
                },
                ConsistentRead=True,
                **start,
            )
            for item in page["Items"]:
                settled, run_id = item["sk"]["S"].split("#", 1)
                yield RunMark(settled_at=settled, run_id=run_id)
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def unresolved(self, pipeline: str, stage: str) -> Iterator[Summary]:
        """All entries of a stage that are not resolved."""
        yield from self._query(pipeline, stage, "owed", read=summary_of, IndexName=OWED_INDEX)

    def unresolved_in_brief(self, pipeline: str, stage: str) -> Iterator[UnresolvedEntry]:
        """The same entries in brief, for going through all of them: a tenth of the memory."""
        names = {f"#{name}": name for name in UNRESOLVED_ATTRIBUTES}
        yield from self._query(
            pipeline,
            stage,
            "owed",
            read=unresolved_of,
            names=names,
            IndexName=OWED_INDEX,
            ProjectionExpression=",".join(names),
        )

    def all(self, pipeline: str, stage: str) -> Iterator[Summary]:
        """All entries of a stage, resolved ones included."""
        yield from self._query(pipeline, stage, "pk", read=summary_of)

    def _query(
        self,
        pipeline: str,
        stage: str,
        key: str,
        *,
        read: Callable[[dict[str, Any]], T],
        names: Mapping[str, str] | None = None,
        **query: str,
    ) -> Iterator[T]:
        def pages(where: str) -> list[T]:
            found: list[T] = []
            start: dict[str, Any] = {}
            while True:
                page = self._dynamodb.query(
                    TableName=self._table,
                    KeyConditionExpression="#key = :key",
                    ExpressionAttributeNames={"#key": key, **(names or {})},
                    ExpressionAttributeValues={":key": {"S": where}},
                    **query,
                    **start,
                )
                found += map(read, page["Items"])
                if "LastEvaluatedKey" not in page:
                    return found
                start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

        with ThreadPoolExecutor(max_workers=self._lanes) as pool:
            for found in pool.map(pages, partitions(pipeline, stage)):
                yield from found


def _transactions(puts: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, dict[str, Any]]]:
    """Puts in as few transactions as their size allows: the history of a record that failed fifty times is long."""
    some: dict[str, dict[str, Any]] = {}
    size = 0
    for i, put in puts.items():
        weight = sum(len(str(value).encode()) for kind in put["Item"].values() for value in kind.values())
        if some and size + weight > MAX_TRANSACTION_BYTES:
            yield some
            some, size = {}, 0
        some[i] = put
        size += weight
    yield some


def _passing(error: ClientError | BotoCoreError) -> bool:
    """Whether the same call may succeed a little later. The client itself has retried a connection that failed."""
    if isinstance(error, BotoCoreError):
        return False
    code = error.response["Error"]["Code"]
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return (
        status >= 500 or "Throughput" in code or "Throttl" in code or code == "TransactionConflictException"
    )
