"""Object storage as Winnow needs it: whole objects, write-once where it matters, listed by prefix."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from botocore.exceptions import ClientError, ParamValidationError

from winnow.core.contract import iso
from winnow.core.errors import LedgerConflict, LedgerObjectMissing, ObjectForbidden, SourceChanged
from winnow.storage.ranged import RangedReading
from winnow.storage.tries import Tries, read_body


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object's body and the tag that changes when it does."""

    body: bytes
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """An object's first bytes and its tag: enough to tell what it is."""

    start: bytes
    etag: str
    modified: str
    """When it was written, by S3's clock, as ISO 8601 in UTC; empty if that is not known."""


HEAD_BYTES = 64


class ObjectStore(Protocol):
    """One bucket."""

    bucket: str

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        """Write an object.

        Raises:
            LedgerConflict: `if_absent`, and there is one already. It may be this very one: where the answer to a write
                is lost, the client writes again. So the caller has to look whose it is.
        """

    def put_stream(self, key: str, pieces: Iterable[bytes]) -> None:
        """Write an object of any size, one part in memory at a time; it appears whole or not at all."""

    def get(self, key: str, *, bucket: str | None = None, if_match: str | None = None) -> StoredObject:
        """Read an object of this bucket, or of another.

        Raises:
            LedgerObjectMissing: there is none.
            SourceChanged: `if_match` is not its tag any more.
        """

    def stream(self, key: str, *, bucket: str | None = None, if_match: str | None = None) -> Iterator[bytes]:
        """Read an object in pieces, however slowly they are taken.

        Raises:
            LedgerObjectMissing: there is none, or not any more.
            SourceChanged: `if_match` is not its tag, or it was written again while it was read.
        """

    def head(self, key: str, *, bucket: str | None = None) -> Head:
        """Look at an object's beginning. Raises `LedgerObjectMissing` or `ObjectForbidden`."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys under a prefix, in ascending order."""


PART_BYTES = 8 * 1024 * 1024
"""Of a multipart upload; S3 wants at least 5 MiB, and 10,000 of these hold 80 GB."""


class S3Store:
    """A bucket in S3."""

    def __init__(self, bucket: str, s3: Any, *, sleep: Callable[[float], object] = time.sleep) -> None:
        """`sleep`: takes the seconds between two tries."""
        self.bucket = bucket
        self._s3 = s3
        self._sleep = sleep

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        tries = Tries(self._sleep)
        while True:
            try:
                self._s3.put_object(Bucket=self.bucket, Key=key, Body=body, **condition)
            except ClientError as error:
                if if_absent and status_of(error) == 412:
                    raise LedgerConflict(f"s3://{self.bucket}/{key} exists already") from error
                # 409: another conditional write of this key was under way. Whether it succeeded is not known.
                if not if_absent or status_of(error) != 409 or not tries.again():
                    raise
            else:
                return

    def put_stream(self, key: str, pieces: Iterable[bytes]) -> None:
        parts = _parts(pieces)
        first, second = next(parts, b""), next(parts, None)
        if second is None:
            self.put(key, first)
            return
        where = {"Bucket": self.bucket, "Key": key}
        where["UploadId"] = self._s3.create_multipart_upload(**where)["UploadId"]
        try:
            done = []
            for number, part in enumerate(chain((first, second), parts), start=1):
                answer = self._s3.upload_part(**where, PartNumber=number, Body=part)
                done.append({"PartNumber": number, "ETag": answer["ETag"]})
            self._s3.complete_multipart_upload(**where, MultipartUpload={"Parts": done})
        except BaseException:
            # The parts expire by the bucket's lifecycle; the first error is the one to see.
            with suppress(Exception):
                self._s3.abort_multipart_upload(**where)
            raise

    def get(self, key: str, *, bucket: str | None = None, if_match: str | None = None) -> StoredObject:
        answer, body = read_body(lambda: self._open(key, bucket, if_match), sleep=self._sleep)
        return StoredObject(body=body, etag=answer["ETag"])

    def stream(self, key: str, *, bucket: str | None = None, if_match: str | None = None) -> Iterator[bytes]:
        def ask(first: int, last: int, tag: str | None) -> Any:
            return self._open(key, bucket, tag, planned=if_match is not None, Range=f"bytes={first}-{last}")

        reading = RangedReading(ask, tag=if_match, sleep=self._sleep)
        try:
            yield from reading.pieces()
        except ClientError as error:
            if status_of(error) != 416 or reading.at:
                raise
            # It has no first byte: it is empty, if nobody has written it again meanwhile.
            if body := self.get(key, bucket=bucket, if_match=if_match).body:
                yield body

    def head(self, key: str, *, bucket: str | None = None) -> Head:
        def ask() -> Any:
            return self._s3.get_object(
                Bucket=bucket or self.bucket, Key=key, Range=f"bytes=0-{HEAD_BYTES - 1}"
            )

        try:
            answer, body = read_body(ask, sleep=self._sleep)
        except ParamValidationError as error:  # no bucket can have that name
            raise LedgerObjectMissing(f"s3://{bucket or self.bucket}/{key} does not exist") from error
        except ClientError as error:
            if status_of(error) in (400, 404):  # 400: a name that S3 refuses, so there is nothing by it
                raise LedgerObjectMissing(f"s3://{bucket or self.bucket}/{key} does not exist") from error
            if status_of(error) == 416:  # an empty object has no first byte
                answer = self._s3.head_object(Bucket=bucket or self.bucket, Key=key)
                return Head(start=b"", etag=answer["ETag"], modified=iso(answer["LastModified"]))
            if status_of(error) == 403:
                raise ObjectForbidden(f"s3://{bucket or self.bucket}/{key}: {error}") from error
            raise
        return Head(start=body, etag=answer["ETag"], modified=iso(answer["LastModified"]))

    def keys(self, prefix: str) -> Iterator[str]:
        token: dict[str, str] = {}
        while True:
            page = self._s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix, **token)
            for item in page.get("Contents", ()):
                yield item["Key"]
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _open(
        self, key: str, bucket: str | None, if_match: str | None, *, planned: bool = True, **range_: str
    ) -> Any:
        """Request an object; `planned` tells whether the caller knew the tag, or only the first range had it."""
        condition = {"IfMatch": if_match} if if_match else {}
        bucket = bucket or self.bucket
        try:
            return self._s3.get_object(Bucket=bucket, Key=key, **condition, **range_)
        except ClientError as error:
            if status_of(error) == 404:
                raise LedgerObjectMissing(f"s3://{bucket}/{key} does not exist") from error
            if status_of(error) == 412:
                since = "after the batch was fixed from it" if planned else "while it was read"
                raise SourceChanged(f"s3://{bucket}/{key} changed {since}") from error
            raise


def status_of(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _parts(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces of any size as parts of the size S3 wants."""
    part = bytearray()
    for piece in pieces:
        part += piece
        if len(part) >= PART_BYTES:
            yield bytes(part)
            part.clear()
    if part:
        yield bytes(part)
