"""A selection: records of earlier runs, named by run, stage and ordinal. What a replay starts a stage with.

Pointers only: fifty thousand records are a few ranges. Their payloads stay where they are.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Self

from winnow.batch.plan import Plan, ids_of, read_plan
from winnow.batch.rows import Chunk, RowIds, RowSpan, Source, SourceRef, Unreadable, content_digest
from winnow.core.contract import Pointer
from winnow.core.document import fields_of, listed, ranges, required
from winnow.core.errors import StageInputError
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.storage.ledger import Ledger
from winnow.storage.store import ObjectStore

IDS_PER_PIECE = 10_000
_REJECTED = "of the selection is a row that an earlier run rejected, as it still is; correct the source, and run it again"

OpenSource = Callable[[ObjectStore, SourceRef], Source]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionPart:
    """Records that one stage run was given."""

    run_id: str
    stage: str
    ordinals: Ranges

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(
            run_id=required(value, "run_id", str),
            stage=required(value, "stage", str),
            ordinals=ranges(value, "ordinals"),
        )

    def to_json(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "stage": self.stage, "ordinals": self.ordinals.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Records of any number of stage runs, part after part."""

    parts: tuple[SelectionPart, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if it is no selection."""
        if value.get("winnow") != "selection/1":
            raise ValueError(f"unknown format of a selection: {value.get('winnow')}")
        return cls(parts=listed(value, "parts", SelectionPart.from_json))

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """Raises as `from_json`."""
        return cls.from_json(fields_of(json.loads(body)))

    def to_json(self) -> dict[str, Any]:
        return {"winnow": "selection/1", "parts": [part.to_json() for part in self.parts]}

    def __len__(self) -> int:
        return sum(len(part.ordinals) for part in self.parts)


def read_selection(store: ObjectStore, pointer: Pointer, etag: str | None) -> Selection:
    """The selection that a pointer points at.

    Raises:
        StageInputError: the object is none.
    """
    body = store.get(pointer.key, bucket=pointer.bucket, if_match=etag).body
    try:
        return Selection.from_bytes(body)
    except ValueError as error:
        raise StageInputError("records", str(pointer), "is no selection that a replay wrote") from error


class _OpenPart:
    """A part with its plan and its source."""

    def __init__(self, ledger: Ledger, part: SelectionPart, row: int, open_source: OpenSource) -> None:
        self.part = part
        self.row = row
        """Of its first record within the selection."""
        self._ledger = ledger
        self._open_source = open_source
        self._starts = part.ordinals.to_json()[::2]
        lengths = (stop - start for start, stop in part.ordinals.pairs())
        self._before = [0, *accumulate(lengths)]
        """Records of the part before each of its intervals, and all of them."""

    @cached_property
    def plan(self) -> Plan:
        return read_plan(self._ledger, StageKeys(self.part.run_id, self.part.stage))

    @cached_property
    def source(self) -> Source:
        return self._open_source(self._ledger.store, self.plan.source)

    def __len__(self) -> int:
        return self._before[-1]

    def rank(self, ordinal: int) -> int:
        """The place of one of its ordinals within the part."""
        interval = bisect_right(self._starts, ordinal) - 1
        return self._before[interval] + ordinal - self._starts[interval]

    def at(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The ordinals in the part's places `[start, stop)`, as intervals."""
        interval = bisect_right(self._before, start) - 1
        while start < stop:
            ordinal = self._starts[interval] + start - self._before[interval]
            length = min(stop, self._before[interval + 1]) - start
            yield ordinal, ordinal + length
            start += length
            interval += 1


class SelectionSource:
    """The rows of a selection."""

    def __init__(self, store: ObjectStore, selection: Selection, open_source: OpenSource) -> None:
        """`open_source` opens what the stage runs were given, which may be selections themselves."""
        self._ledger = Ledger(store)
        self._parts: list[_OpenPart] = []
        row = 0
        for part in selection.parts:
            self._parts.append(_OpenPart(self._ledger, part, row, open_source))
            row += len(part.ordinals)

    def ids(self) -> Iterator[RowIds]:
        row = 0
        for part in self._parts:
            piece: RowIds = []
            rejected = part.plan.rejected
            for ordinal, identifier in ids_of(self._ledger, part.plan, part.part.ordinals):
                row += 1
                again = ordinal in rejected
                piece.append(Unreadable(row, _REJECTED, identifier) if again else identifier)
                if len(piece) >= IDS_PER_PIECE:
                    yield piece
                    piece = []
            if piece:
                yield piece

    def ids_with_content(self, hashes: AbstractSet[int]) -> Iterator[tuple[RowIds, dict[int, bytes]]]:
        row = 0
        for ids in self.ids():
            repeated = [n for n, i in enumerate(ids) if isinstance(i, str) and hash(i) in hashes]
            yield ids, self._contents(row, repeated) if repeated else {}
            row += len(ids)

    def _contents(self, first: int, offsets: Iterable[int]) -> dict[int, bytes]:
        """Digests of the content of rows, by their distance from the first."""
        contents: dict[int, bytes] = {}
        runs = [RowSpan(first + offset, offset, 1) for offset in offsets]
        for chunk in self.chunks(runs):
            for offset, row in enumerate(chunk.rows, chunk.ordinal):
                try:
                    contents[offset] = content_digest(self.decode(row)[1])
                except (ValueError, KeyError, TypeError, RecursionError):  # like no other row
                    contents[offset] = f"{first + offset}".encode()
        return contents

    def chunks(self, runs: Iterable[RowSpan]) -> Iterator[Chunk]:
        """A part's source is read once, however scattered the rows that are wanted of it."""
        wanted = list(runs)
        first_rows = [run.row for run in wanted]
        for part in self._parts:
            ordinals = Ranges.from_pairs(_within(part, wanted))
            if not ordinals:
                continue
            for chunk in part.source.chunks(part.plan.runs(ordinals)):
                yield from _renumbered(part, chunk, wanted, first_rows)

    @staticmethod
    def decode(row: Any) -> tuple[str, Any]:
        decode, undecoded = row  # each part has its own source
        found: tuple[str, Any] = decode(undecoded)
        return found


def _within(part: _OpenPart, runs: Iterable[RowSpan]) -> Iterator[tuple[int, int]]:
    """What runs want of a part, in the part's own ordinals."""
    for run in runs:
        start, stop = max(run.row, part.row), min(run.row + run.length, part.row + len(part))
        if start < stop:
            yield from part.at(start - part.row, stop - part.row)


def _renumbered(
    part: _OpenPart, chunk: Chunk, runs: Sequence[RowSpan], first_rows: list[int]
) -> Iterator[Chunk]:
    """A chunk of a part's source in the ordinals of the batch that is made of the selection."""
    done = 0
    while done < len(chunk.rows):
        row = part.row + part.rank(chunk.ordinal + done)
        run = runs[bisect_right(first_rows, row) - 1]
        count = min(len(chunk.rows) - done, run.row + run.length - row)
        rows = [(part.source.decode, each) for each in chunk.rows[done : done + count]]
        yield Chunk(run.ordinal + row - run.row, rows, chunk.bucket, chunk.key, chunk.line + done)
        done += count
