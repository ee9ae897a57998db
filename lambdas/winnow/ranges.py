"""Sets of ordinals as sorted, disjoint, half-open intervals: what makes settling ten million records cheap."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

MAX_ORDINAL = 2**53
"""Whole numbers beyond it do not survive every JSON reader; no batch comes near it, so such a claim is garbage."""


class Ranges:
    """An immutable set of ordinals. Encoded as a flat list `[start, stop, start, stop, …]`, half-open.

    Memory and time grow with the number of intervals, not with the number of ordinals.
    """

    __slots__ = ("_flat",)

    def __init__(self, flat: list[int]) -> None:
        """`flat` must already be sorted, disjoint and non-adjacent; use `of`, `from_pairs` or `from_json` otherwise."""
        self._flat = flat

    @classmethod
    def empty(cls) -> Ranges:
        return cls([])

    @classmethod
    def span(cls, start: int, stop: int) -> Ranges:
        return cls([start, stop]) if stop > start else cls([])

    @classmethod
    def of(cls, ordinals: Iterable[int]) -> Ranges:
        """From single ordinals in any order, repeats allowed."""
        flat: list[int] = []
        for ordinal in sorted(ordinals):
            if flat and ordinal <= flat[-1]:
                if ordinal == flat[-1]:
                    flat[-1] = ordinal + 1
            else:
                flat += (ordinal, ordinal + 1)
        return cls(flat)

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[int, int]]) -> Ranges:
        """From half-open intervals in any order, overlaps allowed."""
        flat: list[int] = []
        for start, stop in sorted(pairs):
            if start >= stop:
                continue
            if flat and start <= flat[-1]:
                if stop > flat[-1]:
                    flat[-1] = stop
            else:
                flat += (start, stop)
        return cls(flat)

    @classmethod
    def from_json(cls, value: object) -> Ranges:
        """From the flat encoding, checked.

        Raises:
            ValueError: not a flat list of ascending integers.
        """
        if not isinstance(value, list) or len(value) % 2:
            raise ValueError("ranges must be a flat list of start, stop pairs")
        before = -1
        for item in value:
            if type(item) is not int or item <= before:
                raise ValueError("ranges must be ascending whole numbers")
            before = item
        if before > MAX_ORDINAL:
            raise ValueError(f"ranges must be of ordinals up to {MAX_ORDINAL}, got: {before}")
        return cls(value)

    def to_json(self) -> list[int]:
        return self._flat

    def __len__(self) -> int:
        flat = self._flat
        return sum(flat[1::2]) - sum(flat[::2])

    def __bool__(self) -> bool:
        return bool(self._flat)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._flat == other._flat

    def __hash__(self) -> int:
        return hash(tuple(self._flat))

    def __repr__(self) -> str:
        return f"Ranges({', '.join(f'{a}-{b - 1}' if b - a > 1 else str(a) for a, b in self.pairs())})"

    def __contains__(self, ordinal: int) -> bool:
        return bool(bisect_right(self._flat, ordinal) % 2)

    def __iter__(self) -> Iterator[int]:
        for start, stop in self.pairs():
            yield from range(start, stop)

    def pairs(self) -> Iterator[tuple[int, int]]:
        flat = self._flat
        return zip(flat[::2], flat[1::2], strict=True)

    @property
    def stop(self) -> int:
        """One past the largest ordinal; 0 when empty."""
        return self._flat[-1] if self._flat else 0

    def __or__(self, other: Ranges) -> Ranges:
        if not other:
            return self
        if not self:
            return other
        return union((self, other))

    def __and__(self, other: Ranges) -> Ranges:
        flat: list[int] = []
        if not self or not other:
            return Ranges(flat)
        mine, _, _ = self._cut(other._flat[0], other._flat[-1])
        theirs, _, _ = other._cut(self._flat[0], self._flat[-1])
        i = j = 0
        while i < len(mine) and j < len(theirs):
            start, stop = max(mine[i], theirs[j]), min(mine[i + 1], theirs[j + 1])
            if start < stop:
                flat += (start, stop)
            if mine[i + 1] < theirs[j + 1]:
                i += 2
            else:
                j += 2
        return Ranges(flat)

    def __sub__(self, other: Ranges) -> Ranges:
        if not other or not self:
            return self
        touched, before, after = self._cut(other._flat[0], other._flat[-1])
        removed, _, _ = other._cut(self._flat[0], self._flat[-1])
        flat = before
        i, last = 0, len(removed)
        for start, stop in zip(touched[::2], touched[1::2], strict=True):
            while i < last and removed[i + 1] <= start:
                i += 2
            j = i
            while j < last and removed[j] < stop:
                if removed[j] > start:
                    flat += (start, removed[j])
                start = removed[j + 1]
                if start >= stop:
                    break
                j += 2
            if start < stop:
                flat += (start, stop)
            i = j
        return Ranges(flat + after)

    def _cut(self, low: int, high: int) -> tuple[list[int], list[int], list[int]]:
        """The intervals that touch `[low, high)`, those before and those after: work stays local to what changes."""
        flat = self._flat
        first = bisect_right(flat, low) // 2 * 2
        if first and flat[first - 1] > low:
            first -= 2
        last = (bisect_left(flat, high) + 1) // 2 * 2
        return flat[first:last], flat[:first], flat[last:]

    def first(self, count: int) -> Ranges:
        """The smallest `count` ordinals."""
        flat: list[int] = []
        for start, stop in self.pairs():
            if count <= 0:
                break
            taken = min(stop, start + count)
            flat += (start, taken)
            count -= taken - start
        return Ranges(flat)

    def after(self, ordinal: int) -> Ranges:
        """Those from `ordinal` on."""
        return self - Ranges.span(0, ordinal) if ordinal > 0 else self

    def within(self, start: int, stop: int) -> Ranges:
        """Those in the half-open interval."""
        return self & Ranges.span(start, stop)


def union(many: Iterable[Ranges]) -> Ranges:
    """The union of any number of sets, in one sort."""
    return Ranges.from_pairs(pair for ranges in many for pair in ranges.pairs())
