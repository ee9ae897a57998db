from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.unit.winnow.publications import FAILS, Publication, numbered
from winnow.core.errors import DamagedDocument, PublishRefused
from winnow.publish.difference import differences
from winnow.publish.documents import Format
from winnow.publish.operating import Operator, State
from winnow.publish.published_set import PublishedSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from winnow.testing.memory_store import MemoryStore


@pytest.fixture
def publication() -> Publication:
    return three_versions()


def three_versions() -> Publication:
    """In which `a` is 1, 2, 3."""
    made = Publication()
    for number in (1, 2, 3):
        made.go(f"0{number}", numbered({"a": number, "b": 1}))
    return made


def operator(publication: Publication) -> Operator:
    return Operator(publication.set, who="ada")


def age(publication: Publication) -> None:
    """Make all claims older than a day."""
    for version in publication.set.versions():
        key = publication.set.keys.version(version).claim
        claim = json.loads(publication.store.get(key).body)
        publication.store.put(key, json.dumps({**claim, "claimed_at": "2026-11-01T00:00:00.000Z"}).encode())


def test_a_rollback_brings_back_the_version_before(publication: Publication) -> None:
    move = operator(publication).rollback(why="bad titles")
    assert (move.before, move.after, move.who, move.why) == (3, 2, "ada", "bad titles")
    assert publication.rows() == {"a": 2, "b": 1}
    assert [each.kind for each in publication.set.history()][-1] == "rollback"


def test_a_second_rollback_goes_back_further(publication: Publication) -> None:
    operator(publication).rollback(why="bad titles")
    operator(publication).rollback(why="bad, too")
    assert publication.rows() == {"a": 1, "b": 1}
    with pytest.raises(PublishRefused, match="none was current before; promote another, got: 1 of works"):
        operator(publication).rollback(why="more")


def test_a_run_that_publishes_during_a_rollback_is_laid_over_what_was_brought_back(
    publication: Publication,
) -> None:
    run_id = publication.run("04", numbered({"b": 4}))
    candidate = publication.build(run_id).version
    operator(publication).rollback(why="bad titles")
    assert publication.publish(candidate).again
    assert publication.finish(run_id).version == 5
    assert publication.rows() == {"a": 2, "b": 4}


def test_a_rolled_back_run_does_not_publish_again(publication: Publication) -> None:
    operator(publication).rollback(why="bad titles")
    assert publication.build("run-03").version == 3
    assert (
        publication.publish(3).reason == "run run-03 published version 3 before; version 2 is current since"
    )
    assert publication.rows() == {"a": 2, "b": 1}


def test_a_candidate_that_a_gate_stopped_can_be_promoted(publication: Publication) -> None:
    candidate = publication.build(publication.run("04", numbered({"a": 4}))).version
    operator(publication).promote(candidate, why="the rule is wrong")
    assert publication.rows() == {"a": 4, "b": 1}
    with pytest.raises(PublishRefused, match="it is current already, got: 4"):
        operator(publication).promote(candidate, why="again")
    assert publication.publish(candidate).version == candidate


def test_a_damaged_pointer_is_written_anew_by_a_promotion(publication: Publication) -> None:
    publication.store.put(publication.set.keys.current, b"{")
    run_id = publication.run("04", numbered({"a": 4}))
    for act in (lambda: publication.build(run_id), lambda: publication.publish(3)):
        with pytest.raises(DamagedDocument, match=r"current\.json is damaged: .*; promote a version, which"):
            act()
    move = operator(publication).promote(2, why="the pointer is damaged")
    assert (move.before, move.after) == (None, 2)
    assert publication.rows() == {"a": 2, "b": 1}
    publication.finish(run_id)
    assert publication.rows() == {"a": 4, "b": 1}


def test_what_is_no_version_is_not_promoted(publication: Publication) -> None:
    with pytest.raises(
        PublishRefused, match="no whole version of that number; see the list of versions, got: 9"
    ):
        operator(publication).promote(9, why="?")


def test_a_reason_has_to_be_given(publication: Publication) -> None:
    acting = operator(publication)
    for act in (acting.rollback, acting.hold, acting.release):
        with pytest.raises(PublishRefused, match="reason: it is missing; say why, for the history, got: ' '"):
            act(why=" ")


def test_a_dry_run_changes_nothing(publication: Publication) -> None:
    age(publication)
    before = dict(publication.store.objects)
    acting = operator(publication)
    assert acting.rollback(why="try", dry_run=True).after == 2
    assert acting.promote(1, why="try", dry_run=True).after == 1
    acting.hold(why="try", dry_run=True)
    assert acting.prune(1, why="try", dry_run=True).delete == (1,)
    assert publication.store.objects == before


