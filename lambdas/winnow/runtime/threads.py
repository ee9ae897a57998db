"""Units of work in several threads, each with a time limit. A thread that hangs is given up and replaced."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from winnow.core.contract import Kind
from winnow.core.errors import RecordTimeout
from winnow.runtime.options import Options
from winnow.runtime.outcome import complete
from winnow.runtime.sink import Gate, Item, Line
from winnow.runtime.units import process


class _GivenUp(BaseException):
    """Raised in a thread that hung and came back: another thread does its work by now."""


class _WatchedUnit:
    """A unit of work in the hands of a thread, and its sink. After the thread is given up, what it tells is ignored."""

    def __init__(self, items: list[Item], gate: Gate) -> None:
        self.items = items
        self._gate = gate
        self._lock = threading.Lock()
        self._by_record = {id(record): (ordinal, record) for ordinal, record in items}
        self._calling: list[Item] = []
        """What the function is called with; empty between calls."""
        self._since = 0.0
        self._told: set[int] = set()
        """Ordinals whose outcome is known."""
        self._given_up = False

    def timed(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The function, each of its calls timed: a batch that is done one by one has a limit for each record."""

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
        """Give the thread up if its call takes longer than the limit.

        Returns:
            What that call was given, and what else of the unit is not done; None where the thread is within the limit.
        """
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


class WorkerThreads:
    """A fixed number of worker threads. One that hangs is given up and replaced."""

    POLL_SECONDS = 0.05
    """How often hanging threads are looked for."""

    def __init__(self, function: Callable[[Any], Any], gate: Gate, options: Options) -> None:
        self._function = function
        self._gate = gate
        self._options = options
        self._queue: queue.Queue[list[Item] | None] = queue.Queue(maxsize=options.concurrency)
        self._again: deque[list[Item]] = deque()
        """What was in hand beside a record that hung; done one by one."""
        self._units: dict[threading.Thread, _WatchedUnit | None] = {}
        self._lock = threading.Lock()
        self._broken: list[BaseException] = []
        """What the gate itself raised. The threads then only empty the queue, so that `run` does not wait for room in it."""

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
            return list(self._units)

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
                    self._units.pop(thread, None)
        self._replace_hanging()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._serve, name="record", daemon=True)
        with self._lock:
            self._units[thread] = None
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
            watched = _WatchedUnit(unit, self._gate)
            with self._lock:
                self._units[me] = watched
            try:
                process(watched.timed(self._function), unit, watched, self._options)
            except BaseException as error:  # noqa: BLE001  raised again in the main thread
                self._broken.append(error)
            with self._lock:
                if watched.given_up:
                    return
                self._units[me] = None
        self._queue.put(None)  # for the next thread; there is room, nothing else is put any more

    def _replace_hanging(self) -> None:
        limit = self._options.record_timeout
        if limit is None:
            return
        with self._lock:
            watched = [(thread, unit) for thread, unit in self._units.items() if unit]
        for thread, unit in watched:
            found = unit.give_up(limit)
            if not found:
                continue
            with self._lock:
                self._units.pop(thread, None)
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
