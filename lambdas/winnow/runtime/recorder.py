"""The recorder: collects outcomes while records are worked on, and journals them in segments, in the background.

Outputs are written before the journal entry that vouches for them. Nothing is lost but what was collected since the last segment,
and how much that can be is bounded in seconds, bytes and records.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any

from winnow.batch.plan import Plan
from winnow.core.contract import Kind, now
from winnow.core.errors import WinnowError
from winnow.core.keys import AttemptKeys
from winnow.core.ranges import Ranges, append, extend
from winnow.journal.reports import FailureReport, one_line, write_reports
from winnow.journal.segment import MAX_REASONS, OTHER_REASONS, OutputSegment, Segment, Stop
from winnow.runtime.deadline import Deadline
from winnow.runtime.outcome import Line
from winnow.runtime.streak import Streak
from winnow.settlement.settlement import FIRST_HORIZON
from winnow.storage.formats import OutputFormat
from winnow.storage.ledger import Ledger

FLUSH_BYTES = 8 * 1024 * 1024
"""Of outputs, before compression: what a segment costs in memory, and its reader."""
FLUSH_FAILURES = 5_000
"""Of failure reports, which carry tracebacks."""
HELD_BYTES = 2 * FLUSH_BYTES
"""What may come together while a segment is being written; then the worker waits for S3."""
HELD_FAILURES = 2 * FLUSH_FAILURES
FLUSH_EARLY = 0.98
"""Of the seconds between segments: a thread does not wake to the millisecond."""
WRITE_ATTEMPTS = 4
"""Of a segment, each with the client's own retries: about a minute of S3 refusing before the worker gives up."""

LITTLE_TIME = "little time was left"

log = logging.getLogger(__name__)


class JournalUnavailable(WinnowError):
    """The journal could not be written; what it does not vouch for is outstanding."""


@dataclass(slots=True)
class _Window:
    """What was collected since the last segment."""

    succeeded: list[int] = field(default_factory=list)
    """Flat half-open runs, in the order they came."""
    skipped: list[int] = field(default_factory=list)
    failures: list[FailureReport] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    bytes: int = 0
    warnings: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    lies: int = 0
    joined: bool = False
    """Some output joins several records."""

    def __bool__(self) -> bool:
        return bool(self.succeeded or self.skipped or self.failures or self.lies)


def _ranges(runs: list[int]) -> Ranges:
    return Ranges.from_pairs(zip(runs[::2], runs[1::2], strict=True))


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


