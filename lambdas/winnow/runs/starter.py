"""Turns custom events and the schedule into runs. The same event, however often it is delivered, starts one run.

The event gives its run the name: a ULID made of the event's time and id, so that Step Functions itself refuses the second delivery.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from winnow.core.contract import Pointer, SourceFormat, new_run_id, ulid
from winnow.core.errors import LedgerConflict, StageInputError
from winnow.core.keys import StageKeys
from winnow.metrics.watch import Metric, get_logger
from winnow.runs.request import RunRequest, TriggerKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from winnow.metrics.watch import Watch
    from winnow.storage.executions import Executions
    from winnow.storage.ledger import Ledger

MAX_INPUT_BYTES = 12 * 1024
"""Longer inputs are moved to the ledger; leaves room for what Step Functions adds below law 7's 16 KB."""


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


class Starter:
    """Starts runs of one pipeline."""

    def __init__(
        self,
        *,
        pipeline: str,
        environment: str,
        stages: Sequence[str],
        source_prefix: str,
        ledger: Ledger,
        executions: Executions,
        watch: Watch,
        alert_refusal: Callable[[object, StageInputError], None],
    ) -> None:
        """`alert_refusal` takes an event that was refused, and why."""
        self._pipeline = pipeline
        self._environment = environment
        self._stages = stages
        self._source_prefix = source_prefix
        self._ledger = ledger
        self._executions = executions
        self._watch = watch
        self._alert_refusal = alert_refusal

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


def _size(payload: Mapping[str, Any]) -> int:
    return len(json.dumps(payload, ensure_ascii=False).encode())
