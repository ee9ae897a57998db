"""Every rule about rows against a plain model of it in Python, on rows that Hypothesis draws, however they are cut."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.winnow.candidates import BEGAN, FORMATS, examine, facts, write_parts
from winnow.quality.result import GateOutcome
from winnow.quality.rules import (
    Allowed,
    Fresh,
    InRange,
    NullShare,
    Pattern,
    References,
    Rule,
    Sql,
    Unique,
    moment,
)

WHY = "consumers count on it"
TEXTS = st.sampled_from(["", "a", "b", "ä", "A", "a\nb", "'", "Ⅷ", "𝄞", "2026-01-01", "null", "a.b", " "])
INTEGERS = st.integers(-3, 3) | st.sampled_from([2**53, -(2**53), 2**62])
FLOATS = st.sampled_from([0.0, -0.0, 0.5, -1.5, 1e300, 3.0]) | st.floats(-3, 3, width=16)
DATES = st.sampled_from(
    [
        "2025-12-31",
        "2026-02-28T10:00:00Z",
        "2026-02-28T10:00:00+02:00",
        "2026-03-01",
        "2026-03-02",
        "soon",
        "",
    ]
)
SHARES = st.sampled_from([0, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.99, 1])
KINDS: dict[str, tuple[st.SearchStrategy[Any], pa.DataType]] = {
    "text": (TEXTS, pa.string()),
    "integer": (INTEGERS, pa.int64()),
    "float": (FLOATS, pa.float64()),
    "date": (DATES, pa.string()),
    "list": (st.lists(st.integers(0, 1), max_size=2), pa.list_(pa.int64())),
    "object": (
        st.fixed_dictionaries({"k": st.none() | st.integers(0, 1)}),
        pa.struct([("k", pa.int64())]),
    ),
}
Violates = Callable[[Sequence[Any]], list[bool]]
"""From the values of a column to whether each row violates the rule."""


def each(violates: Callable[[Any], bool]) -> Violates:
    return lambda values: [value is not None and violates(value) for value in values]


def repeated(values: Sequence[Any]) -> list[bool]:
    seen = Counter(
        json.dumps(value + 0 if isinstance(value, float) else value) for value in values if value is not None
    )
    return [
        value is not None and seen[json.dumps(value + 0 if isinstance(value, float) else value)] > 1
        for value in values
    ]


def outside(low: Any, high: Any, place: Callable[[Any], Any] = lambda value: value) -> Violates:
    def is_outside(value: Any) -> bool:
        try:
            found = place(value)
        except ValueError:
            return True
        return (low is not None and found < place(low)) or (high is not None and found > place(high))

    return each(is_outside)


PATTERNS = ("a", "[a-z]*", "a.b", "ä|Ⅷ", ".", "", "(?i)a", r"\d{4}-\d\d-\d\d")


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, Rule, Violates, float]:
    """A kind of column, a rule about it, what it means, and the share of rows that may violate it."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    values = KINDS[kind][0]
    share = draw(SHARES)
    choices: list[Callable[[], tuple[Rule, Violates]]] = [
        lambda: (
            NullShare("x", at_most=share, reason=WHY),
            lambda values: [value is None for value in values],
        ),
        lambda: (Unique("x", reason=WHY), repeated),
        lambda: (
            Sql("x IS NOT NULL AND id <> 'a00001'", reason=WHY, tolerate=share),
            lambda values: [value is None or place == 1 for place, value in enumerate(values)],
        ),
    ]
    if kind in {"text", "integer", "float"}:
        allowed = draw(st.lists(values, min_size=1, max_size=4))
        choices.append(
            lambda: (
                Allowed("x", values=tuple(allowed), reason=WHY, tolerate=share),
                each(lambda value: value not in allowed),
            )
        )
    if kind in {"integer", "float"}:
        low, high = draw(st.none() | st.integers(-2, 0)), draw(st.integers(0, 2))
        choices.append(
            lambda: (InRange("x", minimum=low, maximum=high, reason=WHY, tolerate=share), outside(low, high))
        )
    if kind == "text":
        pattern = draw(st.sampled_from(PATTERNS))
        choices += [
            lambda: (
                Pattern("x", pattern=pattern, reason=WHY, tolerate=share),
                each(lambda value: not re.fullmatch(pattern, value, re.DOTALL)),
            ),
            lambda: (
                References("x", publication="works", reason=WHY, tolerate=share),
                each(lambda value: value not in {"a", "ä", "Ⅷ"}),
            ),
        ]
    if kind == "date":
        low_date, high_date = (
            draw(st.sampled_from(["2026-01-01", "2026-02-28T08:00:00Z"])),
            draw(st.sampled_from([None, "2026-03-01"])),
        )
        choices.append(
            lambda: (
                InRange("x", minimum=low_date, maximum=high_date, reason=WHY, tolerate=share),
                outside(low_date, high_date, moment),
            )
        )
    rule, violates = draw(st.sampled_from(choices))()
    return kind, rule, violates, 0 if isinstance(rule, Unique) else share


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_finds_what_the_model_finds(form: str, data: st.DataObject) -> None:
    kind, rule, violates, share = data.draw(cases())
    values = data.draw(st.lists(st.none() | KINDS[kind][0], max_size=12))
    # A type is only known from a value, and a rule must not be refused for want of one.
    rows = [{"id": f"a{place:05d}", "x": value} for place, value in enumerate(values)]
    cut = data.draw(st.integers(1, 5))
    parts = [rows[start : start + cut] for start in range(0, len(rows), cut)]
    expected = [row["id"] for row, is_wrong in zip(rows, violates(values), strict=True) if is_wrong]

    with TemporaryDirectory() as folder:
        schema = pa.schema([("id", pa.string()), ("x", KINDS[kind][1])])
        source = write_parts(Path(folder), form, parts, schema)
        works = write_parts(Path(folder), form, [[{"id": "a"}, {"id": "ä"}], [{"id": "Ⅷ"}]])
        (result,), violating = examine([rule], source, facts(len(rows)), {"works": works})

    assert result.evaluated, result.found
    assert result.violations == len(expected)
    is_violated = len(expected) > share * len(rows) + 1e-9
    assert result.outcome is (GateOutcome.BLOCKED if is_violated else GateOutcome.PASSED)
    assert sorted(identifier for _, identifier in violating) == (expected if is_violated else [])
    assert list(result.first_ids) == (expected[:5] if is_violated else [])


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.none() | DATES, max_size=6), days=st.integers(1, 400))
def test_finds_the_newest_date_as_the_model_does(form: str, values: list[str | None], days: int) -> None:
    rows = [{"id": f"a{place:05d}", "x": value} for place, value in enumerate(values)]
    known = []
    for value in values:
        try:
            known.append(moment(value))
        except ValueError:
            continue
    fresh = bool(known) and max(known) >= BEGAN - timedelta(days=days)

    with TemporaryDirectory() as folder:
        schema = pa.schema([("id", pa.string()), ("x", pa.string())])
        source = write_parts(Path(folder), form, [rows[:2], rows[2:]], schema)
        (result,), _ = examine([Fresh("x", within=f"{days}d", reason=WHY)], source, facts(len(rows)))

    assert result.evaluated
    assert result.outcome is (GateOutcome.PASSED if fresh else GateOutcome.BLOCKED)
