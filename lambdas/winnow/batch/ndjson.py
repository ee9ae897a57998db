"""A list of records as text: JSON Lines or a JSON array; plain, gzip or zstd."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from winnow.batch.lines import Row, TooLong, read_rows
from winnow.batch.rows import (
    MAX_ROW_BYTES,
    Chunk,
    Cursor,
    Decoded,
    RowIds,
    RowSpan,
    Unreadable,
    content_digest,
)
from winnow.core.contract import Pointer, record_data, record_fields
from winnow.storage.jsonlines import loads
from winnow.storage.store import ObjectStore


class NdjsonSource:
    """One JSON document per row: an id, or an object with one."""

    def __init__(
        self,
        store: ObjectStore,
        pointer: Pointer,
        etag: str | None = None,
        *,
        max_row_bytes: int = MAX_ROW_BYTES,
    ) -> None:
        """`max_row_bytes`: a longer row is no record."""
        self._store = store
        self._pointer = pointer
        self._etag = etag
        self._max_row_bytes = max_row_bytes
        self._id_field = pointer.id_column or "id"
        self.decode = NdjsonDecoder(self._id_field).decode

    def _rows(self) -> Iterator[list[Row]]:
        pieces = self._store.stream(self._pointer.key, bucket=self._pointer.bucket, if_match=self._etag)
        return read_rows(pieces, self._pointer, max_row_bytes=self._max_row_bytes)

    def ids(self) -> Iterator[RowIds]:
        return (ids for ids, _ in self.ids_with_content(frozenset()))

    def ids_with_content(self, hashes: AbstractSet[int]) -> Iterator[tuple[RowIds, dict[int, bytes]]]:
        line = 0
        for rows in self._rows():
            found: RowIds = []
            contents: dict[int, bytes] = {}
            for text in rows:
                line += 1
                if not text or text.isspace():
                    found.append(None)
                    continue
                try:
                    self._check_length(text)
                    document = loads(_utf8(text))
                    record_id = self._id(document)
                except (ValueError, RecursionError) as error:
                    found.append(Unreadable(line, _problem(error)))
                    continue
                except _NoId as error:
                    found.append(Unreadable(line, str(error)))
                    continue
                if hashes and isinstance(record_id, str) and hash(record_id) in hashes:
                    contents[len(found)] = content_digest(document, _utf8(text))
                found.append(record_id)
            yield found, contents

    def _check_length(self, row: Row) -> None:
        if isinstance(row, TooLong):
            raise _NoId(
                f"is longer than {self._max_row_bytes:,} bytes; put large data into an object of its own, "
                "or raise max_row_mb"
            )

    def _id(self, row: Any) -> Any:
        if isinstance(row, str):
            return row
        if isinstance(row, dict) and row.get(self._id_field) is not None:
            return row[self._id_field]
        raise _NoId(
            f'has no "{self._id_field}"; give every record one, or name the field that holds it (id_column)'
        )

    def chunks(self, runs: Iterable[RowSpan]) -> Iterator[Chunk]:
        cursor = Cursor(runs)
        row = 0
        for lines in self._rows():
            for offset, length, ordinal in cursor.take(row, len(lines)):
                part = lines if length == len(lines) else lines[offset : offset + length]
                yield Chunk(ordinal, part, self._pointer.bucket, self._pointer.key, row + offset + 1)
            if cursor.done:
                return
            row += len(lines)


@dataclass(frozen=True, slots=True)
class NdjsonDecoder:
    """Decodes the lines of a list."""

    id_field: str

    def decode(self, row: Any) -> Decoded:
        document = loads(row)
        if isinstance(document, str):
            return document, None
        if "data" in document and len(document) > 2:
            return document[self.id_field], document["data"], record_fields(document, self.id_field)
        return document[self.id_field], record_data(document)


def _problem(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 ({error.reason} at byte {error.start + 1}); save the list as UTF-8"
    why = (
        f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
    )
    return f"is not JSON ({why}); write one JSON document per line"


def _utf8(row: Row) -> str:
    return row if isinstance(row, str) else row.decode()


class _NoId(Exception):
    """The row holds no id."""
