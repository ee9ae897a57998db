from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.winnow.publications import DELETED, FAILS, SKIPPED, Publication, numbered
from winnow.core.errors import DamagedDocument, UnpublishableRows
from winnow.publish.documents import Format, Mode
from winnow.publish.operating import Operator
from winnow.publish.published_set import PublishedSet, encoded
from winnow.published import read


@pytest.fixture(params=list(Format))
def publication(request: pytest.FixtureRequest) -> Publication:
    return Publication(form=request.param)


@pytest.fixture
def snapshots(publication: Publication) -> Publication:
    return replace(publication, mode=Mode.REPLACE)


def test_nothing_is_read_before_a_publish(publication: Publication) -> None:
    publication.build(publication.run("01", numbered({"a": 1})))
    assert publication.set.current() == (None, None)


def test_a_published_version_is_read_in_order_of_id(publication: Publication) -> None:
    published = publication.go("01", numbered({"b": 2, "a": 1, "ä": 3}))
    assert (published.version, published.reason, published.again) == (1, None, False)
    assert publication.rows() == {"a": 1, "b": 2, "ä": 3}


def test_replace_publishes_what_the_run_made_and_nothing_else(snapshots: Publication) -> None:
    snapshots.go("01", numbered({"a": 1, "b": 1, "c": 1}))
    snapshots.go("02", numbered({"a": 1, "b": 2, "d": 1}))
    assert snapshots.rows() == {"a": 1, "b": 2, "d": 1}
    counts = snapshots.set.need_manifest(2).counts
    assert (counts.added, counts.changed, counts.unchanged, counts.removed, counts.kept) == (1, 1, 1, 1, 0)


def test_a_failed_record_keeps_its_last_good_version_through_three_runs(publication: Publication) -> None:
    publication.go("01", numbered({"a": 1, "b": 1}))
    publication.go("02", numbered({"a": FAILS, "b": 2}))
    publication.go("03", numbered({"a": FAILS, "b": 3}))
    publication.go("04", numbered({"a": FAILS, "b": 4}))
    assert publication.rows() == {"a": 1, "b": 4}
    publication.go("05", numbered({"a": 5, "b": 5}))
    assert publication.rows() == {"a": 5, "b": 5}


def test_a_skipped_record_never_looks_deleted(publication: Publication) -> None:
    publication.go("01", numbered({"a": 1, "b": 1}))
    publication.go("02", numbered({"a": SKIPPED, "b": 2}))
    assert publication.rows() == {"a": 1, "b": 2}


def test_an_older_run_never_overwrites_a_row_of_a_newer_one(publication: Publication) -> None:
    publication.go("02", numbered({"a": 2, "b": 2}))
    publication.go("01", numbered({"a": 1, "c": 1}))
    assert publication.rows() == {"a": 2, "b": 2, "c": 1}


def test_a_snapshot_of_an_older_run_is_not_published(snapshots: Publication) -> None:
    snapshots.go("02", numbered({"a": 2}))
    published = snapshots.go("01", numbered({"a": 1}))
    assert published.version is None
    assert published.reason is not None
    assert "began at 2026-11-01T00:00:00.000Z, before run run-02" in published.reason
    assert snapshots.rows() == {"a": 2}


def test_a_replay_is_laid_over_a_snapshot(snapshots: Publication) -> None:
    snapshots.go("01", numbered({"a": 1, "b": 1, "c": FAILS}))
    snapshots.go("02", numbered({"c": 2}), replay=True)
    assert snapshots.rows() == {"a": 1, "b": 1, "c": 2}


def test_a_late_replay_does_not_let_an_older_snapshot_overwrite_a_newer_one(snapshots: Publication) -> None:
    snapshots.go("01", numbered({"a": 1, "b": FAILS}))
    snapshots.go("04", numbered({"a": 4, "b": 4}))
    snapshots.go("02", numbered({"b": 2}), replay=True)
    assert snapshots.go("03", numbered({"a": 3, "b": 3})).version is None
    assert snapshots.rows() == {"a": 4, "b": 4}


def test_a_late_replay_does_not_bring_back_what_a_snapshot_deleted(snapshots: Publication) -> None:
    snapshots.go("01", numbered({"a": 1, "b": FAILS}))
    snapshots.go("03", numbered({"a": 3, "b": DELETED}))
    snapshots.go("02", numbered({"b": 2}), replay=True)
    assert snapshots.rows() == {"a": 3}


def test_a_replay_is_no_snapshot_of_its_own(snapshots: Publication) -> None:
    blocked = snapshots.build(snapshots.run("01", numbered({"a": 1, "b": FAILS}))).version
    replay = snapshots.run("02", numbered({"b": 2}), replay=True)
    with pytest.raises(
        UnpublishableRows, match=r"run: it made only some of the records, .* promote that of .*, got: run-02"
    ):
        snapshots.build(replay)
    Operator(snapshots.set, who="ada").promote(blocked, why="the rest is replayed")
    snapshots.finish(replay)
    assert snapshots.rows() == {"a": 1, "b": 2}


def test_a_run_publishes_once(publication: Publication) -> None:
    run_id = publication.run("01", numbered({"a": 1}))
    version = publication.build(run_id).version
    assert publication.publish(version) == publication.publish(version)
    assert publication.build(run_id).version == version
    assert len(list(publication.set.history())) == 1


