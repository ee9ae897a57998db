"""The bucket of what is published: as the ledger's, and with one object that moves by compare-and-swap."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from botocore.exceptions import ClientError

from winnow.core.errors import LedgerObjectMissing, PublishConflict
from winnow.storage.store import ObjectStore, S3Store, status_of
from winnow.storage.tries import Tries


class PublishedStore(ObjectStore, Protocol):
    """One bucket whose objects can be replaced under a condition, and deleted."""

    def swap(self, key: str, body: bytes, *, if_match: str | None) -> None:
        """Write an object if it still is the one that was read.

        Where the answer to a write is lost and the write is made again, S3 refuses the second. So what is there is compared:
        an equal body is this very write. Bodies of two writers must therefore differ.

        Args:
            key: of the object.
            body: of the object; no other writer's is equal.
            if_match: the tag of the object that it replaces; None if there must be none.

        Raises:
            PublishConflict: it is another object now.
        """

    def delete(self, key: str) -> None:
        """Delete an object; harmless where there is none."""


class S3PublishedStore(S3Store):
    """A bucket in S3. Conditions only on PutObject: on CopyObject, emulators ignore them."""

    def swap(self, key: str, body: bytes, *, if_match: str | None) -> None:
        condition = {"IfNoneMatch": "*"} if if_match is None else {"IfMatch": if_match}
        tries = Tries(self._sleep)
        while True:
            try:
                self._s3.put_object(Bucket=self.bucket, Key=key, Body=body, **condition)
            except ClientError as error:
                # 404: the object that was to be replaced is gone. 409: another conditional write was under way.
                if status_of(error) in (404, 412):
                    with suppress(LedgerObjectMissing):
                        if self.get(key).body == body:
                            return
                    raise PublishConflict(f"s3://{self.bucket}/{key} was written by another") from error
                if status_of(error) != 409 or not tries.again():
                    raise
            else:
                return

    def delete(self, key: str) -> None:
        self._s3.delete_object(Bucket=self.bucket, Key=key)


def published_store(bucket: str) -> S3PublishedStore:
    """The bucket of what is published, in S3."""
    from winnow.storage.clients import client  # noqa: PLC0415  botocore is slow to import, and a double in a test needs none

    return S3PublishedStore(bucket, client("s3"))
