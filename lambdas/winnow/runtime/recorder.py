"""The recorder: the sink of an invocation's outcomes, which are journaled in segments in the background.

Outputs are written before the journal entry that vouches for them. A worker that is killed loses only what was collected since
the last segment, and how much that can be is bounded in seconds, bytes and records.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from winnow.core.contract import Kind
from winnow.journal.reports import FailureReport, one_line, words_of
from winnow.journal.segment import Stop
from winnow.runtime.admission import LITTLE_TIME, Admission, stop_at_deadline
from winnow.runtime.flusher import Flusher
from winnow.runtime.process_state import is_used_up
from winnow.runtime.progress import Progress, Totals
from winnow.runtime.segment_writer import SegmentWriter
from winnow.runtime.sink import Line
from winnow.runtime.streak import Streak

FLUSH_BYTES = 8 * 1024 * 1024
"""Of outputs, before compression: the memory that a segment costs the worker and its readers."""
FLUSH_FAILURES = 5_000
"""Of failure reports, which carry tracebacks."""
HELD_BYTES = 2 * FLUSH_BYTES
"""Buffered while a segment is being written; then the worker waits for S3."""
HELD_FAILURES = 2 * FLUSH_FAILURES


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """How an invocation is journaled."""

    flush_seconds: float
    """Between segments."""
    horizon: int
    """Ordinals below it may be taken before the first segment is durable."""
    give_up_after: int
    """Transient failures in a row that mean the other side is down."""
    code_version: str = ""
    """Written into every failure report."""


class Observer:
    """Logs failures and warnings and knows where records came from. This base logs nothing and knows nothing."""

    def failure(self, report: FailureReport) -> None:
        """A record failed."""

    def warning(self, ordinal: int, text: str) -> None:
        """A record succeeded or was skipped with a warning."""

    def locate(self, ordinal: int) -> dict[str, Any]:  # noqa: ARG002
        """A record's place in the source, as fields of its failure report."""
        return {}


