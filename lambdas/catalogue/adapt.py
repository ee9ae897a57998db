"""The adapter: from the files of the source to a changeset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import pyarrow as pa
from botocore.exceptions import ClientError

from catalogue import settings
from catalogue.changeset import ChangesetRow
from catalogue.tei.document import read
from winnow import PermanentError, Record, Skip, worker
from winnow.storage.clients import client
from winnow.storage.formats import ParquetOutput
from winnow.storage.tries import read_body

CHANGESET = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("content", pa.large_string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("last_modified", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("deleted", pa.bool_(), nullable=False),
    ]
)
"""`content` is a large string: descriptions reach half a megabyte, and a string column ends at 2 GiB."""

MAX_DESCRIPTION_BYTES = 16 * 1024 * 1024
"""30 times the largest description of the real catalogue. Eight threads hold one each, a few times over while parsing."""


class TooLarge(PermanentError):
    """The file cannot be a description of one manuscript."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """The object a record stands for."""

    bucket: str
    key: str

    @classmethod
    def from_record(cls, record: Record) -> Self:
        """Read what PlanRun listed; a record that is only an id is a key in the source bucket.

        Raises:
            PermanentError: nothing says which bucket.
        """
        listed = record.data if isinstance(record.data, Mapping) else {}
        bucket = listed.get("bucket") or settings.source_bucket()
        if not bucket:
            raise PermanentError(
                'no bucket: give the record as {"id", "data": {"bucket", "key"}}, or set SOURCE_BUCKET'
            )
        return cls(bucket=bucket, key=listed.get("key") or record.id)


def connect() -> None:
    """Make the S3 client once per cold start, before threads ask for it."""
    client("s3")


@worker(concurrency=8, setup=connect, outputs=ParquetOutput(CHANGESET))
def adapt(record: Record) -> dict[str, Any] | Skip:
    """Read one file of the source and check that it is a description with an identifier.

    The object is read as it is now, not in the version that was listed: a replay after a cataloguer's fix
    has to see the fix, and an event that comes late must not bring an old text back.
    """
    source = ListedFile.from_record(record)
    if source.key.endswith("/"):
        return Skip("folder marker")
    try:
        answer, content = read_body(partial(_ask, source))
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        # Gone since it was listed. Not a failure, as there is nothing left to mend, and not a row with `deleted` set
        # either: files are moved and uploads replaced, so the work stays as it was until the source says otherwise.
        return Skip("gone from the source since it was listed")
    description = read(content)
    return ChangesetRow(
        id=description.identifier,
        content=description.text,
        source=source.key,
        last_modified=answer["LastModified"],
    ).to_data()


def _ask(source: ListedFile) -> dict[str, Any]:
    answer: dict[str, Any] = client("s3").get_object(Bucket=source.bucket, Key=source.key)
    if answer["ContentLength"] > MAX_DESCRIPTION_BYTES:
        answer["Body"].close()
        raise TooLarge(
            f"a description must be at most {MAX_DESCRIPTION_BYTES} bytes, got: {answer['ContentLength']}"
        )
    return answer
