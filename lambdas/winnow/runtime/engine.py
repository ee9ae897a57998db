"""The engine: runs a worker's function over records, one by one, in threads, or in batches, and isolates each.

A record that raises costs only itself. One that never returns costs its thread, or, where there is but one, is interrupted
by a timer; `winnow.runtime.careful` deals with one that kills the process.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from winnow.core.errors import RecordTimeout
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
            value = function(record)
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
    """The function with a time limit on each call, enforced by a signal; only for the main thread."""
    if seconds is None:
        yield function
        return
    armed = False

    def ring(_signal: int, _frame: object) -> None:
        if armed:  # a late signal must not interrupt the recorder
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