class Recorder:
    """The sink of an invocation's outcomes. Safe to use from several threads."""

    def __init__(
        self,
        ledger: Ledger,
        plan: Plan,
        keys: AttemptKeys,
        *,
        invocation: str,
        form: OutputFormat,
        deadline: Deadline,
        flush_seconds: float,
        horizon: int,
        give_up_after: int,
        code_version: str = "",
        locate: Callable[[int], dict[str, Any]] = lambda _: {},
        note: Callable[[FailureReport], None] = lambda _: None,
        note_warning: Callable[[int, str], None] = lambda _ordinal, _text: None,
    ) -> None:
        """Start journaling.

        Args:
            deadline: at which no record is taken any more; it is told how long flushes take.
            horizon: ordinals below it may be taken before the first segment is durable.
            give_up_after: transient failures in a row that mean the other side is down.
            locate: a record's place in the source, as fields of its failure report.
            note: told of every failure, to log it.
            note_warning: told of every warning and whose it was, to log it.
        """
        self._ledger = ledger
        self._plan = plan
        self._keys = keys
        self._invocation = invocation
        self._form = form
        self._deadline = deadline
        self._flush_seconds = flush_seconds
        self._give_up_after = give_up_after
        self._code_version = code_version
        self._locate = locate
        self._note = note
        self._note_warning = note_warning

        self.totals = Totals()
        self.stop: Stop | None = None
        self.cause = ""

        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._window = _Window()
        self._sequence = 0
        self._in_a_row = 0
        self._position = 0
        self._taken_before = 0
        self._in_hand: set[int] = set()
        self._horizon = horizon
        self._wanted = 0
        self._flush_now = False
        self.streak = Streak(horizon, self._begin)
        self._broken: BaseException | None = None
        self._closing = False
        self._told_stuck = False
        """Whether the journal knows what was in hand when time ran out; Lambda may kill us any moment then."""
        self._paused = False
        """Too much is held for another record to be taken."""
        self._unwritten: Callable[[], None] | None = None
        """Writes the segment that is not in the journal yet; tried again before another is made."""
        self._writing = threading.Lock()
        self._collected_at = time.monotonic()
        self._write_seconds = 0.0
        """That the last segment took; the next will take about as long."""
        if self.seconds_left <= 0:
            self.request_stop(Stop.TIME, LITTLE_TIME)
        # Apart from the journal's thread, which may be held up in a write.
        self._alarm = threading.Thread(target=self._watch_deadline, name="deadline", daemon=True)
        self._alarm.start()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    # Asked by the engine, in its own threads

    def take(self, ordinal: int) -> bool:
        """Take a record up, unless the worker is to stop; waits where too much would be unjournaled.

        Called by one thread at a time, so it needs no lock of its own: each step is atomic, and a segment that is written
        between two of them blames one record too few for a death at that very moment.
        """
        if ordinal >= self.streak.limit and not self._wait_for_horizon(ordinal):
            return False
        self._in_hand.add(ordinal)
        if ordinal >= self._position:
            self._position = ordinal + 1
        return True

    def _begin(self, ordinal: int) -> bool:
        """Take a record up with which a streak begins; stops and waits like `take`."""
        if ordinal >= self.streak.limit and not self._wait_for_horizon(ordinal):
            return False
        with self._lock:
            self._collect()
            self.streak.collected = self.streak.done = self.streak.taken = ordinal
        return True

    def _collect(self) -> None:
        """Count what a streak got done. The loop goes on meanwhile: what it does next is collected next."""
        streak = self.streak
        done = streak.done
        if done > streak.collected:
            self._in_a_row = 0
            self.totals.succeeded += done - streak.collected
            extend(self._window.succeeded, streak.collected, done)
            streak.collected = done
        self._position = max(self._position, streak.taken)

    def _let_go(self, ordinal: int) -> None:
        """A record's outcome was told."""
        streak = self.streak
        if ordinal != streak.done:
            self._in_hand.discard(ordinal)
            return
        if ordinal != streak.collected:
            self._collect()
        streak.collected = streak.done = ordinal + 1

    def _held(self) -> Ranges:
        return Ranges.of((*self._in_hand, *range(self.streak.collected, self.streak.taken)))

    def _wait_for_horizon(self, ordinal: int) -> bool:
        with self._lock:
            while self.stop is None and self._broken is None:
                if ordinal < self.streak.limit:
                    return True
                self._wanted = max(self._wanted, ordinal + 1)
                self._flush_now = True
                self._changed.notify_all()
                self._changed.wait(1.0)
        return False

    def request_stop(self, stop: Stop, cause: str = "") -> None:
        """Take no more records."""
        with self._lock:
            self._stop(stop, cause)

    def _stop(self, stop: Stop, cause: str) -> None:
        if self.stop is None:
            self.stop = stop
            self.cause = cause
            self.streak.limit = -1
            self._changed.notify_all()

    @property
    def stopping(self) -> bool:
        return self.stop is not None or self._broken is not None

    @property
    def seconds_left(self) -> float:
        return self._deadline.seconds_left

    def _watch_deadline(self) -> None:
        with self._lock:
            while self.stop is None and not self._closing:
                left = self.seconds_left
                if left <= 0:
                    self._stop(Stop.TIME, LITTLE_TIME)
                else:
                    # Told of every flush that begins or ends: the deadline moves with them.
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))

    # Sink

    def succeeded(self, ordinal: int, lines: list[Line], warnings: list[str] | None) -> None:
        if warnings:
            self._tell_warnings(ordinal, warnings)
        with self._lock:
            window = self._window
            self._let_go(ordinal)
            self._in_a_row = 0
            self.totals.succeeded += 1
            append(window.succeeded, ordinal)
            if lines:
                self._hold(lines)
            if warnings:
                self._warn(warnings)

    def joined(self, ordinals: Sequence[int], lines: list[Line], warnings: list[str] | None) -> None:
        if warnings:
            self._tell_warnings(ordinals[0], warnings)
        with self._lock:
            window = self._window
            window.joined = True
            self._in_a_row = 0
            self.totals.succeeded += len(ordinals)
            for ordinal in ordinals:
                self._let_go(ordinal)
                append(window.succeeded, ordinal)
            self._hold(lines)
            if warnings:
                self._warn(warnings)

    def _hold(self, lines: list[Line]) -> None:
        window = self._window
        window.lines += lines
        for line in lines:
            window.bytes += self._form.size(line.body)
        if window.bytes >= FLUSH_BYTES:
            self._ask_to_flush()
            if window.bytes >= HELD_BYTES:
                self._pause()

    def skipped(self, ordinal: int, reason: str, warnings: list[str] | None) -> None:
        if warnings:
            self._tell_warnings(ordinal, warnings)
        with self._lock:
            self._let_go(ordinal)
            self._in_a_row = 0
            self.totals.skipped += 1
            append(self._window.skipped, ordinal)
            _tally(self._window.reasons, reason)
            if warnings:
                self._warn(warnings)

    def failed(self, ordinal: int, record_id: str, kind: Kind, error: BaseException) -> None:
        self._keep(
            FailureReport.of_error(
                error,
                ordinal=ordinal,
                record_id=record_id,
                kind=kind,
                code_version=self._code_version,
                **self._locate(ordinal),
            )
        )

    def report(self, report: FailureReport) -> None:
        """Collect a failure with its reason, and add where the record came from."""
        self._keep(replace(report, code_version=self._code_version, **self._locate(report.ordinal)))

    def _keep(self, report: FailureReport) -> None:
        with suppress(Exception):  # watching cannot break the run
            self._note(report)
        with self._lock:
            self._let_go(report.ordinal)
            self.totals.failed[report.kind] += 1
            self._window.failures.append(report)
            if report.kind is Kind.TRANSIENT:
                self._in_a_row += 1
                if self._in_a_row >= self._give_up_after:
                    what = f"{report.error_type}: {report.message}"
                    self._stop(
                        Stop.DEPENDENCY, f"{self._in_a_row} records in a row failed, the last with {what}"
                    )
            else:
                self._in_a_row = 0
            if len(self._window.failures) >= FLUSH_FAILURES:
                self._ask_to_flush()
                if len(self._window.failures) >= HELD_FAILURES:
                    self._pause()

    def lied(self, claims: int) -> None:
        with self._lock:
            self._window.lies += claims

    def _tell_warnings(self, ordinal: int, warnings: list[str]) -> None:
        with suppress(Exception):  # watching cannot break the run
            for text in warnings:
                self._note_warning(ordinal, text)

    def _warn(self, warnings: list[str]) -> None:
        self._window.warnings += len(warnings)
        for warning in warnings:
            _tally(self._window.warned, warning)

    def _ask_to_flush(self) -> None:
        self._flush_now = True
        self._changed.notify_all()

    def _pause(self) -> None:
        """Let nobody take a record before what is held was handed to the journal's thread: memory is finite."""
        if self.stop is None:
            self._paused = True
            self.streak.limit = 0

    def _resume(self, limit: int) -> None:
        if self.stop is None and not self._paused:
            self.streak.limit = limit
        self._changed.notify_all()

    # The journal's thread

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._closing and not self._flush_now:
                    self._changed.wait(self._nap())
                if self._closing:
                    return
                self._flush_now = False
            try:
                self._flush()
            except Exception as error:  # noqa: BLE001  told to whoever asks next
                with self._lock:
                    self._broken = error
                    self._stop(Stop.ERROR, one_line(f"the journal could not be written: {error}"))
                return

    def _nap(self) -> float:
        """Until the next segment has to be begun, if it is to be durable as long after this one was collected as was promised."""
        if self.stop is not None:
            return min(1.0, self._flush_seconds)
        due = self._collected_at + self._flush_seconds * FLUSH_EARLY - 2 * self._write_seconds
        return max(self._flush_seconds / 2, due - time.monotonic())

    def _flush(self, *, last: bool = False) -> None:
        """Write what was collected; with `last`, also say why the worker stopped, even if nothing was."""
        with self._writing, self._deadline.measure_flush():
            if self._unwritten:
                self._unwritten()
            with self._lock:
                self._collect()
                self._collected_at = time.monotonic()
                wanted, in_hand = self._wanted, self._held()
                stuck = self.stop is not None and bool(in_hand) and not last and not self._told_stuck
                if not self._window and not last and not stuck and wanted <= self._horizon:
                    return
                self._told_stuck = self._told_stuck or stuck
                window, self._window = self._window, _Window()
                self._paused = False
                self._resume(self._horizon)
                horizon = self._next_horizon(wanted)
                sequence, self._sequence = self._sequence, self._sequence + 1
                stop, cause = (self.stop or Stop.END, self.cause) if last else (None, "")
            self._unwritten = partial(
                self._write, window, sequence, horizon=horizon, in_hand=in_hand, stop=stop, cause=cause
            )
            self._unwritten()
            self._write_seconds = time.monotonic() - self._collected_at
            with self._lock:
                self._horizon = horizon
                self._resume(horizon)

    def _next_horizon(self, wanted: int) -> int:
        """How far the worker may go before the segment after this one: further the faster it goes."""
        if self.stop is not None:
            return self._position
        taken = self._position - self._taken_before
        self._taken_before = self._position
        return max(self._horizon, max(self._position, wanted) + max(FIRST_HORIZON, 4 * taken))

    def _write(
        self, window: _Window, sequence: int, *, horizon: int, in_hand: Ranges, stop: Stop | None, cause: str
    ) -> None:
        outputs = self._persist(lambda: self._write_outputs(window, sequence))
        failures_key = self._persist(lambda: self._write_failures(window, sequence))
        by_kind: dict[Kind, list[int]] = {}
        for report in window.failures:
            by_kind.setdefault(report.kind, []).append(report.ordinal)
        segment = Segment(
            batch=self._plan.digest,
            invocation=self._invocation,
            sequence=sequence,
            succeeded=_ranges(window.succeeded),
            skipped=_ranges(window.skipped),
            failed={kind: Ranges.of(ordinals) for kind, ordinals in by_kind.items()},
            outputs=outputs,
            failures_key=failures_key,
            horizon=horizon,
            in_hand=in_hand,
            warnings=window.warnings,
            skip_reasons=window.reasons,
            warned=window.warned,
            lies=window.lies,
            stop=stop,
            cause=cause,
            whole=window.joined,
            written_at=now(),
        )
        self._persist(
            lambda: self._ledger.write_json(self._keys.segment(self._invocation, sequence), segment.to_json())
        )
        self._unwritten = None
        log.debug("journaled segment %s of %s", sequence, self._invocation)

    def _write_outputs(self, window: _Window, sequence: int) -> OutputSegment | None:
        if not window.lines:
            return None
        # In the order of the batch, not of the threads: the next stage meets records as this one did, on every run.
        lines = sorted(window.lines, key=attrgetter("ordinal"))
        key = self._keys.outputs(self._invocation, sequence, self._form.suffix)
        ids_key = self._keys.output_ids(self._invocation, sequence)
        self._ledger.store.put(key, self._form.body([line.body for line in lines]))
        self._ledger.write_json(
            ids_key, {"ids": [line.id for line in lines], "of": [line.ordinal for line in lines]}
        )
        return OutputSegment(key=key, ids_key=ids_key, lines=len(lines))

    def _write_failures(self, window: _Window, sequence: int) -> str | None:
        if not window.failures:
            return None
        key = self._keys.failures(self._invocation, sequence)
        write_reports(self._ledger, key, self._plan.stage, window.failures)
        return key

    def _persist(self, write: Callable[[], Any]) -> Any:
        """Write near the failure once more, longer than the client does: S3 refusing for a while costs only time."""
        for attempt in range(1, WRITE_ATTEMPTS):
            try:
                return write()
            except Exception as error:  # noqa: BLE001  whatever it is, the evidence must get there
                log.warning("journal write failed (%s of %s): %s", attempt, WRITE_ATTEMPTS, error)
                time.sleep(min(2.0**attempt, max(0.0, self.seconds_left / 4)))
        return write()

    # Called once, at the end

    def close(self) -> None:
        """Journal the rest and why the worker stopped.

        Raises:
            JournalUnavailable: it cannot be; what is not in the journal is outstanding.
        """
        with self._lock:
            self._closing = True
            self._changed.notify_all()
        self._alarm.join()
        self._thread.join()
        try:
            self._flush(last=True)
        except Exception as error:
            raise JournalUnavailable(one_line(f"the journal could not be written: {error}")) from error
        if self._broken:  # for a while: nothing is lost, but the work had stopped
            raise JournalUnavailable(self.cause) from self._broken


def _tally(reasons: Counter[str], reason: str) -> None:
    short = one_line(reason, 200)
    if short in reasons or len(reasons) < MAX_REASONS:
        reasons[short] += 1
    else:
        reasons[OTHER_REASONS] += 1
