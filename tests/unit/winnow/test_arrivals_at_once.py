"""Lambdas that gather and close at the same moment, in any order of their calls: each object is in exactly one run."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from tests.unit.winnow.arrivals import (
    VISIBILITY_SECONDS,
    Arrivals,
    OneAfterTheOther,
    created,
    state_table,
)
from winnow.runs import gathering, window_closer
from winnow.storage import arrival_windows
from winnow.storage.arrival_windows import WindowIsBeingClosed
from winnow.storage.upload_claims import Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

GATHERERS = 8
BATCHES = 6
UPLOAD_RUN = "01KB0A1V0000000000000000ZZ"


@contextmanager
def one_thread_each() -> Iterator[None]:
    """A closer's calls come from the thread that it runs in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_closer, "ThreadPoolExecutor", OneAfterTheOther)
        yield


class Turns:
    """Threads of which one runs at a time, from one call to the next; who is next is drawn."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self._choose = choose
        self._mine: dict[int, threading.Event] = {}
        self._back = threading.Event()

    def __call__(self, _name: str, call: Callable[[], Any]) -> Any:
        me = threading.get_ident()
        if me in self._mine:  # the test itself waits for nobody
            self._back.set()
            self._mine[me].wait()
            self._mine[me].clear()
        return call()

    def run(self, tasks: Sequence[Callable[[], object]]) -> None:
        failed: list[BaseException] = []
        alive: list[threading.Thread] = []

        def guarded(task: Callable[[], object]) -> None:
            self._mine[threading.get_ident()] = mine = threading.Event()
            self._back.set()
            mine.wait()
            mine.clear()
            try:
                task()
            except BaseException as error:  # noqa: BLE001  told in the test's own thread
                failed.append(error)
            finally:
                del self._mine[threading.get_ident()]
                self._back.set()

        for task in tasks:
            self._back.clear()
            alive.append(threading.Thread(target=guarded, args=(task,)))
            alive[-1].start()
            self._back.wait()
        while alive:
            chosen = alive[self._choose(len(alive))]
            self._back.clear()
            assert chosen.ident is not None
            self._mine[chosen.ident].set()
            self._back.wait()
            if chosen.ident not in self._mine:
                chosen.join()
                alive.remove(chosen)
        if failed:
            raise failed[0]


def close_if_free(arrivals: Arrivals, run_id: str) -> None:
    try:
        arrivals.close(run_id)
    except WindowIsBeingClosed:
        arrivals.queue.waiting.append((arrivals.clock() + VISIBILITY_SECONDS, run_id))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    deliveries=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=6),
    closers=st.integers(0, 3),
    uploads=st.sets(st.integers(0, 9), max_size=3),
)
def test_whatever_the_order_of_their_calls_each_object_is_in_one_run(
    seed: int, deliveries: list[list[int]], closers: int, uploads: set[int]
) -> None:
    """Gatherers bring objects, some more than once, while closers close a window and `winnow run` starts a run of its own."""
    turns = Turns(random.Random(seed).randrange)
    arrivals = Arrivals(around=turns)
    uploaded = [f"tei/{number}.xml" for number in sorted(uploads)]
    arrivals.uploads.hold(UPLOAD_RUN, until=arrivals.clock() + 3600)
    for key in uploaded:
        arrivals.uploads.claim(Upload("source", key, "e1"), UPLOAD_RUN)
    arrivals.store.put("its list", "".join(f'{{"id": "{key}"}}\n' for key in uploaded).encode())

    def start_upload_run() -> None:
        turns("start", lambda: arrivals.executions.start(UPLOAD_RUN, {"records": {"key": "its list"}}))

    with one_thread_each():
        arrivals.deliver(created("tei/first.xml"))
        ((_, first),) = arrivals.queue.waiting
        batches = [[created(f"tei/{number}.xml") for number in numbers] for numbers in deliveries]
        turns.run(
            [
                *(partial(arrivals.deliver, *batch) for batch in batches),
                *(partial(close_if_free, arrivals, first) for _ in range(closers)),
                start_upload_run,
            ]
        )
        arrivals.settle()
    arrived = {"tei/first.xml", *(f"tei/{number}.xml" for numbers in deliveries for number in numbers)}
    assert arrivals.times_run() == dict.fromkeys(arrived | set(uploaded), 1)
    if not closers:
        assert len(arrivals.runs) == 2


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), gatherers=st.integers(2, 5), is_first=st.booleans())
def test_gatherers_that_open_a_window_at_once_share_it(seed: int, gatherers: int, is_first: bool) -> None:  # noqa: FBT001
    turns = Turns(random.Random(seed).randrange)
    arrivals = Arrivals(around=turns)
    if not is_first:
        arrivals.deliver(created("tei/before.xml"))
        arrivals.settle()
        arrivals.executions.started.clear()
    keys = [f"tei/{number}.xml" for number in range(gatherers)]
    with one_thread_each():
        turns.run([partial(arrivals.deliver, created(key)) for key in keys])
        arrivals.settle()
    assert [sorted(ids) for ids in arrivals.found] == [keys]


@pytest.mark.parametrize("kind", ["memory", "dynamodb"])
def test_eight_gatherers_at_once_fill_one_window(kind: str) -> None:
    with mock_aws():
        arrivals = Arrivals(dynamodb=state_table() if kind == "dynamodb" else None)
        deliver_all(arrivals)
        arrivals.settle()
        assert len(arrivals.runs) == 1
        assert arrivals.times_run() == dict.fromkeys(KEYS, 1)


@pytest.mark.parametrize("kind", ["memory", "dynamodb"])
def test_closing_while_eight_gather_loses_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of three objects, so that most chunks come when one is being closed."""
    for module in (arrival_windows, gathering):
        monkeypatch.setattr(module, "MAX_OBJECTS", 3)
    with mock_aws():
        arrivals = Arrivals(dynamodb=state_table() if kind == "dynamodb" else None)
        with ThreadPoolExecutor(2) as pool:
            gathering_all = pool.submit(deliver_all, arrivals)
            while not gathering_all.done():
                arrivals.wait(0)
            gathering_all.result()
        arrivals.settle()
        assert arrivals.times_run() == dict.fromkeys(KEYS, 1)
        assert len(arrivals.runs) > 1


KEYS = [f"tei/{gatherer}/{batch}.xml" for gatherer in range(GATHERERS) for batch in range(BATCHES)]


def deliver_all(arrivals: Arrivals) -> None:
    """Each gatherer brings its own objects and one of its neighbour's, in batches."""

    def gather(gatherer: int) -> None:
        for batch in range(BATCHES):
            neighbour = (gatherer + 1) % GATHERERS
            bodies = [created(f"tei/{who}/{batch}.xml") for who in (gatherer, neighbour)]
            assert arrivals.deliver(*bodies) == []

    with ThreadPoolExecutor(GATHERERS) as pool:
        list(pool.map(gather, range(GATHERERS)))
