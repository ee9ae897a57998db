from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from statemachines.pipeline import PipelineMachine, StageStep, pascal_case
from tests.statemachines.conftest import STAGES
from tests.statemachines.interpreter import FunctionFailed, ServiceRefused, always, function_arn, in_turn
from winnow.core.sfn_errors import START_REFUSED

if TYPE_CHECKING:
    from tests.statemachines.interpreter import Interpreter

RUN = "01J000000000000000000000R1"


def pointer(key: str) -> dict[str, str]:
    return {"bucket": "ledger", "key": key}


def plan(*, start_at: str = STAGES[0], before: str = "source", **more: object) -> dict[str, Any]:
    """What PlanRun answers."""
    records = {"successes": {"batch_file_location": pointer(f"{before}.json")}}
    return {
        "run_id": RUN,
        "start_at": start_at,
        "proceed": True,
        "reason": None,
        "stages": {before: records},
        "only": None,
        **more,
    }


def output(stage: str, *, lost: int = 0) -> dict[str, Any]:
    return {
        "run_id": RUN,
        "stage": stage,
        "tries": 1,
        "successes": {"count": 2, "batch_file_location": pointer(f"{stage}.json")},
        "skipped": {"count": 0},
        "failures": None,
        "lost": {"stage": 0, "run": lost},
    }


@pytest.fixture
def definition(pipeline_definition: dict[str, Any]) -> dict[str, Any]:
    """With functions in the place of the stages' executions, which moto cannot start."""
    for stage in STAGES:
        pipeline_definition["States"][pascal_case(stage)]["Resource"] = function_arn(stage)
    return pipeline_definition


@pytest.fixture
def functions(interpreter: Interpreter) -> dict[str, Any]:
    interpreter.functions["plan_run"] = always(plan())
    for number, stage in enumerate(STAGES):
        interpreter.functions[stage] = always({"Output": output(stage, lost=number), "Status": "SUCCEEDED"})
    return interpreter.functions


@pytest.mark.usefixtures("functions")
def test_hands_the_successes_of_each_stage_to_the_next(
    interpreter: Interpreter, definition: dict[str, Any]
) -> None:
    done = interpreter.run(definition, {})

    assert done.states == ["PlanRun", "WhereToStart?", "Adapt", "CheckQuality", "Mint", "SumUp"]
    given = {stage: done.called(stage)[0] for stage in STAGES}
    assert [given[stage]["Input"]["records"]["key"] for stage in STAGES] == [
        "source.json",
        "adapt.json",
        "check-quality.json",
    ]
    for stage in STAGES:
        assert given[stage]["Name"] == RUN, "a stage runs once per run"
        assert given[stage]["Input"]["run_id"] == RUN


@pytest.mark.usefixtures("functions")
def test_tells_plan_run_who_is_asking(interpreter: Interpreter, definition: dict[str, Any]) -> None:
    (payload,) = interpreter.run(definition, {"prefix": "Arabic/"}).called("plan_run")

    assert payload["input"] == {"prefix": "Arabic/"}
    assert payload["execution"].startswith("arn:aws:states:")
    assert set(payload) == {"input", "execution", "name"}


@pytest.mark.usefixtures("functions")
def test_sums_up_what_was_lost(interpreter: Interpreter, definition: dict[str, Any]) -> None:
    done = interpreter.run(definition, {})

    assert done.status == "SUCCEEDED"
    assert (done.output["run_id"], done.output["lost"]) == (RUN, 2)
    for number, stage in enumerate(STAGES):
        assert done.output["stages"][stage] == output(stage, lost=number)


@pytest.mark.parametrize(
    ("start_at", "before", "route"),
    [
        ("check-quality", "adapt", ["CheckQuality", "Mint"]),
        ("mint", "check-quality", ["Mint"]),
    ],
)
def test_starts_at_any_stage(
    interpreter: Interpreter,
    definition: dict[str, Any],
    functions: dict[str, Any],
    start_at: str,
    before: str,
    route: list[str],
) -> None:
    functions["plan_run"] = always(plan(start_at=start_at, before=before))

    done = interpreter.run(definition, {"start_at": start_at})

    assert done.states == ["PlanRun", "WhereToStart?", *route, "SumUp"]
    assert done.called(start_at)[0]["Input"]["records"] == pointer(f"{before}.json")


