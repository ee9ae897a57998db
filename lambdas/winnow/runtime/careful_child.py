"""The program of a careful child: `python -m winnow.runtime.careful_child module:attribute read-fd write-fd life-fd memory-mb`.

Reads units of work, runs the worker's function on them and writes the outcomes. Ends when its parent ends.
"""

from __future__ import annotations

import importlib
import os
import pickle
import resource
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from winnow.batch.rows import Decode
from winnow.core.contract import Kind
from winnow.core.record import Record
from winnow.journal.reports import FailureReport, words_of
from winnow.runtime.careful import HEADER, process_memory_kb
from winnow.runtime.decorator import Worker
from winnow.runtime.process_state import is_used_up
from winnow.runtime.record_reader import UNDECODABLE
from winnow.runtime.sink import Item, Line, Sink
from winnow.runtime.units import process

MIN_HEADROOM_MB = 64
"""A child may always allocate this much, however little memory the Lambda has left."""


class _Outcomes:
    """A sink that records the calls made to it. The parent makes them again."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.used_up = False
        """An error said that this process has run out of something; what comes next is for another child."""

    def succeeded(self, ordinal: int, lines: list[Line], warnings: list[str] | None) -> None:
        self.calls.append(("succeeded", (ordinal, _plain(lines), warnings)))

    def joined(self, ordinals: Sequence[int], lines: list[Line], warnings: list[str] | None) -> None:
        self.calls.append(("joined", (ordinals, _plain(lines), warnings)))

    def skipped(self, ordinal: int, reason: str, warnings: list[str] | None) -> None:
        self.calls.append(("skipped", (ordinal, reason, warnings)))

    def failed(self, ordinal: int, record_id: str, kind: Kind, error: BaseException) -> None:
        """Send a report: the error itself may not be picklable."""
        self.used_up = self.used_up or is_used_up(error)
        report = FailureReport.of_error(error, ordinal=ordinal, record_id=record_id, kind=kind)
        self.calls.append(("report", (report,)))

    def lied(self, claims: int) -> None:
        self.calls.append(("lied", (claims,)))


def _plain(lines: list[Line]) -> list[Line]:
    """Lines whose bodies are of Python's own types: the function's may not be picklable, such as the strings that lxml gives."""
    return [line._replace(body=_plain_value(line.body)) for line in lines]


def _plain_value(value: Any) -> Any:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return {key: _plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_value(item) for item in value]
    return value


def main(worker_name: str, read: int, write: int, life: int, memory_mb: int) -> None:
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    try:
        worker = find_worker(worker_name)
        worker.process.prepare()
    except BaseException as error:  # noqa: BLE001  the parent raises it
        _send(write, f"{type(error).__name__}: {words_of(error)}")
        return
    _limit_memory(memory_mb)
    _send(write, None)
    with os.fdopen(read, "rb") as source:
        while header := source.read(HEADER.size):
            unit = pickle.loads(source.read(HEADER.unpack(header)[0]))  # noqa: S301  from the parent
            sink = _Outcomes()
            items = list(_decoded(unit, sink))
            _send(write, None)
            if items:
                process(worker.function, items, sink, worker.options)
            _send(write, sink.calls)
            if sink.used_up:
                return


def _decoded(unit: Iterable[tuple[int, str, Decode, Any]], sink: Sink) -> Iterator[Item]:
    """The records of a unit. One that cannot be decoded is reported and left out."""
    for ordinal, identifier, decode, row in unit:
        try:
            record = Record(*decode(row))
        except UNDECODABLE as error:
            sink.failed(ordinal, identifier, Kind.PERMANENT, error)
        else:
            record._as_read = partial(decode, row)  # noqa: SLF001  ours
            yield ordinal, record


def find_worker(name: str) -> Worker:
    """The worker whose function has a name, `module:qualified name`. The worker itself may be called differently in its module.

    Raises:
        LookupError: the module has none.
    """
    module_name, _, function_name = name.partition(":")
    module = importlib.import_module(module_name)
    for candidate in (getattr(module, function_name, None), *vars(module).values()):
        found: Any = candidate
        while found is not None and not isinstance(found, Worker):
            found = getattr(found, "__wrapped__", None)  # the wrapper of another decorator
        if found is not None and found.name == name:
            return found
    raise LookupError(
        f"{module_name} has no worker of {function_name}; give it a name at the top level of its module"
    )


def _send(descriptor: int, message: object) -> None:
    body = pickle.dumps(message)
    view = memoryview(HEADER.pack(len(body)) + body)
    while view:
        view = view[os.write(descriptor, view) :]


def _end_with(life: int) -> None:
    """The other end of this pipe closes when the parent ends, however it ends."""
    os.read(life, 1)
    os._exit(1)


def _limit_memory(memory_mb: int) -> None:
    """Let an allocation beyond this child's share of the memory fail here, rather than have the whole sandbox killed.

    RLIMIT_DATA rather than RLIMIT_AS: libraries reserve address space they never use.
    """
    used_kb = process_memory_kb()
    if not used_kb:
        return
    headroom_mb = max(MIN_HEADROOM_MB, memory_mb - used_kb["VmRSS"] // 1024)
    limit = used_kb["VmData"] * 1024 + headroom_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:6]))
