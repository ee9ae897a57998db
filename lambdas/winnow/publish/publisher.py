"""Moves the pointer to a candidate, or says why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from winnow.core.errors import PublishConflict, PublishContended
from winnow.publish.documents import Manifest, Mode, MoveKind
from winnow.publish.published_set import new_move

if TYPE_CHECKING:
    from winnow.publish.documents import CurrentVersion
    from winnow.publish.published_set import PublishedSet

MOST_CONFLICTS = 20
"""Other moves between reading the pointer and moving it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What publishing a candidate did."""

    version: int | None
    """Of the run, that was published, now or before; None where it was not."""
    reason: str | None = None
    """Why the version is not current; None where it is."""
    again: bool = False
    """Another run published meanwhile: a candidate has to be built on its version."""

    def to_payload(self) -> dict[str, Any]:
        return {"version": self.version, "reason": self.reason, "again": self.again}


class Publisher:
    """Publishes candidates of one publication."""

    def __init__(self, published: PublishedSet, *, who: str) -> None:
        """`who`: as the history has it, such as the pipeline's name."""
        self._published = published
        self._who = who

    def publish(self, version: int) -> Published:
        """Publish a candidate. Doing it again is harmless: a run publishes once.

        Raises:
            PublishRefused: there is no such candidate.
            PublishContended: others moved the pointer again and again.
        """
        manifest = self._published.need_manifest(version)
        for _ in range(MOST_CONFLICTS):
            current, etag = self._published.current()
            if current:
                self._published.record(current)
            if done := self._obstacle(manifest, current):
                return done
            move = new_move(
                MoveKind.PUBLISH,
                before=current.version if current else None,
                after=version,
                who=self._who,
                why=f"run {manifest.run_id}",
            )
            try:
                self._published.point_to(manifest, move, etag=etag)
            except PublishConflict:
                continue
            return Published(version=version)
        raise PublishContended(
            f"version {version} of {self._published.name}: others moved the pointer {MOST_CONFLICTS} times meanwhile; try again"
        )

    def _obstacle(self, manifest: Manifest, current: CurrentVersion | None) -> Published | None:
        """Why the pointer is not moved; None where it is to be moved."""
        if mark := self._published.published_by(manifest.run_id):
            # Read again: another invocation of this step may have moved it since.
            current, _ = self._published.current()
            assert current is not None, "the pointer is never deleted"
            if current.version == mark.version:
                return Published(version=mark.version)
            return Published(
                version=mark.version,
                reason=f"run {manifest.run_id} published version {mark.version} before; version {current.version} is current since",
            )
        if hold := self._published.hold():
            return Published(version=None, reason=str(hold))
        if current and manifest.mode is Mode.REPLACE and self._has_newer_rows(current, manifest):
            return _older(manifest, current)
        if (current.version if current else None) != manifest.base:
            return Published(
                version=None, reason="another version became current while this one was built", again=True
            )
        return None

    def _has_newer_rows(self, current: CurrentVersion, manifest: Manifest) -> bool:
        """Whether a later run made the current version, or one that it was laid over: a replay that ends late hides neither."""
        if _began_later(current, manifest):
            return True
        below = self._published.manifest(current.version)
        # What was built before the run began is of runs that began before it.
        while below and below.created_at > manifest.run_began:
            if _began_later(below, manifest):
                return True
            if below.mode is Mode.REPLACE or below.base is None:
                return False
            below = self._published.manifest(below.base)
        return False


def _began_later(current: CurrentVersion | Manifest, manifest: Manifest) -> bool:
    return (current.run_began, current.run_id) > (manifest.run_began, manifest.run_id)


def _older(manifest: Manifest, current: CurrentVersion) -> Published:
    return Published(
        version=None,
        reason=(
            f"run {manifest.run_id} began at {manifest.run_began}, before run {current.run_id} ({current.run_began}), "
            f"which made the current version {current.version}"
        ),
    )
