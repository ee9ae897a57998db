"""Alert and Slack are down. Watching cannot break a run, and what could not be said is said later."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.faults.lab import Lab, Run, about, await_
from tests.integration.faults.loopback import Request

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

GOOD = [f"good-{number:02}" for number in range(10)]
TRIES_OF_AN_ALERT = 5


def publishing_about(run_id: str) -> Callable[[Request], bool]:
    return lambda request: request.body.startswith(b"Action=Publish") and run_id.encode() in request.body


def alert_is_down(lab: Lab) -> Run:
    lab.world.proxy.refuse(publishing_about("alert-is-down"), *[403] * TRIES_OF_AN_ALERT)
    return lab.run("alert-is-down", [*GOOD, {"id": "rejected-in-silence", "do": "reject"}])


@about(alert_is_down)
def test_a_run_goes_on_without_its_alert_and_the_closer_sends_it(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD, lost=["rejected-in-silence"])
    run.assert_slack_heard()
    assert run.output()["lost"] == 1
    [only] = run.executions()
    assert run.states(only)[-2:] == ["AlertExhausted", "Exhausted"]
    assert len(run.task_failures(only)) == TRIES_OF_AN_ALERT


def alert_down_in_a_total_failure(lab: Lab) -> Run:
    lab.world.proxy.refuse(publishing_about("alert-down-in-total"), *[403] * TRIES_OF_AN_ALERT)
    return lab.run("alert-down-in-total", [{"id": f"wrong-{number}", "do": "reject"} for number in range(3)])


@about(alert_down_in_a_total_failure)
def test_a_broken_alert_does_not_hide_the_error_that_it_was_to_tell_of(run: Run) -> None:
    assert run.status() == "FAILED"
    run.assert_sound(good=[], lost=[f"wrong-{number}" for number in range(3)])
    assert run.describe(run.executions()[0])["error"] == "StageTotalFailure"
    assert "none of 3 records succeeded" in run.cause()
    assert [alert["verdict"] for alert in run.alerts()] == ["TOTAL_FAILURE"]


def slack_is_down(lab: Lab) -> Run:
    lab.world.slack.go_down_for("slack-is-down")
    return lab.run("slack-is-down", [*GOOD, {"id": "rejected-unheard", "do": "reject"}])


@about(slack_is_down)
def test_what_slack_did_not_take_waits_in_the_dead_letter_queue(run: Run) -> None:
    """The emulator's SNS calls a function once; the retries and the queue are Lambda's, so it is asked for them."""
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD, lost=["rejected-unheard"])
    lab, [alert] = run.lab, run.alerts()
    assert run.messages() == []

    slack = lab.function("slack")["FunctionName"]
    queue = lab.queue("SlackDeadLetters")
    # The stack says so, too; the emulator's CloudFormation leaves it out.
    lab.lambdas.update_function_configuration(FunctionName=slack, DeadLetterConfig={"TargetArn": queue.arn})
    event = notification(alert)
    lab.lambdas.invoke(FunctionName=slack, InvocationType="Event", Payload=json.dumps(event).encode())
    [letter] = await_(
        "the dead letter",
        lambda: lab.sqs.receive_message(QueueUrl=queue.url).get("Messages"),
    )
    assert run.run_id in letter["Body"]
    assert run.messages() == []

    lab.world.slack.come_back_for(run.run_id)
    lab.invoke(slack, event)
    run.assert_slack_heard()


def notification(alert: dict[str, Any]) -> dict[str, Any]:
    """An alert as SNS hands it to a function."""
    message = {"MessageId": "4a1b", "Subject": alert["title"], "Message": json.dumps(alert)}
    return {"Records": [{"EventSource": "aws:sns", "Sns": message}]}
