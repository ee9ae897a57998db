"""A bucket in a folder: what S3 holds, without S3's time in what is measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from winnow.core.errors import LedgerConflict, LedgerObjectMissing, PublishConflict, SourceChanged
from winnow.storage.ranged import STREAM_PIECE_BYTES
from winnow.storage.store import HEAD_BYTES, Head, StoredObject


class DiskStore:
    """An `ObjectStore` whose objects are files."""

    def __init__(self, folder: Path, bucket: str = "disk") -> None:
        self.bucket = bucket
        self._folder = folder

    def _path(self, key: str, bucket: str | None = None) -> Path:
        return self._folder / (bucket or self.bucket) / key

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("xb" if if_absent else "wb") as file:
                file.write(body)
        except FileExistsError:
            raise LedgerConflict(f"{path} exists already") from None

    def swap(self, key: str, body: bytes, *, if_match: str | None) -> None:
        """As `PublishedStore.swap`, for one process."""
        path = self._path(key)
        if (_tag(path) if path.is_file() else None) != if_match:
            raise PublishConflict(f"{path} was written by another")
        self.put(key, body)

    def delete(self, key: str) -> None:
        """As `PublishedStore.delete`."""
        self._path(key).unlink(missing_ok=True)

    def put_stream(self, key: str, pieces: Iterable[bytes]) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.writelines(pieces)

    def get(self, key: str, *, bucket: str | None = None, if_match: str | None = None) -> StoredObject:
        path = self._existing(key, bucket, if_match)
        return StoredObject(body=path.read_bytes(), etag=_tag(path))

    def stream(self, key: str, *, bucket: str | None = None, if_match: str | None = None) -> Iterator[bytes]:
        with self._existing(key, bucket, if_match).open("rb") as file:
            while piece := file.read(STREAM_PIECE_BYTES):
                yield piece

    def head(self, key: str, *, bucket: str | None = None) -> Head:
        path = self._existing(key, bucket, None)
        with path.open("rb") as file:
            return Head(start=file.read(HEAD_BYTES), etag=_tag(path), modified="")

    def keys(self, prefix: str) -> Iterator[str]:
        root = self._path("")
        found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        yield from sorted(key for key in found if key.startswith(prefix))

    def _existing(self, key: str, bucket: str | None, if_match: str | None) -> Path:
        path = self._path(key, bucket)
        if not path.is_file():
            raise LedgerObjectMissing(f"{path} does not exist")
        if if_match and _tag(path) != if_match:
            raise SourceChanged(f"{path} changed after the batch was fixed from it")
        return path


def _tag(path: Path) -> str:
    status = path.stat()
    return hashlib.blake2b(f"{status.st_mtime_ns} {status.st_size}".encode(), digest_size=8).hexdigest()
