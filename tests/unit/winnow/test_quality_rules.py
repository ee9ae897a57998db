"""Rules of the gate as data: checked when they are made, and the same after a journey as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from winnow.quality.expected import expected_of
from winnow.quality.rules import (
    KINDS,
    MAX_RULES_BYTES,
    Allowed,
    DeleteBudget,
    Fresh,
    InRange,
    InvalidRule,
    LossBudget,
    NullShare,
    OfType,
    Pattern,
    References,
    RowCount,
    Rule,
    RuleSeverity,
    ShareChanged,
    Sql,
    Unique,
    checked_rules,
    rule_from_json,
    rules_from_json,
    rules_to_json,
)

WHY = "consumers count on it"
ONE_OF_EACH: tuple[Rule, ...] = (
    RowCount(at_least=1, at_most=10, min_ratio=0.9, max_ratio=1.5, reason=WHY),
    LossBudget(at_most=0.05, reason=WHY),
    DeleteBudget(at_most=0.1, at_most_rows=5, reason=WHY, severity=RuleSeverity.WARN),
    ShareChanged(at_most=0.5, reason=WHY),
    NullShare("title", at_most=0.01, reason=WHY),
    OfType("year", type="integer", reason=WHY),  # type: ignore[arg-type]  # as in a rules file
    Fresh("seen", within="36h", reason=WHY),
    Allowed("language", values=("ar", "fa"), reason=WHY, tolerate=0.1),
    Pattern("shelf", pattern=r"WMS [0-9]+", reason=WHY),
    InRange("year", minimum=0, maximum=2100, reason=WHY),
    References("work", publication="works", reason=WHY),
    Unique(("shelf", "language"), reason=WHY, name="one shelf each"),
    Sql("pages IS NULL OR pages > 0", reason=WHY),
)


def test_covers_every_kind_in_these_tests() -> None:
    assert {type(rule) for rule in ONE_OF_EACH} == set(KINDS.values())


@pytest.mark.parametrize("rule", ONE_OF_EACH, ids=lambda rule: rule.kind)
def test_is_the_same_after_a_journey_as_json(rule: Rule) -> None:
    assert rule_from_json(json.loads(json.dumps(rule.to_json()))) == rule


def test_names_a_rule_after_what_it_is_about() -> None:
    assert [rule.name for rule in ONE_OF_EACH] == [
        "row count", "loss budget", "delete budget", "share changed", "null share title", "of type year", "fresh seen",
        "allowed language", "pattern shelf", "in range year", "references work", "one shelf each",
        "sql pages IS NULL OR pages > 0",
    ]  # fmt: skip


def test_says_in_words_what_each_rule_asks_for() -> None:
    assert [expected_of(rule) for rule in ONE_OF_EACH] == [
        "1 to 10 rows and 0.9 to 1.5 times the rows of the last version",
        "at most 5% of the run's records failed",
        "at most 10% of the last version's rows and 5 rows removed",
        "at most 50% of the last version's rows changed",
        "title is null in at most 1% of the rows",
        "year is of type integer",
        "the newest seen is at most 36h older than the run",
        "language is one of ['ar', 'fa'], but for 10% of the rows",
        "shelf matches 'WMS [0-9]+' in every row",
        "year is 0 to 2100 in every row",
        "work is an id of publication works in every row",
        "no two rows have the same shelf, language",
        "'pages IS NULL OR pages > 0' is true in every row",
    ]


REFUSED: tuple[tuple[Callable[[], Any], str], ...] = (
    (lambda: NullShare("a", at_most=2, reason=WHY), "NullShare.at_most: must be a share from 0 to 1"),
    (lambda: NullShare("a", at_most=float("nan"), reason=WHY), "NullShare.at_most: must be a share"),
    (lambda: NullShare("a", at_most=True, reason=WHY), "NullShare.at_most: must be a share"),
    (lambda: NullShare("", at_most=0, reason=WHY), "NullShare.column: must name a column"),
    (lambda: NullShare("a", at_most=0, reason=" "), "NullShare.reason: must say"),
    (lambda: NullShare("a", at_most=0, reason=WHY, severity="shout"), "NullShare.severity: must be one of block, warn"),  # type: ignore[arg-type]
    (lambda: NullShare("a", at_most=0, reason=WHY, name="a\nb"), "NullShare.name: must be printable"),
    (lambda: RowCount(reason=WHY), "RowCount.at_least: or at_most, min_ratio or max_ratio must be given"),
    (lambda: RowCount(at_least=-1, reason=WHY), "RowCount.at_least: must be a number of rows"),
    (lambda: RowCount(at_least=5, at_most=4, reason=WHY), r"RowCount.at_most: must not be below at_least \(5\)"),
    (lambda: RowCount(min_ratio=2, max_ratio=1, reason=WHY), "RowCount.max_ratio: must not be below min_ratio"),
    (lambda: RowCount(min_ratio=-0.1, reason=WHY), "RowCount.min_ratio: must be a number, 0 or more"),
    (lambda: DeleteBudget(reason=WHY), "DeleteBudget.at_most: or at_most_rows must be given"),
    (lambda: LossBudget(at_most=1.01, reason=WHY), "LossBudget.at_most: must be a share"),
    (lambda: OfType("a", type="str", reason=WHY), "OfType.type: must be one of text, integer"),  # type: ignore[arg-type]
    (lambda: Fresh("a", within="2 days", reason=WHY), "Fresh.within: must be a number and m, h or d"),
    (lambda: Fresh("a", within="0d", reason=WHY), "Fresh.within: must be a number and m, h or d"),
    (lambda: Allowed("a", values=(), reason=WHY), "Allowed.values: must be at least one"),
    (lambda: Allowed("a", values="ar", reason=WHY), "Allowed.values: must be a list of values"),  # type: ignore[arg-type]
    (lambda: Allowed("a", values=("ar", 1), reason=WHY), "Allowed.values: must be at least one, and all text"),
    (lambda: Allowed("a", values=(float("inf"),), reason=WHY), "Allowed.values: must be at least one"),
    (lambda: Pattern("a", pattern="(", reason=WHY), "Pattern.pattern: must be a regular expression"),
    (lambda: Pattern("a", pattern="(?=b)a", reason=WHY), "Pattern.pattern: must be without look-around"),
    (lambda: Pattern("a", pattern=r"(a)\1", reason=WHY), "Pattern.pattern: must be without look-around"),
    (lambda: InRange("a", reason=WHY), "InRange.minimum: or maximum must be given"),
    (lambda: InRange("a", minimum="soon", reason=WHY), "InRange.minimum: must be a number, or a date"),
    (lambda: InRange("a", minimum=1, maximum="2026-01-01", reason=WHY), "InRange.maximum: must be a number or a date as"),
    (lambda: InRange("a", minimum="2026-02-01", maximum="2026-01-01", reason=WHY), "InRange.maximum: must not be below"),
    (lambda: InRange("a", minimum=3, maximum=2, reason=WHY), "InRange.maximum: must not be below"),
    (lambda: References("a", publication="No!", reason=WHY), "References.publication: must be a publication's name"),
    (lambda: References("a", publication="b", bucket="", reason=WHY), "References.bucket: must be the name of the bucket"),
    (lambda: Unique((), reason=WHY), "Unique.columns: must name a column"),
    (lambda: Unique(("a", "a"), reason=WHY), "Unique.columns: must name each column once"),
    (lambda: Sql(" ", reason=WHY), "Sql.expression: must be an expression"),
    (lambda: Sql("a", tolerate=-1, reason=WHY), "Sql.tolerate: must be a share"),
    (lambda: rule_from_json([]), "rules.rule: must be an object with a kind"),
    (lambda: rule_from_json({"kind": "magic"}), "rules.kind: must be one of row_count"),
    (lambda: rule_from_json({"kind": "unique", "reason": WHY}), "Unique.columns: must be given"),
    (lambda: rule_from_json({"kind": "sql", "expression": "a", "reason": WHY, "at": 1}), "Sql.at: is not among"),
    (lambda: rules_from_json({}), "quality.rules: must be a list of rules"),
)  # fmt: skip


@pytest.mark.parametrize(("make", "said"), REFUSED)
def test_refuses_what_cannot_be_meant_in_one_line(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(InvalidRule, match=f"^{said}") as refused:
        make()
    assert "\n" not in str(refused.value)
    assert ", got: " in str(refused.value)


def test_refuses_two_rules_of_one_name() -> None:
    rule = NullShare("a", at_most=0, reason=WHY)
    with pytest.raises(
        InvalidRule, match=r"must be another for each rule; give one of them a name, got: 'null share a'"
    ):
        checked_rules([rule, rule])


def test_refuses_rules_that_do_not_fit_into_a_payload() -> None:
    rules = [Allowed("a", values=("x" * MAX_RULES_BYTES,), reason=WHY)]
    with pytest.raises(InvalidRule, match=r"must be at most 12000 bytes as JSON"):
        checked_rules(rules)
    with pytest.raises(InvalidRule, match="must be at most 100"):
        checked_rules([NullShare(f"c{number}", at_most=0, reason=WHY) for number in range(101)])


def test_refuses_what_is_no_rule() -> None:
    with pytest.raises(
        InvalidRule, match=r"quality\.rules: must be rules of winnow\.quality\.rules, got: 'unique'"
    ):
        checked_rules(["unique"])  # type: ignore[list-item]


def test_keeps_the_rules_in_their_order() -> None:
    assert rules_from_json(json.loads(json.dumps(rules_to_json(ONE_OF_EACH)))) == ONE_OF_EACH
