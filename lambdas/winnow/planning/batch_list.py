"""The list of a batch's ids while Plan makes it: distinct and usable ids, written to the ledger block by block."""

from __future__ import annotations

from winnow.batch.plan import BLOCK_IDS, Digest
from winnow.batch.rows import Source, Unreadable
from winnow.core.contract import Kind, record_id_problem
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges, append
from winnow.journal.reports import FailureReport, write_reports
from winnow.journal.segment import BY_PLAN
from winnow.planning.repeats import Repeats
from winnow.storage.ledger import Ledger

REPORTS_PER_OBJECT = 5_000
"""Plan writes rejections as it finds them, so many at a time: a list may hold nothing else."""


class BatchList:
    """Makes the list of distinct ids. A block goes to the ledger when it is full."""

    def __init__(self, ledger: Ledger, keys: StageKeys, only: frozenset[str] | None) -> None:
        self._ledger = ledger
        self._keys = keys
        self._only = only
        self._reset()

    def _reset(self) -> None:
        self._block: list[str] = []
        self._blocks = 0
        self._hash = Digest()
        self._dropped: list[int] = []
        """A flat list of intervals; so is the next."""
        self._rejected: list[int] = []
        self._unreported: list[FailureReport] = []
        self.reports: list[tuple[str, Ranges]] = []
        """The objects with the reasons of rejections, and the ordinals that each is about."""
        self.count = 0
        self.duplicates = 0

    def take(self, source: Source) -> None:
        """Read a source's ids. If ids repeat, read them a second time and leave the repetitions out."""
        with Repeats() as repeats:
            self._pass(source, repeats, {})
            suspects = repeats.found()
        if suspects:
            self._reset()
            self._pass(source, None, {value: set() for value in suspects})
        self._ask_for_the_rest()
        while self._block:
            self._flush()
        self._report()

    def _pass(self, source: Source, repeats: Repeats | None, seen: dict[int, set[str]]) -> None:
        row = 0
        only = self._only
        self._asked = set(only) if only is not None else set()
        for ids in source.ids():
            plain = only is None and not seen and all(map(_is_plain, ids))
            if plain:
                self._block += ids  # type: ignore[arg-type]  # _is_plain let strings only through
                self.count += len(ids)
            else:
                for offset, value in enumerate(ids):
                    self._take_one(row + offset, value, seen)
            if repeats:
                repeats.add(value for value in ids if isinstance(value, str))
            row += len(ids)
            while len(self._block) >= BLOCK_IDS:
                self._flush()

    def _take_one(self, row: int, value: str | Unreadable | None, seen: dict[int, set[str]]) -> None:
        if value is None:
            append(self._dropped, row)
            return
        if isinstance(value, Unreadable):
            if self._only is None:
                self._reject(f"line {value.line}", "UnreadableRow", f"line {value.line} {value.problem}")
            else:
                append(self._dropped, row)
            return
        problem = record_id_problem(value)
        if problem:
            if self._only is None:
                shown = str(value).encode("ascii", "backslashreplace").decode()[:100]
                self._reject(
                    f"line {row + 1}",
                    "UnusableId",
                    f"line {row + 1}: the record id {problem}, got: {shown!r}",
                )
            else:
                append(self._dropped, row)
            return
        if self._only is not None and value not in self._only:
            append(self._dropped, row)
            return
        known = seen.get(hash(value))
        if known is not None:
            if value in known:
                append(self._dropped, row)
                self.duplicates += 1
                return
            known.add(value)
        self._asked.discard(value)
        self._block.append(value)
        self.count += 1

    def _reject(self, record_id: str, error_type: str, message: str) -> None:
        append(self._rejected, self.count)
        self._unreported.append(
            FailureReport(
                ordinal=self.count,
                record_id=record_id,
                kind=Kind.PERMANENT,
                error_type=error_type,
                message=message,
            )
        )
        self._block.append(record_id)
        self.count += 1
        if len(self._unreported) >= REPORTS_PER_OBJECT:
            self._report()

    def _report(self) -> None:
        if not self._unreported:
            return
        key = self._keys.attempt(0).failures(BY_PLAN, len(self.reports))
        write_reports(self._ledger, key, self._keys.stage, self._unreported)
        self.reports.append((key, Ranges.of(report.ordinal for report in self._unreported)))
        self._unreported.clear()

    def _ask_for_the_rest(self) -> None:
        for value in sorted(self._asked):
            self._reject(value, "NotInSource", "was asked for, but the source does not have it")

    def _flush(self) -> None:
        """Write one block. All but the last are full, because an ordinal's block is found by division."""
        ids, self._block = self._block[:BLOCK_IDS], self._block[BLOCK_IDS:]
        self._ledger.write_json(self._keys.batch(self._blocks), ids)
        self._hash.add(ids)
        self._blocks += 1

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    @property
    def dropped(self) -> Ranges:
        return Ranges(self._dropped)

    @property
    def rejected(self) -> Ranges:
        return Ranges(self._rejected)


MAX_PLAIN_CHARS = 256
"""Shorter than this, no UTF-8 text exceeds the 1,024 bytes of a record id."""


def _is_plain(value: object) -> bool:
    """A quick check that most good ids pass; the others are checked in full."""
    return type(value) is str and 0 < len(value) <= MAX_PLAIN_CHARS and value.isprintable()
