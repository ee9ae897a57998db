"""Reads the files of a version, row by row, in order of id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from winnow.publish.documents import DataFile, Format, Manifest
from winnow.storage.jsonlines import loads
from winnow.storage.ledger import split_lines
from winnow.storage.zst import unpacked

if TYPE_CHECKING:
    from winnow.publish.published_set import PublishedSet

DIGEST_BYTES = 16
"""As the ledger's digests."""
BATCH_BYTES = 8 * 1024 * 1024
MOST_BATCH_ROWS = 5_000
PIECE_BYTES = 1024 * 1024


class VersionRow(NamedTuple):
    """A row of a version."""

    id: str
    values: dict[str, Any]
    """Without the id."""
    size: int
    """Bytes, about."""


def digest_of_file(path: Path) -> str:
    """By which a file is known again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


def rows_of(published: PublishedSet, manifest: Manifest, scratch: Path) -> Iterator[VersionRow]:
    """All rows of a version.

    Args:
        published: that the version is of.
        manifest: of the version.
        scratch: a folder for one file at a time.

    Raises:
        LedgerObjectMissing: a file is missing, because the version was pruned.
        DamagedDocument: a file is not the one that was written.
    """
    for file in manifest.files:
        with published.naming(file.key):
            path = _fetched(published, file, scratch)
            try:
                yield from _parquet(path) if manifest.format is Format.PARQUET else _ndjson(path)
            finally:
                path.unlink(missing_ok=True)


def lines_of(published: PublishedSet, files: Iterable[DataFile], scratch: Path) -> Iterator[Any]:
    """All lines of packed ndjson files. Raises as `rows_of`."""
    for file in files:
        with published.naming(file.key):
            path = _fetched(published, file, scratch)
            try:
                for line in _lines(path):
                    yield loads(line.decode())
            finally:
                path.unlink(missing_ok=True)


def parquet_schema(published: PublishedSet, manifest: Manifest, scratch: Path) -> Any:
    """The pyarrow schema of a Parquet version. Raises as `rows_of`."""
    import pyarrow.parquet as pq  # noqa: PLC0415  ndjson needs no pyarrow

    file = manifest.files[0]
    with published.naming(file.key):
        path = _fetched(published, file, scratch)
        try:
            return pq.read_schema(path)
        finally:
            path.unlink(missing_ok=True)


def _fetched(published: PublishedSet, file: DataFile, scratch: Path) -> Path:
    path = scratch / f"fetched-{file.key.replace('/', '-')}"
    with path.open("wb") as target:
        for piece in published.store.stream(file.key):
            target.write(piece)
    if digest_of_file(path) != file.digest:
        path.unlink(missing_ok=True)
        raise ValueError("its body is not the one that was written")
    return path


def _parquet(path: Path) -> Iterator[VersionRow]:
    import pyarrow.parquet as pq  # noqa: PLC0415

    with pq.ParquetFile(path) as file:
        meta = file.metadata
        unpacked_bytes = sum(meta.row_group(n).total_byte_size for n in range(meta.num_row_groups))
        batch_rows = max(1, min(MOST_BATCH_ROWS, BATCH_BYTES * meta.num_rows // max(1, unpacked_bytes) or 1))
        for batch in file.iter_batches(batch_size=batch_rows):
            size = batch.nbytes // max(1, batch.num_rows)
            for row in batch.to_pylist():
                yield VersionRow(row.pop("id"), row, size)


def _ndjson(path: Path) -> Iterator[VersionRow]:
    for line in _lines(path):
        row = loads(line.decode())
        yield VersionRow(row.pop("id"), row, len(line))


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for lines in split_lines(unpacked(iter(lambda: file.read(PIECE_BYTES), b""))):
            yield from lines
