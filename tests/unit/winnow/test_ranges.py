from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.core.ranges import MAX_ORDINAL, Ranges, union

ordinals = st.sets(st.integers(0, 60))
pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)))


def as_set(ranges: Ranges) -> set[int]:
    return set(ranges)


def is_canonical(ranges: Ranges) -> bool:
    """Sorted, disjoint and not adjacent: only then are equal sets equal ranges."""
    flat = ranges.to_json()
    return all(a < b for a, b in pairwise(flat))


@given(ordinals, ordinals)
def test_agrees_with_python_sets(a: set[int], b: set[int]) -> None:
    mine, theirs = Ranges.of(a), Ranges.of(b)
    for found, wanted in (
        (mine | theirs, a | b),
        (mine & theirs, a & b),
        (mine - theirs, a - b),
        (union([mine, theirs, mine]), a | b),
    ):
        assert as_set(found) == wanted
        assert is_canonical(found)
        assert len(found) == len(wanted)
        assert bool(found) == bool(wanted)
        assert found == Ranges.of(wanted)
        assert hash(found) == hash(Ranges.of(wanted))


@given(ordinals, ordinals)
def test_leaves_its_operands_as_they_were(a: set[int], b: set[int]) -> None:
    mine, theirs = Ranges.of(a), Ranges.of(b)
    _ = (mine | theirs, mine & theirs, mine - theirs, union([mine, theirs]), mine.first(3), mine.after(2))
    assert (as_set(mine), as_set(theirs)) == (a, b)


@given(st.lists(st.integers(0, 60)))
def test_takes_ordinals_in_any_order_and_repeated(given_ordinals: list[int]) -> None:
    made = Ranges.of(given_ordinals)
    assert list(made) == sorted(set(given_ordinals))
    assert is_canonical(made)


@given(pairs)
def test_takes_intervals_that_overlap_touch_or_are_empty(given_pairs: list[tuple[int, int]]) -> None:
    made = Ranges.from_pairs(given_pairs)
    assert as_set(made) == {n for start, stop in given_pairs for n in range(start, stop)}
    assert is_canonical(made)


@given(ordinals, st.integers(0, 61), st.integers(0, 61))
def test_cuts_where_it_is_told(a: set[int], low: int, high: int) -> None:
    made = Ranges.of(a)
    assert list(made.first(low)) == sorted(a)[:low]
    assert as_set(made.after(low)) == {n for n in a if n >= low}
    assert as_set(made.within(low, high)) == {n for n in a if low <= n < high}
    assert made.stop == (max(a) + 1 if a else 0)
    assert all((n in made) == (n in a) for n in range(62))


@given(ordinals)
def test_survives_json(a: set[int]) -> None:
    made = Ranges.of(a)
    assert Ranges.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    "value",
    [None, "0-3", {}, [1], [3, 1], [0, 0], [0, 2, 2, 4], [0, 5, 3, 9], [-1, 2], [0, 1.5], [0, True], ["0", "1"],
     [0, MAX_ORDINAL + 1], [0, 10**30]],
)  # fmt: skip
def test_refuses_what_is_no_encoding(value: object) -> None:
    with pytest.raises(ValueError, match="ranges must be"):
        Ranges.from_json(value)


def test_counts_intervals_and_not_ordinals() -> None:
    many = Ranges.span(0, 10_000_000_000) - Ranges.of([5_000_000_000])
    assert len(many) == 9_999_999_999
    assert len(many.to_json()) == 4


def test_shows_itself_in_words() -> None:
    assert repr(Ranges.of([0, 1, 2, 7])) == "Ranges(0-2, 7)"
