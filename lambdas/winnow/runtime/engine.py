"""The engine: runs a worker's function over records, one by one, in threads, or in batches, and isolates each.

A record that raises costs only itself. One that never returns costs its thread, or, where there is but one, is interrupted
by a timer; what kills the process is the business of `winnow.runtime.careful`.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from winnow.core.contract import Kind
from winnow.core.errors import RecordTimeout
from winnow.core.record import Retry
from winnow.journal.reports import FailureReport
from winnow.journal.segment import Stop
from winnow.runtime.outcome import (
    BatchMismatch,
    Item,
    Line,
    Sink,
    batch_outcome,
    begin_again,
    call,
    complete,
    kind_of,
    record_outcome,
)
from winnow.runtime.streak import Streak
from winnow.storage.formats import NDJSON, OutputFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a worker wants its records."""

    concurrency: int = 1
    """Threads. For functions that wait for others; they share one CPU."""
    batch: int | None = None
    """Records per call; None for one record, not in a list."""
    retry: Retry | None = None
    record_timeout: float | None = None
    """Seconds a record (or a batch's call) may take; None for no limit but the Lambda's."""
    setup: Callable[[], object] | None = None
    """Run once per cold start, before the first record."""
    outputs: OutputFormat = NDJSON
    give_up_after: int = 100
    """Transient failures in a row that mean the other side is down: the rest stays outstanding, untried."""
    flush_seconds: float = 5.0
    """Between segments of the journal: the most work that a death can cost."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "give_up_after"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got: {getattr(self, name)}")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"`batch` must be at least 1, got: {self.batch}")
        for name in ("record_timeout", "flush_seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"`{name}` must be more than 0 seconds, got: {value}")


class Gate(Sink, Protocol):
    """A sink that says whether a record may be taken up."""

    @property
    def stopping(self) -> bool: ...

    @property
    def seconds_left(self) -> float:
        """Until no record is taken any more."""

    def request_stop(self, stop: Stop, cause: str = "") -> None: ...

    def take(self, ordinal: int) -> bool: ...

    def report(self, report: FailureReport) -> None: ...


def process(function: Callable[[Any], Any], items: Sequence[Item], sink: Sink, options: Options) -> None:
    """Run the function on one unit of work: a record, or a batch. Never raises what a record raised."""
    if options.batch is None:
        for ordinal, record in items:
            try:
                record_outcome(sink, ordinal, record, call(function, record, options.retry), options.outputs)
            except BaseException as error:  # noqa: BLE001  whatever it is, it is this record's
                sink.failed(ordinal, record.id, kind_of(error), error)
        return
    try:
        value = call(function, [record for _, record in items], options.retry)
        batch_outcome(sink, items, value, options.outputs)
    except BaseException as error:  # noqa: BLE001
        kind = Kind.PERMANENT if isinstance(error, BatchMismatch) else kind_of(error)
        if len(items) == 1:
            ordinal, record = items[0]
            sink.failed(ordinal, record.id, kind, error)
            return
        begin_again([record for _, record in items])
    else:
        return
    for item in items:  # one by one, to find out whose fault it was
        process(function, [item], sink, options)


def units(items: Iterable[Item], gate: Gate, size: int) -> Iterator[list[Item]]:
    """Units of work, as long as records may be taken."""
    unit: list[Item] = []
    for item in items:
        if not gate.take(item[0]):
            break
        unit.append(item)
        if len(unit) >= size:
            yield unit
            unit = []
    if unit:
        yield unit


def run(
    function: Callable[[Any], Any],
    items: Iterable[Item],
    gate: Gate,
    options: Options,
    streak: Streak | None = None,
) -> None:
    """Work through items until they or the time are over.

    Args:
        function: the user's.
        items: in order of ordinals, or in a few parts of which each is.
        gate: says which may be taken up, and is told what became of them.
        options: the worker's.
        streak: the gate's, if it has one.
    """
    work = units(items, gate, options.batch or 1)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if options.concurrency > 1 or (options.record_timeout and not in_main_thread):
        _Threads(function, gate, options).run(work)
        return
    with _interrupted(function, options.record_timeout) as limited:
        if streak and options.batch is None and options.retry is None:
            _plain(limited, items, gate, streak, options.outputs)
        else:
            for unit in work:
                process(limited, unit, gate, options)


def _plain(
    function: Callable[[Any], Any], items: Iterable[Item], gate: Gate, streak: Streak, form: OutputFormat
) -> None:
    """`process` for one record at a time without options, unrolled: this loop is what a million records cost."""
    for ordinal, record in items:
        if (ordinal != streak.done or ordinal >= streak.limit) and not streak.begin(ordinal):
            return
        streak.taken = following = ordinal + 1
        try:
            value = function(record)
            if value is not None:
                record_outcome(gate, ordinal, record, complete(value), form)
            elif record._warnings is None:  # noqa: SLF001  ours
                streak.done = following
            else:
                gate.succeeded(ordinal, [], record._warnings)  # noqa: SLF001
        except BaseException as error:  # noqa: BLE001  whatever it is, it is this record's
            gate.failed(ordinal, record.id, kind_of(error), error)


@contextmanager
def _interrupted(function: Callable[[Any], Any], seconds: float | None) -> Iterator[Callable[[Any], Any]]:
    """The function with a time limit on each call, kept by a signal; only for the main thread."""
    if seconds is None:
        yield function
        return
    armed = False

    def ring(_signal: int, _frame: object) -> None:
        if armed:  # a signal that is late must not interrupt the recorder
            raise RecordTimeout(f"took longer than {seconds:g} s")

    def limited(argument: Any) -> Any:
        nonlocal armed
        armed = True
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            return complete(function(argument))
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield limited
    finally:
        signal.signal(signal.SIGALRM, before)


class _GivenUp(BaseException):
    """Raised in a thread that hung and came back: others do its work by now."""


class _Job:
    """A unit of work in a thread's hands, and the sink it is told to: one that forgets what a thread says that was given up."""

    def __init__(self, items: list[Item], gate: Gate) -> None:
        self.items = items
        self._gate = gate
        self._lock = threading.Lock()
        self._by_record = {id(record): (ordinal, record) for ordinal, record in items}
        self._calling: list[Item] = []
        """What the function works on."""
        self._since = 0.0
        self._told: set[int] = set()
        """Ordinals whose outcome is known."""
        self._given_up = False

    def timed(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The function, with a watch on each of its calls: a batch that is done one by one has a limit for each."""

        def watched(argument: Any) -> Any:
            records = argument if isinstance(argument, list) else [argument]
            with self._lock:
                if self._given_up:
                    raise _GivenUp
                self._calling = [self._by_record[id(record)] for record in records]
                self._since = time.monotonic()
            try:
                return complete(function(argument))
            except KeyboardInterrupt as error:  # the operator's is for the main thread: this is its own
                raise RuntimeError("raised KeyboardInterrupt") from error
            finally:
                with self._lock:
                    self._calling = []

        return watched

    def give_up(self, limit: float) -> tuple[list[Item], list[Item]] | None:
        """Stop listening, if a call takes longer than the limit: what that call works on, and what else is not done."""
        with self._lock:
            if self._given_up or not self._calling or time.monotonic() - self._since <= limit:
                return None
            self._given_up = True
            hung = {ordinal for ordinal, _ in self._calling}
            rest = [item for item in self.items if item[0] not in self._told and item[0] not in hung]
            return self._calling, rest

    @property
    def given_up(self) -> bool:
        return self._given_up

    # Sink

    def succeeded(self, ordinal: int, lines: list[Line], warnings: list[str] | None) -> None:
        self._tell((ordinal,), lambda: self._gate.succeeded(ordinal, lines, warnings))

    def joined(self, ordinals: Sequence[int], lines: list[Line], warnings: list[str] | None) -> None:
        self._tell(ordinals, lambda: self._gate.joined(ordinals, lines, warnings))

    def skipped(self, ordinal: int, reason: str, warnings: list[str] | None) -> None:
        self._tell((ordinal,), lambda: self._gate.skipped(ordinal, reason, warnings))

    def failed(self, ordinal: int, record_id: str, kind: Kind, error: BaseException) -> None:
        self._tell((ordinal,), lambda: self._gate.failed(ordinal, record_id, kind, error))

    def lied(self, claims: int) -> None:
        self._tell((), lambda: self._gate.lied(claims))

    def _tell(self, ordinals: Sequence[int], tell: Callable[[], None]) -> None:
        with self._lock:
            if not self._given_up:
                tell()
                self._told.update(ordinals)


class _Threads:
    """Units of work in a fixed number of threads. A thread that hangs is given up and replaced."""

    POLL_SECONDS = 0.05
    """How often hanging threads are looked for."""

    def __init__(self, function: Callable[[Any], Any], gate: Gate, options: Options) -> None:
        self._function = function
        self._gate = gate
        self._options = options
        self._queue: queue.Queue[list[Item] | None] = queue.Queue(maxsize=options.concurrency)
        self._again: deque[list[Item]] = deque()
        """What was in hand beside a record that hung, one by one."""
        self._jobs: dict[threading.Thread, _Job | None] = {}
        self._lock = threading.Lock()
        self._broken: list[BaseException] = []
        """What the gate itself raised. Threads then only empty the queue, so that nobody waits for them."""

    def run(self, work: Iterator[list[Item]]) -> None:
        for _ in range(self._options.concurrency):
            self._start_thread()
        try:
            for unit in work:
                if self._broken:
                    break
                self._put(unit)
        finally:
            self._put(None)
            while any(thread.is_alive() for thread in self._threads()):
                self._join_some()
        if self._broken:
            raise self._broken[0]

    def _threads(self) -> list[threading.Thread]:
        with self._lock:
            return list(self._jobs)

    def _put(self, unit: list[Item] | None) -> None:
        while True:
            try:
                self._queue.put(unit, timeout=self.POLL_SECONDS)
            except queue.Full:
                self._replace_hanging()
            else:
                return

    def _join_some(self) -> None:
        for thread in self._threads():
            thread.join(self.POLL_SECONDS / self._options.concurrency)
            if not thread.is_alive():
                with self._lock:
                    self._jobs.pop(thread, None)
        self._replace_hanging()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._serve, name="record", daemon=True)
        with self._lock:
            self._jobs[thread] = None
        thread.start()

    def _next(self) -> list[Item] | None:
        try:
            return self._again.popleft()
        except IndexError:
            return self._queue.get()

    def _serve(self) -> None:
        me = threading.current_thread()
        while (unit := self._next()) is not None:
            if self._broken:
                continue
            job = _Job(unit, self._gate)
            with self._lock:
                self._jobs[me] = job
            try:
                process(job.timed(self._function), unit, job, self._options)
            except BaseException as error:  # noqa: BLE001  raised again in the main thread
                self._broken.append(error)
            with self._lock:
                if job.given_up:
                    return
                self._jobs[me] = None
        self._queue.put(None)  # for the next thread; there is room, nothing else is put any more

    def _replace_hanging(self) -> None:
        limit = self._options.record_timeout
        if limit is None:
            return
        with self._lock:
            jobs = [(thread, job) for thread, job in self._jobs.items() if job]
        for thread, job in jobs:
            found = job.give_up(limit)
            if not found:
                continue
            with self._lock:
                self._jobs.pop(thread, None)
            hung, rest = found
            if len(hung) == 1:
                ordinal, record = hung[0]
                error = RecordTimeout(f"took longer than {limit:g} s")
                self._gate.failed(ordinal, record.id, Kind.TRANSIENT, error)
            else:
                rest = hung + rest
            # The thread may come back and go on with the records that it has.
            self._again.extend([(ordinal, record._copy_as_read())] for ordinal, record in rest)  # noqa: SLF001
            self._start_thread()