def test_a_hold_lets_people_move_the_pointer_and_no_run(publication: Publication) -> None:
    operator(publication).hold(why="an audit")
    with pytest.raises(
        PublishRefused, match=r"it is held already \(held by ada since .*: an audit\); release it first"
    ):
        operator(publication).hold(why="mine")
    run_id = publication.run("04", numbered({"a": 4}))
    assert publication.finish(run_id).version is None
    operator(publication).rollback(why="bad titles")
    assert publication.rows() == {"a": 2, "b": 1}
    operator(publication).release(why="done")
    assert publication.finish(run_id).version is not None
    with pytest.raises(PublishRefused, match="it is not held"):
        operator(publication).release(why="done")
    kinds = [move.kind.value for move in publication.set.history()]
    assert kinds == ["publish", "publish", "publish", "hold", "rollback", "release", "publish"]


def test_a_hold_whose_holder_died_is_in_the_history_when_it_is_released(publication: Publication) -> None:
    move = operator(publication).hold(why="an audit")
    publication.store.delete(publication.set.keys.move(move.at, move.token, move.kind))
    operator(publication).release(why="done")
    assert [each.kind.value for each in publication.set.history()][-2:] == ["hold", "release"]


def test_pruning_keeps_what_something_points_at(publication: Publication) -> None:
    for number in (4, 5):
        publication.go(f"0{number}", numbered({"a": number}))
    age(publication)
    operator(publication).promote(2, why="a test")  # 2 is current; a rollback leads to 5
    pruned = operator(publication).prune(1, why="space")
    assert pruned.delete == (1, 3, 4)
    assert pruned.keep == {2: "current", 5: "it was current before"}
    assert publication.rows() == {"a": 2, "b": 1}
    operator(publication).rollback(why="back")
    assert publication.rows() == {"a": 5, "b": 1}
    listed = operator(publication).versions()
    assert [(each.version, each.state) for each in listed] == [(2, State.WHOLE), (5, State.CURRENT)]
    pruned_one = operator(publication).version(3)
    assert pruned_one is not None
    assert (pruned_one.state, pruned_one.claim.run_id) == (State.PRUNED, "run-03")
    assert operator(publication).version(9) is None


def test_pruning_goes_on_where_it_was_killed(publication: Publication) -> None:
    age(publication)
    keys = publication.set.keys.version(1)
    publication.store.put(keys.pruning, b"{}")
    publication.store.delete(keys.manifest)
    [listed, *_] = operator(publication).versions()
    assert (listed.version, listed.state) == (1, State.UNFINISHED)
    assert operator(publication).prune(1, why="space").delete == (1,)
    assert set(publication.store.keys(keys.prefix)) == {keys.claim, keys.pruning}


def test_pruning_spares_what_a_run_may_still_be_building(publication: Publication) -> None:
    age(publication)
    candidate = publication.build(publication.run("04", numbered({"a": 4}))).version
    kept = operator(publication).prune(1, why="space").keep
    assert kept[candidate] == "run run-04 began it less than a day ago"
    assert publication.publish(candidate).version == candidate


def test_pruning_spares_the_version_that_was_held(publication: Publication) -> None:
    age(publication)
    acting = operator(publication)
    acting.rollback(why="bad titles")
    acting.hold(why="an audit")
    acting.promote(1, why="to compare")
    acting.promote(3, why="to compare")
    assert acting.prune(1, why="space").delete == ()
    acting.release(why="done")
    assert acting.prune(1, why="space").delete == (2,)


def test_pruning_deletes_what_a_dead_builder_left_and_its_number_is_not_used_again(
    publication: Publication,
) -> None:
    candidate = publication.build(publication.run("04", numbered({"a": 4}))).version
    publication.store.delete(publication.set.keys.version(candidate).manifest)
    age(publication)
    assert candidate in operator(publication).prune(3, why="space").delete
    assert publication.go("05", numbered({"a": 5})).version == candidate + 1


def test_a_run_whose_candidate_was_pruned_builds_another(publication: Publication) -> None:
    run_id = publication.run("04", numbered({"a": 4}))
    candidate = publication.build(run_id).version
    age(publication)
    publication.store.delete(publication.set.keys.version(candidate).manifest)
    assert candidate in operator(publication).prune(3, why="space").delete
    assert publication.finish(run_id).version == candidate + 1
    assert publication.rows() == {"a": 4, "b": 1}


def test_a_version_that_is_being_pruned_does_not_become_current(publication: Publication) -> None:
    publication.store.put(publication.set.keys.version(1).pruning, b"{}")
    with pytest.raises(PublishRefused, match="it is being pruned; choose another, got: 1"):
        operator(publication).promote(1, why="?")
    assert publication.rows() == {"a": 3, "b": 1}


NEVER = -1


