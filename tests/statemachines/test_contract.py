"""What holds for every state of every machine, whatever it does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from scripts.replay.estimate import TRANSITIONS_OF_STAGE
from statemachines.pipeline import NO_ANSWERS, pascal_case
from statemachines.stage import TEMPLATE
from statemachines.template import placeholders
from tests.statemachines.conftest import STAGES
from winnow.core.contract import Verdict
from winnow.core.sfn_errors import START_REFUSED, WORKER_DEATHS, SfnError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_HAPPY_TRANSITIONS = 8
"""Each is charged for, and the benchmark promises as much."""

SEEN_BY_PROBES_ONLY = {SfnError.DATA_LIMIT, SfnError.RESPONSE_TOO_LARGE, SfnError.NAME_TAKEN}

SELF_EXPLANATORY = {"Pass"}
"""Types of states that may go without a Comment; none of ours does."""


@pytest.fixture(params=["stage", "pipeline", "publishing", "probe"])
def definition(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = request.getfixturevalue(f"{request.param}_definition")
    return found


def successors(state: dict[str, Any]) -> Iterator[str]:
    yield from (state[field] for field in ("Next", "Default") if field in state)
    for branch in [*state.get("Choices", ()), *state.get("Catch", ())]:
        yield branch["Next"]


def error_names(definition: dict[str, Any]) -> set[str]:
    names: set[str] = set()
    for state in definition["States"].values():
        for rule in [*state.get("Retry", ()), *state.get("Catch", ())]:
            names |= set(rule["ErrorEquals"])
        if state["Type"] == "Fail":
            names.add(state["Error"])
    return names


def retries(definition: dict[str, Any], state: str) -> list[dict[str, Any]]:
    """What a state retries, without the words."""
    return [
        {field: value for field, value in rule.items() if field != "Comment"}
        for rule in definition["States"][state]["Retry"]
    ]


def test_every_placeholder_is_filled(definition: dict[str, Any]) -> None:
    assert not placeholders(definition)
    assert "${" not in json.dumps(definition)


def test_every_state_that_is_named_exists(definition: dict[str, Any]) -> None:
    named = {name for state in definition["States"].values() for name in successors(state)}

    assert named | {definition["StartAt"]} <= definition["States"].keys()


def test_every_state_can_be_reached(definition: dict[str, Any]) -> None:
    reached, ahead = set(), [definition["StartAt"]]
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead.extend(successors(definition["States"][name]))

    assert reached == definition["States"].keys()


def test_every_state_goes_on_or_ends(definition: dict[str, Any]) -> None:
    for name, state in definition["States"].items():
        ends = state.get("End") is True or state["Type"] in {"Succeed", "Fail", "Choice"}
        assert ends != ("Next" in state), name


def test_every_task_and_the_machine_itself_have_a_timeout(definition: dict[str, Any]) -> None:
    assert definition["TimeoutSeconds"] > 0
    for name, state in definition["States"].items():
        if state["Type"] == "Task":
            assert isinstance(state["TimeoutSeconds"], int), name
            assert state["TimeoutSeconds"] > 0, name


def test_every_state_and_every_rule_says_why(definition: dict[str, Any]) -> None:
    assert definition["Comment"]
    for name, state in definition["States"].items():
        assert state.get("Comment"), name
        for rule in [*state.get("Retry", ()), *state.get("Catch", ())]:
            assert rule.get("Comment"), f"{name}: {rule['ErrorEquals']}"


def test_every_choice_has_a_default(definition: dict[str, Any]) -> None:
    for name, state in definition["States"].items():
        assert state["Type"] != "Choice" or "Default" in state, name


def test_choices_are_questions_and_nothing_else_is(definition: dict[str, Any]) -> None:
    for name, state in definition["States"].items():
        assert name.endswith("?") == (state["Type"] == "Choice"), name


def test_only_known_error_names_are_used(definition: dict[str, Any]) -> None:
    assert error_names(definition) <= {str(name) for name in SfnError}


def test_every_known_error_name_has_a_use(
    stage_definition: dict[str, Any], publishing_definition: dict[str, Any], probe_definition: dict[str, Any]
) -> None:
    used = error_names(stage_definition) | error_names(publishing_definition) | error_names(probe_definition)

    assert {str(name) for name in SfnError} - used == {SfnError.TASK_FAILED, *SEEN_BY_PROBES_ONLY}, (
        "a name is in the list that no state uses"
    )


def test_states_all_comes_last_and_alone(definition: dict[str, Any]) -> None:
    for name, state in definition["States"].items():
        for rules in (state.get("Retry", ()), state.get("Catch", ())):
            for position, rule in enumerate(rules):
                if SfnError.ALL in rule["ErrorEquals"]:
                    assert rule["ErrorEquals"] == [SfnError.ALL], name
                    assert position == len(rules) - 1, name


def test_no_error_name_is_listed_twice_in_a_state(definition: dict[str, Any]) -> None:
    for name, state in definition["States"].items():
        listed = [error for rule in state.get("Retry", ()) for error in rule["ErrorEquals"]]
        assert len(listed) == len(set(listed)), name


def test_only_jsonpath_that_every_interpreter_knows_is_used(definition: dict[str, Any]) -> None:
    text = json.dumps(definition)

    assert "QueryLanguage" not in text
    assert "Assign" not in text
    assert "States.Format" not in text


def test_the_pipeline_catches_nothing(publishing_definition: dict[str, Any]) -> None:
    for name, state in publishing_definition["States"].items():
        assert "Catch" not in state, name


def test_a_step_of_publishing_is_retried_as_planning_is_and_never_after_a_no_of_the_gate(
    publishing_definition: dict[str, Any],
) -> None:
    for name in ("BuildVersion", "CheckQuality", "Publish"):
        no, *others = retries(publishing_definition, name)
        assert no == {"ErrorEquals": list(NO_ANSWERS), "MaxAttempts": 0}
        assert others == retries(publishing_definition, "PlanRun")[1:]


def test_the_pipeline_retries_its_plan_as_a_stage_does(
    stage_definition: dict[str, Any], pipeline_definition: dict[str, Any]
) -> None:
    wrong_input, *others = retries(pipeline_definition, "PlanRun")

    assert wrong_input == {"ErrorEquals": [SfnError.STAGE_INPUT], "MaxAttempts": 0}
    assert others == retries(stage_definition, "Plan")[1:]


def test_the_start_of_a_stage_is_retried_as_that_of_an_attempt_is(
    stage_definition: dict[str, Any], pipeline_definition: dict[str, Any]
) -> None:
    for stage in STAGES:
        of_stage = retries(pipeline_definition, pascal_case(stage))
        assert of_stage == retries(stage_definition, "RunOutstanding")
        assert [rule["ErrorEquals"] for rule in of_stage] == [list(START_REFUSED)]


def test_nothing_but_a_refused_start_is_retried_where_an_execution_is_started(
    definition: dict[str, Any],
) -> None:
    """How an execution ended comes as one of these, and is never a reason to start it again."""
    ends = {SfnError.ALL, SfnError.TASK_FAILED, SfnError.TIMEOUT}
    for name, state in definition["States"].items():
        if state.get("Resource", "").endswith("states:startExecution.sync:2"):
            assert not ends & {error for rule in state.get("Retry", ()) for error in rule["ErrorEquals"]}, (
                name
            )


def test_a_death_that_makes_the_next_attempt_careful_is_not_retried_in_place(
    stage_definition: dict[str, Any],
) -> None:
    (rule,) = (rule for rule in stage_definition["States"]["RunWorker"]["Retry"] if rule["MaxAttempts"] == 0)

    assert set(rule["ErrorEquals"]) == WORKER_DEATHS


def test_settling_is_never_caught(stage_definition: dict[str, Any]) -> None:
    for name in ("Plan", "Settle", "SettleWhatIsProven"):
        assert "Catch" not in stage_definition["States"][name], name


def test_the_two_settle_states_differ_in_words_only(stage_definition: dict[str, Any]) -> None:
    first, second = (dict(stage_definition["States"][name]) for name in ("Settle", "SettleWhatIsProven"))
    del first["Comment"], second["Comment"]

    assert first == second


def test_every_verdict_has_a_route(stage_definition: dict[str, Any]) -> None:
    routed = json.dumps(stage_definition["States"]["Verdict?"]["Choices"])

    for verdict in Verdict:
        assert f'"{verdict}"' in routed


def test_a_happy_stage_is_cheap(stage_definition: dict[str, Any]) -> None:
    states = stage_definition["States"]
    path, name = 1, stage_definition["StartAt"]
    while states[name]["Type"] != "Succeed":
        choices = states[name].get("Choices")
        name = choices[0]["Next"] if choices else states[name]["Next"]
        path += 1

    # One more is charged for the start of the execution, and one for the pipeline's state that runs the stage.
    assert path + 2 == TRANSITIONS_OF_STAGE
    assert path + 1 <= MOST_HAPPY_TRANSITIONS


def test_a_stage_has_time_to_settle_after_its_recursion_ran_out(stage_definition: dict[str, Any]) -> None:
    settle, register = (
        stage_definition["States"][name]["TimeoutSeconds"]
        for name in ("SettleWhatIsProven", "RegisterFailures")
    )
    recursion = stage_definition["States"]["RunOutstanding"]["TimeoutSeconds"]

    assert recursion + settle + register < stage_definition["TimeoutSeconds"]


def test_the_template_is_what_people_paste_into_workflow_studio() -> None:
    assert json.loads(TEMPLATE.read_text(encoding="utf-8"))["StartAt"] == "Plan"
