"""S3's events for created objects, as a queue delivers them: through EventBridge, or from the bucket itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from urllib.parse import unquote_plus

from winnow.core.contract import record_id_problem
from winnow.core.errors import StageInputError
from winnow.storage.listing import SourceObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectCreated:
    """One object, as it was when it was written."""

    item: SourceObject
    version: str
    """Its version id, or its ETag in a bucket without versions."""
    sequencer: str
    """Hexadecimal; grows with each write to the same key."""

    @classmethod
    def from_parts(
        cls,
        *,
        bucket: object,
        key: object,
        etag: object,
        version_id: object,
        sequencer: object,
        size: object,
        time: object,
    ) -> Self:
        """Raises `StageInputError`."""
        if not isinstance(bucket, str) or not bucket:
            raise StageInputError("bucket.name", bucket, "must be the name of a bucket")
        problem = record_id_problem(key)
        if problem:
            raise StageInputError("object.key", key, f"the key, which becomes the record's id, {problem}")
        texts = (bucket, etag, version_id, sequencer, time)
        if any(isinstance(text, str) and not _is_unicode(text) for text in texts):
            raise StageInputError("object", str(texts), "must be text that UTF-8 has bytes for")
        tag = str(etag or "").strip('"')
        return cls(
            item=SourceObject(
                bucket=bucket,
                key=str(key),
                etag=tag,
                last_modified=str(time or ""),
                size=size if isinstance(size, int) else 0,
            ),
            version=str(version_id or tag),
            sequencer=str(sequencer or ""),
        )

    @property
    def event_id(self) -> str:
        """The same each time S3 sends the same event."""
        return json.dumps([self.item.bucket, self.item.key, self.version, self.sequencer])

    @property
    def moment(self) -> float | None:
        """Unix time of the write, by S3's clock; None where the event does not say."""
        try:
            return datetime.fromisoformat(self.item.last_modified).timestamp()
        except ValueError:
            return None

    def to_json(self) -> dict[str, Any]:
        """As a chunk of a window has it."""
        return {**self.item.to_data(), "version": self.version, "sequencer": self.sequencer}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises KeyError."""
        return cls(
            item=SourceObject(
                bucket=value["bucket"],
                key=value["key"],
                etag=value["etag"],
                last_modified=value["last_modified"],
                size=value["size"],
            ),
            version=value["version"],
            sequencer=value["sequencer"],
        )

    def is_newer_than(self, other: ObjectCreated) -> bool:
        """Of two events about one key. S3 says: fill the shorter sequencer up with zeros on the right, then compare as text."""
        width = max(len(self.sequencer), len(other.sequencer))
        return self.sequencer.ljust(width, "0") > other.sequencer.ljust(width, "0")


def objects_created(body: str) -> list[ObjectCreated]:
    """The objects that a message names; none for an S3 event of another type.

    Raises:
        StageInputError: the message is not an event of S3.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise StageInputError("body", body, f"is not JSON ({error})") from error
    match message:
        case {"source": "aws.s3", "detail-type": "Object Created", "detail": Mapping() as detail}:
            return [_from_event_bridge(detail, message.get("time"))]
        case {"source": "aws.s3", "detail-type": str()} | {"Event": "s3:TestEvent"}:
            return []
        case {"Records": list() as records}:
            return [_from_bucket(record) for record in records if _is_creation(record)]
    raise StageInputError(
        "body", message, 'must be an S3 event of type "Object Created"; send other events elsewhere'
    )


def _from_event_bridge(detail: Mapping[str, Any], time: object) -> ObjectCreated:
    """EventBridge gives keys as they are."""
    item = _part(detail, "object")
    return ObjectCreated.from_parts(
        bucket=_part(detail, "bucket").get("name"),
        key=item.get("key"),
        etag=item.get("etag"),
        version_id=item.get("version-id"),
        sequencer=item.get("sequencer"),
        size=item.get("size"),
        time=time,
    )


def _is_creation(record: object) -> bool:
    if not isinstance(record, Mapping) or record.get("eventSource") != "aws:s3":
        raise StageInputError("Records", record, "must be notifications of an S3 bucket")
    return str(record.get("eventName", "")).startswith("ObjectCreated")


def _from_bucket(record: Mapping[str, Any]) -> ObjectCreated:
    """The bucket's own notifications give keys as in a query string: `+` for a blank, `%2F` for a slash."""
    written = _part(record, "s3")
    item = _part(written, "object")
    key = item.get("key")
    return ObjectCreated.from_parts(
        bucket=_part(written, "bucket").get("name"),
        key=unquote_plus(key) if isinstance(key, str) else key,
        etag=item.get("eTag"),
        version_id=item.get("versionId"),
        sequencer=item.get("sequencer"),
        size=item.get("size"),
        time=record.get("eventTime"),
    )


def _part(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of an event; empty where it is missing, or is none."""
    part = whole.get(name)
    return part if isinstance(part, Mapping) else {}


def _is_unicode(text: str) -> bool:
    """False for half a character, which JSON can spell and nothing can store."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
