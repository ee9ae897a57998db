"""The same app with TLS and IAM enforced: a permission that is missing, or too narrow, fails here as on AWS."""

from __future__ import annotations

import json

from tests.integration.conftest import Deployment
from tests.integration.test_command_line import MANUSCRIPTS, numbers
from tests.patience import PATIENCE_SECONDS, await_

ALERTS = 2


def test_every_function_may_do_what_it_has_to(strict_deployment: Deployment) -> None:
    code, run = strict_deployment.run("--source", str(MANUSCRIPTS), "--include", "*.xml")
    assert code == 3
    assert numbers(run) == {"adapt": (60, 53, 0, 7), "transform": (53, 51, 2, 0), "mint": (51, 50, 0, 1)}
    assert len(strict_deployment.slack.receive(ALERTS, within_seconds=PATIENCE_SECONDS)) == ALERTS
    assert strict_deployment.winnow("verify", run["run_id"]).returncode == 3


def test_a_run_of_which_no_event_came_is_closed_by_the_sweep(strict_deployment: Deployment) -> None:
    events, lambdas, stepfunctions = map(
        strict_deployment.target.client, ("events", "lambda", "stepfunctions")
    )
    [rule] = [each["Name"] for each in events.list_rules()["Rules"] if "RunEnded" in each["Name"]]
    [close_run] = [
        each["FunctionName"]
        for each in lambdas.list_functions()["Functions"]
        if each["Handler"] == "winnow.handlers.close_run.handler"
    ]

    def sweep() -> dict[str, int]:
        order = json.dumps({"sweep": True, "older_than_seconds": 0})
        answer = lambdas.invoke(FunctionName=close_run, Payload=order)
        found: dict[str, int] = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, found
        return found

    sweep()  # what other tests left
    events.disable_rule(Name=rule)
    try:
        execution = stepfunctions.start_execution(
            stateMachineArn=strict_deployment.pipeline.arn, input=json.dumps({"prefix": 5})
        )["executionArn"]
        await_(
            "the end of the run",
            lambda: stepfunctions.describe_execution(executionArn=execution)["status"] == "FAILED",
        )
        done = [sweep(), sweep()]
    finally:
        events.enable_rule(Name=rule)

    assert done == [{"closed": 1, "failed": 0, "left": 0}, {"closed": 0, "failed": 0, "left": 0}]
    told = ""
    while "prefix: must" not in told:  # after what the runs of other tests still have to say
        [message] = strict_deployment.slack.receive(1, within_seconds=PATIENCE_SECONDS)
        told = json.dumps(message)
