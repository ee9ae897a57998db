"""What a run is started with: by hand, by an event, by the schedule, by objects that arrived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from winnow.core.contract import Pointer, check_run_id, only_from_event, records_from_event
from winnow.core.errors import StageInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from winnow.core.contract import InlineRecord


class TriggerKind(StrEnum):
    """Who asked for a run."""

    SCHEDULE = "schedule"
    EVENT = "event"
    OBJECTS = "objects"
    MANUAL = "manual"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """Who asked for a run, and what else is known of that; kept in `run.json`."""

    kind: TriggerKind
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_event(cls, value: object) -> Self:
        """Raises `StageInputError`."""
        if value is None:
            return cls(kind=TriggerKind.MANUAL)
        kinds = ", ".join(TriggerKind)
        if not isinstance(value, Mapping):
            raise StageInputError("trigger", value, f'must be {{"kind": one of {kinds}}}')
        try:
            kind = TriggerKind(value.get("kind", ""))
        except ValueError:
            raise StageInputError("trigger.kind", value.get("kind"), f"must be one of {kinds}") from None
        return cls(kind=kind, details={name: value[name] for name in value if name != "kind"})

    def to_payload(self) -> dict[str, Any]:
        return {"kind": self.kind.value, **self.details}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """The pipeline's input."""

    run_id: str | None
    """None to have one made."""
    trigger: Trigger
    start_at: str
    records: Pointer | tuple[InlineRecord, ...] | None
    """None for every object under `prefix` of the source bucket."""
    only: Pointer | tuple[str, ...] | None
    prefix: str
    replay_id: str | None = None
    """The replay that this run is; also its run id."""

    FIELDS = frozenset({"run_id", "trigger", "start_at", "records", "only", "prefix", "replay"})
    ADDED_BY_STEP_FUNCTIONS = "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"

    @classmethod
    def from_event(cls, event: object, *, stages: Sequence[str], source_prefix: str) -> Self:
        """Check what a caller sent.

        Args:
            event: the input.
            stages: names of the pipeline's stages, in order.
            source_prefix: what all records in the source bucket begin with.

        Raises:
            StageInputError: it cannot be used; names the field, the value and the remedy.
        """
        if not isinstance(event, Mapping):
            raise StageInputError("input", event, "must be an object; {} runs over the whole source")
        unknown = sorted(set(event) - cls.FIELDS - {cls.ADDED_BY_STEP_FUNCTIONS})
        if unknown:
            raise StageInputError(
                unknown[0], event[unknown[0]], f"unknown field; known are {', '.join(sorted(cls.FIELDS))}"
            )
        records = None if event.get("records") is None else records_from_event(event["records"])
        only = only_from_event(event.get("only"))
        if only is not None and isinstance(records, Pointer) and records.only:
            raise StageInputError("only", event["only"], 'is given twice; remove it here or in "records"')
        start_at = _start_at(event.get("start_at"), stages)
        if start_at != stages[0] and records is None:
            before = stages[stages.index(start_at) - 1]
            raise StageInputError(
                "records",
                None,
                f"is missing; a run that starts at {start_at} needs a list, for example the successes of {before} in an earlier run",
            )
        run_id = None if event.get("run_id") is None else check_run_id(event["run_id"])
        replay_id = _replay(event.get("replay"), run_id)
        if replay_id and not isinstance(records, Pointer):
            raise StageInputError("records", event.get("records"), "must point to the replay's own selection")
        return cls(
            run_id=run_id or replay_id,
            replay_id=replay_id,
            trigger=Trigger.from_event(event.get("trigger")),
            start_at=start_at,
            records=records,
            only=only,
            prefix=_prefix(event.get("prefix"), source_prefix, given_records=records is not None),
        )

    def to_payload(self) -> dict[str, Any]:
        """As input of the pipeline machine."""
        payload: dict[str, Any] = {"trigger": self.trigger.to_payload(), "start_at": self.start_at}
        if self.run_id:
            payload["run_id"] = self.run_id
        if self.replay_id:
            payload["replay"] = {"id": self.replay_id}
        if isinstance(self.records, Pointer):
            payload["records"] = self.records.to_payload()
        elif self.records is not None:
            payload["records"] = [record.to_row() for record in self.records]
        elif self.prefix:
            payload["prefix"] = self.prefix
        if self.only is not None:
            payload["only"] = self.only.to_payload() if isinstance(self.only, Pointer) else list(self.only)
        return payload


def _start_at(value: object, stages: Sequence[str]) -> str:
    if value is None:
        return stages[0]
    if not isinstance(value, str) or value not in stages:
        raise StageInputError(
            "start_at", value, f"must be one of this pipeline's stages: {', '.join(stages)}"
        )
    return value


def _replay(value: object, run_id: str | None) -> str | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) != {"id"} or value["id"] is None:
        raise StageInputError("replay", value, 'must be {"id"}, as `winnow replay run` starts it')
    replay_id = check_run_id(value["id"], "replay.id")
    if run_id not in (None, replay_id):
        raise StageInputError("run_id", run_id, f"must be the replay's id, {replay_id}, or left out")
    return replay_id


def _prefix(value: object, source_prefix: str, *, given_records: bool) -> str:
    if value is None:
        return source_prefix
    if given_records:
        raise StageInputError("prefix", value, 'cannot go with "records"; give one of them')
    if not isinstance(value, str) or not value:
        raise StageInputError(
            "prefix", value, "must be a non-empty string; leave it out for the whole source"
        )
    if not value.startswith(source_prefix):
        raise StageInputError("prefix", value, f"must begin with the source's own prefix, {source_prefix}")
    return value
