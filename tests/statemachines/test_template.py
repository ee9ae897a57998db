from __future__ import annotations

import pytest

from statemachines.template import TemplateError, fill, load, placeholders


def test_a_whole_placeholder_takes_the_value_with_its_type() -> None:
    template = {"seconds": "${Seconds}", "policy": "${Policy}", "flag": "${Flag}", "nothing": "${Nothing}"}
    values = {"Seconds": 30, "Policy": {"tries": [1]}, "Flag": False, "Nothing": None}

    assert fill(template, values) == {"seconds": 30, "policy": {"tries": [1]}, "flag": False, "nothing": None}


def test_a_placeholder_within_a_text_takes_texts() -> None:
    assert fill(["stage ${A} of ${B}"], {"A": "adapt", "B": "catalogue"}) == ["stage adapt of catalogue"]


def test_a_placeholder_within_a_text_refuses_other_values() -> None:
    with pytest.raises(TemplateError, match=r"\$\{Seconds\} is part of a longer string.* got: 30"):
        fill("after ${Seconds} s", {"Seconds": 30})


def test_names_a_placeholder_without_a_value() -> None:
    with pytest.raises(
        TemplateError, match=r"\$\{PlanArn\} has no value: pass one for each of PlanArn, StageName"
    ):
        fill({"a": "${StageName}", "b": "${PlanArn}"}, {"StageName": "adapt"})


def test_names_a_value_without_a_placeholder() -> None:
    with pytest.raises(TemplateError, match=r"\$\{StagName\} is not in the template: it has StageName"):
        fill({"a": "${StageName}"}, {"StageName": "adapt", "StagName": "adapt"})


def test_leaves_paths_and_tokens_in_values_alone() -> None:
    filled = fill(
        {"path": "$.order", "context": "$$.Execution.Id", "arn": "${Arn}"}, {"Arn": "${Token[TOKEN.12]}"}
    )

    assert filled == {"path": "$.order", "context": "$$.Execution.Id", "arn": "${Token[TOKEN.12]}"}


def test_leaves_the_template_as_it_was() -> None:
    template = {"a": ["${A}"]}
    fill(template, {"A": 1})

    assert template == {"a": ["${A}"]}


def test_finds_placeholders_in_keys_too() -> None:
    assert placeholders({"${Key}": ["${Item} and ${Other}"]}) == {"Key", "Item", "Other"}


def test_loads_json() -> None:
    assert load('{"a": "${A}"}', {"A": 1.5}) == {"a": 1.5}
