"""Finds out what a pointer points at, and opens its rows."""

from __future__ import annotations

from winnow.batch.ndjson import NdjsonSource
from winnow.batch.parquet import ParquetSource
from winnow.batch.rows import Source, SourceRef
from winnow.batch.selection import SelectionSource, read_selection
from winnow.batch.successes import SuccessesSource, read_manifest
from winnow.core.contract import MAX_ROW_MB, Pointer, SourceFormat
from winnow.core.errors import LedgerObjectMissing, ObjectForbidden, StageInputError
from winnow.journal.successes import SuccessManifest
from winnow.storage.store import ObjectStore


def detect(store: ObjectStore, pointer: Pointer, *, max_row_mb: int = MAX_ROW_MB) -> SourceRef:
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
        if head.start.startswith((b"PAR1", b"PARE")):
            found = SourceFormat.PARQUET
        elif head.start.startswith(SuccessManifest.MAGIC):
            found = SourceFormat.SUCCESSES
        elif head.start.startswith(b'{"winnow":"selection/'):
            found = SourceFormat.SELECTION
        else:
            found = SourceFormat.NDJSON
    if found is SourceFormat.SUCCESSES:
        return SourceRef(pointer, found, None)
    return SourceRef(pointer, found, head.etag, head.modified, max_row_mb * 1024 * 1024)


def open_source(store: ObjectStore, ref: SourceRef) -> Source:
    """The rows of a source. A source that changed after Plan read it is refused, because its rows would not fit the batch."""
    match ref.format:
        case SourceFormat.SUCCESSES:
            return SuccessesSource(store, read_manifest(store, ref.pointer))
        case SourceFormat.SELECTION:
            selection = read_selection(store, ref.pointer, ref.etag)
            return SelectionSource(store, selection, open_source)
        case SourceFormat.PARQUET:
            return ParquetSource(store, ref.pointer, ref.etag)
    return NdjsonSource(store, ref.pointer, ref.etag, max_row_bytes=ref.max_row_bytes)
