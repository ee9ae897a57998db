"""Sets of ordinals as sorted, disjoint, half-open intervals, which make settling ten million records cheap."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain, compress, islice, pairwise
from operator import gt, itemgetter, lt

MAX_ORDINAL = 2**53
"""Not every JSON reader keeps larger whole numbers. No batch is that long, so a larger ordinal is garbage."""


def append(flat: list[int], ordinal: int) -> None:
    """Add an ordinal to the end of a flat list of intervals that is still being made."""
    if flat and flat[-1] == ordinal:
        flat[-1] = ordinal + 1
    else:
        flat += (ordinal, ordinal + 1)


def extend(flat: list[int], start: int, stop: int) -> None:
    """Add an interval, which is not empty, to the end of such a list."""
    if flat and flat[-1] == start:
        flat[-1] = stop
    else:
        flat += (start, stop)


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
        starts = sorted(set(ordinals))
        return cls(_covered(starts, [start + 1 for start in starts]))

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[int, int]]) -> Ranges:
        """From half-open intervals in any order, overlaps allowed."""
        kept = [pair for pair in pairs if pair[0] < pair[1]]
        return cls(_covered(sorted(start for start, _ in kept), sorted(stop for _, stop in kept)))

    @classmethod
    def from_json(cls, value: object) -> Ranges:
        """From the flat encoding, checked.

        Raises:
            ValueError: not a flat list of ascending integers.
        """
        if not isinstance(value, list) or len(value) % 2:
            raise ValueError("ranges must be a flat list of start, stop pairs")
        if value and (
            {*map(type, value)} != {int} or value[0] < 0 or not all(map(lt, value, islice(value, 1, None)))
        ):
            raise ValueError("ranges must be ascending whole numbers")
        if value and value[-1] > MAX_ORDINAL:
            raise ValueError(f"ranges must be of ordinals up to {MAX_ORDINAL}, got: {value[-1]}")
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
        if not self or self._flat == other._flat:
            return self
        if not other:
            return other
        mine, _, _ = self._cut(other._flat[0], other._flat[-1])
        theirs, _, _ = other._cut(self._flat[0], self._flat[-1])
        return Ranges(_shared(mine, theirs))

    def __sub__(self, other: Ranges) -> Ranges:
        if not other or not self:
            return self
        if self._flat == other._flat:
            return Ranges([])
        touched, before, after = self._cut(other._flat[0], other._flat[-1])
        if not touched:
            return self
        low, high = touched[0], touched[-1]
        kept = _between(low, _clipped(other._flat, low, high), high)
        return Ranges(before + _shared(touched, kept) + after)

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
    flats = sorted((ranges._flat for ranges in many if ranges), key=itemgetter(0))  # noqa: SLF001  ours
    if len(flats) < 2:
        return Ranges(flats[0] if flats else [])
    if all(before[-1] <= after[0] for before, after in pairwise(flats)):
        return Ranges(_joined(flats))
    starts = sorted(chain.from_iterable(flat[::2] for flat in flats))
    stops = sorted(chain.from_iterable(flat[1::2] for flat in flats))
    return Ranges(_covered(starts, stops))


# The arithmetic, without a loop in Python. Of intervals whose starts and whose stops are sorted, each by itself, as many
# have ended before the i-th start as there are stops before it; which start belongs to which stop does not matter.


def _joined(flats: list[list[int]]) -> list[int]:
    """Join lists that each begin where the one before ends, or later, as the segments of one worker do."""
    flat: list[int] = []
    for each in flats:
        if flat and flat[-1] == each[0]:
            flat.pop()
            flat += islice(each, 1, None)
        else:
            flat += each
    return flat


def _covered(starts: list[int], stops: list[int]) -> list[int]:
    """Where at least one interval is: a gap lies between a start and the stop before it in the order of stops."""
    gaps = [*map(gt, islice(starts, 1, None), stops)]
    return _flat(
        [*starts[:1], *compress(islice(starts, 1, None), gaps)], [*compress(stops, gaps), *stops[-1:]]
    )


def _shared(mine: list[int], theirs: list[int]) -> list[int]:
    """Where intervals of both are: each set's own are disjoint, so two are open from a start to the stop one before it."""
    if len(theirs) == 2:  # one interval only clips
        mine, theirs = theirs, mine
    if len(mine) == 2:
        return _clipped(theirs, *mine)
    starts = sorted(mine[::2] + theirs[::2])
    stops = sorted(mine[1::2] + theirs[1::2])
    del starts[:1]
    both = [*map(lt, starts, stops)]
    return _flat([*compress(starts, both)], [*compress(stops, both)])


def _clipped(flat: list[int], low: int, high: int) -> list[int]:
    """The part of intervals that lies within bounds."""
    inside, _, _ = Ranges(flat)._cut(low, high)  # noqa: SLF001  ours
    if inside and inside[0] < low:
        inside[0] = low
    if inside and inside[-1] > high:
        inside[-1] = high
    return inside


def _between(low: int, flat: list[int], high: int) -> list[int]:
    """The gaps of a flat list within bounds that it touches or does not reach."""
    inner = flat[1:] if flat and flat[0] == low else [low, *flat]
    return inner[:-1] if inner and inner[-1] == high else [*inner, high]


def _flat(starts: list[int], stops: list[int]) -> list[int]:
    flat = starts * 2
    flat[::2] = starts
    flat[1::2] = stops
    return flat
