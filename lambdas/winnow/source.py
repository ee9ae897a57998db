"""Where a batch's records come from: ndjson (plain, gzip, zstd), Parquet, or what an upstream stage succeeded in.

A source is rows in a fixed order. Plan reads their ids once and fixes the batch; the worker reads the rows it is still owed.
Memory is bounded by one piece of the source: a megabyte of lines, a Parquet row group, an output segment.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeVar

from winnow.contract import Pointer, record_data
from winnow.errors import LedgerObjectMissing, ObjectForbidden, StageInputError
from winnow.formats import is_text, open_parquet, parquet_batches
from winnow.journal import SuccessEntry, SuccessManifest
from winnow.jsonlines import loads
from winnow.ledger import MAX_UNPACKED_BYTES, decompress, gunzip, split_lines
from winnow.ranges import Ranges
from winnow.store import ObjectStore

T = TypeVar("T")
R = TypeVar("R")

LINES_PER_CHUNK = 2_000
"""Rows handed on at once; bounds what a slow record keeps from its neighbours in memory, not in time."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is no record: why, in one line with the remedy."""

    line: int
    """1-based."""
    problem: str


@dataclass(frozen=True, slots=True)
class Run:
    """Rows and ordinals that go side by side: row `row + i` is ordinal `ordinal + i`."""

    row: int
    ordinal: int
    length: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows as they lie in the source, still undecoded."""

    ordinal: int
    """Ordinal of the first."""
    rows: list[Any]
    bucket: str
    key: str
    line: int
    """1-based line (or row) of the first within the object."""


class Source(Protocol):
    """A list of records in S3."""

    def ids(self) -> Iterator[list[str | Unreadable | None]]:
        """Ids of all rows in order, in lists; None for a blank line, which is no row of the batch."""

    def chunks(self, runs: Iterable[Run]) -> Iterator[Chunk]:
        """The rows of ascending runs."""

    def decode(self, row: Any) -> tuple[str, Any]:
        """A row's id and data."""


def runs_of(ordinals: Ranges, dropped: Ranges) -> Iterator[Run]:
    """Where ordinals lie in the source, given the rows that Plan left out of the batch."""
    row = ordinal = 0
    kept: list[Run] = []
    for start, stop in dropped.pairs():
        if start > row:
            kept.append(Run(row, ordinal, start - row))
            ordinal += start - row
        row = stop
    last = max(0, ordinals.stop - ordinal)
    kept.append(Run(row, ordinal, last))
    wanted = ordinals.pairs()
    pair = next(wanted, None)
    for run in kept:
        while pair and pair[0] < run.ordinal + run.length:
            start, stop = max(pair[0], run.ordinal), min(pair[1], run.ordinal + run.length)
            if start < stop:
                yield Run(run.row + start - run.ordinal, start, stop - start)
            if pair[1] > run.ordinal + run.length:
                break
            pair = next(wanted, None)


