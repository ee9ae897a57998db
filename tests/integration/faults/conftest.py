"""One deployment and one pool of runs for all fault tests.

A test says which run it is about, `@about(a_run)`. All runs that the session's tests are about are driven at the same
time from the first of them on, since most of what they do is wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from tests.integration.faults.lab import Lab, Run

DRIVERS = 10
"""Runs under way at once; more would only make each slower on a small machine."""


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab.open(tmp_path_factory.mktemp("faults"), stack)


@pytest.fixture(scope="session")
def driven(lab: Lab, request: pytest.FixtureRequest) -> Iterator[dict[Callable[[Lab], Run], Future[Run]]]:
    wanted: dict[Callable[[Lab], Run], None] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and "driven" in item.fixturenames:
            drive: Any = item.callspec.params["run"]
            wanted[drive] = None
    with ThreadPoolExecutor(DRIVERS) as pool:
        longest_first = sorted(wanted, key=lambda drive: not hasattr(drive, "takes_long"))
        yield {drive: pool.submit(drive, lab) for drive in longest_first}
        lab.closed.set()
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def run(driven: dict[Callable[[Lab], Run], Future[Run]], request: pytest.FixtureRequest) -> Run:
    return driven[request.param].result()