class Recorder:
    """A gate for the engine: says which records may be taken, and is told their outcomes. Safe to use from several threads.

    Its parts: `admission` lets records in, `progress` counts outcomes and buffers them, `flusher` writes the buffer in segments.

    Its threads: the worker's, one or several; the journal's, which runs the flusher; the deadline's, which stops the worker.

    Its locks, in the order in which they are taken:

    1. Of the flusher, held while a segment is put together and written. It guards the flusher's fields: `_unwritten`,
       `_sequence`, `_collected_at`, `_write_seconds`, `_told_stuck`.
    2. `admission.lock`, whose condition is `admission.changed`. It guards every field of `admission` and `progress`, and the
       flusher's `_error`. Nothing is written to the ledger or logged while it is held.

    Without a lock: `take` and the loop behind `streak`. One thread at a time moves `streak.taken` and `streak.done` and adds to what
    is in hand, and each of its steps is atomic. They read `streak.limit`, `stop` and `cause`, which change under the lock. A segment that is
    written between two of their steps blames one record too few for a death at that very moment.
    """

    def __init__(
        self, writer: SegmentWriter, settings: RecorderSettings, observer: Observer | None = None
    ) -> None:
        """Start journaling.

        Args:
            writer: of the invocation's segments. No record is taken after its deadline, which comes earlier when flushes are slow.
            settings: how often to write, and when to stop.
            observer: of failures and warnings. What it raises when it is told of one is ignored.
        """
        self._give_up_after = settings.give_up_after
        self._code_version = settings.code_version
        self._observer = observer or Observer()
        self._deadline = writer.deadline
        self.streak = Streak(settings.horizon, self._begin_streak)
        self.admission = Admission(self.streak)
        self.progress = Progress(self.streak, writer.form.size)
        self.flusher = Flusher(self.admission, self.progress, writer, seconds=settings.flush_seconds)
        self._lock = self.admission.lock
        if self.seconds_left <= 0:
            self.request_stop(Stop.TIME, LITTLE_TIME)
        self._threads = self._start_threads()

    def _start_threads(self) -> list[threading.Thread]:
        threads = [
            threading.Thread(
                target=stop_at_deadline, args=(self.admission, self._deadline), name="deadline", daemon=True
            ),
            threading.Thread(target=self.flusher.run, name="journal", daemon=True),
        ]
        for thread in threads:
            thread.start()
        return threads

    # Asked by the engine

    def take(self, ordinal: int) -> bool:
        """Take a record up, unless the worker is to stop; waits where too much would be unjournaled.

        Called by one thread at a time.
        """
        if ordinal >= self.streak.limit and not self.admission.wait_for(ordinal):
            return False
        self.progress.take(ordinal)
        return True

    def _begin_streak(self, ordinal: int) -> bool:
        """Take a record up with which a streak begins; stops and waits like `take`."""
        if ordinal >= self.streak.limit and not self.admission.wait_for(ordinal):
            return False
        with self._lock:
            self.progress.begin_streak(ordinal)
        return True

    def request_stop(self, stop: Stop, cause: str = "") -> None:
        """Take no more records."""
        self.admission.request_stop(stop, cause)

    @property
    def stopping(self) -> bool:
        return self.admission.stop is not None

    @property
    def stop(self) -> Stop | None:
        """Why no more records are taken; None while they are."""
        return self.admission.stop

    @property
    def cause(self) -> str:
        """Why, in words."""
        return self.admission.cause

    @property
    def seconds_left(self) -> float:
        return self._deadline.seconds_left

    @property
    def failed_in_a_row(self) -> int:
        """Transient failures since the last record that did not fail so."""
        return self.progress.transient_in_a_row

    @property
    def totals(self) -> Totals:
        return self.progress.totals

    # Told by the engine

    def succeeded(self, ordinal: int, lines: list[Line], warnings: list[str] | None) -> None:
        if warnings:
            self._observe_warnings(ordinal, warnings)
        with self._lock:
            self.progress.succeeded(ordinal, lines, warnings)
            if lines:
                self._bound_bytes()

    def joined(self, ordinals: Sequence[int], lines: list[Line], warnings: list[str] | None) -> None:
        if warnings:
            self._observe_warnings(ordinals[0], warnings)
        with self._lock:
            self.progress.joined(ordinals, lines, warnings)
            self._bound_bytes()

    def skipped(self, ordinal: int, reason: str, warnings: list[str] | None) -> None:
        if warnings:
            self._observe_warnings(ordinal, warnings)
        with self._lock:
            self.progress.skipped(ordinal, reason, warnings)

    def failed(self, ordinal: int, record_id: str, kind: Kind, error: BaseException) -> None:
        if is_used_up(error):
            self.request_stop(Stop.USED_UP, one_line(f"{type(error).__name__}: {words_of(error)}"))
        self._keep(
            FailureReport.of_error(
                error,
                ordinal=ordinal,
                record_id=record_id,
                kind=kind,
                code_version=self._code_version,
                **self._observer.locate(ordinal),
            )
        )

    def report(self, report: FailureReport) -> None:
        """Collect a failure with its reason, and add where the record came from."""
        where = self._observer.locate(report.ordinal)
        self._keep(replace(report, code_version=self._code_version, **where))

    def _keep(self, report: FailureReport) -> None:
        with suppress(Exception):  # watching cannot break the run
            self._observer.failure(report)
        with self._lock:
            self.progress.failed(report)
            in_a_row = self.progress.transient_in_a_row
            if in_a_row >= self._give_up_after:
                last = f"{report.error_type}: {report.message}"
                self.admission.stop_for(
                    Stop.DEPENDENCY, f"{in_a_row} records in a row failed, the last with {last}"
                )
            self._bound_failures()

    def lied(self, claims: int) -> None:
        with self._lock:
            self.progress.buffer.lies += claims

    def _observe_warnings(self, ordinal: int, warnings: list[str]) -> None:
        with suppress(Exception):  # watching cannot break the run
            for text in warnings:
                self._observer.warning(ordinal, text)

    def _bound_bytes(self) -> None:
        size = self.progress.buffer.bytes
        if size >= FLUSH_BYTES:
            self.admission.ask_to_flush()
            if size >= HELD_BYTES:
                self.admission.pause()

    def _bound_failures(self) -> None:
        count = len(self.progress.buffer.failures)
        if count >= FLUSH_FAILURES:
            self.admission.ask_to_flush()
            if count >= HELD_FAILURES:
                self.admission.pause()

    # Called once, at the end

    def close(self) -> None:
        """Journal the rest, and why the worker stopped.

        Raises:
            JournalUnavailable: it could not be written; what is not in the journal is outstanding.
        """
        with self._lock:
            self.admission.close()
        for thread in self._threads:
            thread.join()
        self.flusher.close()
