"""The stage machine, executed attempt by attempt: every route, every error."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.patience import PATIENCE_SECONDS
from tests.statemachines.interpreter import FunctionFailed, ServiceRefused, always, function_arn, in_turn
from winnow.core.sfn_errors import SfnError

if TYPE_CHECKING:
    from tests.statemachines.interpreter import Interpreter

GIVEN = {"run_id": "R1", "records": ["a", "b"]}
ORDER = {"run_id": "R1", "stage": "adapt", "attempt": 0}
REPORT = {"succeeded": 2, "skipped": 0, "failed": 0, "stopped": None}
OUTPUT = {"run_id": "R1", "stage": "adapt", "successes": {"count": 2}}
NEXT = {"run_id": "R1", "attempt": 1, "try_count": 1, "plan": {"bucket": "b", "key": "k"}}

NEVER_RAN = (
    SfnError.LAMBDA_SERVICE,
    SfnError.LAMBDA_AWS,
    SfnError.LAMBDA_SDK_CLIENT,
    SfnError.LAMBDA_TOO_MANY_REQUESTS,
    SfnError.LAMBDA_RESOURCE_CONFLICT,
    SfnError.LAMBDA_RESOURCE_NOT_READY,
)
DIED = (
    SfnError.SANDBOX_TIMED_OUT,
    SfnError.LAMBDA_UNKNOWN,
    SfnError.LAMBDA_CLIENT_TIMEOUT,
    SfnError.RUNTIME_EXIT,
    SfnError.RUNTIME_OUT_OF_MEMORY,
)
ABORTED = "ExecutionAborted"
"""Replaces States.TaskFailed, a name that moto lets no function fail under."""


def settled(verdict: str, *, alert: bool = False, wait_seconds: int = 0) -> dict[str, Any]:
    """What Settle answers."""
    goes_on = verdict in {"RETRY", "CONTINUE"}
    return {
        "verdict": verdict,
        "order": ORDER,
        "output": None if goes_on or verdict == "TOTAL_FAILURE" else OUTPUT,
        "cause": "nothing succeeded: the database is down" if verdict == "TOTAL_FAILURE" else None,
        "next": NEXT if goes_on else None,
        "next_name": "R1-adapt-001" if goes_on else None,
        "wait_seconds": wait_seconds,
        "alert": alert,
    }


@pytest.fixture
def definition(stage_definition: dict[str, Any]) -> dict[str, Any]:
    """With a function in the place of the nested execution, which moto cannot start."""
    nested = stage_definition["States"]["RunOutstanding"]
    nested["Resource"] = function_arn("nested")
    return stage_definition


@pytest.fixture
def functions(interpreter: Interpreter) -> dict[str, Any]:
    """A stage in which all goes well; tests change what they are about."""
    interpreter.functions |= {
        "plan": always(ORDER),
        "worker": always(REPORT),
        "settle": always(settled("COMPLETE")),
        "register": lambda payload: payload["state"],
        "alert": always({"alerted": True}),
        "nested": always({"Output": OUTPUT}),
    }
    return interpreter.functions


@pytest.mark.usefixtures("functions")
def test_succeeds_with_the_settled_output(interpreter: Interpreter, definition: dict[str, Any]) -> None:
    done = interpreter.run(definition, GIVEN)

    assert (done.status, done.output) == ("SUCCEEDED", OUTPUT)
    assert done.states == ["Plan", "RunWorker", "Settle", "RegisterFailures", "Verdict?", "Complete"]


@pytest.mark.usefixtures("functions")
def test_hands_each_function_its_contract(interpreter: Interpreter, definition: dict[str, Any]) -> None:
    done = interpreter.run(definition, GIVEN)

    (plan,), (worker,), (settle,) = done.called("plan"), done.called("worker"), done.called("settle")
    assert plan["input"] == GIVEN
    assert plan["stage"] == "adapt"
    assert plan["policy"] == {
        "max_tries": 3,
        "spend_tries_first": False,
        "backoff_seconds": 7,
        "max_backoff_seconds": 600,
        "on_conflict": "fail",
        "max_row_mb": 16,
    }
    assert plan["execution"].startswith("arn:aws:states:")
    assert worker == ORDER
    assert settle == {"execution": plan["execution"], "state": {"order": ORDER, "worker": REPORT}}


@pytest.mark.parametrize(
    ("verdict", "alert", "route"),
    [
        ("RETRY", False, ["Backoff", "RunOutstanding"]),
        ("RETRY", True, ["AlertPermanent", "Backoff", "RunOutstanding"]),
        ("CONTINUE", False, ["RunOutstanding"]),
        ("CONTINUE", True, ["AlertPermanent", "Backoff", "RunOutstanding"]),
        ("EXHAUSTED", False, ["Exhausted"]),
        ("EXHAUSTED", True, ["AlertExhausted", "Exhausted"]),
    ],
)
def test_routes_a_verdict_that_succeeds(
    interpreter: Interpreter,
    definition: dict[str, Any],
    functions: dict[str, Any],
    verdict: str,
    *,
    alert: bool,
    route: list[str],
) -> None:
    functions["settle"] = always(settled(verdict, alert=alert))

    done = interpreter.run(definition, GIVEN)

    assert (done.status, done.output) == ("SUCCEEDED", OUTPUT)
    assert done.states[5:] == route
    assert done.count["alert"] == int(alert)


@pytest.mark.parametrize("alert", [False, True])
def test_fails_a_stage_in_which_nothing_succeeded(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any], *, alert: bool
) -> None:
    functions["settle"] = always(settled("TOTAL_FAILURE", alert=alert))

    done = interpreter.run(definition, GIVEN)

    assert (done.status, done.error) == ("FAILED", SfnError.STAGE_TOTAL_FAILURE)
    assert done.cause == "nothing succeeded: the database is down"
    assert done.states[5:] == (["AlertTotalFailure"] if alert else []) + ["StageFailed"]


def test_refuses_a_verdict_that_it_does_not_know(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["settle"] = always(settled("COMPLETED"))

    done = interpreter.run(definition, GIVEN)

    assert (done.status, done.error) == ("FAILED", SfnError.UNKNOWN_VERDICT)


def test_hands_an_alert_the_settled_state(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["settle"] = always(settled("EXHAUSTED", alert=True))

    (payload,) = interpreter.run(definition, GIVEN).called("alert")

    assert payload["state"] == settled("EXHAUSTED", alert=True)
    assert payload["execution"].startswith("arn:aws:states:")


@pytest.mark.parametrize(
    ("verdict", "status"), [("RETRY", "SUCCEEDED"), ("EXHAUSTED", "SUCCEEDED"), ("TOTAL_FAILURE", "FAILED")]
)
def test_a_broken_alert_changes_nothing(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any], verdict: str, status: str
) -> None:
    functions["settle"] = always(settled(verdict, alert=True))
    functions["alert"] = in_turn(FunctionFailed("ClientError", "topic is gone"))

    done = interpreter.run(definition, GIVEN)

    assert done.status == status
    assert done.error in {None, SfnError.STAGE_TOTAL_FAILURE}
    assert done.count["alert"] == 5, "an alert is worth a few tries"


# The register


def test_alerts_what_the_register_says_is_news(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["settle"] = always(settled("EXHAUSTED", alert=True))
    functions["register"] = lambda payload: {**payload["state"], "alert": False}

    done = interpreter.run(definition, GIVEN)

    assert (done.status, done.output) == ("SUCCEEDED", OUTPUT)
    assert done.states[3:] == ["RegisterFailures", "Verdict?", "Exhausted"]
    assert done.count["alert"] == 0


@pytest.mark.parametrize(
    ("verdict", "status"),
    [("COMPLETE", "SUCCEEDED"), ("EXHAUSTED", "SUCCEEDED"), ("TOTAL_FAILURE", "FAILED")],
)
@pytest.mark.parametrize("error", [SfnError.SANDBOX_TIMED_OUT, "RegisterUnavailable"])
def test_a_broken_register_changes_nothing_and_everything_is_alerted(
    interpreter: Interpreter,
    definition: dict[str, Any],
    functions: dict[str, Any],
    verdict: str,
    status: str,
    error: str,
) -> None:
    alert = verdict != "COMPLETE"
    functions["settle"] = always(settled(verdict, alert=alert))
    functions["register"] = in_turn(FunctionFailed(error, "throttled"))

    done = interpreter.run(definition, GIVEN)

    assert (done.status, done.output) == (status, OUTPUT if status == "SUCCEEDED" else None)
    assert done.count["register"] == 1, "an alert waits for it"
    assert done.count["alert"] == int(alert)
    if alert:
        told = done.called("alert")[0]["state"]
        assert told["register_error"]["Error"] == error
        assert {**told, **settled(verdict, alert=True)} == told


def test_waits_a_little_for_a_register_that_is_throttled(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["register"] = in_turn(FunctionFailed(SfnError.LAMBDA_TOO_MANY_REQUESTS), settled("COMPLETE"))

    done = interpreter.run(definition, GIVEN)

    assert done.status == "SUCCEEDED"
    assert done.count["register"] == 2
    assert sum(done.waits) <= 30


def test_starts_itself_with_what_is_outstanding(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["settle"] = always(settled("RETRY"))

    (payload,) = interpreter.run(definition, GIVEN).called("nested")

    assert payload["Name"] == "R1-adapt-001"
    assert payload["Input"] == NEXT
    assert ":stateMachine:machine-" in payload["StateMachineArn"], "the machine that runs, whatever its name"


def test_waits_as_long_as_settle_says(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    assert definition["States"]["Backoff"]["SecondsPath"] == "$.wait_seconds"
    functions["settle"] = always(settled("RETRY", wait_seconds=1))

    assert "Backoff" in interpreter.run(definition, GIVEN).states


def test_settles_what_is_proven_when_the_next_attempt_dies(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["settle"] = in_turn(settled("RETRY"), settled("EXHAUSTED"))
    functions["nested"] = in_turn(FunctionFailed(ABORTED, "by hand"))

    done = interpreter.run(definition, GIVEN)

    assert (done.status, done.output) == ("SUCCEEDED", OUTPUT)
    assert done.states[5:] == [
        "Backoff",
        "RunOutstanding",
        "SettleWhatIsProven",
        "RegisterFailures",
        "Verdict?",
        "Exhausted",
    ]
    proven = done.called("settle")[1]["state"]
    assert proven["nested_error"]["Error"] == ABORTED
    assert proven["order"] == ORDER


def test_goes_on_after_a_dead_attempt_if_settle_says_so(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["settle"] = in_turn(settled("RETRY"), settled("RETRY"))
    functions["nested"] = in_turn(FunctionFailed(ABORTED), {"Output": OUTPUT})

    done = interpreter.run(definition, GIVEN)

    assert done.status == "SUCCEEDED"
    assert done.count["nested"] == 2


def test_a_dead_attempt_is_not_started_again_under_its_name(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["settle"] = in_turn(settled("RETRY"), settled("EXHAUSTED"))
    functions["nested"] = in_turn(FunctionFailed("Anything"))

    assert interpreter.run(definition, GIVEN).count["nested"] == 1


@pytest.mark.parametrize(
    "error", [SfnError.EXECUTION_LIMIT, SfnError.EXECUTION_LIMIT_EXCEPTION, SfnError.START_THROTTLED]
)
def test_waits_for_room_to_start_the_next_attempt(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any], error: str
) -> None:
    functions["settle"] = always(settled("RETRY"))
    functions["nested"] = in_turn(FunctionFailed(error), FunctionFailed(error), {"Output": OUTPUT})

    done = interpreter.run(definition, GIVEN)

    assert done.status == "SUCCEEDED"
    assert done.count["nested"] == 3
    assert done.count["settle"] == 1


# The worker


@pytest.mark.parametrize("error", DIED)
def test_does_not_call_a_worker_again_that_died(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any], error: str
) -> None:
    functions["worker"] = in_turn(FunctionFailed(error, "killed"))

    done = interpreter.run(definition, GIVEN)

    assert done.status == "SUCCEEDED"
    assert done.count["worker"] == 1
    state = done.called("settle")[0]["state"]
    assert state["worker_error"]["Error"] == error
    assert "worker" not in state


def test_does_not_call_a_worker_again_that_does_not_answer(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    definition["States"]["RunWorker"]["TimeoutSeconds"] = 1
    over = threading.Event()
    functions["worker"] = lambda _payload: over.wait(PATIENCE_SECONDS)

    done = interpreter.run(definition, GIVEN)
    over.set()

    assert done.count["worker"] == 1
    assert done.called("settle")[0]["state"]["worker_error"]["Error"] == SfnError.TIMEOUT


def test_calls_a_worker_again_that_never_ran(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["worker"] = in_turn(*map(FunctionFailed, NEVER_RAN), REPORT)

    done = interpreter.run(definition, GIVEN)

    assert done.count["worker"] == len(NEVER_RAN) + 1
    assert done.called("settle")[0]["state"]["worker"] == REPORT


def test_waits_when_lambda_throttles(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["worker"] = in_turn(ServiceRefused("TooManyRequestsException"), REPORT)

    assert interpreter.run(definition, GIVEN).count["worker"] == 2


def test_gives_a_worker_one_more_try_when_its_surroundings_fail(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["worker"] = in_turn(FunctionFailed("EveryRecordFailed"), REPORT)

    done = interpreter.run(definition, GIVEN)

    assert done.count["worker"] == 2
    assert done.waits == [30]
    assert done.called("settle")[0]["state"] == {"order": ORDER, "worker": REPORT}


def test_settles_when_the_one_more_try_fails_too(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["worker"] = in_turn(FunctionFailed("EveryRecordFailed", "connection refused"))

    done = interpreter.run(definition, GIVEN)

    assert done.count["worker"] == 2
    assert done.called("settle")[0]["state"]["worker_error"]["Error"] == "EveryRecordFailed"


@pytest.mark.parametrize("answer", [None, [], "done", {"surprise": 1}])
def test_an_answer_of_any_shape_reaches_settle(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any], answer: object
) -> None:
    functions["worker"] = always(answer)

    done = interpreter.run(definition, GIVEN)

    assert done.status == "SUCCEEDED"
    assert done.called("settle")[0]["state"]["worker"] == answer


# Plan and Settle


@pytest.mark.parametrize("error", [SfnError.STAGE_INPUT, SfnError.DUPLICATE_ATTEMPT, SfnError.SOURCE_CHANGED])
def test_fails_at_once_under_the_name_of_what_no_retry_mends(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any], error: str
) -> None:
    functions["plan"] = in_turn(FunctionFailed(error, "records: an empty list"))

    done = interpreter.run(definition, {"records": []})

    assert (done.status, done.error) == ("FAILED", error)
    assert done.count == {"plan": 1}
    assert "records: an empty list" in (done.cause or "")


@pytest.mark.parametrize("function", ["plan", "settle"])
def test_waits_for_lambda_to_plan_and_to_settle(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any], function: str
) -> None:
    passing = [*NEVER_RAN, SfnError.LAMBDA_CLIENT_TIMEOUT]
    functions[function] = in_turn(*map(FunctionFailed, passing), functions[function](None))

    done = interpreter.run(definition, GIVEN)

    assert done.status == "SUCCEEDED"
    assert done.count[function] == len(passing) + 1


@pytest.mark.parametrize(
    ("state", "error", "seconds"),
    [
        ("Plan", SfnError.LAMBDA_TOO_MANY_REQUESTS, 242),
        ("RunWorker", SfnError.LAMBDA_TOO_MANY_REQUESTS, 242),
        ("RunWorker", SfnError.ALL, 30),
        ("Settle", SfnError.LAMBDA_TOO_MANY_REQUESTS, 242),
        ("Settle", SfnError.ALL, 400),
        ("AlertExhausted", SfnError.ALL, 30),
        ("RunOutstanding", SfnError.START_THROTTLED, 515),
    ],
)
def test_is_as_patient_as_its_comments_say(
    definition: dict[str, Any], state: str, error: str, seconds: int
) -> None:
    (rule,) = (rule for rule in definition["States"][state]["Retry"] if error in rule["ErrorEquals"])
    waits = (
        rule["IntervalSeconds"] * rule.get("BackoffRate", 2) ** number
        for number in range(rule["MaxAttempts"])
    )

    assert sum(min(wait, rule.get("MaxDelaySeconds", wait)) for wait in waits) == seconds


@pytest.mark.parametrize("function", ["plan", "settle"])
def test_planning_and_settling_take_all_of_their_time_twice_at_most(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any], function: str
) -> None:
    functions[function] = in_turn(FunctionFailed("Sandbox.Timedout"))

    done = interpreter.run(definition, GIVEN)

    assert (done.status, done.error) == ("FAILED", "Sandbox.Timedout")
    assert done.count[function] == 2


@pytest.mark.parametrize(("function", "patience"), [("plan", 3), ("settle", 5)])
def test_fails_loudly_when_planning_or_settling_cannot_be_done(
    interpreter: Interpreter,
    definition: dict[str, Any],
    functions: dict[str, Any],
    function: str,
    patience: int,
) -> None:
    functions[function] = in_turn(FunctionFailed("ClientError", "S3 is down"))

    done = interpreter.run(definition, GIVEN)

    assert (done.status, done.error) == ("FAILED", "ClientError")
    assert done.count[function] == patience
