"""The runtime's threads and child processes in a simulation: what they would do, done at moments that the seed chooses."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Self, TypeVar

from tests.simulation.workers import ChildEnded
from tests.simulation.world import World
from winnow.journal.segment import Stop
from winnow.runtime import careful_child
from winnow.runtime.admission import LITTLE_TIME
from winnow.runtime.careful import Killed, Limits, WorkerNotStarted
from winnow.runtime.flusher import FLUSH_EARLY
from winnow.runtime.recorder import Observer, Recorder, RecorderSettings
from winnow.runtime.segment_writer import SegmentWriter
from winnow.runtime.sink import UndecodedRecord
from winnow.runtime.units import process

T = TypeVar("T")
R = TypeVar("R")


class _Changed(threading.Condition):
    """The recorder's condition. Who waits on it has the journal written meanwhile, by whom it would wait for."""

    def __init__(self, lock: threading.Lock, meanwhile: Callable[[], None]) -> None:
        super().__init__(lock)
        self._meanwhile = meanwhile
        self._bare = lock

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002
        self._bare.release()
        try:
            self._meanwhile()
        finally:
            self._bare.acquire()
        return True


class SimulatedRecorder(Recorder):
    """A recorder without threads: the journal is written when the worker's function is called, or where the worker waits."""

    def __init__(
        self,
        world: World,
        writer: SegmentWriter,
        settings: RecorderSettings,
        observer: Observer | None = None,
    ) -> None:
        self._world = world
        super().__init__(writer, settings, observer)

    def _start_threads(self) -> list[threading.Thread]:
        self.admission.changed = _Changed(self.admission.lock, self._written_meanwhile)
        self._flush_seconds = self.flusher._seconds
        self._ended = False
        """The journal's thread has ended, after a write that failed."""
        invocation = self._world.invocation
        assert invocation
        invocation.recorder = self
        return []

    def background(self) -> None:
        """What both threads would have done by now."""
        self._watch_deadline()
        since = self._world.monotonic() - self.flusher._collected_at
        if self.admission.flush_asked:
            self._flush("asked for")
        elif since >= self._flush_seconds * FLUSH_EARLY:
            self._flush("due")
        elif self._world.random() < self._world.schedule.flushes:
            self._flush("drawn")

    def hang(self) -> None:
        """Time passes until the Lambda's ends, and a record's function does not return."""
        self._world.sleep(self._flush_seconds)
        self._flush("due")
        self._world.sleep(max(0.0, self.seconds_left))
        self._watch_deadline()
        self._flush("stuck")

    def _written_meanwhile(self) -> None:
        self._world.sleep(0.01)
        self._watch_deadline()
        self._flush("waited for")

    def _watch_deadline(self) -> None:
        if self.admission.stop is None and self.seconds_left <= 0:
            self.request_stop(Stop.TIME, LITTLE_TIME)

    def _flush(self, why: str) -> None:
        """As `Flusher.run` does it once."""
        if self._ended:
            return
        self._world.reached[f"recorder: flush {why}"] += 1
        self.admission.flush_asked = False
        try:
            self.flusher.flush()
        except Exception as error:  # noqa: BLE001  as the journal's thread
            self._ended = True
            self._world.reached["recorder: flush failed"] += 1
            with self.admission.changed:
                self.flusher._error = error
                self.admission.stop_for(Stop.ERROR, f"the journal could not be written: {error}")

    def close(self) -> None:
        self._world.reached[f"recorder: stop {(self.stop or Stop.END).value}"] += 1
        super().close()


class SimulatedChild:
    """A careful child: the worker's function in this process, on copies."""

    def __init__(self, world: World, worker: str, limits: Limits, *, seconds_left: float) -> None:
        del worker, seconds_left
        self.fresh = True
        self._world = world
        self._limits = limits
        invocation = world.invocation
        assert invocation
        self._worker = invocation.begin_worker()
        try:
            self._in_child(self._worker.process.prepare, math.inf)
        except Exception as error:
            raise WorkerNotStarted(
                f"{self._worker.name} cannot be started in a child process: {error}"
            ) from error

    def run(
        self, items: Sequence[tuple[int, UndecodedRecord]], *, seconds_left: float
    ) -> list[tuple[str, tuple[Any, ...]]]:
        self.fresh = False
        sink = careful_child._Outcomes()
        unit = [(ordinal, record.id, record.decode, record.row) for ordinal, record in items]
        copies = list(careful_child._decoded(unit, sink))
        seconds = max(0.0, min(self._limits.record_seconds, seconds_left))
        until = self._world.monotonic() + seconds
        try:
            self._in_child(lambda: process(self._worker.function, copies, sink, self._worker.options), until)
        except ChildEnded as ended:
            if ended.hung:
                self._world.sleep(max(0.0, until - self._world.monotonic()))
                raise Killed(f"took longer than {seconds:.3g} s and was stopped", hung=True) from None
            raise Killed("ended its worker (exit code 1)", hung=False) from None
        return sink.calls

    def close(self) -> None:
        """Nothing is left of it."""

    def _in_child(self, action: Callable[[], T], until: float) -> T:
        invocation = self._world.invocation
        assert invocation
        invocation.child_until = until
        try:
            return action()
        finally:
            invocation.child_until = None


class InlinePool:
    """A pool of threads that does each thing at once, and itself."""

    def __init__(self, max_workers: int) -> None:
        del max_workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to wait for."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        return map(function, items)

    def submit(self, function: Callable[[T], R], item: T) -> Future[R]:
        future: Future[R] = Future()
        try:
            future.set_result(function(item))
        except Exception as error:  # noqa: BLE001  raised by `result`
            future.set_exception(error)
        return future
