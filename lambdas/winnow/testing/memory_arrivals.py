"""Windows of arrivals, claims on uploads and the queue of windows, in memory, for tests: the same promises, no network."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from winnow.storage import arrival_windows
from winnow.storage.arrival_windows import ClosedWindow, Window, WindowIsBeingClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from winnow.storage.upload_claims import Upload


@dataclass
class _Window:
    chunks: list[str] = field(default_factory=list)
    objects: int = 0
    closer: str | None = None
    closer_until: float = 0.0
    is_done: bool = False


class MemoryArrivalWindows:
    """The windows of one pipeline."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._current: Window | None = None
        self._windows: dict[str, _Window] = {}

    def current(self) -> Window | None:
        return self._current

    def create(self, run_id: str) -> None:
        with self._lock:
            self._windows.setdefault(run_id, _Window())

    def make_current(self, window: Window, *, previous: Window | None) -> bool:
        with self._lock:
            standing = self._current
            if standing is not None and (previous is None or standing.run_id != previous.run_id):
                return standing.run_id == window.run_id
            self._current = window
            return True

    def add(self, run_id: str, chunk: str, objects: int) -> int | None:
        with self._lock:
            window = self._windows.get(run_id)
            if (
                window is None
                or window.closer is not None
                or window.objects >= arrival_windows.MAX_OBJECTS
                or len(window.chunks) >= arrival_windows.MAX_CHUNKS
            ):
                return None
            window.chunks.append(chunk)
            window.objects += objects
            return window.objects

    def close(self, run_id: str, *, closer: str, until: float) -> ClosedWindow | None:
        with self._lock:
            window = self._windows.get(run_id)
            if window is None:
                return None
            is_free = window.closer in (None, closer) or window.closer_until < self._clock() or window.is_done
            if not is_free:
                raise WindowIsBeingClosed(f"window {run_id} is being closed by another Lambda")
            window.closer, window.closer_until = closer, until
            return ClosedWindow(
                run_id=run_id, chunks=tuple(dict.fromkeys(window.chunks)), is_done=window.is_done
            )

    def finish(self, run_id: str) -> None:
        with self._lock:
            self._windows[run_id].is_done = True


class MemoryUploadClaims:
    """Which runs claim which uploads."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._claims: dict[Upload, str] = {}
        self._leases: dict[str, float] = {}
        self._withdrawn: set[str] = set()

    def hold(self, run_id: str, *, until: float) -> bool:
        with self._lock:
            if run_id in self._withdrawn:
                return False
            self._leases[run_id] = until
            return True

    def withdraw(self, run_id: str) -> bool:
        with self._lock:
            if self._leases.get(run_id, 0.0) >= self._clock() and run_id not in self._withdrawn:
                return False
            self._withdrawn.add(run_id)
            return True

    def give_up(self, run_id: str) -> None:
        with self._lock:
            self._withdrawn.add(run_id)

    def claim(self, upload: Upload, run_id: str) -> None:
        self._claims[upload] = run_id

    def claimed(self, uploads: Iterable[Upload]) -> dict[Upload, str]:
        return {upload: self._claims[upload] for upload in uploads if upload in self._claims}


class MemoryWindowQueue:
    """The queue of windows to close. Messages stay until they are taken out."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.waiting: list[tuple[float, str]] = []
        """When each is due, and its window."""

    def send(self, run_id: str, *, delay_seconds: int) -> None:
        with self._lock:
            self.waiting.append((self._clock() + delay_seconds, run_id))
