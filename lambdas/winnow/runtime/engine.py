"""The engine: runs a worker's function over records, one by one, in threads, or in batches, and isolates each.

A record that raises costs only itself. One that never returns costs its thread, or, where there is but one, is interrupted
by a watchdog; `winnow.runtime.careful` deals with one that kills the process.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from winnow.core.errors import RecordTimeout
from winnow.core.record import Delete
from winnow.runtime.options import Options
from winnow.runtime.outcome import complete, kind_of, record_outcome
from winnow.runtime.sink import Gate, Item
from winnow.runtime.streak import Streak
from winnow.runtime.threads import WorkerThreads
from winnow.runtime.units import process, units
from winnow.storage.formats import OutputFormat


def run(
    function: Callable[[Any], Any],
    items: Iterable[Item],
    gate: Gate,
    options: Options,
    streak: Streak | None = None,
) -> None:
    """Work through the items until there are no more or the gate lets no more in.

    Args:
        function: the user's.
        items: in order of ordinals, or in a few parts that each are.
        gate: says which may be taken, and is told their outcomes.
        options: the worker's.
        streak: of the gate, if it has one.
    """
    work = units(items, gate, options.batch or 1)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if options.concurrency > 1 or (options.record_timeout and not in_main_thread):
        WorkerThreads(function, gate, options).run(work)
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
    """`process` for one record at a time without options, unrolled: a million records go through this loop."""
    for ordinal, record in items:
        if (ordinal != streak.done or ordinal >= streak.limit) and not streak.begin(ordinal):
            return
        streak.taken = following = ordinal + 1
        try:
            value = function(record) if type(record.data) is not Delete else record.data
            if value is not None:
                record_outcome(gate, ordinal, record, complete(value), form)
            elif record._warnings is None:  # noqa: SLF001  ours
                streak.done = following
            else:
                gate.succeeded(ordinal, [], record._warnings)  # noqa: SLF001
        except BaseException as error:  # noqa: BLE001  any error is this record's
            gate.failed(ordinal, record.id, kind_of(error), error)


@contextmanager
def _interrupted(function: Callable[[Any], Any], seconds: float | None) -> Iterator[Callable[[Any], Any]]:
    """The function with a time limit on each call; only for the main thread."""
    if seconds is None:
        yield function
        return
    watchdog = _Watchdog(function, seconds)
    before = signal.signal(INTERRUPT, watchdog.interrupt)
    watchdog.start()
    try:
        yield watchdog.limited
    finally:
        watchdog.end()
        signal.signal(INTERRUPT, signal.SIG_IGN)  # drops one that has not arrived yet
        signal.signal(INTERRUPT, before or signal.SIG_DFL)


NEVER = math.inf
INTERRUPT = getattr(signal, "SIGRTMAX", signal.SIGUSR2)
"""The signal that interrupts a call. Nothing else is known to use it; macOS has no real-time signals."""


class _Watchdog:
    """Interrupts each call of a function that takes too long, again and again until it ends.

    Its clock is a thread and its signal is its own. So a function may use SIGALRM and the timers of the process, and what it
    does to them does not change the limit.
    """

    def __init__(self, function: Callable[[Any], Any], seconds: float) -> None:
        self._function = function
        self._seconds = seconds
        self._until = NEVER
        """When the call in progress has taken too long."""
        self._caller = threading.get_ident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def limited(self, argument: Any) -> Any:
        self._until = time.monotonic() + self._seconds
        try:
            return complete(self._function(argument))
        finally:
            self._until = NEVER

    def _watch(self) -> None:
        wait = self._seconds  # a call that begins during a wait is not late before the wait ends
        while not self._ended.wait(min(wait, threading.TIMEOUT_MAX)):
            wait = min(self._seconds, self._until - time.monotonic())
            if wait <= 0:
                signal.pthread_kill(self._caller, INTERRUPT)
                wait = self._seconds

    def interrupt(self, _signal: int, frame: FrameType | None) -> None:
        """The handler of the signal. One that comes late must interrupt neither the next call nor the recorder."""
        if time.monotonic() >= self._until and _is_within(frame, _Watchdog.limited.__code__):
            raise RecordTimeout(f"took longer than {self._seconds:g} s")


def _is_within(frame: FrameType | None, code: CodeType) -> bool:
    while frame:
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False
