"""A list of records as Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any

from winnow.batch.rows import (
    LINES_PER_CHUNK,
    Chunk,
    Cursor,
    RowIds,
    RowSpan,
    TableRow,
    Unreadable,
    content_digest,
)
from winnow.core.contract import Pointer
from winnow.core.errors import StageInputError
from winnow.storage.formats import is_text, open_parquet, parquet_batches
from winnow.storage.store import ObjectStore


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

    def ids(self) -> Iterator[RowIds]:
        row = 0
        for table in self._batches(batch_size=100_000, columns=[self._id_column]):
            values = table.column(0).to_pylist()
            found: RowIds = [
                Unreadable(row + i + 1, f'has no "{self._id_column}"; give every row one')
                if value is None
                else value
                for i, value in enumerate(values)
            ]
            row += len(values)
            yield found

    def ids_with_content(self, hashes: AbstractSet[int]) -> Iterator[tuple[RowIds, dict[int, bytes]]]:
        tables = self._batches(batch_size=100_000)
        for ids, table in zip(self.ids(), tables, strict=True):
            contents = {}
            for number, record_id in enumerate(ids):
                if isinstance(record_id, str) and hash(record_id) in hashes:
                    [row] = TableRow.all_of(table.slice(number, 1))
                    contents[number] = content_digest(row.read())
            yield ids, contents

    def chunks(self, runs: Iterable[RowSpan]) -> Iterator[Chunk]:
        cursor = Cursor(runs)
        row = 0
        for table in self._batches(batch_size=LINES_PER_CHUNK):
            for offset, length, ordinal in cursor.take(row, table.num_rows):
                rows = TableRow.all_of(table.slice(offset, length))
                yield Chunk(ordinal, rows, self._pointer.bucket, self._pointer.key, row + offset + 1)
            if cursor.done:
                return
            row += table.num_rows

    def decode(self, row: Any) -> tuple[str, Any]:
        values = row.read()
        return values[self._id_column], values
