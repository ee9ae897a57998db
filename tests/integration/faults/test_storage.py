"""S3 refuses what the machinery writes."""

from __future__ import annotations

import pytest

from tests.integration.faults.app import HASTY
from tests.integration.faults.lab import Lab, Run, about, takes_long
from tests.integration.faults.loopback import Request

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

GOOD = [f"good-{number:02}" for number in range(20)]
UNLUCKY = [f"unlucky-{number:02}" for number in range(20)]


def refuses_for_a_while(lab: Lab) -> Run:
    def writes(request: Request) -> bool:
        return request.method == "PUT" and "/runs/s3-for-a-while/patient/" in request.target

    lab.world.proxy.refuse(writes, 503, 500, 403, 503, 403)
    return lab.run("s3-for-a-while", GOOD)


@about(refuses_for_a_while)
def test_writes_again_where_s3_refuses_for_a_while(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD)
    assert run.tries() == 1
    [only] = run.executions()
    assert run.task_failures(only) == []
    assert run.alerts() == []


@takes_long
def refuses_for_good(lab: Lab) -> Run:
    """Outputs are written; what would vouch for them is not."""

    def journal(request: Request) -> bool:
        return (
            request.method == "PUT"
            and "/runs/s3-for-good/hasty/" in request.target
            and "/journal/" in request.target
        )

    lab.world.proxy.refuse(journal, 403, for_good=True)
    return lab.run("s3-for-good", UNLUCKY, start_at=HASTY)


@about(refuses_for_good)
def test_claims_nothing_that_could_not_be_journaled(run: Run) -> None:
    assert run.status() == "FAILED"
    run.assert_sound(good=[], lost=UNLUCKY)
    assert run.counts()["succeeded"] == 0
    assert any("outputs/" in key for key in run.ledger.store.keys(run.keys().attempts))
    assert len(run.alerts()) == 1
    assert "the journal could not be written" in run.cause()
    assert {each["kind"] for each in run.failures().values()} == {"missing"}


def settles_in_the_end(lab: Lab) -> Run:
    def settlement(request: Request) -> bool:
        return (
            request.method == "PUT"
            and "/runs/settles-in-the-end/patient/attempts/000/settlement" in request.target
        )

    lab.world.proxy.refuse(settlement, 403, 403)
    return lab.run("settles-in-the-end", [*GOOD, {"id": "rejected-and-settled", "do": "reject"}])


@about(settles_in_the_end)
def test_settles_again_where_s3_refuses_settlements_for_a_while(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD, lost=["rejected-and-settled"])
    [only] = run.executions()
    assert len(run.task_failures(only)) == 2
    assert run.states(only).count("RunWorker") == 1


def never_concludes(lab: Lab) -> Run:
    """Settle can write its settlement, but not the list of successes that follows from it."""

    def successes(request: Request) -> bool:
        return request.method == "PUT" and "/runs/never-concludes/patient/successes" in request.target

    lab.world.proxy.refuse(successes, 403, for_good=True)
    return lab.run("never-concludes", GOOD)


def never_settles(lab: Lab) -> Run:
    def settlement(request: Request) -> bool:
        return (
            request.method == "PUT"
            and "/runs/never-settles/patient/attempts/000/settlement" in request.target
        )

    lab.world.proxy.refuse(settlement, 403, for_good=True)
    return lab.run("never-settles", GOOD)


@about(never_settles, never_concludes)
def test_fails_loudly_where_settle_cannot_do_its_work(run: Run) -> None:
    assert run.status() == "FAILED"
    assert "Access" in run.cause()
    assert run.arrived() == {}
    assert run.ledger.find_json(run.keys().result) is None
    run.assert_conserved()
    [alert] = run.alerts()
    assert alert["verdict"] == "FAILED"
    assert alert["severity"] == "critical"
