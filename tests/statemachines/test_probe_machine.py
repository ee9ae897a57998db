"""The machine that shows errors as Step Functions names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.statemachines.interpreter import FunctionFailed, ServiceRefused, always, in_turn
from winnow.core.sfn_errors import CALL_REFUSED

if TYPE_CHECKING:
    from tests.statemachines.interpreter import Interpreter


@pytest.mark.parametrize("how", ["call", "invoke"])
def test_answers_with_the_name_under_which_the_function_failed(
    interpreter: Interpreter, probe_definition: dict[str, Any], how: str
) -> None:
    interpreter.functions["probe"] = in_turn(FunctionFailed("Runtime.ExitError"))

    ended = interpreter.run(probe_definition, {"how": how, "input": {"probe": "exit"}})

    assert (ended.status, ended.output["caught"]["Error"]) == ("SUCCEEDED", "Runtime.ExitError")
    assert ended.called("probe") == [{"probe": "exit"}]


def test_calls_again_what_was_throttled_as_probes_run_at_the_same_time(
    interpreter: Interpreter, probe_definition: dict[str, Any]
) -> None:
    throttled = ServiceRefused("TooManyRequestsException")
    interpreter.functions["probe"] = in_turn(throttled, throttled, FunctionFailed("ProbeError"))

    ended = interpreter.run(probe_definition, {"how": "invoke", "input": {"probe": "raise"}})

    assert ended.output["caught"]["Error"] == "ProbeError"
    assert ended.count["probe"] == 3


@pytest.mark.parametrize(("how", "path"), [("call", []), ("invoke", ["payload"])])
def test_hands_on_what_the_function_answers(
    interpreter: Interpreter, probe_definition: dict[str, Any], how: str, path: list[str]
) -> None:
    interpreter.functions["probe"] = always({"python": "3.14"})

    answer = interpreter.run(probe_definition, {"how": how, "input": {"probe": "facts"}}).output["answer"]

    for name in path:
        answer = answer[name]
    assert answer == {"python": "3.14"}


def test_says_that_it_is_older_than_the_command_line(
    interpreter: Interpreter, probe_definition: dict[str, Any]
) -> None:
    ended = interpreter.run(probe_definition, {"how": "juggle", "input": {}})

    assert (ended.status, ended.error) == ("FAILED", "UnknownProbe")
    assert ended.cause is not None
    assert "deploy the version" in ended.cause


@pytest.mark.parametrize("state", ["Call", "Invoke"])
def test_nothing_is_called_again_that_has_run(probe_definition: dict[str, Any], state: str) -> None:
    (rule,) = probe_definition["States"][state]["Retry"]
    assert set(rule["ErrorEquals"]) == set(CALL_REFUSED)
