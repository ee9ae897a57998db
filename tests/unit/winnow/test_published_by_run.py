"""What the run closer says of publishing: what a run published, or why not, and how old what is published is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.winnow.runs import RUN_ID
from tests.unit.winnow.test_close import LOSSY, World, ended
from winnow.metrics.watch import Metric
from winnow.publish.documents import Counts, Format, Manifest, Mode, MoveKind, VersionClaim
from winnow.publish.published_set import PublishedSet, new_move
from winnow.runs.closer import CloseRunIncomplete
from winnow.runs.published_by_run import age_of_published, published_by
from winnow.testing import MemoryStore

BEGAN = "2026-11-28T02:00:00+00:00"
COUNTS = Counts(added=12, changed=3, unchanged=0, removed=1, kept=85)


def works() -> PublishedSet:
    return PublishedSet(MemoryStore("published"), "works")


def version(number: int, run_id: str, *, began: str = BEGAN) -> Manifest:
    return Manifest(
        publication="works",
        version=number,
        format=Format.NDJSON,
        files=(),
        origins=(),
        rows=100,
        schema=None,
        run_id=run_id,
        run_began=began,
        base=number - 1 or None,
        mode=Mode.MERGE,
        counts=COUNTS,
        created_at=began,
    )


def build(published: PublishedSet, made: Manifest) -> None:
    claim = VersionClaim(run_id=made.run_id, attempt=0, base=made.base, claimed_at=made.created_at)
    published.take(made.version, claim)
    published.write_once(published.keys.version(made.version).manifest, made.to_json())


def publish(published: PublishedSet, made: Manifest) -> None:
    build(published, made)
    current, etag = published.current()
    before = current.version if current else None
    move = new_move(MoveKind.PUBLISH, before=before, after=made.version, who="pipeline", why="run")
    published.point_to(made, move, etag=etag)


def output(**published: Any) -> str:
    return json.dumps({"run_id": RUN_ID, "lost": 0, "published": published})


def test_a_run_that_published_says_which_version_and_how_it_differs() -> None:
    published = works()
    publish(published, version(1, "an-earlier-run"))
    publish(published, version(2, RUN_ID))
    world = World(LOSSY, published=published)

    world.close()

    assert world.report["published"] == {
        "publication": "works",
        "version": 2,
        "counts": COUNTS.to_json(),
        "reason": None,
        "current": 2,
    }
    assert (world.counted(Metric.RUN_PUBLISHED), world.counted(Metric.RUN_NOT_PUBLISHED)) == (1, 0)


def test_what_a_run_published_is_known_where_publish_died_before_it_could_say_so() -> None:
    published = works()
    publish(published, version(1, RUN_ID))
    store = published.store
    assert isinstance(store, MemoryStore)
    del store.objects[store.bucket, published.keys.run(RUN_ID)]
    world = World(LOSSY, published=published)

    world.close("FAILED", error="Lambda.Unknown")

    assert world.report["published"]["version"] == 1


def test_a_run_that_succeeded_and_did_not_publish_says_why() -> None:
    published = works()
    publish(published, version(1, "an-earlier-run"))
    build(published, version(2, RUN_ID))
    world = World(LOSSY, published=published)

    world.close(output=output(version=None, reason="held by curator since noon: re-indexing", again=False))

    said = world.report["published"]
    assert (said["version"], said["current"]) == (None, 1)
    assert said["reason"] == "held by curator since noon: re-indexing"
    assert (world.counted(Metric.RUN_PUBLISHED), world.counted(Metric.RUN_NOT_PUBLISHED)) == (0, 1)


def test_a_run_that_the_gate_stopped_says_so() -> None:
    world = World(LOSSY, published=works())
    cause = json.dumps({"errorType": "QualityGateFailed", "errorMessage": "nulls in title: 3 of 4"})

    world.close("FAILED", error="QualityGateFailed", cause=cause)

    said = world.report["published"]
    assert (said["version"], said["current"]) == (None, None)
    assert said["reason"] == "QualityGateFailed: nulls in title: 3 of 4"


@pytest.mark.parametrize(
    ("status", "reason"),
    [("SUCCEEDED", "its machine did not say why"), ("ABORTED", "ABORTED")],
)
def test_a_run_of_which_nothing_is_said_has_a_reason_all_the_same(status: str, reason: str) -> None:
    world = World(LOSSY, published=works())

    world.close(status)

    assert world.report["published"]["reason"] == reason


def test_a_run_that_stepped_aside_says_for_whom() -> None:
    said = published_by(works(), RUN_ID, ended(output=json.dumps({"reason": "run R0 is still running"})))

    assert said.reason == "run R0 is still running"


def test_is_counted_once_however_often_the_run_is_closed() -> None:
    published = works()
    publish(published, version(1, RUN_ID))
    world = World(LOSSY, published=published)

    world.close()
    world.close()

    assert world.counted(Metric.RUN_PUBLISHED) == 1


def test_a_pipeline_that_publishes_nothing_says_nothing() -> None:
    world = World(LOSSY)

    world.close()

    assert world.report["published"] is None
    assert (world.counted(Metric.RUN_PUBLISHED), world.counted(Metric.RUN_NOT_PUBLISHED)) == (0, 0)


def test_a_pointer_that_cannot_be_read_keeps_no_run_from_being_proved() -> None:
    published = works()
    published.store.put(published.keys.current, b"{")
    world = World(LOSSY, published=published)

    with pytest.raises(CloseRunIncomplete, match=r"find what was published: .*current\.json is damaged"):
        world.close()

    assert world.report["proof"]["holds"] is True
    assert world.report["published"] is None


# Age


def test_age_is_that_of_the_data_also_after_a_rollback() -> None:
    published = works()
    monday, tuesday = "2026-11-23T02:00:00+00:00", "2026-11-24T02:00:00+00:00"
    first = version(1, "monday", began=monday)
    publish(published, first)
    publish(published, version(2, "tuesday", began=tuesday))
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert age_of_published(published, noon) == timedelta(hours=10).total_seconds()

    _, etag = published.current()
    back = new_move(MoveKind.ROLLBACK, before=2, after=1, who="curator", why="wrong titles")
    published.point_to(first, back, etag=etag)

    assert age_of_published(published, noon) == timedelta(hours=34).total_seconds()


def test_nothing_published_has_no_age() -> None:
    assert age_of_published(works(), datetime(2026, 11, 24, tzinfo=UTC)) is None
