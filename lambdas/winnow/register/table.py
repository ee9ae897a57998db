"""The failure register in DynamoDB.

A partition is a sixteenth of a stage's failures, so that a hundred thousand of them are not one hot key. Unresolved entries are
in the sparse index `owed`: a query costs the entries that are unresolved, not all that ever failed.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from math import inf
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
from winnow.register.pace import Pace

T = TypeVar("T")

OWED_INDEX = "owed"
BATCH = 100
"""Keys in one BatchGetItem and changes in one TransactWriteItems, DynamoDB's limit for both."""
MAX_TRANSACTION_BYTES = 3_000_000
"""DynamoDB's limit is 4 MB; what is left covers the keys and what JSON does not count."""
LANES = 8
"""Batches in progress at once."""
ATTEMPTS = 8
"""Of an entry after write conflicts, and of a call."""
FRUITLESS = 12
"""Slowings down without an entry written, after which the table counts as unavailable: enough to come down to one entry at a time."""
FIRST_PAUSE_SECONDS = 0.05
"""At most; doubled after each attempt."""
MAX_PAUSE_SECONDS = 5.0

Change = Callable[[str, Entry | None], Entry | None]
"""From a record id and its entry to the entry to write; None to leave it. Called again after a write conflict."""


class RegisterUnavailable(WinnowError):
    """The register could not be changed; the ledger has what it should say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMark:
    """A stage run whose successes have resolved entries."""

    settled_at: str
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Entries to change together."""

    ids: list[str]
    conflicts: int = 0
    """That these entries have met."""


@dataclass(slots=True, kw_only=True)
class _Outcome:
    """What became of the entries of a batch. Those that are in neither list are as they should be."""

    written: int = 0
    contended: list[str] = field(default_factory=list)
    throttled: list[str] = field(default_factory=list)
    error: Exception | None = None
    """Why the throttled ones were refused, if DynamoDB said so."""


