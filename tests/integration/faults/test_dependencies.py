"""What workers depend on is down: for a moment, for some, for good."""

from __future__ import annotations

import pytest

from tests.integration.faults.lab import Lab, Run, about
from tests.integration.faults.loopback import Policy

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

RECORDS = [f"r-{number:03}" for number in range(150)]
"""More than the runtime tries in vain before it takes the other side for dead."""
A_THIRD = RECORDS[::3]


def depending(lab: Lab, name: str, policy: Policy) -> Run:
    url = lab.world.dependency.when(name, policy)
    return lab.run(name, [{"id": record, "do": "call", "url": url} for record in RECORDS])


def down_for_a_moment(lab: Lab) -> Run:
    """Down for as long as the worker's first process lives, and back before Step Functions tries again."""
    return depending(lab, "down-for-a-moment", lambda call: 503 if call.nth_process == 1 else 200)


@about(down_for_a_moment)
def test_covers_a_brief_outage_by_step_functions_own_retry(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=RECORDS)
    assert run.tries() == 1
    [only] = run.executions()
    assert len(run.task_failures(only)) == 1
    assert run.alerts() == []
    assert run.counts()["retried"] == 100
    assert run.lab.world.dependency.calls(run.run_id).total() == 250


def down_for_a_third(lab: Lab) -> Run:
    return depending(
        lab, "down-for-a-third", lambda call: 503 if call.record_id in A_THIRD and call.nth <= 2 else 200
    )


@about(down_for_a_third)
def test_brings_a_third_through_that_failed_twice(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=RECORDS)
    assert run.tries() == 3
    assert run.alerts() == []
    assert run.counts()["retried"] == 2 * len(A_THIRD)
    calls = run.lab.world.dependency.calls(run.run_id)
    assert {record: calls[record] for record in RECORDS} == {
        record: 3 if record in A_THIRD else 1 for record in RECORDS
    }


def down_throughout(lab: Lab) -> Run:
    return depending(lab, "down-throughout", lambda _: 503)


@about(down_throughout)
def test_fails_the_run_when_nothing_succeeds(run: Run) -> None:
    assert run.status() == "FAILED"
    assert run.result()["verdict"] == "TOTAL_FAILURE"
    assert "none of 150 records succeeded" in run.cause()
    run.assert_sound(good=[], lost=RECORDS)
    assert len(run.alerts()) == 1
    assert "503" in run.failures()["r-000"]["message"]
    assert {each["kind"] for each in run.failures().values()} == {"transient"}
    # Half of a minute's patience, and then no more: not each record again and again.
    assert run.lab.world.dependency.calls(run.run_id).total() == 200
