"""The list of a batch's ids while Plan makes it: distinct and usable ids, written to the ledger block by block."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from winnow.batch.plan import BLOCK_IDS, Digest
from winnow.batch.rows import RowIds, Source, SourceRef, Unreadable
from winnow.core.contract import Kind, OnConflict, record_id_problem
from winnow.core.errors import StageInputError, shorten
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges, append
from winnow.core.repeats import Repeats
from winnow.journal.reports import FailureReport, write_reports
from winnow.journal.segment import BY_PLAN
from winnow.storage.ledger import Ledger

REPORTS_PER_OBJECT = 5_000
"""Plan writes rejections as it finds them, so many at a time: a list may hold nothing else."""
FEW_ROWS = 20
"""In a list of fewer rows, a few bad ones may be half of it."""
MOST_UNREADABLE = 0.5
"""Real lists have few bad rows. Where more than this share cannot be read, it is not the rows that are wrong, but the format."""


@dataclass(slots=True)
class _Repeated:
    """An id that occurs in several rows."""

    row: int
    """The row that is in the batch."""
    content: bytes
    """Its digest."""
    others: set[bytes] = field(default_factory=set)
    """Digests of other contents that were reported."""


class BatchList:
    """Makes the list of distinct ids. A block goes to the ledger when it is full."""

    def __init__(
        self,
        ledger: Ledger,
        keys: StageKeys,
        batch_id: str,
        ref: SourceRef,
        *,
        only: frozenset[str] | None = None,
        on_conflict: OnConflict = OnConflict.FAIL,
    ) -> None:
        """Begin.

        Args:
            ledger: where to write the list.
            keys: of the stage run.
            batch_id: of the list.
            ref: what the list is made of.
            only: ids to take; None for all.
            on_conflict: what to do with rows that repeat an id with other content.
        """
        self._ledger = ledger
        self._keys = keys
        self._batch_id = batch_id
        self._ref = ref
        self._only = only
        self._on_conflict = on_conflict
        self._reset()

    def _reset(self) -> None:
        self._block: list[str] = []
        self._blocks = 0
        self._hash = Digest()
        self._dropped: list[int] = []
        """A flat list of intervals; so is the next."""
        self._rejected: list[int] = []
        self._unreported: list[FailureReport] = []
        self._unreadable = 0
        self._first_problem = ""
        self._repeated: dict[str, _Repeated] = {}
        self.reports: list[tuple[str, Ranges]] = []
        """The objects with the reasons of rejections, and the ordinals that each is about."""
        self.count = 0
        self.duplicates = 0
        self.superseded = 0
        self.conflicts = 0
        self.numbered_ids = False

    def take(self, source: Source) -> None:
        """Read a source's ids. If ids repeat, read the source again and compare the rows that repeat them.

        Raises:
            StageInputError: most rows are no records.
        """
        with Repeats() as repeats:
            rows = self._pass(self._without_content(source), repeats, frozenset())
            suspects = frozenset(repeats.found())
        if suspects:
            self._reset()
            if self._on_conflict is OnConflict.LAST:
                self._repeated = _last_of_each(source, suspects)
            rows = self._pass(source.ids_with_content(suspects), None, suspects)
        self._refuse_other_format(rows)
        self._ask_for_the_rest()
        while self._block:
            self._flush()
        self._report()

    @staticmethod
    def _without_content(source: Source) -> Iterator[tuple[RowIds, dict[int, bytes]]]:
        return ((ids, {}) for ids in source.ids())

    def _pass(
        self,
        pieces: Iterator[tuple[RowIds, dict[int, bytes]]],
        repeats: Repeats | None,
        suspects: AbstractSet[int],
    ) -> int:
        """Go through the rows; returns how many are not blank."""
        row = blank = 0
        only = self._only
        self._asked = set(only) if only is not None else set()
        for ids, contents in pieces:
            plain = only is None and not suspects and all(map(_is_plain, ids))
            if plain:
                self._block += ids  # type: ignore[arg-type]  # _is_plain let strings only through
                self.count += len(ids)
            else:
                for offset, value in enumerate(ids):
                    blank += value is None
                    self._take_one(row + offset, value, contents.get(offset))
            if repeats:
                repeats.add(value for value in ids if isinstance(value, str))
            row += len(ids)
            while len(self._block) >= BLOCK_IDS:
                self._flush()
        return row - blank

    def _take_one(self, row: int, value: str | Unreadable | None, content: bytes | None) -> None:
        if value is None:
            append(self._dropped, row)
            return
        if isinstance(value, Unreadable):
            self._take_unreadable(row, value, "UnreadableRow", f"line {value.line} {value.problem}")
            return
        problem = record_id_problem(value)
        if problem:
            message = f"line {row + 1}: the record id {problem}, got: {shorten(value)}"
            self._take_unreadable(row, Unreadable(row + 1, problem), "UnusableId", message)
            return
        if self._only is not None and value not in self._only:
            append(self._dropped, row)
            return
        if content is not None and not self._counts(row, value, content):
            return
        self._asked.discard(value)
        self._block.append(value)
        self.count += 1

    def _take_unreadable(self, row: int, found: Unreadable, error_type: str, message: str) -> None:
        if found.record_id is None:
            self._unreadable += 1
            self._first_problem = self._first_problem or message
        if self._only is None:
            self._reject(found.record_id or self._ref.row_id(found.line), error_type, message, found.line)
        else:
            append(self._dropped, row)

    def _counts(self, row: int, record_id: str, content: bytes) -> bool:
        """Whether a row whose id may occur in several is the one that is in the batch."""
        known = self._repeated.setdefault(record_id, _Repeated(row, content))
        if row == known.row:
            return True
        if content == known.content or content in known.others:
            append(self._dropped, row)
            self.duplicates += 1
        elif self._on_conflict is not OnConflict.FAIL:
            append(self._dropped, row)
            self.superseded += 1
        else:
            known.others.add(content)
            self.conflicts += 1
            self._reject(
                self._ref.row_id(row + 1),
                "ConflictingRow",
                f"line {row + 1} has the id of line {known.row + 1}, {record_id!r}, and other content; "
                'give each record an id of its own, or set on_conflict="first" or "last" in the pipeline',
                row + 1,
            )
        return False

    def _reject(self, record_id: str, error_type: str, message: str, line: int | None) -> None:
        append(self._rejected, self.count)
        pointer = self._ref.pointer
        self._unreported.append(
            FailureReport(
                ordinal=self.count,
                record_id=record_id,
                kind=Kind.PERMANENT,
                error_type=error_type,
                message=message,
                source_bucket=pointer.bucket,
                source_key=pointer.key,
                source_line=line,
            )
        )
        self._block.append(record_id)
        self.count += 1
        if len(self._unreported) >= REPORTS_PER_OBJECT:
            self._report()

    def _report(self) -> None:
        if not self._unreported:
            return
        key = self._keys.attempt(0).failures(f"{BY_PLAN}-{self._batch_id}", len(self.reports))
        write_reports(self._ledger, key, self._keys.stage, self._unreported)
        self.reports.append((key, Ranges.of(report.ordinal for report in self._unreported)))
        self._unreported.clear()

    def _refuse_other_format(self, rows: int) -> None:
        """Refuse a list most of whose rows are no records: reported one by one, they would hide what is wrong."""
        if rows >= FEW_ROWS and self._unreadable > MOST_UNREADABLE * rows:
            raise StageInputError(
                "records",
                str(self._ref.pointer),
                f"{self._unreadable:,} of its {rows:,} rows are no records ({self._first_problem}); "
                "check its format (CSV is not read) and the name of the id field",
            )

    def _ask_for_the_rest(self) -> None:
        for value in sorted(self._asked):
            self._reject(value, "NotInSource", "was asked for, but the source does not have it", None)

    def _flush(self) -> None:
        """Write one block. All but the last are full, because an ordinal's block is found by division."""
        ids, self._block = self._block[:BLOCK_IDS], self._block[BLOCK_IDS:]
        self._ledger.write_json(self._keys.batch(self._batch_id, self._blocks), ids)
        self._hash.add(ids)
        self.numbered_ids = self.numbered_ids or "#" in "".join(ids)
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


def _last_of_each(source: Source, suspects: AbstractSet[int]) -> dict[str, _Repeated]:
    """The last row of each id whose hash is among some."""
    last: dict[str, _Repeated] = {}
    row = 0
    for ids, contents in source.ids_with_content(suspects):
        last |= {str(ids[offset]): _Repeated(row + offset, content) for offset, content in contents.items()}
        row += len(ids)
    return last


MAX_PLAIN_CHARS = 256
"""Shorter than this, no UTF-8 text exceeds the 1,024 bytes of a record id."""


def _is_plain(value: object) -> bool:
    """A quick check that most good ids pass; the others are checked in full."""
    return type(value) is str and 0 < len(value) <= MAX_PLAIN_CHARS and value.isprintable()
