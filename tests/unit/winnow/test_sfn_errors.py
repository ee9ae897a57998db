"""Step Functions wraps causes in one another; people are shown the innermost."""

from __future__ import annotations

import json

import pytest

from winnow.core.sfn_errors import innermost, was_stopped


@pytest.mark.parametrize(
    ("error", "cause", "said"),
    [
        ("", "", ""),
        ("States.Timeout", "", "States.Timeout"),
        ("StageTotalFailure", "none of 2 succeeded", "StageTotalFailure: none of 2 succeeded"),
        (
            "States.TaskFailed",
            json.dumps(
                {
                    "ExecutionArn": "arn:x",
                    "Status": "FAILED",
                    "Error": "StageTotalFailure",
                    "Cause": "none of 2",
                }
            ),
            "StageTotalFailure: none of 2",
        ),
        (
            "States.TaskFailed",
            json.dumps(
                {
                    "ExecutionArn": "arn:x",
                    "Error": "LedgerObjectMissing",
                    "Cause": json.dumps({"errorType": "LedgerObjectMissing", "errorMessage": "no plan"}),
                }
            ),
            "LedgerObjectMissing: no plan",
        ),
        ("States.TaskFailed", json.dumps({"ExecutionArn": "arn:x", "Status": "ABORTED"}), "ABORTED"),
        ("E", json.dumps({"Cause": json.dumps({"errorMessage": "no plan"})}), "E: no plan"),
        ("E", json.dumps({"errorMessage": "no plan", "errorType": "KeyError"}), "KeyError: no plan"),
        ("E", "[1]", "E: [1]"),
        ("E", "17", "E: 17"),
        ("E", '{"a": 1}', 'E: {"a": 1}'),
        pytest.param("E", "[" * 99_999, "E: " + "[" * 99_999, id="deeper than Python can follow"),
    ],
)
def test_finds_the_innermost_cause(error: str, cause: str, said: str) -> None:
    assert str(innermost(error, cause)) == said


def test_a_cause_that_python_cannot_follow_says_nothing_of_a_stop() -> None:
    assert not was_stopped("[" * 99_999)