def test_steps_aside_and_says_so(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    answer = plan(proceed=False, reason="run R0 is still running", stages={})
    functions["plan_run"] = always(answer)

    done = interpreter.run(definition, {"trigger": {"kind": "schedule"}})

    assert (done.status, done.output) == ("SUCCEEDED", answer)
    assert done.count == {"plan_run": 1}


def test_refuses_a_stage_that_it_does_not_have(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["plan_run"] = always(plan(start_at="publish"))

    done = interpreter.run(definition, {})

    assert (done.status, done.error) == ("FAILED", "UnknownStage")
    assert done.cause == "Pipeline catalogue has no such stage: adapt, check-quality, mint."


def test_fails_with_its_stage_and_runs_no_further(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["adapt"] = in_turn(FunctionFailed("StageTotalFailure"))

    done = interpreter.run(definition, {})

    assert (done.status, done.error) == ("FAILED", "StageTotalFailure")
    assert done.count == {"plan_run": 1, "adapt": 1}


@pytest.mark.parametrize(
    "hiccup",
    [
        ServiceRefused("TooManyRequestsException"),
        ServiceRefused("ServiceException"),
        FunctionFailed("Lambda.Unknown"),
        FunctionFailed("ClientError", "SlowDown"),
    ],
    ids=["throttled", "lambda down", "died", "S3 down"],
)
def test_a_hiccup_of_lambda_does_not_cost_the_night(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any], hiccup: Exception
) -> None:
    functions["plan_run"] = in_turn(hiccup, plan())

    done = interpreter.run(definition, {"prefix": "Arabic/"})

    assert done.status == "SUCCEEDED"
    first, again = done.called("plan_run")
    assert first == again, "the same execution plans the same run"
    assert done.count == {"plan_run": 2, **dict.fromkeys(STAGES, 1)}


def test_lambda_that_stays_away_is_given_four_minutes(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["plan_run"] = in_turn(ServiceRefused("TooManyRequestsException"))

    done = interpreter.run(definition, {})

    assert (done.status, done.error) == ("FAILED", "Lambda.TooManyRequestsException")
    assert done.count == {"plan_run": 9}


def test_a_wrong_input_of_a_run_is_not_tried_again(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any]
) -> None:
    functions["plan_run"] = in_turn(FunctionFailed("StageInputError", "prefix: must be …"), plan())

    done = interpreter.run(definition, {"prefix": 1})

    assert (done.status, done.error) == ("FAILED", "StageInputError")
    assert done.count == {"plan_run": 1}


@pytest.mark.parametrize("name", START_REFUSED)
def test_a_stage_whose_start_is_refused_is_started_again_with_the_same_name_and_input(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any], name: str
) -> None:
    answer = {"Output": output("adapt"), "Status": "SUCCEEDED"}
    functions["adapt"] = in_turn(FunctionFailed(name, "Rate exceeded"), FunctionFailed(name), answer)

    done = interpreter.run(definition, {})

    assert done.status == "SUCCEEDED"
    first, second, third = done.called("adapt")
    assert first == second == third


@pytest.mark.parametrize(
    "name", ["StageTotalFailure", "StageInputError", "StepFunctions.ExecutionAlreadyExistsException"]
)
def test_a_stage_that_ended_badly_is_not_started_again(
    interpreter: Interpreter, definition: dict[str, Any], functions: dict[str, Any], name: str
) -> None:
    functions["adapt"] = in_turn(FunctionFailed(name))

    done = interpreter.run(definition, {})

    assert (done.status, done.error) == ("FAILED", name)
    assert done.count == {"plan_run": 1, "adapt": 1}


def test_carries_pointers_and_counts_only(pipeline_definition: dict[str, Any]) -> None:
    assert pipeline_definition["States"]["Adapt"]["ResultSelector"] == {
        f"{name}.$": f"$.Output.{name}"
        for name in ("run_id", "stage", "tries", "successes", "skipped", "failures", "lost")
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "at least one"),
        (["Adapt"], "lower-case letters.* got: 'Adapt'"),
        (["check_quality"], "got: 'check_quality'"),
        (["sum-up"], "must not be one of the pipeline's own .* got: 'sum-up'"),
        (["source"], "must not be one of the pipeline's own"),
        (["a-b", "mint", "mint"], "got twice: 'mint'"),
    ],
)
def test_refuses_names_that_no_pipeline_can_be_built_of(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PipelineMachine(
            name="catalogue",
            stages=[StageStep(name=name, machine_arn="arn", timeout_seconds=1) for name in names],
            plan_run_function_arn="arn",
            plan_run_timeout_seconds=1,
            timeout_seconds=1,
        )


def test_refuses_a_pipelines_name_that_is_no_part_of_a_key() -> None:
    with pytest.raises(ValueError, match=r"a pipeline's name must be lower-case letters, .* got: 'My books'"):
        PipelineMachine(
            name="My books",
            stages=[StageStep(name="clean", machine_arn="arn", timeout_seconds=1)],
            plan_run_function_arn="arn",
            plan_run_timeout_seconds=1,
            timeout_seconds=1,
        )
