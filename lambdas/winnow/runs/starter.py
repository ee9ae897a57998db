"""StartRun: turns events into runs. The same event, however often it is delivered, starts one run.

Events from EventBridge and the schedule give a run its name: a ULID made of the event's time and id, so that Step Functions itself
refuses the second delivery. Events for objects come in batches that differ from delivery to delivery, so each object is claimed in
the state table. A claim names the run it was taken on for: whether that run exists decides if the object was seen to, so that
a Lambda that dies between claiming and starting loses nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

from winnow.core.contract import InlineRecord, Pointer, SourceFormat, new_run_id, ulid
from winnow.core.errors import LedgerConflict, StageInputError
from winnow.core.keys import StageKeys
from winnow.metrics.watch import Metric, get_logger
from winnow.runs.object_events import objects_created
from winnow.runs.request import RunRequest, Trigger, TriggerKind
from winnow.storage.listing import is_folder
from winnow.storage.state_table import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from winnow.metrics.watch import Watch
    from winnow.runs.object_events import ObjectCreated
    from winnow.storage.executions import Executions
    from winnow.storage.ledger import Ledger
    from winnow.storage.state_table import StateTable

MAX_INPUT_BYTES = 12 * 1024
"""Longer inputs are moved to the ledger; leaves room for what Step Functions adds below law 7's 16 KB."""
CLAIMERS = 16
"""Claims made at once; a batch of 1,000 messages then takes well under a second."""
LEASE_MARGIN_SECONDS = 30
"""After a Lambda's end until its run can no longer be about to appear: DescribeExecution is eventually consistent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """A custom event on the bus, or one of the schedule."""

    event_id: str
    time: str
    kind: TriggerKind
    detail: Mapping[str, Any]

    @classmethod
    def from_event(cls, event: object) -> Self:
        """Raises `StageInputError`."""
        if not isinstance(event, Mapping):
            raise StageInputError("event", event, "must be an event of EventBridge")
        if event.get("trigger") == "schedule" or event.get("detail-type") == "Scheduled Event":
            return cls(
                event_id="schedule", time=str(event.get("time", "")), kind=TriggerKind.SCHEDULE, detail={}
            )
        if not isinstance(event.get("id"), str) or not isinstance(event.get("time"), str):
            raise StageInputError(
                "id", event.get("id"), "must be an event's id, next to its time; send it through EventBridge"
            )
        detail = event.get("detail")
        if not isinstance(detail, Mapping):
            raise StageInputError("detail", detail, 'must be {"pipeline", "environment", ...}')
        return cls(event_id=event["id"], time=event["time"], kind=TriggerKind.EVENT, detail=detail)

    @property
    def run_id(self) -> str:
        """Follows from the event, so that its second delivery finds the name taken."""
        try:
            moment = int(datetime.fromisoformat(self.time).timestamp() * 1000)
        except ValueError:
            moment = -1
        if moment < 0:
            get_logger().warning(
                "event without a usable time: if it is delivered again, it starts another run", time=self.time
            )
            return new_run_id()
        return ulid(moment, hashlib.blake2b(self.event_id.encode(), digest_size=10).digest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of the queue."""

    message_id: str
    body: str

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Raises KeyError if SQS did not send it."""
        return cls(message_id=record["messageId"], body=record["body"])


class _Taken(Enum):
    MINE = "mine"
    DONE = "done"
    BUSY = "busy"


class Starter:
    """Starts runs of one pipeline."""

    def __init__(
        self,
        *,
        pipeline: str,
        environment: str,
        stages: Sequence[str],
        source_bucket: str,
        source_prefix: str,
        ledger: Ledger,
        state: StateTable,
        executions: Executions,
        watch: Watch,
        alert_refusal: Callable[[object, StageInputError], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`alert_refusal` takes an event that was refused, and why."""
        self._pipeline = pipeline
        self._environment = environment
        self._stages = stages
        self._source_bucket = source_bucket
        self._source_prefix = source_prefix
        self._ledger = ledger
        self._state = state
        self._executions = executions
        self._watch = watch
        self._alert_refusal = alert_refusal
        self._clock = clock

    def on_event(self, event: object) -> str | None:
        """Start the run an event asks for; returns its id, or None where the event asks for nothing that can be started.

        Such an event is logged, counted and alerted, not raised: delivering it again would not help.
        """
        try:
            asked = RunEvent.from_event(event)
            request = self._request(asked)
        except StageInputError as error:
            get_logger().error(f"event refused: {error}")
            self._watch.count(Metric.RUN_REFUSED)
            self._alert_refusal(event, error)
            return None
        self._start(request)
        return request.run_id

    def _request(self, asked: RunEvent) -> RunRequest:
        fields = dict(asked.detail)
        trigger = {"kind": asked.kind, "id": asked.event_id, "time": asked.time}
        if asked.kind is TriggerKind.EVENT:
            pipeline = fields.pop("pipeline", None)
            if pipeline != self._pipeline:
                raise StageInputError(
                    "detail.pipeline", pipeline, f"must be {self._pipeline}, the pipeline this rule starts"
                )
            environment = fields.pop("environment", None)
            if environment is None:
                raise StageInputError(
                    "detail.environment",
                    None,
                    f'is missing; to start a run in {self._environment}, add "environment": "{self._environment}"',
                )
            if environment != self._environment:
                raise StageInputError(
                    "detail.environment",
                    environment,
                    f"must be {self._environment}, the environment this rule starts runs in",
                )
            if "trigger" in fields:
                raise StageInputError("detail.trigger", fields["trigger"], "unknown field; remove it")
        request = RunRequest.from_event(
            {**fields, "trigger": trigger}, stages=self._stages, source_prefix=self._source_prefix
        )
        return request if request.run_id else replace(request, run_id=asked.run_id)

    def _start(self, request: RunRequest) -> None:
        run_id = request.run_id or new_run_id()
        payload = request.to_payload()
        if _size(payload) > MAX_INPUT_BYTES:
            payload = self._moved(request, run_id).to_payload()
        if self._executions.start(run_id, payload):
            get_logger().info("run started", run_id=run_id, trigger=request.trigger.to_payload())
            self._watch.count(Metric.RUN_STARTED)
        else:
            get_logger().warning(
                "a run of this id was started before, so this starts nothing: the same event again, or a run_id used twice",
                run_id=run_id,
            )
            self._watch.count(Metric.RUN_DUPLICATE)

    def _moved(self, request: RunRequest, run_id: str) -> RunRequest:
        stage = StageKeys(run_id, request.start_at)
        records, only = request.records, request.only
        if isinstance(records, tuple):
            records = self._move(stage.input, [record.to_row() for record in records])
        if isinstance(only, tuple):
            only = self._move(stage.only, only)
        return replace(request, records=records, only=only)

    def _move(self, key: str, rows: Sequence[object]) -> Pointer:
        with suppress(
            LedgerConflict
        ):  # an earlier delivery got this far; a run that has it already keeps what it has
            self._ledger.write_records(key, rows, if_absent=True)
        return Pointer(bucket=self._ledger.bucket, key=key, format=SourceFormat.NDJSON)

    def on_messages(self, messages: Sequence[Message], *, dead_at: float) -> list[str]:
        """Start one run over the objects that a batch of messages names.

        Args:
            messages: as SQS delivers them.
            dead_at: Unix time at which this Lambda is stopped.

        Returns:
            Ids of messages to be delivered again: those that tell of nothing that can be used (until the queue gives them up to
            its dead-letter queue), and those that another Lambda may be working on.
        """
        created_objects: list[tuple[Message, ObjectCreated]] = []
        again: list[str] = []
        for message in messages:
            try:
                created_objects += [
                    (message, created) for created in objects_created(message.body) if self._is_ours(created)
                ]
            except StageInputError as error:
                get_logger().error(f"message refused: {error}", message_id=message.message_id)
                self._watch.count(Metric.RUN_REFUSED)
                again.append(message.message_id)
        mine = Claim(run_id=new_run_id(), lease_until=dead_at + LEASE_MARGIN_SECONDS)
        taken = self._take_all([created for _, created in created_objects], mine)
        owned: list[tuple[Message, ObjectCreated]] = []
        for (message, created), outcome in zip(created_objects, taken, strict=True):
            if outcome is _Taken.MINE:
                owned.append((message, created))
            elif outcome is _Taken.BUSY:
                again.append(message.message_id)
            else:
                self._watch.count(Metric.RUN_DUPLICATE)
        if owned:
            try:
                self._start(self._run_over([created for _, created in owned], mine.run_id))
            except Exception as error:  # noqa: BLE001  whatever it was, the messages come again
                get_logger().exception(
                    "run not started; its messages come again", run_id=mine.run_id, error=str(error)
                )
                again += [message.message_id for message, _ in owned]
        return list(dict.fromkeys(again))

    def _is_ours(self, created: ObjectCreated) -> bool:
        item = created.item
        return (
            item.bucket == self._source_bucket
            and item.key.startswith(self._source_prefix)
            and not is_folder(item.key)
        )

    def _take_all(self, created_objects: Sequence[ObjectCreated], mine: Claim) -> list[_Taken]:
        with ThreadPoolExecutor(max_workers=CLAIMERS) as pool:
            standing = list(
                pool.map(lambda created: self._state.claim(created.event_id, mine), created_objects)
            )
        exists: dict[str, bool] = {}
        taken: list[_Taken] = []
        for created, claim in zip(created_objects, standing, strict=True):
            if claim.run_id == mine.run_id:
                taken.append(_Taken.MINE)
                continue
            if claim.run_id not in exists:
                exists[claim.run_id] = self._executions.status(self._executions.arn(claim.run_id)) is not None
            if exists[claim.run_id]:
                taken.append(_Taken.DONE)
            elif claim.lease_until > self._clock():
                taken.append(_Taken.BUSY)
            else:
                won = self._state.take_over_claim(created.event_id, mine, previous=claim)
                taken.append(_Taken.MINE if won else _Taken.BUSY)
        return taken

    def _run_over(self, created_objects: Sequence[ObjectCreated], run_id: str) -> RunRequest:
        newest: dict[str, ObjectCreated] = {}
        for created in created_objects:
            known = newest.get(created.item.key)
            if known is None or created.is_newer_than(known):
                newest[created.item.key] = created
        return RunRequest(
            run_id=run_id,
            trigger=Trigger(kind=TriggerKind.OBJECTS, details={"objects": len(newest)}),
            start_at=self._stages[0],
            records=tuple(
                InlineRecord(id=key, data=created.item.to_data()) for key, created in newest.items()
            ),
            only=None,
            prefix=self._source_prefix,
        )


def _size(payload: Mapping[str, Any]) -> int:
    return len(json.dumps(payload, ensure_ascii=False).encode())
