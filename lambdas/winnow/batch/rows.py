"""Rows of a list of records, and which ordinals of a batch they are.

A source is rows in a fixed order. Plan reads their ids once and fixes the batch; the worker reads the rows that are outstanding.
Memory is bounded by one piece of the source: a megabyte of lines, a Parquet row group, an output segment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from winnow.core.contract import MAX_ROW_MB, Pointer, SourceFormat
from winnow.core.document import member, nullable, required
from winnow.core.ranges import Ranges

ROW_VERSION_CHARS = 12
"""Of an object's tag, in what a row is called: enough to tell the versions of one object apart."""
MAX_ORIGIN_BYTES = 900
"""Leaves room for line and version within the 1,024 bytes of a record id."""

MAX_ROW_BYTES = MAX_ROW_MB * 1024 * 1024

LINES_PER_CHUNK = 2_000
"""Rows handed on at once; bounds memory."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is no record: why, in one line with the remedy."""

    line: int
    """1-based."""
    problem: str
    record_id: str | None = None
    """The id that an earlier run has given the row; None for a row that is read for the first time."""


RowIds = list[str | Unreadable | None]
"""Ids of consecutive rows; None for a blank line, which is no row of the batch."""


def content_digest(document: object, text: str = "") -> bytes:
    """Tells rows of one id apart: the same for the same content, whatever the order of its fields.

    Args:
        document: the row.
        text: stands for a row that is nested deeper than the encoder goes.
    """
    with suppress(RecursionError):
        text = json.dumps(document, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class RowSpan:
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


NO_PYTHON_VALUE = (ArithmeticError, LookupError, NotImplementedError, TypeError, ValueError)
"""Raised by pyarrow for a value that Python has no form for: a date of the year 20024, text that is not UTF-8."""


class UnreadableRow(ValueError):
    """A row that Plan listed, with a value that cannot be read; the message names row, column and remedy."""


class TableRow:
    """A row of a table. The values of all rows are read at once, which is fast. A second `read` of a row reads it again."""

    __slots__ = ("_first", "_number", "_table", "_values")

    def __init__(self, table: Any, first: int, number: int, values: dict[str, Any] | None) -> None:
        self._table = table
        self._first = first
        self._number = number
        self._values = values

    @classmethod
    def all_of(cls, table: Any, first: int = 1) -> list[TableRow]:
        """The rows of a pyarrow table. If one holds a value that cannot be read, each is read by itself, later.

        Args:
            table: some rows of an object.
            first: the 1-based row in the object that the table begins with.
        """
        try:
            values: list[Any] = table.to_pylist()
        except NO_PYTHON_VALUE:
            values = [None] * table.num_rows
        return [cls(table, first, number, row) for number, row in enumerate(values)]

    def read(self) -> dict[str, Any]:
        """Values by column, in a dictionary that the caller may change.

        Raises:
            UnreadableRow: a value cannot be read.
        """
        values, self._values = self._values, None
        if values is None:
            try:
                [values] = self._table.slice(self._number, 1).to_pylist()
            except NO_PYTHON_VALUE as error:
                raise UnreadableRow(self._problem(error)) from None
        return values

    @property
    def schema(self) -> Any:
        """The columns of its table, as a pyarrow schema."""
        return self._table.schema

    def __reduce__(self) -> tuple[type[PackedRow], tuple[bytes]]:
        """Pickled as its values alone: another process needs neither the table nor pyarrow."""
        import pickle  # noqa: PLC0415  only careful attempts pickle

        try:
            return PackedRow, (pickle.dumps(self.read()),)
        except UnreadableRow as error:
            return PackedRow, (pickle.dumps(error),)

    def _problem(self, error: Exception) -> str:
        row = f"row {self._first + self._number}"
        for field, column in zip(self._table.schema, self._table.columns, strict=True):
            try:
                column[self._number].as_py()
            except NO_PYTHON_VALUE as found:
                return f"{row}: column `{field.name}` has {unreadable_value(field.type, found)}"
        return f"{row} has {unreadable_value('unknown', error)}"


class PackedRow:
    """A row of a table in another process than the one that opened the table."""

    __slots__ = ("_packed",)

    def __init__(self, packed: bytes) -> None:
        """`packed`: the pickled values, or the `UnreadableRow` that reading them raised."""
        self._packed = packed

    def read(self) -> dict[str, Any]:
        """As `TableRow.read`."""
        import pickle  # noqa: PLC0415

        found: dict[str, Any] | UnreadableRow = pickle.loads(self._packed)  # noqa: S301  ours
        if isinstance(found, UnreadableRow):
            raise found
        return found


def unreadable_value(kind: Any, error: Exception) -> str:
    """In words: a value of a pyarrow type that cannot be read, why, and the remedy."""
    why = str(error).partition(". ")[0]  # what follows speaks of pandas
    remedy = "write it in UTF-8" if isinstance(error, UnicodeError) else "correct it, or write it as text"
    return f"a value of type {kind} that cannot be read ({why}); {remedy}"


Decoded = tuple[str, Any] | tuple[str, Any, Mapping[str, Any]]
"""A row's id and data, and what else it holds where that is not the data."""
Decode = Callable[[Any], Decoded]


class Source(Protocol):
    """A list of records in S3."""

    def ids(self) -> Iterator[RowIds]:
        """Ids of all rows in order, in lists."""

    def ids_with_content(self, hashes: AbstractSet[int]) -> Iterator[tuple[RowIds, dict[int, bytes]]]:
        """The same lists, with a digest of the content of each row, by its place in the list, whose id has one of some hashes."""

    def chunks(self, runs: Iterable[RowSpan]) -> Iterator[Chunk]:
        """The rows of ascending runs."""

    @property
    def decode(self) -> Decode:
        """A row's id and data. Each call returns them as they were written, even if a caller changed an earlier result.

        It can be pickled, as can the rows: a careful child decodes what the worker would.
        """


def runs_of(ordinals: Ranges, dropped: Ranges) -> Iterator[RowSpan]:
    """Where ordinals lie in the source, given the rows that Plan left out of the batch."""
    row = ordinal = 0
    kept: list[RowSpan] = []
    for start, stop in dropped.pairs():
        if start > row:
            kept.append(RowSpan(row, ordinal, start - row))
            ordinal += start - row
        row = stop
    last = max(0, ordinals.stop - ordinal)
    kept.append(RowSpan(row, ordinal, last))
    wanted = ordinals.pairs()
    pair = next(wanted, None)
    for run in kept:
        while pair and pair[0] < run.ordinal + run.length:
            start, stop = max(pair[0], run.ordinal), min(pair[1], run.ordinal + run.length)
            if start < stop:
                yield RowSpan(run.row + start - run.ordinal, start, stop - start)
            if pair[1] > run.ordinal + run.length:
                break
            pair = next(wanted, None)


class Cursor:
    """Walks ascending runs while the rows of a source pass by."""

    def __init__(self, runs: Iterable[RowSpan]) -> None:
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


@dataclass(frozen=True, slots=True)
class SourceRef:
    """A source in a plan: the pointer, the format that Plan found, and the version of the object that it read."""

    pointer: Pointer
    format: SourceFormat
    etag: str | None
    modified: str = ""
    """When the object was written, by S3's clock, as ISO 8601 in UTC; empty for what a stage has written."""
    max_row_bytes: int = MAX_ROW_BYTES
    """Of a row of text; a longer one is no record."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SourceRef:
        """Raises `ValueError` or `StageInputError` if a field is missing or wrong."""
        return cls(
            Pointer.from_event(required(value, "pointer", dict), "source"),
            member(value, "format", SourceFormat),
            nullable(value, "etag", str),
            required(value, "modified", str),
            required(value, "max_row_bytes", int),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "pointer": self.pointer.to_payload(),
            "format": self.format,
            "etag": self.etag,
            "modified": self.modified,
            "max_row_bytes": self.max_row_bytes,
        }

    def row_id(self, line: int) -> str:
        """What a row that is no record is called: the object, the line, and the object's version. Fits a record id."""
        tag = (self.etag or "").strip('"')[:ROW_VERSION_CHARS]
        return f"{self.origin}:{line}@{tag}" if tag else f"{self.origin}:{line}"

    def is_row_of_another_version(self, record_id: str) -> bool:
        """Whether an id is what a bad row of this object was called, in a version that is not this one."""
        place = record_id.removeprefix(f"{self.origin}:")
        line, _, _ = place.partition("@")
        return place != record_id and line.isdecimal() and record_id != self.row_id(int(line))

    @property
    def origin(self) -> str:
        """The object, whatever its version, in characters that a record id may have."""
        name = str(self.pointer)
        plain = name if name.isprintable() else name.encode("unicode_escape").decode("ascii")
        if len(plain.encode("utf-8", "surrogatepass")) <= MAX_ORIGIN_BYTES:
            return plain
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return f"s3://{self.pointer.bucket}/{digest}"
