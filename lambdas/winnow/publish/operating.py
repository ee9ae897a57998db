"""What people do with a publication: look, go back, go forward, freeze, tidy up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from winnow.core.contract import iso
from winnow.core.errors import DamagedDocument, LedgerConflict, PublishConflict, PublishRefused
from winnow.publish.documents import CurrentVersion, Manifest, Move, MoveKind, PublicationHold
from winnow.publish.published_set import new_move

if TYPE_CHECKING:
    from winnow.publish.documents import VersionClaim
    from winnow.publish.published_set import PublishedSet

LIVE = timedelta(days=1)
"""A claim that is younger may still be built on."""


class State(StrEnum):
    """What a version is at the moment."""

    CURRENT = "current"
    WHOLE = "whole"
    """It can be promoted; whether it was current before says the history."""
    UNFINISHED = "unfinished"
    """It is being built, or its builder died."""
    PRUNED = "pruned"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionListing:
    """One version in the list."""

    version: int
    state: State
    claim: VersionClaim
    manifest: Manifest | None
    """None unless it is whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What pruning deletes, or would delete."""

    delete: tuple[int, ...]
    keep: Mapping[int, str]
    """Why each other version stays."""


class Operator:
    """Acts on one publication for a person. What changes something does nothing but look where `dry_run` is given."""

    def __init__(self, published: PublishedSet, *, who: str) -> None:
        """`who`: as the history has it."""
        self._published = published
        self._who = who

    def versions(self) -> list[VersionListing]:
        """All versions that were begun, in ascending order, but those that were pruned. Raises `DamagedDocument`."""
        current, _ = self._published.current()
        found = self._published.keys_by_version()
        return [
            listed
            for number in sorted(found)
            if not self._is_gone(number, found[number])
            and (listed := self._listed(number, current, found[number])) is not None
        ]

    def version(self, number: int) -> VersionListing | None:
        """One version; None where no run has begun it. Raises `DamagedDocument`."""
        current, _ = self._published.current()
        keys = self._published.keys.version(number)
        return self._listed(number, current, set(self._published.store.keys(keys.prefix)))

    def promote(self, version: int, *, why: str, dry_run: bool = False) -> Move:
        """Make a version current, whatever the gate said of it and whichever run is newer. A hold does not hinder it.

        A pointer that is damaged is written anew.

        Raises:
            PublishRefused: there is no such version, it is current, no reason is given, or the pointer moved meanwhile.
        """
        manifest = self._published.need_manifest(version)
        try:
            current, etag = self._published.current()
        except DamagedDocument:
            current, etag = None, self._published.tag_of_current()
        if current and current.version == version:
            raise PublishRefused(f"version: it is current already, got: {version}")
        return self._move(MoveKind.PROMOTE, manifest, current, etag, why=why, dry_run=dry_run)

    def rollback(self, *, why: str, dry_run: bool = False) -> Move:
        """Make the version current that was so before the current one. A hold does not hinder it.

        What comes after a rollback goes back further, rather than forward again.

        Raises:
            PublishRefused: there is none, it was pruned, no reason is given, or the pointer moved meanwhile.
        """
        current, etag = self._published.current()
        if current is None:
            raise PublishRefused(f"publication: nothing is published yet, got: {self._published.name!r}")
        before = self._before(current)
        if before is None:
            raise PublishRefused(
                f"version: none was current before; promote another, got: {current.version} of {self._published.name}"
            )
        manifest = self._published.need_manifest(before)
        return self._move(MoveKind.ROLLBACK, manifest, current, etag, why=why, dry_run=dry_run)

    def hold(self, *, why: str, dry_run: bool = False) -> Move:
        """Freeze the publication: no run moves the pointer.

        Raises:
            PublishRefused: it is held already, or no reason is given.
        """
        current, _ = self._published.current()
        version = current.version if current else None
        move = self._new(MoveKind.HOLD, before=version, after=version, why=why)
        if there := self._published.hold():
            self._published.note(there.move)
            raise PublishRefused(
                f"publication: it is held already ({there}); release it first, got: {self._published.name!r}"
            )
        if not dry_run:
            try:
                self._published.write_once(self._published.keys.hold, PublicationHold(move=move).to_json())
            except LedgerConflict:
                raise PublishRefused(
                    f"publication: another holds it since this moment, got: {self._published.name!r}"
                ) from None
            self._published.note(move)
        return move

    def release(self, *, why: str, dry_run: bool = False) -> Move:
        """Let runs move the pointer again. Raises `PublishRefused`: it is not held, or no reason is given."""
        current, _ = self._published.current()
        version = current.version if current else None
        move = self._new(MoveKind.RELEASE, before=version, after=version, why=why)
        hold = self._published.hold()
        if hold is None:
            raise PublishRefused(f"publication: it is not held, got: {self._published.name!r}")
        if not dry_run:
            self._published.note(hold.move)
            self._published.note(move)  # first: a release without an entry would be nobody's
            self._published.store.delete(self._published.keys.hold)
        return move

    def prune(self, keep: int, *, why: str, dry_run: bool = False) -> Pruning:
        """Delete old versions and what dead builders left.

        Never the current version, one that a rollback leads to, the one that was current when the publication was held, or what
        a run may still be building. Deleted numbers are not used again.

        Args:
            keep: this many of the newest whole versions stay in any case.
            why: for the history.
            dry_run: delete nothing.

        Raises:
            PublishRefused: `keep` is below 1, or no reason is given.
        """
        if keep < 1:
            raise PublishRefused(f"keep: it must be at least 1, got: {keep}")
        self._new(MoveKind.PRUNE, before=None, after=None, why=why)
        listed = self.versions()
        kept = dict(self._pointed_at(listed, keep))
        delete = tuple(each.version for each in listed if each.version not in kept)
        if delete and not dry_run:
            delete = tuple(self._prune(delete, why))
        return Pruning(delete=delete, keep=kept)

    def _listed(
        self, number: int, current: CurrentVersion | None, there: AbstractSet[str]
    ) -> VersionListing | None:
        """A version with these keys."""
        claim = self._published.claim(number)
        if claim is None:
            return None
        is_pruned = self._published.keys.version(number).pruning in there
        manifest = None if is_pruned else self._published.manifest(number)
        if self._is_gone(number, there):
            state = State.PRUNED
        elif manifest is None:
            state = State.UNFINISHED
        elif current and current.version == number:
            state = State.CURRENT
        else:
            state = State.WHOLE
        return VersionListing(version=number, state=state, claim=claim, manifest=manifest)

    def _is_gone(self, number: int, there: AbstractSet[str]) -> bool:
        """Whether a version was pruned, and nothing is left to delete."""
        keys = self._published.keys.version(number)
        return keys.pruning in there and there <= {keys.claim, keys.pruning}

    def _before(self, current: CurrentVersion) -> int | None:
        """The version that a rollback leads to."""
        if current.move.kind is not MoveKind.ROLLBACK:
            return current.previous
        # `previous` is the version that the rollback left. So: what was current when this one was published or promoted.
        arrival = self._published.arrival_of(current.version)
        return arrival.before if arrival else None

    def _pointed_at(self, listed: list[VersionListing], keep: int) -> Iterator[tuple[int, str]]:
        whole = [each for each in listed if each.manifest is not None]
        for each in whole[-keep:]:
            yield each.version, f"one of the newest {keep}"
        live_since = iso(datetime.now(UTC) - LIVE)
        for each in listed:
            if each.claim.claimed_at > live_since and not self._published.is_pruned(each.version):
                yield each.version, f"run {each.claim.run_id} began it less than a day ago"
                if each.claim.base is not None:
                    yield each.claim.base, f"run {each.claim.run_id} builds on it"
        hold = self._published.hold()
        if hold and hold.version is not None:
            yield hold.version, str(hold)
        current, _ = self._published.current()
        if current is None:
            for each in listed:
                yield each.version, "nothing was published yet"
        else:
            for before in (current.previous, self._before(current)):
                if before is not None:
                    yield before, "it was current before"
            yield current.version, "current"

    def _prune(self, versions: Sequence[int], why: str) -> Iterator[int]:
        """Delete versions, unless one has become current meanwhile.

        The marks come first and the fence after them. So whoever moves the pointer to one of these versions has either done so,
        which is seen here; or has read the pointer before the fence, and fails; or reads it later, and sees the mark.
        """
        published = self._published
        for version in versions:
            published.store.put(published.keys.version(version).pruning, b"{}")
        try:
            current = published.fence()
        except PublishConflict as error:
            raise PublishRefused(f"keep: nothing was deleted, as {error}; try again") from error
        for version in versions:
            keys = published.keys.version(version)
            if current is None or current.version == version:
                published.store.delete(keys.pruning)
                continue
            published.note(self._new(MoveKind.PRUNE, before=current.version, after=version, why=why))
            published.store.delete(keys.manifest)  # first: what is left is no version
            for key in list(published.store.keys(keys.prefix)):
                if key not in (keys.claim, keys.pruning):
                    published.store.delete(key)
            yield version

    def _move(
        self,
        kind: MoveKind,
        manifest: Manifest,
        current: CurrentVersion | None,
        etag: str | None,
        *,
        why: str,
        dry_run: bool,
    ) -> Move:
        before = current.version if current else None
        move = self._new(kind, before=before, after=manifest.version, why=why)
        if dry_run:
            return move
        if current:
            self._published.record(current)
        try:
            self._published.point_to(manifest, move, etag=etag)
        except PublishConflict:
            there, _ = self._published.current()
            if there and there.version == before:
                raise PublishRefused(
                    f"version: versions of {self._published.name} are being pruned at this moment; do it again, got: "
                    f"{manifest.version}"
                ) from None
            raise PublishRefused(
                f"version: another moved {self._published.name} meanwhile; look at it and decide again, got: "
                f"{there.version if there else None} instead of {before}"
            ) from None
        return move

    def _new(self, kind: MoveKind, *, before: int | None, after: int | None, why: str) -> Move:
        if not why.strip():
            raise PublishRefused(f"reason: it is missing; say why, for the history, got: {why!r}")
        return new_move(kind, before=before, after=after, who=self._who, why=why)
