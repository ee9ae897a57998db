"""A list of records as Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from winnow.batch.rows import (
    LINES_PER_CHUNK,
    NO_PYTHON_VALUE,
    Chunk,
    Cursor,
    RowIds,
    RowSpan,
    TableRow,
    Unreadable,
    UnreadableRow,
    content_digest,
    unreadable_value,
)
from winnow.core.contract import Pointer
from winnow.core.errors import StageInputError
from winnow.storage.formats import is_text, open_parquet, parquet_batches, schema_problem
from winnow.storage.store import ObjectStore

IDS_PER_PIECE = 100_000


class ParquetSource:
    """A Parquet file with an id column."""

    def __init__(self, store: ObjectStore, pointer: Pointer, etag: str | None = None) -> None:
        self._pointer = pointer
        self._id_column = pointer.id_column or "id"
        self.decode = ParquetDecoder(self._id_column).decode
        self._store = store
        self._etag = etag

    def _file(self) -> Any:
        body = self._store.get(self._pointer.key, bucket=self._pointer.bucket, if_match=self._etag).body
        file = open_parquet(body, str(self._pointer))
        schema = file.schema_arrow
        if problem := schema_problem(schema):
            raise StageInputError("records", str(self._pointer), problem)
        if self._id_column not in schema.names:
            problem = f"is no column of {self._pointer} (it has {', '.join(schema.names[:20])})"
        elif not is_text(kind := schema.field(self._id_column).type):
            problem = f"is a column of {kind} in {self._pointer}; ids are text"
        if problem:
            raise StageInputError("records.id_column", self._id_column, problem)
        return file

    def _batches(self, file: Any, **options: Any) -> Iterator[Any]:
        return parquet_batches(file, str(self._pointer), **options)

    def ids(self) -> Iterator[RowIds]:
        file = self._file()
        # A column that is encrypted or damaged is refused before a worker meets it.
        next(self._batches(file, batch_size=1), None)
        row = 0
        for table in self._batches(file, batch_size=IDS_PER_PIECE, columns=[self._id_column]):
            yield self._ids(table, row)
            row += table.num_rows

    def ids_with_content(self, hashes: AbstractSet[int]) -> Iterator[tuple[RowIds, dict[int, bytes]]]:
        row = 0
        for table in self._batches(self._file(), batch_size=IDS_PER_PIECE):
            ids = self._ids(table.select([self._id_column]), row)
            repeated = (n for n, i in enumerate(ids) if isinstance(i, str) and hash(i) in hashes)
            yield ids, {number: _content(table, number, row) for number in repeated}
            row += table.num_rows

    def _ids(self, table: Any, row: int) -> RowIds:
        values = _values(table.column(0), row + 1)
        return [
            Unreadable(row + i + 1, f'has no "{self._id_column}"; give every row one')
            if value is None
            else value
            for i, value in enumerate(values)
        ]

    def chunks(self, runs: Iterable[RowSpan]) -> Iterator[Chunk]:
        cursor = Cursor(runs)
        row = 0
        for table in self._batches(self._file(), batch_size=LINES_PER_CHUNK):
            for offset, length, ordinal in cursor.take(row, table.num_rows):
                rows = TableRow.all_of(table.slice(offset, length), row + offset + 1)
                yield Chunk(ordinal, rows, self._pointer.bucket, self._pointer.key, row + offset + 1)
            if cursor.done:
                return
            row += table.num_rows


@dataclass(frozen=True, slots=True)
class ParquetDecoder:
    """Decodes the rows of a file with an id column."""

    id_column: str

    def decode(self, row: Any) -> tuple[str, Any]:
        values = row.read()
        return values[self.id_column], values


def _content(table: Any, number: int, row: int) -> bytes:
    """A digest of a row; of a row that cannot be read, one that no other row has."""
    [found] = TableRow.all_of(table.slice(number, 1), row + number + 1)
    try:
        return content_digest(found.read())
    except UnreadableRow as error:
        return content_digest(str(error))


def _values(ids: Any, first: int) -> list[str | Unreadable | None]:
    """The values of a column of ids that begins with a row, 1-based."""
    try:
        values: list[str | Unreadable | None] = ids.to_pylist()
    except NO_PYTHON_VALUE:
        values = [_value(value, row) for row, value in enumerate(ids, first)]
    return values


def _value(value: Any, row: int) -> str | Unreadable | None:
    try:
        found: str | None = value.as_py()
    except NO_PYTHON_VALUE as error:
        return Unreadable(row, f"has, as its id, {unreadable_value(value.type, error)}")
    return found
