"""Reads the records of a batch from its source, by ordinal."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from winnow.batch.opening import open_source
from winnow.batch.plan import Plan, blocks_of
from winnow.batch.rows import Chunk
from winnow.core.contract import Kind
from winnow.core.ranges import Ranges
from winnow.core.record import Record
from winnow.journal.reports import FailureReport
from winnow.runtime.sink import Item, UndecodedRecord
from winnow.storage.ledger import Ledger

UNDECODABLE = (ValueError, KeyError, TypeError, RecursionError)
"""Raised by decoding a row that Plan could read, for instance one that is nested too deep for the worker's stack."""


class RecordReader:
    """Records of the batch by ordinal, and where in the source each came from."""

    def __init__(self, ledger: Ledger, plan: Plan, *, read_again: bool) -> None:
        """`read_again`: the function may be given a record more than once; each time it has to be as it was read."""
        self._ledger = ledger
        self._plan = plan
        self._read_again = read_again
        self._source = open_source(ledger.store, plan.source)
        self._chunks: list[tuple[int, int, str, str, int]] = []
        self._block: tuple[int, list[str]] = (0, [])
        """The block of the batch that was looked into last, and the ordinal of its first id."""

    def items(self, report: Callable[[FailureReport], None], *parts: Ranges) -> Iterator[Item]:
        """The records of some ordinals, part after part. One that cannot be decoded is reported and left out."""
        decode, read_again = self._source.decode, self._read_again
        for part in parts:
            for chunk in self._read(part):
                ordinal = chunk.ordinal
                for row in chunk.rows:
                    try:
                        record = Record(*decode(row))
                    except UNDECODABLE as error:
                        report(self._undecodable(ordinal, error))
                    else:
                        if read_again:
                            record._as_read = partial(decode, row)  # noqa: SLF001  ours
                        yield ordinal, record
                    ordinal += 1

    def undecoded(self, *parts: Ranges) -> Iterator[tuple[int, UndecodedRecord]]:
        """The same records for careful children, which decode them."""
        decode = self._source.decode
        for part in parts:
            for chunk in self._read(part):
                for ordinal, row in enumerate(chunk.rows, chunk.ordinal):
                    yield ordinal, UndecodedRecord(self._id(ordinal), decode, row)

    def _read(self, part: Ranges) -> Iterator[Chunk]:
        if not part:
            return
        for chunk in self._source.chunks(self._plan.runs(part)):
            self._remember(chunk)
            yield chunk

    def _undecodable(self, ordinal: int, error: Exception) -> FailureReport:
        return FailureReport.of_error(
            error, ordinal=ordinal, record_id=self._id(ordinal), kind=Kind.PERMANENT
        )

    def _id(self, ordinal: int) -> str:
        first, ids = self._block
        if not first <= ordinal < first + len(ids):
            [(first, ids)] = blocks_of(self._ledger, self._plan, Ranges.of([ordinal]))
            self._block = (first, ids)
        return ids[ordinal - first]

    def _remember(self, chunk: Chunk) -> None:
        insort(self._chunks, (chunk.ordinal, len(chunk.rows), chunk.bucket, chunk.key, chunk.line))

    def locate(self, ordinal: int) -> dict[str, Any]:
        """Where a record came from, as fields of a failure report."""
        index = bisect_right(self._chunks, ordinal, key=lambda chunk: chunk[0]) - 1
        if index < 0:
            return {}
        first, length, bucket, key, line = self._chunks[index]
        if not first <= ordinal < first + length:
            return {}
        return {"source_bucket": bucket, "source_key": key, "source_line": line + ordinal - first}
