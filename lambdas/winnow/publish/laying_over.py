"""Lays what a run made over the version before, both in order of id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from winnow.core.document import fields_of, required
from winnow.publish.documents import Counts, Mode


class RowOrigin(NamedTuple):
    """The run that wrote a row. Later ones are greater."""

    began: str
    """ISO 8601, UTC."""
    run_id: str


class Before(NamedTuple):
    """What the version before has of an id."""

    id: str
    values: dict[str, Any] | None
    """None for a row that was deleted."""
    origin: RowOrigin
    size: int


class Made(NamedTuple):
    """What the run made of an id."""

    id: str
    values: dict[str, Any] | None
    """None for a deletion."""
    size: int


def origin_line(identifier: str, origin: RowOrigin, *, deleted: bool) -> dict[str, Any]:
    """A row's origin as it is stored."""
    line = {"id": identifier, "run": origin.run_id, "began": origin.began}
    return {**line, "deleted": True} if deleted else line


def origin_of(line: object) -> tuple[str, RowOrigin, bool]:
    """Id, origin, and whether the row was deleted. Raises `ValueError` if a field is missing or wrong."""
    fields = fields_of(line)
    origin = RowOrigin(began=required(fields, "began", str), run_id=required(fields, "run", str))
    return required(fields, "id", str), origin, fields.get("deleted") is True


@dataclass(slots=True)
class Overlay:
    """One laying of a run's rows over a version, and its counts."""

    mode: Mode
    origin: RowOrigin
    """Of the run."""
    added: int = field(default=0, init=False)
    changed: int = field(default=0, init=False)
    unchanged: int = field(default=0, init=False)
    removed: int = field(default=0, init=False)
    kept: int = field(default=0, init=False)

    def rows(self, before: Iterator[Before], made: Iterator[Made]) -> Iterator[Before]:
        """The new version, in order of id, with deletions: those of the run and, in merge mode, those before."""
        old, new = next(before, None), next(made, None)
        while old or new:
            if new is None or (old and old.id < new.id):
                assert old is not None
                if self.mode is Mode.MERGE:
                    self.kept += old.values is not None
                    yield old
                else:
                    self.removed += old.values is not None
                old = next(before, None)
            elif old is None or new.id < old.id:
                self.added += new.values is not None
                yield from self._new(new)
                new = next(made, None)
            else:
                yield from self._both(old, new)
                old, new = next(before, None), next(made, None)

    @property
    def counts(self) -> Counts:
        return Counts(
            added=self.added,
            changed=self.changed,
            unchanged=self.unchanged,
            removed=self.removed,
            kept=self.kept,
        )

    def _both(self, old: Before, new: Made) -> Iterator[Before]:
        if self.mode is Mode.MERGE and old.origin > self.origin:
            self.kept += old.values is not None
            yield old
            return
        if new.values is None:
            self.removed += old.values is not None
        elif old.values is None:
            self.added += 1
        elif same(old.values, new.values):
            self.unchanged += 1
        else:
            self.changed += 1
        yield from self._new(new)

    def _new(self, new: Made) -> Iterator[Before]:
        yield Before(new.id, new.values, self.origin, new.size)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same to a reader. A field that is missing is null, as in Parquet."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(same(one.get(name), other.get(name)) for name in one.keys() | other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    return bool(one == other or (one != one and other != other))  # noqa: PLR0124  NaN is not equal to itself
