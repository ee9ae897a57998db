"""A segment of the journal: outcomes of records, written by the worker as it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from winnow.core.contract import Kind
from winnow.core.document import nullable, required
from winnow.core.errors import shorten
from winnow.core.ranges import Ranges, union

if TYPE_CHECKING:
    from winnow.storage.ledger import Ledger

BY_PLAN = "plan"
"""Plan journals the records that no worker is given, under this invocation."""
BY_SETTLE = "settle"
"""Settle reports the records whose outputs it does not accept, under this invocation."""


class Stop(StrEnum):
    """Why a worker stopped; its last segment says so."""

    END = "end"
    """Every record of its order was taken."""
    TIME = "time"
    """Little time was left."""
    DEPENDENCY = "dependency"
    """So many records in a row failed transiently that a dependency must be down."""
    USED_UP = "used up"
    """The process has run out of something that only a new process has: descriptors, disk, threads."""
    ERROR = "error"
    """An error that is not a record's: from setup, or from reading the input."""


_REQUIRED: Any = object()


def _field(value: Mapping[str, Any], name: str, kind: type, default: Any = _REQUIRED) -> Any:
    """A field of a document, of exactly this type; counts are not negative. Raises ValueError."""
    found: Any = value.get(name, default)
    if found is None and default is None:
        return None
    if type(found) is not kind or (type(found) is int and found < 0):
        raise ValueError(f"`{name}` must be of type {kind.__name__}, got: {shorten(found)}")
    return found


