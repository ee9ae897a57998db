"""A list of records that an upstream stage succeeded in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from winnow.batch.rows import (
    LINES_PER_CHUNK,
    Chunk,
    Cursor,
    RowIds,
    RowSpan,
    TableRow,
    content_digest,
    runs_of,
)
from winnow.core.contract import Pointer
from winnow.core.document import fields_of
from winnow.core.errors import StageInputError
from winnow.core.ranges import Ranges
from winnow.core.record import Delete
from winnow.journal.segment import OutputIds, read_output_ids
from winnow.journal.successes import SuccessEntry, SuccessManifest
from winnow.storage.formats import DELETED_COLUMN, open_parquet
from winnow.storage.jsonlines import loads
from winnow.storage.ledger import Ledger, check_digest, decompress
from winnow.storage.store import ObjectStore

T = TypeVar("T")
R = TypeVar("R")


class SuccessesSource:
    """What an upstream stage succeeded in: its output segments, each line exactly once."""

    def __init__(self, store: ObjectStore, manifest: SuccessManifest) -> None:
        self._store = store
        self._ledger = Ledger(store)
        self._manifest = manifest

    def ids(self) -> Iterator[RowIds]:
        return (ids for ids, _ in self.ids_with_content(frozenset()))

    def ids_with_content(self, hashes: AbstractSet[int]) -> Iterator[tuple[RowIds, dict[int, bytes]]]:
        for entry, side in self._ahead(self._manifest.entries, self._output_ids):
            ids: RowIds = [*side.ids]
            if entry.accept is not None:
                ids = _accepted(ids, side.of, entry.accept)
            repeated = [n for n, i in enumerate(ids) if hash(i) in hashes] if hashes else []
            yield ids, self._contents(entry, repeated) if repeated else {}

    def _contents(self, entry: SuccessEntry, numbers: Iterable[int]) -> dict[int, bytes]:
        """Digests of the data of some of the lines that count."""
        rows, foreign = self._rows(entry)
        kept = [row for number, row in enumerate(rows) if number not in foreign] if foreign else rows
        return {number: content_digest(self.decode(kept[number])[1]) for number in numbers}

    def chunks(self, runs: Iterable[RowSpan]) -> Iterator[Chunk]:
        cursor = Cursor(runs)
        wanted = self._wanted(cursor)
        for (entry, parts), (rows, foreign) in self._ahead(wanted, lambda pair: self._rows(pair[0])):
            for offset, length, ordinal in parts:
                for run in runs_of(Ranges.span(offset, offset + length), foreign):
                    first = ordinal + run.ordinal - offset
                    for start in range(0, run.length, LINES_PER_CHUNK):
                        stop = min(run.length, start + LINES_PER_CHUNK)
                        part = rows[run.row + start : run.row + stop]
                        line = run.row + start + 1
                        yield Chunk(first + start, part, self._store.bucket, entry.key, line)

    def _wanted(self, cursor: Cursor) -> Iterator[tuple[SuccessEntry, list[tuple[int, int, int]]]]:
        row = 0
        for entry in self._manifest.entries:
            parts = list(cursor.take(row, entry.lines))
            if parts:
                yield entry, parts
            if cursor.done:
                return
            row += entry.lines

    @staticmethod
    def decode(row: Any) -> tuple[str, Any]:
        if isinstance(row, str):
            line = loads(row)
            return line["id"], Delete() if "deleted" in line else line["data"]
        values = row.read()
        identifier = values.pop("record_id")
        values.pop("from")
        return identifier, Delete() if values.pop(DELETED_COLUMN, None) else values

    def _rows(self, entry: SuccessEntry) -> tuple[list[Any], Ranges]:
        """A segment's lines, and which of them another segment vouches for."""
        with self._ledger.naming(entry.key):
            body = self._store.get(entry.key).body
            check_digest(body, entry.digest)
        rows: list[Any]
        if entry.key.endswith(".parquet"):
            rows = TableRow.all_of(open_parquet(body, entry.key).read())
        else:
            rows = decompress(body).decode().split("\n")
            rows.pop()
        foreign = Ranges.empty()
        if entry.accept is not None:
            of = self._output_ids(entry).of
            foreign = Ranges.of(line for line, ordinal in enumerate(of) if ordinal not in entry.accept)
        return rows, foreign

    def _output_ids(self, entry: SuccessEntry) -> OutputIds:
        return read_output_ids(self._ledger, entry)

    @staticmethod
    def _ahead(items: Iterable[T], load: Callable[[T], R]) -> Iterator[tuple[T, R]]:
        """Load the next item while the caller works on the current one; at most two are in memory."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            before: tuple[T, Future[R]] | None = None
            for item in items:
                coming = (item, pool.submit(load, item))
                if before:
                    yield before[0], before[1].result()
                before = coming
            if before:
                yield before[0], before[1].result()


def _accepted(rows: list[T], ordinals: Sequence[int], accept: Ranges) -> list[T]:
    return [row for row, ordinal in zip(rows, ordinals, strict=True) if ordinal in accept]


def read_manifest(store: ObjectStore, pointer: Pointer) -> SuccessManifest:
    """An upstream stage's successes.

    Raises:
        StageInputError: the object is not a list of successes in this ledger.
    """
    body = store.get(pointer.key, bucket=pointer.bucket).body
    try:
        manifest = SuccessManifest.from_json(fields_of(json.loads(body)))
    except ValueError as error:
        raise StageInputError(
            "records", str(pointer), "is no list of successes that a stage wrote"
        ) from error
    if pointer.bucket != store.bucket:
        raise StageInputError(
            "records.bucket", pointer.bucket, f"successes are read from the ledger, {store.bucket}"
        )
    return manifest
