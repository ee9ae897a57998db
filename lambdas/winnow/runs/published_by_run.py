"""What a run published, for its report; and the age of what is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from winnow.publish.documents import Counts
    from winnow.publish.published_set import PublishedSet
    from winnow.runs.run_ended import RunEnded

NOT_SAID = "its machine did not say why"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedByRun:
    """What became of a run's outputs after its last stage."""

    publication: str
    version: int | None
    """None where the run published none."""
    counts: Counts | None
    """How that version differs from the one that it was built on."""
    reason: str | None
    """Why the run published none."""
    current: int | None
    """The version that consumers read when the run was closed; None where there is none."""

    def to_json(self) -> dict[str, Any]:
        return {
            "publication": self.publication,
            "version": self.version,
            "counts": self.counts.to_json() if self.counts else None,
            "reason": self.reason,
            "current": self.current,
        }


def published_by(published: PublishedSet, run_id: str, ended: RunEnded) -> PublishedByRun:
    """What a run that has ended published, by what the bucket says: an event may leave out the run's output.

    Raises:
        DamagedDocument: a document of the publication cannot be read.
    """
    current, _ = published.current()
    mark = published.published_by(run_id)
    version = mark.version if mark else None
    if version is None and current and current.run_id == run_id:
        # Publish died between moving the pointer and writing that down.
        version = current.version
    manifest = published.manifest(version) if version is not None else None
    return PublishedByRun(
        publication=published.name,
        version=version,
        counts=manifest.counts if manifest else None,
        reason=None if version is not None else _why_not(ended),
        current=current.version if current else None,
    )


def age_of_published(published: PublishedSet, moment: datetime) -> float | None:
    """Seconds since the run began that made the current version: as old as that are its data, even after a rollback.

    None where nothing was published yet. Raises `DamagedDocument`.
    """
    current, _ = published.current()
    if current is None:
        return None
    return max(0.0, (moment - datetime.fromisoformat(current.run_began)).total_seconds())


def _why_not(ended: RunEnded) -> str:
    said = ended.output.get("published")
    reason = said.get("reason") if isinstance(said, Mapping) else ended.output.get("reason")
    return str(reason or ended.reason or (NOT_SAID if ended.succeeded else ended.status))