def _counts(value: Mapping[str, Any], name: str) -> dict[str, int]:
    found: dict[str, int] = _field(value, name, dict, {})
    return {text: _field(found, text, int) for text in found}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSegment:
    """An object of output lines, and where their `OutputIds` are."""

    key: str
    ids_key: str
    lines: int
    digest: str
    """Of the object's body, as stored."""
    ids_digest: str
    """Of the body of the object with the ids."""
    own_ids: bool = False
    """Some outputs have ids of their own, which another record's output may have, too."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> OutputSegment:
        return cls(
            key=_field(value, "key", str),
            ids_key=_field(value, "ids_key", str),
            lines=_field(value, "lines", int),
            digest=_field(value, "digest", str),
            ids_digest=_field(value, "ids_digest", str),
            own_ids=_field(value, "own_ids", bool, False),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "ids_key": self.ids_key,
            "lines": self.lines,
            "digest": self.digest,
            "ids_digest": self.ids_digest,
            "own_ids": self.own_ids,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputIds:
    """The ids of a segment's output lines and the records that they came from, line by line."""

    ids: Sequence[str]
    of: Sequence[int]
    """Ordinals; of the first record where an output came from several."""
    contents: Sequence[str | None] | None = None
    """Digests of the data of outputs with ids of their own, null for other outputs; None where the segment has no such output."""
    joins: Sequence[Sequence[int]] | None = None
    """The ordinals of all records that an output came from; None where each came from one."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> OutputIds:
        """Raises `ValueError` if a field is missing or wrong."""
        made = cls(
            ids=required(value, "ids", list),
            of=required(value, "of", list),
            contents=nullable(value, "contents", list),
            joins=nullable(value, "joins", list),
        )
        for name in ("of", "contents", "joins"):
            other = getattr(made, name)
            if other is not None and len(other) != len(made.ids):
                raise ValueError(f"`{name}` must be as long as `ids`, got: {len(other)} and {len(made.ids)}")
        return made

    def to_json(self) -> dict[str, Any]:
        rest = {"contents": self.contents, "joins": self.joins}
        return {"ids": self.ids, "of": self.of, **{name: each for name, each in rest.items() if each}}


class VouchedIds(Protocol):
    """Where the ids of an output segment are, and the digest that their object has to have."""

    @property
    def ids_key(self) -> str: ...

    @property
    def ids_digest(self) -> str: ...


def read_output_ids(ledger: Ledger, outputs: VouchedIds) -> OutputIds:
    """The ids of an output segment, as they were written.

    Raises:
        DamagedDocument: the object is not the one that the journal vouches for.
    """
    return ledger.read(outputs.ids_key, OutputIds.from_json, digest=outputs.ids_digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One entry of the journal."""

    batch: str
    """Digest of the batch whose ordinals these are."""
    invocation: str
    sequence: int
    succeeded: Ranges
    skipped: Ranges
    failed: Mapping[Kind, Ranges]
    """Reports: they add reasons, they never decide."""
    outputs: OutputSegment | None = None
    failures_key: str | None = None
    horizon: int = 0
    """Ordinals below it may be in hand before the next segment is written: if the worker dies, only these are suspects."""
    deleted: Ranges = field(default_factory=Ranges.empty)
    """Those of `succeeded` whose outputs hold a deletion."""
    in_hand: Ranges = field(default_factory=Ranges.empty)
    """Records that were being worked on when time ran out."""
    warnings: int = 0
    skip_reasons: Mapping[str, int] = field(default_factory=dict)
    warned: Mapping[str, int] = field(default_factory=dict)
    """Warnings by text; a number of different ones, then "other"."""
    lies: int = 0
    """Claims of a batch worker about records that it was not given."""
    stop: Stop | None = None
    cause: str = ""
    """What the worker stopped for, in words, for `dependency`, `used up` and `error`."""
    whole: bool = False
    """Outputs join several records, so the segment counts as a whole or not at all."""
    code_version: str = ""
    """Of the worker that wrote it; empty for what Plan wrote."""
    written_at: str = ""

    @classmethod
    def from_json(cls, value: object) -> Segment:
        """Raises ValueError for an invalid segment. A reader of the journal has to survive any object in its folder."""
        if not isinstance(value, dict):
            raise ValueError("a segment must be an object")  # noqa: TRY004  one error for every invalid segment
        succeeded, skipped = Ranges.from_json(value.get("succeeded")), Ranges.from_json(value.get("skipped"))
        if succeeded & skipped:
            raise ValueError("a record must not be both succeeded and skipped")
        outputs = _field(value, "outputs", dict, None)
        stop = _field(value, "stop", str, None)
        return cls(
            batch=_field(value, "batch", str),
            invocation=_field(value, "invocation", str),
            sequence=_field(value, "sequence", int),
            succeeded=succeeded,
            skipped=skipped,
            failed={
                Kind(kind): Ranges.from_json(ordinals)
                for kind, ordinals in _field(value, "failed", dict).items()
            },
            outputs=None if outputs is None else OutputSegment.from_json(outputs),
            failures_key=_field(value, "failures_key", str, None),
            horizon=_field(value, "horizon", int, 0),
            deleted=Ranges.from_json(value.get("deleted", [])),
            in_hand=Ranges.from_json(value.get("in_hand", [])),
            warnings=_field(value, "warnings", int, 0),
            skip_reasons=_counts(value, "skip_reasons"),
            warned=_counts(value, "warned"),
            lies=_field(value, "lies", int, 0),
            stop=None if stop is None else Stop(stop),
            cause=_field(value, "cause", str, ""),
            whole=_field(value, "whole", bool, False),
            code_version=_field(value, "code_version", str, ""),
            written_at=_field(value, "written_at", str, ""),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "batch": self.batch,
            "invocation": self.invocation,
            "sequence": self.sequence,
            "succeeded": self.succeeded.to_json(),
            "skipped": self.skipped.to_json(),
            "failed": {kind.value: ordinals.to_json() for kind, ordinals in self.failed.items() if ordinals},
            "outputs": None if self.outputs is None else self.outputs.to_json(),
            "failures_key": self.failures_key,
            "horizon": self.horizon,
            **({"deleted": self.deleted.to_json()} if self.deleted else {}),
            "in_hand": self.in_hand.to_json(),
            "warnings": self.warnings,
            "skip_reasons": dict(self.skip_reasons),
            "warned": dict(self.warned),
            "lies": self.lies,
            "stop": self.stop,
            "cause": self.cause,
            "whole": self.whole,
            "code_version": self.code_version,
            "written_at": self.written_at,
        }

    @property
    def done(self) -> Ranges:
        return self.succeeded | self.skipped

    @property
    def reported(self) -> Ranges:
        """The records that this segment gives a reason of failure for."""
        return union(self.failed.values())


MAX_REASONS = 50
"""Different reasons of skips and warnings that are counted apart: some workers put an id into each."""
OTHER_REASONS = "other"
