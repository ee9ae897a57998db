"""A changeset: what adapt read of the source, one row a file, and transform makes works of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from winnow import PermanentError
from winnow.core.errors import shorten


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesetRow:
    """One source file as it was read."""

    id: str
    """`xml:id` of the root element. Not the record's id: that is the file's key, because identifiers repeat."""
    content: str
    """The XML, decoded."""
    source: str
    """Key of the file in the source bucket."""
    last_modified: datetime
    """When the content that was read was written, UTC."""
    deleted: bool = False
    """The source says so itself. Never concluded from a file that is missing, unreadable or invalid."""

    @classmethod
    def from_data(cls, data: object) -> Self:
        """Check what an earlier stage, or a person, hands over.

        Raises:
            PermanentError: it is no row of a changeset; names the field and the value.
        """
        if not isinstance(data, Mapping):
            raise PermanentError(
                f"not a row of a changeset, got: {shorten(data)}; start the pipeline at adapt"
            )
        for name in ("id", "content", "source"):
            if not isinstance(data.get(name), str) or not data[name]:
                raise PermanentError(
                    f"`{name}` of a changeset row must be a non-empty string, got: {shorten(data.get(name))}"
                )
        return cls(
            id=data["id"],
            content=data["content"],
            source=data["source"],
            last_modified=_moment(data.get("last_modified")),
            deleted=data.get("deleted") is True,
        )

    def to_data(self) -> dict[str, Any]:
        """The columns of adapt's Parquet schema."""
        return {
            "id": self.id,
            "content": self.content,
            "source": self.source,
            "last_modified": self.last_modified,
            "deleted": self.deleted,
        }


def _moment(value: object) -> datetime:
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime):
        raise PermanentError(
            f"`last_modified` of a changeset row must be an ISO 8601 time, got: {shorten(value)}"
        )
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
