"""Nothing runs twice by accident: events delivered again, executions started again."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from scripts.local import cdk
from tests.integration.faults.app import PATIENT, PIPELINE
from tests.integration.faults.lab import Lab, Run, about, await_

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

ELSEWHERE = "asked-for-elsewhere"
NOWHERE = "asked-for-nowhere"
GOOD = [f"good-{number:02}" for number in range(10)]


def executions_of(lab: Lab, name: str) -> list[str]:
    pages = lab.stepfunctions.get_paginator("list_executions").paginate(stateMachineArn=lab.faults.arn)
    return [each["name"] for page in pages for each in page["executions"] if each["name"].startswith(name)]


def ask_for(lab: Lab, *details: dict[str, str]) -> None:
    """Put events on the bus, each of which asks for a run."""
    asked = {"pipeline": PIPELINE, "start_at": PATIENT, "records": GOOD}
    entries = [
        {"Source": "winnow", "DetailType": "Run requested", "Detail": json.dumps(asked | detail)}
        for detail in details
    ]
    assert lab.events.put_events(Entries=entries)["FailedEntryCount"] == 0


def delivered_twice(lab: Lab) -> Run:
    """The same event, as EventBridge delivers it, twice at the same moment."""
    event = {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "source": "winnow",
        "detail-type": "Run requested",
        "time": "2026-11-20T12:00:00Z",
        "resources": [],
        "detail": {
            "pipeline": PIPELINE,
            "environment": cdk.ENVIRONMENT,
            "start_at": PATIENT,
            "records": GOOD,
        },
    }
    start_run = lab.function("start_run")["FunctionName"]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: lab.invoke(start_run, event), range(2))
    assert first == second
    execution = lab.faults.arn.replace(":stateMachine:", ":execution:")
    return Run(lab, lab.faults, first["run_id"], f"{execution}:{first['run_id']}").ended()


@about(delivered_twice)
def test_an_event_that_is_delivered_twice_starts_one_run(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD)
    assert executions_of(run.lab, run.run_id) == [run.run_id]


def sent_twice(lab: Lab) -> Run:
    """Two events through the bus that ask for the same run, after one for another environment and one for none."""
    name = "sent-twice"
    ask_for(lab, {"environment": "elsewhere", "run_id": ELSEWHERE}, {"run_id": NOWHERE})
    ask_for(lab, *2 * [{"environment": cdk.ENVIRONMENT, "run_id": name}])
    await_("the run", lambda: executions_of(lab, name), lab=lab)
    execution = lab.faults.arn.replace(":stateMachine:", ":execution:")
    return Run(lab, lab.faults, name, f"{execution}:{name}").ended()


@about(sent_twice)
def test_a_run_that_is_asked_for_twice_runs_once(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD)
    assert executions_of(run.lab, run.run_id) == [run.run_id]


@about(sent_twice)
def test_an_event_that_names_no_environment_is_refused_and_alerted(run: Run) -> None:
    def refused() -> list[str]:
        return [alert["cause"] for alert in run.lab.alerts_about("") if alert["verdict"] == "REFUSED"]

    (cause,) = await_("the alert", refused, lab=run.lab)
    assert cause.startswith(
        f'detail.environment: is missing; to start a run in {cdk.ENVIRONMENT}, add "environment": "{cdk.ENVIRONMENT}"'
    )
    assert executions_of(run.lab, NOWHERE) == []


@about(sent_twice)
def test_an_event_for_another_environment_starts_nothing(run: Run) -> None:
    assert executions_of(run.lab, ELSEWHERE) == []


def named_like_an_attempt(lab: Lab) -> Run:
    """The stage machine has had an execution of the name that `night`'s retry had until attempts got a dot."""
    lab.run("night-1", GOOD)
    return lab.run("night", [*GOOD, {"id": "bad-night", "do": "fail"}])


@about(named_like_an_attempt)
def test_a_run_whose_name_ends_like_an_attempt_takes_no_try_from_another(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD, lost=["bad-night"])
    assert run.tries() == 4


def name_taken(lab: Lab) -> Run:
    """An operator started the stage machine under the very name of the retry. The emulator refuses it, as AWS does."""
    lab.start_stage(PATIENT, {"run_id": "by-hand", "records": GOOD}, name="taken.1").stopped()
    return lab.run("taken", [*GOOD, {"id": "bad-taken", "do": "fail"}])


@about(name_taken)
def test_a_retry_whose_name_is_taken_loses_nothing_in_silence_and_says_why(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD, lost=["bad-taken"])
    assert run.tries() == 1
    [alert] = run.alerts()
    assert "StepFunctions.ExecutionAlreadyExistsException" in alert["cause"]


def started_twice(lab: Lab) -> Run:
    run = lab.run("started-twice", GOOD)
    with pytest.raises(ClientError, match="ExecutionAlreadyExists"):
        lab.start("started-twice", GOOD)
    given = {"run_id": "started-twice", "start_at": PATIENT, "records": GOOD}
    lab.start_with(given, name="started-again").stopped()
    lab.start_stage(
        PATIENT, {"run_id": "started-twice", "records": GOOD}, name="stage-started-again"
    ).stopped()
    return run


@about(started_twice)
def test_a_run_that_is_started_twice_runs_once(run: Run) -> None:
    lab = run.lab
    run.assert_sound(good=GOOD)
    assert run.alerts() == []

    again = Run(lab, run.pipeline, "started-again", run.execution.replace("started-twice", "started-again"))
    assert again.status() == "FAILED"
    assert "was used before" in again.cause()
    [alert] = await_("the alert of the second", again.alerts)
    assert alert["verdict"] == "FAILED"

    machine = run.pipeline.machine(PATIENT).replace(":stateMachine:", ":execution:")
    stage = Run(lab, run.pipeline, "stage-started-again", f"{machine}:stage-started-again")
    assert stage.status() == "FAILED"
    assert "belongs to" in stage.cause()
    assert "which starts its stages itself" in stage.cause()
