"""Executions that an operator stops by hand."""

from __future__ import annotations

import json

import pytest

from tests.integration.faults.app import COLLECT, HASTY, PATIENT
from tests.integration.faults.lab import Lab, Run, about, await_, takes_long
from tests.integration.faults.loopback import Call, Gate

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

GOOD = [f"good-{number:02}" for number in range(10)]


@takes_long
def recursion_aborted(lab: Lab) -> Run:
    """Three records fail at first. Of the next attempt one is done, one never ends and one is not reached."""
    gate = lab.world.dependency.gate()

    def policy(call: Call) -> int | Gate:
        if call.record_id not in GOOD and call.nth == 1:
            return 503
        return gate if call.record_id == "stuck-for-good" else 200

    name = "recursion-aborted"
    url = lab.world.dependency.when(name, policy)
    run = lab.start(
        name,
        [
            {"id": record, "do": "call", "url": url}
            for record in [*GOOD, "again", "stuck-for-good", "after-it"]
        ],
        start_at=HASTY,  # the emulator goes on with the run only when the worker of the aborted execution has ended
    )
    journal = run.keys().attempt(1).journal
    await_("the second attempt's journal", lambda: list(run.ledger.store.keys(journal)), lab=lab)
    await_("the record that never ends", gate.is_reached, lab=lab)
    nested = run.executions()[1]
    lab.stepfunctions.stop_execution(executionArn=nested, error="Operator", cause="stopped by hand")
    return run.ended()


@about(recursion_aborted)
def test_an_attempt_that_is_stopped_costs_a_try_and_the_stage_goes_on_with_what_is_left(run: Run) -> None:
    first, nested, *deeper = run.executions()
    assert run.describe(nested)["status"] == "ABORTED"
    assert "SettleWhatIsProven" in run.states(first)
    assert deeper
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=[*GOOD, "again", "after-it"], lost=["stuck-for-good"])
    assert run.tries() == 4
    assert len(run.alerts()) == 1


def overtaken(lab: Lab) -> Run:
    """The first attempt's Settle is told that its time to wait is over, while the second attempt is at work."""
    name = "overtaken"
    gate = lab.world.dependency.gate()

    def policy(call: Call) -> int | Gate:
        if call.record_id != "late":
            return 200
        return 503 if call.nth == 1 else gate

    url = lab.world.dependency.when(name, policy)
    run = lab.start(
        name, [{"id": record, "do": "call", "url": url} for record in [*GOOD, "late"]], start_at=HASTY
    )
    await_("the second attempt at its record", gate.is_reached, lab=lab)
    first, nested = run.executions()
    [settled] = [
        json.loads(event["stateExitedEventDetails"]["output"])
        for event in run.history(first)
        if event.get("stateExitedEventDetails", {}).get("name") == "Settle"
    ]
    caught = {"Error": "States.Timeout", "Cause": ""}
    lab.invoke(
        lab.function("settle")["FunctionName"],
        {"execution": first, "state": {**settled, "nested_error": caught}},
    )
    assert run.describe(nested)["status"] == "ABORTED"
    assert run.describe(nested)["error"] == "SettledWithoutIt"
    gate.open()
    return run.ended()


@about(overtaken)
def test_an_attempt_that_its_parent_gave_up_waiting_for_is_stopped(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD, lost=["late"])
    assert len(run.executions()) == 2


def run_aborted(lab: Lab) -> Run:
    gate = lab.world.dependency.gate()
    url = lab.world.dependency.when("run-aborted", lambda call: gate if call.record_id == "stuck" else 200)
    run = lab.start("run-aborted", [{"id": record, "do": "call", "url": url} for record in [*GOOD, "stuck"]])
    await_("the record that never ends", gate.is_reached, lab=lab)
    lab.stepfunctions.stop_execution(executionArn=run.execution, error="Operator", cause="stopped by hand")
    run.ended()
    gate.open()
    # The emulator stops only what it was told to stop.
    await_(
        "the stage's end",
        lambda: run.describe(run.executions()[0])["status"] != "RUNNING",
        lab=lab,
    )
    return run


@about(run_aborted)
def test_alerts_a_run_that_is_aborted_once(run: Run) -> None:
    assert run.status() == "ABORTED"
    [alert] = run.alerts()
    assert alert["verdict"] == "ABORTED"
    run.assert_slack_heard()
    assert run.arrived(COLLECT) == {}
    assert run.report()["status"] == "ABORTED"
    assert run.report()["proof"]["holds"]


def zombie(lab: Lab) -> Run:
    """A second invocation of the worker does everything while the first, given up for dead, goes on later."""
    name = "zombie"
    gate = lab.world.dependency.gate()
    url = lab.world.dependency.when(
        name, lambda call: gate if call.record_id == "good-04" and call.nth == 1 else 200
    )
    run = lab.start(name, [{"id": record, "do": "call", "url": url} for record in GOOD])
    journal = run.keys().attempt(0).journal
    await_("the first invocation's journal", lambda: list(run.ledger.store.keys(journal)), lab=lab)
    [planned] = [
        event["stateExitedEventDetails"]["output"]
        for event in run.history(run.executions()[0])
        if event.get("stateExitedEventDetails", {}).get("name") == "Plan"
    ]
    lab.invoke(run.pipeline.worker(PATIENT), json.loads(planned)["order"])
    gate.open()
    return run.ended()


@about(zombie)
def test_counts_what_two_lives_of_a_worker_did_once(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD)
    assert run.counts()["repeated"] >= 1
    assert run.alerts() == []