def test_a_run_that_was_overtaken_after_it_published_does_not_publish_again(publication: Publication) -> None:
    run_id = publication.run("01", numbered({"a": 1}))
    version = publication.build(run_id).version
    publication.publish(version)
    publication.go("02", numbered({"a": 2}))
    again = publication.publish(version)
    assert (again.version, again.again) == (1, False)
    assert publication.build(run_id).version == 1
    assert publication.rows() == {"a": 2}


def test_of_two_runs_at_once_the_second_is_laid_over_the_first(publication: Publication) -> None:
    publication.go("01", numbered({"a": 1}))
    first, second = publication.run("02", numbered({"b": 2})), publication.run("03", numbered({"c": 3}))
    candidates = publication.build(first).version, publication.build(second).version
    assert publication.publish(candidates[0]).version == 2
    assert publication.publish(candidates[1]).again
    assert publication.finish(second).version == 4
    assert publication.rows() == {"a": 1, "b": 2, "c": 3}


def test_of_many_runs_at_once_none_is_lost(publication: Publication) -> None:
    runs = [publication.run(f"{day:02d}", numbered({f"r{day}": day})) for day in range(1, 7)]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(publication.finish, runs))
    assert all(each.version is not None for each in done)
    assert publication.rows() == {f"r{day}": day for day in range(1, 7)}
    moves = list(publication.set.history())
    assert len(moves) == 6
    assert sorted(move.before or 0 for move in moves) == [0, *sorted(move.after or 0 for move in moves)[:-1]]


def test_no_run_moves_the_pointer_while_it_is_held(publication: Publication) -> None:
    publication.go("01", numbered({"a": 1}))
    move = Operator(publication.set, who="ada").hold(why="an audit")
    published = publication.go("02", numbered({"a": 2}))
    assert published.version is None
    assert published.reason == f"held by ada since {move.at}: an audit"
    assert publication.rows() == {"a": 1}


def test_a_reader_sees_one_version_whole_while_others_publish(publication: Publication) -> None:
    publication.go("01", numbered({"a": 1, "b": 1}))
    rows = read("works", bucket=publication.store)
    assert next(rows)["n"] == 1
    publication.go("02", numbered({"a": 2, "b": 2}))
    assert next(rows)["n"] == 1


def test_the_history_tells_who_moved_the_pointer_and_why(publication: Publication) -> None:
    publication.go("01", numbered({"a": 1}))
    publication.go("02", numbered({"a": 2}))
    moves = [(move.kind, move.before, move.after, move.who, move.why) for move in publication.set.history()]
    assert moves == [
        ("publish", None, 1, "pipeline catalogue", "run run-01"),
        ("publish", 1, 2, "pipeline catalogue", "run run-02"),
    ]


def test_a_move_whose_mover_died_is_written_down_by_the_next(publication: Publication) -> None:
    publication.go("01", numbered({"a": 1}))
    for key in [*publication.store.keys(publication.set.keys.history)]:
        publication.store.delete(key)
    publication.store.delete(publication.set.keys.run("run-01"))
    publication.go("02", numbered({"a": 2}))
    assert [move.after for move in publication.set.history()] == [1, 2]
    assert publication.set.published_by("run-01") is not None


def test_a_run_that_died_after_its_move_is_not_built_again(publication: Publication) -> None:
    publication.go("01", numbered({"a": 1}))
    publication.store.delete(publication.set.keys.run("run-01"))
    assert publication.build("run-01").version == 1
    assert publication.set.versions() == [1]


def test_building_writes_to_its_version_only(publication: Publication) -> None:
    """Its Lambda may write nothing else."""
    publication.go("01", numbered({"a": 1}))
    publication.store.delete(publication.set.keys.run("run-01"))
    run_id = publication.run("02", numbered({"a": 2}))
    before = set(publication.store.objects)
    publication.build(run_id)
    written = {key for _, key in set(publication.store.objects) - before}
    assert written
    assert all(key.startswith(publication.set.keys.version(2).prefix) for key in written)


def test_a_publish_that_died_after_its_move_finds_that_it_moved(publication: Publication) -> None:
    publication.go("01", numbered({"a": 1}))
    for key in (*publication.store.keys(publication.set.keys.history), publication.set.keys.run("run-01")):
        publication.store.delete(key)
    done = publication.publish(1)
    assert (done.version, done.reason, done.again) == (1, None, False)
    assert [move.after for move in publication.set.history()] == [1]


def test_a_step_that_is_repeated_while_it_still_runs_sees_that_it_moved(
    publication: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publication.build(publication.run("01", numbered({"a": 1}))).version
    hidden = iter([(None, None)])
    current = PublishedSet.current

    def late(published: PublishedSet) -> Any:
        """The pointer as it was before the other invocation moved it."""
        return next(hidden, None) or current(published)

    publication.publish(version)
    monkeypatch.setattr(PublishedSet, "current", late)

    done = publication.publish(version)

    assert (done.version, done.reason, done.again) == (version, None, False)


@pytest.mark.parametrize("field", ["version", "files", "move", "run_began"])
def test_a_damaged_pointer_names_its_field(field: str) -> None:
    publication = Publication()
    publication.go("01", numbered({"a": 1}))
    document: dict[str, Any] = publication.current.to_json()
    document[field] = True
    publication.store.put(publication.set.keys.current, encoded(document))
    with pytest.raises(DamagedDocument, match=rf"published/works/current\.json is damaged: `{field}`"):
        publication.set.current()
