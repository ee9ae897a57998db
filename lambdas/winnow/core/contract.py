"""The messages between callers, state machines and Lambdas: validated on arrival, typed after it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from winnow.core.errors import StageInputError

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_run_id() -> str:
    """A ULID: 26 characters, ascending in time, 80 random bits."""
    return ulid(int(time.time() * 1000), os.urandom(10))


def ulid(milliseconds: int, entropy: bytes) -> str:
    """The ULID of a moment (Unix time) and ten bytes."""
    number = (milliseconds << 80) | int.from_bytes(entropy)
    return "".join(CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


ULID = re.compile(f"[0-7][{CROCKFORD}]{{25}}")
"""What `ulid` makes. The first character is at most 7: 26 characters of 5 bits hold 130 bits, and a ULID has 128."""


def iso(moment: datetime) -> str:
    """A moment as UTC in ISO 8601 with milliseconds, `2026-11-27T10:15:00.000Z`; `datetime.fromisoformat` reads it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    """This moment, as `iso` writes it."""
    return iso(datetime.now(UTC))


MOST_TRIES = 20
"""Of a stage, whatever its settings say."""
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""A ULID unless the caller gives a name of its own, which must be safe in keys and execution names (80 characters)."""
STAGE_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
MAX_ROW_MB = 16
"""Of a row of a text list, unless the settings say otherwise."""
MAX_RECORD_ID_BYTES = 1024
"""The longest S3 key, and half of DynamoDB's longest partition key."""
MAX_INLINE_BYTES = 16 * 1024
"""No payload of a state machine is larger (law 7)."""


SUCCEEDED = "SUCCEEDED"
"""Step Functions' word for an execution that ended well."""


class Kind(StrEnum):
    """Why a record failed, as far as is known."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    CRASHED = "crashed"
    MISSING = "missing"


class Verdict(StrEnum):
    """What happens after an attempt; docs/architecture.md says which when."""

    COMPLETE = "COMPLETE"
    RETRY = "RETRY"
    CONTINUE = "CONTINUE"
    EXHAUSTED = "EXHAUSTED"
    TOTAL_FAILURE = "TOTAL_FAILURE"


def record_id_problem(value: object) -> str | None:
    """Why a value cannot be a record id, with the remedy; None when it can.

    Slashes, `..`, spaces and any script are fine: an id never becomes part of a key, a path or a query.
    """
    if not isinstance(value, str):
        return "must be a string"
    if not value:
        return "must not be empty"
    if len(value) > MAX_RECORD_ID_BYTES or len(value.encode("utf-8", "surrogatepass")) > MAX_RECORD_ID_BYTES:
        return f"must be at most {MAX_RECORD_ID_BYTES} bytes; hash the long part"
    if not value.isprintable() and _UNPRINTABLE.search(value):
        return "must not hold control characters or line breaks; strip them"
    return None


_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class SourceFormat(StrEnum):
    """How a list of records is written."""

    NDJSON = "ndjson"
    PARQUET = "parquet"
    SUCCESSES = "successes"
    """What a stage hands on."""
    SELECTION = "selection"
    """Some records of other lists, chosen for a replay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """Where an object is, and how to read it as a list of records."""

    bucket: str
    key: str
    format: SourceFormat | None = None
    """Detected from the object's first bytes when None."""
    id_column: str | None = None
    """Column (Parquet) or field (ndjson) that holds the id; `id` when None."""
    only: Pointer | None = None
    """Ids of the outstanding subset."""

    @classmethod
    def from_event(cls, value: object, field: str) -> Self:
        """Raises `StageInputError`, naming the field."""
        if not isinstance(value, Mapping):
            raise StageInputError(field, value, 'must be {"bucket", "key"}')
        unknown = sorted(set(value) - {"bucket", "key", "format", "id_column", "only"})
        if unknown:
            raise StageInputError(f"{field}.{unknown[0]}", value[unknown[0]], "unknown field; remove it")
        for name in ("bucket", "key"):
            if not isinstance(value.get(name), str) or not value[name]:
                raise StageInputError(f"{field}.{name}", value.get(name), "must be a non-empty string")
        for name in ("format", "id_column"):
            if value.get(name) is not None and (not isinstance(value[name], str) or not value[name]):
                raise StageInputError(
                    f"{field}.{name}", value[name], "must be a non-empty string or left out"
                )
        form, only = value.get("format"), value.get("only")
        if form not in (None, *SourceFormat):
            raise StageInputError(f"{field}.format", form, f"must be one of {', '.join(SourceFormat)}")
        return cls(
            bucket=value["bucket"],
            key=value["key"],
            format=None if form is None else SourceFormat(form),
            id_column=value.get("id_column"),
            only=None if only is None else Pointer.from_event(only, f"{field}.only"),
        )

    def to_payload(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"bucket": self.bucket, "key": self.key}
        if self.format:
            fields["format"] = self.format
        if self.id_column:
            fields["id_column"] = self.id_column
        if self.only:
            fields["only"] = self.only.to_payload()
        return fields

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineRecord:
    """A record given in the input itself."""

    id: str
    data: Any = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What was given beside `id` and `data`."""

    def to_row(self) -> object:
        """The record as it travels, and as a line of a list: the bare id where there is nothing else."""
        if self.data is None and not self.fields:
            return self.id
        return {"id": self.id, **self.fields, "data": self.data}


def inline_records(value: list[object], field: str) -> tuple[InlineRecord, ...]:
    """Ids, or objects with an `id` and optionally `data` (any other fields are the data).

    Raises:
        StageInputError: an item is neither, or its id cannot be one.
    """
    records = []
    for index, item in enumerate(value):
        data: Any = None
        rest: Mapping[str, Any] = {}
        identifier: object = item
        if isinstance(item, Mapping):
            if "id" not in item:
                raise StageInputError(f"{field}[{index}].id", item, 'is missing; give every record an "id"')
            identifier = item["id"]
            data = record_data(item)
            rest = record_fields(item, "id")
        problem = record_id_problem(identifier)
        if problem:
            raise StageInputError(f"{field}[{index}]", identifier, f"a record id {problem}")
        records.append(InlineRecord(id=str(identifier), data=data, fields=rest))
    return tuple(records)


def record_data(row: Mapping[str, Any]) -> Any:
    """The data of a source's row: its `data` field if it has one, else the whole row."""
    if "data" in row:
        return row["data"]
    return dict(row) if len(row) > 1 else None


