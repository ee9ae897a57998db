"""Writes the files of a version, of a size that readers like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from winnow.core.errors import UnpublishableRows
from winnow.publish.documents import DataFile, Format
from winnow.publish.reading import PIECE_BYTES, digest_of_file
from winnow.storage.jsonlines import dumps
from winnow.storage.zst import compressor

if TYPE_CHECKING:
    from winnow.core.keys import VersionKeys
    from winnow.storage.published_store import PublishedStore

PART_ROWS = 250_000
PART_BYTES = 128 * 1024 * 1024
"""Of a file, packed; about, as a file ends with a group."""
GROUP_ROWS = 20_000
GROUP_BYTES = 32 * 1024 * 1024
"""Of rows in memory before they are packed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLimits:
    """How large the files of a version become."""

    part_rows: int = PART_ROWS
    part_bytes: int = PART_BYTES
    group_rows: int = GROUP_ROWS
    group_bytes: int = GROUP_BYTES


class _Part(Protocol):
    """A file of rows that is being written."""

    bytes: int
    """Written so far."""

    def write(self, ids: list[str], rows: list[dict[str, Any]]) -> None: ...

    def close(self) -> None: ...


class _NdjsonPart:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._packer = compressor()
        self.bytes = 0

    def write(self, ids: list[str], rows: list[dict[str, Any]]) -> None:
        self.write_lines([{"id": each, **row} for each, row in zip(ids, rows, strict=True)])

    def write_lines(self, documents: list[Any]) -> None:
        lines = "".join(f"{_line(document)}\n" for document in documents)
        self.bytes += self._file.write(self._packer.compress(lines.encode()))

    def close(self) -> None:
        self._file.write(self._packer.flush())
        self._file.close()


class _ParquetPart:
    def __init__(self, path: Path, schema: Any) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415  ndjson needs no pyarrow

        self._schema = schema
        self._file = path.open("wb")
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")
        self.bytes = 0

    def write(self, ids: list[str], rows: list[dict[str, Any]]) -> None:
        from winnow.publish.columns import table_of  # noqa: PLC0415

        self._writer.write_table(table_of(self._schema, ids, rows))
        self.bytes = self._file.tell()

    def close(self) -> None:
        self._writer.close()
        self._file.close()


class VersionWriter:
    """Writes rows, which come in order of id, into the parts of one version. Written again, they are the same bytes."""

    def __init__(
        self,
        store: PublishedStore,
        keys: VersionKeys,
        *,
        form: Format,
        schema: Any,
        scratch: Path,
        limits: PartLimits,
    ) -> None:
        """`schema`: pyarrow's, for Parquet. `scratch`: a folder for the part that is being written."""
        self._store = store
        self._keys = keys
        self._form = form
        self._schema = schema
        self._scratch = scratch
        self._limits = limits
        self._ids: list[str] = []
        self._rows: list[dict[str, Any]] = []
        self._group_bytes = 0
        self._part_rows = 0
        self._origin_lines: list[dict[str, Any]] = []
        self._origin_count = 0
        self._begin()
        self.files: list[DataFile] = []
        self.origins: list[DataFile] = []

    def add(self, identifier: str, row: dict[str, Any], origin: dict[str, Any], size: int) -> None:
        """Add a row. Raises `UnpublishableRows`: it does not fit the schema."""
        if self._part_rows >= self._limits.part_rows or self._part.bytes >= self._limits.part_bytes:
            self._end()
            self._begin()
        self._ids.append(identifier)
        self._rows.append(row)
        self._origin_lines.append(origin)
        self._part_rows += 1
        self._group_bytes += size
        if len(self._ids) >= self._limits.group_rows or self._group_bytes >= self._limits.group_bytes:
            self._write_group()

    def add_deletion(self, origin: dict[str, Any]) -> None:
        """Remember a deletion, so that an older run does not bring the row back."""
        self._origin_lines.append(origin)
        if len(self._origin_lines) >= 2 * self._limits.group_rows:
            self._write_group()

    def discard(self) -> None:
        """Close what is open, because an error came."""
        with suppress(Exception):
            self._part.close()
        with suppress(Exception):
            self._origins.close()

    def close(self) -> None:
        """Write the rest. There is always one file at least, so that readers find the columns of an empty version."""
        self._end()

    def _begin(self) -> None:
        self._part_path = self._scratch / "part"
        self._origins_path = self._scratch / "origins"
        self._part: _Part = (
            _ParquetPart(self._part_path, self._schema)
            if self._form is Format.PARQUET
            else _NdjsonPart(self._part_path)
        )
        self._origins = _NdjsonPart(self._origins_path)
        self._part_rows = self._origin_count = 0

    def _write_group(self) -> None:
        if self._ids:
            self._part.write(self._ids, self._rows)
        if self._origin_lines:
            self._origins.write_lines(self._origin_lines)
        self._origin_count += len(self._origin_lines)
        self._ids, self._rows, self._origin_lines, self._group_bytes = [], [], [], 0

    def _end(self) -> None:
        self._write_group()
        self._part.close()
        self._origins.close()
        number = len(self.files)
        self.files.append(
            self._upload(self._keys.part(number, self._form.suffix), self._part_path, self._part_rows)
        )
        self.origins.append(self._upload(self._keys.origins(number), self._origins_path, self._origin_count))

    def _upload(self, key: str, path: Path, rows: int) -> DataFile:
        self._store.put_stream(key, _pieces(path))
        made = DataFile(key=key, rows=rows, bytes=path.stat().st_size, digest=digest_of_file(path))
        path.unlink()
        return made


def _line(document: dict[str, Any]) -> str:
    try:
        return dumps(document)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnpublishableRows(
            f"row: it is not JSON; return it as text, or set format='parquet', got: {error} (id {document['id']!r})"
        ) from error


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(PIECE_BYTES), b"")
