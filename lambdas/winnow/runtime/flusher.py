"""Decides when the next segment of the journal is written and what it covers, and keeps what could not be written."""

from __future__ import annotations

import threading
import time

from winnow.core.errors import WinnowError
from winnow.journal.reports import one_line
from winnow.journal.segment import Stop
from winnow.runtime.admission import Admission
from winnow.runtime.progress import Progress
from winnow.runtime.segment_writer import Draft, SegmentWriter

FLUSH_EARLY = 0.98
"""Of the seconds between segments: a thread does not wake to the millisecond."""


class JournalUnavailable(WinnowError):
    """The journal could not be written; what it does not vouch for is outstanding."""


class Flusher:
    """Takes what was collected out of `Progress`, has it written, and moves the horizon once it is durable.

    `run` is the journal's thread. The worker's thread flushes, too, once: at the end.
    """

    def __init__(
        self, admission: Admission, progress: Progress, writer: SegmentWriter, *, seconds: float
    ) -> None:
        """`seconds`: at most, between an outcome and the segment that makes it durable."""
        self._admission = admission
        self._progress = progress
        self._writer = writer
        self._seconds = seconds
        self._writing = threading.Lock()
        """Held for a whole flush, so that segments are written one by one and in order. Never taken under `Admission.lock`."""
        self._unwritten: Draft | None = None
        """Could not be written; tried again before another segment is made."""
        self._sequence = 0
        self._collected_at = time.monotonic()
        self._write_seconds = 0.0
        """Of the last segment; the next will take about as long."""
        self._told_stuck = False
        """Whether the journal knows what was in hand when the worker stopped; Lambda may end it any moment then."""
        self._error: Exception | None = None
        """Ended the journal's thread."""

    def run(self) -> None:
        """Write segments until the admission closes; stop the worker when one cannot be written."""
        changed = self._admission.changed
        while True:
            with changed:
                if not self._admission.closing and not self._admission.flush_asked:
                    changed.wait(self._nap())
                if self._admission.closing:
                    return
                self._admission.flush_asked = False
            try:
                self.flush()
            except Exception as error:  # noqa: BLE001  raised by `close`
                with changed:
                    self._error = error
                    self._admission.stop_for(Stop.ERROR, _unwritable(error))
                return

    def _nap(self) -> float:
        """Seconds until a segment has to be begun so that what was collected is durable as soon as is promised."""
        if self._admission.stop is not None:
            return min(1.0, self._seconds)
        due = self._collected_at + self._seconds * FLUSH_EARLY - 2 * self._write_seconds
        return max(self._seconds / 2, due - time.monotonic())

    def flush(self, *, last: bool = False) -> None:
        """Write what was collected; with `last`, also say why the worker stopped, even if nothing was collected."""
        with self._writing, self._writer.deadline.measure_flush():
            self._write()
            with self._admission.changed:
                self._unwritten = draft = self._draft(last=last)
            if draft is None:
                return
            self._write()
            self._write_seconds = time.monotonic() - self._collected_at
            with self._admission.changed:
                self._admission.move_horizon(draft.horizon)

    def _write(self) -> None:
        if self._unwritten:
            self._writer.write(self._unwritten)
            self._unwritten = None

    def _draft(self, *, last: bool) -> Draft | None:
        """The next segment, or None where there is nothing to say."""
        admission, progress = self._admission, self._progress
        progress.collect()
        self._collected_at = time.monotonic()
        in_hand = progress.in_hand
        stuck = admission.stop is not None and bool(in_hand) and not last and not self._told_stuck
        awaited = admission.wanted > admission.horizon
        if not (progress.buffer or last or stuck or awaited):
            return None
        self._told_stuck = self._told_stuck or stuck
        collected = progress.empty_buffer()
        admission.resume()
        sequence, self._sequence = self._sequence, self._sequence + 1
        return Draft(
            sequence=sequence,
            collected=collected,
            horizon=admission.next_horizon(progress.position),
            in_hand=in_hand,
            stop=(admission.stop or Stop.END) if last else None,
            cause=admission.cause if last else "",
        )

    def close(self) -> None:
        """Write the last segment, after the journal's thread has ended.

        Raises:
            JournalUnavailable: it cannot be written, or an earlier one could not be for so long that the work stopped.
        """
        try:
            self.flush(last=True)
        except Exception as error:
            raise JournalUnavailable(_unwritable(error)) from error
        if self._error:
            raise JournalUnavailable(self._admission.cause) from self._error


def _unwritable(error: Exception) -> str:
    return one_line(f"the journal could not be written: {error}")
