"""A list of records as JSON Lines: plain, gzip or zstd."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from winnow.batch.rows import Chunk, Cursor, RowSpan, Unreadable
from winnow.core.contract import Pointer, record_data
from winnow.core.errors import StageInputError
from winnow.storage.jsonlines import loads
from winnow.storage.ledger import MAX_UNPACKED_BYTES, gunzip, split_lines
from winnow.storage.store import ObjectStore


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

    def chunks(self, runs: Iterable[RowSpan]) -> Iterator[Chunk]:
        cursor = Cursor(runs)
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
    except UnicodeDecodeError:  # some line is not UTF-8; the others are still read
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
    """Decompress by the first bytes. The name may be wrong."""
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
