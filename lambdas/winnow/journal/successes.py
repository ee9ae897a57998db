"""The list of a stage's successes: its output segments, and how much of each counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from winnow.core.document import listed, ranges, required
from winnow.core.ranges import Ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessEntry:
    """An output segment as a reader of successes sees it."""

    key: str
    ids_key: str
    lines: int
    """Lines that count."""
    accept: Ranges | None = None
    """Ordinals whose lines count, where another segment has the rest; None for all."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SuccessEntry:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(
            key=required(value, "key", str),
            ids_key=required(value, "ids_key", str),
            lines=required(value, "lines", int),
            accept=None if value.get("accept") is None else ranges(value, "accept"),
        )

    def to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"key": self.key, "ids_key": self.ids_key, "lines": self.lines}
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
