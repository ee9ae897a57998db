"""What is in the source bucket: a run over it reads each object as one record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceObject:
    """An object of the source bucket; its key is the record's id."""

    bucket: str
    key: str
    etag: str
    """Without the quotes that some of S3's answers have around it."""
    last_modified: str
    """ISO 8601, UTC."""
    size: int

    def to_data(self) -> dict[str, Any]:
        """What the first stage's worker gets as the record's data."""
        return {
            "bucket": self.bucket,
            "key": self.key,
            "etag": self.etag,
            "last_modified": self.last_modified,
            "size": self.size,
        }

    def to_record(self) -> dict[str, Any]:
        return {"id": self.key, "data": self.to_data()}


def is_folder(key: str) -> bool:
    """The console makes empty objects like this to show a folder; they are no records."""
    return key.endswith("/")


class SourceListing(Protocol):
    """The bucket that runs without a list of records go over."""

    def objects(self, prefix: str) -> Iterator[SourceObject]:
        """Everything under a prefix except folders, in ascending order of keys."""


class S3SourceListing:
    """The source bucket in S3."""

    def __init__(self, bucket: str, s3: Any) -> None:
        self._bucket = bucket
        self._s3 = s3

    def objects(self, prefix: str) -> Iterator[SourceObject]:
        token: dict[str, str] = {}
        while True:
            page = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **token)
            for item in page.get("Contents", ()):
                if not is_folder(item["Key"]):
                    yield SourceObject(
                        bucket=self._bucket,
                        key=item["Key"],
                        etag=item["ETag"].strip('"'),
                        last_modified=item["LastModified"].isoformat(),
                        size=item["Size"],
                    )
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}
