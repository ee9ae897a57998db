"""The failure register in DynamoDB.

A partition is a sixteenth of a stage's failures, so that a hundred thousand of them are not one hot key. What is not resolved
is in the sparse index `owed`: finding it costs what is open, not what ever failed.
"""

from __future__ import annotations

import json
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from winnow.core.errors import WinnowError
from winnow.register.entry import Entry, Hold, Occurrence, Resolution, Status, Waiver

T = TypeVar("T")

PARTITIONS = 16
"""Of a stage: 16,000 writes a second at DynamoDB's 1,000 per partition."""
OWED_INDEX = "owed"
BATCH = 100
"""Keys in one BatchGetItem and changes in one TransactWriteItems, DynamoDB's limit for both."""
MAX_TRANSACTION_BYTES = 3_000_000
"""DynamoDB's limit is 4 MB; what is left covers the keys and what JSON does not count."""
LANES = 8
"""Batches under way at once."""
ATTEMPTS = 8
"""At a batch whose entries somebody else changes at the same time, or that is throttled."""

Change = Callable[[str, Entry | None], Entry | None]
"""From a record id and its entry to the entry that shall stand; None to leave it. Called again when somebody was faster."""


class RegisterUnavailable(WinnowError):
    """The register could not be changed; the ledger has what it should say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An entry as the index has it: enough to list, group and choose."""

    pipeline: str
    stage: str
    record_id: str
    status: Status
    kind: str
    error_type: str
    message: str
    fingerprint: str
    first_seen: str
    last_seen: str
    occurrences: int
    run_id: str
    """In which it failed last."""
    ordinal: int
    code_version: str
    tries: int
    replay_id: str
    held_until: str

    def held(self, now: str) -> bool:
        return self.status is Status.REPLAYING and now < self.held_until

    @classmethod
    def of_entry(cls, entry: Entry) -> Self:
        return cls(
            pipeline=entry.pipeline,
            stage=entry.stage,
            record_id=entry.record_id,
            status=entry.status,
            kind=entry.last.kind,
            error_type=entry.last.error_type,
            message=entry.last.message,
            fingerprint=entry.last.fingerprint,
            first_seen=entry.first_seen,
            last_seen=entry.last.at,
            occurrences=entry.occurrences,
            run_id=entry.last.run_id,
            ordinal=entry.ordinal,
            code_version=entry.last.code_version,
            tries=entry.last.tries,
            replay_id=entry.hold.replay_id if entry.hold else "",
            held_until=entry.hold.until if entry.hold else "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """An entry that is not resolved, in as few words as will do to resolve or release it."""

    record_id: str
    status: Status
    first_seen: str
    replay_id: str


OWED_ATTRIBUTES = ("sk", "status", "first_seen", "replay_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMark:
    """A stage run whose successes were looked through for what is owed."""

    settled_at: str
    run_id: str


SUMMARY_ATTRIBUTES = (
    *(
        "status",
        "kind",
        "error_type",
        "message",
        "fingerprint",
        "first_seen",
        "last_seen",
        "occurrences",
        "run_id",
    ),
    *("ordinal", "code_version", "tries", "replay_id", "held_until"),
)
"""What the index carries besides its keys."""


def partition(pipeline: str, stage: str, record_id: str) -> str:
    """The partition key of a record's entry."""
    return _partition(pipeline, stage, zlib.crc32(record_id.encode("utf-8", "surrogatepass")) % PARTITIONS)


def _partition(pipeline: str, stage: str, number: int) -> str:
    return f"{pipeline}#{stage}#{number:02d}"


class RegisterTable:
    """The register of all pipelines that share a table."""

    def __init__(self, table: str, dynamodb: Any, *, lanes: int = LANES) -> None:
        self._table = table
        self._dynamodb = dynamodb
        self._lanes = lanes

    def apply(self, pipeline: str, stage: str, record_ids: Iterable[str], change: Change) -> int:
        """Change entries, each over the version it was read in; whoever loses a race reads again and works it out anew.

        Returns:
            Entries written.

        Raises:
            RegisterUnavailable: throttled, refused or contended for too long. Some entries may have been written.
        """
        ids = iter(dict.fromkeys(record_ids))
        batches = iter(lambda: list(islice(ids, BATCH)), [])
        given_up = threading.Event()

        def apply_unless_given_up(some: list[str]) -> int:
            if given_up.is_set():
                return 0
            try:
                return self._apply(pipeline, stage, some, change)
            except BaseException:  # those that wait would be given up, too, each after as long a time
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
        """Write entries of one batch; returns the ids that somebody else had changed."""
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
        # One of a hundred was changed meanwhile: write them one by one, so that it costs only itself.
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
        put: dict[str, Any] = {"TableName": self._table, "Item": _item(entry)}
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
                entry = _entry(item)
                entries[entry.record_id] = entry
            keys = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
        raise RegisterUnavailable(f"{len(keys)} entries of the failure register could not be read: throttled")

    def find(self, pipeline: str, stage: str, record_id: str) -> Entry | None:
        """One record's entry."""
        return self.read(pipeline, stage, [record_id]).get(record_id)

    def mark_run(self, pipeline: str, stage: str, mark: RunMark) -> None:
        """Remember a finished stage run, so that one that is registered late learns of those that came after it."""
        item = {"pk": {"S": f"{pipeline}#{stage}#runs"}, "sk": {"S": f"{mark.settled_at}#{mark.run_id}"}}
        self._dynamodb.put_item(TableName=self._table, Item=item)

    def runs_after(self, pipeline: str, stage: str, settled_at: str) -> Iterator[RunMark]:
        """Stage runs that were settled later, oldest first."""
        start: dict[str, Any] = {}
        while True:
            page = self._dynamodb.query(
                TableName=self._table,
                KeyConditionExpression="pk = :pk AND sk > :sk",
                # Behind every mark of the moment itself: an id's characters sort before it.
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

    def owed(self, pipeline: str, stage: str) -> Iterator[Summary]:
        """All entries of a stage that are not resolved."""
        yield from self._query(pipeline, stage, "owed", read=_summary, IndexName=OWED_INDEX)

    def owing(self, pipeline: str, stage: str) -> Iterator[Owed]:
        """The same in few words, for whoever goes through all of them: a tenth of the memory."""
        names = {f"#{name}": name for name in OWED_ATTRIBUTES}
        yield from self._query(
            pipeline,
            stage,
            "owed",
            read=_owed,
            names=names,
            IndexName=OWED_INDEX,
            ProjectionExpression=",".join(names),
        )

    def all(self, pipeline: str, stage: str) -> Iterator[Summary]:
        """All entries of a stage, resolved ones included."""
        yield from self._query(pipeline, stage, "pk", read=_summary)

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
        def pages(number: int) -> list[T]:
            found: list[T] = []
            start: dict[str, Any] = {}
            while True:
                page = self._dynamodb.query(
                    TableName=self._table,
                    KeyConditionExpression="#key = :key",
                    ExpressionAttributeNames={"#key": key, **(names or {})},
                    ExpressionAttributeValues={":key": {"S": _partition(pipeline, stage, number)}},
                    **query,
                    **start,
                )
                found += map(read, page["Items"])
                if "LastEvaluatedKey" not in page:
                    return found
                start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

        with ThreadPoolExecutor(max_workers=self._lanes) as pool:
            for found in pool.map(pages, range(PARTITIONS)):
                yield from found


def _transactions(puts: Mapping[str, dict[str, Any]]) -> Iterator[dict[str, dict[str, Any]]]:
    """Puts in as few transactions as their size allows: a record that failed fifty times has a long history."""
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
    """Whether the same call may succeed a little later. A connection that fails was tried again by the client itself."""
    if isinstance(error, BotoCoreError):
        return False
    code = error.response["Error"]["Code"]
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return (
        status >= 500 or "Throughput" in code or "Throttl" in code or code == "TransactionConflictException"
    )


NUMBERS = frozenset({"occurrences", "ordinal", "tries"})


def _item(entry: Entry) -> dict[str, Any]:
    summary = Summary.of_entry(entry)
    where = partition(entry.pipeline, entry.stage, entry.record_id)
    rest = {
        "history": [_plain(each) for each in entry.history],
        "traceback": entry.traceback,
        "source": dict(entry.source),
        "alerted": entry.alerted,
        "told_by": entry.told_by,
        "waiver": _plain(entry.waiver) if entry.waiver else None,
        "resolution": _plain(entry.resolution) if entry.resolution else None,
    }
    item: dict[str, Any] = {
        "pk": {"S": where},
        "sk": {"S": entry.record_id},
        "version": {"N": str(entry.version)},
        "rest": {"S": json.dumps(rest, ensure_ascii=False)},
    }
    for name in SUMMARY_ATTRIBUTES:
        item[name] = {"N" if name in NUMBERS else "S": str(getattr(summary, name))}
    if entry.status is not Status.RESOLVED:
        item["owed"] = {"S": where}
    return item


def _plain(value: Occurrence | Waiver | Resolution) -> dict[str, Any]:
    """As `asdict`, which copies deeply and takes ten times as long."""
    return {field: getattr(value, field) for field in value.__slots__}


def _fields(item: Mapping[str, Any]) -> dict[str, Any]:
    pipeline, stage, _ = item["pk"]["S"].rsplit("#", 2)
    fields: dict[str, Any] = {"pipeline": pipeline, "stage": stage, "record_id": item["sk"]["S"]}
    for name in SUMMARY_ATTRIBUTES:
        fields[name] = int(item[name]["N"]) if name in NUMBERS else item[name]["S"]
    fields["status"] = Status(fields["status"])
    return fields


def _summary(item: Mapping[str, Any]) -> Summary:
    return Summary(**_fields(item))


def _owed(item: Mapping[str, Any]) -> Owed:
    return Owed(
        record_id=item["sk"]["S"],
        status=Status(item["status"]["S"]),
        first_seen=item["first_seen"]["S"],
        replay_id=item["replay_id"]["S"],
    )


def _entry(item: Mapping[str, Any]) -> Entry:
    fields = _fields(item)
    rest = json.loads(item["rest"]["S"])
    history = tuple(Occurrence(**each) for each in rest["history"])
    last = Occurrence(
        run_id=fields["run_id"],
        at=fields["last_seen"],
        kind=fields["kind"],
        error_type=fields["error_type"],
        message=fields["message"],
        fingerprint=fields["fingerprint"],
        tries=fields["tries"],
        code_version=fields["code_version"],
    )
    return Entry(
        pipeline=fields["pipeline"],
        stage=fields["stage"],
        record_id=fields["record_id"],
        status=fields["status"],
        last=last,
        traceback=rest["traceback"],
        ordinal=fields["ordinal"],
        source=rest["source"],
        first_seen=fields["first_seen"],
        occurrences=fields["occurrences"],
        history=history,
        alerted=rest["alerted"],
        told_by=rest["told_by"],
        hold=Hold(replay_id=fields["replay_id"], until=fields["held_until"]) if fields["replay_id"] else None,
        waiver=Waiver(**rest["waiver"]) if rest["waiver"] else None,
        resolution=Resolution(**rest["resolution"]) if rest["resolution"] else None,
        version=int(item["version"]["N"]),
    )
