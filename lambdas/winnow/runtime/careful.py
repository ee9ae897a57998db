"""The careful attempt: after a worker died, the user's code runs in child processes, so that no record can kill it again.

Each child is given one unit of work at a time, so it is known exactly which records it had when it died. One attempt contains any
number of killers; suspects come last.

A record is called `crashed` when it is the first of a fresh child and kills it. In a child that has run before, the records before it
may be to blame, for instance for a leak.
"""

from __future__ import annotations

import math
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from winnow.core.contract import Kind
from winnow.core.errors import WinnowError
from winnow.journal.reports import FailureReport
from winnow.journal.segment import Stop
from winnow.runtime.options import Options
from winnow.runtime.sink import Gate, UndecodedRecord

MIN_RECORD_SECONDS = 1.0
RECORD_SHARE_OF_TIMEOUT = 0.1
"""A record without a `record_timeout` may take this share of the Lambda's time before its child is killed."""
START_SECONDS = 60.0
"""A child may take this long to import the worker and run its setup, and to decode a unit of work."""
MB_PER_CHILD = 256
MAX_CHILDREN = 8
PARENT_GROWS_MB = 16
"""Kept back for the parent, which goes on reading, journaling and flushing while its children work."""

HEADER = struct.Struct("!Q")
"""Of a message in a pipe: how many bytes follow."""

UndecodedItem = tuple[int, UndecodedRecord]
"""A record and its ordinal."""


class WorkerNotStarted(WinnowError):
    """The worker's module or its setup fails before any record: the fault of the environment."""


class Killed(Exception):
    """The child died, or was killed because it took too long, while it worked on a unit."""

    def __init__(self, message: str, *, hung: bool) -> None:
        super().__init__(message)
        self.hung = hung


class OutOfTime(Exception):
    """The Lambda's time ran out before the child's did: nothing is known about the records that the child had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a child may use."""

    record_seconds: float
    """Of one record, or of a whole batch. A batch that takes longer is done record by record."""
    memory_mb: int
    """Of the whole Lambda; of a child, what it may use itself."""

    @classmethod
    def of(cls, options: Options, *, timeout_seconds: float, memory_mb: int) -> Limits:
        seconds = max(MIN_RECORD_SECONDS, timeout_seconds * RECORD_SHARE_OF_TIMEOUT)
        if options.record_timeout:
            calls, waits = (options.retry.attempts, options.retry.longest_wait) if options.retry else (1, 0.0)
            seconds = options.record_timeout * calls + waits
        return cls(record_seconds=seconds, memory_mb=memory_mb)


