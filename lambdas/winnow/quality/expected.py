"""What a rule asks for, in words, for alerts and the command line."""

from __future__ import annotations

from winnow.core.errors import shorten
from winnow.quality.rules import (
    Allowed,
    DeleteBudget,
    Fresh,
    InRange,
    LossBudget,
    NullShare,
    OfType,
    Pattern,
    References,
    RowCount,
    Rule,
    ShareChanged,
    Sql,
    Unique,
)

MAX_SHOWN_CHARS = 200


def expected_of(rule: Rule) -> str:
    """One line."""
    match rule:
        case RowCount():
            rows = _between(rule.at_least, rule.at_most, "{:,}")
            ratio = _between(rule.min_ratio, rule.max_ratio, "{:g}")
            parts = [f"{rows} rows"] if rows else []
            return " and ".join([*parts, *([f"{ratio} times the rows of the last version"] if ratio else [])])
        case LossBudget():
            return f"at most {percent(rule.at_most)} of the run's records failed"
        case DeleteBudget():
            share = (
                [f"{percent(rule.at_most)} of the last version's rows"] if rule.at_most is not None else []
            )
            rows = f"{rule.at_most_rows:,} rows" if rule.at_most_rows is not None else ""
            return f"at most {' and '.join(filter(None, [*share, rows]))} removed"
        case ShareChanged():
            return f"at most {percent(rule.at_most)} of the last version's rows changed"
        case NullShare():
            return f"{rule.column} is null in {_at_most(rule.at_most)}"
        case OfType():
            return f"{rule.column} is of type {rule.type}"
        case Fresh():
            return f"the newest {rule.column} is at most {rule.within} older than the run"
        case Allowed():
            values = shorten(list(rule.values), MAX_SHOWN_CHARS)
            return f"{rule.column} is one of {values}{_but(rule.tolerate)}"
        case Pattern():
            return f"{rule.column} matches {shorten(rule.pattern, MAX_SHOWN_CHARS)}{_but(rule.tolerate)}"
        case InRange():
            between = _between(rule.minimum, rule.maximum, "{}")
            return f"{rule.column} is {between}{_but(rule.tolerate)}"
        case References():
            return f"{rule.column} is an id of publication {rule.publication}{_but(rule.tolerate)}"
        case Unique():
            return f"no two rows have the same {rule.subject}"
        case Sql():
            return f"{shorten(rule.subject, MAX_SHOWN_CHARS)} is true{_but(rule.tolerate)}"
        case _:
            raise TypeError(f"{type(rule).__name__} is no rule of the gate")


def percent(share: float) -> str:
    """A share with as many digits as it takes to see it."""
    return f"{share * 100:.4g}%"


def _at_most(share: float) -> str:
    return f"at most {percent(share)} of the rows" if share else "no row"


def _but(tolerate: float) -> str:
    return f", but for {percent(tolerate)} of the rows" if tolerate else " in every row"


def _between(least: float | str | None, most: float | str | None, form: str) -> str:
    if least is not None and most is not None:
        return f"{form.format(least)} to {form.format(most)}"
    if least is not None:
        return f"at least {form.format(least)}"
    return f"at most {form.format(most)}" if most is not None else ""
