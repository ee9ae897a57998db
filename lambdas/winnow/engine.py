"""The engine: runs a worker's function over records, one by one, in threads, or in batches, and isolates each.

A record that raises costs only itself. One that never returns costs its thread, or, where there is but one, is interrupted
by a timer; what kills the process is the business of `winnow.careful`.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from winnow.contract import Kind
from winnow.errors import RecordTimeout
from winnow.failures import FailureReport
from winnow.formats import NDJSON, OutputFormat, UnusableOutput
from winnow.journal import Stop
from winnow.outcome import (
    CAUGHT,
    BatchMismatch,
    Item,
    Sink,
    batch_outcome,
    call,
    complete,
    kind_of,
    record_outcome,
)
from winnow.record import Retry


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
            except CAUGHT as error:
                sink.failed(ordinal, record.id, kind_of(error), error)
        return
    try:
        value = call(function, [record for _, record in items], options.retry)
        batch_outcome(sink, items, value, options.outputs)
    except CAUGHT as error:
        one_by_one(function, items, sink, options, error)


def one_by_one(
    function: Callable[[Any], Any], items: Sequence[Item], sink: Sink, options: Options, error: BaseException
) -> None:
    """A batch's call raised: find out whose fault it was."""
    if len(items) == 1:
        ordinal, record = items[0]
        kind = Kind.PERMANENT if isinstance(error, BatchMismatch) else kind_of(error)
        sink.failed(ordinal, record.id, kind, error)
        return
    for item in items:
        try:
            value = call(function, [item[1]], options.retry)
            batch_outcome(sink, [item], value, options.outputs)
        except CAUGHT as own:
            one_by_one(function, [item], sink, options, own)


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


def run(function: Callable[[Any], Any], items: Iterable[Item], gate: Gate, options: Options) -> None:
    """Work through items until they or the time are over."""
    work = units(items, gate, options.batch or 1)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if options.concurrency > 1 or (options.record_timeout and not in_main_thread):
        _Threads(function, gate, options).run(work)
        return
    with _interrupted(function, options.record_timeout) as limited:
        if options.batch is None and options.retry is None:
            _plain(limited, items, gate, options.outputs)
        else:
            for unit in work:
                process(limited, unit, gate, options)


def _plain(function: Callable[[Any], Any], items: Iterable[Item], gate: Gate, form: OutputFormat) -> None:
    """`process` for one record at a time without options, unrolled: this loop is what a million records cost."""
    take, succeeded = gate.take, gate.succeeded
    for ordinal, record in items:
        if not take(ordinal):
            return
        try:
            value = function(record)
            if value is None:
                succeeded(ordinal, [], record._warnings)  # noqa: SLF001  ours
            else:
                record_outcome(gate, ordinal, record, complete(value), form)
        except CAUGHT as error:
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


@dataclass(slots=True, eq=False)
class _Job:
    """A unit of work in a thread's hands."""

    items: list[Item]
    started: float
    lock: threading.Lock
    abandoned: bool = False
    told: set[int] = field(default_factory=set)
    """Ordinals whose outcome is known already: a batch may hang half way through its fallback."""


class _Shielded:
    """A sink that forgets what an abandoned thread still says: its records were reported as timed out."""

    def __init__(self, sink: Sink, job: _Job) -> None:
        self._sink = sink
        self._job = job

    def __getattr__(self, name: str) -> Callable[..., None]:
        method: Callable[..., None] = getattr(self._sink, name)

        def say(*args: Any) -> None:
            with self._job.lock:
                if not self._job.abandoned:
                    method(*args)
                    self._job.told.add(args[0])

        return say


class _Threads:
    """Units of work in a fixed number of threads. A thread that hangs is abandoned and replaced."""

    POLL_SECONDS = 0.05
    """How often hanging threads are looked for."""

    def __init__(self, function: Callable[[Any], Any], gate: Gate, options: Options) -> None:
        self._function = function
        self._gate = gate
        self._options = options
        self._queue: queue.Queue[list[Item] | None] = queue.Queue(maxsize=options.concurrency)
        self._jobs: dict[threading.Thread, _Job | None] = {}
        self._lock = threading.Lock()

    def run(self, work: Iterator[list[Item]]) -> None:
        for _ in range(self._options.concurrency):
            self._start_thread()
        try:
            for unit in work:
                self._put(unit)
        finally:
            self._put(None)
            while any(thread.is_alive() for thread in self._threads()):
                self._join_some()

    def _threads(self) -> list[threading.Thread]:
        with self._lock:
            return list(self._jobs)

    def _put(self, unit: list[Item] | None) -> None:
        while True:
            try:
                self._queue.put(unit, timeout=self.POLL_SECONDS)
                return
            except queue.Full:
                self._replace_hanging()

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

    def _serve(self) -> None:
        me = threading.current_thread()
        while (unit := self._queue.get()) is not None:
            job = _Job(items=unit, started=time.monotonic(), lock=threading.Lock())
            with self._lock:
                self._jobs[me] = job
            process(self._function, unit, _Shielded(self._gate, job), self._options)
            with self._lock:
                if job.abandoned:
                    return
                self._jobs[me] = None
        self._queue.put(None)  # for the next thread; there is room, nothing else is put any more

    def _replace_hanging(self) -> None:
        limit = self._options.record_timeout
        if limit is None:
            return
        now = time.monotonic()
        with self._lock:
            hanging = [
                (thread, job) for thread, job in self._jobs.items() if job and now - job.started > limit
            ]
        for thread, job in hanging:
            with job.lock:
                job.abandoned = True
            with self._lock:
                self._jobs.pop(thread, None)
            for ordinal, record in job.items:
                if ordinal in job.told:
                    continue
                error = RecordTimeout(f"took longer than {limit:g} s")
                self._gate.failed(ordinal, record.id, Kind.TRANSIENT, error)
            self._start_thread()
