"""What is published, for whoever consumes it in Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from winnow.core.errors import PublishRefused
from winnow.publish.published_set import PublishedSet
from winnow.publish.reading import rows_of
from winnow.storage.published_store import published_store

if TYPE_CHECKING:
    from winnow.storage.published_store import PublishedStore


def read(name: str, *, bucket: str | PublishedStore, version: int | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a publication, in order of id, each with its `id`.

    The version is chosen when this is called. What is published while the rows are taken changes none of them.

    Args:
        name: of the publication.
        bucket: the stack's output `PublishedBucket`.
        version: other than the current one.

    Raises:
        PublishRefused: nothing is published under this name, or there is no such version.
        LedgerObjectMissing: the version was pruned while it was read.
        DamagedDocument: an object is not what was written.
    """
    store = published_store(bucket) if isinstance(bucket, str) else bucket
    published = PublishedSet(store, name)
    if version is None:
        current, _ = published.current()
        if current is None:
            raise PublishRefused(
                f"name: nothing is published under it in {store.bucket}; see whether a run of its pipeline has ended, got: {name!r}"
            )
        version = current.version
    manifest = published.need_manifest(version)

    def rows() -> Iterator[dict[str, Any]]:
        with TemporaryDirectory(prefix="winnow-read-") as scratch:
            for row in rows_of(published, manifest, Path(scratch)):
                yield {"id": row.id, **row.values}

    return rows()
