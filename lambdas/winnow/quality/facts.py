"""Numbers of a candidate, and the rules that they decide by themselves. Pure, so each rule has a table of tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from winnow.quality.expected import expected_of, percent
from winnow.quality.result import GateOutcome, RuleResult, outcome_of
from winnow.quality.rules import DeleteBudget, LossBudget, RowCount, Rule, ShareChanged


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCounts:
    """Records of the run that made the candidate."""

    records_in: int
    """Given to the first stage that ran."""
    failed: int
    """In any stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFacts:
    """What is known of a candidate without reading its rows."""

    rows: int
    changed: int
    """Rows of the last version that have other content now."""
    removed: int
    """Rows of the last version that are not there any more."""
    base: int | None
    """The last version; None for a first publish."""
    base_rows: int
    """0 for a first publish."""
    began: datetime
    """When the run began: freshness is measured from here, so that evaluating again gives the same."""
    run: RunCounts | None = None
    """None where the ledger does not have them."""


FACT_RULES = (RowCount, LossBudget, DeleteBudget, ShareChanged)
"""Rules that need nothing but numbers."""


FINEST = 10**9
"""Shares are told apart down to one row of so many."""


class NotEvaluableError(Exception):
    """Why a rule cannot be evaluated, in words."""


def not_evaluated(rule: Rule, why: str) -> RuleResult:
    """A rule that cannot be evaluated blocks, whatever its severity: nobody knows whether the data is good."""
    return RuleResult(
        rule=rule,
        outcome=GateOutcome.BLOCKED,
        expected=expected_of(rule),
        found=f"cannot be evaluated: {why}",
        evaluated=False,
    )


def judge_facts(rule: Rule, facts: CandidateFacts) -> RuleResult:
    """The result of a rule of `FACT_RULES`."""
    try:
        violated, found = _judge(rule, facts)
    except NotEvaluableError as error:
        return not_evaluated(rule, str(error))
    return RuleResult(
        rule=rule, outcome=outcome_of(rule, violated=violated), expected=expected_of(rule), found=found
    )


def _judge(rule: Rule, facts: CandidateFacts) -> tuple[bool, str]:
    match rule:
        case RowCount():
            return _row_count(rule, facts)
        case LossBudget():
            if facts.run is None:
                raise NotEvaluableError("the ledger has no results of the run's stages")
            failed, given = facts.run.failed, facts.run.records_in
            found = f"{failed:,} of {given:,} records failed{_in_percent(failed, given)}"
            return is_above(failed, rule.at_most, given), found
        case DeleteBudget():
            removed, before = facts.removed, facts.base_rows
            above_share = rule.at_most is not None and is_above(removed, rule.at_most, before)
            above_rows = rule.at_most_rows is not None and removed > rule.at_most_rows
            return above_share or above_rows, _of_last_version(facts, removed, "removed")
        case ShareChanged():
            violated = is_above(facts.changed, rule.at_most, facts.base_rows)
            return violated, _of_last_version(facts, facts.changed, "changed")
        case _:
            raise TypeError(f"{type(rule).__name__} is not decided by numbers alone")


def _row_count(rule: RowCount, facts: CandidateFacts) -> tuple[bool, str]:
    rows, before = facts.rows, facts.base_rows
    violated = (rule.at_least is not None and rows < rule.at_least) or (
        rule.at_most is not None and rows > rule.at_most
    )
    if facts.base is None:
        return violated, f"{rows:,} rows, and no last version"
    # Without rounding, and where the last version is empty, too.
    violated = violated or (rule.min_ratio is not None and rows < exactly(rule.min_ratio) * before)
    violated = violated or (rule.max_ratio is not None and is_above(rows, rule.max_ratio, before))
    times = f", {rows / before:.4g} times" if before else ","
    return violated, f"{rows:,} rows{times} the {before:,} of version {facts.base}"


def is_above(number: int, share: float, of: int) -> bool:
    """Whether a number is more than a share of another one. Of nothing, nothing is no share too much."""
    return number > exactly(share) * of


def exactly(share: float) -> Fraction:
    """The number that a person meant: as binary fractions, 0.29 of 100 rows is less than 29, and a third of 3 is less than 1."""
    return Fraction(share).limit_denominator(FINEST)


def _of_last_version(facts: CandidateFacts, number: int, what: str) -> str:
    if facts.base is None:
        return f"no last version, so nothing {what}"
    return f"{number:,} of the {facts.base_rows:,} rows of version {facts.base} {what}{_in_percent(number, facts.base_rows)}"


def _in_percent(number: int, of: int) -> str:
    return f" ({percent(number / of)})" if of else ""
