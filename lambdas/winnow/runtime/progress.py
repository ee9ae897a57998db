"""The records that an invocation has in hand, its outcomes, and those of them that are not in the journal yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from winnow.core.contract import Kind
from winnow.core.ranges import Ranges, append, extend
from winnow.journal.reports import FailureReport, one_line
from winnow.journal.segment import MAX_REASONS, OTHER_REASONS
from winnow.runtime.sink import Line
from winnow.runtime.streak import Streak

MAX_REASON_CHARS = 200


@dataclass(slots=True)
class Totals:
    """Of this invocation, in records."""

    succeeded: int = 0
    skipped: int = 0
    failed: Counter[Kind] = field(default_factory=Counter)

    @property
    def all_failed(self) -> int:
        return sum(self.failed.values())

    @property
    def done(self) -> int:
        return self.succeeded + self.skipped


@dataclass(slots=True)
class Buffer:
    """Outcomes since the last segment: the content of the next one."""

    succeeded: list[int] = field(default_factory=list)
    """Flat half-open intervals, in the order in which they came; `skipped` too."""
    skipped: list[int] = field(default_factory=list)
    failures: list[FailureReport] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)
    """Ordinals of records whose outputs hold a deletion."""
    bytes: int = 0
    """Of the lines, encoded."""
    warnings: int = 0
    skip_reasons: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    lies: int = 0
    """Claims of a batch worker about records that it was not given."""
    joined: bool = False
    """Some output joins several records."""

    def __bool__(self) -> bool:
        return bool(self.succeeded or self.skipped or self.failures or self.lies)

    def add_lines(self, lines: list[Line], size: Callable[[Any], int]) -> None:
        self.lines += lines
        for line in lines:
            self.bytes += size(line.body)
            if line.deletion:
                self.deleted += line.joins or (line.ordinal,)

    def add_warnings(self, warnings: list[str]) -> None:
        self.warnings += len(warnings)
        for warning in warnings:
            _tally(self.warned, warning)


class Progress:
    """Counts outcomes and knows which records are in hand. All methods but `take` are called with `Admission.lock` held."""

    def __init__(self, streak: Streak, size: Callable[[Any], int]) -> None:
        """`size`: bytes of an encoded output, before compression."""
        self.totals = Totals()
        self.buffer = Buffer()
        self.transient_in_a_row = 0
        self.position = 0
        """One past the highest ordinal that was taken."""
        self._streak = streak
        self._size = size
        self._taken: set[int] = set()
        """Those in hand that are not the streak's."""

    def take(self, ordinal: int) -> None:
        """A record is in hand. By one thread at a time and without the lock: each step is atomic."""
        self._taken.add(ordinal)
        if ordinal >= self.position:
            self.position = ordinal + 1

    def begin_streak(self, ordinal: int) -> None:
        """The loop goes on with this record."""
        self.collect()
        self._streak.collected = self._streak.done = self._streak.taken = ordinal

    def collect(self) -> None:
        """Count what the streak got done. The loop goes on meanwhile; what it does next is collected the next time."""
        streak = self._streak
        done = streak.done
        if done > streak.collected:
            self.transient_in_a_row = 0
            self.totals.succeeded += done - streak.collected
            extend(self.buffer.succeeded, streak.collected, done)
            streak.collected = done
        self.position = max(self.position, streak.taken)

    @property
    def in_hand(self) -> Ranges:
        """Records that were taken and whose outcome is not known."""
        return Ranges.of((*self._taken, *range(self._streak.collected, self._streak.taken)))

    def empty_buffer(self) -> Buffer:
        """What was collected since it was called last."""
        collected, self.buffer = self.buffer, Buffer()
        return collected

    # Outcomes

    def succeeded(self, ordinal: int, lines: list[Line], warnings: list[str] | None) -> None:
        self._let_go(ordinal)
        self.transient_in_a_row = 0
        self.totals.succeeded += 1
        buffer = self.buffer
        append(buffer.succeeded, ordinal)
        if lines:
            buffer.add_lines(lines, self._size)
        if warnings:
            buffer.add_warnings(warnings)

    def joined(self, ordinals: Sequence[int], lines: list[Line], warnings: list[str] | None) -> None:
        buffer = self.buffer
        buffer.joined = True
        self.transient_in_a_row = 0
        self.totals.succeeded += len(ordinals)
        for ordinal in ordinals:
            self._let_go(ordinal)
            append(buffer.succeeded, ordinal)
        buffer.add_lines(lines, self._size)
        if warnings:
            buffer.add_warnings(warnings)

    def skipped(self, ordinal: int, reason: str, warnings: list[str] | None) -> None:
        self._let_go(ordinal)
        self.transient_in_a_row = 0
        self.totals.skipped += 1
        append(self.buffer.skipped, ordinal)
        _tally(self.buffer.skip_reasons, reason)
        if warnings:
            self.buffer.add_warnings(warnings)

    def failed(self, report: FailureReport) -> None:
        self._let_go(report.ordinal)
        self.totals.failed[report.kind] += 1
        self.buffer.failures.append(report)
        self.transient_in_a_row = self.transient_in_a_row + 1 if report.kind is Kind.TRANSIENT else 0

    def _let_go(self, ordinal: int) -> None:
        """A record has its outcome and is no longer in hand."""
        streak = self._streak
        if ordinal != streak.done:
            self._taken.discard(ordinal)
            return
        if ordinal != streak.collected:
            self.collect()
        streak.collected = streak.done = ordinal + 1


def _tally(reasons: Counter[str], reason: str) -> None:
    short = one_line(reason, MAX_REASON_CHARS)
    if short in reasons or len(reasons) < MAX_REASONS:
        reasons[short] += 1
    else:
        reasons[OTHER_REASONS] += 1
