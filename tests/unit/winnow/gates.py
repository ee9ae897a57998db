"""A gate for tests that records what the engine tells it: no ledger, no clock."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from winnow.batch.ndjson import NdjsonDecoder
from winnow.core.contract import Kind
from winnow.core.record import Record
from winnow.journal.reports import FailureReport
from winnow.journal.segment import Stop
from winnow.runtime.sink import Line, UndecodedRecord


class Memory:
    """The outcome of each record, and how often it was told."""

    def __init__(self, take: int = 1_000_000) -> None:
        self.done: dict[int, list[Line]] = {}
        self.skips: dict[int, str] = {}
        self.failures: dict[int, FailureReport] = {}
        self.warnings: list[str] = []
        self.told = Counter[int]()
        self.lies = 0
        self.left = take
        self.taken: list[int] = []
        self.stopped: Stop | None = None
        self.seconds_left = 900.0
        self._lock = threading.Lock()

    @property
    def stopping(self) -> bool:
        return self.stopped is not None

    def request_stop(self, stop: Stop, cause: str = "") -> None:  # noqa: ARG002
        self.stopped = stop

    def take(self, ordinal: int) -> bool:
        if self.left == 0 or self.stopped:
            return False
        self.left -= 1
        self.taken.append(ordinal)
        return True

    def succeeded(self, ordinal: int, lines: list[Line], warnings: list[str] | None) -> None:
        with self._lock:
            self.told[ordinal] += 1
            self.done[ordinal] = lines
            self.warnings += warnings or ()

    def joined(self, ordinals: Sequence[int], lines: list[Line], warnings: list[str] | None) -> None:
        with self._lock:
            for ordinal in ordinals:
                self.told[ordinal] += 1
                self.done[ordinal] = [line for line in lines if line.ordinal == ordinal]
            self.warnings += warnings or ()

    def skipped(self, ordinal: int, reason: str, warnings: list[str] | None) -> None:
        with self._lock:
            self.told[ordinal] += 1
            self.skips[ordinal] = reason
            self.warnings += warnings or ()

    def failed(self, ordinal: int, record_id: str, kind: Kind, error: BaseException) -> None:
        self.report(FailureReport.of_error(error, ordinal=ordinal, record_id=record_id, kind=kind))

    def report(self, report: FailureReport) -> None:
        with self._lock:
            self.told[report.ordinal] += 1
            self.failures[report.ordinal] = report

    def lied(self, claims: int) -> None:
        self.lies += claims

    @property
    def kinds(self) -> dict[int, str]:
        return {ordinal: report.kind.value for ordinal, report in sorted(self.failures.items())}


def items(count: int) -> list[tuple[int, Record]]:
    """Records `r0`, `r1` … with their number as data."""
    return [(n, Record(f"r{n}", n)) for n in range(count)]


def undecoded(*data: Any) -> list[tuple[int, UndecodedRecord]]:
    """Records `r0`, `r1` … as lines of a list, as careful children are given them."""
    decode = NdjsonDecoder("id").decode
    return [
        (n, UndecodedRecord(f"r{n}", decode, json.dumps({"id": f"r{n}", "data": what})))
        for n, what in enumerate(data)
    ]
