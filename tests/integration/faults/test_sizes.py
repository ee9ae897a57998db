"""Batches of every size, with repetitions, and the payloads that they make."""

from __future__ import annotations

import pytest

from tests.integration.faults.lab import Lab, Run, about
from winnow.core.contract import MAX_INLINE_BYTES

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

MANY = 200_000
MANY_IDS = [f"record-{number:06}" for number in range(MANY)]
EVERY = 200
"""Every so many is wrong, so that what is left has a thousand gaps."""


def none_at_all(lab: Lab) -> Run:
    return lab.run("batch-of-0", [])


@about(none_at_all)
def test_does_nothing_about_a_batch_of_none(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=[])
    assert run.counts()["in"] == 0
    assert run.alerts() == []


def just_one(lab: Lab) -> Run:
    return lab.run("batch-of-1", ["the-one"])


@about(just_one)
def test_runs_a_batch_of_one(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=["the-one"])


def very_many(lab: Lab) -> Run:
    return lab.run(
        "batch-of-200000",
        (
            {"id": record, "do": "reject"} if not number % EVERY else record
            for number, record in enumerate(MANY_IDS)
        ),
    )


@about(very_many)
def test_keeps_payloads_small_whatever_the_batch(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(
        good=[record for number, record in enumerate(MANY_IDS) if number % EVERY],
        lost=[record for number, record in enumerate(MANY_IDS) if not number % EVERY],
    )
    assert run.largest_payload() < MAX_INLINE_BYTES / 2
    assert max(alert["counts"]["failed"] for alert in run.alerts()) == MANY // EVERY


def repeated(lab: Lab) -> Run:
    url = lab.world.dependency.when("with-repetitions", lambda _: 200)
    once = [{"id": f"r-{number}", "do": "call", "url": url} for number in range(20)]
    return lab.run("with-repetitions", [*once, *once[:10], *once[5:10]])


@about(repeated)
def test_takes_each_distinct_record_once(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=[f"r-{number}" for number in range(20)])
    assert run.counts()["in"] == 20
    assert run.counts()["duplicates"] == 15
    assert set(run.lab.world.dependency.calls(run.run_id).values()) == {1}