class _Cursor:
    """Walks ascending runs while the rows of a source pass by."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs = iter(runs)
        self._run = next(self._runs, None)

    @property
    def done(self) -> bool:
        return self._run is None

    def take(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """The parts of rows `[first, first + count)` that are wanted: `(offset, length, ordinal)`."""
        while self._run and self._run.row < first + count:
            run = self._run
            start = max(run.row, first)
            stop = min(run.row + run.length, first + count)
            if start < stop:
                yield start - first, stop - start, run.ordinal + start - run.row
            if run.row + run.length > first + count:
                return
            self._run = next(self._runs, None)


class NdjsonSource:
    """One JSON document per line: an id, or an object with one."""

    def __init__(self, store: ObjectStore, pointer: Pointer, etag: str | None = None) -> None:
        self._store = store
        self._pointer = pointer
        self._etag = etag
        self._id_field = pointer.id_column or "id"

    def _lines(self) -> Iterator[list[str | bytes]]:
        """Lines, as many at once as a piece of the object holds; bytes where a line is not UTF-8."""
        pieces = self._store.stream(self._pointer.key, bucket=self._pointer.bucket, if_match=self._etag)
        first = True
        for lines in split_lines(_decoded(pieces, self._pointer)):
            text = _texts(lines)
            if first and isinstance(text[0], str):
                text[0] = text[0].removeprefix("\ufeff")
            first = False
            yield text

    def ids(self) -> Iterator[list[str | Unreadable | None]]:
        line = 0
        for lines in self._lines():
            found: list[str | Unreadable | None] = []
            for text in lines:
                line += 1
                if not text or text.isspace():
                    found.append(None)
                    continue
                try:
                    found.append(self._id(loads(_utf8(text))))
                except (ValueError, RecursionError) as error:
                    found.append(Unreadable(line, f"is not JSON ({error}); write one JSON document per line"))
                except _NoId as error:
                    found.append(Unreadable(line, str(error)))
            yield found

    def _id(self, row: Any) -> Any:
        if isinstance(row, str):
            return row
        if isinstance(row, dict) and row.get(self._id_field) is not None:
            return row[self._id_field]
        raise _NoId(f'has no "{self._id_field}"; give every record one')

    def chunks(self, runs: Iterable[Run]) -> Iterator[Chunk]:
        cursor = _Cursor(runs)
        row = 0
        for lines in self._lines():
            for offset, length, ordinal in cursor.take(row, len(lines)):
                part = lines if length == len(lines) else lines[offset : offset + length]
                yield Chunk(ordinal, part, self._pointer.bucket, self._pointer.key, row + offset + 1)
            if cursor.done:
                return
            row += len(lines)

    def decode(self, row: Any) -> tuple[str, Any]:
        document = loads(row)
        if isinstance(document, str):
            return document, None
        return document[self._id_field], record_data(document)


def _texts(lines: list[bytes]) -> list[str | bytes]:
    try:
        return [*b"\n".join(lines).decode().split("\n")]
    except UnicodeDecodeError:  # some line is not UTF-8: it costs only itself
        return [_text(line) for line in lines]


def _text(line: bytes) -> str | bytes:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line


def _utf8(line: str | bytes) -> str:
    return line if isinstance(line, str) else line.decode()


class _NoId(Exception):
    """The row holds no id."""


def _decoded(pieces: Iterator[bytes], pointer: Pointer) -> Iterator[bytes]:
    """Decompress by the first bytes, not by the name: they cannot lie."""
    first = next(pieces, b"")
    rest = chain((first,), pieces)
    try:
        if first[:2] == b"\x1f\x8b":
            yield from gunzip(rest)
        elif first[:4] == b"\x28\xb5\x2f\xfd":
            yield from _unzstd(rest)
        else:
            yield from rest
    except (zlib.error, EOFError) as error:
        raise StageInputError(
            "records", str(pointer), f"cannot be decompressed ({error}); write it again"
        ) from error


def _unzstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # noqa: PLC0415  Python 3.14, which runs in Lambda
    except ImportError:
        from backports import zstd  # noqa: PLC0415  only lists that are zstd need either
    unpacker, begun = zstd.ZstdDecompressor(), False
    for piece in pieces:
        data = piece
        while data or not unpacker.needs_input:
            begun = True
            try:
                yield unpacker.decompress(data, MAX_UNPACKED_BYTES)
            except zstd.ZstdError as error:
                raise EOFError(str(error)) from error
            data = b""
            if unpacker.eof:
                data = unpacker.unused_data
                unpacker, begun = zstd.ZstdDecompressor(), False
    if begun:
        raise EOFError("it ends too early")


class ParquetSource:
    """A Parquet file with an id column."""

    def __init__(self, store: ObjectStore, pointer: Pointer, etag: str | None = None) -> None:
        self._pointer = pointer
        self._id_column = pointer.id_column or "id"
        self._store = store
        self._etag = etag

    def _file(self) -> Any:
        body = self._store.get(self._pointer.key, bucket=self._pointer.bucket, if_match=self._etag).body
        file = open_parquet(body, str(self._pointer))
        schema = file.schema_arrow
        problem = None
        if self._id_column not in schema.names:
            problem = f"is no column of {self._pointer} (it has {', '.join(schema.names[:20])})"
        elif not is_text(kind := schema.field(self._id_column).type):
            problem = f"is a column of {kind} in {self._pointer}; ids are text"
        if problem:
            raise StageInputError("records.id_column", self._id_column, problem)
        return file

    def _batches(self, **options: Any) -> Iterator[Any]:
        return parquet_batches(self._file(), str(self._pointer), **options)

    def ids(self) -> Iterator[list[str | Unreadable | None]]:
        row = 0
        for table in self._batches(batch_size=100_000, columns=[self._id_column]):
            values = table.column(0).to_pylist()
            found: list[str | Unreadable | None] = [
                Unreadable(row + i + 1, f'has no "{self._id_column}"; give every row one')
                if value is None
                else value
                for i, value in enumerate(values)
            ]
            row += len(values)
            yield found

    def chunks(self, runs: Iterable[Run]) -> Iterator[Chunk]:
        cursor = _Cursor(runs)
        row = 0
        for table in self._batches(batch_size=LINES_PER_CHUNK):
            for offset, length, ordinal in cursor.take(row, table.num_rows):
                rows = table.slice(offset, length).to_pylist()
                yield Chunk(ordinal, rows, self._pointer.bucket, self._pointer.key, row + offset + 1)
            if cursor.done:
                return
            row += table.num_rows

    def decode(self, row: Any) -> tuple[str, Any]:
        return row[self._id_column], row


class SuccessesSource:
    """What an upstream stage succeeded in: its output segments, each line exactly once."""

    def __init__(self, store: ObjectStore, manifest: SuccessManifest) -> None:
        self._store = store
        self._manifest = manifest

    def ids(self) -> Iterator[list[str | Unreadable | None]]:
        for entry, side in self._ahead(self._manifest.entries, self._sidecar):
            ids: list[str | Unreadable | None] = [*side["ids"]]
            yield ids if entry.accept is None else _accepted(ids, side["of"], entry.accept)

    def chunks(self, runs: Iterable[Run]) -> Iterator[Chunk]:
        cursor = _Cursor(runs)
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

    def _wanted(self, cursor: _Cursor) -> Iterator[tuple[SuccessEntry, list[tuple[int, int, int]]]]:
        row = 0
        for entry in self._manifest.entries:
            parts = list(cursor.take(row, entry.lines))
            if parts:
                yield entry, parts
            if cursor.done:
                return
            row += entry.lines

    def decode(self, row: Any) -> tuple[str, Any]:
        if isinstance(row, str):
            line = loads(row)
            return line["id"], line["data"]
        identifier = row.pop("record_id")
        row.pop("from")
        return identifier, row

    def _rows(self, entry: SuccessEntry) -> tuple[list[Any], Ranges]:
        """A segment's lines, and which of them another segment vouches for."""
        body = self._store.get(entry.key).body
        rows: list[Any]
        if entry.key.endswith(".parquet"):
            rows = open_parquet(body, entry.key).read().to_pylist()
        else:
            rows = decompress(body).decode().split("\n")
            rows.pop()
        foreign = Ranges.empty()
        if entry.accept is not None:
            of = self._sidecar(entry)["of"]
            foreign = Ranges.of(line for line, ordinal in enumerate(of) if ordinal not in entry.accept)
        return rows, foreign

    def _sidecar(self, entry: SuccessEntry) -> dict[str, Any]:
        side: dict[str, Any] = json.loads(decompress(self._store.get(entry.ids_key).body))
        return side

    @staticmethod
    def _ahead(items: Iterable[T], load: Callable[[T], R]) -> Iterator[tuple[T, R]]:
        """Load the next item while the present one is worked on; at most two are in memory."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            before: tuple[T, Future[R]] | None = None
            for item in items:
                coming = (item, pool.submit(load, item))
                if before:
                    yield before[0], before[1].result()
                before = coming
            if before:
                yield before[0], before[1].result()


def _accepted(rows: list[T], ordinals: list[int], accept: Ranges) -> list[T]:
    return [row for row, ordinal in zip(rows, ordinals, strict=True) if ordinal in accept]


@dataclass(frozen=True, slots=True)
class SourceRef:
    """A source as a plan remembers it: the pointer, what it turned out to be, and the tag it had."""

    pointer: Pointer
    format: str
    etag: str | None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SourceRef:
        return cls(Pointer.from_event(value["pointer"], "source"), value["format"], value["etag"])

    def to_json(self) -> dict[str, Any]:
        return {"pointer": self.pointer.to_payload(), "format": self.format, "etag": self.etag}

    def open(self, store: ObjectStore) -> Source:
        """The rows. The worker opens what Plan saw: a source that changed since is refused, not mixed."""
        if self.format == "successes":
            return SuccessesSource(store, read_manifest(store, self.pointer))
        if self.format == "selection":
            from winnow.selection import open_selection  # noqa: PLC0415  it is made of plans, and plans of sources

            return open_selection(store, self.pointer, self.etag)
        made = ParquetSource if self.format == "parquet" else NdjsonSource
        return made(store, self.pointer, self.etag)


def read_manifest(store: ObjectStore, pointer: Pointer) -> SuccessManifest:
    """An upstream stage's successes.

    Raises:
        StageInputError: the object is no manifest of this ledger.
    """
    body = store.get(pointer.key, bucket=pointer.bucket).body
    try:
        manifest = SuccessManifest.from_json(json.loads(body))
    except (ValueError, KeyError, TypeError) as error:
        raise StageInputError(
            "records", str(pointer), "is no list of successes that a stage wrote"
        ) from error
    if pointer.bucket != store.bucket:
        raise StageInputError(
            "records.bucket", pointer.bucket, f"successes are read from the ledger, {store.bucket}"
        )
    return manifest


def detect(store: ObjectStore, pointer: Pointer) -> SourceRef:
    """Find out what a pointer points at.

    Raises:
        StageInputError: there is no such object, or it may not be read.
    """
    try:
        head = store.head(pointer.key, bucket=pointer.bucket)
    except LedgerObjectMissing as error:
        raise StageInputError("records", str(pointer), "does not exist; check bucket and key") from error
    except ObjectForbidden as error:
        remedy = "may not be read by this pipeline; put the list into the source bucket"
        raise StageInputError("records", str(pointer), remedy) from error
    found = pointer.format
    if not found:
        if head.start.startswith(b"PAR1"):
            found = "parquet"
        elif head.start.startswith(SuccessManifest.MAGIC):
            found = "successes"
        elif head.start.startswith(b'{"winnow":"selection/'):
            found = "selection"
        else:
            found = "ndjson"
    return SourceRef(pointer, found, None if found == "successes" else head.etag)