class RegisterTable:
    """The register of all pipelines that share a table."""

    def __init__(
        self,
        table: str,
        dynamodb: Any,
        *,
        lanes: int = LANES,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Open a table.

        Args:
            table: its name.
            dynamodb: a client.
            lanes: batches in progress at once.
            sleep: takes seconds.
            clock: as `time.monotonic`, by which deadlines are.
        """
        self._table = table
        self._dynamodb = dynamodb
        self._lanes = lanes
        self._sleep = sleep or time.sleep
        self._clock = clock or time.monotonic

    def apply(
        self,
        pipeline: str,
        stage: str,
        record_ids: Iterable[str],
        change: Change,
        *,
        deadline: float = inf,
    ) -> int:
        """Change entries. A change is written only over the version that it was made from; after a write conflict it is made again.

        Where DynamoDB throttles, fewer entries are in progress at once, and then slowly more again.

        Args:
            pipeline: of the entries.
            stage: of the entries.
            record_ids: which entries.
            change: makes the change; called in threads.
            deadline: by the clock, `time.monotonic`; what is not changed by then is given up.

        Returns:
            Entries written.

        Raises:
            RegisterUnavailable: a refusal, too many write conflicts, throttling that lets nothing through, or no time left. Some
                entries may have been written.
        """
        ids = iter(dict.fromkeys(record_ids))
        again: deque[_Batch] = deque()
        running: dict[Future[_Outcome], tuple[_Batch, int]] = {}
        pace = Pace(self._lanes * BATCH)
        written = 0
        with ThreadPoolExecutor(max_workers=self._lanes) as pool:
            while True:
                while (room := self._room(running.values(), pace)) and (batch := _next(again, ids, room)):
                    if self._clock() > deadline:
                        raise RegisterUnavailable(
                            f"no time left to change more entries of the failure register of {stage}"
                        )
                    running[pool.submit(self._apply, pipeline, stage, batch, change)] = batch, pace.round
                if not running:
                    return written
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    batch, began = running.pop(done)
                    outcome = done.result()
                    written += outcome.written
                    self._take(batch, outcome, again)
                    if good := len(batch.ids) - len(outcome.contended) - len(outcome.throttled):
                        pace.went_well(good)
                    if outcome.throttled and pace.throttled(began):
                        self._pause(pace, outcome.error, deadline)

    def _room(self, running: Iterable[tuple[_Batch, int]], pace: Pace) -> int:
        """How many entries the next batch may have; 0 for none yet."""
        sizes = [len(batch.ids) for batch, _ in running]
        if len(sizes) == self._lanes:
            return 0
        return max(0, min(BATCH, pace.limit - sum(sizes)))

    def _take(self, batch: _Batch, outcome: _Outcome, again: deque[_Batch]) -> None:
        """Note what has to be done again."""
        if outcome.throttled:
            again.append(_Batch(ids=outcome.throttled, conflicts=batch.conflicts))
        if not outcome.contended:
            return
        if batch.conflicts + 1 == ATTEMPTS:
            raise RegisterUnavailable(
                f"{len(outcome.contended)} entries of the failure register are contended for, "
                f"e.g. {outcome.contended[0]!r}"
            )
        again.append(_Batch(ids=outcome.contended, conflicts=batch.conflicts + 1))

    def _pause(self, pace: Pace, error: Exception | None, deadline: float) -> None:
        """Let the table recover."""
        if pace.fruitless == FRUITLESS:
            problem = error or "throttled"
            raise RegisterUnavailable(f"the failure register cannot be changed: {problem}") from error
        self._sleep(min(_jitter(pace.fruitless), max(0.0, deadline - self._clock())))

    def _apply(self, pipeline: str, stage: str, batch: _Batch, change: Change) -> _Outcome:
        if batch.conflicts:
            self._sleep(_jitter(batch.conflicts))
        outcome = _Outcome()
        try:
            found, unread = self._read_once(pipeline, stage, batch.ids)
        except (ClientError, BotoCoreError) as error:
            outcome.throttled, outcome.error = batch.ids, _passing_error(error)
            return outcome
        outcome.throttled += unread
        left = set(unread)
        changed = {
            i: new for i in batch.ids if i not in left and (new := change(i, found.get(i))) is not None
        }
        puts = {i: self._put(entry, found.get(i)) for i, entry in changed.items()}
        for some in _transactions(puts):
            if outcome.error:
                outcome.throttled += some
            elif some:
                self._write(some, outcome)
        return outcome

    def _write(self, puts: Mapping[str, dict[str, Any]], outcome: _Outcome) -> None:
        """Write entries in one transaction, or one by one where one of them has a conflict, so that the others are written."""
        try:
            self._dynamodb.transact_write_items(TransactItems=[{"Put": put} for put in puts.values()])
        except (ClientError, BotoCoreError) as error:
            if not _is_conflict_within(error):
                outcome.throttled += puts
                outcome.error = _passing_error(error)
                return
        else:
            outcome.written += len(puts)
            return
        ids = list(puts)
        for number, record_id in enumerate(ids):
            try:
                self._dynamodb.put_item(**puts[record_id])
            except (ClientError, BotoCoreError) as error:
                if _is_conflict(error):
                    outcome.contended.append(record_id)
                    continue
                outcome.throttled += ids[number:]
                outcome.error = _passing_error(error)
                return
            outcome.written += 1

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
        """Entries of up to `BATCH` records.

        Raises:
            RegisterUnavailable: throttled for too long.
        """
        entries: dict[str, Entry] = {}
        left = list(record_ids)
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(_jitter(attempt))
            found, left = self._read_once(pipeline, stage, left)
            entries |= found
            if not left:
                return entries
        raise RegisterUnavailable(f"{len(left)} entries of the failure register could not be read: throttled")

    def _read_once(
        self, pipeline: str, stage: str, record_ids: Sequence[str]
    ) -> tuple[dict[str, Entry], list[str]]:
        """Entries of some records, and the records that DynamoDB left unread."""
        keys = [{"pk": {"S": partition(pipeline, stage, i)}, "sk": {"S": i}} for i in record_ids]
        if not keys:
            return {}, []
        answer = self._dynamodb.batch_get_item(
            RequestItems={self._table: {"Keys": keys, "ConsistentRead": True}}
        )
        entries = {item["sk"]["S"]: entry_of(item) for item in answer["Responses"].get(self._table, ())}
        unread = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
        return entries, [key["sk"]["S"] for key in unread]

    def find(self, pipeline: str, stage: str, record_id: str) -> Entry | None:
        """One record's entry."""
        return self.read(pipeline, stage, [record_id]).get(record_id)

    def mark_run(self, pipeline: str, stage: str, mark: RunMark) -> None:
        """Remember a finished stage run, so that a run that is registered late finds those that were settled after it."""
        item = {"pk": {"S": f"{pipeline}#{stage}#runs"}, "sk": {"S": f"{mark.settled_at}#{mark.run_id}"}}
        self._call("put_item", Item=item)

    def runs_after(self, pipeline: str, stage: str, settled_at: str) -> Iterator[RunMark]:
        """Stage runs that were settled later, oldest first."""
        start: dict[str, Any] = {}
        while True:
            page = self._call(
                "query",
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
                page = self._call(
                    "query",
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

    def _call(self, operation: str, **request: Any) -> Any:
        """Call DynamoDB about the table, more patiently than the client does."""
        call = getattr(self._dynamodb, operation)
        for attempt in range(1, ATTEMPTS):
            try:
                return call(TableName=self._table, **request)
            except ClientError as error:
                if not _passes(error):
                    raise
                self._sleep(_jitter(attempt))
        return call(TableName=self._table, **request)


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


THROTTLING = frozenset({"ProvisionedThroughputExceeded", "ThrottlingError"})
"""Reasons of a transaction that was cancelled; as names of errors they end in `Exception`."""


def _code(error: ClientError | BotoCoreError) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else ""


def _is_conflict(error: ClientError | BotoCoreError) -> bool:
    return _code(error) in ("ConditionalCheckFailedException", "TransactionConflictException")


def _is_conflict_within(error: ClientError | BotoCoreError) -> bool:
    """Whether a transaction was cancelled for what some of its entries are, not for how fast they came."""
    if not isinstance(error, ClientError) or _code(error) != "TransactionCanceledException":
        return False
    answer: Mapping[str, Any] = error.response
    return not THROTTLING & {str(reason.get("Code")) for reason in answer.get("CancellationReasons", ())}


def _passes(error: ClientError | BotoCoreError) -> bool:
    """Whether the same call may succeed a little later. The client itself has retried a connection that failed."""
    if not isinstance(error, ClientError):
        return False
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or any(name in _code(error) for name in PASSING)


def _passing_error(error: ClientError | BotoCoreError) -> Exception:
    """The error, if it passes.

    Raises:
        RegisterUnavailable: it does not.
    """
    if _passes(error):
        return error
    raise RegisterUnavailable(f"the failure register cannot be changed: {error}") from error


PASSING = (
    "Throughput",
    "Throttl",
    "RequestLimitExceeded",
    "TransactionConflict",
    "TransactionInProgress",
    "TransactionCanceled",
)
"""In names of errors that pass. A transaction is cancelled for what `_is_conflict_within` does not count as a conflict."""


def _next(again: deque[_Batch], ids: Iterator[str], room: int) -> _Batch | None:
    """The next batch, of at most so many entries; what has to be done again comes first."""
    if again:
        batch = again.popleft()
        if len(batch.ids) > room:
            again.appendleft(_Batch(ids=batch.ids[room:], conflicts=batch.conflicts))
        return _Batch(ids=batch.ids[:room], conflicts=batch.conflicts)
    some = list(islice(ids, room))
    return _Batch(ids=some) if some else None


def _jitter(attempt: int) -> float:
    """Seconds to wait after an attempt, counted from 1."""
    most: float = min(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), MAX_PAUSE_SECONDS)
    return random.random() * most  # noqa: S311
