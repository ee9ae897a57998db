from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from winnow.core.contract import Policy, Verdict
from winnow.journal.segment import Stop
from winnow.settlement.verdict import Facts, decide

COMPLETE, RETRY, CONTINUE, EXHAUSTED, TOTAL = Verdict


def facts(**changes: Any) -> Facts:
    """After a first attempt of ten records: seven are done, one failed as permanent, two may be tried again."""
    usual: dict[str, Any] = {
        "batch": 10,
        "succeeded": 7,
        "outstanding": 3,
        "retryable": 2,
        "untried": 0,
        "journaled_now": 7,
        "attempt": 0,
        "try_count": 0,
        "lived": True,
        "stop": Stop.END,
    }
    return Facts(**{**usual, **changes})


NOTHING = {"succeeded": 0, "outstanding": 10, "retryable": 10, "journaled_now": 0}
"""Not one record is done."""
TIME = {"stop": Stop.TIME, "untried": 1}

TABLE: list[tuple[str, dict[str, Any], dict[str, Any], Verdict]] = [
    # none outstanding
    ("nothing is outstanding", {"succeeded": 10, "outstanding": 0, "retryable": 0}, {}, COMPLETE),
    ("the batch was empty", {"batch": 0, "succeeded": 0, "outstanding": 0, "retryable": 0}, {}, COMPLETE),
    ("all were skipped", {"succeeded": 0, "outstanding": 0, "retryable": 0}, {}, COMPLETE),
    (
        "done, though the worker died",
        {"succeeded": 10, "outstanding": 0, "retryable": 0, "lived": False},
        {},
        COMPLETE,
    ),
    ("done, at the last try", {"succeeded": 10, "outstanding": 0, "retryable": 0, "try_count": 3}, {}, COMPLETE),
    (
        "done, though the recursion died",
        {"succeeded": 10, "outstanding": 0, "retryable": 0, "recursion_died": True},
        {},
        COMPLETE,
    ),
    # all of the batch, first attempt, the worker lived to say so
    ("the environment is down", NOTHING, {}, TOTAL),
    ("all were rejected", {**NOTHING, "retryable": 0}, {}, TOTAL),
    ("the dependency was down", {**NOTHING, "stop": Stop.DEPENDENCY, "untried": 9}, {}, TOTAL),
    ("the worker raised", {**NOTHING, "stop": Stop.ERROR, "untried": 10}, {}, TOTAL),
    ("time ran out before the first was done", {**NOTHING, **TIME}, {}, TOTAL),
    ("a batch of one fails", {**NOTHING, "batch": 1, "outstanding": 1, "retryable": 1}, {}, TOTAL),
    ("… but the stage spends its tries first", NOTHING, {"spend_tries_first": True}, RETRY),
    ("… and they are spent", {**NOTHING, "try_count": 3}, {"spend_tries_first": True}, TOTAL),
    (
        "… and all were rejected, so trying again is idle",
        {**NOTHING, "retryable": 0},
        {"spend_tries_first": True},
        TOTAL,
    ),
    ("all outstanding, but the worker died", {**NOTHING, "lived": False, "stop": None}, {}, RETRY),
    ("all outstanding, but not the first attempt", {**NOTHING, "attempt": 1, "try_count": 1}, {}, RETRY),
    ("all but one outstanding", {"succeeded": 1, "outstanding": 9, "retryable": 9}, {}, RETRY),
    ("all but one outstanding, which was skipped", {**NOTHING, "outstanding": 9, "retryable": 9}, {}, RETRY),
    # only permanent, or tries used up
    ("only permanent failures", {"outstanding": 1, "retryable": 0}, {}, EXHAUSTED),
    ("only permanent failures and no success", {**NOTHING, "retryable": 0, "attempt": 1}, {}, TOTAL),
    ("the last try", {"try_count": 3}, {}, EXHAUSTED),
    ("the last try but one", {"try_count": 2}, {}, RETRY),
    ("more tries than allowed", {"try_count": 9}, {}, EXHAUSTED),
    ("a stage of one try", {}, {"max_tries": 1}, EXHAUSTED),
    ("the last try and no success in the whole stage", {**NOTHING, "attempt": 5, "try_count": 3}, {}, TOTAL),
    (
        "a bad residue that failed again does not fail the stage",
        {"attempt": 3, "try_count": 3, "journaled_now": 0},
        {},
        EXHAUSTED,
    ),
    ("the last try, and the worker died", {"try_count": 3, "lived": False, "stop": None}, {}, EXHAUSTED),
    # stopped for time after getting somewhere
    ("time ran out after getting somewhere", TIME, {}, CONTINUE),
    ("… in the last try, which is not over", {**TIME, "try_count": 3}, {}, CONTINUE),
    ("… after hundreds of passes", {**TIME, "attempt": 500}, {}, CONTINUE),
    ("… but all that is left was tried", {**TIME, "untried": 0}, {}, RETRY),
    ("… but nowhere was got", {**TIME, "journaled_now": 0, "attempt": 1}, {}, RETRY),
    ("… but nowhere, in the last try", {**TIME, "journaled_now": 0, "attempt": 1, "try_count": 3}, {}, EXHAUSTED),
    (
        "… or no further than containing a record that hangs",
        {**TIME, "journaled_now": 0, "contained_now": 1, "attempt": 1},
        {},
        CONTINUE,
    ),
    ("… but only permanent ones are left", {**TIME, "retryable": 0, "untried": 0}, {}, EXHAUSTED),
    ("stopped for a dependency", {"stop": Stop.DEPENDENCY, "untried": 1}, {}, RETRY),
    ("stopped for an error", {"stop": Stop.ERROR, "untried": 1}, {}, RETRY),
    ("went through, with untried ones that a batch worker forgot", {"untried": 1}, {}, RETRY),
    # else
    ("some are outstanding", {}, {}, RETRY),
    ("the worker died with some done", {"lived": False, "stop": None}, {}, RETRY),
    # deeper attempts ended without a result
    ("the recursion died", {"recursion_died": True}, {}, EXHAUSTED),
    ("the recursion died with time left to go on", {**TIME, "recursion_died": True}, {}, EXHAUSTED),
    ("the recursion died, no success", {**NOTHING, "attempt": 1, "recursion_died": True}, {}, TOTAL),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "policy", "verdict"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_verdict_is_the_first_row_of_the_table_that_holds(
    changes: dict[str, Any], policy: dict[str, Any], verdict: Verdict
) -> None:
    assert decide(facts(**changes), Policy(**policy)) is verdict


def every_case() -> list[Facts]:
    """Every combination of small counts that can be."""
    return [
        facts(
            batch=2,
            succeeded=succeeded,
            outstanding=outstanding,
            retryable=retryable,
            untried=untried,
            journaled_now=now,
            contained_now=contained,
            attempt=attempt,
            try_count=try_count,
            lived=lived,
            stop=stop if lived else None,
            recursion_died=died,
        )
        for succeeded, outstanding, retryable, untried, now, contained, attempt, try_count in product(
            range(3), range(3), range(3), range(3), range(3), range(2), range(2), (0, 3)
        )
        for lived, stop, died in product((True, False), (None, *Stop), (True, False))
        if succeeded + outstanding <= 2 and untried <= retryable <= outstanding and now <= succeeded
    ]


def test_a_stage_that_has_a_success_and_deeper_attempts_never_fail_for_a_residue() -> None:
    for case in every_case():
        if case.succeeded:
            assert decide(case, Policy()) is not TOTAL


def test_nothing_outstanding_is_complete_and_nothing_else_is() -> None:
    for case in every_case():
        assert (decide(case, Policy()) is COMPLETE) == (case.outstanding == 0)


def test_going_on_always_has_something_to_go_on_with() -> None:
    for case in every_case():
        verdict = decide(case, Policy())
        if verdict is RETRY:
            assert case.retryable
            assert case.try_count + 1 < Policy().max_tries
        if verdict is CONTINUE:
            assert case.untried
            assert case.journaled_now or case.contained_now
        if case.recursion_died:
            assert verdict not in (RETRY, CONTINUE)
