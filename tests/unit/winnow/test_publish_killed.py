"""BuildVersion and Publish are killed at each of their calls of S3, and started again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.winnow.publications import DELETED, FAILS, Publication, numbered
from winnow.publish import build
from winnow.publish.documents import Format, MoveKind
from winnow.publish.writing import PartLimits
from winnow.storage.ledger import Ledger
from winnow.testing.memory_store import MemoryStore

CALLS = ("put", "put_stream", "get", "stream", "keys", "swap", "delete")


class KilledError(BaseException):
    """The process ends here."""


class FragileStore(MemoryStore):
    """A bucket as a process sees it that is killed at its n-th call, before or after the call has had its effect."""

    def __init__(self, whole: MemoryStore, clock: Callable[[str], Iterator[None]]) -> None:
        super().__init__(whole.bucket)
        self.objects = whole.objects
        self._clock = clock

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in CALLS:
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            before_and_after = self._clock(name)
            next(before_and_after)
            try:
                return found(*arguments, **options)
            finally:
                next(before_and_after)

        return call


class Killer:
    """Counts the calls of a process, and kills it at one of them."""

    def __init__(self, at: int | None = None, *, after: bool = False) -> None:
        self.calls: list[str] = []
        self._at = at
        self._after = after

    def clock(self, name: str) -> Iterator[None]:
        self.calls.append(name)
        here = len(self.calls) - 1 == self._at
        if here and not self._after:
            raise KilledError
        yield
        if here:
            raise KilledError
        yield


def scene(form: Format) -> tuple[Publication, str]:
    """A version is current; a run is to be laid over it, in several parts."""
    publication = Publication(form=form, limits=PartLimits(part_rows=3, group_rows=2))
    publication.go("01", numbered(dict.fromkeys("abcdefgh", 1)))
    changes = {"a": 2, "b": FAILS, "c": DELETED, "x": 2, "y": 2}
    return publication, publication.run("02", numbered(changes))


def seen_by(publication: Publication, killer: Killer) -> Publication:
    """The same, as a process sees it that is killed."""
    store = publication.ledger.store
    assert isinstance(store, MemoryStore)
    return Publication(
        form=publication.form,
        limits=publication.limits,
        store=FragileStore(publication.store, killer.clock),
        ledger=Ledger(FragileStore(store, killer.clock)),
    )


def versions_of(publication: Publication) -> dict[str, bytes]:
    return {
        key: body
        for (_, key), body in publication.store.objects.items()
        if key.startswith(publication.set.keys.versions)
    }


@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
@pytest.mark.parametrize("form", list(Format))
def test_a_publish_that_is_killed_anywhere_and_repeated_moves_the_pointer_once_to_the_same_bytes(
    form: Format, *, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "now", lambda: "2026-11-02T01:00:00.000Z")
    publication, run_id = scene(form)
    clean = publication.copied()
    counting = Killer()
    seen_by(clean, counting).finish(run_id)
    expected = versions_of(clean)
    assert len([key for key in expected if key.startswith(f"{clean.set.keys.versions}2/data/part")]) == 3
    assert len(counting.calls) > 30
    for call in range(len(counting.calls)):
        tried = publication.copied()
        with pytest.raises(KilledError):
            seen_by(tried, Killer(call, after=after)).finish(run_id)
        assert tried.rows() in (dict.fromkeys("abcdefgh", 1), clean.rows()), "a consumer sees a whole version"
        assert tried.finish(run_id).version == 2
        assert versions_of(tried) == expected, f"killed at call {call}, {counting.calls[call]}"
        moves = [move for move in tried.set.history() if move.kind is MoveKind.PUBLISH]
        assert [(move.before, move.after) for move in moves] == [(None, 1), (1, 2)]
        assert tried.current.move == moves[-1]
        assert tried.set.published_by(run_id) is not None


def test_two_builders_of_one_candidate_write_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that was given up as timed out goes on beside the one that was started instead."""
    publication, run_id = scene(Format.NDJSON)
    zombie = publication.builder()
    put_stream = publication.store.put_stream

    def other_meanwhile(key: str, pieces: Any) -> None:
        monkeypatch.setattr(publication.store, "put_stream", put_stream)
        publication.finish(run_id)
        put_stream(key, pieces)

    monkeypatch.setattr(publication.store, "put_stream", other_meanwhile)
    assert zombie.build(run_id).version == 2
    assert publication.rows()["x"] == 2
    assert publication.publish(2).version == 2
