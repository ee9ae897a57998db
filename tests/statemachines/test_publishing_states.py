"""The pipeline machine after its last stage, where the pipeline publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from statemachines.pipeline import check_stage_names, pascal_case
from tests.statemachines.conftest import PUBLISHED_STAGES, RULES, pipeline_machine, publishing_steps
from tests.statemachines.interpreter import FunctionFailed, ServiceRefused, always, function_arn, in_turn
from tests.statemachines.test_pipeline_machine import RUN, output, plan

if TYPE_CHECKING:
    from tests.statemachines.interpreter import Interpreter

TO_THE_END = ["PlanRun", "WhereToStart?", "Adapt", "Mint"]
PUBLISHED = {"version": 7, "reason": None, "again": False}
OVERTAKEN = {"version": None, "reason": "run R2 published version 7 meanwhile", "again": True}


def without_executions(definition: dict[str, Any]) -> dict[str, Any]:
    """With functions in the place of the stages' executions, which moto cannot start."""
    for stage in PUBLISHED_STAGES:
        definition["States"][pascal_case(stage)]["Resource"] = function_arn(stage)
    return definition


@pytest.fixture
def definition(publishing_definition: dict[str, Any]) -> dict[str, Any]:
    return without_executions(publishing_definition)


@pytest.fixture
def functions(interpreter: Interpreter) -> dict[str, Any]:
    interpreter.functions["plan_run"] = always(plan())
    for stage in PUBLISHED_STAGES:
        interpreter.functions[stage] = always({"Output": output(stage), "Status": "SUCCEEDED"})
    interpreter.functions["build_version"] = always({"version": 7, "rows": 12, "more": "is left out"})
    interpreter.functions["check_quality"] = always({"violations": 0})
    interpreter.functions["publish"] = always(PUBLISHED)
    return interpreter.functions


@pytest.mark.usefixtures("functions")
def test_builds_checks_and_publishes_after_the_last_stage(
    interpreter: Interpreter, definition: dict[str, Any]
) -> None:
    done = interpreter.run(definition, {})

    assert done.states == [*TO_THE_END, "BuildVersion", "CheckQuality", "Publish", "Published?", "SumUp"]
    assert done.called("build_version") == [{"run_id": RUN}]
    assert done.called("check_quality") == [{"run_id": RUN, "version": 7, "rules": RULES}]
    assert done.called("publish") == [{"run_id": RUN, "version": 7}]
    assert done.output["published"] == PUBLISHED
    assert set(done.output) == {"run_id", "lost", "stages", "published"}


@pytest.mark.usefixtures("functions")
def test_without_rules_there_is_no_gate(interpreter: Interpreter) -> None:
    ungated = pipeline_machine(PUBLISHED_STAGES, publishing_steps(gated=False)).definition()

    done = interpreter.run(without_executions(ungated), {})

    assert done.states == [*TO_THE_END, "BuildVersion", "Publish", "Published?", "SumUp"]


def test_a_replay_that_starts_at_a_later_stage_publishes_too(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["plan_run"] = always(plan(start_at="mint", before="adapt"))

    done = interpreter.run(definition, {"start_at": "mint"})

    assert done.states[2:4] == ["Mint", "BuildVersion"]
    assert done.output["published"]["version"] == 7


def test_a_run_that_steps_aside_publishes_nothing(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["plan_run"] = always(plan(proceed=False, reason="run R0 is still running", stages={}))

    assert interpreter.run(definition, {}).count == {"plan_run": 1}


def test_builds_again_where_another_run_published_meanwhile(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["build_version"] = in_turn({"version": 7}, {"version": 8})
    functions["publish"] = in_turn(OVERTAKEN, {**PUBLISHED, "version": 8})

    done = interpreter.run(definition, {})

    round_ = ["BuildVersion", "CheckQuality", "Publish", "Published?"]
    assert done.states == [*TO_THE_END, *round_, *round_, "SumUp"]
    assert [each["version"] for each in done.called("check_quality")] == [7, 8], "what is new is checked, too"
    assert done.output["published"]["version"] == 8


def test_a_run_that_does_not_publish_succeeds_and_says_why(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    held = {"version": None, "reason": "held by curator: the index is rebuilt", "again": False}
    functions["publish"] = always(held)

    done = interpreter.run(definition, {})

    assert (done.status, done.output["published"]) == ("SUCCEEDED", held)


def test_a_no_of_the_gate_fails_the_run_at_once_and_publishes_nothing(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["check_quality"] = in_turn(FunctionFailed("QualityGateFailed", "title: …"), {"violations": 0})

    done = interpreter.run(definition, {})

    assert (done.status, done.error) == ("FAILED", "QualityGateFailed")
    assert done.count["check_quality"] == 1
    assert done.called("publish") == []


@pytest.mark.parametrize("name", ["build_version", "check_quality", "publish"])
@pytest.mark.parametrize(
    "hiccup",
    [
        ServiceRefused("TooManyRequestsException"),
        FunctionFailed("Lambda.Unknown"),
        FunctionFailed("ClientError", "SlowDown"),
    ],
    ids=["throttled", "died", "S3 down"],
)
def test_a_hiccup_in_publishing_does_not_cost_the_run(
    interpreter: Interpreter,
    definition: dict[str, Any],
    functions: dict[str, Any],
    name: str,
    hiccup: Exception,
) -> None:
    functions[name] = in_turn(hiccup, functions[name]({}))

    done = interpreter.run(definition, {})

    assert done.status == "SUCCEEDED"
    first, again = done.called(name)
    assert first == again


def test_an_answer_without_a_version_fails_the_run(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["build_version"] = always({})

    done = interpreter.run(definition, {})

    assert done.status == "FAILED"
    assert done.called("publish") == []


@pytest.mark.parametrize("name", ["build-version", "check-quality", "publish"])
def test_the_names_of_publishing_are_taken_only_where_there_is_publishing(name: str) -> None:
    check_stage_names([name])

    with pytest.raises(ValueError, match=f"must not be one of the pipeline's own .*Publish.* got: '{name}'"):
        check_stage_names([name], publishes=True)
