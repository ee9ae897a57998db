"""A selection: records of earlier runs, named by run, stage and ordinal. What a replay starts a stage with.

Pointers only: fifty thousand records are a few ranges, and their payloads stay where they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from winnow.contract import Pointer
from winnow.errors import StageInputError
from winnow.keys import StageKeys
from winnow.ledger import Ledger
from winnow.plan import Plan, ids_of, read_plan
from winnow.ranges import Ranges
from winnow.source import Chunk, Run, Source, Unreadable
from winnow.store import ObjectStore

IDS_PER_PIECE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Records that one stage run was given."""

    run_id: str
    stage: str
    ordinals: Ranges

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(run_id=value["run_id"], stage=value["stage"], ordinals=Ranges.from_json(value["ordinals"]))

    def to_json(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "stage": self.stage, "ordinals": self.ordinals.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Records of any number of stage runs, part after part."""

    parts: tuple[Part, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError when it is no selection."""
        if value["winnow"] != "selection/1":
            raise ValueError(f"unknown format of a selection: {value['winnow']}")
        return cls(parts=tuple(Part.from_json(part) for part in value["parts"]))

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """Raises as `from_json`."""
        return cls.from_json(json.loads(body))

    def to_json(self) -> dict[str, Any]:
        return {"winnow": "selection/1", "parts": [part.to_json() for part in self.parts]}

    def __len__(self) -> int:
        return sum(len(part.ordinals) for part in self.parts)


def open_selection(store: ObjectStore, pointer: Pointer, etag: str | None) -> SelectionSource:
    """The rows of the selection that a pointer points at.

    Raises:
        StageInputError: the object is none.
    """
    body = store.get(pointer.key, bucket=pointer.bucket, if_match=etag).body
    try:
        selection = Selection.from_bytes(body)
    except (ValueError, KeyError, TypeError) as error:
        raise StageInputError("records", str(pointer), "is no selection that a replay wrote") from error
    return SelectionSource(store, selection)


class _OpenPart:
    """A part with what it takes to read it."""

    def __init__(self, ledger: Ledger, part: Part, row: int) -> None:
        self.part = part
        self.row = row
        """Of its first record within the selection."""
        self._ledger = ledger

    @cached_property
    def plan(self) -> Plan:
        return read_plan(self._ledger, StageKeys(self.part.run_id, self.part.stage))

    @cached_property
    def source(self) -> Source:
        return self.plan.source.open(self._ledger.store)

    def __len__(self) -> int:
        return len(self.part.ordinals)

    def rank(self, ordinal: int) -> int:
        """The place of one of its ordinals within the part."""
        return len(self.part.ordinals.within(0, ordinal))


class SelectionSource:
    """The rows of a selection."""

    def __init__(self, store: ObjectStore, selection: Selection) -> None:
        self._ledger = Ledger(store)
        self._parts: list[_OpenPart] = []
        row = 0
        for part in selection.parts:
            self._parts.append(_OpenPart(self._ledger, part, row))
            row += len(part.ordinals)

    def ids(self) -> Iterator[list[str | Unreadable | None]]:
        for part in self._parts:
            piece: list[str | Unreadable | None] = []
            for _, identifier in ids_of(self._ledger, part.plan.keys, part.part.ordinals):
                piece.append(identifier)
                if len(piece) >= IDS_PER_PIECE:
                    yield piece
                    piece = []
            if piece:
                yield piece

    def chunks(self, runs: Iterable[Run]) -> Iterator[Chunk]:
        """Rows are decoded already: each part's source has its own way to."""
        wanted = list(runs)
        for part in self._parts:
            for run in wanted:
                start = max(run.row, part.row) - part.row
                stop = min(run.row + run.length, part.row + len(part)) - part.row
                if start < stop:
                    ordinals = part.part.ordinals.first(stop) - part.part.ordinals.first(start)
                    yield from self._read(part, ordinals, run)

    def _read(self, part: _OpenPart, ordinals: Ranges, run: Run) -> Iterator[Chunk]:
        for chunk in part.source.chunks(part.plan.runs(ordinals)):
            rows = [part.source.decode(row) for row in chunk.rows]
            ordinal = run.ordinal + part.row + part.rank(chunk.ordinal) - run.row
            yield Chunk(ordinal, rows, chunk.bucket, chunk.key, chunk.line)

    def decode(self, row: Any) -> tuple[str, Any]:
        identifier, data = row
        return identifier, data
