"""What is in the source bucket: a run over it reads each object as one record."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from winnow.core.errors import StageInputError
from winnow.core.probe import is_probe_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
        """Everything under a prefix except folders and what probes put there, in ascending order of keys.

        Raises:
            StageInputError: there is no time to list so many.
        """


RESERVE_SECONDS = 30.0
"""Of the Lambda's time, to end in an orderly way: what was listed is thrown away, and the run is refused."""


class S3SourceListing:
    """The source bucket in S3."""

    def __init__(
        self, bucket: str, s3: Any, *, deadline: float = inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Define what is listed.

        Args:
            bucket: its name.
            s3: a client.
            deadline: by the clock; a listing that is not done by then is refused.
            clock: as `time.monotonic`.
        """
        self._bucket = bucket
        self._s3 = s3
        self._deadline = deadline
        self._clock = clock

    def objects(self, prefix: str) -> Iterator[SourceObject]:
        # Imported here: threads and packing are for who lists, and StartRun only knows objects.
        from winnow.storage.prefix_walk import ListingTooLong, PrefixWalk  # noqa: PLC0415

        began = self._clock()
        walk = PrefixWalk(self._bucket, self._s3, seconds_left=lambda: self._deadline - self._clock())
        try:
            for page in walk.pages(prefix):
                for key, etag, last_modified, size in page:
                    if not is_folder(key) and not is_probe_object(key):
                        yield SourceObject(
                            bucket=self._bucket, key=key, etag=etag, last_modified=last_modified, size=size
                        )
        except ListingTooLong:
            raise StageInputError(
                "prefix",
                prefix,
                f"has too many objects to list in one run: {walk.listed:,} in {self._clock() - began:.0f} s, and there are "
                "more; give a longer prefix, or a list of records (winnow run --records)",
            ) from None
        finally:
            walk.close()
