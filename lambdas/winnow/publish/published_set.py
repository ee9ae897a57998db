"""One publication in its bucket: its documents, read and written."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from winnow.core.contract import iso
from winnow.core.document import fields_of
from winnow.core.errors import LedgerConflict, LedgerObjectMissing, PublishConflict, PublishRefused
from winnow.core.keys import PublicationKeys
from winnow.publish.documents import (
    CurrentVersion,
    Manifest,
    Move,
    MoveKind,
    PublicationHold,
    PublishedRun,
    VersionClaim,
)
from winnow.storage.ledger import naming_damage

if TYPE_CHECKING:
    from winnow.storage.published_store import PublishedStore

T = TypeVar("T")

ARRIVALS = (MoveKind.PUBLISH, MoveKind.PROMOTE)
"""Kinds of moves that bring a version forward."""
MOST_FENCES = 10
NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


def check_publication_name(name: str) -> None:
    """Raises `ValueError` for a name that no publication can have."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"a publication's name must be lower-case letters, digits, - and _, at most 64, got: {name!r}"
        )


class PublishedSet:
    """A publication: its pointer, its versions, its history. Several may read and write it at the same time."""

    def __init__(self, store: PublishedStore, name: str) -> None:
        """Raises `ValueError` for a name that no publication can have."""
        check_publication_name(name)
        self.store = store
        self.name = name
        self.keys = PublicationKeys(name)

    def current(self) -> tuple[CurrentVersion | None, str | None]:
        """The pointer and its tag; neither where nothing was published yet. Raises `DamagedDocument`."""
        try:
            found = self.store.get(self.keys.current)
        except LedgerObjectMissing:
            return None, None
        return self._decoded(self.keys.current, found.body, CurrentVersion.from_json), found.etag

    def tag_of_current(self) -> str:
        """The tag of a pointer that may be damaged."""
        return self.store.get(self.keys.current).etag

    def manifest(self, version: int) -> Manifest | None:
        """A whole version; None where there is none. Raises `DamagedDocument`."""
        return self._find(self.keys.version(version).manifest, Manifest.from_json)

    def need_manifest(self, version: int) -> Manifest:
        """A whole version.

        Raises:
            PublishRefused: there is none.
            DamagedDocument: its manifest cannot be read.
        """
        manifest = self.manifest(version)
        if manifest is None:
            raise PublishRefused(
                f"version: {self.name} has no whole version of that number; see the list of versions, got: {version}"
            )
        return manifest

    def claim(self, version: int) -> VersionClaim | None:
        """Who builds a version; None where its number is free. Raises `DamagedDocument`."""
        return self._find(self.keys.version(version).claim, VersionClaim.from_json)

    def take(self, version: int, claim: VersionClaim) -> VersionClaim:
        """Claim a number if it is free. Gives whose it is now, which may be another's."""
        with suppress(LedgerConflict):
            self.store.put(self.keys.version(version).claim, encoded(claim.to_json()), if_absent=True)
        found = self.claim(version)
        assert found is not None, "a claim is never deleted"
        return found

    def hold(self) -> PublicationHold | None:
        """Why no run moves the pointer; None where runs may. Raises `DamagedDocument`."""
        return self._find(self.keys.hold, PublicationHold.from_json)

    def published_by(self, run_id: str) -> PublishedRun | None:
        """Which version of a run was published, if one was. Raises `DamagedDocument`."""
        return self._find(self.keys.run(run_id), PublishedRun.from_json)

    def history(self) -> Iterator[Move]:
        """All moves in order of time. Raises `DamagedDocument`."""
        for key in self.store.keys(self.keys.history):
            yield self._decoded(key, self.store.get(key).body, Move.from_json)

    def arrival_of(self, version: int) -> Move | None:
        """The last move by which a version was published or promoted; None if none did. Raises `DamagedDocument`."""
        ends = tuple(self.keys.move("", "", kind).removeprefix(self.keys.history + "-") for kind in ARRIVALS)
        for key in reversed(list(self.store.keys(self.keys.history))):
            if key.endswith(ends):
                move = self._decoded(key, self.store.get(key).body, Move.from_json)
                if move.after == version:
                    return move
        return None

    def versions(self) -> list[int]:
        """Numbers that were ever claimed, in ascending order; not each is a whole version."""
        return sorted(self.keys_by_version())

    def keys_by_version(self) -> dict[int, set[str]]:
        """The keys of all versions, by number: one listing, however many versions there were."""
        found: dict[int, set[str]] = {}
        for key in self.store.keys(self.keys.versions):
            number = self.keys.version_of(key)
            if number is not None:
                found.setdefault(number, set()).add(key)
        return found

    # Writing

    def point_to(self, version: Manifest, move: Move, *, etag: str | None) -> CurrentVersion:
        """Move the pointer, and write the move down.

        Args:
            version: that consumers read from now on.
            move: how and why.
            etag: of the pointer that it replaces; None for the first.

        Raises:
            PublishConflict: another actor has changed it.
            PublishRefused: the version is being pruned.
        """
        # After the pointer was read: whoever prunes marks the version first and then changes the pointer.
        if self.is_pruned(version.version):
            raise PublishRefused(f"version: it is being pruned; choose another, got: {version.version}")
        made = CurrentVersion.of(version, move, self.keys.version(version.version).manifest)
        self.store.swap(self.keys.current, encoded(made.to_json()), if_match=etag)
        self.record(made)
        return made

    def fence(self) -> CurrentVersion | None:
        """Change the pointer without moving it: nobody who has read it before moves it any more.

        Returns:
            The pointer; None where nothing was published yet.

        Raises:
            PublishConflict: others changed it again and again.
        """
        for _ in range(MOST_FENCES):
            current, etag = self.current()
            if current is None:
                return None
            fenced = replace(current, fence=os.urandom(8).hex())
            try:
                self.store.swap(self.keys.current, encoded(fenced.to_json()), if_match=etag)
            except PublishConflict:
                continue
            return fenced
        raise PublishConflict(f"{self.name}: others moved the pointer {MOST_FENCES} times meanwhile")

    def is_pruned(self, version: int) -> bool:
        """Whether a version is being deleted, or was."""
        return any(self.store.keys(self.keys.version(version).pruning))

    def record(self, current: CurrentVersion) -> None:
        """Write the last move of the pointer to the history, if that is not done; its mover may have died after the move."""
        self.note(current.move)
        if current.move.kind is not MoveKind.ROLLBACK:
            mark = PublishedRun(run_id=current.run_id, version=current.version)
            with suppress(LedgerConflict):  # the run has published another version before
                self.write_once(self.keys.run(current.run_id), mark.to_json())

    def note(self, move: Move) -> None:
        """Write a move to the history, once."""
        self.write_once(self.keys.move(move.at, move.token, move.kind), move.to_json())

    def write_once(self, key: str, document: Mapping[str, Any]) -> None:
        """Write a document, unless this very one is there.

        Raises:
            LedgerConflict: there is another.
        """
        body = encoded(document)
        try:
            self.store.put(key, body, if_absent=True)
        except LedgerConflict:
            if self.store.get(key).body != body:
                raise

    def _find(self, key: str, decode: Callable[[dict[str, Any]], T]) -> T | None:
        try:
            body = self.store.get(key).body
        except LedgerObjectMissing:
            return None
        return self._decoded(key, body, decode)

    def _decoded(self, key: str, body: bytes, decode: Callable[[dict[str, Any]], T]) -> T:
        with self.naming(key):
            return decode(fields_of(json.loads(body)))

    def naming(self, key: str) -> AbstractContextManager[None]:
        """Name the object in what decoding it raises: `DamagedDocument` instead of anything in `DAMAGE`."""
        return naming_damage(f"s3://{self.store.bucket}/{key}", self._remedy(key))

    def _remedy(self, key: str) -> str:
        if key == self.keys.current:
            return "promote a version, which writes it anew"
        if key.startswith(self.keys.versions):
            return "promote another version, and run the records again that it lacks"
        return "delete it"


def encoded(document: Mapping[str, Any]) -> bytes:
    """A document as it is stored: the same for the same content."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def new_move(kind: MoveKind, *, before: int | None, after: int | None, who: str, why: str) -> Move:
    """A move that is made now."""
    moment = time.time_ns()
    return Move(
        at=iso(datetime.fromtimestamp(moment // 1_000_000 / 1000, UTC)),
        kind=kind,
        before=before,
        after=after,
        who=who,
        why=why,
        token=f"{moment % 1_000_000:06d}{os.urandom(4).hex()}",
    )
