"""Rules that numbers decide: each with what passes, what does not, and what a first version is held against."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.winnow.candidates import facts
from winnow.quality.facts import RunCounts, judge_facts
from winnow.quality.result import GateOutcome
from winnow.quality.rules import (
    DeleteBudget,
    LossBudget,
    NullShare,
    RowCount,
    Rule,
    RuleSeverity,
    ShareChanged,
)

WHY = "consumers count on it"
FIRST = {"base": None, "base_rows": 0}


@pytest.mark.parametrize(
    ("rule", "rows", "known", "passes", "found"),
    [
        (RowCount(at_least=10, reason=WHY), 10, {}, True, "10 rows, 0.1 times the 100 of version 1"),
        (RowCount(at_least=10, reason=WHY), 9, {}, False, "9 rows, 0.09 times the 100 of version 1"),
        (RowCount(at_most=10, reason=WHY), 11, {}, False, "11 rows, 0.11 times the 100 of version 1"),
        (RowCount(min_ratio=0.9, reason=WHY), 90, {}, True, "90 rows, 0.9 times the 100 of version 1"),
        (RowCount(min_ratio=0.9, reason=WHY), 89, {}, False, "89 rows, 0.89 times the 100 of version 1"),
        (RowCount(max_ratio=1.29, reason=WHY), 129, {}, True, "129 rows, 1.29 times the 100 of version 1"),
        (RowCount(max_ratio=1.29, reason=WHY), 130, {}, False, "130 rows, 1.3 times the 100 of version 1"),
        (RowCount(max_ratio=1 / 3, reason=WHY), 33, {"base_rows": 99}, True, "33 rows, 0.3333 times the 99 of version 1"),
        (RowCount(min_ratio=0.9, reason=WHY), 0, FIRST, True, "0 rows, and no last version"),
        (RowCount(at_least=1, reason=WHY), 0, FIRST, False, "0 rows, and no last version"),
        (RowCount(min_ratio=0.9, reason=WHY), 0, {"base_rows": 0}, True, "0 rows, the 0 of version 1"),
        (RowCount(max_ratio=2, reason=WHY), 1, {"base_rows": 0}, False, "1 rows, the 0 of version 1"),
        (LossBudget(at_most=0.29, reason=WHY), 1, {"run": RunCounts(records_in=100, failed=29)}, True,
         "29 of 100 records failed (29%)"),
        (LossBudget(at_most=0.29, reason=WHY), 1, {"run": RunCounts(records_in=100, failed=30)}, False,
         "30 of 100 records failed (30%)"),
        (LossBudget(at_most=0, reason=WHY), 0, {"run": RunCounts(records_in=0, failed=0)}, True, "0 of 0 records failed"),
        (DeleteBudget(at_most=0.07, reason=WHY), 1, {"removed": 7}, True, "7 of the 100 rows of version 1 removed (7%)"),
        (DeleteBudget(at_most=0.07, reason=WHY), 1, {"removed": 8}, False, "8 of the 100 rows of version 1 removed (8%)"),
        (DeleteBudget(at_most_rows=7, reason=WHY), 1, {"removed": 8}, False, "8 of the 100 rows of version 1 removed (8%)"),
        (DeleteBudget(at_most=0, reason=WHY), 1, FIRST, True, "no last version, so nothing removed"),
        (ShareChanged(at_most=0.5, reason=WHY), 1, {"changed": 50}, True, "50 of the 100 rows of version 1 changed (50%)"),
        (ShareChanged(at_most=0.5, reason=WHY), 1, {"changed": 51}, False, "51 of the 100 rows of version 1 changed (51%)"),
        (ShareChanged(at_most=0, reason=WHY), 1, FIRST, True, "no last version, so nothing changed"),
    ],
)  # fmt: skip
def test_judges_by_numbers(rule: Rule, rows: int, known: dict[str, Any], passes: object, found: str) -> None:
    result = judge_facts(rule, facts(rows, **known))

    assert (result.outcome, result.found) == (GateOutcome.PASSED if passes else GateOutcome.BLOCKED, found)
    assert result.violations is None


def test_warns_where_the_rule_says_so() -> None:
    rule = RowCount(at_least=2, reason=WHY, severity=RuleSeverity.WARN)
    assert judge_facts(rule, facts(1)).outcome is GateOutcome.WARNED


def test_blocks_where_the_losses_of_the_run_are_not_known_even_if_the_rule_only_warns() -> None:
    result = judge_facts(LossBudget(at_most=1, reason=WHY, severity=RuleSeverity.WARN), facts(1, run=None))

    assert (result.outcome, result.evaluated) == (GateOutcome.BLOCKED, False)
    assert result.found == "cannot be evaluated: the ledger has no results of the run's stages"


def test_does_not_judge_rows() -> None:
    with pytest.raises(TypeError, match="NullShare is not decided by numbers alone"):
        judge_facts(NullShare("a", at_most=0, reason=WHY), facts(1))