class Killed(Exception):
    """The process ended here."""


class Interrupted:
    """A store in which something else happens before one of its calls, and whose caller may be killed once it has swapped."""

    def __init__(
        self, store: MemoryStore, *, before: int, happens: Callable[[], object], killed: bool
    ) -> None:
        self._store, self._before, self._happens, self._killed = store, before, happens, killed
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._store, name)
        if not callable(member):
            return member

        def call(*arguments: Any, **options: Any) -> Any:
            if self.calls == self._before:
                self._happens()
            self.calls += 1
            answer = member(*arguments, **options)
            if self._killed and name == "swap":
                raise Killed
            return answer

        return call


@pytest.mark.parametrize("killed", [False, True], ids=["lives", "is killed after its move"])
def test_no_version_that_is_pruned_becomes_current_whenever_the_two_meet(*, killed: bool) -> None:
    """Versions are pruned before each call that a promotion makes."""

    def promote(before: int) -> tuple[Publication, int]:
        publication = three_versions()
        age(publication)
        prune = partial(operator(publication).prune, 1, why="space")
        store = Interrupted(publication.store, before=before, happens=prune, killed=killed)
        with suppress(PublishRefused, Killed):
            Operator(PublishedSet(cast("Any", store), "works"), who="bob").promote(1, why="now")
        return publication, store.calls

    _, calls = promote(NEVER)
    current = set()
    for moment in range(calls):
        publication, _ = promote(moment)
        pointer, _ = publication.set.current()
        assert pointer is not None
        manifest = publication.set.need_manifest(pointer.version)
        assert [publication.store.get(file.key) for file in (*manifest.files, *manifest.origins)]
        current.add(pointer.version)
    assert current == ({3} if killed else {1, 3})


def test_what_looked_at_the_pointer_before_versions_were_pruned_does_not_move_it(
    publication: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = publication.store.swap
    age(publication)

    def prune_meanwhile(key: str, body: bytes, *, if_match: str | None) -> None:
        monkeypatch.setattr(publication.store, "swap", swap)
        assert operator(publication).prune(1, why="space").delete == (1,)
        swap(key, body, if_match=if_match)

    monkeypatch.setattr(publication.store, "swap", prune_meanwhile)
    with pytest.raises(PublishRefused, match="are being pruned at this moment; do it again, got: 1"):
        operator(publication).promote(1, why="?")
    assert publication.rows() == {"a": 3, "b": 1}


def test_nothing_is_pruned_before_something_was_published() -> None:
    publication = Publication()
    candidate = publication.build(publication.run("01", numbered({"a": 1}))).version
    age(publication)
    pruning = operator(publication).prune(1, why="space")
    assert (pruning.delete, pruning.keep[candidate]) == ((), "nothing was published yet")
    assert publication.set.manifest(candidate)


def test_pruning_spares_a_version_that_becomes_current_meanwhile(
    publication: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(publication)
    put = publication.store.put

    def promote_meanwhile(key: str, body: bytes, *, if_absent: bool = False) -> None:
        if key == publication.set.keys.version(1).pruning:
            monkeypatch.setattr(publication.store, "put", put)
            operator(publication).promote(1, why="now")
        put(key, body, if_absent=if_absent)

    monkeypatch.setattr(publication.store, "put", promote_meanwhile)
    assert operator(publication).prune(1, why="space").delete == ()
    assert publication.rows() == {"a": 1, "b": 1}
    operator(publication).promote(3, why="back")


def test_a_move_between_looking_and_acting_is_told(
    publication: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = publication.store.swap

    def publish_meanwhile(key: str, body: bytes, *, if_match: str | None) -> None:
        monkeypatch.setattr(publication.store, "swap", swap)
        publication.go("04", numbered({"a": 4}))
        swap(key, body, if_match=if_match)

    monkeypatch.setattr(publication.store, "swap", publish_meanwhile)
    with pytest.raises(PublishRefused, match=r"another moved works meanwhile; .* got: 4 instead of 3"):
        operator(publication).rollback(why="bad titles")
    assert publication.rows() == {"a": 4, "b": 1}


@pytest.mark.parametrize("form", list(Format))
def test_a_difference_names_what_was_added_removed_and_changed(form: Format) -> None:
    publication = Publication(form=form)
    publication.go("01", numbered({"a": 1, "b": 1, "c": 1}))
    publication.go("02", numbered({"a": 1, "b": 2, "d": 1, "c": FAILS}))
    found = [(each.id, each.kind.value) for each in differences(publication.set, 1, 2)]
    assert found == [("b", "changed"), ("d", "added")]
    assert [(each.id, each.kind.value) for each in differences(publication.set, 2, 1)] == [
        ("b", "changed"),
        ("d", "removed"),
    ]
