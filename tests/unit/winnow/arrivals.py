"""What arrivals go through, from S3's events to the runs they start, with everything around it in memory."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import botocore.session

from winnow.metrics.watch import Metric, Watch
from winnow.runs.gathering import ArrivalMessages, Gatherer, Message
from winnow.runs.window_closer import WindowCloser
from winnow.storage.arrival_windows import DynamoArrivalWindows, WindowIsBeingClosed
from winnow.storage.ledger import Ledger
from winnow.storage.state_table import DynamoStateTable
from winnow.storage.upload_claims import DynamoUploadClaims
from winnow.testing import (
    FakeExecutions,
    MemoryArrivalWindows,
    MemoryStateTable,
    MemoryStore,
    MemoryUploadClaims,
    MemoryWindowQueue,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from winnow.storage.arrival_windows import ArrivalWindows
    from winnow.storage.state_table import StateTable
    from winnow.storage.upload_claims import UploadClaims

STAGES = ("adapt", "transform", "mint")
PREFIX = "tei/"
NOW = 1_795_715_100.0
WINDOW_SECONDS = 60
LAMBDA_SECONDS = 120
VISIBILITY_SECONDS = 720
"""Until a message comes again whose Lambda died or failed."""
PATIENCE = 200
"""Closings of windows, and deliveries of a message, before a test says that it never ends."""


def created(
    key: str,
    *,
    sequencer: str = "0061",
    etag: str = "e1",
    bucket: str = "source",
    version: str | None = None,
    detail_type: str = "Object Created",
    time: str = "2026-11-26T17:45:00Z",
) -> str:
    item = {
        "key": key,
        "size": 3,
        "etag": etag,
        "sequencer": sequencer,
        **({"version-id": version} if version else {}),
    }
    return json.dumps(
        {
            "source": "aws.s3",
            "detail-type": detail_type,
            "time": time,
            "detail": {"bucket": {"name": bucket}, "object": item},
        }
    )


class SayingWatch(Watch):
    """Remembers what was counted."""

    def __init__(self) -> None:
        super().__init__(pipeline="catalogue", environment="prod")

    def counted(self, metric: Metric) -> float:
        return self._sums.get(metric, 0)


class Atomic:
    """A client of moto's DynamoDB whose calls, as DynamoDB's, happen one after the other."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def locked(**arguments: Any) -> Any:
            with self._lock:
                return call(**arguments)

        return locked


def state_table() -> Any:
    """A client of DynamoDB, in moto, with a table `state`."""
    client: Any = botocore.session.get_session().create_client(
        "dynamodb", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    client.create_table(
        TableName="state",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
    )
    return Atomic(client)


class Around:
    """Something that is called, with something else before and after each call."""

    def __init__(self, inner: Any, call: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._inner = inner
        self._call = call

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def called(*arguments: Any, **named: Any) -> Any:
            return self._call(name, lambda: found(*arguments, **named))

        return called


@dataclass
class Clock:
    """Time as the test has it."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Arrivals:
    """Gathering and closing of one pipeline, and all that they talk to."""

    dynamodb: Any = None
    """In memory if there is none."""
    around: Callable[[str, Callable[[], Any]], Any] = lambda _, call: call()
    """Stands around each call of what they talk to."""
    clock: Clock = field(default_factory=Clock)
    window_seconds: int = WINDOW_SECONDS

    def __post_init__(self) -> None:
        clock = self.clock
        self.state: StateTable = MemoryStateTable()
        self.windows: ArrivalWindows = MemoryArrivalWindows(clock=clock)
        self.uploads: UploadClaims = MemoryUploadClaims(clock=clock)
        if self.dynamodb:
            self.state = DynamoStateTable("state", self.dynamodb, clock=clock)
            self.windows = DynamoArrivalWindows("state", self.dynamodb, pipeline="catalogue", clock=clock)
            self.uploads = DynamoUploadClaims("state", self.dynamodb, clock=clock)
        self.store = MemoryStore("ledger")
        self.queue = MemoryWindowQueue(clock=clock)
        self.executions = FakeExecutions(clock=clock)
        self.watch = SayingWatch()
        ledger = Ledger(self._around(self.store))
        windows = self._around(self.windows)
        gatherer = Gatherer(
            ledger=ledger,
            windows=windows,
            queue=self._around(self.queue),
            window_seconds=self.window_seconds,
            clock=clock,
        )
        self.arrivals = ArrivalMessages(
            source_bucket="source", source_prefix=PREFIX, gatherer=gatherer, watch=self.watch
        )
        self.closer = WindowCloser(
            stages=STAGES,
            source_prefix=PREFIX,
            ledger=ledger,
            state=self._around(self.state),
            windows=windows,
            uploads=self._around(self.uploads),
            gatherer=gatherer,
            executions=self._around(self.executions),
            watch=self.watch,
            clock=clock,
        )

    def _around(self, inner: Any) -> Any:
        # Whatever stands around at the time of the call, not now.
        return Around(inner, lambda name, call: self.around(name, call))  # noqa: PLW0108

    # What happens

    def deliver(self, *bodies: str) -> list[str]:
        """A batch of messages, `m0`, `m1` …; returns those to be delivered again."""
        records = [{"messageId": f"m{number}", "body": body} for number, body in enumerate(bodies)]
        return self.arrivals.take([Message.from_record(record) for record in records])

    def close(self, run_id: str) -> None:
        self.closer.close(run_id, dead_at=self.clock() + LAMBDA_SECONDS)

    def wait(self, seconds: float = WINDOW_SECONDS) -> None:
        """Time goes by, and windows whose time is over are closed."""
        end = self.clock.now + seconds
        for _ in range(PATIENCE):
            due = min(self.queue.waiting, default=(end + 1, ""))
            if due[0] > end:
                self.clock.now = end
                return
            self.queue.waiting.remove(due)
            self.clock.now = max(self.clock.now, due[0])
            try:
                self.close(due[1])
            except (Killed, WindowIsBeingClosed, OSError):
                self.queue.waiting.append((self.clock.now + VISIBILITY_SECONDS, due[1]))
        raise AssertionError("windows are closed without end")

    def settle(self) -> None:
        """Wait until no window is to be closed any more."""
        for _ in range(PATIENCE):
            if not self.queue.waiting:
                return
            self.wait(VISIBILITY_SECONDS)
        raise AssertionError("windows are opened without end")

    # What came of it

    @property
    def runs(self) -> list[Mapping[str, Any]]:
        return list(self.executions.started.values())

    def rows(self, run: Mapping[str, Any]) -> list[dict[str, Any]]:
        body = self.store.get(run["records"]["key"]).body
        return [json.loads(line) for line in body.splitlines()]

    def ids(self, run: Mapping[str, Any]) -> list[str]:
        return [row["id"] for row in self.rows(run)]

    @property
    def found(self) -> list[list[str]]:
        """The records of each run."""
        return [self.ids(run) for run in self.runs]

    def times_run(self) -> Counter[str]:
        """In how many runs each object is."""
        return Counter(each for ids in self.found for each in ids)


class Killed(BaseException):
    """This Lambda is no more."""


@dataclass
class Killer:
    """Kills a Lambda at its n-th call from here, before the call is made or before its answer comes."""

    at: int
    after: bool
    calls: int = 0
    killed_at: str | None = None

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls != self.at:
            return call()
        self.killed_at = name
        if self.after:
            call()
        raise Killed(name)


class OneAfterTheOther:
    """A thread pool that has no threads, so that the calls are always in the same order."""

    def __init__(self, **_: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Callable[..., Any], values: Sequence[Any]) -> list[Any]:
        return [function(value) for value in values]
