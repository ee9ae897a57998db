"""What differs between two versions, by id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from winnow.publish.laying_over import same
from winnow.publish.reading import rows_of

if TYPE_CHECKING:
    from winnow.publish.published_set import PublishedSet


class ChangeKind(StrEnum):
    """How a row differs."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row that differs between two versions."""

    id: str
    kind: ChangeKind
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def differences(published: PublishedSet, one: int, other: int) -> Iterator[Change]:
    """Rows that differ, in order of id, from version `one` to version `other`. Memory does not grow with the rows.

    Raises:
        PublishRefused: there is no such version.
        LedgerObjectMissing: one was pruned meanwhile.
        DamagedDocument: an object is not what was written.
    """
    first, second = published.need_manifest(one), published.need_manifest(other)
    with TemporaryDirectory(prefix="winnow-diff-") as scratch:
        left, right = rows_of(published, first, Path(scratch)), rows_of(published, second, Path(scratch))
        old, new = next(left, None), next(right, None)
        while old or new:
            if new is None or (old and old.id < new.id):
                assert old is not None
                yield Change(id=old.id, kind=ChangeKind.REMOVED, before=old.values, after=None)
                old = next(left, None)
            elif old is None or new.id < old.id:
                yield Change(id=new.id, kind=ChangeKind.ADDED, before=None, after=new.values)
                new = next(right, None)
            else:
                if not same(old.values, new.values):
                    yield Change(id=old.id, kind=ChangeKind.CHANGED, before=old.values, after=new.values)
                old, new = next(left, None), next(right, None)
