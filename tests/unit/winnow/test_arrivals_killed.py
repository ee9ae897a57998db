"""A Lambda that dies at any call while it gathers or closes: nothing is lost and nothing runs twice."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.unit.winnow.arrivals import (
    LAMBDA_SECONDS,
    NOW,
    VISIBILITY_SECONDS,
    WINDOW_SECONDS,
    Arrivals,
    Killed,
    Killer,
    OneAfterTheOther,
    created,
)
from winnow.runs import gathering, window_closer
from winnow.runs.object_events import objects_created
from winnow.runs.window_closer import LEASE_MARGIN_SECONDS
from winnow.storage import arrival_windows
from winnow.storage.state_table import Claim
from winnow.storage.upload_claims import Upload

if TYPE_CHECKING:
    from collections.abc import Callable

    Story = Callable[[Arrivals], dict[str, int]]

MOST_CALLS = 60
UPLOAD_RUN = "01KB0A1V0000000000000000ZZ"
OTHER_RUN = "01KB0A1V0000000000000000YY"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_closer, "ThreadPoolExecutor", OneAfterTheOther)


def claim_for_another(arrivals: Arrivals, key: str, *, lease_seconds: float) -> None:
    (event,) = objects_created(created(key))
    arrivals.state.claim(event.event_id, Claim(run_id=OTHER_RUN, lease_until=NOW + lease_seconds))


def upload(arrivals: Arrivals, key: str) -> None:
    arrivals.uploads.hold(UPLOAD_RUN, until=NOW + 3600)
    arrivals.uploads.claim(Upload("source", key, "e1"), UPLOAD_RUN)


def start_upload_run(arrivals: Arrivals, *keys: str) -> None:
    arrivals.store.put("its list", "".join(f'{{"id": "{key}"}}\n' for key in keys).encode())
    arrivals.executions.start(UPLOAD_RUN, {"records": {"key": "its list"}})


def first_arrivals(arrivals: Arrivals) -> dict[str, int]:
    again(arrivals, "tei/a.xml", "tei/b.xml")
    return {"tei/a.xml": 1, "tei/b.xml": 1}


def arrivals_after_a_closed_window(arrivals: Arrivals) -> dict[str, int]:
    again(arrivals, "tei/a.xml")
    arrivals.settle()
    again(arrivals, "tei/a.xml", "tei/b.xml")
    return {"tei/a.xml": 1, "tei/b.xml": 1}


def more_than_a_window_takes(arrivals: Arrivals) -> dict[str, int]:
    keys = [f"tei/{number}.xml" for number in range(7)]
    again(arrivals, *keys)
    return dict.fromkeys(keys, 1)


def some_are_others(arrivals: Arrivals) -> dict[str, int]:
    """One is another run's, one may be about to be, one's lease is over before the window's end, one's uploader is at work."""
    claim_for_another(arrivals, "tei/gone.xml", lease_seconds=1)
    claim_for_another(arrivals, "tei/busy.xml", lease_seconds=2 * WINDOW_SECONDS)
    upload(arrivals, "tei/uploaded.xml")
    again(arrivals, "tei/a.xml", "tei/gone.xml", "tei/busy.xml", "tei/uploaded.xml")
    arrivals.wait()
    start_upload_run(arrivals, "tei/uploaded.xml")
    return dict.fromkeys(["tei/a.xml", "tei/gone.xml", "tei/busy.xml", "tei/uploaded.xml"], 1)


def an_upload_that_is_given_up(arrivals: Arrivals) -> dict[str, int]:
    upload(arrivals, "tei/uploaded.xml")
    again(arrivals, "tei/uploaded.xml", "tei/a.xml")
    arrivals.wait()
    arrivals.uploads.give_up(UPLOAD_RUN)
    return {"tei/uploaded.xml": 1, "tei/a.xml": 1}


def a_late_duplicate_while_the_window_is_closed(arrivals: Arrivals) -> dict[str, int]:
    again(arrivals, "tei/a.xml", "tei/b.xml")
    arrivals.wait()
    again(arrivals, "tei/b.xml", "tei/c.xml")
    arrivals.clock.now += LAMBDA_SECONDS + LEASE_MARGIN_SECONDS + 1
    return {"tei/a.xml": 1, "tei/b.xml": 1, "tei/c.xml": 1}


def again(arrivals: Arrivals, *keys: str) -> None:
    """Deliver messages, and again after a while where the Lambda died."""
    try:
        assert arrivals.deliver(*map(created, keys)) == []
    except Killed:
        current = arrivals.windows.current()
        assert current is None or current.run_id in {run_id for _, run_id in arrivals.queue.waiting} | set(
            arrivals.executions.started
        ), "a window that can be found and that nothing is going to close"
        arrivals.clock.now += VISIBILITY_SECONDS
        assert arrivals.deliver(*map(created, keys)) == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "story",
    [
        first_arrivals,
        arrivals_after_a_closed_window,
        more_than_a_window_takes,
        some_are_others,
        an_upload_that_is_given_up,
        a_late_duplicate_while_the_window_is_closed,
    ],
)
def test_wherever_it_dies(story: Story, after: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    for module in (arrival_windows, gathering):
        monkeypatch.setattr(module, "MAX_OBJECTS", 5)
    monkeypatch.setattr(gathering, "CHUNK_OBJECTS", 2)
    killed_at: set[str] = set()
    for at in range(1, MOST_CALLS):
        killer = Killer(at=at, after=after)
        arrivals = Arrivals(around=killer)
        expected = story(arrivals)
        arrivals.settle()
        if killer.killed_at is None:
            break
        killed_at.add(killer.killed_at)
        assert arrivals.times_run() == expected, f"killed {'after' if after else 'before'} {killer.killed_at}"
    else:
        raise AssertionError(f"it makes more than {MOST_CALLS} calls")
    assert {"put", "add", "send", "make_current", "close", "claim", "start", "finish"} <= killed_at


def test_one_run_of_a_window_whose_closer_dies_over_and_over() -> None:
    arrivals = Arrivals()
    arrivals.deliver(created("tei/a.xml"), created("tei/b.xml"))
    ((_, run_id),) = arrivals.queue.waiting
    arrivals.queue.waiting.clear()
    for at in range(1, MOST_CALLS):
        killer = Killer(at=at, after=at % 2 == 0)
        arrivals.around = killer
        with suppress(Killed):
            arrivals.close(run_id)
        arrivals.clock.now += VISIBILITY_SECONDS
        if killer.killed_at is None:
            break
    assert arrivals.found == [["tei/a.xml", "tei/b.xml"]]
    assert arrivals.queue.waiting == []
