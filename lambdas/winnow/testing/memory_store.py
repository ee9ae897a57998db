"""A bucket in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from winnow.core.errors import LedgerConflict, LedgerObjectMissing, PublishConflict, SourceChanged
from winnow.storage.ranged import STREAM_PIECE_BYTES
from winnow.storage.store import HEAD_BYTES, Head, StoredObject


class MemoryStore:
    """A bucket in memory, for tests: the same promises, no network."""

    def __init__(self, bucket: str = "memory") -> None:
        self.bucket = bucket
        self.objects: dict[tuple[str, str], bytes] = {}
        self.modified: dict[tuple[str, str], str] = {}
        """When an object was written, where a test wants it to have a version."""
        self._lock = threading.Lock()

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        with self._lock:
            if if_absent and (self.bucket, key) in self.objects:
                raise LedgerConflict(f"s3://{self.bucket}/{key} exists already")
            self.objects[self.bucket, key] = body

    def swap(self, key: str, body: bytes, *, if_match: str | None) -> None:
        """As `PublishedStore.swap`."""
        with self._lock:
            there = self.objects.get((self.bucket, key))
            if (None if there is None else _tag(there)) != if_match:
                raise PublishConflict(f"s3://{self.bucket}/{key} was written by another")
            self.objects[self.bucket, key] = body

    def delete(self, key: str) -> None:
        """As `PublishedStore.delete`."""
        self.objects.pop((self.bucket, key), None)

    def put_stream(self, key: str, pieces: Iterable[bytes]) -> None:
        self.put(key, b"".join(pieces))

    def get(self, key: str, *, bucket: str | None = None, if_match: str | None = None) -> StoredObject:
        try:
            body = self.objects[bucket or self.bucket, key]
        except KeyError:
            raise LedgerObjectMissing(f"s3://{bucket or self.bucket}/{key} does not exist") from None
        etag = _tag(body)
        if if_match and if_match != etag:
            raise SourceChanged(
                f"s3://{bucket or self.bucket}/{key} changed after the batch was fixed from it"
            )
        return StoredObject(body=body, etag=etag)

    def stream(self, key: str, *, bucket: str | None = None, if_match: str | None = None) -> Iterator[bytes]:
        body = self.get(key, bucket=bucket, if_match=if_match).body
        for start in range(0, len(body), STREAM_PIECE_BYTES):
            yield body[start : start + STREAM_PIECE_BYTES]

    def head(self, key: str, *, bucket: str | None = None) -> Head:
        found = self.get(key, bucket=bucket)
        modified = self.modified.get((bucket or self.bucket, key), "")
        return Head(start=found.body[:HEAD_BYTES], etag=found.etag, modified=modified)

    def keys(self, prefix: str) -> Iterator[str]:
        with self._lock:
            found = sorted(
                key for bucket, key in self.objects if bucket == self.bucket and key.startswith(prefix)
            )
        yield from found


def _tag(body: bytes) -> str:
    return f'"{hash(body)}"'
