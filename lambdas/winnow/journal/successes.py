"""The list of a stage's successes: its output segments, and how much of each counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from winnow.core.document import listed, nullable, ranges, required
from winnow.core.ranges import Ranges

if TYPE_CHECKING:
    from winnow.journal.segment import OutputSegment


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessEntry:
    """An output segment as a reader of successes sees it."""

    key: str
    ids_key: str
    lines: int
    """Lines that count."""
    digest: str
    """Of the body of the segment's object, as stored."""
    ids_digest: str
    """Of the body of the object with its ids."""
    own_ids: bool = False
    """Some of its outputs have ids of their own, which another record's output may have, too."""
    accept: Ranges | None = None
    """Ordinals whose lines count, where another segment has the rest, or Settle refused it; None for all."""

    @classmethod
    def of(cls, outputs: OutputSegment, *, lines: int, accept: Ranges | None = None) -> Self:
        """An output segment, or part of it."""
        return cls(
            key=outputs.key,
            ids_key=outputs.ids_key,
            lines=lines,
            digest=outputs.digest,
            ids_digest=outputs.ids_digest,
            own_ids=outputs.own_ids,
            accept=accept,
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SuccessEntry:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(
            key=required(value, "key", str),
            ids_key=required(value, "ids_key", str),
            lines=required(value, "lines", int),
            digest=required(value, "digest", str),
            ids_digest=required(value, "ids_digest", str),
            own_ids=bool(nullable(value, "own_ids", bool)),
            accept=None if value.get("accept") is None else ranges(value, "accept"),
        )

    def to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "key": self.key,
            "ids_key": self.ids_key,
            "lines": self.lines,
            "digest": self.digest,
            "ids_digest": self.ids_digest,
        }
        if self.own_ids:
            entry["own_ids"] = True
        if self.accept is not None:
            entry["accept"] = self.accept.to_json()
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessManifest:
    """What a stage hands on: pointers to its output segments, in the order in which they were written."""

    run_id: str
    stage: str
    records: int
    """Input records that succeeded."""
    lines: int
    """Outputs, which are the next stage's rows."""
    lost_in_run: int
    """Failed so far in this run, this stage included."""
    entries: tuple[SuccessEntry, ...]

    MAGIC: ClassVar[bytes] = b'{"winnow":"successes/1",'

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SuccessManifest:
        """Raises `ValueError` if a field is missing or wrong."""
        if value.get("winnow") != "successes/1":
            raise ValueError(f"unknown format of successes: {value.get('winnow')}")
        return cls(
            run_id=required(value, "run_id", str),
            stage=required(value, "stage", str),
            records=required(value, "records", int),
            lines=required(value, "lines", int),
            lost_in_run=required(value, "lost_in_run", int),
            entries=listed(value, "entries", SuccessEntry.from_json),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "winnow": "successes/1",
            "run_id": self.run_id,
            "stage": self.stage,
            "records": self.records,
            "lines": self.lines,
            "lost_in_run": self.lost_in_run,
            "entries": [entry.to_json() for entry in self.entries],
        }