def record_fields(row: Mapping[str, Any], id_field: str) -> dict[str, Any]:
    """What a source's row holds beside its id and its `data` field; nothing where the whole row is the data."""
    return {name: row[name] for name in row if name not in ("data", id_field)} if "data" in row else {}


class OnConflict(StrEnum):
    """What becomes of rows of a list that repeat an id with other content."""

    FAIL = "fail"
    """The first counts; each later one is a permanent failure."""
    FIRST = "first"
    """The first counts; the others are counted as superseded."""
    LAST = "last"
    """The last counts; the others are counted as superseded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a stage takes its batch and spends its tries. It is part of the state machine's definition, where operators can read it."""

    max_tries: int = 4
    """Tries in all; 3 retries, as in the RFC."""
    spend_tries_first: bool = False
    """Use up the tries even when the first attempt had no success, before the stage fails."""
    backoff_seconds: int = 30
    """Wait before the first retry, at most; doubles with each, with full jitter."""
    max_backoff_seconds: int = 600
    on_conflict: OnConflict = OnConflict.FAIL
    max_row_mb: int = MAX_ROW_MB
    """Of a row of a text list, unpacked; a longer one is no record."""

    @classmethod
    def from_event(cls, value: Mapping[str, Any]) -> Self:
        made = cls(**{**value, "on_conflict": OnConflict(value.get("on_conflict", OnConflict.FAIL))})
        if made.max_tries < 1:
            raise StageInputError("policy.max_tries", made.max_tries, "must be at least 1")
        return made

    def to_payload(self) -> dict[str, Any]:
        return {
            "max_tries": self.max_tries,
            "spend_tries_first": self.spend_tries_first,
            "backoff_seconds": self.backoff_seconds,
            "max_backoff_seconds": self.max_backoff_seconds,
            "on_conflict": self.on_conflict.value,
            "max_row_mb": self.max_row_mb,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StageInput:
    """The input that a caller starts a stage with."""

    run_id: str
    records: Pointer | tuple[InlineRecord, ...]
    only: Pointer | tuple[str, ...] | None
    try_count: int
    started_by: str | None = None
    """ARN of the execution that started the stage: the pipeline's; None where it was started by itself."""

    STARTED_BY = "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"
    FIELDS = frozenset({"run_id", "records", "only", "try_count", STARTED_BY})

    @classmethod
    def from_event(cls, event: object) -> Self:
        """Check what a caller sent.

        Raises:
            StageInputError: it cannot be used; names the field, the value and the remedy.
        """
        if not isinstance(event, Mapping):
            raise StageInputError("input", event, 'must be an object with "records"')
        unknown = sorted(set(event) - cls.FIELDS)
        if unknown:
            raise StageInputError(unknown[0], event[unknown[0]], "unknown field; remove it")
        return cls(
            run_id=check_run_id(event.get("run_id")),
            records=records_from_event(event.get("records")),
            only=only_from_event(event.get("only")),
            try_count=_try_count(event.get("try_count", 0)),
            started_by=event.get(cls.STARTED_BY),
        )


def check_run_id(value: object, field: str = "run_id") -> str:
    """The given run id, or a new one for None."""
    if value is None:
        return new_run_id()
    if not isinstance(value, str) or not RUN_ID.fullmatch(value):
        raise StageInputError(
            field, value, "must be letters, digits, - and _, at most 64; leave it out for a new one"
        )
    return value


def attempt_execution_name(run_id: str, attempt: int) -> str:
    """The name of the execution of a run's attempt after the first, which bears the run id itself.

    Step Functions refuses a name that its state machine had in the last 90 days. No run id has a dot, so no run can take
    the name; it stays below the limit of 80 characters.
    """
    return f"{run_id}.{attempt}"


def records_from_event(value: object) -> Pointer | tuple[InlineRecord, ...]:
    """The list of records that a caller names."""
    if value is None:
        raise StageInputError("records", None, "is missing; give a list of ids or a pointer to a list in S3")
    if isinstance(value, list):
        if not value:
            raise StageInputError(
                "records", value, 'an empty list is not "all"; point to a list in S3 instead'
            )
        return inline_records(value, "records")
    if isinstance(value, Mapping):
        return Pointer.from_event(value, "records")
    raise StageInputError("records", value, "must be a list of ids or a pointer to a list in S3")


def only_from_event(value: object) -> Pointer | tuple[str, ...] | None:
    """The outstanding subset, if the caller names one."""
    if value is None:
        return None
    if isinstance(value, list):
        if not value:
            raise StageInputError("only", value, 'an empty list is not "all"; leave the field out for all')
        return tuple(record.id for record in inline_records(value, "only"))
    return Pointer.from_event(value, "only")


def _try_count(value: object) -> int:
    if type(value) is not int or not 0 <= value < MOST_TRIES:
        raise StageInputError("try_count", value, f"must be a whole number from 0 to {MOST_TRIES - 1}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One attempt of one stage of one run: Plan hands it to the worker and to Settle."""

    run_id: str
    pipeline: str
    stage: str
    attempt: int
    try_count: int
    count: int
    """Distinct records in the batch."""
    plan: Pointer
    policy: Policy

    @classmethod
    def from_event(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            run_id=value["run_id"],
            pipeline=value["pipeline"],
            stage=value["stage"],
            attempt=value["attempt"],
            try_count=value["try_count"],
            count=value["count"],
            plan=Pointer.from_event(value["plan"], "plan"),
            policy=Policy.from_event(value["policy"]),
        )

    def to_payload(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "pipeline": self.pipeline,
            "stage": self.stage,
            "attempt": self.attempt,
            "try_count": self.try_count,
            "count": self.count,
            "plan": self.plan.to_payload(),
            "policy": self.policy.to_payload(),
        }
