"""Object storage as Winnow needs it: whole objects, write-once where it matters, listed by prefix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from botocore.exceptions import ClientError, ParamValidationError

from winnow.core.contract import iso
from winnow.core.errors import LedgerConflict, LedgerObjectMissing, ObjectForbidden, SourceChanged


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
            LedgerConflict: `if_absent`, and there is one already.
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
        """Read an object in pieces; errors as `get`, raised at the first piece."""

    def head(self, key: str, *, bucket: str | None = None) -> Head:
        """Look at an object's beginning. Raises `LedgerObjectMissing` or `ObjectForbidden`."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys under a prefix, in ascending order."""


STREAM_PIECE_BYTES = 1024 * 1024
PART_BYTES = 8 * 1024 * 1024
"""Of a multipart upload; S3 wants at least 5 MiB, and 10,000 of these hold 80 GB."""


class S3Store:
    """A bucket in S3."""

    def __init__(self, bucket: str, s3: Any) -> None:
        self.bucket = bucket
        self._s3 = s3

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        try:
            self._s3.put_object(Bucket=self.bucket, Key=key, Body=body, **condition)
        except ClientError as error:
            # 409: two conditional writes at the same moment; S3 let neither know who won, so the other one counts as there.
            if if_absent and _status(error) in (409, 412):
                raise LedgerConflict(f"s3://{self.bucket}/{key} exists already") from error
            raise

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
        answer = self._open(key, bucket or self.bucket, if_match)
        return StoredObject(body=answer["Body"].read(), etag=answer["ETag"])

    def stream(self, key: str, *, bucket: str | None = None, if_match: str | None = None) -> Iterator[bytes]:
        answer = self._open(key, bucket or self.bucket, if_match)
        yield from answer["Body"].iter_chunks(STREAM_PIECE_BYTES)

    def head(self, key: str, *, bucket: str | None = None) -> Head:
        try:
            answer = self._s3.get_object(
                Bucket=bucket or self.bucket, Key=key, Range=f"bytes=0-{HEAD_BYTES - 1}"
            )
        except ParamValidationError as error:  # no bucket can have that name
            raise LedgerObjectMissing(f"s3://{bucket or self.bucket}/{key} does not exist") from error
        except ClientError as error:
            if _status(error) in (400, 404):  # 400: a name that S3 refuses, so there is nothing by it
                raise LedgerObjectMissing(f"s3://{bucket or self.bucket}/{key} does not exist") from error
            if _status(error) == 416:  # an empty object has no first byte
                answer = self._s3.head_object(Bucket=bucket or self.bucket, Key=key)
                return Head(start=b"", etag=answer["ETag"], modified=iso(answer["LastModified"]))
            if _status(error) == 403:
                raise ObjectForbidden(f"s3://{bucket or self.bucket}/{key}: {error}") from error
            raise
        body = answer["Body"].read()
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

    def _open(self, key: str, bucket: str, if_match: str | None) -> Any:
        condition = {"IfMatch": if_match} if if_match else {}
        try:
            return self._s3.get_object(Bucket=bucket, Key=key, **condition)
        except ClientError as error:
            if _status(error) == 404:
                raise LedgerObjectMissing(f"s3://{bucket}/{key} does not exist") from error
            if _status(error) == 412:
                raise SourceChanged(
                    f"s3://{bucket}/{key} changed after the batch was fixed from it"
                ) from error
            raise


def _status(error: ClientError) -> int:
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