class Child:
    """A child process that runs the worker's function on what it is sent."""

    def __init__(self, worker: str, limits: Limits, *, seconds_left: float = math.inf) -> None:
        """Start it. `worker` is `module:attribute`.

        Raises:
            WorkerNotStarted: it cannot even begin.
        """
        self.fresh = True
        self._limits = limits
        to_child, self._send = os.pipe()
        self._receive, from_child = os.pipe()
        life, self._life = os.pipe()
        inherited = (to_child, from_child, life)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-m", "winnow.runtime.careful_child", worker, *map(str, inherited)]
        try:
            self._process = subprocess.Popen(
                [*command, str(limits.memory_mb)],
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if _has_fileno(sys.stderr) else None,
                env=environment,
                start_new_session=True,  # so that processes that a record started end with the child
            )
        except OSError as error:
            self._close_pipes()
            raise WorkerNotStarted(f"{worker} cannot be started in a child process: {error}") from error
        finally:
            for descriptor in inherited:
                os.close(descriptor)
        try:
            problem = self._read(max(0.0, min(START_SECONDS, seconds_left)))
        except Killed as error:
            self.close()
            raise WorkerNotStarted(f"{worker} cannot be started in a child process: {error}") from error
        if problem is not None:
            self.close()
            raise WorkerNotStarted(f"{worker} cannot be started in a child process: {problem}")

    def run(
        self, items: Sequence[UndecodedItem], *, seconds_left: float = math.inf
    ) -> list[tuple[str, tuple[Any, ...]]]:
        """Outcomes of a unit of work, as calls of a sink.

        Raises:
            Killed: it died, or took too long and was killed.
        """
        self.fresh = False
        # Undecoded: a pickle of the data would be refused where the data is nested deeper than pickle goes.
        body = pickle.dumps([(ordinal, *record) for ordinal, record in items])
        try:
            _write_all(self._send, HEADER.pack(len(body)))
            _write_all(self._send, body)
        except OSError:
            raise Killed(self._ending(), hung=False) from None
        del body
        self._read(max(0.0, min(START_SECONDS, seconds_left)))  # decoded: a record's time begins
        outcome: list[tuple[str, tuple[Any, ...]]] = self._read(
            max(0.0, min(self._limits.record_seconds, seconds_left))
        )
        return outcome

    def _read(self, seconds: float) -> Any:
        until = time.monotonic() + seconds
        size = HEADER.unpack(self._read_exactly(HEADER.size, until, seconds))[0]
        return pickle.loads(self._read_exactly(size, until, seconds))  # noqa: S301  our own child

    def _read_exactly(self, size: int, until: float, seconds: float) -> bytes:
        found = bytearray()
        while len(found) < size:
            ready, _, _ = select.select([self._receive], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                self._kill()
                raise Killed(f"took longer than {seconds:.3g} s and was stopped", hung=True)
            piece = os.read(self._receive, size - len(found))
            if not piece:
                raise Killed(self._ending(), hung=False)
            found += piece
        return bytes(found)

    def _ending(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._kill()
            code = self._process.wait()
        return f"killed its worker (signal {-code})" if code < 0 else f"ended its worker (exit code {code})"

    def _kill(self) -> None:
        """Kill the child and the processes that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it."""
        self._kill()
        self._process.wait()
        self._close_pipes()

    def _close_pipes(self) -> None:
        for descriptor in (self._send, self._receive, self._life):
            os.close(descriptor)


def _has_fileno(stream: Any) -> bool:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _write_all(descriptor: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(descriptor, view) :]


def run_carefully(
    worker: str, items: Iterator[list[UndecodedItem]], gate: Gate, options: Options, limits: Limits
) -> None:
    """Work through units of records in children.

    Raises:
        WorkerNotStarted: not even a fresh child can begin.
    """
    count = max(1, min(options.concurrency, MAX_CHILDREN, limits.memory_mb // MB_PER_CHILD))
    left_mb = max(0, limits.memory_mb - resident_mb() - PARENT_GROWS_MB)
    share = Limits(record_seconds=limits.record_seconds, memory_mb=left_mb // count)
    source = _SharedUnits(items)
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            _CarefulThread(worker, source, gate, share).run()
        except BaseException as error:  # noqa: BLE001  raised again below, in the main thread
            failed.append(error)
            source.end()

    threads = [threading.Thread(target=serve, name="careful", daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def resident_mb() -> int:
    """Memory that this process uses, which Lambda counts together with that of its children; 0 where the system does not say."""
    return process_memory_kb().get("VmRSS", 0) // 1024


def process_memory_kb() -> dict[str, int]:
    """This process's memory as Linux counts it, by the names of /proc/self/status; empty elsewhere: nothing is killed for memory there."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return {name: int(fields[name].split()[0]) for name in ("VmData", "VmRSS")}
    except (OSError, KeyError, ValueError):
        return {}


class _SharedUnits:
    """Units of work that several threads draw from."""

    def __init__(self, items: Iterator[list[UndecodedItem]]) -> None:
        self._items = items
        self._lock = threading.Lock()
        self._ended = False

    def next(self) -> list[UndecodedItem] | None:
        with self._lock:
            return None if self._ended else next(self._items, None)

    def end(self) -> None:
        self._ended = True


class _CarefulThread:
    """What one thread does: it runs one child at a time and gives it units of work."""

    def __init__(self, worker: str, source: _SharedUnits, gate: Gate, limits: Limits) -> None:
        self._worker = worker
        self._source = source
        self._gate = gate
        self._limits = limits
        self._child: Child | None = None
        self._again: deque[list[UndecodedItem]] = deque()
        """Units that a child had when it died, as single records; the first of them starts in a fresh child."""
        self._began = False
        """Whether a unit is finished. The first may use all the time there is, so that each attempt makes progress."""

    def run(self) -> None:
        try:
            while not self._gate.stopping:
                unit = self._again.popleft() if self._again else self._source.next()
                if unit is None:
                    return
                self._run_unit(unit)
                self._began = True
        except OutOfTime:
            # Lambda would kill this process with the child. The attempt would count as died, which costs every record a try.
            self._gate.request_stop(Stop.TIME, "little time was left")
        finally:
            self._end_child()

    def _run_unit(self, unit: list[UndecodedItem]) -> None:
        child = self._child or self._start_child()
        fresh = child.fresh
        try:
            outcomes = child.run(unit, seconds_left=self._gate.seconds_left)
        except Killed as killed:
            if killed.hung and self._began and self._gate.seconds_left <= 0:
                raise OutOfTime from killed
            self._end_child()
            if len(unit) == 1 and (fresh or killed.hung):
                self._crashed(unit[0], killed)
            else:
                self._again.extendleft([item] for item in reversed(unit))
            return
        for method, arguments in outcomes:
            getattr(self._gate, method)(*arguments)

    def _crashed(self, item: UndecodedItem, killed: Killed) -> None:
        ordinal, record = item
        self._gate.report(
            FailureReport(
                ordinal=ordinal,
                record_id=record.id,
                kind=Kind.CRASHED,
                error_type="RecordHangs" if killed.hung else "RecordKillsWorker",
                message=str(killed),
            )
        )

    def _start_child(self) -> Child:
        try:
            self._child = Child(self._worker, self._limits, seconds_left=self._gate.seconds_left)
        except WorkerNotStarted as error:
            if self._began and self._gate.seconds_left <= 0:
                raise OutOfTime from error
            raise
        return self._child

    def _end_child(self) -> None:
        if self._child:
            self._child.close()
            self._child = None
